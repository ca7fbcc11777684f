// SPDX-License-Identifier: MIT OR Apache-2.0
//! One PASID's state word and its owner's word, and every transition of the two.
//! `state.rs` has the word's fields and the invariants I4 to I7.
//!
//! # Why a look-up needs no read-modify-write
//! `find` loads the state, the word, and the state again. The next owner stores
//! its word with release, after it acquired the bit, which the last holder gave
//! back after it wrote the dead state. So whoever acquires the next owner's word
//! sees at least the dead state in the second load, and the generations differ.

use crate::reuse::Reuse;
use crate::state::{
    Left, OWN, Phase, REFERENCE, REFERENCES_LAST, Refusal, SetIndex, Sought, State,
};
use crate::sync::{AtomicU64, Mutation, Ordering, fence, mutated, planted, unless};

#[cfg(loom)]
mod mutants;
mod pinning;
mod seizing;

pub(crate) use seizing::Taken;

/// One PASID's state and its owner's word: 16 bytes.
pub struct Slot {
    state: AtomicU64,
    word: AtomicU64,
}

const _: () = assert!(cfg!(loom) || size_of::<Slot>() == 16);

impl Slot {
    /// A slot whose first allocation has generation `floor`.
    pub(crate) fn new(floor: u32, reserved: bool) -> Slot {
        let phase = if reserved {
            Phase::Reserved
        } else {
            Phase::Dead
        };
        Slot {
            state: AtomicU64::new(State::new(floor, phase).0),
            word: AtomicU64::new(0),
        }
    }

    /// The state, with everything that was written before it was.
    #[inline(always)]
    pub(crate) fn state(&self) -> State {
        // Acquire: pairs with the release of `publish` and of every transition:
        // the owner's word of the state seen, or a later one, is visible.
        State(self.state.load(Ordering::Acquire))
    }

