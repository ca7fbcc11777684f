// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sixteen values, two tables, and a set of each scope, as masks of values. The PASIDs of
//! one of the sets may await a flush.

use pasid::{Error, Pasid, PasidRange};

/// Sets: local to table 0, local to table 1, a group of both, and global.
pub const SETS: usize = 4;
/// The set that is global.
pub const GLOBAL: usize = 3;
/// The set that is a group.
pub const GROUP: usize = 2;
/// Reserved in the space.
pub const SPACE_RESERVED: u32 = 0;
/// Reserved on table 1.
pub const TABLE_RESERVED: u32 = 15;

/// A rule that a model breaks, for the test that sees whether it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    LocalSetsExcludeEachOther,
    GlobalIgnoresLocal,
    LocalIgnoresGlobal,
    GroupHoldsTableZeroAlone,
    FreeingIsFree,
    TableReservationUnknownToTheGlobalSet,
    HighestFirst,
    QuotaOneMore,
    WaitingIsFree,
    BatchIsFree,
    DroppedTicketCompletes,
    FlushTakesAllThatComes,
    AwaitingIsExhausted,
}

/// Who holds what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    pub live: [u16; SETS],
    /// Revoked, with the owner's reference still held.
    pub freeing: [u16; SETS],
    /// Of the set whose PASIDs await a flush: over, and not taken by one.
    pub waiting: u16,
    /// Over, and of the flush that is in flight.
    pub batch: u16,
}

impl State {
    pub fn held(&self, set: usize) -> u16 {
        self.live[set] | self.freeing[set]
    }

    /// The values in which two states differ, for each set.
    fn differences<'a>(&'a self, other: &'a State) -> impl Iterator<Item = u16> + 'a {
        let ended = self.waiting ^ other.waiting | self.batch ^ other.batch;
        let held = (0..SETS).map(|set| {
            let live = self.live[set] ^ other.live[set];
            live | self.freeing[set] ^ other.freeing[set]
        });
        held.chain([ended])
    }

    /// In how many places two states differ.
    pub fn distance(&self, other: &State) -> u32 {
        self.differences(other).map(u16::count_ones).sum()
    }

    /// The values in which two states differ.
    pub fn changed(&self, other: &State) -> u16 {
        self.differences(other).fold(0, |all, values| all | values)
    }
}

/// What can be done in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `alloc` from the first to the last of a range.
    Alloc(usize, u32, u32),
    /// `alloc_in_place` of the whole range.
    InPlace(usize),
    AllocAt(usize, u32),
    /// `get_at`, and the reference given back.
    GetAt(usize, u32),
    Find(usize, u32),
    Revoke(usize, u32),
    /// The owner's drop.
    Free(usize, u32),
    /// `begin_flush` of the set whose PASIDs await one.
    Begin,
    /// `complete` of its ticket.
    Complete,
    /// The ticket's drop.
    PutBack,
}

/// What an operation answers.
pub type Answer = Result<Option<u32>, Error>;

/// The ranges that are asked for: all, each half, and one across the middle.
const RANGES: [(u32, u32); 4] = [(0, 15), (0, 7), (8, 15), (5, 9)];

pub struct Model {
    pub quota: Option<u32>,
    /// The set whose PASIDs await a flush.
    pub after_flush: Option<usize>,
    pub quirk: Option<Quirk>,
}

fn bit(value: u32) -> u16 {
    1 << value
}

fn pasid(value: u32) -> Pasid {
    Pasid::new(value).expect("16 values")
}

impl Model {
    fn is(&self, quirk: Quirk) -> bool {
        self.quirk == Some(quirk)
    }

    /// Everything that can be done.
    pub fn ops(&self, state: &State) -> Vec<Op> {
        let mut ops = Vec::with_capacity(256);
        for set in 0..SETS {
            ops.extend(RANGES.map(|(first, last)| Op::Alloc(set, first, last)));
            ops.push(Op::InPlace(set));
            for value in 0..16 {
                ops.extend([
                    Op::AllocAt(set, value),
                    Op::GetAt(set, value),
                    Op::Find(set, value),
                ]);
                if state.held(set) & bit(value) != 0 {
                    ops.extend([Op::Revoke(set, value), Op::Free(set, value)]);
                }
            }
        }
        // One flush at a time: of several the batches would have to be told apart.
        match (state.waiting, state.batch) {
            (0, 0) => {}
            (_, 0) => ops.push(Op::Begin),
            _ => ops.extend([Op::Complete, Op::PutBack]),
        }
        ops
    }

    /// What keeps others from the values, and costs a credit (M7, M8).
    fn kept(&self, state: &State, set: usize) -> u16 {
        let mut ended = 0;
        if self.after_flush == Some(set) {
            ended |= if self.is(Quirk::WaitingIsFree) {
                0
            } else {
                state.waiting
            };
            ended |= if self.is(Quirk::BatchIsFree) {
                0
            } else {
                state.batch
            };
        }
        state.held(set) | ended
    }

    /// The values of which the set knows that they await a flush: its own, global ones,
    /// and for a group those of its tables.
    fn awaited(&self, state: &State, set: usize) -> u16 {
        let knows = match self.after_flush {
            None => false,
            Some(GLOBAL) => true,
            Some(GROUP) => set == GROUP,
            Some(local) => set == local || set == GROUP,
        };
        match knows && !self.is(Quirk::AwaitingIsExhausted) {
            true => state.waiting | state.batch,
            false => 0,
        }
    }

