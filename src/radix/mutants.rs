// SPDX-License-Identifier: MIT OR Apache-2.0
//! What giving a tree its identity must not be.
//!
//! Only the models have these: a canary plants one, and its model must notice.

use super::Tree;
use crate::sync::Ordering;

impl Tree {
    /// Writes over an identity that another thread gave, and has made handles of.
    pub(super) fn identify_blindly(&self, new: u32) -> u32 {
        // Relaxed: as in `identify`.
        self.identity.store(new, Ordering::Relaxed);
        new
    }
}
