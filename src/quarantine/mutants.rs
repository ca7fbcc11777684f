// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the steps of the quarantine must not be.
//!
//! Only the models have these: a canary plants one, and its model must notice.

use crate::sync::{AtomicU32, Mutation, Ordering, planted};

/// Adds bits in a way that loses those of others.
pub(super) fn add(word: &AtomicU32, bits: u32) {
    // Ordering: acquire and release, the strongest that there is; reads the newest word.
    let seen = word.fetch_or(0, Ordering::AcqRel);
    // Release: as the addition would.
    word.store(seen | bits, Ordering::Release);
}

/// What is taken if it is looked at ahead of the exchange.
pub(super) fn seen(word: &AtomicU32) -> Option<u32> {
    // Ordering: as above.
    planted(Mutation::BatchTakenInTwoSteps).then(|| word.fetch_or(0, Ordering::AcqRel))
}
