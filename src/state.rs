// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state word of one PASID: what it says, and how it goes on.
//!
//! ```text
//!  63            32  31  30   29  28  27          10 9       0
//! +----------------+-----+-------+-----+--------------+---------+
//! |   generation   | pin | phase | own |  references  |   set   |
//! +----------------+-----+-------+-----+--------------+---------+
//! ```
//!
//! | field | bits | meaning |
//! | --- | --- | --- |
//! | set | 10 | which of the id space's sets it was allocated from; 0 where there are none |
//! | references | 18 | references held, the owner's included |
//! | own | 1 | the allocation's own reference is still held |
//! | pin, phase | 3 | see [`Phase`]; while there are references, the upper bit says that the PASID is pinned |
//! | generation | 32 | how often the PASID came free before |
//!
//! # Invariants
//! * **I4** The state is written by the owner of the allocation bit alone while
//!   `references` is 0, and by compare-exchange on the whole word, or by an
//!   addition of someone who holds a reference, while it is above 0.
//! * **I5** `own` implies `references > 0`, but where the PASID is [kept](Phase::Waiting).
//! * **I6** `references` goes from 0 to 1 only when an allocation is published. So whoever
//!   brings it to 0 is alone, ends the allocation, and gives back the bit.
//! * **I7** The generation advances when an allocation ends, before its bit is
//!   given back. A handle's generation never comes again: a slot that would have
//!   to wrap is retired and keeps its bit. Wrap time: 4.3 seconds of nothing but
//!   allocations and frees of one PASID at 10^9 a second.

use crate::reuse::Reuse;

const SET_BITS: u32 = 10;
const REFERENCES_SHIFT: u32 = SET_BITS;
const REFERENCES_BITS: u32 = 18;
const OWN_SHIFT: u32 = REFERENCES_SHIFT + REFERENCES_BITS;
const PHASE_SHIFT: u32 = OWN_SHIFT + 1;
const PHASE_BITS: u32 = 3;
const PHASE: u64 = ((1 << PHASE_BITS) - 1) << PHASE_SHIFT;
/// The PASID of an allocation is pinned. Part of the phase, because an allocation is live
/// or being freed, and for these the upper bit is free.
const PIN: u64 = 4 << PHASE_SHIFT;
const GENERATION_SHIFT: u32 = PHASE_SHIFT + PHASE_BITS;

const SET: u64 = (1 << SET_BITS) - 1;
const REFERENCES: u64 = (1 << REFERENCES_BITS) - 1;
/// One reference.
pub(crate) const REFERENCE: u64 = 1 << REFERENCES_SHIFT;
pub(crate) const OWN: u64 = 1 << OWN_SHIFT;

/// The most references that one PASID can have: 2^17.
///
/// Half of what the field holds, because a holder adds first and looks then: it
/// would take 2^17 threads in the middle of that to reach the next field.
pub(crate) const REFERENCES_LAST: u64 = 1 << (REFERENCES_BITS - 1);

const _: () = assert!(GENERATION_SHIFT == 32, "the fields fill the word");

/// Which set of its id space a PASID was allocated from; 0 where there are no sets.
///
/// It takes part in the state and not in a word of its own, so that a slot stays 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SetIndex(u16);

impl SetIndex {
    /// The index of an id space without sets.
    pub(crate) const NONE: SetIndex = SetIndex(0);
    /// The highest index.
    pub(crate) const LAST: u16 = SET as u16;

    /// The index `index`, in `1 ..= LAST`.
    pub(crate) const fn new(index: u16) -> Option<SetIndex> {
        if index == 0 || index > SetIndex::LAST {
            None
        } else {
            Some(SetIndex(index))
        }
    }

    pub(crate) const fn get(self) -> u16 {
        self.0
    }
}

/// Which allocation of a PASID a caller means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sought {
    generation: Option<u32>,
    set: Option<SetIndex>,
}

impl Sought {
    /// Whatever is there.
    pub(crate) const ANY: Sought = Sought {
        generation: None,
        set: None,
    };

    /// That of `generation`.
    #[inline(always)]
    pub(crate) const fn of(generation: u32) -> Sought {
        Sought {
            generation: Some(generation),
            set: None,
        }
    }

    /// The same, if it belongs to `set`.
    #[inline(always)]
    pub(crate) const fn in_set(self, set: SetIndex) -> Sought {
        Sought {
            set: Some(set),
            ..self
        }
    }
}

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
    /// Ended, and kept from reuse: until a flush, or, where the state says *own* too, until
    /// the pin is taken away.
    Waiting = 7,
}

// The pin turns live and freeing into what no state without references is.
const _: () = assert!(
    Phase::Live as u64 | 4 == 5 && Phase::Freeing as u64 | 4 == 6,
    "a pinned phase is told from every other"
);

/// One value of the state word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(pub(crate) u64);

impl State {
    pub(crate) const fn new(generation: u32, phase: Phase) -> State {
        State((generation as u64) << GENERATION_SHIFT | (phase as u64) << PHASE_SHIFT)
    }

    /// Just allocated from `set`: one reference, the owner's own.
    #[inline(always)]
    pub(crate) const fn allocated(generation: u32, set: SetIndex) -> State {
        State(State::new(generation, Phase::Live).0 | OWN | REFERENCE | set.0 as u64)
    }

    /// The state after the allocation of `generation` has ended (I7).
    pub(crate) const fn ended(generation: u32) -> State {
        match generation.checked_add(1) {
            Some(next) => State::new(next, Phase::Dead),
            None => State::new(generation, Phase::Retired),
        }
    }