    /// Publishes an allocation from `set`, for the taker of the bit. Returns its generation.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn publish(&self, set: SetIndex, word: u64) -> u32 {
        // Relaxed: the taker of the bit acquired the state that the last holder
        // left before giving the bit back (I2, I4).
        let dead = State(self.state.load(Ordering::Relaxed));
        debug_assert!(dead.is(Phase::Dead) || mutated());
        debug_assert!(dead.references() == 0 || mutated());
        // Release: pairs with the acquire load of the word in `find`. See the
        // head of this file.
        self.word
            .store(word, unless(Mutation::WordRelaxed, Ordering::Release));
        // Release: pairs with the acquire loads and exchanges of the state: who
        // sees the allocation live sees its word.
        let ordering = unless(Mutation::GoLiveRelaxed, Ordering::Release);
        self.state
            .store(State::allocated(dead.generation(), set).0, ordering);
        dead.generation()
    }

    /// Goes from one state to the next that `step` names, until it refuses or
    /// the exchange succeeds. Returns both states. `current` is the state, or a
    /// guess that the exchange will correct.
    ///
    /// Lock-free: it goes round only when another thread changed the state.
    #[inline(always)]
    fn advance(
        &self,
        mut current: State,
        success: Ordering,
        step: impl Fn(State) -> Result<State, Refusal>,
    ) -> Result<(State, State), Refusal> {
        #[cfg(loom)]
        if planted(Mutation::AdvanceInTwoSteps) {
            return self.advance_in_two_steps(step);
        }
        loop {
            let next = step(current)?;
            // Success ordering: named and argued for by the caller. Failure
            // Acquire: as in `state`, since `step` judges the state it brings.
            match self
                .state
                .compare_exchange_weak(current.0, next.0, success, Ordering::Acquire)
            {
                Ok(_) => return Ok((current, next)),
                Err(actual) => current = State(actual),
            }
        }
    }

    /// Takes a reference to the allocation that is meant. Returns its generation.
    #[inline(always)]
    pub(crate) fn get(&self, sought: Sought) -> Result<u32, Refusal> {
        #[cfg(loom)]
        if planted(Mutation::GetByAddition) {
            return self.get_by_addition(sought);
        }
        // AcqRel: acquire pairs with the release of `publish`. Release pairs with the
        // acquire of `state`: who sees the reference counted sees what its holder did
        // before, such as giving back another PASID; a scan could miss that otherwise.
        let ordering = match planted(Mutation::GetWithoutRelease) {
            true => Ordering::Acquire,
            false => Ordering::AcqRel,
        };
        let (state, _) = self.advance(self.state(), ordering, |state| {
            state.of(sought)?;
            if !planted(Mutation::GetFromNothing) {
                state.live()?;
            }
            if state.references() >= REFERENCES_LAST {
                return Err(Refusal::TooManyReferences);
            }
            Ok(State(state.0 + REFERENCE))
        })?;
        Ok(state.generation())
    }

    /// Takes one more reference, for a caller who holds one.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn hold(&self) -> Result<(), Refusal> {
        // Relaxed: the caller's own reference keeps the allocation, and what it
        // published is visible to the caller already.
        let state = State(self.state.fetch_add(REFERENCE, Ordering::Relaxed));
        if state.references() < REFERENCES_LAST {
            return Ok(());
        }
        // Relaxed: takes back the addition just made; the caller's own reference
        // is still counted, so this cannot be the last.
        self.state.fetch_sub(REFERENCE, Ordering::Relaxed);
        Err(Refusal::TooManyReferences)
    }

    /// Takes `count` more references at once, or none, for a caller who holds one.
    ///
    /// Lock-free: it goes round only when another thread changed the state.
    pub(crate) fn hold_more(&self, count: u32) -> Result<(), Refusal> {
        let count = u64::from(count);
        // Relaxed: as in `hold`.
        self.advance(self.state(), Ordering::Relaxed, |state| {
            if state.references() + count > REFERENCES_LAST {
                return Err(Refusal::TooManyReferences);
            }
            Ok(State(state.0 + count * REFERENCE))
        })?;
        Ok(())
    }

    /// Gives back `count` references at once, for a caller who holds more than that.
    ///
    /// Wait-free.
    pub(crate) fn drop_more(&self, count: u32) {
        // Release: pairs with the acquire of whoever is last, which is not this call.
        let given = u64::from(count) * REFERENCE;
        let state = State(self.state.fetch_sub(given, Ordering::Release));
        debug_assert!(state.references() > u64::from(count));
    }

    /// Gives back a reference that the caller holds and that is not the own one.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn drop_held(&self, reuse: Reuse) -> Left {
        // Release: pairs with the acquire fence below, of whoever is last: what
        // this holder did comes before the end of the allocation.
        let ordering = unless(Mutation::PutRelaxed, Ordering::Release);
        let state = State(self.state.fetch_sub(REFERENCE, ordering));
        debug_assert!(state.references() > 0 || mutated());
        if state.references() > 1 {
            return Left::Held;
        }
        // Acquire: pairs with the releases of all who gave their references back.
        fence(Ordering::Acquire);
        if state.is_pinned() {
            return self.end_pinned(state, reuse);
        }
        let ended = state.after_last(reuse);
        // Release: pairs with the acquire of `state`: who sees the allocation ended
        // sees what its holders did. Nobody else writes the state now (I6), and for
        // the next owner the bit would do, which the caller gives back with release.
        let ordering = unless(Mutation::EndRelaxed, Ordering::Release);
        self.state.store(ended.0, ordering);
        Left::after(ended)
    }

    /// Gives back a reference to the allocation that is meant, checked.
    pub(crate) fn put(&self, sought: Sought, reuse: Reuse) -> Result<Left, Refusal> {
        // AcqRel: release pairs with the acquire of whoever ends the allocation;
        // acquire, if that is this call, with the releases of all other puts.
        let (_, next) = self.advance(self.state(), Ordering::AcqRel, |state| {
            state.of(sought)?;
            // The own reference is given back by `free` alone. A kept slot says *own*
            // without any.
            if state.references() <= u64::from(state.own()) {
                return Err(Refusal::NotLive);
            }
            Ok(state.less_one(reuse))
        })?;
        Ok(Left::after(next))
    }

    /// Revokes the allocation that is meant and gives back its own reference, if that is
    /// still held.
    #[inline(always)]
    pub(crate) fn free(&self, sought: Sought, reuse: Reuse) -> Result<Left, Refusal> {
        self.free_from(self.state(), sought, reuse)
    }

    /// The same, for the owner: nobody else will often be there, so it guesses that
    /// and spares the load.
    #[inline(always)]
    pub(crate) fn free_owned(
        &self,
        generation: u32,
        set: SetIndex,
        reuse: Reuse,
    ) -> Result<Left, Refusal> {
        let guess = State::allocated(generation, set);
        self.free_from(guess, Sought::of(generation), reuse)
    }

    #[inline(always)]
    fn free_from(&self, current: State, sought: Sought, reuse: Reuse) -> Result<Left, Refusal> {
        #[cfg(loom)]
        let judged_early = self.own_judged_early();
        // AcqRel: acquire and release as in `put`.
        let (_, next) = self.advance(current, Ordering::AcqRel, |state| {
            state.of(sought)?;
            if state.references() == 0 {
                return Err(Refusal::NotLive);
            }
            let revoked = state.revoked();
            let own = state.own();
            #[cfg(loom)]
            let own = judged_early.unwrap_or(own);
            if own {
                Ok(State(revoked.0 & !OWN).less_one(reuse))
            } else {
                Ok(revoked)
            }
        })?;
        Ok(Left::after(next))
    }

    /// Revokes the allocation that is meant. Revoking twice is no error; returns whether
    /// it was this call that did it.
    pub(crate) fn revoke(&self, sought: Sought) -> Result<bool, Refusal> {
        // Release: pairs with the acquire of `state`: who is told that the
        // allocation is being freed sees what came before that.
        let ordering = unless(Mutation::RevokeRelaxed, Ordering::Release);
        self.advance(self.state(), ordering, |state| {
            state.of(sought)?;
            match state.references() {
                0 => Err(Refusal::NotLive),
                _ => Ok(state.revoked()),
            }
        })
        .map(|(before, _)| before.live().is_ok())
    }

    /// Makes the own reference one like any other, for the owner.
    ///
    /// Wait-free.
    pub(crate) fn disown(&self) {
        // Relaxed: the reference stays held; nothing is given back or published.
        let state = State(self.state.fetch_and(!OWN, Ordering::Relaxed));
        debug_assert!(state.own() && state.references() > 0 || mutated());
    }

    /// The owner's word, for a caller who holds a reference.
    #[inline(always)]
    pub(crate) fn word(&self) -> u64 {
        // Acquire: pairs with the release of `replace`: who sees a word sees what
        // was written before it was put there.
        self.word
            .load(unless(Mutation::WordRelaxed, Ordering::Acquire))
    }

    /// Replaces the owner's word, for a caller who holds a reference.
    #[inline(always)]
    pub(crate) fn replace(&self, word: u64) -> u64 {
        #[cfg(loom)]
        if planted(Mutation::ReplaceInTwoSteps) {
            return self.replace_in_two_steps(word);
        }
        // AcqRel: release pairs with the acquire of `word` and `find`; acquire
        // with the release of whoever put the old word there.
        self.word.swap(word, Ordering::AcqRel)
    }

    /// The generation and word of the live allocation, if it is the one that is meant,
    /// without writing anything.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn find(&self, sought: Sought) -> Result<(u32, u64), Refusal> {
        let before = self.state();
        before.of(sought)?;
        before.live()?;
        let word = self.word();
        // Acquire: pairs with the release of every transition, for who is told that
        // the allocation ended. It is the acquire of the word that puts this load
        // after it; see the head of this file.
        let ordering = unless(Mutation::FindRelaxed, Ordering::Acquire);
        let after = State(self.state.load(ordering));
        if after != before {
            if after.generation() != before.generation() {
                // It ended in between; at that moment nothing was live here.
                return Err(Refusal::NotLive);
            }
            after.live()?;
        }
        Ok((before.generation(), word))
    }

    /// Marks the PASID reserved, for the taker of its bit.
    pub(crate) fn reserve(&self) {
        // Relaxed: the taker of the bit acquired the last state, as in `publish`.
        let dead = State(self.state.load(Ordering::Relaxed));
        // Release: pairs with the acquire of `unreserve`.
        self.state
            .store(dead.with_phase(Phase::Reserved).0, Ordering::Release);
    }

    /// Takes the reservation away. The caller who succeeds owns the bit.
    pub(crate) fn unreserve(&self) -> Result<(), Refusal> {
        // AcqRel: acquire pairs with the release of `reserve`; release, with the
        // bit that is given back next.
        self.advance(self.state(), Ordering::AcqRel, |state| match state.live() {
            Err(Refusal::Reserved) => Ok(state.with_phase(Phase::Dead)),
            _ => Err(Refusal::NotLive),
        })
        .map(|_| ())
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
