// SPDX-License-Identifier: MIT OR Apache-2.0
//! What taking a bit must not be.
//!
//! Only the models have these: a canary plants one, and its model must notice.

use super::{Bitmap, WORD_BITS};
use crate::sync::Ordering;

impl Bitmap {
    /// Looks in one step and takes in another: two threads may both find it free.
    pub(super) fn take_in_two_steps(&self, position: u32) -> bool {
        let word = self.word(position / WORD_BITS);
        let bit = 1u64 << (position % WORD_BITS);
        // Ordering: acquire and release, as in `take`; reads the newest word.
        let old = word.fetch_or(0, Ordering::AcqRel);
        // Ordering: as above.
        word.fetch_or(bit, Ordering::AcqRel);
        old & bit == 0
    }
}
