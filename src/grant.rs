// SPDX-License-Identifier: MIT OR Apache-2.0
//! Granting references: what `alloc` and `get` do before a holder is made of it.

use crate::alloc::{IdSpace, refused, refused_handle};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::order::Policy;
use crate::pasid::Pasid;
use crate::range::PasidRange;
use crate::reuse::Reuse;
use crate::search::Taken;
use crate::slot::Slot;
use crate::state::{Refusal, SetIndex, Sought};

/// A reference that was just taken: which allocation, and where it is.
pub struct Grant<'a> {
    pub(crate) handle: Handle,
    pub(crate) slot: &'a Slot,
}

/// What PASIDs are allocated from, as its holders see it.
///
/// A call that allocates takes the word over if it succeeds. If it says nothing or fails,
/// a word of a payload that is dropped was not published, and is still the caller's.
///
/// `free_held` and `put_held` are given what a grant of the same source said, once for
/// each reference.
pub trait Allocate {
    /// Takes a free PASID of `range` and publishes it, in the usual case. `None` says
    /// nothing.
    fn allocate_here(&self, range: PasidRange, cpu: u32, word: u64) -> Option<Grant<'_>>;

    /// The same in every case.
    fn allocate_anywhere<const GROW: bool>(
        &self,
        range: PasidRange,
        cpu: u32,
        word: u64,
    ) -> Result<Grant<'_>>;

    /// Takes `pasid` itself and publishes it.
    fn allocate_at(&self, pasid: Pasid, word: u64) -> Result<Grant<'_>>;

    /// Takes a reference to a handle's allocation.
    fn get(&self, handle: Handle) -> Result<Grant<'_>>;

    /// Whether a handle's allocation is live, at some instant during the call.
    fn look(&self, handle: Handle) -> Result<()>;

    /// Takes a reference to whatever is live at `pasid`.
    fn get_at(&self, pasid: Pasid) -> Result<Grant<'_>>;

    /// The slot that a handle names, if it can be one of this source.
    fn slot_of(&self, handle: Handle) -> Result<&Slot>;

    /// Frees what an owner held.
    fn free_held(&self, handle: Handle, slot: &Slot);

    /// Gives back a reference that is not the owner's.
    fn put_held(&self, handle: Handle, slot: &Slot);

    /// Whether a handle's allocation is live. Wait-free.
    fn is_live(&self, handle: Handle) -> bool;

    /// Revokes a handle's allocation.
    fn revoke(&self, handle: Handle) -> Result<()>;

    /// Takes a pin away.
    fn unpin(&self, handle: Handle, slot: &Slot);
}

impl Allocate for IdSpace {
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

