// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the transitions of a quota must not be.
//!
//! Only the models have these: a canary plants one, and its model must notice.

use super::{ALLOCATION, Credits, FIELD, Quota, USED};
use crate::sync::Ordering;

impl Quota {
    /// The newest word. A plain load might read an older one, which the real step cannot.
    fn newest(&self) -> Credits {
        // Ordering: acquire and release, the strongest that there is.
        Credits(self.word.fetch_or(0, Ordering::AcqRel))
    }

    /// `take_many` that looks first and adds then.
    pub(super) fn take_in_two_steps(&self, count: u32) -> Result<(), u32> {
        self.newest().taken(count)?;
        let more = (USED + ALLOCATION).wrapping_mul(count.into());
        // Ordering: acquire and release, as in `take_many`.
        self.word.fetch_add(more, Ordering::AcqRel);
        Ok(())
    }

    /// `adjust` that looks at what is used first and writes the limit then.
    pub(super) fn adjust_forgetting_use(&self, limit: u32) -> Result<u32, u32> {
        let seen = self.newest();
        seen.limited(limit)?;
        let difference = u64::from(limit).wrapping_sub(seen.0 & FIELD);
        // Ordering: acquire and release, as in `adjust`.
        self.word.fetch_add(difference, Ordering::AcqRel);
        Ok(seen.limit())
    }
}
