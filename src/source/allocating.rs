// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a set allocates, and takes and gives back references.

use super::{Reach, Source, Usual, Way, does_not_fit};
use crate::alloc::{IdSpace, refused_handle};
use crate::claims::Side;
use crate::contest::Step;
use crate::error::{Error, Result};
use crate::grant::{Allocate, Grant};
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::radix::Tree;
use crate::range::PasidRange;
use crate::search::{NoneFree, Taken};
use crate::shared::{TableIds, is_reserved};
use crate::slot::Slot;
use crate::state::{Refusal, Sought};
use crate::sync::{Mutation, fence_totally, planted};

impl Source {
    // ---- Allocating ------------------------------------------------------------

    /// The usual case. `None` says nothing.
    #[inline(always)]
    fn alloc_here(&self, range: PasidRange, cpu: u32, word: u64) -> Option<Grant<'_>> {
        match self.allocates {
            Usual::Plain => {
                let (first, last) = self.open_part(range)?;
                let tree = &self.ids().tree;
                let taken = tree.take_here(first, last)?;
                self.publish_usual(tree, taken, word)
            }
            Usual::Local => self.alloc_claimed(Side::Local, range, word),
            Usual::Global => self.alloc_claimed(Side::Global, range, word),
            Usual::Waiting | Usual::No => self.alloc_in_order(range, cpu, word),
        }
    }

    /// Inlined where the side is known, so that nobody looks at it; and with what the caller
    /// has in registers, since each word stored delays the locked operation behind it.
    #[inline(always)]
    fn alloc_claimed(&self, side: Side, range: PasidRange, word: u64) -> Option<Grant<'_>> {
        let (tree, fits_last) = match side {
            Side::Local => {
                let table = self.table()?;
                (&table.ids.tree, table.status.see().last().get())
            }
            Side::Global => (&self.shared.globals.tree, Pasid::MAX.get()),
        };
        let (first, last) = self.open_part_of(range, fits_last)?;
        match self.claimed_by(side, tree).take_first(first, last) {
            Step::Taken(taken) => self.publish_usual(tree, taken, word),
            Step::GoOn(next) => self.alloc_further(side, next, last, word),
            Step::Stop => None,
        }
    }

    /// The same from a later leaf on: apart, so that nothing is kept for it.
    #[inline(never)]
    fn alloc_further(&self, side: Side, first: u32, last: u32, word: u64) -> Option<Grant<'_>> {
        let tree = &self.ids().tree;
        let taken = self.claimed_by(side, tree).take_here(first, last)?;
        self.publish_usual(tree, taken, word)
    }

    /// The table of a local set.
    #[inline(always)]
    pub(super) fn table(&self) -> Option<&TableIds> {
        match &self.reach {
            Reach::Local(table) => Some(table),
            Reach::Global | Reach::Group { .. } => None,
        }
    }

    /// What a usual set has of `range`, if that is something, and the set is not closing.
    #[inline(always)]
    fn open_part(&self, range: PasidRange) -> Option<(u32, u32)> {
        let fits_last = match &self.reach {
            Reach::Group { .. } => return None,
            Reach::Global | Reach::Local(_) => self.fits_last(),
        };
        self.open_part_of(range, fits_last)
    }

    /// The same, by who knows the last that fits.
    #[inline(always)]
    fn open_part_of(&self, range: PasidRange, fits_last: u32) -> Option<(u32, u32)> {
        let first = range.first().get().max(self.first);
        let last = range.last().get().min(self.last).min(fits_last);
        (first <= last && !self.is_closing()).then_some((first, last))
    }

    /// [`Source::publish`] for a set without an observer that is no group's.
    #[inline(always)]
    fn publish_usual<'a>(
        &self,
        tree: &Tree,
        Taken { pasid, slot }: Taken<'a>,
        word: u64,
    ) -> Option<Grant<'a>> {
        let generation = slot.publish(self.index, word);
        let handle = Handle::new(pasid, tree.tag(), generation);
        if self.is_closing() && !planted(Mutation::ClosingNotLookedAtAgain) {
            self.free_unusually(handle, slot);
            return None;
        }
        Some(Grant { handle, slot })
    }

    /// The usual case of sets with another policy, a quota, reserved values, or an observer.
    /// Groups have none.
    #[inline(never)]
    fn alloc_in_order(&self, range: PasidRange, cpu: u32, word: u64) -> Option<Grant<'_>> {
        if self.way == Way::Group {
            return None;
        }
        let (first, last) = self.request(range).ok()?;
        let (from, to) = self.spans(first, last, cpu).next()?;
        if self.is_shut() {
            return None;
        }
        self.take_credit().ok()?;
        let taken = match self.way {
            Way::Plain => self.ids().tree.take_here(from, to),
            _ => self.claimed().take_here(from, to),
        };
        let Some(taken) = taken else {
            self.withdraw_credit();
            return None;
        };
        self.order.handed_out(taken.pasid);
        self.publish(taken, word)
    }

    /// Every case.
    #[cold]
    #[inline(never)]
    fn alloc_anywhere<const GROW: bool>(
        &self,
        range: PasidRange,
        cpu: u32,
        word: u64,
    ) -> Result<Grant<'_>> {
        if let (true, Some((first, last))) = (self.allocates != Usual::No, self.open_part(range)) {
            // Before the rest is prepared for, of which nothing will be needed.
            if self.ids().tree.remembered(first, last) && !self.quarantines() {
                let error = IdSpace::none_free(first, last, NoneFree::Exhausted);
                self.failures.note(&error);
                return Err(error);
            }
        }
        let granted = if self.quarantines() {
            self.alloc_beside_flushes::<GROW>(range, cpu, word)
        } else {
            self.alloc_slowly::<GROW>(range, cpu, word)
        };
        granted.inspect_err(|error| self.failures.note(error))
    }

    pub(super) fn alloc_slowly<const GROW: bool>(
        &self,
        range: PasidRange,
        cpu: u32,
        word: u64,
    ) -> Result<Grant<'_>> {
        let (first, last) = self.request(range)?;
        if self.is_shut() {
            return Err(Error::Closing);
        }
        self.take_credit()?;
        match self.take_anywhere::<GROW>(first, last, cpu) {
            Ok(taken) => {
                self.order.handed_out(taken.pasid);
                self.publish(taken, word).ok_or(Error::Closing)
            }
            Err(why) => {
                self.withdraw_credit();
                Err(IdSpace::none_free(first, last, why))
            }
        }
    }

    fn take_anywhere<const GROW: bool>(
        &self,
        first: u32,
        last: u32,
        cpu: u32,
    ) -> core::result::Result<Taken<'_>, NoneFree> {
        let mut spans = self.spans(first, last, cpu);
        let pieces = self.pieces_of(first, last);
        match &self.reach {
            Reach::Group { members, own } => {
                let contest = self.grouped(members, own);
                let found = spans.find_map(|(from, to)| contest.search::<GROW>(from, to));
                found.map_or_else(|| contest.take_exactly::<GROW>(pieces), Ok)
            }
            _ if self.way == Way::Claimed => {
                let (contest, tree) = (self.claimed(), &self.ids().tree);
                if tree.remembered(first, last) {
                    return Err(NoneFree::Exhausted);
                }
                let found = spans.find_map(|(from, to)| contest.search::<GROW>(from, to));
                match found {
                    Some(taken) => Ok(taken),
                    // The bits alone may say it, which spares the look at all claims.
                    None if tree.is_full(first, last) => Err(NoneFree::Exhausted),
                    None => contest.take_exactly::<GROW>(pieces),
                }
            }
            _ => {
                let tree = &self.ids().tree;
                // The whole request, also where the set has gaps in it: if all of that was
                // held, so was what the set has of it.
                if tree.remembered(first, last) {
                    return Err(NoneFree::Exhausted);
                }
                let found = spans.find_map(|(from, to)| tree.search::<GROW>(from, to));
                found.map_or_else(|| tree.take_exactly::<GROW>(pieces), Ok)
            }
        }
    }

    /// The parts of `first ..= last` that the set may hand out, in the policy's order.
    fn spans(&self, first: u32, last: u32, cpu: u32) -> impl Iterator<Item = (u32, u32)> {
        let spans = self.order.spans(first, last, cpu);
        spans.flat_map(|(from, to)| self.pieces_of(from, to))
    }

    /// The parts of `first ..= last` that the set may hand out, in ascending order.
    pub(super) fn pieces_of(
        &self,
        first: u32,
        last: u32,
    ) -> impl Iterator<Item = (u32, u32)> + Clone {
        self.pieces.iter().filter_map(move |piece| {
            let first = first.max(piece.first().get());
            let last = last.min(piece.last().get());
            (first <= last).then_some((first, last))
        })
    }

    /// The first and the last of the PASIDs of `range` that the set has.
    pub(super) fn request(&self, range: PasidRange) -> Result<(u32, u32)> {
        let fits_last = self.fits_last();
        if range.first().get() > fits_last {
            return Err(does_not_fit(range.first(), fits_last));
        }
        let first = range.first().get().max(self.first);
        let last = range.last().get().min(self.last);
        let lowest = self.pieces_of(first, last).next();
        let (lowest, _) = lowest.ok_or(Error::OutsideSet { range })?;
        if lowest > fits_last {
            return Err(does_not_fit(Pasid::from_index(lowest), fits_last));
        }
        Ok((first, last.min(fits_last)))
    }

    #[inline(always)]
    fn take_credit(&self) -> Result<()> {
        match self.quota() {
            None => Ok(()),
            Some(quota) => quota.take().map_err(|quota| Error::QuotaExceeded { quota }),
        }
    }

    #[inline(always)]
    pub(super) fn give_credit_back(&self) {
        if let Some(quota) = self.quota() {
            quota.give_back();
        }
    }

    /// The same after an attempt that came to nothing.
    fn withdraw_credit(&self) {
        if let Some(quota) = self.quota() {
            quota.withdraw();
        }
    }

    /// Whether a table of the set, or the space, reserves `pasid`.
    #[cold]
    pub(super) fn is_reserved(&self, pasid: Pasid) -> bool {
        match &self.reach {
            Reach::Global | Reach::Local(_) => is_reserved(self.ids(), pasid),
            Reach::Group { members, .. } => {
                members.iter().any(|table| is_reserved(&table.ids, pasid))
            }
        }
    }

    /// Publishes what was taken. `None` if the set is closing: then it was given back.
    ///
    /// Not so a payload that is dropped, which others may have seen by then: that
    /// allocation comes before the closing, and is revoked.
    #[inline(always)]
    fn publish<'a>(&self, Taken { pasid, slot }: Taken<'a>, word: u64) -> Option<Grant<'a>> {
        let generation = slot.publish(self.index, word);
        let handle = self.handle(pasid, generation);
        if let Some(observer) = &self.observer {
            observer.allocated(handle, word);
            // Puts the publication before the look at the flag; pairs with the fence of
            // `close`. Without an observer nobody needs it: the flag alone revokes.
            fence_totally();
        }
        if self.is_shut() && !planted(Mutation::ClosingNotLookedAtAgain) {
            if self.kind.dispose.is_none() || planted(Mutation::PayloadRefusedLate) {
                self.free_held(handle, slot);
                return None;
            }
            // A group whose table closes allocates no more, and is not revoked.
            if self.is_closing() {
                let _ = self.revoke_slot(handle, slot);
            }
        }
        Some(Grant { handle, slot })
    }
}

