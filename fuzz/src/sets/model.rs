// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a space with tables and sets does, as plainly as it can be said.
//!
//! Who holds what is a map for each set; whether a value is free is asked of all of them.
//! There are no bits, claims or hints here, and nothing is taken in steps.

use crate::sets::quirk::Quirk;
use pasid::{Error, Handle, Pasid, PasidRange, PasidWidth, Policy, RequesterId, Reuse, SpaceKind};
use std::collections::{BTreeMap, BTreeSet, HashSet};

mod alloc;
mod attach;
mod control;
mod flush;
mod life;
mod reserve;

pub use alloc::Request;
pub use control::{NewSet, NewTable};
pub use flush::{Batch, Holder};
pub(crate) use life::Numbers;

/// PASIDs that get memory together.
pub(crate) const LEAF: u32 = 256;
/// PASIDs whose leaves hang together.
pub(crate) const NODE: u32 = 16_384;

/// What the observer of a set is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// With the owner's word.
    Allocated(Handle, u64),
    /// Nobody gets a new reference.
    Revoked(Handle),
    /// The last reference is gone.
    Reclaimed(Handle),
}

#[derive(Debug, Clone)]
pub(crate) struct Allocation {
    pub(crate) handle: Handle,
    pub(crate) word: u64,
    pub(crate) revoked: bool,
    /// The allocation's own reference is held.
    pub(crate) own: bool,
    /// References beside it, those of attachments included.
    pub(crate) others: u32,
    pub(crate) pinned: bool,
    /// The tables to which it was attached.
    pub(crate) tables: BTreeSet<usize>,
}

/// A PASID whose allocation is over, and that nobody may have.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) handle: Handle,
    /// The tables to which that allocation was attached.
    pub(crate) tables: BTreeSet<usize>,
    /// It has a pin; else it awaits a flush.
    pub(crate) pinned: bool,
    /// The ticket that it belongs to.
    pub(crate) ticket: Option<usize>,
}

/// On which tables a set's PASIDs count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    Global,
    Local(usize),
    /// In the order in which they were added.
    Group(Vec<usize>),
}

/// Where slots, and with them memory, lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Globals,
    Table(usize),
    /// A group's own.
    Own(usize),
    Claims,
}

/// The most that a quota can be.
pub(crate) const QUOTA_LAST: u32 = (1 << 21) - 1;

#[derive(Debug, Clone)]
pub(crate) struct Quota {
    pub(crate) limit: u32,
    pub(crate) high_water: u32,
    pub(crate) allocations: u64,
}

/// Allocations that failed: exhausted, quota, memory, in use, misfit, closing.
pub type Failures = [u64; 6];

#[derive(Debug, Clone)]
pub(crate) struct Set {
    pub(crate) reach: Reach,
    /// The values that it may hand out.
    pub(crate) pieces: Vec<(u32, u32)>,
    pub(crate) policy: Policy,
    pub(crate) token: Option<u64>,
    pub(crate) quota: Option<Quota>,
    pub(crate) failures: Failures,
    /// One after the last PASID handed out, for each half that there can be.
    pub(crate) cursors: [u32; 20],
    pub(crate) held: BTreeMap<u32, Allocation>,
    /// What is over and waits, for the pin to be taken away or for a flush.
    pub(crate) ended: BTreeMap<u32, Ended>,
    /// For a model that is wrong: where a number was attached in its last life.
    pub(crate) tables_before: BTreeMap<u32, BTreeSet<usize>>,
    pub(crate) reuse: Reuse,
    /// Whether allocations run a flush, and whether that works.
    pub(crate) flusher: Option<bool>,
    pub(crate) closing: bool,
    /// Somebody has a handle of it.
    pub(crate) handle: bool,
    pub(crate) gone: bool,
    pub(crate) events: Vec<Event>,
}

impl Set {
    pub(crate) fn first(&self) -> u32 {
        self.pieces[0].0
    }

    pub(crate) fn last(&self) -> u32 {
        self.pieces[self.pieces.len() - 1].1
    }

