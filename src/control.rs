// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control calls of a space: reservations and memory.

use crate::alloc::IdSpace;
use crate::error::{Error, Result};
use crate::listing::Iter;
use crate::pasid::Pasid;
use crate::quarantine::Quarantine;
use crate::range::PasidRange;
use crate::state::Sought;

impl IdSpace {
    /// Reserves `pasid`: it is not handed out until [`IdSpace::unreserve`].
    ///
    /// Progress: lock-free. Context: may allocate memory.
    ///
    /// # Errors
    /// [`Error::InUse`] if it is held, or was used up (2^31 or more allocations of one PASID);
    /// [`Error::Reserved`] if it is reserved already; [`Error::DoesNotFit`],
    /// [`Error::NoPasidSupport`], [`Error::OutOfMemory`].
    ///
    /// ```
    /// use pasid::{Error, Pasid, PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// space.reserve(Pasid::new(1)?)?;
    /// assert_eq!(space.alloc(space.range(), 0)?.pasid(), Pasid::new(2)?);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn reserve(&self, pasid: Pasid) -> Result<()> {
        self.check_fits(pasid)?;
        if !self.tree.grow_range(pasid, pasid) {
            return Err(Error::OutOfMemory);
        }
        self.take_at(pasid).map(|slot| slot.reserve())
    }

    /// Takes the reservation of `pasid` away, also one that the space was built with.
    ///
    /// Progress: lock-free. Context: may allocate memory.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is not reserved; [`Error::DoesNotFit`],
    /// [`Error::NoPasidSupport`], [`Error::OutOfMemory`].
    ///
    /// ```
    /// use pasid::{Pasid, PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// space.unreserve(Pasid::ZERO)?;
    /// assert_eq!(space.alloc(space.range(), 0)?.pasid(), Pasid::ZERO);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    pub fn unreserve(&self, pasid: Pasid) -> Result<()> {
        self.check_fits(pasid)?;
        if !self.tree.grow_range(pasid, pasid) {
            return Err(Error::OutOfMemory);
        }
        let entry = self.tree.entry(pasid).ok_or(Error::OutOfMemory)?;
        entry.slot.unreserve().map_err(|_| Error::NotFound(pasid))?;
        self.tree.give_back(entry.spot);
        Ok(())
    }

    /// The PASIDs that were reserved since the space was built.
    pub(crate) fn added_reservations(&self) -> impl Iterator<Item = Pasid> + '_ {
        let mut held = Iter::new(self, self.range(), Sought::ANY);
        core::iter::from_fn(move || held.next_held()).filter_map(|(pasid, slot)| {
            let added = slot.state().is_reserved() && !self.tree.listed_as_reserved(pasid);
            added.then_some(pasid)
        })
    }

    /// Puts memory in place for every PASID in `range`, so that
    /// [`Pool::alloc_in_place`](crate::Pool::alloc_in_place) and [`Pool::alloc_at`](crate::Pool::alloc_at) find it. Returns the
    /// bytes added meanwhile, also by others: 4 KiB for each 256 PASIDs and 4.6 KiB for
    /// each 16,384, 16 to 18 MiB for all of 20 bits.
    ///
    /// Progress: lock-free. Context: may allocate memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; what was put in place stays. [`Error::DoesNotFit`] if
    /// the range reaches beyond the width, and [`Error::NoPasidSupport`] at width 0;
    /// nothing is put in place then.
    ///
    /// ```
    /// use pasid::{Error, Pasid, PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let seven = Pasid::new(7)?;
    /// assert_eq!(space.alloc_at(seven, 0).err(), Some(Error::OutOfMemory));
    /// assert!(space.preload(seven.into())? > 0);
    /// assert_eq!(space.alloc_at(seven, 0)?.pasid(), seven);
    /// assert_eq!(space.preload(seven.into())?, 0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn preload(&self, range: PasidRange) -> Result<usize> {
        self.check_fits(range.last())?;
        let before = self.tree.memory_bytes();
        if !self.tree.grow_range(range.first(), range.last()) {
            return Err(Error::OutOfMemory);
        }
        Ok(self.tree.memory_bytes().saturating_sub(before))
    }

    /// Gives back the memory of every 256 PASIDs that are as in a new space, and returns
    /// the bytes given back. Handles from before stay stale.
    ///
    /// What stays: where a PASID is held, where a reservation was added or one of the
    /// space's own was taken away, and where a PASID's generation has passed 2^31.
    ///
    /// Progress: the exclusive borrow keeps all other calls out. Context: frees
    /// memory.
    ///
    /// ```
    /// use pasid::{PasidWidth, IdSpace, Pool};
    ///
    /// let mut space = IdSpace::new(PasidWidth::MAX);
    /// let handle = space.alloc(space.range(), 0)?.handle();
    /// assert!(space.shrink() > 0);
    /// let again = space.alloc(space.range(), 0)?;
    /// assert_eq!(again.pasid(), handle.pasid());
    /// assert!(space.get(handle).is_err());
    /// # Ok::<(), pasid::Error>(())
    /// ```
    pub fn shrink(&mut self) -> usize {
        self.tree.shrink()
    }

    /// Bytes of memory in use: the space itself and what it has grown.
    ///
    /// Progress: wait-free. Context: any.
    ///
    /// ```
    /// use pasid::{PasidWidth, IdSpace};
    ///
    /// assert!(IdSpace::new(PasidWidth::MAX).memory_bytes() < 1024);
    /// ```
    pub fn memory_bytes(&self) -> usize {
        size_of::<IdSpace>() + self.grown_bytes()
    }

    /// Bytes of memory beside the id space itself.
    pub(crate) fn grown_bytes(&self) -> usize {
        let quarantine = self
            .quarantine
            .follow()
            .map_or(0, |_| size_of::<Quarantine>());
        self.tree.memory_bytes() + self.credits.memory_bytes() + quarantine
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::error::Error;
    use crate::pasid::{Pasid, PasidWidth};
    use crate::pool::Pool;
    use crate::range::PasidRange;
    use crate::{IdSpace, Owned};
    use std::vec::Vec;

    /// A space in which every PASID has one generation left.
    fn nearly_used_up(width: u8) -> IdSpace {
        let mut space = IdSpace::with_reserved(PasidWidth::new(width).unwrap(), &[]);
        space.tree = space.tree.starting_at(u32::MAX);
        space
    }

    #[test]
    fn a_pasid_out_of_generations_is_never_handed_out_again() {
        let mut space = nearly_used_up(9);
        let seven = Pasid::from_u16(7);
        let handle = space.alloc(seven.into(), 1).unwrap().handle(); // freed at once
        assert_eq!(handle.generation(), u32::MAX);

        let range = PasidRange::single(seven);
        assert_eq!(
            space.alloc(seven.into(), 1).err(),
            Some(Error::Exhausted { range })
        );
        assert_eq!(space.alloc_at(seven, 1).err(), Some(Error::InUse(seven)));
        assert_eq!(space.reserve(seven), Err(Error::InUse(seven)));
        assert_eq!(space.unreserve(seven), Err(Error::NotFound(seven)));
        assert_eq!(space.find(seven), Err(Error::NotFound(seven)));
        assert_eq!(space.get_at(seven).err(), Some(Error::NotFound(seven)));
        assert_eq!(space.get(handle).err(), Some(Error::Stale(handle)));
        assert_eq!(space.revoke(handle), Err(Error::Stale(handle)));
        assert!(!space.any_live(space.range()));
        // Its memory is what remembers it.
        assert_eq!(space.shrink(), 0);
        assert_eq!(space.alloc_at(seven, 1).err(), Some(Error::InUse(seven)));

        // All others can be had once.
        let others: Vec<Owned<_>> =
            core::iter::from_fn(|| space.alloc(space.range(), 1).ok()).collect();
        assert_eq!(others.len(), 511);
        drop(others);
        let range = space.range();
        assert_eq!(
            space.alloc(range, 1).err(),
            Some(Error::Exhausted { range })
        );
    }

    #[test]
    fn a_leaf_with_high_generations_does_not_become_everyone_s_floor() {
        let mut space = IdSpace::new(PasidWidth::MAX);
        space.tree = space.tree.starting_at(u32::MAX / 2);
        drop(space.alloc(space.range(), 1).unwrap());
        assert_eq!(space.shrink(), 0);
        let elsewhere = PasidRange::single(Pasid::from_u16(0x8000));
        let generation = space.alloc(elsewhere, 1).unwrap().handle().generation();
        assert_eq!(generation, u32::MAX / 2);
    }
}
