// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two threads of which the second may come after the first.

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::beside;
use std::sync::Arc;

/// Runs both beside each other like `beside`; but where the second begins after the first
/// has ended, it sees all that the first did. So the first iteration shows nothing weak.
pub fn beside_in_turn<A: 'static, B: 'static>(
    first: impl FnOnce() -> A + 'static,
    second: impl FnOnce() -> B + 'static,
) -> (A, B) {
    let ended = Arc::new(AtomicU64::new(0));
    let tells = ended.clone();
    beside(
        move || {
            let result = first();
            // Release: pairs with the acquire of the second.
            tells.fetch_add(1, Ordering::Release);
            result
        },
        move || {
            // Acquire: as above. An addition, because it reads the newest value.
            ended.fetch_add(0, Ordering::Acquire);
            second()
        },
    )
}
