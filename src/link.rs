// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pointer of the tree: empty, or to a child that was built complete and
//! published once.
//!
//! Nothing is unlinked beside running calls: a child goes only under `&mut`.
//! With unlinking, every call would have to announce itself before it follows a
//! pointer, and an empty leaf would need a state that a scan cannot take for full.

use crate::sync::{AtomicPtr, Event, Ordering, const_unless_loom, met};
#[cfg(loom)]
use crate::sync::{Mutation, planted};
use core::ptr;
use heap::alloc::Layout;
use heap::boxed::Box;

#[cfg(loom)]
mod mutants;

/// A child of type `T`, or none yet.
pub(crate) struct Link<T>(AtomicPtr<T>);

// SAFETY: a Link owns its child like an `Option<Box<T>>`, so it may move to
// another thread where the child may.
unsafe impl<T: Send> Send for Link<T> {}
// SAFETY: a shared Link gives out shared children and takes in new ones from any
// thread, so it may be shared where children may be shared and sent.
unsafe impl<T: Send + Sync> Sync for Link<T> {}

/// What [`Link::take_if`] did.
pub(crate) enum Took<T> {
    /// There was no child.
    Vacant,
    /// The condition did not hold: the child stays.
    Kept,
    /// The child, which the link has forgotten.
    Child(Box<T>),
}

impl<T> Link<T> {
    const_unless_loom! {
        /// Without a child.
        pub(crate) fn vacant() -> Link<T> {
            Link(AtomicPtr::new(ptr::null_mut()))
        }
    }

    /// The child, if there is one.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn follow(&self) -> Option<&T> {
        // Acquire: pairs with the release of `publish`: who sees the pointer sees
        // the child built.
        let child = self.0.load(Ordering::Acquire);
        // SAFETY: null, or published from a Box by `publish` and taken out again only
        // by `take_if`, whose exclusive borrow the borrow of `self` excludes.
        unsafe { child.as_ref() }
    }

    /// Publishes `new` as the child, or frees it if another thread was first, and
    /// returns the child that is there.
    ///
    /// Lock-free without a loop: whoever loses uses the winner's.
    pub(crate) fn publish(&self, new: Box<T>) -> &T {
        #[cfg(loom)]
        if planted(Mutation::PublishBlindly) {
            return self.publish_blindly(new);
        }
        let new = Box::into_raw(new);
        let none = ptr::null_mut();
        // Release: pairs with the acquire of `follow`. Failure Acquire: pairs with the
        // winner's release, for the same reason.
        match self
            .0
            .compare_exchange(none, new, Ordering::Release, Ordering::Acquire)
        {
            // SAFETY: just published by this call; it stays, as `follow` says.
            Ok(_) => unsafe { &*new },
            Err(winner) => {
                met(Event::GrowthLost);
                // SAFETY: from `Box::into_raw` above, and not published.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY: not null, and published by another call; it stays, as
                // `follow` says.
                unsafe { &*winner }
            }
        }
    }

    /// Takes the child out if `condition` holds for it.
    pub(crate) fn take_if(&mut self, condition: impl FnOnce(&mut T) -> bool) -> Took<T> {
        // Relaxed: `&mut self` came here by means that order all before it.
        let child = self.0.load(Ordering::Relaxed);
        // SAFETY: null, or from a Box by `publish`; `&mut self` excludes all others.
        let Some(target) = (unsafe { child.as_mut() }) else {
            return Took::Vacant;
        };
        if !condition(target) {
            return Took::Kept;
        }
        // Relaxed: as above.
        self.0.store(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: from `Box::into_raw` in `publish`, and the link has just forgotten it.
        Took::Child(unsafe { Box::from_raw(child) })
    }
}

impl<T> Drop for Link<T> {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            // A model that failed is unwinding, and loom's objects are gone.
            return;
        }
        drop(self.take_if(|_| true));
    }
}

/// A `T` on the heap, built in place by `build`, or `None` if there is no memory.
///
/// `Box::new` would abort, and builds on the stack first.
///
/// # Safety
/// `build` must write a whole, valid `T` to the place that it is given, which is
/// valid for writes of a `T`.
pub(crate) unsafe fn boxed<T>(build: impl FnOnce(*mut T)) -> Option<Box<T>> {
    const { assert!(size_of::<T>() > 0) };
    // SAFETY: the layout is not of size zero, as asserted.
    let place = unsafe { heap::alloc::alloc(Layout::new::<T>()) }.cast::<T>();
    if place.is_null() {
        return None;
    }
    build(place);
    // SAFETY: allocated by the global allocator with the layout of a T, and `build`
    // has written a T there, as the caller promises.
    Some(unsafe { Box::from_raw(place) })
}
