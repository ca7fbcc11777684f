// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread of the load: processes that bind and exit, and the random mix of
//! what happens meanwhile.

use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use fastrand::Rng;
use pasid::{Error, Handle, IdSpace, Owned, Pasid, PasidRange, Pool, Ref, Result};

use super::RunError;
use super::measure::{Kind, Meter};
use super::plant;
use super::process::{ProcessId, State};
use super::rules::{Breach, RULES, Rule, outcome};
use super::scarce::{EACH, Own};
use super::shadow::Claimant;
use super::world::World;

/// How many handles of processes that are gone a thread remembers.
const GONE: usize = 64;
/// After how many steps a thread says how far it is.
const PROGRESS_EVERY: u32 = 256;

/// A thread's own state. Nothing of it is shared, and the loop takes no lock.
pub struct Worker<'w, 's> {
    pub(super) world: &'w World<'s>,
    pub(super) rng: Rng,
    pub(super) meter: Meter,
    /// How often each rule was checked.
    pub(super) checked: [u64; RULES],
    /// The highest PASID handed out.
    pub(super) highest: Option<Pasid>,
    /// Handles that are stale, or soon will be.
    pub(super) gone: Vec<(Handle, ProcessId)>,
    /// A fault being handled: its reference, until the page response is sent.
    pub(super) faulting: Option<Ref<&'s IdSpace>>,
    /// A PASID that this thread keeps reserved.
    pub(super) reserved: Option<Pasid>,
    /// The scarce PASIDs that this thread has.
    scarce: Vec<Owned<&'s IdSpace>>,
    /// A range that nobody else asks for.
    own: Own,
    index: usize,
}

impl<'w, 's> Worker<'w, 's> {
    /// Thread `index`, whose random numbers follow from `seed` and the index.
    ///
    /// # Errors
    /// Those of [`Meter::new`] and of [`Scarce::own`](super::scarce::Scarce::own).
    pub fn new(world: &'w World<'s>, seed: u64, index: usize) -> Result<Worker<'w, 's>, RunError> {
        // An odd constant spreads neighbouring indices over all bits.
        let spread = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Ok(Worker {
            world,
            rng: Rng::with_seed(seed ^ spread),
            meter: Meter::new()?,
            checked: [0; RULES],
            highest: None,
            gone: Vec::with_capacity(GONE),
            faulting: None,
            reserved: None,
            scarce: Vec::with_capacity(EACH),
            own: world.second.scarce.own(index)?,
            index,
        })
    }

    /// Runs until `deadline`. Each thread looks at the clock itself: among many of
    /// them, whoever started them may not get to run in time.
    pub fn run(&mut self, deadline: Instant) {
        while Instant::now() < deadline && !self.world.is_stopped() {
            for _ in 0..PROGRESS_EVERY {
                self.step();
            }
            self.world.set_progress(self.index, self.meter.total());
        }
        if let Some(reference) = self.faulting.take() {
            self.put(reference);
        }
        self.unreserve();
    }

    /// One thing that happens on a machine with SVA, out of a thousand.
    fn step(&mut self) {
        match self.rng.u32(..1000) {
            0..300 => self.attach(),
            300..500 => self.fault_find(),
            500..650 => self.fault_get(),
            650..750 => self.share(),
            750..870 => self.detach(),
            870..960 => self.bind_or_exit(),
            960..967 => self.change_scarce(),
            967..970 => self.fill_own(),
            970..985 => self.use_stale(),
            985..990 => self.use_foreign(),
            990..995 => self.look_beyond(),
            _ => self.reserve_or_not(),
        }
    }

    /// Counts a check of `rule`, and enters the breach if there is one.
    #[inline]
    pub(super) fn judge(&mut self, rule: Rule, verdict: Result<(), Breach>) {
        self.checked[rule as usize] += 1;
        if let Err(breach) = verdict {
            self.world.ledger.enter(breach);
        }
    }

    /// Judges a condition; `text` says what is wrong when it does not hold.
    #[inline]
    pub(super) fn expect(&mut self, rule: Rule, holds: bool, text: impl FnOnce() -> String) {
        let verdict = if holds {
            Ok(())
        } else {
            Err(Breach::new(rule, text()))
        };
        self.judge(rule, verdict);
    }

    pub(super) fn random_slot(&mut self) -> usize {
        self.rng.usize(..self.world.processes.count())
    }

    /// A process comes to life, or one in three that are met ends.
    fn bind_or_exit(&mut self) {
        let slot = self.random_slot();
        match self.world.processes.life(slot).map(|life| life.state()) {
            Some(State::Empty) => self.bind(slot),
            Some(State::Bound) if self.rng.u8(..3) == 0 => self.exit(slot),
            _ => {}
        }
    }

