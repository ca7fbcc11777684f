// SPDX-License-Identifier: MIT OR Apache-2.0
//! References: taken, given back, and what ends with the last of them.

use super::{Allocation, Event, Failures, Model, Place, Reach};
use crate::sets::quirk::Quirk;
use pasid::{Error, Handle, Pasid, PasidRange, PasidWidth, SpaceKind};

/// What a set's statistics say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// PASIDs that are live, being freed, awaiting a flush, and kept by a pin.
    pub tally: (u32, u32, u32, u32),
    /// Limit, use, high-water mark and allocations.
    pub quota: Option<(u32, u32, u32, u64)>,
    /// What failed.
    pub failures: Failures,
}

impl Model {
    fn set_of(
        &self,
        place: Place,
        found: impl Fn(&Allocation) -> bool,
        number: u32,
    ) -> Option<usize> {
        (0..self.sets.len()).find(|&set| {
            self.place(set) == place && self.sets[set].held.get(&number).is_some_and(&found)
        })
    }

    /// The allocation that a call of `set` means by `handle`.
    pub(crate) fn named(&mut self, set: usize, handle: Handle) -> Result<&mut Allocation, Error> {
        let number = handle.pasid().get();
        let owner = self.set_of(self.place(set), |one| one.handle == handle, number);
        let ignored = self.is(Quirk::WrongSetIgnored);
        match owner {
            Some(owner) if owner == set || ignored => self.sets[owner]
                .held
                .get_mut(&number)
                .ok_or(Error::Stale(handle)),
            Some(_) => Err(Error::WrongSet(handle.pasid())),
            None => Err(Error::Stale(handle)),
        }
    }

    /// Whether the handle's allocation has its own reference, and how many others.
    pub fn references(&mut self, set: usize, handle: Handle) -> Option<(bool, u32)> {
        let one = self.named(set, handle).ok()?;
        Some((one.own, one.others))
    }

    /// `get`, and a clone from an owner.
    pub fn get(&mut self, set: usize, handle: Handle) -> Result<(), Error> {
        let one = self.named(set, handle)?;
        if one.revoked {
            return Err(Error::BeingFreed(handle.pasid()));
        }
        one.others += 1;
        Ok(())
    }

    /// A clone from a reference, which cannot be refused.
    pub fn clone_held(&mut self, set: usize, handle: Handle) -> Result<(), Error> {
        self.named(set, handle)?.others += 1;
        Ok(())
    }

    /// The width of the tree that the set's slots are in.
    fn built_width(&self, set: usize) -> PasidWidth {
        let built = |&table: &usize| self.tables[table].built;
        match &self.sets[set].reach {
            Reach::Global => PasidWidth::MAX,
            Reach::Local(table) => built(table),
            Reach::Group(members) => members.iter().map(built).min().unwrap_or(PasidWidth::MAX),
        }
    }

    /// Whether look-ups of the set call the value reserved.
    fn is_called_reserved(&self, set: usize, number: u32) -> bool {
        let reach = &self.sets[set].reach;
        match (reach, self.kind) {
            // To a global set what a table reserves is held there, where there are both.
            (Reach::Global, SpaceKind::Both) => self.space_reserves(number),
            (Reach::Global, _) => self.space_reserves(number) || self.table_reserves(reach, number),
            _ => self.space_reserves(number) || self.table_reserves(reach, number),
        }
    }

    /// `find`: handle and word.
    pub fn find(&self, set: usize, pasid: Pasid) -> Result<(Handle, u64), Error> {
        let (number, width) = (pasid.get(), self.built_width(set));
        if pasid > width.last() {
            return Err(Error::DoesNotFit { pasid, width });
        }
        let owner = self.set_of(self.place(set), |_| true, number);
        let ignored = self.is(Quirk::WrongSetIgnored);
        match owner {
            Some(owner) if owner == set || ignored => {
                let one = &self.sets[owner].held[&number];
                match one.revoked {
                    true => Err(Error::BeingFreed(pasid)),
                    false => Ok((one.handle, one.word)),
                }
            }
            Some(_) => Err(Error::WrongSet(pasid)),
            None if self.is_called_reserved(set, number) => Err(Error::Reserved(pasid)),
            None => Err(Error::NotFound(pasid)),
        }
    }

