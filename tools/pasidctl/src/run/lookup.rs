// SPDX-License-Identifier: MIT OR Apache-2.0
//! Look-ups in the sets: of PASIDs that are there, of any number, and of handles whose
//! time is over.

use std::sync::Arc;

use pasid::{Error, Found, Handle, Pasid, Pool, Result};

use super::driver::Driver;
use super::id::Id;
use super::measure::Kind;
use super::phase::Step;
use super::rules::{Rule, outcome};
use super::worker::{Holding, Worker};
use super::world::{lock, try_lock};

impl Worker<'_> {
    /// A PASID that is there is looked up, in its set and in the other of its table. If it
    /// is on the board still afterwards, it was live in between.
    pub(super) fn look_up(&mut self) {
        let slot = self.random_slot();
        let Some((id, driver, handle)) = try_lock(&self.world.board[slot]).and_then(|place| {
            let tenant = place.as_ref()?;
            Some((tenant.id, tenant.driver.clone(), tenant.owned.handle()))
        }) else {
            return;
        };
        let pasid = handle.pasid();
        let found = self.find(&driver, pasid);
        let other = self.sibling(&driver).map(|other| {
            let found = self.find(&other, pasid);
            (other, found)
        });
        let place = lock(&self.world.board[slot]);
        let live = place.as_ref().is_some_and(|tenant| tenant.id == id);
        drop(place);
        let holds = match found {
            // One allocation has one word; and there is no other while this lasts.
            Ok(found) if found.handle == handle => found.word == id.word(),
            Err(Error::Closing | Error::BeingFreed(_)) => !live || driver.is_past(Step::Closing),
            Ok(_) | Err(_) => !live,
        };
        self.expect(Rule::Lookup, holds, || {
            format!("find of PASID {pasid} of {id}: {}", shown(&found))
        });
        if let Some((other, found)) = other {
            let error = found.err();
            let closing = other.is_past(Step::Closing);
            let refused = error == Some(Error::WrongSet(pasid)) || !live || closing;
            self.expect(Rule::Lookup, refused, || {
                let found = shown(&found);
                format!("find of PASID {pasid} in another set of its table: {found}")
            });
        }
    }

    /// The other driver on the table of a set.
    fn sibling(&self, driver: &Arc<Driver>) -> Option<Arc<Driver>> {
        let [site] = driver.sites() else { return None };
        let place = self.layout.places.get(site.place)?;
        let [first, second] = &place.locals;
        let other = if Arc::ptr_eq(driver, first) {
            second
        } else {
            first
        };
        let same_table = Arc::ptr_eq(&other.sites()[0], site);
        (same_table && other.number != driver.number).then(|| other.clone())
    }

    /// A number of which nothing is known: its holder, if there is one.
    pub(super) fn look_anywhere(&mut self) {
        let driver = self.random_driver();
        let pasid = self.world.builder.plan.number(&mut self.rng);
        let set = driver.set.clone();
        let answer = self.call(|| set.get_at(pasid), Kind::Get, Kind::GetRefused);
        let widest = driver.sites().iter().map(|site| site.last);
        let beyond = widest.min().is_some_and(|last| pasid > last);
        let holds = match &answer {
            Ok(reference) => {
                let id = Id::of_word(reference.word());
                id.thread() < self.world.claimed.len() && reference.pasid() == pasid
            }
            Err(Error::NotFound(at) | Error::BeingFreed(at)) => *at == pasid,
            Err(Error::WrongSet(at) | Error::Reserved(at)) => *at == pasid,
            Err(Error::DoesNotFit { pasid: at, .. }) => *at == pasid && beyond,
            Err(Error::Closing) => driver.is_past(Step::Closing),
            Err(_) => false,
        };
        self.expect(Rule::Lookup, holds, || {
            format!("get_at of PASID {pasid}: {}", outcome(&answer))
        });
        let Ok(reference) = answer else { return };
        let id = Id::of_word(reference.word());
        if self.is_claimed(id) {
            self.took(&driver, pasid, id);
            self.put(Holding {
                id,
                driver,
                reference,
            });
        } else {
            // The shadow does not have it yet.
            self.act(|| drop(reference), Kind::Put);
        }
    }

    /// A holder needs one more reference. While one is held, the PASID stays what it is.
    pub(super) fn share(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let index = self.rng.usize(..self.held.len());
        let holding = self.held.swap_remove(index);
        let (id, pasid, handle) = (
            holding.id,
            holding.reference.pasid(),
            holding.reference.handle(),
        );
        let found = self.find(&holding.driver, pasid);
        let kept = match found {
            Ok(found) => found.handle == handle && found.word == id.word(),
            Err(Error::BeingFreed(at)) => at == pasid,
            Err(Error::Closing) => holding.driver.is_past(Step::Closing),
            Err(_) => false,
        };
        self.expect(Rule::M7, kept, || {
            let found = shown(&found);
            format!("find of PASID {pasid} of {id}, which is held: {found}")
        });
        let reference = &holding.reference;
        let cloned = self.call(|| reference.try_clone(), Kind::Clone, Kind::GetRefused);
        let closing = matches!(cloned, Err(Error::Closing));
        let holds = cloned.is_ok() || (closing && holding.driver.is_past(Step::Closing));
        self.expect(Rule::M7, holds, || {
            let answer = outcome(&cloned);
            format!("try_clone of {handle}, which is held: {answer}")
        });
        if let Ok(reference) = cloned {
            let driver = holding.driver.clone();
            self.took(&driver, pasid, id);
            self.put(holding);
            self.held.push(Holding {
                id,
                driver,
                reference,
            });
        } else {
            self.held.push(holding);
        }
    }

    /// A handle of an allocation that is gone, or of another space.
    pub(super) fn use_stale(&mut self) {
        if self.gone.is_empty() || self.rng.u8(..8) == 0 {
            let driver = self.random_driver();
            return self.expect_stale(&driver, self.world.second.foreign);
        }
        let (handle, id, driver) = self.gone[self.rng.usize(..self.gone.len())].clone();
        let pasid = handle.pasid();
        if !driver.is_reclaimed(pasid, id) {
            // Somebody may hold a reference still.
            let answer = self.get(&driver, handle);
            let errors = [Error::BeingFreed(pasid), Error::Stale(handle)];
            return self.expect_refused(handle, answer, &errors);
        }
        let set = &driver.set;
        let (call, answer) = match self.rng.u8(..3) {
            0 => return self.expect_stale(&driver, handle),
            1 => ("put", {
                // SAFETY: the allocation is over: the shadow has a later owner.
                self.call(|| unsafe { set.put(handle) }, Kind::Stale, Kind::Stale)
            }),
            _ => ("free", {
                // SAFETY: as above.
                self.call(|| unsafe { set.free(handle) }, Kind::Stale, Kind::Stale)
            }),
        };
        self.expect(Rule::Stale, answer == Err(Error::Stale(handle)), || {
            let answer = outcome(&answer);
            format!("{call} with {handle}, whose allocation is over: {answer}")
        });
    }

    /// A get with a handle that is stale.
    pub(super) fn expect_stale(&mut self, driver: &Driver, handle: Handle) {
        let set = driver.set.clone();
        let answer = self.call(|| set.get(handle), Kind::Stale, Kind::Stale);
        let refused = answer.as_ref().err() == Some(&Error::Stale(handle));
        self.expect(Rule::Stale, refused, || {
            let answer = outcome(&answer);
            format!("get with {handle}, which is stale or another space's: {answer}")
        });
    }

    /// Numbers that are nobody's: those that are reserved in the space or on a table, and
    /// those beyond a table's width.
    pub(super) fn look_beyond(&mut self) {
        let place = &self.layout.places[self.rng.usize(..self.layout.places.len())];
        let ([driver, whole], site) = (place.locals.clone(), place.site.clone());
        for pasid in [Some(Pasid::ZERO), site.reserved].into_iter().flatten() {
            let found = self.find(&driver, pasid);
            // What a table reserves it lists no more when it is gone for everybody.
            let reserved = found.err() == Some(Error::Reserved(pasid));
            let closing = driver.is_past(Step::Closing);
            self.expect(Rule::M4, reserved || closing, || {
                let found = shown(&found);
                format!("find of PASID {pasid}, which is reserved: {found}")
            });
        }
        // A set may have been cut to the width, or the table have become narrower since.
        if let Ok(pasid) = Pasid::new(site.last.get() + 1) {
            let set = whole.set.clone();
            let at = || set.alloc_at(pasid, 0);
            let answer = self.call(at, Kind::AllocAt, Kind::AllocRefused);
            let error = answer.as_ref().err();
            let narrow = matches!(error, Some(Error::DoesNotFit { pasid: at, .. }) if *at == pasid);
            let outside =
                matches!(error, Some(Error::OutsideSet { range }) if *range == pasid.into());
            let closing = error == Some(&Error::Closing) && whole.is_past(Step::Closing);
            self.expect(Rule::M5, narrow || outside || closing, || {
                let answer = outcome(&answer);
                format!("alloc_at of PASID {pasid}, which has more bits than the table: {answer}")
            });
        }
    }

    /// A look-up by number, counted and timed.
    pub(super) fn find(&mut self, driver: &Driver, pasid: Pasid) -> Result<Found> {
        self.call(|| driver.set.find(pasid), Kind::Find, Kind::FindNone)
    }
}

#[cold]
fn shown(answer: &Result<Found>) -> String {
    match answer {
        Ok(found) => format!("{} of {}", found.handle, Id::of_word(found.word)),
        Err(error) => error.to_string(),
    }
}