    #[inline]
    fn allocate_at(&self, pasid: Pasid, word: u64) -> Result<Grant<'_>> {
        self.check_fits(pasid)?;
        let slot = self.take_at(pasid)?;
        Ok(self.publish(pasid, slot, word))
    }

    #[inline(always)]
    fn get(&self, handle: Handle) -> Result<Grant<'_>> {
        let slot = self.entry_of(handle)?.slot;
        match slot.get(Sought::of(handle.generation())) {
            Ok(_) => Ok(Grant { handle, slot }),
            Err(why) => Err(refused_handle(handle, why)),
        }
    }

    fn look(&self, handle: Handle) -> Result<()> {
        let slot = self.entry_of(handle)?.slot;
        match slot.find(Sought::of(handle.generation())) {
            Ok(_) => Ok(()),
            Err(why) => Err(refused_handle(handle, why)),
        }
    }

    #[inline(always)]
    fn get_at(&self, pasid: Pasid) -> Result<Grant<'_>> {
        let slot = self.entry_at(pasid)?.slot;
        let handle = |generation| Handle::new(pasid, self.tree.tag(), generation);
        match slot.get(Sought::ANY) {
            Ok(generation) => Ok(Grant {
                handle: handle(generation),
                slot,
            }),
            Err(Refusal::TooManyReferences) => {
                Err(Error::TooManyReferences(handle(slot.state().generation())))
            }
            Err(why) => Err(refused(pasid, why)),
        }
    }

    fn slot_of(&self, handle: Handle) -> Result<&Slot> {
        self.entry_of(handle).map(|entry| entry.slot)
    }

    #[inline(always)]
    fn free_held(&self, handle: Handle, slot: &Slot) {
        self.free_held_of(SetIndex::NONE, handle, slot);
    }

    #[inline(always)]
    fn put_held(&self, handle: Handle, slot: &Slot) {
        let left = slot.drop_held(Reuse::Immediate);
        // The spot cannot be missing where a reference was held.
        if let Some(spot) = self.tree.spot(handle.pasid()) {
            self.reclaim(spot, left);
        }
    }

    fn is_live(&self, handle: Handle) -> bool {
        let sought = Sought::of(handle.generation());
        let entry = self.entry_of(handle);
        entry.is_ok_and(|entry| entry.slot.find(sought).is_ok())
    }

    fn revoke(&self, handle: Handle) -> Result<()> {
        IdSpace::revoke(self, handle)
    }

    fn unpin(&self, handle: Handle, slot: &Slot) {
        let left = slot.unpin(handle.generation(), Reuse::Immediate);
        // The spot cannot be missing where a PASID is pinned.
        if let Some(spot) = self.tree.spot(handle.pasid()) {
            self.reclaim(spot, left);
        }
    }
}

impl IdSpace {
    /// Frees what an owner held that allocated as `set`.
    #[inline(always)]
    pub(crate) fn free_held_of(&self, set: SetIndex, handle: Handle, slot: &Slot) {
        // The spot cannot be missing, nor the allocation over, while it is owned.
        if let Some(spot) = self.tree.spot(handle.pasid()) {
            if let Ok(left) = slot.free_owned(handle.generation(), set, Reuse::Immediate) {
                self.reclaim(spot, left);
            }
        }
    }

    /// The usual case. `None` says nothing.
    ///
    /// A grant is returned in registers. A result or an owner would go through memory,
    /// and whoever moves it on at once waits for it there, for as long as a third of
    /// the call takes.
    #[inline]
    fn alloc_here(&self, range: PasidRange, cpu: u32, word: u64) -> Option<Grant<'_>> {
        if self.order.policy() != Policy::Lowest {
            return self.alloc_in_order(range, cpu, word);
        }
        // What lies beyond the width is held, so that nothing needs to be cut off.
        let (first, last) = (range.first().get(), range.last().get());
        let Taken { pasid, slot } = self.tree.take_here(first, last)?;
        Some(self.publish(pasid, slot, word))
    }

    /// The usual case of the other policies, which have their own cost: out of the way
    /// of the default one.
    #[inline(never)]
    fn alloc_in_order(&self, range: PasidRange, cpu: u32, word: u64) -> Option<Grant<'_>> {
        let (first, last) = self.request(range).ok()?;
        let (from, to) = self.order.spans(first, last, cpu).next()?;
        let taken = self.tree.take_here(from, to)?;
        Some(self.grant(taken, word))
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
        let (first, last) = self.request(range)?;
        let spans = self.order.spans(first, last, cpu);
        match self.tree.take_anywhere::<GROW>(first, last, spans) {
            Ok(taken) => Ok(self.grant(taken, word)),
            Err(why) => Err(IdSpace::none_free(first, last, why)),
        }
    }

    #[inline(always)]
    fn grant<'a>(&self, Taken { pasid, slot }: Taken<'a>, word: u64) -> Grant<'a> {
        self.order.handed_out(pasid);
        self.publish(pasid, slot, word)
    }

    #[inline(always)]
    fn publish<'a>(&self, pasid: Pasid, slot: &'a Slot, word: u64) -> Grant<'a> {
        let generation = slot.publish(SetIndex::NONE, word);
        let handle = Handle::new(pasid, self.tree.tag(), generation);
        Grant { handle, slot }
    }
}
