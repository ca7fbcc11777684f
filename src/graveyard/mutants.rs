// SPDX-License-Identifier: MIT OR Apache-2.0
//! What laying a set aside must not be.
//!
//! Only the models have this: a canary plants it, and its model must notice.

use super::Graveyard;
use crate::source::Source;
use crate::sync::{AtomicPtr, Ordering};
use core::ptr::{self, NonNull};

impl Graveyard {
    /// `bury` that loses what another thread adds between its two steps.
    pub(super) fn bury_in_two_steps(&self, last: NonNull<Source>, buried: &AtomicPtr<Source>) {
        let none = ptr::null_mut();
        // Acquire: by an exchange, because a plain load might read an older one.
        let newest = self
            .first
            .compare_exchange(none, none, Ordering::Acquire, Ordering::Acquire);
        let (Ok(newest) | Err(newest)) = newest;
        // Relaxed: as in `bury`.
        buried.store(newest, Ordering::Relaxed);
        // Release: as the exchange would.
        self.first.store(last.as_ptr(), Ordering::Release);
    }
}
