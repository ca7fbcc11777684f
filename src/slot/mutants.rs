// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the transitions of a slot must not be.
//!
//! Only the models have these: a canary plants one, and its model must notice.

use super::{Slot, Taken};
use crate::reuse::Reuse;
use crate::state::{Left, REFERENCE, Refusal, Sought, State};
use crate::sync::{Mutation, Ordering, planted};

impl Slot {
    /// The newest state. A plain load might read an older one, which the real step
    /// cannot.
    fn newest(&self) -> State {
        // Ordering: acquire and release, the strongest that there is.
        State(self.state.fetch_or(0, Ordering::AcqRel))
    }

    /// `advance` that loses whatever happens between its two steps.
    pub(super) fn advance_in_two_steps(
        &self,
        step: impl Fn(State) -> Result<State, Refusal>,
    ) -> Result<(State, State), Refusal> {
        let current = self.newest();
        let next = step(current)?;
        // Release: as the exchange would.
        self.state.store(next.0, Ordering::Release);
        Ok((current, next))
    }

    /// The end of a pinned allocation that does not notice that the pin was taken away.
    pub(super) fn end_pinned_blindly(&self, state: State, reuse: Reuse) -> Left {
        let kept = state.after_last(reuse);
        // Release: as the exchange would.
        self.state.store(kept.0, Ordering::Release);
        Left::after(kept)
    }

    /// `get` that writes before it knows that the allocation is there, and so into the
    /// next owner's count.
    pub(super) fn get_by_addition(&self, sought: Sought) -> Result<u32, Refusal> {
        // Ordering: acquire and release, the strongest that such a get could ask for.
        let state = State(self.state.fetch_add(REFERENCE, Ordering::AcqRel));
        let verdict = state.of(sought).and_then(|()| state.live());
        if verdict.is_err() {
            // Ordering: as above.
            self.state.fetch_sub(REFERENCE, Ordering::AcqRel);
        }
        verdict.map(|()| state.generation())
    }

    /// What `free` goes by if it looks at the own reference ahead of its step.
    pub(super) fn own_judged_early(&self) -> Option<bool> {
        planted(Mutation::FreeJudgesEarly).then(|| self.newest().own())
    }

    /// `replace` that may return a word twice and lose another.
    pub(super) fn replace_in_two_steps(&self, word: u64) -> u64 {
        // Ordering: acquire and release, as in `replace`; reads the newest word.
        let old = self.word.fetch_or(0, Ordering::AcqRel);
        // Ordering: as above.
        self.word.swap(word, Ordering::AcqRel);
        old
    }

    /// `seize` that lets two in.
    pub(super) fn seize_in_two_steps(&self) -> Result<u32, Taken> {
        let current = self.newest();
        let next = super::seizing::seized(current)?;
        // Release: as the exchange would.
        self.state.store(next.0, Ordering::Release);
        Ok(current.generation())
    }
}