    /// `get_at`: which allocation it was.
    pub fn get_at(&mut self, set: usize, pasid: Pasid) -> Result<Handle, Error> {
        let (handle, _) = self.find(set, pasid)?;
        self.get(set, handle).map(|()| handle)
    }

    /// The word, whether revoked or not, for a holder; and puts another there.
    pub fn replace(&mut self, set: usize, handle: Handle, word: u64) -> Result<u64, Error> {
        let one = self.named(set, handle)?;
        Ok(std::mem::replace(&mut one.word, word))
    }

    /// `into_ref`, for an owner.
    pub fn disown(&mut self, set: usize, handle: Handle) -> Result<(), Error> {
        let one = self.named(set, handle)?;
        (one.own, one.others) = (false, one.others + 1);
        Ok(())
    }

    /// `revoke`. Tells only of the first time.
    pub fn revoke(&mut self, set: usize, handle: Handle) -> Result<(), Error> {
        let forgotten = self.is(Quirk::RevocationForgotten);
        let one = self.named(set, handle)?;
        let first = !one.revoked;
        one.revoked = !forgotten;
        if first {
            self.sets[set].events.push(Event::Revoked(handle));
        }
        Ok(())
    }

    /// `put`, and the drop of a reference.
    pub fn put(&mut self, set: usize, handle: Handle) -> Result<(), Error> {
        let one = self.named(set, handle)?;
        if one.others == 0 {
            return Err(Error::Stale(handle));
        }
        one.others -= 1;
        self.end_if_unheld(set, handle);
        Ok(())
    }

    /// `free`, and the drop of an owner.
    pub fn free(&mut self, set: usize, handle: Handle) -> Result<(), Error> {
        let (at_once, untold) = (self.is(Quirk::FreeAtOnce), self.is(Quirk::RevocationUntold));
        let one = self.named(set, handle)?;
        let first = !one.revoked;
        (one.revoked, one.own) = (true, false);
        if at_once {
            one.others = 0;
        }
        if first && !untold {
            self.sets[set].events.push(Event::Revoked(handle));
        }
        self.end_if_unheld(set, handle);
        Ok(())
    }

    fn end_if_unheld(&mut self, set: usize, handle: Handle) {
        let (number, of) = (handle.pasid().get(), &mut self.sets[set]);
        let one = of.held.get(&number);
        let ends = one.is_some_and(|one| !one.own && one.others == 0);
        if let Some(one) = ends.then(|| of.held.remove(&number)).flatten() {
            self.end(set, one);
        }
    }

    /// `free_all`: revokes what is live, in ascending order.
    pub fn free_all(&mut self, set: usize) {
        let of = &mut self.sets[set];
        for one in of.held.values_mut().filter(|one| !one.revoked) {
            one.revoked = true;
            of.events.push(Event::Revoked(one.handle));
        }
    }

    // ---- What can be asked -----------------------------------------------------

    /// What is live in `range`: handles and words, ascending.
    pub fn live(&self, set: usize, range: PasidRange) -> Vec<(Handle, u64)> {
        let range = range.first().get()..=range.last().get();
        let held = self.sets[set].held.range(range).map(|(_, one)| one);
        let live = held.filter(|one| !one.revoked);
        live.map(|one| (one.handle, one.word)).collect()
    }

    /// The set's statistics.
    pub fn numbers(&self, set: usize) -> Numbers {
        let of = &self.sets[set];
        let freeing = of.held.values().filter(|one| one.revoked).count() as u32;
        let used = self.used(set);
        let quota = of.quota.as_ref();
        let kept = of.ended.values().filter(|one| one.pinned).count() as u32;
        let waiting = of.ended.len() as u32 - kept;
        Numbers {
            tally: (of.held.len() as u32 - freeing, freeing, waiting, kept),
            quota: quota.map(|quota| (quota.limit, used, quota.high_water, quota.allocations)),
            failures: of.failures,
        }
    }

    /// What the set's observer was told since this was asked last.
    pub fn told(&mut self, set: usize) -> Vec<Event> {
        std::mem::take(&mut self.sets[set].events)
    }
}