    /// Whether a PASID of one set keeps it from the other.
    fn exclude(&self, one: usize, other: usize) -> bool {
        match (one.min(other), one.max(other)) {
            (0, 1) => self.is(Quirk::LocalSetsExcludeEachOther),
            (1, GROUP) => !self.is(Quirk::GroupHoldsTableZeroAlone),
            (a, GLOBAL) if a != GLOBAL && one == GLOBAL => !self.is(Quirk::GlobalIgnoresLocal),
            (a, GLOBAL) if a != GLOBAL => !self.is(Quirk::LocalIgnoresGlobal),
            _ => true,
        }
    }

    fn reserved(&self, set: usize) -> u16 {
        let unknown = set == GLOBAL && self.is(Quirk::TableReservationUnknownToTheGlobalSet);
        let on_table = if set == 0 || unknown {
            0
        } else {
            bit(TABLE_RESERVED)
        };
        bit(SPACE_RESERVED) | on_table
    }

    fn taken(&self, state: &State, set: usize) -> u16 {
        let others = (0..SETS).filter(|&other| self.exclude(set, other));
        let taken = others.map(|other| match self.is(Quirk::FreeingIsFree) {
            true => state.live[other],
            false => self.kept(state, other),
        });
        taken.fold(self.reserved(set), |all, one| all | one)
    }

    fn credit(&self, state: &State, set: usize) -> Result<(), Error> {
        let more = u32::from(self.is(Quirk::QuotaOneMore));
        match self.quota {
            Some(quota) if self.kept(state, set).count_ones() >= quota + more => {
                Err(Error::QuotaExceeded { quota })
            }
            _ => Ok(()),
        }
    }

    fn alloc(&self, state: &State, set: usize, first: u32, last: u32) -> Result<u32, Error> {
        self.credit(state, set)?;
        let free = !self.taken(state, set);
        let mut range = first..=last;
        let found = match self.is(Quirk::HighestFirst) {
            true => range.rfind(|&value| free & bit(value) != 0),
            false => range.find(|&value| free & bit(value) != 0),
        };
        let range = PasidRange::new(pasid(first), pasid(last))?;
        let awaited = self.awaited(state, set);
        found.ok_or(
            match (first..=last).any(|value| awaited & bit(value) != 0) {
                true => Error::AwaitingFlush { range },
                false => Error::Exhausted { range },
            },
        )
    }

    fn alloc_at(&self, state: &State, set: usize, value: u32) -> Result<u32, Error> {
        self.credit(state, set)?;
        if self.taken(state, set) & bit(value) == 0 {
            return Ok(value);
        }
        let global = set == GLOBAL;
        let held_globally = self.kept(state, GLOBAL) & bit(value) != 0;
        Err(match value {
            SPACE_RESERVED => Error::Reserved(pasid(value)),
            TABLE_RESERVED if set == 1 || set == GROUP => Error::Reserved(pasid(value)),
            _ if self.awaited(state, set) & bit(value) != 0 => Error::AwaitingFlush {
                range: pasid(value).into(),
            },
            _ if held_globally && !global => Error::HeldGlobally(pasid(value)),
            _ if !held_globally && global => Error::HeldLocally(pasid(value)),
            _ => Error::InUse(pasid(value)),
        })
    }

    fn find(&self, state: &State, set: usize, value: u32) -> Result<u32, Error> {
        // Another set's, or a table's reservation, is none of this set's look-ups.
        let reserved = match set {
            0 | GLOBAL => bit(SPACE_RESERVED),
            _ => bit(SPACE_RESERVED) | bit(TABLE_RESERVED),
        };
        if state.live[set] & bit(value) != 0 {
            Ok(value)
        } else if state.freeing[set] & bit(value) != 0 {
            Err(Error::BeingFreed(pasid(value)))
        } else if reserved & bit(value) != 0 {
            Err(Error::Reserved(pasid(value)))
        } else {
            Err(Error::NotFound(pasid(value)))
        }
    }

    /// What an operation answers, and the state after it.
    pub fn step(&self, state: &State, op: Op) -> (Answer, State) {
        let mut after = *state;
        let answer = match op {
            Op::Alloc(set, first, last) => self.alloc(state, set, first, last),
            Op::InPlace(set) => self.alloc(state, set, 0, 15),
            Op::AllocAt(set, value) => self.alloc_at(state, set, value),
            Op::GetAt(set, value) | Op::Find(set, value) => {
                return (self.find(state, set, value).map(Some), after);
            }
            Op::Revoke(set, value) => {
                after.live[set] &= !bit(value);
                after.freeing[set] |= bit(value);
                return (Ok(None), after);
            }
            Op::Free(set, value) => {
                after.live[set] &= !bit(value);
                after.freeing[set] &= !bit(value);
                if self.after_flush == Some(set) {
                    after.waiting |= bit(value);
                }
                return (Ok(None), after);
            }
            Op::Begin => {
                after.batch = std::mem::take(&mut after.waiting);
                return (Ok(Some(after.batch.into())), after);
            }
            Op::Complete => {
                if self.is(Quirk::FlushTakesAllThatComes) {
                    after.waiting = 0;
                }
                let batch = std::mem::take(&mut after.batch);
                return (Ok(Some(batch.count_ones())), after);
            }
            Op::PutBack => {
                let batch = std::mem::take(&mut after.batch);
                if !self.is(Quirk::DroppedTicketCompletes) {
                    after.waiting |= batch;
                }
                return (Ok(None), after);
            }
        };
        if let (Ok(value), Op::Alloc(set, ..) | Op::InPlace(set) | Op::AllocAt(set, _)) =
            (answer, op)
        {
            after.live[set] |= bit(value);
        }
        (answer.map(Some), after)
    }
}
