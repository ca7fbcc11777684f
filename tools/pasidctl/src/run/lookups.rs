// SPDX-License-Identifier: MIT OR Apache-2.0
//! The load's users of PASIDs: devices that take and drop references, faults
//! that know only a number, and handles whose time is over.
//!
//! What a look-up must answer is known where the process was bound before the
//! call and is bound after it: numbers of processes never come again, so it was
//! bound in between. A look-up that misses it then saw it freed or revoked; the
//! free is a release, and a release fence stands before the revocation, so the
//! second look at the process would show it leaving.

use pasid::{Error, Found, Handle, IdSpace, Pasid, Pool, Ref, Result};

use super::measure::Kind;
use super::process::{ProcessId, State};
use super::rules::{Rule, outcome};
use super::worker::Worker;

impl<'s> Worker<'_, 's> {
    /// A device is given a process's PASID, in the place of another.
    pub(super) fn attach(&mut self) {
        let world = self.world;
        let slot = self.random_slot();
        let Some((id, handle)) = world.processes.peek(slot) else {
            return;
        };
        let device = &world.devices[self.rng.usize(..world.devices.len())];
        if !handle.pasid().fits(device.width()) {
            return;
        }
        match self.get(handle) {
            Ok(reference) => {
                self.took(&reference, id);
                self.expect(Rule::Lookup, reference.word() == id.word(), || {
                    wrong_process(handle, id, reference.word())
                });
                let entry = self.rng.usize(..device.count());
                if let Some(old) = device.swap(entry, Some(reference)) {
                    self.put(old);
                }
            }
            Err(error) => {
                let expected = [Error::BeingFreed(handle.pasid()), Error::Stale(handle)];
                let left = !world.processes.is_bound(id) && expected.contains(&error);
                self.expect(Rule::Lookup, left, || {
                    format!("get of {handle}, which {id} has: {error}")
                });
            }
        }
    }

    /// A device lets a PASID go.
    pub(super) fn detach(&mut self) {
        if let Some(reference) = self.take_out() {
            self.put(reference);
        }
    }

    /// A fault, of which the owner's word is all that is wanted.
    pub(super) fn fault_find(&mut self) {
        let slot = self.random_slot();
        let Some((id, handle)) = self.world.processes.peek(slot) else {
            return;
        };
        let answer = self.find(handle.pasid());
        let bound = self.world.processes.is_bound(id);
        let holds = match answer {
            // One allocation has one word; and there is no other while this lasts.
            Ok(found) if found.handle == handle => found.word == id.word(),
            Ok(_) | Err(_) => !bound,
        };
        self.expect(Rule::Lookup, holds, || {
            format!(
                "find of PASID {} of {id}: {}",
                handle.pasid(),
                shown(&answer)
            )
        });
    }

    /// A fault, with a reference held until the page response is sent: here,
    /// until the thread's next fault. The number is that of a process, or any.
    pub(super) fn fault_get(&mut self) {
        let slot = self.random_slot();
        let known = self.world.processes.peek(slot);
        let known = known.filter(|_| self.rng.u8(..8) != 0);
        let pasid = match known {
            Some((_, handle)) => handle.pasid(),
            None => self.world.plan.number(&mut self.rng),
        };
        let space = self.world.space;
        let answer = self.meter.time(
            || space.get_at(pasid),
            |result| {
                Some(match result {
                    Ok(_) => Kind::GetAt,
                    Err(_) => Kind::GetAtRefused,
                })
            },
        );
        if let Some((id, handle)) = known {
            let bound = self.world.processes.is_bound(id);
            let same =
                |reference: &Ref<_>| reference.handle() == handle && reference.word() == id.word();
            self.expect(
                Rule::Lookup,
                !bound || answer.as_ref().is_ok_and(same),
                || format!("get_at of PASID {pasid} of {id}: {}", outcome(&answer)),
            );
        }
        match answer {
            Ok(reference) => self.handle_fault(reference),
            Err(error) => {
                // The fault before is answered in any case.
                if let Some(answered) = self.faulting.take() {
                    self.put(answered);
                }
                let expected = [
                    Error::NotFound(pasid),
                    Error::BeingFreed(pasid),
                    Error::Reserved(pasid),
                ];
                self.expect(Rule::Lookup, expected.contains(&error), || {
                    format!("get_at of PASID {pasid}: {error}")
                });
            }
        }
    }

    /// Looks whose PASID it is, and keeps the reference in place of the last one.
    fn handle_fault(&mut self, reference: Ref<&'s IdSpace>) {
        let id = ProcessId::of_word(reference.word());
        let life = self.world.processes.life(id.slot());
        let begun = life.is_some_and(|life| life.has_begun(id));
        self.expect(Rule::Lookup, begun, || {
            let word = reference.word();
            format!(
                "{} has the word {word:#x}, and no process was given that",
                reference.handle()
            )
        });
        // An allocation that is not claimed yet has no place in the shadow.
        let early = life.is_none_or(|life| life.id() == id && life.state() == State::Binding);
        if early || !begun {
            return self.put_unentered(reference);
        }
        self.took(&reference, id);
        if let Some(answered) = self.faulting.replace(reference) {
            self.put(answered);
        }
    }

    /// A device hands its reference on to another, which needs one of its own.
    /// While it is held, the PASID must stay what it is.
    pub(super) fn share(&mut self) {
        let Some(reference) = self.take_out() else {
            return;
        };
        let id = ProcessId::of_word(reference.word());
        self.check_held(&reference, id);
        let cloned = self.meter.time(
            || reference.try_clone(),
            |result| result.is_ok().then_some(Kind::Clone),
        );
        match cloned {
            Ok(clone) => {
                self.took(&clone, id);
                self.place(clone);
            }
            Err(error) => self.expect(Rule::M7, false, || {
                format!(
                    "try_clone of {}, which is held: {error}",
                    reference.handle()
                )
            }),
        }
        self.place(reference);
    }

    /// What the holder of a reference may rely on.
    fn check_held(&mut self, reference: &Ref<&'s IdSpace>, id: ProcessId) {
        let (pasid, handle) = (reference.pasid(), reference.handle());
        let found = self.find(pasid);
        let kept = match found {
            Ok(found) => found.handle == handle && found.word == id.word(),
            Err(error) => error == Error::BeingFreed(pasid),
        };
        self.expect(Rule::M7, kept, || {
            format!(
                "find of PASID {pasid} of {id}, which is held: {}",
                shown(&found)
            )
        });
        let life = self.world.processes.life(id.slot());
        if life.is_some_and(|life| life.has_exited(id)) {
            let answer = self.get(handle);
            self.expect_refused(handle, answer, &[Error::BeingFreed(pasid)]);
        }
        if self.rng.u8(..64) == 0 {
            let space = self.world.space;
            let answer = self.meter.time(
                || space.alloc(pasid.into(), id.word()),
                |result| result.is_err().then_some(Kind::Exhausted),
            );
            let range = pasid.into();
            let refused = answer.as_ref().err() == Some(&Error::Exhausted { range });
            self.expect(Rule::M7, refused, || {
                format!(
                    "alloc of PASID {pasid} alone, to which {id} has a reference: {}",
                    outcome(&answer)
                )
            });
        }
    }

    /// A handle of a process that is gone.
    pub(super) fn use_stale(&mut self) {
        if self.gone.is_empty() {
            return;
        }
        let (handle, id) = self.gone[self.rng.usize(..self.gone.len())];
        let pasid = handle.pasid();
        if !self.world.shadow.is_reclaimed(pasid, id) {
            // Somebody may hold a reference still.
            let answer = self.get(handle);
            let errors = [Error::BeingFreed(pasid), Error::Stale(handle)];
            return self.expect_refused(handle, answer, &errors);
        }
        let space = self.world.space;
        let (call, answer) = match self.rng.u8(..3) {
            0 => return self.expect_stale(handle),
            1 => ("put", {
                // SAFETY: the allocation is over: the shadow has a later owner.
                self.meter.time(|| unsafe { space.put(handle) }, stale_kind)
            }),
            _ => ("free", {
                // SAFETY: as above.
                self.meter
                    .time(|| unsafe { space.free(handle) }, stale_kind)
            }),
        };
        self.expect(Rule::Stale, answer == Err(Error::Stale(handle)), || {
            format!(
                "{call} with {handle}, whose allocation is over: {}",
                outcome(&answer)
            )
        });
    }

    /// A live handle of another space.
    pub(super) fn use_foreign(&mut self) {
        self.expect_stale(self.world.second.foreign);
    }

    /// A get with a handle that is stale.
    pub(super) fn expect_stale(&mut self, handle: Handle) {
        let space = self.world.space;
        let answer = self.meter.time(|| space.get(handle), stale_kind);
        let refused = answer.as_ref().err() == Some(&Error::Stale(handle));
        self.expect(Rule::Stale, refused, || {
            format!(
                "get with {handle}, which is stale or another space's: {}",
                outcome(&answer)
            )
        });
    }

    /// Numbers that are nobody's: reserved ones, and those above the width.
    pub(super) fn look_beyond(&mut self) {
        let width = self.world.plan.width;
        let reserved = &self.world.plan.reserved;
        let lasting = reserved[self.rng.usize(..reserved.len())];
        let pasid = self.reserved.unwrap_or(lasting);
        let answer = self.find(pasid);
        self.expect(Rule::M4, answer == Err(Error::Reserved(pasid)), || {
            format!(
                "find of PASID {pasid}, which is reserved: {}",
                shown(&answer)
            )
        });
        if let Ok(pasid) = Pasid::new(width.count()) {
            let answer = self.find(pasid);
            let expected = Error::DoesNotFit { pasid, width };
            self.expect(Rule::M5, answer == Err(expected), || {
                format!(
                    "find of PASID {pasid}, which has more bits: {}",
                    shown(&answer)
                )
            });
        }
    }

    /// A look-up by number, counted and timed.
    pub(super) fn find(&mut self, pasid: Pasid) -> Result<Found> {
        let space = self.world.space;
        self.meter.time(
            || space.find(pasid),
            |result| {
                Some(match result {
                    Ok(_) => Kind::Find,
                    Err(_) => Kind::FindNone,
                })
            },
        )
    }

    /// Takes a reference out of some device's entry.
    fn take_out(&mut self) -> Option<Ref<&'s IdSpace>> {
        let device = &self.world.devices[self.rng.usize(..self.world.devices.len())];
        device.swap(self.rng.usize(..device.count()), None)
    }

    /// Puts a reference into some device that is wide enough, or gives it back.
    fn place(&mut self, reference: Ref<&'s IdSpace>) {
        let device = &self.world.devices[self.rng.usize(..self.world.devices.len())];
        if !reference.pasid().fits(device.width()) {
            return self.put(reference);
        }
        if let Some(old) = device.swap(self.rng.usize(..device.count()), Some(reference)) {
            self.put(old);
        }
    }
}

fn stale_kind<T>(result: &Result<T>) -> Option<Kind> {
    result.is_err().then_some(Kind::Stale)
}

#[cold]
fn wrong_process(handle: Handle, id: ProcessId, word: u64) -> String {
    let answered = ProcessId::of_word(word);
    format!("get of {handle} of {id} answered for {answered}")
}

#[cold]
fn shown(answer: &Result<Found>) -> String {
    match answer {
        Ok(found) => format!("{} of {}", found.handle, ProcessId::of_word(found.word)),
        Err(error) => error.to_string(),
    }
}
