// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is told of a set's transitions.

use crate::handle::Handle;

/// Is told of each PASID that is allocated from a set, revoked, and reclaimed.
///
/// Each call comes once for a transition, in the context of whoever caused it: an
/// observer of a set whose PASIDs are freed in interrupt handlers runs there. Nothing is
/// locked while it runs, and it may call the set. It must not unwind: the transition it is
/// told of would stay half done, and the PASID out of use. Fan-out to several listeners is
/// the observer's own matter.
///
/// *Revoked* and *reclaimed* come in this order. A PASID can be found, and so revoked, as
/// soon as it is published, so *revoked* may overtake *allocated* if it is another thread
/// that revokes. The generation in the handle tells allocations of one PASID apart.
///
/// ```
/// use pasid::{Handle, Observer};
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// #[derive(Default)]
/// struct Live(AtomicU32);
///
/// impl Observer for Live {
///     fn allocated(&self, _: Handle, _: u64) {
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
///     fn reclaimed(&self, _: Handle) {
///         self.0.fetch_sub(1, Ordering::Relaxed);
///     }
/// }
/// ```
pub trait Observer: Send + Sync {
    /// The PASID was allocated with this word, and others may have seen it already. Where
    /// the set has other payloads, the word is what stands for them: an address, or 0.
    fn allocated(&self, handle: Handle, word: u64) {
        let _ = (handle, word);
    }

    /// The PASID was revoked: nobody gets a new reference. It comes before *reclaimed*,
    /// also where one call does both; it does not come where the last of plain
    /// references (see [`Owned::into_ref`](crate::Owned::into_ref)) ends the allocation.
    fn revoked(&self, handle: Handle) {
        let _ = handle;
    }

    /// The last reference is gone. The PASID cannot be allocated again before this
    /// returns.
    fn reclaimed(&self, handle: Handle) {
        let _ = handle;
    }
}
