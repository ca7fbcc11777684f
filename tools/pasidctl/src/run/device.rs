// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model devices: who holds references to PASIDs.
//!
//! A device has a number of entries, as a PASID table has, and each holds one
//! reference or none. Nothing says which PASID goes where; what matters is that
//! references outlive calls and threads, and often their processes.

use std::sync::atomic::{AtomicU64, Ordering};

use pasid::{IdSpace, PasidWidth, Ref};

/// A device that holds references.
#[derive(Debug)]
pub struct Device<'s> {
    space: &'s IdSpace,
    width: PasidWidth,
    /// The raw form of a `Ref`, or 0, which is none's.
    entries: Box<[AtomicU64]>,
}

impl<'s> Device<'s> {
    /// A device of `count` entries, all empty, for PASIDs of `width`.
    pub fn new(space: &'s IdSpace, width: PasidWidth, count: usize) -> Device<'s> {
        Device {
            space,
            width,
            entries: (0..count).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// How wide its PASIDs can be.
    pub fn width(&self) -> PasidWidth {
        self.width
    }

    /// How many entries it has.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Puts `reference`, or none, into an entry, and takes out what was there.
    pub fn swap(
        &self,
        entry: usize,
        reference: Option<Ref<&'s IdSpace>>,
    ) -> Option<Ref<&'s IdSpace>> {
        let raw = reference.map_or(0, Ref::into_raw);
        // AcqRel: whoever takes the reference out comes after whoever put it in.
        let old = self.entries[entry].swap(raw, Ordering::AcqRel);
        if old == 0 {
            return None;
        }
        // SAFETY: `old` was made above with `into_raw`, of a Ref of this space;
        // the swap that put it in is followed by one that takes it out.
        let reference = unsafe { Ref::from_raw(self.space, old) };
        reference.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasid::Pool;

    #[test]
    fn an_entry_keeps_its_reference() {
        let space = IdSpace::new(PasidWidth::MAX);
        let device = Device::new(&space, PasidWidth::MAX, 2);
        let owned = space.alloc(space.range(), 0).unwrap();
        let pasid = owned.pasid();
        assert!(device.swap(1, Some(owned.get().unwrap())).is_none());
        drop(owned);
        assert!(space.alloc(pasid.into(), 0).is_err());
        assert_eq!(device.swap(1, None).map(|held| held.pasid()), Some(pasid));
        assert!(device.swap(1, None).is_none());
        assert!(space.alloc(pasid.into(), 0).is_ok());
    }
}
