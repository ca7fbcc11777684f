// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listing what is live in a space, beside everything else that happens to it.

use crate::alloc::{Found, IdSpace};
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::range::PasidRange;

impl IdSpace {
    /// The live allocations in `range`, in ascending order.
    ///
    /// Safe beside everything else: what is live throughout is listed once, and
    /// what is allocated or freed meanwhile may be listed or not. A PASID that is
    /// being freed is not live, though somebody may still hold it.
    ///
    /// Progress: each step is wait-free, bounded by the memory in `range`.
    /// Context: any.
    ///
    /// ```
    /// use pasid::{Pasid, PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let _low = space.alloc(space.range(), 10)?;
    /// let _high = space.alloc(Pasid::new(0x1_0000)?.into(), 20)?;
    /// let words: Vec<u64> = space.iter(space.range()).map(|found| found.word).collect();
    /// assert_eq!(words, [10, 20]);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[doc(alias = "ioasid_set_for_each_ioasid")]
    pub fn iter(&self, range: PasidRange) -> Iter<'_> {
        Iter {
            space: self,
            left: self.range().intersect(range),
        }
    }

    /// Whether any PASID in `range` is live, as [`IdSpace::iter`] lists them.
    ///
    /// `false` does not say that nothing is held: PASIDs that are being freed are not
    /// live, and beside running calls one that goes and another that comes may both be
    /// missed.
    ///
    /// Progress: wait-free, bounded by the memory in `range`. Context: any.
    ///
    /// ```
    /// use pasid::{PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// assert!(!space.any_live(space.range()));
    /// let _owned = space.alloc(space.range(), 0)?;
    /// assert!(space.any_live(space.range()));
    /// # Ok::<(), pasid::Error>(())
    /// ```
    pub fn any_live(&self, range: PasidRange) -> bool {
        self.iter(range).next().is_some()
    }

    /// How many PASIDs in `range` are live, as [`IdSpace::iter`] lists them. Exact while no
    /// other call runs.
    ///
    /// Progress: wait-free, bounded by the memory in `range`. Context: any.
    ///
    /// ```
    /// use pasid::{PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let _owned = space.alloc(space.range(), 0)?;
    /// assert_eq!(space.count_live(space.range()), 1);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    pub fn count_live(&self, range: PasidRange) -> u32 {
        self.iter(range).fold(0, |count, _| count + 1)
    }
}

/// The live allocations of a range, in ascending order; see [`IdSpace::iter`].
#[derive(Debug, Clone)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct Iter<'a> {
    space: &'a IdSpace,
    left: Option<PasidRange>,
}

impl Iterator for Iter<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        while let Some(range) = self.left {
            let Some((pasid, slot)) = self.space.tree.first_held(range.first(), range.last())
            else {
                self.left = None;
                break;
            };
            let after = Pasid::from_index(pasid.get().wrapping_add(1));
            self.left = if pasid < range.last() {
                PasidRange::new(after, range.last()).ok()
            } else {
                None
            };
            if let Ok((generation, word)) = slot.find() {
                let handle = Handle::new(pasid, self.space.tree.tag(), generation);
                return Some(Found { handle, word });
            }
        }
        None
    }
}

impl core::iter::FusedIterator for Iter<'_> {}
