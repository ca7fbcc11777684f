// SPDX-License-Identifier: MIT OR Apache-2.0
//! A reference-counted pointer whose making can fail: what the handles of tables and
//! sets are made of. The standard library's `Arc` aborts where there is no memory.
//!
//! # Protocol
//! As in the standard library: whoever clones holds a reference already, so the addition
//! publishes nothing; giving back releases; the last one acquires what all others
//! released, and drops the value. There are no weak counts, so a count of one that its
//! holder sees is the truth.
//!
//! # The count's end
//! The count has 64 bits. Above [`COUNT_LAST`] the value is kept for ever: the count is
//! put in the middle of the upper half and put there again by whoever meets it. Where
//! somebody leaks references on purpose (292 years at 10^9 a second), the
//! result is memory that is not given back, never a use after free, an abort or a panic.

use crate::link::boxed;
use crate::sync::{AtomicU64, Mutation, Ordering, fence, unless};
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, offset_of};
use core::ops::Deref;
use core::ptr::NonNull;
use heap::boxed::Box;

/// The most references that are counted. Above it the value is never dropped.
const COUNT_LAST: u64 = u64::MAX / 2;

/// Where the count of a value that is kept for ever stays. It would take 2^62 threads
/// between an addition and the store that follows it to leave the upper half.
const KEPT: u64 = COUNT_LAST + (1 << 62);

/// One reference to a `T` that lives as long as any.
pub struct Counted<T> {
    inner: NonNull<Inner<T>>,
    /// Whoever drops a Counted may drop a `T`.
    owns: PhantomData<Inner<T>>,
}

struct Inner<T> {
    count: AtomicU64,
    value: T,
}

// SAFETY: any holder, on any thread, may look at the value and may be the one that drops
// it, so a `T` must be both shareable and sendable.
unsafe impl<T: Send + Sync> Send for Counted<T> {}
// SAFETY: as above; who shares a Counted can clone it.
unsafe impl<T: Send + Sync> Sync for Counted<T> {}

impl<T> Counted<T> {
    /// `value` on the heap, with one reference. `None`, and `value` dropped, if there is
    /// no memory.
    pub(crate) fn new(value: T) -> Option<Counted<T>> {
        let build = |place: *mut Inner<T>| {
            let count = AtomicU64::new(1);
            // SAFETY: `boxed` gives a place that is valid for writes of an Inner.
            unsafe { place.write(Inner { count, value }) };
        };
        // SAFETY: `build` writes a whole Inner.
        let inner = Box::leak(unsafe { boxed(build) }?);
        Some(Counted::of(NonNull::from(inner)))
    }

    const fn of(inner: NonNull<Inner<T>>) -> Counted<T> {
        Counted {
            inner,
            owns: PhantomData,
        }
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: from a Box, which is freed by who gives the last reference back; this
        // one has not been given back.
        unsafe { self.inner.as_ref() }
    }

    /// Where the value is, for as long as a reference is held.
    pub(crate) fn as_ptr(&self) -> NonNull<T> {
        let inner = self.inner.as_ptr();
        // SAFETY: `inner` points to a whole Inner, so its field is in bounds. The place
        // is not read, and the pointer keeps the right to all of the Inner.
        let value = unsafe { &raw mut (*inner).value };
        // SAFETY: a field of something that is there is not at null.
        unsafe { NonNull::new_unchecked(value) }
    }

    /// Gives the reference up without giving it back: it lives on in the pointer.
    pub(crate) fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).as_ptr()
    }

    /// The reference that lives in `value`.
    ///
    /// # Safety
    /// `value` must come from [`into_raw`](Counted::into_raw), or from
    /// [`as_ptr`](Counted::as_ptr) of a reference that was forgotten, and the reference
    /// must not be taken out of it again.
    pub(crate) unsafe fn from_raw(value: NonNull<T>) -> Counted<T> {
        let offset = offset_of!(Inner<T>, value);
        // SAFETY: the value lies `offset` bytes into its Inner, to all of which the
        // pointer has the right, as `as_ptr` says.
        Counted::of(unsafe { value.byte_sub(offset) }.cast())
    }

    /// How many references there are.
    ///
    /// For a control call that asks whether it holds the last: 1 stays 1 where nobody
    /// else can reach this very reference to clone it.
    pub(crate) fn count(&self) -> u64 {
        // Acquire: pairs with the release of `drop`: who sees a reference gone sees what
        // its holder did.
        self.inner().count.load(Ordering::Acquire)
    }

    /// Whether both refer to the same value.
    pub(crate) fn ptr_eq(&self, other: &Counted<T>) -> bool {
        self.inner == other.inner
    }

    /// Gives the reference back without dropping the value: it comes back if this was the
    /// last, for [`drop_last`](Counted::drop_last).
    ///
    /// Wait-free.
    pub(crate) fn give_back(self) -> Option<NonNull<T>> {
        let counted = ManuallyDrop::new(self);
        counted.subtract().then(|| counted.as_ptr())
    }

    /// Drops a value that has no reference left.
    ///
    /// # Safety
    /// `value` must come from [`give_back`](Counted::give_back), and be dropped once.
    pub(crate) unsafe fn drop_last(value: NonNull<T>) {
        // SAFETY: as after `into_raw`; that the reference is given back already is why it
        // is not dropped again.
        let last = ManuallyDrop::new(unsafe { Counted::from_raw(value) });
        // SAFETY: from `Box::leak` in `new`, and nobody has a reference.
        drop(unsafe { Box::from_raw(last.inner.as_ptr()) });
    }

    /// Takes one off the count. Whether it was the last; then everything that others did
    /// with the value is visible.
    fn subtract(&self) -> bool {
        // Release: pairs with the acquire fence of whoever is last: what this holder did
        // comes before the value is dropped.
        let ordering = unless(Mutation::CountedRelaxed, Ordering::Release);
        let count = self.inner().count.fetch_sub(1, ordering);
        if count > COUNT_LAST {
            self.keep();
        } else if count == 1 {
            // Acquire: pairs with the releases of all who gave their references back.
            fence(Ordering::Acquire);
            return true;
        }
        false
    }

    /// Keeps the value for ever, because the count has passed its last number.
    #[cold]
    fn keep(&self) {
        // Relaxed: nothing is published. Whatever additions and subtractions stand
        // before or after this store leave the count in the upper half, where each of
        // them ends here again; so nobody reads the 1 that drops the value.
        self.inner().count.store(KEPT, Ordering::Relaxed);
    }
}

