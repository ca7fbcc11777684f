// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state word of one PASID: what it says, and how it goes on.
//!
//! ```text
//!  63            32 31     29  28  27            0
//! +----------------+---------+-----+--------------+
//! |   generation   |  phase  | own |  references  |
//! +----------------+---------+-----+--------------+
//! ```
//!
//! | field | bits | meaning |
//! | --- | --- | --- |
//! | references | 28 | references held, the owner's included |
//! | own | 1 | the allocation's own reference is still held |
//! | phase | 3 | see [`Phase`] |
//! | generation | 32 | how often the PASID came free before |
//!
//! # Invariants
//! * **I4** The state is written by the owner of the allocation bit alone while
//!   `references` is 0, and by compare-exchange on the whole word, or by an
//!   addition of someone who holds a reference, while it is above 0.
//! * **I5** `own` implies `references > 0`.
//! * **I6** `references` goes from 0 to 1 only when an allocation is published. So whoever
//!   brings it to 0 is alone, ends the allocation, and gives back the bit.
//! * **I7** The generation advances when an allocation ends, before its bit is
//!   given back. A handle's generation never comes again: a slot that would have
//!   to wrap is retired and keeps its bit. Wrap time: 4.3 seconds of nothing but
//!   allocations and frees of one PASID at 10^9 a second.

const REFERENCES_BITS: u32 = 28;
const OWN_SHIFT: u32 = REFERENCES_BITS;
const PHASE_SHIFT: u32 = OWN_SHIFT + 1;
const PHASE_BITS: u32 = 3;
const GENERATION_SHIFT: u32 = PHASE_SHIFT + PHASE_BITS;

const REFERENCES: u64 = (1 << REFERENCES_BITS) - 1;
pub(crate) const OWN: u64 = 1 << OWN_SHIFT;

/// The most references that one PASID can have: 2^27.
///
/// Half of what the field holds, because a holder adds first and looks then: it
/// would take 2^27 threads in the middle of that to reach the next field.
pub(crate) const REFERENCES_LAST: u64 = 1 << (REFERENCES_BITS - 1);

const _: () = assert!(GENERATION_SHIFT == 32, "the fields fill the word");

/// Where a PASID is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not allocated, or not published yet, or ended.
    Dead = 0,
    /// Allocated; new references may be taken.
    Live = 1,
    /// Revoked; holders keep their references, nobody gets a new one.
    Freeing = 2,
    /// Reserved: never allocated.
    Reserved = 3,
    /// Out of generations: never allocated again.
    Retired = 4,
}

/// One value of the state word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(pub(crate) u64);

impl State {
    pub(crate) const fn new(generation: u32, phase: Phase) -> State {
        State((generation as u64) << GENERATION_SHIFT | (phase as u64) << PHASE_SHIFT)
    }

    /// Just allocated: one reference, the owner's own.
    pub(crate) const fn allocated(generation: u32) -> State {
        State(State::new(generation, Phase::Live).0 | OWN | 1)
    }

    /// The state after the allocation of `generation` has ended (I7).
    pub(crate) const fn ended(generation: u32) -> State {
        match generation.checked_add(1) {
            Some(next) => State::new(next, Phase::Dead),
            None => State::new(generation, Phase::Retired),
        }
    }

    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }

    pub(crate) const fn references(self) -> u64 {
        self.0 & REFERENCES
    }

    pub(crate) const fn own(self) -> bool {
        self.0 & OWN != 0
    }

    /// Whether the PASID is reserved.
    pub(crate) const fn is_reserved(self) -> bool {
        self.is(Phase::Reserved)
    }

    pub(crate) const fn is(self, phase: Phase) -> bool {
        self.0 >> PHASE_SHIFT & ((1 << PHASE_BITS) - 1) == phase as u64
    }

    pub(crate) const fn with_phase(self, phase: Phase) -> State {
        let cleared = self.0 & !(((1 << PHASE_BITS) - 1) << PHASE_SHIFT);
        State(cleared | (phase as u64) << PHASE_SHIFT)
    }

    /// Whether new references are given out: live, with a reference held.
    #[inline(always)]
    const fn is_live(self) -> bool {
        // One comparison for both: of the states below the generation, those from the
        // first live one with a reference up to the last (I5 leaves out own without any).
        let first = (Phase::Live as u32) << PHASE_SHIFT | 1;
        (self.0 as u32).wrapping_sub(first) < (1 << PHASE_SHIFT) - 1
    }

    /// Why this state gives nobody a reference, if it does not.
    #[inline(always)]
    pub(crate) const fn live(self) -> Result<(), Refusal> {
        if self.is_live() {
            Ok(())
        } else if self.references() > 0 {
            Err(Refusal::BeingFreed)
        } else if self.is(Phase::Reserved) {
            Err(Refusal::Reserved)
        } else {
            Err(Refusal::NotLive)
        }
    }

    /// Whether the state is of `generation`, where one is asked for.
    #[inline(always)]
    pub(crate) const fn of(self, generation: Option<u32>) -> Result<(), Refusal> {
        match generation {
            Some(generation) if generation != self.generation() => Err(Refusal::NotLive),
            _ => Ok(()),
        }
    }

    /// One reference less: ended, if it was the last.
    #[inline(always)]
    pub(crate) const fn less_one(self) -> State {
        if self.references() == 1 {
            State::ended(self.generation())
        } else {
            State(self.0 - 1)
        }
    }
}

/// Why a slot refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nothing is allocated here, or not what was asked for.
    NotLive,
    /// Allocated, and revoked.
    BeingFreed,
    /// A reserved PASID.
    Reserved,
    /// The count of references is at its highest.
    TooManyReferences,
}

/// What giving back a reference left.
#[must_use = "the last reference's bit must be given back"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Others hold references.
    Held,
    /// Nothing: the allocation has ended and its bit must be given back.
    Nothing,
    /// Nothing, and the PASID is out of generations: its bit stays.
    Retired,
}

impl Left {
    pub(crate) const fn after(state: State) -> Left {
        if state.references() > 0 {
            Left::Held
        } else if state.is(Phase::Retired) {
            Left::Retired
        } else {
            Left::Nothing
        }
    }
}
