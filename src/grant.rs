// SPDX-License-Identifier: MIT OR Apache-2.0
//! Granting references: what `alloc` and `get` do before a holder is made of it.

use crate::alloc::{IdSpace, Policy, refused, refused_handle};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::range::PasidRange;
use crate::search::Taken;
use crate::slot::Slot;
use crate::state::Refusal;
use crate::sync::Ordering;

/// A reference that was just taken: which allocation, and where it is.
pub(crate) struct Grant<'a> {
    pub(crate) handle: Handle,
    pub(crate) slot: &'a Slot,
}

impl IdSpace {
    /// Takes a free PASID of `range` and publishes it.
    #[inline(always)]
    pub(crate) fn alloc_raw<const GROW: bool>(
        &self,
        range: PasidRange,
        word: u64,
    ) -> Result<Grant<'_>> {
        match self.alloc_here(range, word) {
            Some(grant) => Ok(grant),
            None => self.alloc_anywhere::<GROW>(range, word),
        }
    }

    /// The usual case. `None` says nothing.
    ///
    /// A grant is returned in registers. A result or an owner would go through memory,
    /// and whoever moves it on at once waits for it there, for as long as a third of
    /// the call takes.
    #[inline]
    fn alloc_here(&self, range: PasidRange, word: u64) -> Option<Grant<'_>> {
        if self.policy == Policy::Next {
            return self.alloc_after(range, word);
        }
        // What lies beyond the width is held, so that nothing needs to be cut off.
        let (first, last) = (range.first().get(), range.last().get());
        let Taken { pasid, slot } = self.tree.take_here(first, last)?;
        Some(self.publish(pasid, slot, word))
    }

    /// The usual case of [`Policy::Next`], which has its own cost in memory that is
    /// not at hand: out of the way of the default policy.
    #[inline(never)]
    fn alloc_after(&self, range: PasidRange, word: u64) -> Option<Grant<'_>> {
        let (first, last) = (range.first().get(), range.last().get());
        let taken = self.tree.take_here(self.start(first, last), last)?;
        Some(self.grant(taken, word))
    }

    /// Every case.
    #[cold]
    #[inline(never)]
    fn alloc_anywhere<const GROW: bool>(&self, range: PasidRange, word: u64) -> Result<Grant<'_>> {
        let (first, last) = self.request(range)?;
        let start = self.start(first, last);
        match self.tree.take_anywhere::<GROW>(first, last, start) {
            Ok(taken) => Ok(self.grant(taken, word)),
            Err(why) => Err(IdSpace::none_free(first, last, why)),
        }
    }

    /// Where a search of `first ..= last` starts.
    #[inline(always)]
    fn start(&self, first: u32, last: u32) -> u32 {
        match self.policy {
            Policy::Lowest => first,
            Policy::Next => {
                // Acquire: pairs with the release of `grant`: who goes on from a PASID sees what
                // was done before it was taken, as a scan must.
                let cursor = self.cursor.load(Ordering::Acquire);
                if first <= cursor && cursor <= last {
                    cursor
                } else {
                    first
                }
            }
        }
    }

    #[inline(always)]
    fn grant<'a>(&self, Taken { pasid, slot }: Taken<'a>, word: u64) -> Grant<'a> {
        if self.policy == Policy::Next {
            // Release: pairs with the acquire of `start`. Of two stores either may last.
            self.cursor.store(pasid.get() + 1, Ordering::Release);
        }
        self.publish(pasid, slot, word)
    }

    /// Takes `pasid` itself and publishes it.
    #[inline]
    pub(crate) fn alloc_at_raw(&self, pasid: Pasid, word: u64) -> Result<Grant<'_>> {
        self.check_fits(pasid)?;
        let slot = self.take_at(pasid)?;
        Ok(self.publish(pasid, slot, word))
    }

    #[inline(always)]
    fn publish<'a>(&self, pasid: Pasid, slot: &'a Slot, word: u64) -> Grant<'a> {
        let handle = Handle::new(pasid, self.tree.tag(), slot.publish(word));
        Grant { handle, slot }
    }

    /// Takes a reference to a handle's allocation.
    #[inline(always)]
    pub(crate) fn get_raw(&self, handle: Handle) -> Result<Grant<'_>> {
        let slot = self.entry_of(handle)?.slot;
        match slot.get(Some(handle.generation())) {
            Ok(_) => Ok(Grant { handle, slot }),
            Err(why) => Err(refused_handle(handle, why)),
        }
    }

    /// Takes a reference to whatever is live at `pasid`.
    #[inline(always)]
    pub(crate) fn get_at_raw(&self, pasid: Pasid) -> Result<Grant<'_>> {
        let slot = self.entry_at(pasid)?.slot;
        let handle = |generation| Handle::new(pasid, self.tree.tag(), generation);
        match slot.get(None) {
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
}
