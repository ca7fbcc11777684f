// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the calls are made: an id space, and spaces of each kind with sets of each scope,
//! with and without a quota. All of it stays until the program ends.

use crate::shadow::{ALL, COUNT, FIRST, Scope, Shadow, Side, TABLES, Values, bit};
use pasid::{
    AliasMap, IdSpace, Pasid, PasidCell, PasidRange, PasidWidth, Reuse, Space, SpaceKind, Table,
    TableConfig, VirtualTable,
};
use sets::{FOCUSED, OTHERS, SetKind, typed};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

mod sets;

pub use sets::{Lent, SetCell};

pub fn pasid(number: u32) -> Pasid {
    match Pasid::new(number) {
        Ok(pasid) => pasid,
        Err(error) => broken!("{error}"),
    }
}

const fn range(first: u16, last: u16) -> PasidRange {
    match PasidRange::new(Pasid::from_u16(first), Pasid::from_u16(last)) {
        Ok(range) => range,
        Err(_) => panic!("a range begins above its end"),
    }
}

/// What is asked for, and what the sets have: parts of two words, with a few reserved values.
pub const REQUEST: PasidRange = range(251, 260);
/// The numbers that a guest has: one of each hand.
pub const GUEST: PasidRange = range(30, 31);
/// The width of the tables, but for the narrow one.
const BITS: u8 = 9;
/// So that what is left of two leaves is few values: full leaves are marked.
const RESERVED: &[PasidRange] = &[
    range(0, FIRST as u16 - 1),
    range((FIRST as usize + COUNT) as u16, 511),
];
/// The last table is narrow: [`FIRST`] to 255 fit it. The one before reserves this value.
const NARROW_BITS: u8 = 8;
const NARROW: Values = 0b111;
const RESERVED_ON_ONE: u32 = FIRST + COUNT as u32 - 1;

/// The places that [`places`] makes.
pub const PLACES: usize = 15;

/// Whether PASIDs wait for a flush at the place of that number: the first places are those of
/// the focused sets.
pub fn flushes_at(place: usize) -> bool {
    FOCUSED
        .get(place)
        .is_some_and(|set| set.reuse == Reuse::AfterFlush)
}

/// A value that two actors take turns with.
///
/// Only one hand runs at a time, and its data calls are made without it: see
/// [`crate`]. So nobody is in the middle of it when the other one comes.
pub struct Turns<T>(UnsafeCell<T>);

// SAFETY: used by one hand at a time, as said above, and handed over with the turn.
unsafe impl<T: Send> Sync for Turns<T> {}

impl<T> Turns<T> {
    pub const fn new(value: T) -> Turns<T> {
        Turns(UnsafeCell::new(value))
    }

    /// Lends the value to `use_it`, which makes no data call and does not come back here.
    pub fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: the other hand does not run, and nothing else borrows from the cell.
        use_it(unsafe { &mut *self.0.get() })
    }

    /// Puts a value in, and gives back what was there.
    pub fn replace(&self, value: T) -> T {
        self.with(|place| std::mem::replace(place, value))
    }
}

/// What the other hand does to things that are not its own.
#[derive(Debug, Clone, Copy)]
pub enum Meddling {
    /// Revokes what was allocated.
    Revoked,
    /// Ends what was lent, and allocates the number anew.
    Turned,
    /// Pauses or resumes the table.
    Paused,
    /// Holds all that is free, for a moment.
    Filled,
}

impl Meddling {
    pub const COUNT: usize = 4;
}

/// One space, its tables and sets, and what is known of them.
pub struct SpaceCell {
    pub space: Space,
    pub tables: Vec<&'static Table>,
    /// Those at whose calls a hand is stopped or interrupted, and the others.
    pub sets: Vec<SetCell>,
    /// For each of the first ones and each hand a set like it, to be closed.
    pub asides: Vec<[SetCell; 2]>,
    /// Sets with other payloads.
    pub statics: SetCell<&'static u64>,
    pub nothings: SetCell<()>,
    pub shadow: Shadow,
}

/// The keys of the asides begin here, two for each set; those of the typed sets are next.
const ASIDE: u8 = 100;
pub const STATICS: u8 = 200;
const NOTHINGS: u8 = 201;

