// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pins: a PASID that gets no other owner though nobody holds a reference.

use crate::error::{Error, Result};
use crate::grant::Allocate;
use crate::handle::Handle;
use crate::owned::Held;
use crate::pasid::Pasid;
use crate::pool::Pool;
use crate::slot::Slot;
use core::fmt;

/// A pin: while it lives, the PASID is allocated to nobody else, also after its last
/// reference is gone and flushes have completed. Dropping it takes the pin away.
///
/// Unlike a reference it keeps nothing alive: the owner's word and handle end as they would
/// without it. Observers are told *reclaimed* when both the last reference and the pin are
/// gone, and a payload that is dropped is so then. For hardware or firmware that was given
/// a number and cannot say when it forgets it.
///
/// ```
/// use pasid::{Error, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set(SetConfig::new(Scope::Global))?;
/// let owned = set.alloc(set.range(), 0)?;
/// let pin = owned.pin()?;
/// assert_eq!((pin.pasid(), pin.handle()), (owned.pasid(), owned.handle()));
/// assert_eq!(owned.pin().err(), Some(Error::AlreadyPinned(pin.pasid())));
///
/// // The last reference goes, and the number does not come free.
/// drop(owned);
/// let number = pin.pasid();
/// assert!(set.alloc(number.into(), 0).is_err());
/// assert_eq!(set.statistics().pinned, 1);
/// drop(pin);
/// assert!(set.alloc(number.into(), 0).is_ok());
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it takes the pin away"]
pub struct Pinned<S: Pool> {
    pool: S,
    handle: Handle,
    /// The slot stays while the PASID is pinned: its bit is set.
    slot: Held,
}

impl<S: Pool> Pinned<S> {
    /// Pins what `held` is a reference to.
    pub(crate) fn new(pool: S, held: Held) -> Result<Pinned<S>> {
        let handle = held.handle();
        if !held.slot().pin() {
            return Err(Error::AlreadyPinned(handle.pasid()));
        }
        Ok(Pinned {
            pool,
            handle,
            slot: held,
        })
    }

    /// The pin of what `held` was a reference to, which is pinned.
    pub(crate) fn of(pool: S, held: Held) -> Pinned<S> {
        Pinned {
            pool,
            handle: held.handle(),
            slot: held,
        }
    }

    /// The PASID.
    ///
    /// Progress: wait-free. Context: any.
    #[inline]
    pub fn pasid(&self) -> Pasid {
        self.handle.pasid()
    }

    /// Names the allocation that was pinned.
    ///
    /// Progress: wait-free. Context: any.
    #[inline]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    fn slot(&self) -> &Slot {
        self.slot.slot()
    }
}

impl<S: Pool> Drop for Pinned<S> {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        self.pool.source().unpin(self.handle, self.slot());
    }
}

impl<S: Pool> fmt::Debug for Pinned<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pinned").field(&self.handle).finish()
    }
}
