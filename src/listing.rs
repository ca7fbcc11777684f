// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listing what is live in a space, beside everything else that happens to it.

use crate::alloc::{Found, IdSpace};
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::payload::Plain;
use crate::range::PasidRange;
use crate::slot::Slot;
use crate::state::Sought;
use core::fmt;
use core::marker::PhantomData;

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
        Iter::new(self, range, Sought::ANY)
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
///
/// ```
/// use pasid::{Error, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set(SetConfig::new(Scope::Global))?;
/// let one = set.alloc(set.range(), 10)?;
/// let two = set.alloc(set.range(), 20)?;
/// // A revoked PASID is not live, though it has a reference.
/// let three = set.alloc(set.range(), 30)?.into_ref();
/// set.revoke(three.handle())?;
/// let words: Vec<u64> = set.iter(set.range()).map(|found| found.word).collect();
/// assert_eq!(words, [one.word(), two.word()]);
/// # Ok::<(), Error>(())
/// ```
#[must_use = "an iterator does nothing until it is asked"]
pub struct Iter<'a, P = u64> {
    ids: &'a IdSpace,
    left: Option<PasidRange>,
    sought: Sought,
    payload: PhantomData<fn() -> P>,
}

impl<P> Clone for Iter<'_, P> {
    fn clone(&self) -> Self {
        Iter {
            payload: PhantomData,
            ..*self
        }
    }
}

impl<P> fmt::Debug for Iter<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter")
            .field("ids", &self.ids)
            .field("left", &self.left)
            .field("sought", &self.sought)
            .finish()
    }
}

impl<'a> Iter<'a> {
    pub(crate) fn new(ids: &'a IdSpace, range: PasidRange, sought: Sought) -> Iter<'a> {
        Iter::within(ids, Some(range), sought)
    }

    /// The same within a range that may be none.
    pub(crate) fn within(ids: &'a IdSpace, range: Option<PasidRange>, sought: Sought) -> Iter<'a> {
        Iter {
            ids,
            left: range.and_then(|range| ids.range().intersect(range)),
            sought,
            payload: PhantomData,
        }
    }

    /// The same, of payloads.
    ///
    /// # Safety
    /// What is sought has words of a `P`.
    pub(crate) unsafe fn of<P: Plain>(self) -> Iter<'a, P> {
        Iter {
            ids: self.ids,
            left: self.left,
            sought: self.sought,
            payload: PhantomData,
        }
    }
}

impl<'a, P> Iter<'a, P> {
    /// The next PASID whose bit is set, with its slot.
    pub(crate) fn next_held(&mut self) -> Option<(Pasid, &'a Slot)> {
        let range = self.left?;
        let held = self.ids.tree.first_held(range.first(), range.last());
        self.left = match held {
            Some((pasid, _)) if pasid < range.last() => {
                let after = Pasid::from_index(pasid.get().wrapping_add(1));
                PasidRange::new(after, range.last()).ok()
            }
            _ => None,
        };
        held
    }
}

impl<P: Plain> Iterator for Iter<'_, P> {
    type Item = Found<P>;

    fn next(&mut self) -> Option<Found<P>> {
        while let Some((pasid, slot)) = self.next_held() {
            if let Ok((generation, word)) = slot.find(self.sought) {
                let handle = Handle::new(pasid, self.ids.tree.tag(), generation);
                // SAFETY: what is sought has words of this type, which is plain: `u64`, or
                // by the promise to `of`.
                let word = unsafe { P::from_word(word) };
                return Some(Found { handle, word });
            }
        }
        None
    }
}

impl<P: Plain> core::iter::FusedIterator for Iter<'_, P> {}
