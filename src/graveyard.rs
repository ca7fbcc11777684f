// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets whose last reference an attachment or a fault gave back.
//!
//! Ending an attachment is a data call: it may stand in an interrupt handler, and frees no
//! memory. So the set that goes with it is laid aside in its table, in a list that data
//! calls add to by one exchange, and control calls of the table, or the table's end, take
//! whole.
//!
//! # Invariants
//! * **G1** What is in the list has no reference left, and is in one list, once.
//! * **G2** The list is taken whole, so the exchange that adds compares no pointer that
//!   could have gone and come back.

use crate::counted::Counted;
use crate::source::Source;
#[cfg(loom)]
use crate::sync::planted;
use crate::sync::{AtomicPtr, Mutation, Ordering, unless};
use core::ptr::{self, NonNull};

#[cfg(loom)]
mod mutants;

/// A list of sets without references.
pub(crate) struct Graveyard {
    first: AtomicPtr<Source>,
}

impl Graveyard {
    pub(crate) fn new() -> Graveyard {
        Graveyard {
            first: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Gives a reference back, and lays the set aside if it was the last.
    ///
    /// Lock-free: it goes round only when another thread added one.
    pub(crate) fn give_back(&self, source: Counted<Source>) {
        if let Some(last) = source.give_back() {
            self.bury(last);
        }
    }

    #[cold]
    fn bury(&self, last: NonNull<Source>) {
        // SAFETY: it has no reference left and is not dropped before it is in the list.
        let buried = &unsafe { last.as_ref() }.buried_before;
        // Relaxed: only chooses what to exchange.
        let mut first = self.first.load(Ordering::Relaxed);
        #[cfg(loom)]
        if planted(Mutation::BuryInTwoSteps) {
            return self.bury_in_two_steps(last, buried);
        }
        loop {
            // Relaxed: published by the exchange.
            buried.store(first, Ordering::Relaxed);
            // Release: pairs with the acquire of `empty`: who takes the list sees where it
            // goes on, and all that was done to the set. Failure Relaxed: as above.
            match self.first.compare_exchange_weak(
                first,
                last.as_ptr(),
                unless(Mutation::BuryRelaxed, Ordering::Release),
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(actual) => first = actual,
            }
        }
    }

    /// Drops what is in the list. For control calls.
    pub(crate) fn empty(&self) {
        // Acquire: pairs with the release of `bury`.
        let mut next = self.first.swap(ptr::null_mut(), Ordering::Acquire);
        while let Some(last) = NonNull::new(next) {
            // SAFETY: in the list, so it is there until it is dropped below (G1).
            let before = &unsafe { last.as_ref() }.buried_before;
            // Relaxed: the swap acquired it.
            next = before.load(Ordering::Relaxed);
            // SAFETY: from `give_back` of the last reference, and out of the list (G1).
            unsafe { Counted::drop_last(last) };
        }
    }
}

impl Drop for Graveyard {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            // A model that failed is unwinding, and loom's objects are gone.
            return;
        }
        self.empty();
    }
}
