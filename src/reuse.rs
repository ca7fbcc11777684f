// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a freed PASID may be allocated again.

/// When a PASID of a set may be allocated again, once its last reference is gone.
///
/// ```
/// use pasid::{Error, Pool, Reuse, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// for (reuse, second) in [(Reuse::Immediate, 1), (Reuse::AfterFlush, 2)] {
///     let set = space.add_set(SetConfig::new(Scope::Global).reuse(reuse))?;
///     assert_eq!(set.reuse(), reuse);
///     drop(set.alloc(set.range(), 0)?);
///     assert_eq!(set.alloc(set.range(), 0)?.pasid().get(), second);
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Reuse {
    /// At once. For PASIDs of which no device, no IOTLB and no queue of page requests can
    /// still know anything when their last reference goes.
    #[default]
    Immediate,
    /// After a flush that began after that moment has completed; see
    /// [`Flush`](crate::Flush). Until then the PASID waits in quarantine, and counts
    /// against the quota.
    AfterFlush,
}

/// Runs a flush when an allocation finds nothing free but what awaits one, or no credit
/// left of the set's quota while PASIDs await one, which keep theirs.
///
/// It is called by [`Pool::alloc`](crate::Pool::alloc) and
/// [`Pool::alloc_near`](crate::Pool::alloc_near), in the context of their caller, who waits
/// for what it does; the calls for any context do not call it. No lock is held while it
/// runs. It usually calls [`Flush::flush`](crate::Flush::flush) on the set's table or
/// space, and may also do nothing: then the allocation fails with
/// [`Error::AwaitingFlush`](crate::Error::AwaitingFlush).
///
/// It must not unwind, and should not allocate from the set that it serves. Where it holds
/// the set's table, or the set itself, as a group's has to, that goes only when the flusher gives
/// it up: close the set or the table, and let go of the handle, before the space is dropped.
///
/// ```
/// use pasid::{Error, Flush, Flusher, Pasid, Pool, Reuse, Scope, SetConfig, Space, SpaceKind};
/// use std::sync::Arc;
///
/// static SPACE: Space = Space::new(SpaceKind::Global);
///
/// struct Invalidate;
///
/// impl Flusher for Invalidate {
///     fn flush(&self) {
///         // ... the IOTLB and the devices are told ...
///         let flushed = (&SPACE).flush(|_batch| Ok::<(), Error>(()));
///         assert_eq!(flushed, Ok(1));
///     }
/// }
///
/// let config = SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush);
/// let set = SPACE.add_set(config.range(Pasid::new(1)?.into()).flusher(Arc::new(Invalidate)))?;
/// drop(set.alloc(set.range(), 0)?);
/// // Its one PASID waits, and is flushed on the way.
/// assert!(set.alloc(set.range(), 0).is_ok());
/// # Ok::<(), Error>(())
/// ```
pub trait Flusher: Send + Sync {
    /// Some PASIDs of a request wait, and nothing else of it is free; or some of the set do,
    /// and its quota is used up.
    fn flush(&self);
}