    pub(crate) fn has(&self, number: u32) -> bool {
        let mut pieces = self.pieces.iter();
        pieces.any(|&(first, last)| (first..=last).contains(&number))
    }

    /// Whether the number is held, or over and nobody's yet: M7.
    pub(crate) fn keeps(&self, number: u32) -> bool {
        self.held.contains_key(&number) || self.ended.contains_key(&number)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Reserved,
    Attached,
    Draining,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) set: usize,
    pub(crate) handle: Handle,
    pub(crate) word: u64,
    pub(crate) stage: Stage,
    pub(crate) faults: u32,
    /// How often the table had been paused when it was reserved.
    pub(crate) pauses: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) built: PasidWidth,
    pub(crate) listed: Vec<PasidRange>,
    pub(crate) added: BTreeSet<u32>,
    pub(crate) devices: Vec<(RequesterId, PasidWidth)>,
    pub(crate) paused: bool,
    pub(crate) pauses: u64,
    pub(crate) closing: bool,
    pub(crate) handle: bool,
    pub(crate) gone: bool,
    pub(crate) entries: BTreeMap<u32, Entry>,
    /// Leaves that have memory for attachments.
    pub(crate) memory: BTreeSet<u32>,
}

impl Table {
    /// How many bits all of its devices have.
    pub(crate) fn width(&self) -> PasidWidth {
        let widths = self.devices.iter().map(|&(_, width)| width);
        let supporting = widths.filter(|width| width.bits() > 0);
        supporting.fold(self.built, PasidWidth::min)
    }

    /// Whether `number` is reserved on this table, for a reason of its own.
    pub(crate) fn reserves(&self, number: u32) -> bool {
        let fits = number <= self.built.last().get();
        fits && (self.added.contains(&number) || lists(&self.listed, number))
    }
}

pub(crate) fn lists(ranges: &[PasidRange], number: u32) -> bool {
    let mut ranges = ranges.iter();
    ranges.any(|range| (range.first().get()..=range.last().get()).contains(&number))
}

/// A space with its tables and sets as maps.
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) kind: SpaceKind,
    /// Reserved when the space was built.
    pub(crate) listed: Vec<PasidRange>,
    /// Reserved since.
    pub(crate) added: BTreeSet<u32>,
    pub(crate) capacity: Option<u32>,
    pub(crate) shared_out: u32,
    pub(crate) tables: Vec<Table>,
    pub(crate) sets: Vec<Set>,
    pub(crate) leaves: BTreeSet<(Place, u32)>,
    pub(crate) nodes: BTreeSet<(Place, u32)>,
    pub(crate) issued: HashSet<Handle>,
    /// Flushes that began, by their tickets.
    pub(crate) tickets: BTreeMap<usize, flush::Ticket>,
    pub(crate) tickets_made: usize,
    /// Completed flushes of each place, and the PASIDs that they returned.
    pub(crate) flushes: BTreeMap<Place, (u64, u64)>,
    pub(crate) quirk: Option<Quirk>,
}

impl Model {
    /// A space without tables and sets.
    pub fn new(
        kind: SpaceKind,
        listed: &[PasidRange],
        capacity: Option<u32>,
        quirk: Option<Quirk>,
    ) -> Model {
        Model {
            kind,
            listed: listed.to_vec(),
            added: BTreeSet::new(),
            capacity,
            shared_out: 0,
            tables: Vec::new(),
            sets: Vec::new(),
            leaves: BTreeSet::new(),
            nodes: BTreeSet::new(),
            issued: HashSet::new(),
            tickets: BTreeMap::new(),
            tickets_made: 0,
            flushes: BTreeMap::new(),
            quirk,
        }
    }

    pub(crate) fn is(&self, quirk: Quirk) -> bool {
        self.quirk == Some(quirk)
    }

    // ---- M1 to M4 ------------------------------------------------------------

    pub(crate) fn reaches(&self, reach: &Reach, table: usize) -> bool {
        match reach {
            Reach::Global => true,
            Reach::Local(own) => *own == table,
            Reach::Group(members) if self.is(Quirk::GroupHoldsItsFirstTable) => members[0] == table,
            Reach::Group(members) => members.contains(&table),
        }
    }

