// SPDX-License-Identifier: MIT OR Apache-2.0
//! What publishing a child must not be.
//!
//! Only the models have these: a canary plants one, and its model must notice.

use super::Link;
use crate::sync::Ordering;
use heap::boxed::Box;

impl<T> Link<T> {
    /// Publishes over what is there, if it sees that at all.
    pub(super) fn publish_blindly(&self, new: Box<T>) -> &T {
        let new = Box::into_raw(new);
        // Relaxed: what is seen does not matter here, which is the mistake.
        let seen = self.0.load(Ordering::Relaxed);
        // Ordering: release and acquire, as in `publish`.
        let child = match self
            .0
            .compare_exchange(seen, new, Ordering::Release, Ordering::Acquire)
        {
            Ok(_) => new,
            Err(winner) => winner,
        };
        // SAFETY: just published by this call or another; it stays, as `follow` says.
        unsafe { &*child }
    }
}
