// SPDX-License-Identifier: MIT OR Apache-2.0
//! A slot that has no allocation bit: whoever brings its state from dead to reserved owns
//! it, as the taker of the bit owns the slot of a PASID.
//!
//! ```text
//! dead(g) --seize--> reserved(g) --go_live--> live(g) --> as in slot.rs --> dead(g + 1)
//!                        +--back_out--> dead(g + 1)
//! ```
//!
//! # Invariants
//! * **S1** Between `seize` and `go_live` or `back_out` the state is written by nobody
//!   else: every other transition refuses one that has no references.
//! * **S2** A generation is seized once. It advances also where a seizure is backed out, so
//!   that its handle never names another (I7).

use super::Slot;
use crate::state::{Left, Phase, Refusal, SetIndex, State};
#[cfg(loom)]
use crate::sync::planted;
use crate::sync::{Mutation, Ordering, unless};

/// Why a slot cannot be seized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Another has seized it, and has not gone live.
    Reserved,
    /// It is live.
    Live,
    /// It was freed, and references are still held.
    Draining,
    /// It is out of generations: nobody seizes it again.
    Retired,
}

/// The state after a seizure.
pub(super) fn seized(state: State) -> Result<State, Taken> {
    if state.is(Phase::Dead) {
        Ok(state.with_phase(Phase::Reserved))
    } else if state.is(Phase::Reserved) {
        Err(Taken::Reserved)
    } else if state.is(Phase::Retired) {
        Err(Taken::Retired)
    } else if state.live().is_ok() {
        Err(Taken::Live)
    } else {
        // Being freed, or live for the instant between its last reference and its end.
        Err(Taken::Draining)
    }
}

impl Slot {
    /// Reserves a dead slot, for whoever is first. Returns the generation.
    ///
    /// Lock-free: it goes round only when another thread changed the state.
    pub(crate) fn seize(&self) -> Result<u32, Taken> {
        #[cfg(loom)]
        if planted(Mutation::ReserveInTwoSteps) {
            return self.seize_in_two_steps();
        }
        let mut current = self.state();
        loop {
            let next = seized(current)?;
            // AcqRel: acquire pairs with the release of whoever ended the last
            // generation: its reads come before what is written for the next. Release
            // pairs with the acquire of `state`: who is told that the slot is reserved
            // sees what came before that. Failure Acquire: as in `state`.
            match self.state.compare_exchange_weak(
                current.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(current.generation()),
                Err(actual) => current = State(actual),
            }
        }
    }

    /// Stores the owner's word, for who has seized the slot.
    ///
    /// Wait-free.
    pub(crate) fn set_word(&self, word: u64) {
        // Release: pairs with the acquire load of the word in `find`, as in `publish`:
        // who sees the word sees at least the state that `seize` left. See the head of
        // slot.rs.
        self.word
            .store(word, unless(Mutation::WordRelaxed, Ordering::Release));
    }

    /// Publishes what was seized as `generation`, with its own reference.
    ///
    /// Wait-free.
    pub(crate) fn go_live(&self, generation: u32) -> Result<(), Refusal> {
        let live = State::allocated(generation, SetIndex::NONE);
        // Release: pairs with the acquire loads and exchanges of the state: who sees it
        // live sees the word, and all that was written since the seizure.
        let ordering = unless(Mutation::CommitRelaxed, Ordering::Release);
        self.leave_reserved(generation, live, ordering)
    }

    /// Ends what was seized as `generation` and did not go live.
    ///
    /// Wait-free.
    pub(crate) fn back_out(&self, generation: u32) -> Result<Left, Refusal> {
        let ended = State::ended(generation);
        // Release: pairs with the acquire of `seize`: what this caller read comes before
        // what is written for the next generation.
        self.leave_reserved(generation, ended, Ordering::Release)?;
        Ok(Left::after(ended))
    }

    /// One exchange, not a load and a store, because the generation may come from a
    /// handle that was used before.
    fn leave_reserved(&self, generation: u32, to: State, success: Ordering) -> Result<(), Refusal> {
        let from = State::new(generation, Phase::Reserved);
        // Success ordering: argued for by the caller. Failure Relaxed: it is refused,
        // and nothing is concluded but that.
        self.state
            .compare_exchange(from.0, to.0, success, Ordering::Relaxed)
            .map(|_| ())
            .map_err(|_| Refusal::NotLive)
    }
}

#[cfg(all(test, not(loom), feature = "epoch"))]
impl Slot {
    /// Makes the live allocation one of `generation`, as if there had been so many.
    pub(crate) fn age(&self, generation: u32) {
        let state = self.state().0 & u64::from(u32::MAX);
        // Relaxed: one thread.
        self.state.store(
            State::new(generation, Phase::Dead).0 | state,
            Ordering::Relaxed,
        );
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::reuse::Reuse;
    use crate::state::Sought;

    #[test]
    fn a_seized_slot_is_reserved_for_one_until_it_goes_live() {
        let slot = Slot::new(5, false);
        assert_eq!(slot.seize(), Ok(5));
        assert_eq!(slot.seize(), Err(Taken::Reserved));
        slot.set_word(7);
        assert_eq!(slot.find(Sought::ANY), Err(Refusal::Reserved));
        assert_eq!(slot.get(Sought::ANY), Err(Refusal::Reserved));
        assert_eq!(
            slot.free(Sought::of(5), Reuse::Immediate),
            Err(Refusal::NotLive)
        );
        assert_eq!(
            slot.put(Sought::of(5), Reuse::Immediate),
            Err(Refusal::NotLive)
        );
        assert_eq!(slot.revoke(Sought::of(5)), Err(Refusal::NotLive));
        assert_eq!(slot.go_live(4), Err(Refusal::NotLive));
        assert_eq!(slot.go_live(5), Ok(()));
        assert_eq!(slot.go_live(5), Err(Refusal::NotLive));
        assert_eq!(slot.back_out(5), Err(Refusal::NotLive));
        assert_eq!(
            (slot.find(Sought::ANY), slot.seize()),
            (Ok((5, 7)), Err(Taken::Live))
        );
        assert_eq!(slot.get(Sought::of(5)), Ok(5));
        assert_eq!(slot.free(Sought::of(5), Reuse::Immediate), Ok(Left::Held));
        assert_eq!(slot.seize(), Err(Taken::Draining));
        assert_eq!(slot.drop_held(Reuse::Immediate), Left::Nothing);
        assert_eq!(slot.seize(), Ok(6));
    }

    #[test]
    fn a_generation_that_was_backed_out_never_comes_again() {
        let slot = Slot::new(0, false);
        assert_eq!(slot.seize(), Ok(0));
        assert_eq!(slot.back_out(1), Err(Refusal::NotLive));
        assert_eq!(slot.back_out(0), Ok(Left::Nothing));
        assert_eq!(slot.back_out(0), Err(Refusal::NotLive));
        assert_eq!(slot.seize(), Ok(1));
        assert_eq!(slot.go_live(0), Err(Refusal::NotLive));
    }

    #[test]
    fn a_slot_out_of_generations_is_not_seized_again() {
        let slot = Slot::new(u32::MAX, false);
        assert_eq!(slot.seize(), Ok(u32::MAX));
        assert_eq!(slot.back_out(u32::MAX), Ok(Left::Retired));
        assert_eq!(slot.seize(), Err(Taken::Retired));
    }
}