    /// Whether PASIDs of the two exclude each other.
    fn overlap(&self, one: &Reach, other: &Reach) -> bool {
        match (one, other) {
            (Reach::Global, Reach::Global) => true,
            (Reach::Global, _) => !self.is(Quirk::GlobalIgnoresLocal),
            (_, Reach::Global) => !self.is(Quirk::LocalIgnoresGlobal),
            _ => {
                let share = |table| self.reaches(one, table) && self.reaches(other, table);
                (0..self.tables.len()).any(share) || self.is(Quirk::LocalSetsExcludeEachOther)
            }
        }
    }

    /// Which set's PASID keeps `number` from `reach`.
    pub(crate) fn holder(&self, reach: &Reach, number: u32) -> Option<usize> {
        self.sets
            .iter()
            .position(|set| set.keeps(number) && self.overlap(reach, &set.reach))
    }

    /// Whether one of the tables that `reach` reaches reserves `number`.
    pub(crate) fn table_reserves(&self, reach: &Reach, number: u32) -> bool {
        if *reach == Reach::Global && self.is(Quirk::GlobalIgnoresTableReservations) {
            return false;
        }
        let mut tables = self.tables.iter().enumerate();
        tables.any(|(index, table)| {
            !table.gone && self.reaches(reach, index) && table.reserves(number)
        })
    }

    /// Whether `number` is reserved on every table.
    pub(crate) fn space_reserves(&self, number: u32) -> bool {
        lists(&self.listed, number) || self.added.contains(&number)
    }

    pub(crate) fn is_free(&self, reach: &Reach, number: u32) -> bool {
        !self.space_reserves(number)
            && !self.table_reserves(reach, number)
            && self.holder(reach, number).is_none()
    }

    // ---- Memory ----------------------------------------------------------------

    /// Where the slots of a set are.
    pub(crate) fn place(&self, set: usize) -> Place {
        match &self.sets[set].reach {
            Reach::Global => Place::Globals,
            Reach::Local(table) => Place::Table(*table),
            Reach::Group(_) => Place::Own(set),
        }
    }

    /// The other trees of which a PASID of the set needs the node.
    fn members(&self, set: usize) -> Vec<Place> {
        match &self.sets[set].reach {
            Reach::Global | Reach::Local(_) => Vec::new(),
            Reach::Group(members) => members.iter().map(|&table| Place::Table(table)).collect(),
        }
    }

    pub(crate) fn has_memory(&self, set: usize, number: u32) -> bool {
        let (leaf, node) = (number / LEAF, number / NODE);
        let claimed = self.kind != SpaceKind::Both || self.leaves.contains(&(Place::Claims, leaf));
        let members = self.members(set);
        self.is(Quirk::MemoryEverywhere)
            || claimed
                && self.leaves.contains(&(self.place(set), leaf))
                && members
                    .iter()
                    .all(|&place| self.nodes.contains(&(place, node)))
    }

    /// Memory at one place. Returns whether there was none.
    pub(crate) fn grow_at(&mut self, place: Place, number: u32) -> bool {
        let node = self.nodes.insert((place, number / NODE));
        self.leaves.insert((place, number / LEAF)) || node
    }

    /// All that a PASID of the set needs. Returns whether something was missing.
    pub(crate) fn grow(&mut self, set: usize, number: u32) -> bool {
        let mut grown = self.grow_at(self.place(set), number);
        for place in self.members(set) {
            grown |= self.nodes.insert((place, number / NODE));
        }
        if self.kind == SpaceKind::Both {
            grown |= self.grow_at(Place::Claims, number);
        }
        grown
    }
}

/// The error for a PASID that is beyond a width.
pub(crate) fn does_not_fit(number: u32, width: PasidWidth) -> Error {
    let pasid = Pasid::new(number).unwrap_or(Pasid::MAX);
    Error::DoesNotFit { pasid, width }
}

pub(crate) fn range_of(first: u32, last: u32) -> Result<PasidRange, Error> {
    PasidRange::new(Pasid::new(first)?, Pasid::new(last)?)
}
