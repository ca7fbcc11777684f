// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the steps of an attachment must not be. (`ReserveInTwoSteps` is in
//! `slot/mutants.rs`, and `CommitRelaxed` in its place.)
//!
//! Only the models have these: a canary plants one, and its model must notice.

use super::Entry;
use crate::state::Refusal;

impl<O> Entry<O> {
    /// Finds the attachment, and does not keep it.
    pub(super) fn fault_get_without_count(&self) -> Result<(u32, u64), Refusal> {
        self.find()
    }
}
