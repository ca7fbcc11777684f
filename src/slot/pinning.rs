// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pinning: a PASID whose last reference is gone is kept from reuse as long as it is
//! pinned. And the end of the wait for a flush, the other thing that keeps one.
//!
//! ```text
//! live(n) or freeing(n), pinned --last put--> kept --unpin--> awaits a flush, or dead
//!            +--unpin--> the same, not pinned
//! ```
//!
//! # Invariants
//! * **P1** A pin is set by who holds a reference, and taken away by who set it, once.
//! * **P2** While an allocation is pinned, its end is a compare-exchange: it and the taking
//!   away of the pin are steps on one word, and whichever comes second goes on with the
//!   PASID. A kept slot is written by whoever takes the pin away alone.

use super::Slot;
use crate::reuse::Reuse;
use crate::state::{Left, REFERENCE, Refusal, SetIndex, State};
#[cfg(loom)]
use crate::sync::planted;
use crate::sync::{Mutation, Ordering, mutated, unless};

impl Slot {
    /// Pins the allocation, for a caller who holds a reference. `false` if it is pinned.
    ///
    /// Lock-free: it goes round only when another thread changed the state.
    pub(crate) fn pin(&self) -> bool {
        // Relaxed: nothing is published; the last put reads the pin in the word that it
        // exchanges or subtracts from, and comes after by the caller's reference.
        let pinned = self.advance(self.state(), Ordering::Relaxed, |state| {
            if state.is_pinned() {
                Err(Refusal::BeingFreed)
            } else {
                Ok(state.pinned(true))
            }
        });
        pinned.is_ok()
    }

    /// Ends an allocation that was seen pinned when the last reference went; `state` is
    /// what it was before that.
    #[cold]
    pub(super) fn end_pinned(&self, state: State, reuse: Reuse) -> Left {
        #[cfg(loom)]
        if planted(Mutation::PinnedEndBlindly) {
            return self.end_pinned_blindly(state, reuse);
        }
        let kept = state.after_last(reuse);
        let unreferenced = State(state.0 - REFERENCE);
        // Release: as the store in `drop_held`; pairs with the acquire of `unpin`. Failure
        // Acquire: pairs with the release of `unpin`, whose holder is done with the PASID.
        let exchanged = self.state.compare_exchange(
            unreferenced.0,
            kept.0,
            unless(Mutation::EndRelaxed, Ordering::Release),
            Ordering::Acquire,
        );
        if exchanged.is_ok() {
            return Left::after(kept);
        }
        // The pin is gone, and nobody else writes the state of an allocation without
        // references (I6): nobody pins one.
        let ended = state.pinned(false).after_last(reuse);
        // Release: as above.
        self.state.store(ended.0, Ordering::Release);
        Left::after(ended)
    }

    /// Ends the wait for a flush, for who has the PASID in a batch and gives it back next.
    /// Returns the set that it was allocated from.
    ///
    /// Wait-free.
    pub(crate) fn end_waiting(&self) -> SetIndex {
        // Relaxed: whoever took the batch acquired the state that the last holder left.
        let waiting = State(self.state.load(Ordering::Relaxed));
        debug_assert!(waiting.awaits_flush() || mutated());
        // Release: pairs with the acquire of `state`: who sees that it waits no longer sees
        // that its flush is being completed. For the next owner the bit would do.
        self.state.store(
            waiting.released(Reuse::Immediate).0,
            unless(Mutation::EndRelaxed, Ordering::Release),
        );
        waiting.set()
    }