/// The id space, and what is known of it.
pub struct IdsCell {
    pub ids: &'static IdSpace,
    pub scope: Scope,
    pub shadow: Shadow,
    pub lent: [Turns<Option<Lent>>; 2],
    /// A cell of both hands, until the last unbind.
    pub cell: PasidCell<&'static IdSpace>,
    /// A guest's table, one over it, and one of each hand alone.
    pub guest: VirtualTable<&'static IdSpace>,
    pub nested: VirtualTable<&'static IdSpace>,
    pub spare: [VirtualTable<&'static IdSpace>; 2],
    /// What the words of all places are made of.
    numbers: AtomicU64,
}

/// One set at whose calls a hand is stopped or interrupted, and what it has to do with.
pub struct Place {
    pub name: &'static str,
    pub ids: &'static IdsCell,
    pub space: &'static SpaceCell,
    pub set: &'static SetCell,
    /// The table to which its PASIDs are attached, as [`SpaceCell::tables`] counts.
    pub table: usize,
    /// A set of the other kind, whose PASIDs must not be this one's.
    pub rival: Option<&'static SetCell>,
    /// For each hand a set like this one, to be closed.
    pub asides: &'static [SetCell; 2],
    /// How often the other hand did each thing.
    pub meddled: [AtomicU64; Meddling::COUNT],
    /// Whether a set was closed since [`Place::mend`].
    pub closed: AtomicBool,
    /// How many scenes of the subject have the table paused.
    pub pausing: AtomicU64,
}

/// Keeps a value until the program ends.
pub fn forever<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

impl SpaceCell {
    fn new(kind: SpaceKind) -> SpaceCell {
        let space = Space::with_reserved(kind, RESERVED);
        // With global sets alone no table's reservation is in their way.
        let reserves = kind != SpaceKind::Global;
        let count = if kind == SpaceKind::Both { TABLES } else { 2 };
        let tables = (0..count).map(|index| {
            let bits = if index == 2 { NARROW_BITS } else { BITS };
            let reserved = [pasid(RESERVED_ON_ONE).into()];
            let reserved: &[_] = if index == 1 && reserves {
                &reserved
            } else {
                &[]
            };
            let width = PasidWidth::new(bits).unwrap_or(PasidWidth::MAX);
            let table = space.add_table(TableConfig::new(width).reserved(reserved));
            let table = forever(table.expect("a little memory"));
            let within = REQUEST.intersect(width.range()).expect("some fit");
            table.preload(within).expect("a little memory");
            table
        });
        let tables: Vec<_> = tables.collect();
        let shadow = Shadow::default();
        let mut all = ALL;
        if reserves {
            shadow.reserve(RESERVED_ON_ONE);
            all &= !bit(RESERVED_ON_ONE);
        }
        let has = |set: &&SetKind| match (set.side, kind) {
            (_, SpaceKind::Both) => true,
            (Side::Global, _) => kind == SpaceKind::Global,
            (Side::Tables(members), _) => {
                kind == SpaceKind::Tables && members.iter().all(|&at| at < count)
            }
        };
        let focused = match kind {
            SpaceKind::Both => &FOCUSED[..],
            _ => &FOCUSED[..6],
        };
        let asides = focused.iter().filter(has).zip((ASIDE..).step_by(2));
        let asides = asides
            .map(|(&set, key)| [SetCell::new(set, key, all), SetCell::new(set, key + 1, all)]);
        let sets = focused.iter().chain(&OTHERS).filter(has).zip(1..);
        let cell = SpaceCell {
            tables,
            asides: asides.collect(),
            sets: sets
                .map(|(&set, key)| SetCell::new(set, key, all))
                .collect(),
            statics: SetCell::new(typed(kind == SpaceKind::Global), STATICS, all),
            nothings: SetCell::new(typed(kind == SpaceKind::Global), NOTHINGS, all),
            shadow,
            space,
        };
        for set in cell.sets.iter().chain(cell.asides.iter().flatten()) {
            set.open(&cell.space, &cell.tables);
        }
        cell.statics.open(&cell.space, &cell.tables);
        cell.nothings.open(&cell.space, &cell.tables);
        cell
    }

