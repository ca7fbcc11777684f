// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lock of the control calls: building a space, adding and closing tables and sets,
//! changing quotas, listing.
//!
//! Control calls may wait for each other. No data call ever takes this lock, so nobody
//! on a data call waits for a control call. It is not for interrupt or signal handlers:
//! one that interrupted the holder would wait for ever, and so would a holder who takes
//! the lock again. A kernel that calls in here keeps its thread from being preempted for
//! long, or accepts that others spin meanwhile.

use crate::sync::{
    AtomicU32, Mutation, Ordering, UnsafeCell, const_unless_loom, let_others_run, unless,
};

const FREE: u32 = 0;
const TAKEN: u32 = 1;

/// A `T` that one control call at a time may use.
pub(crate) struct ControlLock<T> {
    taken: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by one thread at a time, so a shared lock sends it from
// one to the next and shares it never.
unsafe impl<T: Send> Sync for ControlLock<T> {}

/// The lock is taken; this gives it back, also where the holder's closure unwinds.
struct Taken<'a>(&'a AtomicU32);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            // A model that failed is unwinding, and loom's objects are gone.
            return;
        }
        // Release: pairs with the acquire of `take`: the next holder sees the value as
        // this one left it.
        let ordering = unless(Mutation::UnlockRelaxed, Ordering::Release);
        self.0.store(FREE, ordering);
    }
}

impl<T> ControlLock<T> {
    const_unless_loom! {
        /// A free lock.
        pub(crate) fn new(value: T) -> ControlLock<T> {
            ControlLock {
                taken: AtomicU32::new(FREE),
                value: UnsafeCell::new(value),
            }
        }
    }

    /// Runs `work` on the value, alone. Blocking: waits for other control calls.
    ///
    /// `work` must not take the same lock. If it unwinds, the lock is free again, and the
    /// value is as `work` left it.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let _taken = self.take();
        #[cfg(not(loom))]
        let value = self.value.get();
        #[cfg(not(loom))]
        // SAFETY: `_taken` excludes all others until it is dropped, after `work`.
        let value = unsafe { &mut *value };
        #[cfg(loom)]
        let value = self.value.get_mut();
        #[cfg(loom)]
        // SAFETY: as above, and loom checks it.
        let value = unsafe { value.deref() };
        work(value)
    }

    fn take(&self) -> Taken<'_> {
        let mut looked: u32 = 0;
        // Acquire: pairs with the release of `Taken::drop`. Failure Relaxed: nothing is
        // concluded but that somebody holds it. Weak, since it is tried again anyway.
        while self
            .taken
            .compare_exchange_weak(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            // Looks without writing while it is taken, so that those who wait do not
            // take the cache line from each other.
            // Relaxed: only chooses when to try; the exchange acquires.
            while self.taken.load(Ordering::Relaxed) == TAKEN {
                let_others_run(looked);
                looked = looked.saturating_add(1);
            }
        }
        Taken(&self.taken)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    #[test]
    fn a_lock_can_be_a_static_and_lets_one_in_at_a_time() {
        static LOCK: ControlLock<(u64, u64)> = ControlLock::new((0, 0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        LOCK.with(|(one, two)| {
                            assert_eq!(*one, *two);
                            *one += 1;
                            *two += 1;
                        });
                    }
                });
            }
        });
        assert_eq!(LOCK.with(|value| *value), (20_000, 20_000));
    }

    #[test]
    fn a_closure_that_unwinds_gives_the_lock_back() {
        let lock = ControlLock::new(1);
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            lock.with(|value| {
                *value = 2;
                panic!("the holder's");
            })
        }));
        assert!(unwound.is_err());
        assert_eq!(lock.with(|value| *value), 2);
    }
}
