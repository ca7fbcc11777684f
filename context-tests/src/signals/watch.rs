// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the handler gets on: it would wait for ever for who holds a lock in the call that
//! it interrupted.
//!
//! Another timer counts what the thread itself runs, so that a loaded machine is no reason.

use crate::inside::Inside;
use std::cell::Cell;

/// Nanoseconds of the thread's own time between two looks.
pub const GAP: i64 = 10_000_000;
/// In the same call for so many looks, which take some hundred instructions each, a thread
/// waits.
const LOOKS: u32 = 500;

/// How many calls the handler had begun at the last look, and since how many looks.
#[derive(Default)]
pub struct Watch(Cell<(u64, u32)>);

impl Watch {
    /// One look at the calls of a thread's handler.
    pub fn look(&self, handler: &Inside) {
        let (begun, looks) = self.0.get();
        let Some(call) = handler.call().filter(|_| handler.begun() == begun) else {
            self.0.set((handler.begun(), 0));
            return;
        };
        let name = call.name();
        holds!(looks < LOOKS, "{name} waits for who is interrupted");
        self.0.set((begun, looks + 1));
    }
}