    /// The set with that key.
    pub fn scope_of(&self, key: u8) -> &Scope {
        let sets = self.sets.iter().chain(self.asides.iter().flatten());
        let mut scopes = sets
            .map(|set| &set.scope)
            .chain([&self.statics.scope, &self.nothings.scope]);
        match scopes.find(|scope| scope.key() == key) {
            Some(scope) => scope,
            None => broken!("there is no set with the key {key}"),
        }
    }

    /// Opens another set where one was closed. Nothing of it is held.
    pub fn mend(&self, set: &SetCell) {
        if set.set().is_closing() {
            set.open(&self.space, &self.tables);
        }
    }
}

/// All places, with one id space.
pub fn places() -> Vec<&'static Place> {
    let ids = IdSpace::with_reserved(PasidWidth::new(BITS).expect("few bits"), RESERVED);
    ids.preload(REQUEST).expect("a little memory");
    let ids = forever(ids);
    let map = AliasMap::new();
    let guest = |table: pasid::Result<VirtualTable<&'static IdSpace>>| {
        let table = table.expect("a little memory");
        table.preload(GUEST).expect("a little memory");
        table
    };
    let width = PasidWidth::new(BITS).expect("few bits");
    let outer = guest(map.add_table(width, ids));
    let ids = forever(IdsCell {
        ids,
        cell: PasidCell::until_last_unbind(ids),
        nested: guest(map.add_nested(width, &outer)),
        spare: [(); 2].map(|()| guest(map.add_table(width, ids))),
        guest: outer,
        scope: Scope::new(0, Side::Tables(&[0]), None, ALL),
        shadow: Shadow::default(),
        lent: [const { Turns::new(None) }; 2],
        numbers: AtomicU64::new(1),
    });
    let kinds = [
        (SpaceKind::Both, "both kinds"),
        (SpaceKind::Tables, "tables alone"),
        (SpaceKind::Global, "global alone"),
    ];
    let mut places = Vec::new();
    for (kind, name) in kinds {
        let space = forever(SpaceCell::new(kind));
        for (set, asides) in space.sets.iter().zip(&space.asides) {
            let is_global = |set: &SetCell| set.scope.side == Side::Global;
            let mut rivals = space.sets.iter();
            places.push(forever(Place {
                name: forever(format!("{}; {name}", set.kind.name)),
                ids,
                space,
                set,
                table: 0,
                rival: rivals.find(|other| is_global(other) != is_global(set)),
                asides,
                meddled: Default::default(),
                closed: AtomicBool::new(false),
                pausing: AtomicU64::new(0),
            }));
        }
    }
    holds!(places.len() == PLACES, "there are {} places", places.len());
    places
}

impl Place {
    /// The table to which the set's PASIDs are attached.
    pub fn table(&self) -> &'static Table {
        self.space.tables[self.table]
    }

    /// A number for a word that no other has.
    pub fn number(&self) -> u64 {
        let number = self.ids.numbers.load(Relaxed);
        self.ids.numbers.store(number + 1, Relaxed);
        number
    }

    /// The sets whose freed PASIDs wait for a flush, one for each place where they wait.
    pub fn flushed(&self) -> impl Iterator<Item = &'static SetCell> {
        // The asides of a table's set, or of a global one, wait where that does; a group's
        // for themselves.
        let groups = self.space.asides.iter().flatten();
        let groups = groups.filter(|set| matches!(set.scope.side, Side::Tables(&[_, _, ..])));
        let sets = self.space.sets.iter().chain(groups);
        sets.filter(|set| set.scope.waits)
    }

    /// Opens what was closed, and resumes what was paused. No hand holds anything, and
    /// nothing waits for a flush.
    pub fn mend(&self) {
        self.closed.store(false, Relaxed);
        self.table().resume();
        self.space.mend(self.set);
        for aside in self.asides {
            self.space.mend(aside);
        }
    }

    /// Opens the set anew, so that its policy begins where it began: then a call goes the
    /// same way as the last time. No hand holds anything.
    pub fn begin_anew(&self) {
        self.set.set().close();
        self.mend();
    }

    /// Opens the set anew that a hand keeps to close it, if nothing of it is held.
    pub fn mend_aside(&self, who: usize) {
        self.space.mend(&self.asides[who]);
    }
}
