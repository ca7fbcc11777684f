// SPDX-License-Identifier: MIT OR Apache-2.0
//! The quotas of the sets of one id space.
//!
//! A quota lies here and not in its set, because a PASID that awaits a flush keeps its
//! credit, and whoever completes the flush gives it back: by the set's index, which the
//! slot says, and without asking whether the set is still there.
//!
//! # Invariants
//! * **K1** A quota stays where it is as long as the id space, so a set of the id space may
//!   point to it.
//! * **K2** An index is assigned and taken back under the lock of the control calls, and taken
//!   back only when the set has no PASID in any phase, and no flush is in flight that may
//!   have had one. So no credit comes late to the next set of that index.

use crate::link::{Link, boxed};
use crate::quota::Quota;
use crate::state::SetIndex;
use crate::sync::{AtomicU32, Ordering, const_unless_loom};
use core::ptr::NonNull;

/// The quota of one set, or of none at the moment.
struct Account {
    /// The set's index; 0 while it is nobody's.
    index: AtomicU32,
    quota: Quota,
    next: Link<Account>,
}

/// The quotas of an id space.
pub(crate) struct Credits {
    first: Link<Account>,
}

/// A set's way to its quota.
///
/// # Invariant
/// The quota is in an id space that whoever has this holds (K1).
#[derive(Clone, Copy)]
pub(crate) struct QuotaRef(NonNull<Quota>);

// SAFETY: a shared reference to a Quota, which is atomics.
unsafe impl Send for QuotaRef {}
// SAFETY: as above.
unsafe impl Sync for QuotaRef {}

impl QuotaRef {
    #[inline(always)]
    pub(crate) fn quota(&self) -> &Quota {
        // SAFETY: the id space is held, and the quota stays where it is (invariant).
        unsafe { self.0.as_ref() }
    }
}

impl Credits {
    const_unless_loom! {
        /// Without quotas and without memory.
        pub(crate) fn new() -> Credits {
            Credits {
                first: Link::vacant(),
            }
        }
    }

    fn accounts(&self) -> impl Iterator<Item = &Account> {
        core::iter::successors(self.first.follow(), |account| account.next.follow())
    }

    /// A quota of `limit` for the set of that index. `None` if there is no memory.
    ///
    /// Context: a control call that holds the lock (K2).
    pub(crate) fn assign(&self, index: SetIndex, limit: u32) -> Option<QuotaRef> {
        let number = u32::from(index.get());
        let mut end = &self.first;
        while let Some(account) = end.follow() {
            // Relaxed: written under the lock alone.
            if account.index.load(Ordering::Relaxed) == 0 {
                account.quota.renew(limit);
                // Release: pairs with `of`: who finds the set's quota sees it renewed.
                account.index.store(number, Ordering::Release);
                return Some(QuotaRef(NonNull::from(&account.quota)));
            }
            end = &account.next;
        }
        let build = |place: *mut Account| {
            let account = Account {
                index: AtomicU32::new(number),
                quota: Quota::new(limit),
                next: Link::vacant(),
            };
            // SAFETY: `boxed` gives a place that is valid for writes of an Account.
            unsafe { place.write(account) };
        };
        // SAFETY: `build` writes a whole Account.
        let account = unsafe { boxed(build) }?;
        Some(QuotaRef(NonNull::from(&end.publish(account).quota)))
    }

    /// Takes the quota of that index back, when its set goes.
    ///
    /// Context: a control call that holds the lock (K2).
    pub(crate) fn take_back(&self, index: SetIndex) {
        for account in self.accounts() {
            // Relaxed: written under the lock alone.
            if account.index.load(Ordering::Relaxed) == u32::from(index.get()) {
                // Relaxed: nobody looks for it any more (K2).
                account.index.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Whether no set has a quota here, or ever had.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.follow().is_none()
    }

    /// The quota of that index, if there is one.
    ///
    /// Wait-free, bounded by the number of sets with a quota.
    pub(crate) fn of(&self, index: SetIndex) -> Option<&Quota> {
        if index == SetIndex::NONE {
            // What is nobody's at the moment has that index too.
            return None;
        }
        // Acquire: pairs with `assign`.
        let is = |account: &Account| account.index.load(Ordering::Acquire);
        let mut accounts = self.accounts();
        let account = accounts.find(|account| is(account) == u32::from(index.get()))?;
        Some(&account.quota)
    }

    /// Bytes of memory beside the id space itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.accounts().count() * size_of::<Account>()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn index(number: u16) -> SetIndex {
        SetIndex::new(number).unwrap()
    }

    #[test]
    fn a_quota_is_found_by_its_index_until_it_is_taken_back() {
        let credits = Credits::new();
        assert!(credits.is_empty() && credits.of(index(1)).is_none());
        credits.assign(index(1), 10).unwrap();
        let second = credits.assign(index(2), 20).unwrap();
        assert_eq!(second.quota().take(), Ok(()));
        assert_eq!(credits.of(index(1)).unwrap().limit(), 10);
        let found = credits.of(index(2)).unwrap();
        assert_eq!((found.limit(), found.used()), (20, 1));
        credits.take_back(index(1));
        assert!(credits.of(index(1)).is_none() && !credits.is_empty());
        assert!(credits.of(SetIndex::NONE).is_none());
    }

    #[test]
    fn what_was_taken_back_is_assigned_again_as_if_it_were_new() {
        let credits = Credits::new();
        let first = credits.assign(index(1), 3).unwrap();
        let first = first.quota();
        assert_eq!((first.take(), first.take()), (Ok(()), Ok(())));
        first.withdraw();
        first.give_back();
        credits.take_back(index(1));
        let bytes = credits.memory_bytes();
        let again = credits.assign(index(7), 5).unwrap();
        let again = again.quota();
        assert_eq!((again.limit(), again.used(), again.high_water()), (5, 0, 0));
        assert_eq!(again.allocations(), 0);
        assert_eq!(credits.memory_bytes(), bytes);
    }
}
