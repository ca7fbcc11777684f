// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attachments and page faults.
//!
//! What a call must answer is known where an attachment is on its board before the call
//! and after it: it was attached in between. Where the PASID is on the board too, at both
//! times, it was live.

use std::sync::Arc;

use pasid::{Attach, Error, Pasid, Pool, Result};

use super::driver::{Driver, Site};
use super::id::Id;
use super::measure::Kind;
use super::phase::{Paused, Step};
use super::rules::{Rule, outcome};
use super::worker::{Faulting, Holding, Worker};
use super::world::{Entry, lock, try_lock};

impl Worker<'_> {
    /// A PASID of the board, with a reference of this thread's own.
    fn borrow(&mut self, slot: usize) -> Option<Holding> {
        let place = try_lock(&self.world.board[slot])?;
        let tenant = place.as_ref()?;
        let (id, driver) = (tenant.id, tenant.driver.clone());
        let (set, handle) = (driver.set.clone(), tenant.owned.handle());
        // The lock keeps it on the board, so it is live but for its set's closing.
        let answer = self.call(|| set.get(handle), Kind::Get, Kind::GetRefused);
        drop(place);
        match answer {
            Ok(reference) => {
                self.expect(Rule::Lookup, reference.word() == id.word(), || {
                    let word = Id::of_word(reference.word());
                    format!("get of {handle} of {id} answered for {word}")
                });
                self.took(&driver, handle.pasid(), id);
                Some(Holding {
                    id,
                    driver,
                    reference,
                })
            }
            Err(error) => {
                self.expect_closing(&driver, error, || format!("get of {handle}, which is live"));
                None
            }
        }
    }

    /// An error for what is live: its set is closing, or it is wrong.
    pub(super) fn expect_closing(
        &mut self,
        driver: &Driver,
        error: Error,
        what: impl FnOnce() -> String,
    ) {
        let revoked = matches!(error, Error::Closing | Error::BeingFreed(_));
        let closing = revoked && driver.is_past(Step::Closing);
        self.expect(Rule::Lookup, closing, || format!("{}: {error}", what()));
    }

    /// A thread holds a PASID for a while, for no device.
    pub(super) fn hold(&mut self) {
        let slot = self.random_slot();
        if let Some(holding) = self.borrow(slot) {
            self.held.push(holding);
        }
        if self.held.len() > 8 {
            let index = self.rng.usize(..self.held.len());
            let holding = self.held.swap_remove(index);
            self.put(holding);
        }
    }

    /// A PASID is attached to a table, in the place of another.
    pub(super) fn attach(&mut self) {
        let slot = self.random_slot();
        let Some(holding) = self.borrow(slot) else {
            return;
        };
        let site = self.random_site(&holding.driver);
        if let Some(entry) = self.attach_to(&site, &holding, slot) {
            let entries = &self.world.entries[site.place];
            let old = lock(&entries[self.rng.usize(..entries.len())]).replace(entry);
            if let Some(old) = old {
                self.detach(old);
            }
        }
        self.put(holding);
    }

    fn attach_to(&mut self, site: &Arc<Site>, holding: &Holding, slot: usize) -> Option<Entry> {
        let (id, pasid) = (holding.id, holding.reference.pasid());
        let (pauses, closed) = (site.pauses.see(), site.phase.see() == Step::Closed);
        let word = id.revised(1);
        let begin = || site.table.clone().attach(&holding.reference, word);
        let mut answer = self.call(begin, Kind::Attach, Kind::AttachRefused);
        if answer.as_ref().err() == Some(&Error::OutOfMemory) {
            // Attaching never allocates memory, so this comes first.
            let _ = site.table.preload(pasid.into());
            answer = self.call(begin, Kind::Attach, Kind::AttachRefused);
        }
        let committed = match answer {
            Ok(attaching) if self.rng.u8(..8) > 0 => {
                let commit = || attaching.commit();
                let committed = self.call(commit, Kind::Commit, Kind::AttachRefused);
                if let Ok(attachment) = &committed {
                    self.took(&holding.driver, attachment.pasid(), id);
                }
                committed
            }
            // The hardware entry could not be written: back out.
            Ok(attaching) => {
                self.act(|| drop(attaching), Kind::Detach);
                self.check_attach(site, holding, Ok(()), (pauses, closed));
                return None;
            }
            Err(error) => Err(error),
        };
        let verdict = committed.as_ref().map(|_| ()).map_err(|&error| error);
        self.check_attach(site, holding, verdict, (pauses, closed));
        Some(Entry {
            id,
            slot,
            driver: holding.driver.clone(),
            site: site.clone(),
            attachment: committed.ok()?,
            revision: 1,
        })
    }

    /// What attaching must have answered.
    fn check_attach(
        &mut self,
        site: &Site,
        holding: &Holding,
        answer: Result<()>,
        (pauses, closed): (u64, bool),
    ) {
        let (driver, pasid) = (&holding.driver, holding.reference.pasid());
        let paused = site.pauses.since(pauses);
        let closing = driver.is_past(Step::Closing) || site.phase.see() >= Step::Closing;
        if closed || (paused == Paused::Yes && !closing) {
            let expected = if closed {
                Error::Closing
            } else {
                Error::Paused
            };
            let holds = answer == Err(expected);
            return self.expect(Rule::Closing, holds, || {
                format!(
                    "attach of PASID {pasid} instead of an error: {}",
                    outcome(&answer)
                )
            });
        }
        let fits = pasid <= site.last;
        if !fits || matches!(answer, Err(Error::DoesNotFit { .. })) {
            let narrow =
                matches!(answer, Err(Error::DoesNotFit { pasid: named, .. }) if named == pasid);
            let other = match answer {
                Err(Error::Paused) => paused != Paused::No,
                Err(Error::Closing) => closing,
                _ => false,
            };
            return self.expect(Rule::M5, (narrow && !fits) || other, || {
                let last = site.last;
                format!(
                    "attach of PASID {pasid} to a table up to {last}: {}",
                    outcome(&answer)
                )
            });
        }
        let possible = match answer {
            // Others attach the same PASID, or have a fault on it.
            Ok(()) => true,
            Err(Error::AlreadyAttached(at)) => at == pasid,
            Err(Error::Paused) => paused != Paused::No,
            Err(Error::Closing) => closing,
            // The owner may have gone since.
            Err(Error::BeingFreed(at)) => at == pasid,
            Err(_) => false,
        };
        self.expect(Rule::Fault, possible, || {
            format!("attach of PASID {pasid}: {}", outcome(&answer))
        });
    }

    /// Ends an attachment.
    pub(super) fn detach(&mut self, entry: Entry) {
        self.gives(&entry.driver, entry.attachment.pasid(), entry.id);
        self.act(|| entry.attachment.detach(), Kind::Detach);
    }

    /// A device lets a PASID go, or its entry is written anew.
    pub(super) fn replace_or_detach(&mut self) {
        let world = self.world;
        let entries = &world.entries[self.rng.usize(..world.entries.len())];
        let Some(mut place) = try_lock(&entries[self.rng.usize(..entries.len())]) else {
            return;
        };
        if self.rng.bool() {
            let taken = place.take();
            drop(place);
            if let Some(entry) = taken {
                self.detach(entry);
            }
            return;
        }
        let Some(entry) = place.as_mut() else {
            return;
        };
        // While the place is locked, nobody else replaces the word.
        let (id, old, next) = (entry.id, entry.revision, entry.revision % 255 + 1);
        let pauses = entry.site.pauses.see();
        let attachment = &entry.attachment;
        let replace = || attachment.replace(id.revised(next));
        let answer = self.call(replace, Kind::Replace, Kind::AttachRefused);
        let pasid = attachment.pasid();
        let closing =
            entry.driver.is_past(Step::Closing) || entry.site.phase.see() >= Step::Closing;
        let holds = match answer {
            Ok(before) => before == id.revised(old),
            Err(Error::Paused) => entry.site.pauses.since(pauses) != Paused::No,
            Err(Error::Closing) => closing,
            Err(Error::BeingFreed(at)) => at == pasid,
            Err(_) => false,
        };
        if answer.is_ok() {
            entry.revision = next;
        }
        let kept = attachment.word() == id.revised(entry.revision);
        self.expect(Rule::Fault, holds && kept, || {
            format!("replace of the word of PASID {pasid}: {}", outcome(&answer))
        });
    }

    /// The fault before is answered.
    pub(super) fn answer_fault(&mut self) {
        if let Some(Faulting { id, driver, fault }) = self.faulting.take() {
            self.gives(&driver, fault.pasid(), id);
            self.act(|| drop(fault), Kind::FaultPut);
        }
    }

    /// A page fault: of something that is attached, or of any number.
    pub(super) fn fault(&mut self) {
        self.answer_fault();
        if self.rng.u8(..8) == 0 {
            return self.fault_anywhere();
        }
        self.fault_attached();
    }

    fn fault_attached(&mut self) {
        let world = self.world;
        let entries = &world.entries[self.rng.usize(..world.entries.len())];
        let cell = &entries[self.rng.usize(..entries.len())];
        let Some((id, slot, driver, site, pasid)) = try_lock(cell).and_then(|place| {
            let entry = place.as_ref()?;
            let (driver, site) = (entry.driver.clone(), entry.site.clone());
            Some((entry.id, entry.slot, driver, site, entry.attachment.pasid()))
        }) else {
            return;
        };
        let closed = site.phase.see() == Step::Closed;
        let table = site.table.clone();
        let answer = self.call(|| table.fault_get(pasid), Kind::Fault, Kind::FaultRefused);
        if closed {
            let refused = answer.as_ref().err() == Some(&Error::Closing);
            return self.expect(Rule::Closing, refused, || {
                let answer = outcome(&answer);
                format!("fault_get of PASID {pasid} on a closed table: {answer}")
            });
        }
        // First the PASID and then the attachment: the latter may outlast the former.
        let live = lock(&world.board[slot])
            .as_ref()
            .is_some_and(|tenant| tenant.id == id);
        let attached = lock(cell)
            .as_ref()
            .is_some_and(|entry| entry.id == id && Arc::ptr_eq(&entry.site, &site));
        let closing = driver.is_past(Step::Closing) || site.phase.see() >= Step::Closing;
        let holds = match &answer {
            Ok(fault) if Id::of_word(fault.word()) == id => fault.word() != id.word(),
            // Another allocation may be attached there by now.
            Ok(_) => !attached,
            Err(Error::BeingFreed(at)) => *at == pasid && (!live || closing),
            Err(Error::Closing) => closing,
            Err(Error::NotAttached(at) | Error::NotFound(at) | Error::Reserved(at)) => {
                *at == pasid && !attached
            }
            Err(_) => false,
        };
        self.expect(Rule::Fault, holds, || {
            let answer = outcome(&answer);
            format!("fault_get of PASID {pasid} of {id} (attached: {attached}): {answer}")
        });
        if let Ok(fault) = answer {
            if Id::of_word(fault.word()) == id {
                self.took(&driver, pasid, id);
                self.faulting = Some(Faulting { id, driver, fault });
            } else {
                self.act(|| drop(fault), Kind::FaultPut);
            }
        }
    }

    /// A number of which nothing is known.
    fn fault_anywhere(&mut self) {
        let pasid = self.world.builder.plan.number(&mut self.rng);
        let index = self.rng.usize(..self.layout.places.len());
        let site = self.layout.places[index].site.clone();
        let table = &*site.table;
        let answer = self.call(|| table.fault_get(pasid), Kind::Fault, Kind::FaultRefused);
        let narrow =
            matches!(answer, Err(Error::DoesNotFit { pasid: named, .. }) if named == pasid);
        if pasid > site.last || narrow {
            let closing = site.phase.see() >= Step::Closing;
            let closed = closing && answer.as_ref().err() == Some(&Error::Closing);
            let holds = (narrow && pasid > site.last) || closed;
            return self.expect(Rule::M5, holds, || {
                let (last, answer) = (site.last, outcome(&answer));
                format!("fault_get of PASID {pasid} on a table up to {last}: {answer}")
            });
        }
        let named = |at: Pasid| at == pasid;
        let holds = match &answer {
            Ok(fault) => self.is_claimed(Id::of_word(fault.word())),
            Err(Error::NotFound(at) | Error::NotAttached(at)) => named(*at),
            Err(Error::BeingFreed(at) | Error::Reserved(at)) => named(*at),
            Err(Error::Closing) => site.phase.see() >= Step::Closing,
            Err(_) => false,
        };
        self.expect(Rule::Fault, holds, || {
            format!("fault_get of PASID {pasid}: {}", outcome(&answer))
        });
        if let Ok(fault) = answer {
            self.act(|| drop(fault), Kind::FaultPut);
        }
    }
}
