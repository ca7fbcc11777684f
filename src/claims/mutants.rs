// SPDX-License-Identifier: MIT OR Apache-2.0
//! What entering a claim must not be.
//!
//! Only the models have these: a canary plants one, and its model must notice.

use super::{Claim, ClaimLeaf, Opposed, Side};
use crate::sync::Ordering;

impl ClaimLeaf {
    /// Looks in one step and enters in another: both sides may find the value unclaimed.
    pub(super) fn enter_in_two_steps(
        &self,
        position: u32,
        seen: Claim,
        side: Side,
    ) -> Result<(), Opposed> {
        seen.admits(side)?;
        // Ordering: acquire and release, as in `enter_from`.
        self.claim(position).fetch_add(side.one(), Ordering::AcqRel);
        Ok(())
    }
}