    /// Takes the pin away that the caller set on the allocation `generation` (P1). What is
    /// left then: whether the caller is to go on with the PASID, as after a last put.
    ///
    /// Lock-free: it goes round only when another thread changed the state.
    pub(crate) fn unpin(&self, generation: u32, reuse: Reuse) -> Left {
        // AcqRel: acquire pairs with the release of the last put, whose PASID is given
        // back next. Release pairs with the acquire of `end_pinned`, and of the next owner.
        let ordering = unless(Mutation::UnpinRelaxed, Ordering::AcqRel);
        let unpinned = self.advance(self.state(), ordering, |state| {
            if state.is_kept() {
                return Ok(state.released(reuse));
            }
            // Also in the instant between the last reference and the end: then that end
            // goes on without the pin.
            debug_assert!(state.generation() == generation || mutated());
            Ok(state.pinned(false))
        });
        match unpinned {
            Ok((before, after)) if before.is_kept() => Left::after(after),
            _ => Left::Held,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::state::{Phase, Sought};

    fn pinned(generation: u32) -> Slot {
        let slot = Slot::new(generation, false);
        assert_eq!(slot.publish(SetIndex::NONE, 1), generation);
        assert!(slot.pin());
        slot
    }

    #[test]
    fn one_pin_at_a_time() {
        let slot = pinned(0);
        assert!(!slot.pin());
        assert_eq!(slot.unpin(0, Reuse::Immediate), Left::Held);
        assert!(slot.pin());
    }

    #[test]
    fn a_pinned_pasid_is_found_and_revoked_like_any_other() {
        let slot = pinned(0);
        assert_eq!(slot.find(Sought::ANY), Ok((0, 1)));
        assert_eq!(slot.get(Sought::of(0)), Ok(0));
        assert_eq!(slot.revoke(Sought::of(0)), Ok(true));
        assert_eq!(slot.revoke(Sought::of(0)), Ok(false));
        assert_eq!(slot.get(Sought::of(0)), Err(Refusal::BeingFreed));
        assert!(slot.state().is_pinned());
    }

    #[test]
    fn what_is_left_by_each_way_to_end_waits_for_the_pin() {
        let ends: [fn(&Slot, Reuse) -> Left; 3] = [
            |slot, reuse| slot.free(Sought::of(4), reuse).unwrap(),
            |slot, reuse| slot.free_owned(4, SetIndex::NONE, reuse).unwrap(),
            |slot, reuse| {
                slot.disown();
                slot.drop_held(reuse)
            },
        ];
        for end in ends {
            for (reuse, left) in [
                (Reuse::Immediate, Left::Nothing),
                (Reuse::AfterFlush, Left::Waiting),
            ] {
                let slot = pinned(4);
                assert_eq!(end(&slot, reuse), Left::Kept);
                assert!(slot.state().is_kept() && !slot.state().awaits_flush());
                assert_eq!(slot.find(Sought::ANY), Err(Refusal::NotLive));
                assert_eq!(slot.get(Sought::of(5)), Err(Refusal::NotLive));
                assert_eq!(slot.put(Sought::of(5), reuse), Err(Refusal::NotLive));
                assert_eq!(slot.unpin(4, reuse), left);
                assert_eq!(slot.state().awaits_flush(), left == Left::Waiting);
                if left == Left::Waiting {
                    assert_eq!(slot.end_waiting(), SetIndex::NONE);
                }
                assert_eq!(slot.publish(SetIndex::NONE, 2), 5);
            }
        }
    }

    #[test]
    fn without_a_pin_what_is_left_follows_the_reuse() {
        for (reuse, left) in [
            (Reuse::Immediate, Left::Nothing),
            (Reuse::AfterFlush, Left::Waiting),
        ] {
            let slot = pinned(0);
            assert_eq!(slot.unpin(0, reuse), Left::Held);
            assert_eq!(slot.free(Sought::of(0), reuse), Ok(left));
        }
    }

    #[test]
    fn a_pinned_pasid_out_of_generations_is_retired_when_it_is_unpinned() {
        for reuse in [Reuse::Immediate, Reuse::AfterFlush] {
            let slot = pinned(u32::MAX);
            // Until then the other side may not have its number either.
            assert_eq!(slot.free(Sought::of(u32::MAX), reuse), Ok(Left::Kept));
            assert!(slot.state().is_kept());
            assert_eq!(slot.get(Sought::ANY), Err(Refusal::NotLive));
            assert_eq!(slot.unpin(u32::MAX, reuse), Left::Retired);
            assert_eq!(slot.state(), State::new(u32::MAX, Phase::Retired));
        }
    }
}