impl<T> Clone for Counted<T> {
    /// Wait-free.
    fn clone(&self) -> Counted<T> {
        // Relaxed: the reference at hand keeps the value, and whoever is given the new
        // one is given it by means that order what came before.
        let count = self.inner().count.fetch_add(1, Ordering::Relaxed);
        if count >= COUNT_LAST {
            self.keep();
        }
        Counted::of(self.inner)
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> Drop for Counted<T> {
    /// Wait-free but for the drop of the value and the return of its memory.
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            // A model that failed is unwinding, and loom's objects are gone.
            return;
        }
        if self.subtract() {
            // SAFETY: from `Box::leak` in `new`. The count went from 1 to 0 once, nobody
            // holds a reference that could be cloned, and this one is going.
            drop(unsafe { Box::from_raw(self.inner.as_ptr()) });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::AtomicU32;
    use std::sync::Arc;
    use std::thread;

    fn counted<T>(value: T) -> Counted<T> {
        Counted::new(value).expect("memory for a test")
    }

    /// Counts how often it is dropped.
    struct Dropped(Arc<AtomicU32>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            // Relaxed: read after the threads are joined.
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn drops(of: &AtomicU32) -> u32 {
        // Relaxed: as above.
        of.load(Ordering::Relaxed)
    }

    #[test]
    fn the_value_goes_once_with_the_last_reference() {
        let dropped = Arc::new(AtomicU32::new(0));
        let first = counted(Dropped(dropped.clone()));
        let second = first.clone();
        assert!(first.ptr_eq(&second));
        assert_eq!((first.count(), second.count()), (2, 2));
        drop(first);
        assert_eq!((second.count(), drops(&dropped)), (1, 0));
        drop(second);
        assert_eq!(drops(&dropped), 1);
    }

    #[test]
    fn the_last_reference_can_be_given_back_without_dropping_the_value() {
        let dropped = Arc::new(AtomicU32::new(0));
        let first = counted(Dropped(dropped.clone()));
        assert_eq!(first.clone().give_back(), None);
        let last = first.give_back().expect("the last");
        assert_eq!(drops(&dropped), 0);
        // SAFETY: from `give_back` above, once.
        unsafe { Counted::drop_last(last) };
        assert_eq!(drops(&dropped), 1);
    }

    #[test]
    fn a_raw_pointer_carries_a_reference() {
        let first = counted((7_u8, 9_u64));
        let raw = first.clone().into_raw();
        assert_eq!((raw, first.count()), (first.as_ptr(), 2));
        // SAFETY: from `into_raw` above, once.
        let second = unsafe { Counted::from_raw(raw) };
        assert_eq!((second.0, second.1, second.count()), (7, 9, 2));
        assert!(!counted((7, 9)).ptr_eq(&second));
    }

    #[test]
    fn values_of_any_alignment_are_found_again() {
        #[repr(align(128))]
        struct Aligned(u8);
        let raw = counted(Aligned(3)).into_raw();
        assert_eq!(raw.as_ptr() as usize % 128, 0);
        // SAFETY: from `into_raw` above, once.
        assert_eq!(unsafe { Counted::from_raw(raw) }.0, 3);
        let nothing = counted(()).into_raw();
        // SAFETY: from `into_raw` above, once.
        assert_eq!(unsafe { Counted::from_raw(nothing) }.count(), 1);
    }

    #[test]
    fn a_count_past_its_last_number_keeps_the_value() {
        let dropped = Arc::new(AtomicU32::new(0));
        let first = counted(Dropped(dropped.clone()));
        // Relaxed: one thread.
        let set = |count| first.inner().count.store(count, Ordering::Relaxed);
        set(COUNT_LAST - 1);
        let second = first.clone();
        assert_eq!(first.count(), COUNT_LAST);
        drop(second);
        assert_eq!(first.count(), COUNT_LAST - 1);
        set(COUNT_LAST);
        let second = first.clone();
        assert_eq!(first.count(), KEPT);
        drop(second);
        assert_eq!(first.count(), KEPT);
        let inner = first.inner;
        drop(first);
        assert_eq!(drops(&dropped), 0);
        // SAFETY: kept for ever, so the memory is there, and nobody else looks at it.
        drop(unsafe { Box::from_raw(inner.as_ptr()) });
    }

    #[test]
    fn threads_that_clone_and_drop_leave_nothing() {
        let dropped = Arc::new(AtomicU32::new(0));
        let first = counted(Dropped(dropped.clone()));
        thread::scope(|scope| {
            for _ in 0..4 {
                let mut held = first.clone();
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        held = held.clone();
                    }
                });
            }
        });
        assert_eq!((first.count(), drops(&dropped)), (1, 0));
        drop(first);
        assert_eq!(drops(&dropped), 1);
    }
}