    fn bind(&mut self, slot: usize) {
        let Some(id) = self.world.processes.begin_bind(slot) else {
            return;
        };
        let request = self.world.plan.request(slot, &mut self.rng);
        match self.alloc(request, id) {
            Ok(owned) => {
                let pasid = owned.pasid();
                self.highest = self.highest.max(Some(pasid));
                self.check_limits(pasid.get(), request);
                self.claim(pasid, id);
                plant::when_bound(self, &owned, id, request);
                self.world.processes.bound(id, owned);
            }
            Err(error) => {
                let expected = self.world.space.range().intersect(request);
                let expected = expected.map(|range| Error::Exhausted { range });
                // That the error has the right form says nothing of whether it was
                // true, and so does not count as a check of this rule.
                if Some(error) != expected {
                    self.expect(Rule::Exact, false, || {
                        format!("alloc in {request} failed: {error}")
                    });
                }
                self.world.processes.not_bound(id);
            }
        }
    }

    /// Allocates; one time in eight, as an interrupt handler would, without
    /// growing memory if that can be.
    fn alloc(&mut self, request: PasidRange, id: ProcessId) -> Result<Owned<&'s IdSpace>> {
        let space = self.world.space;
        if self.rng.u8(..8) == 0 {
            let in_place = || space.alloc_in_place(request, id.word());
            match self.meter.time(in_place, alloc_kind) {
                Err(Error::OutOfMemory) => {}
                result => return result,
            }
        }
        self.meter
            .time(|| space.alloc(request, id.word()), alloc_kind)
    }

    /// M5, by the load's own arithmetic.
    pub(super) fn check_limits(&mut self, pasid: u32, request: PasidRange) {
        let (first, last) = (request.first().get(), request.last().get());
        let bits = self.world.plan.width.bits();
        let holds = first <= pasid && pasid <= last && pasid >> bits == 0;
        self.expect(Rule::M5, holds, || {
            format!("PASID {pasid} was given for a request of {request} in {bits} bits")
        });
    }

    /// Claims in the shadow: M1, M4 and M7 in one look.
    pub(super) fn claim(&mut self, pasid: Pasid, id: ProcessId) {
        self.checked[Rule::M4 as usize] += 1;
        self.checked[Rule::M7 as usize] += 1;
        let verdict = self.world.shadow.claim(pasid, Claimant::Process(id));
        self.judge(Rule::M1, verdict);
    }

    /// Ends the process in `slot`; half of them are killed: their PASID is
    /// revoked before its owner gives it up. Devices may hold references still.
    pub(super) fn exit(&mut self, slot: usize) {
        let Some((id, owned)) = self.world.processes.begin_exit(slot) else {
            return;
        };
        let (pasid, handle) = (owned.pasid(), owned.handle());
        plant::when_leaving(self, handle);
        if self.rng.bool() {
            self.kill(handle);
        }
        let verdict = self.world.shadow.release(pasid, Claimant::Process(id));
        self.judge(Rule::M1, verdict);
        self.meter.time(|| drop(owned), |()| Some(Kind::Free));
        let answer = self.get(handle);
        self.expect_refused(
            handle,
            answer,
            &[Error::BeingFreed(pasid), Error::Stale(handle)],
        );
        self.world.processes.exited(id);
        if self.gone.len() < GONE {
            self.gone.push((handle, id));
        } else {
            let index = self.rng.usize(..GONE);
            self.gone[index] = (handle, id);
        }
    }

    /// Revokes a PASID whose owner's reference is still there: from now on it is
    /// *being freed*, exactly.
    fn kill(&mut self, handle: Handle) {
        // Release: a revocation publishes nothing by itself. Whoever sees it must
        // see its process leaving too, or would wonder why it finds nothing.
        fence(Ordering::Release);
        let space = self.world.space;
        let revoked = self
            .meter
            .time(|| space.revoke(handle), |_| Some(Kind::Revoke));
        self.expect(Rule::Stale, revoked.is_ok(), || {
            format!("revoke of {handle}, which is live: {}", outcome(&revoked))
        });
        let answer = self.get(handle);
        self.expect_refused(handle, answer, &[Error::BeingFreed(handle.pasid())]);
    }

    /// A reference by handle, counted and timed.
    pub(super) fn get(&mut self, handle: Handle) -> Result<Ref<&'s IdSpace>> {
        let space = self.world.space;
        self.meter.time(
            || space.get(handle),
            |result| {
                Some(match result {
                    Ok(_) => Kind::Get,
                    Err(_) => Kind::GetRefused,
                })
            },
        )
    }

    /// The free of `handle` has begun: no reference, and one of these errors.
    pub(super) fn expect_refused(
        &mut self,
        handle: Handle,
        answer: Result<Ref<&'s IdSpace>>,
        errors: &[Error],
    ) {
        let refused = answer.as_ref().is_err_and(|error| errors.contains(error));
        self.expect(Rule::Revoked, refused, || {
            format!(
                "get of {handle}, which is being freed: {}",
                outcome(&answer)
            )
        });
    }

    /// Enters a reference that the allocator has just given, and looks whether it
    /// is to the PASID of `id`.
    pub(super) fn took(&mut self, reference: &Ref<&'s IdSpace>, id: ProcessId) {
        let verdict = self.world.shadow.take(reference.pasid(), id);
        self.judge(Rule::M7, verdict);
    }

    /// Takes a reference off the shadow, and gives it back.
    pub(super) fn put(&mut self, reference: Ref<&'s IdSpace>) {
        let id = ProcessId::of_word(reference.word());
        let verdict = self.world.shadow.give(reference.pasid(), id);
        self.judge(Rule::M7, verdict);
        self.put_unentered(reference);
    }

    /// Gives back a reference that was not entered in the shadow.
    pub(super) fn put_unentered(&mut self, reference: Ref<&'s IdSpace>) {
        self.meter.time(|| drop(reference), |()| Some(Kind::Put));
    }

    /// Gives a scarce PASID back and takes one, which must be there.
    fn change_scarce(&mut self) {
        if self.scarce.len() == EACH {
            let owned = self.scarce.swap_remove(self.rng.usize(..EACH));
            self.meter.time(|| drop(owned), |()| Some(Kind::Free));
        }
        let scarce = self.world.second.scarce;
        let answer = self.meter.time(
            || scarce.alloc(),
            |result| result.is_ok().then_some(Kind::AllocScarce),
        );
        self.expect(Rule::Exact, answer.is_ok(), || {
            let answer = outcome(&answer);
            format!("alloc in the second space, where one is free at every instant: {answer}")
        });
        self.scarce.extend(answer);
    }

    /// Takes the one PASID of this thread's own range, where it must be; then there
    /// is none; and when it is given back, there is one again.
    fn fill_own(&mut self) {
        let (scarce, own) = (self.world.second.scarce, self.own);
        for again in ["", " again, after it was given back"] {
            let answer = self.meter.time(
                || scarce.alloc_own(own),
                |result| result.is_ok().then_some(Kind::AllocScarce),
            );
            let given = answer
                .as_ref()
                .is_ok_and(|owned| owned.pasid() == own.pasid);
            self.expect(Rule::Exact, given, || {
                let (range, pasid, answer) = (own.range, own.pasid, outcome(&answer));
                format!("alloc in {range}, where {pasid} is free{again}: {answer}")
            });
            let second = self.meter.time(
                || scarce.alloc_own(own),
                |result| result.is_err().then_some(Kind::Exhausted),
            );
            let range = own.range;
            let refused = second.as_ref().err() == Some(&Error::Exhausted { range });
            self.expect(Rule::Exact, refused || answer.is_err(), || {
                let second = outcome(&second);
                format!("alloc in {range}, where none is free: {second}")
            });
            if let Ok(owned) = answer {
                self.meter.time(|| drop(owned), |()| Some(Kind::Free));
            }
        }
    }

    /// Keeps a PASID reserved for a while, as a driver does at run time.
    fn reserve_or_not(&mut self) {
        if self.reserved.is_some() {
            return self.unreserve();
        }
        let space = self.world.space;
        let pasid = self.world.plan.reservable(&mut self.rng);
        let result = self.meter.time(
            || space.reserve(pasid),
            |result| result.is_ok().then_some(Kind::Reserve),
        );
        match result {
            Ok(()) => {
                let verdict = self.world.shadow.claim(pasid, Claimant::Reservation);
                self.judge(Rule::M4, verdict);
                self.reserved = Some(pasid);
            }
            Err(error) => {
                let expected = [Error::InUse(pasid), Error::Reserved(pasid)].contains(&error);
                self.expect(Rule::M4, expected, || {
                    format!("reserve of PASID {pasid}: {error}")
                });
            }
        }
    }

    /// Takes the reservation away, if there is one.
    fn unreserve(&mut self) {
        let Some(pasid) = self.reserved.take() else {
            return;
        };
        let verdict = self.world.shadow.release(pasid, Claimant::Reservation);
        self.judge(Rule::M4, verdict);
        let space = self.world.space;
        let result = self
            .meter
            .time(|| space.unreserve(pasid), |_| Some(Kind::Unreserve));
        self.expect(Rule::M4, result.is_ok(), || {
            format!(
                "unreserve of PASID {pasid}, which is reserved: {}",
                outcome(&result)
            )
        });
    }
}

fn alloc_kind(result: &Result<Owned<&IdSpace>>) -> Option<Kind> {
    match result {
        Ok(_) => Some(Kind::Alloc),
        Err(Error::Exhausted { .. }) => Some(Kind::Exhausted),
        Err(_) => None,
    }
}
