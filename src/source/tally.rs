// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counting a set's PASIDs by phase.

use super::Source;
use crate::listing::Iter;
use crate::state::{Sought, State};
use crate::sync::{Mutation, planted};

/// PASIDs of a set, by phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) live: u32,
    pub(crate) freeing: u32,
    pub(crate) waiting: u32,
    /// Of those whose last reference is gone.
    pub(crate) pinned: u32,
}

impl Source {
    /// Whether no PASID of the set is held in any phase.
    pub(crate) fn is_empty(&self) -> bool {
        self.tally() == Tally::default()
    }

    /// How many PASIDs of the set are in which phase.
    pub(crate) fn tally(&self) -> Tally {
        let closing = self.is_closing();
        let mut held = Iter::new(self.ids(), self.range(), Sought::ANY);
        let mut tally = Tally::default();
        while let Some((_, slot)) = held.next_held() {
            let state = slot.state();
            if state.set() != self.index {
                continue;
            }
            if state.is_kept() {
                tally.pinned += 1;
            } else if state.awaits_flush() {
                tally.waiting += 1;
            } else if state.live().is_ok() && !closing {
                tally.live += 1;
            } else if state.references() > 0 || is_ending(state) {
                tally.freeing += 1;
            }
        }
        tally
    }
}

/// Whether the last reference is just going: it waits, or is free, only when that is done.
fn is_ending(state: State) -> bool {
    state.is_ending() && !planted(Mutation::EndingNotCounted)
}