impl Allocate for Source {
    #[inline(always)]
    fn allocate_here(&self, range: PasidRange, cpu: u32, word: u64) -> Option<Grant<'_>> {
        self.alloc_here(range, cpu, word)
    }

    #[inline(always)]
    fn allocate_anywhere<const GROW: bool>(
        &self,
        range: PasidRange,
        cpu: u32,
        word: u64,
    ) -> Result<Grant<'_>> {
        self.alloc_anywhere::<GROW>(range, cpu, word)
    }

    fn allocate_at(&self, pasid: Pasid, word: u64) -> Result<Grant<'_>> {
        let take = || {
            self.request(pasid.into())?;
            if self.is_shut() {
                return Err(Error::Closing);
            }
            self.take_credit()?;
            let taken = match &self.reach {
                Reach::Group { members, own } => self.grouped(members, own).take_at(pasid),
                _ => self.claimed().take_at(pasid),
            };
            match taken {
                Ok(taken) => self.publish(taken, word).ok_or(Error::Closing),
                Err(why) => {
                    self.withdraw_credit();
                    Err(self.shared.contested(pasid, why, self.is_reserved(pasid)))
                }
            }
        };
        let taken = match self.quarantines() {
            true => self.take_beside_flushes(pasid, take),
            false => take(),
        };
        taken.inspect_err(|error| self.failures.note(error))
    }

    #[inline(always)]
    fn get(&self, handle: Handle) -> Result<Grant<'_>> {
        let slot = self.ids().entry_of(handle)?.slot;
        match slot.get(self.sought(handle)) {
            Ok(_) => self.granted(handle, slot),
            Err(why) => Err(refused_handle(handle, why)),
        }
    }

    fn look(&self, handle: Handle) -> Result<()> {
        let slot = self.ids().entry_of(handle)?.slot;
        match slot.find(self.sought(handle)) {
            Ok(_) if self.is_closing() && !planted(Mutation::GetForgetsClosing) => {
                Err(Error::Closing)
            }
            Ok(_) => Ok(()),
            Err(why) => Err(refused_handle(handle, why)),
        }
    }

    #[inline(always)]
    fn get_at(&self, pasid: Pasid) -> Result<Grant<'_>> {
        let Some(entry) = self.ids().tree.entry(pasid) else {
            return Err(self.not_live(pasid, None));
        };
        let slot = entry.slot;
        match slot.get(Sought::ANY.in_set(self.index)) {
            Ok(generation) => self.granted(self.handle(pasid, generation), slot),
            Err(Refusal::TooManyReferences) => Err(Error::TooManyReferences(
                self.handle(pasid, slot.state().generation()),
            )),
            Err(why) => Err(self.not_live(pasid, Some(why))),
        }
    }

    fn slot_of(&self, handle: Handle) -> Result<&Slot> {
        self.ids().entry_of(handle).map(|entry| entry.slot)
    }

    #[inline(always)]
    fn free_held(&self, handle: Handle, slot: &Slot) {
        match self.frees {
            Usual::Plain => {
                let ids = self.ids();
                ids.free_held_of(self.index, handle, slot);
            }
            Usual::Local => self.free_claimed(Side::Local, handle, slot),
            Usual::Global => self.free_claimed(Side::Global, handle, slot),
            Usual::Waiting => self.free_waiting(handle, slot),
            Usual::No => self.free_unusually(handle, slot),
        }
    }

    #[inline(always)]
    fn put_held(&self, handle: Handle, slot: &Slot) {
        self.ended(handle, slot.drop_held(self.reuse));
    }

    fn is_live(&self, handle: Handle) -> bool {
        let sought = self.sought(handle);
        let entry = self.ids().entry_of(handle);
        entry.is_ok_and(|entry| entry.slot.find(sought).is_ok()) && !self.is_closing()
    }

    fn revoke(&self, handle: Handle) -> Result<()> {
        Source::revoke(self, handle)
    }

    fn unpin(&self, handle: Handle, slot: &Slot) {
        self.take_pin_away(handle, slot);
    }
}