    /// The state after this allocation has ended, whose last reference is just going.
    #[inline(always)]
    pub(crate) const fn after_last(self, reuse: Reuse) -> State {
        let pinned = self.is_pinned();
        if !pinned && matches!(reuse, Reuse::Immediate) {
            return State::ended(self.generation());
        }
        let kept = if pinned { OWN | self.0 & SET } else { 0 };
        match self.generation().checked_add(1) {
            Some(next) => State(State::new(next, Phase::Waiting).0 | kept | self.0 & SET),
            None => State(State::new(self.generation(), Phase::Retired).0 | kept),
        }
    }

    /// Whether the PASID is pinned, while there are references.
    #[inline(always)]
    pub(crate) const fn is_pinned(self) -> bool {
        self.0 & PIN != 0
    }

    /// The same with or without a pin, for a state with references.
    pub(crate) const fn pinned(self, pinned: bool) -> State {
        State(if pinned { self.0 | PIN } else { self.0 & !PIN })
    }

    /// The state of a kept PASID when its pin is taken away.
    pub(crate) const fn released(self, reuse: Reuse) -> State {
        match reuse {
            _ if self.is(Phase::Retired) => State::new(self.generation(), Phase::Retired),
            Reuse::Immediate => State::new(self.generation(), Phase::Dead),
            Reuse::AfterFlush => State(self.0 & !OWN),
        }
    }

    /// Whether the allocation has ended and a flush is awaited.
    pub(crate) const fn awaits_flush(self) -> bool {
        self.is(Phase::Waiting) && !self.own()
    }

    /// Whether the allocation has ended and a pin keeps the PASID.
    pub(crate) const fn is_kept(self) -> bool {
        (self.is(Phase::Waiting) || self.is(Phase::Retired)) && self.own()
    }

    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }

    /// The generation of the allocation that the state is of, or was the last of, where it
    /// has ended and the PASID is kept from reuse.
    pub(crate) const fn last_generation(self) -> u32 {
        match self.is(Phase::Waiting) {
            // It was one less before the end.
            true => self.generation().wrapping_sub(1),
            false => self.generation(),
        }
    }

    pub(crate) const fn references(self) -> u64 {
        self.0 >> REFERENCES_SHIFT & REFERENCES
    }

    /// The set that it was allocated from, while there are references.
    pub(crate) const fn set(self) -> SetIndex {
        SetIndex((self.0 & SET) as u16)
    }

    pub(crate) const fn own(self) -> bool {
        self.0 & OWN != 0
    }

    /// Whether the last reference was given back, and whoever did that is about to say what
    /// comes after it.
    pub(crate) const fn is_ending(self) -> bool {
        let unpinned = State(self.0 & !PIN);
        self.references() == 0 && (unpinned.is(Phase::Live) || unpinned.is(Phase::Freeing))
    }

    /// Whether the PASID is reserved.
    pub(crate) const fn is_reserved(self) -> bool {
        self.is(Phase::Reserved)
    }

    pub(crate) const fn is(self, phase: Phase) -> bool {
        self.0 & PHASE == (phase as u64) << PHASE_SHIFT
    }

    pub(crate) const fn with_phase(self, phase: Phase) -> State {
        State(self.0 & !PHASE | (phase as u64) << PHASE_SHIFT)
    }

    /// The same allocation, revoked, with its pin.
    pub(crate) const fn revoked(self) -> State {
        State(self.0 & !PHASE | self.0 & PIN | (Phase::Freeing as u64) << PHASE_SHIFT)
    }

    /// Whether new references are given out: live, with a reference held.
    #[inline(always)]
    const fn is_live(self) -> bool {
        // One comparison for both: of the states below the generation, those from the
        // first live one with a reference up to the last (I5 leaves out own without any).
        // A pin makes no difference.
        const FIRST: u32 = (Phase::Live as u32) << PHASE_SHIFT | REFERENCE as u32;
        let unpinned = self.0 as u32 & !(PIN as u32);
        unpinned.wrapping_sub(FIRST) < (1 << PHASE_SHIFT) - REFERENCE as u32
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

    /// Whether the state is of the allocation that is meant.
    #[inline(always)]
    pub(crate) const fn of(self, sought: Sought) -> Result<(), Refusal> {
        if let Some(generation) = sought.generation {
            if generation != self.generation() {
                return Err(Refusal::NotLive);
            }
        }
        match sought.set {
            Some(set) if set.0 != self.set().0 && self.references() > 0 => Err(Refusal::WrongSet),
            _ => Ok(()),
        }
    }

    /// One reference less: ended, if it was the last.
    #[inline(always)]
    pub(crate) const fn less_one(self, reuse: Reuse) -> State {
        if self.references() == 1 {
            self.after_last(reuse)
        } else {
            State(self.0 - REFERENCE)
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
    /// Allocated from another set.
    WrongSet,
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
    /// Nothing, and the PASID awaits a flush: it must be said so, and its bit stays.
    Waiting,
    /// Nothing, and the PASID is kept for whoever pinned it.
    Kept,
}

impl Left {
    pub(crate) const fn after(state: State) -> Left {
        if state.references() > 0 {
            Left::Held
        } else if state.is_kept() {
            Left::Kept
        } else if state.is(Phase::Retired) {
            Left::Retired
        } else if state.is(Phase::Waiting) {
            Left::Waiting
        } else {
            Left::Nothing
        }
    }
}
