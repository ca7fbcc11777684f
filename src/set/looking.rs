// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking up plain payloads: see `guarded.rs` for the others.

use super::IoasidSet;
use crate::alloc::Found;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::listing::Iter;
use crate::pasid::Pasid;
use crate::payload::Plain;
use crate::range::PasidRange;

impl<P: Plain> IoasidSet<P> {
    /// Looks up who holds `pasid`, if it is this set's, and copies the owner's word, or
    /// what its plain payload is. A word protects nothing behind it.
    ///
    /// Progress: wait-free, without a read-modify-write. Context: any.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::BeingFreed`] if it was revoked, also by
    /// [`IoasidSet::close`], [`Error::WrongSet`], [`Error::Reserved`],
    /// [`Error::DoesNotFit`]; [`Error::Closing`] if the set is just being closed.
    #[inline]
    pub fn find(&self, pasid: Pasid) -> Result<Found<P>> {
        let found = self.source.find(pasid)?;
        Ok(Found {
            handle: found.handle,
            // SAFETY: a word of this set (D1), whose payloads are plain.
            word: unsafe { P::from_word(found.word) },
        })
    }

    /// The live allocations of this set in `range`, in ascending order.
    ///
    /// Safe beside everything else: what is live throughout is listed once, and
    /// what is allocated or freed meanwhile may be listed or not.
    ///
    /// Progress: each step is wait-free, bounded by the memory in `range`. Context: any.
    #[doc(alias = "ioasid_set_for_each_ioasid")]
    pub fn iter(&self, range: PasidRange) -> Iter<'_, P> {
        // SAFETY: words of this set (D1).
        unsafe { self.listed(range).of() }
    }
}
