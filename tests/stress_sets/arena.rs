// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the threads of a round share: the space, its tables and sets, which are closed and
//! added again all the time, and the shadow of who holds what.

use crate::counts::{Counts, Met};
use crate::shadow::{Credits, Entries, Id, Owners, Side, Sides};
use pasid::{Attach, Error, Handle, IoasidSet, Observer, Pasid, PasidRange, PasidWidth, Policy};
use pasid::{Pool, Scope, SetConfig, Space, SpaceKind, Table, TableConfig};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

pub const TABLES: usize = 8;
/// Of each table its own, then groups, then global ones.
pub const SETS: usize = TABLES + GROUPS.len() + GLOBALS;
const GROUPS: [&[usize]; 4] = [&[0, 1], &[1, 2, 3], &[5, 4, 0], &[6, 7, 2]];
const GLOBALS: usize = 4;
const POLICIES: [Policy; 4] = [
    Policy::Lowest,
    Policy::Next,
    Policy::PreserveNarrow,
    Policy::Spread,
];
/// Two tables are narrow, and two have a reserved value, each time another.
const WIDTHS: [u8; TABLES] = [20, 20, 20, 20, 20, 20, 3, 5];
const RESERVING: [usize; 2] = [1, 5];

/// Keys that a round has for its sets.
const KEYS: usize = 1 << 14;

pub fn pasid(number: u32) -> Pasid {
    Pasid::new(number).expect("of 20 bits")
}

pub fn range(first: u32, last: u32) -> PasidRange {
    PasidRange::new(pasid(first), pasid(last)).expect("not empty")
}

/// One table, from its adding to its end; the next one at its place is another.
pub struct TableCell {
    pub table: Arc<Table>,
    pub shadow: Arc<TableShadow>,
}

/// What is known of it.
pub struct TableShadow {
    pub last_fit: u32,
    pub owners: Owners,
    pub entries: Entries,
    reserved: Option<u32>,
}

/// One set, likewise, without the set: what its PASIDs count for.
pub struct SetInfo {
    pub key: u32,
    pub side: Side,
    /// For a global set none.
    members: Vec<Arc<TableShadow>>,
    pub range: PasidRange,
    pub credits: Option<Credits>,
    pub quota: u32,
    space: Arc<Everything>,
}

pub struct SetCell {
    pub set: Arc<IoasidSet>,
    pub info: Arc<SetInfo>,
    pub tables: Vec<Arc<TableCell>>,
    /// The quota, held while it is changed.
    pub adjusting: Mutex<u32>,
}

/// The shadow of what is not of one table.
pub struct Everything {
    globals: Owners,
    sides: Sides,
    pub observed: Observed,
}

/// What all observers were told.
#[derive(Default)]
pub struct Observed {
    pub made: AtomicU64,
    pub dropped: AtomicU64,
    pub allocated: AtomicU64,
    pub revoked: AtomicU64,
    pub reclaimed: AtomicU64,
}

fn add(to: &AtomicU64) {
    to.fetch_add(1, Ordering::Relaxed);
}

impl SetInfo {
    /// The owners on each table of the set, or on all tables.
    fn owners(&self) -> impl Iterator<Item = &Owners> {
        let all = (self.side == Side::Global).then_some(&self.space.globals);
        let members = self.members.iter().map(|table| &table.owners);
        members.chain(all)
    }

    /// The caller holds `id`, of this set. Returns whether other tables have it too.
    #[track_caller]
    pub fn enter(&self, pasid: u32, id: Id) -> bool {
        assert_eq!(
            id.set(),
            self.key as usize,
            "broken: {id:x?} is another set's"
        );
        let mut first = false;
        for (index, owners) in self.owners().enumerate() {
            first |= owners.enter(pasid, id) & (index == 0);
        }
        first && self.space.sides.enter(pasid, self.side) > 0
    }

    /// The caller is about to give a reference to `id` back.
    #[track_caller]
    pub fn leave(&self, pasid: u32, id: Id) {
        let mut last = false;
        for (index, owners) in self.owners().enumerate() {
            last |= owners.leave(pasid, id) & (index == 0);
        }
        if last {
            self.space.sides.leave(pasid, self.side);
        }
    }

    /// The last PASID that the set may hand out.
    pub fn last(&self) -> u32 {
        let fit = self.members.iter().map(|table| table.last_fit).min();
        fit.map_or(u32::MAX, |fit| fit).min(self.range.last().get())
    }

    /// Whether the set may hand `pasid` out.
    pub fn has(&self, pasid: Pasid) -> bool {
        let mut reserved = self.members.iter().filter_map(|table| table.reserved);
        let reserved = reserved.any(|number| number == pasid.get());
        self.range.contains(pasid) && pasid.get() <= self.last() && !reserved
    }

    #[track_caller]
    pub fn check_has(&self, pasid: Pasid) {
        let has = self.has(pasid);
        assert!(has, "broken: {pasid} is outside, reserved or does not fit");
    }

    pub fn reaches(&self, table: &TableCell) -> bool {
        let is = |member: &Arc<TableShadow>| Arc::ptr_eq(member, &table.shadow);
        self.side == Side::Global || self.members.iter().any(is)
    }
}

/// An observer, which knows by the shadow whether it is told the truth.
struct Watch(Arc<SetInfo>);

impl Observer for Watch {
    fn allocated(&self, handle: Handle, word: u64) {
        assert_eq!(Id(word).set(), self.0.key as usize, "broken: not its set's");
        self.0.check_has(handle.pasid());
        // Between the credit's taking and its return.
        if let Some(credits) = &self.0.credits {
            credits.enter();
        }
        add(&self.0.space.observed.allocated);
    }

    fn revoked(&self, _: Handle) {
        add(&self.0.space.observed.revoked);
    }

    fn reclaimed(&self, handle: Handle) {
        // A thread that failed drops what the shadow still has.
        if std::thread::panicking() {
            return;
        }
        for owners in self.0.owners() {
            owners.check_vacant(handle.pasid().get());
        }
        if let Some(credits) = &self.0.credits {
            credits.leave();
        }
        add(&self.0.space.observed.reclaimed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        add(&self.0.space.observed.dropped);
    }
}

pub struct Arena {
    pub space: Space,
    /// The highest number that is asked for.
    pub last: u32,
    pub capacity: u32,
    tables: Vec<Mutex<Arc<TableCell>>>,
    sets: Vec<Mutex<Arc<SetCell>>>,
    pub everything: Arc<Everything>,
    infos: Vec<OnceLock<Arc<SetInfo>>>,
    next_key: AtomicU32,
    tables_made: AtomicU32,
    /// What was attached of late, for others to fault on: a table's place and a PASID.
    pub board: Vec<AtomicU32>,
    pub counts: Counts,
}

/// Which tables the set at `index` is for.
fn members_of(index: usize) -> &'static [usize] {
    const EACH: [usize; TABLES] = [0, 1, 2, 3, 4, 5, 6, 7];
    match index.checked_sub(TABLES) {
        None => &EACH[index..=index],
        Some(group) => GROUPS.get(group).copied().unwrap_or(&[]),
    }
}

impl Arena {
    pub fn new(last: u32) -> Arena {
        // Enough for all sets, and for not many that are not gone yet.
        let capacity = 20 * last + 80;
        let space = Space::new(SpaceKind::Both).with_capacity(capacity);
        let everything = Arc::new(Everything {
            globals: Owners::new(last + 1),
            sides: Sides::new(last + 1),
            observed: Observed::default(),
        });
        let mut arena = Arena {
            space,
            last,
            capacity,
            tables: Vec::new(),
            sets: Vec::new(),
            everything,
            infos: (0..KEYS).map(|_| OnceLock::new()).collect(),
            next_key: AtomicU32::new(1),
            tables_made: AtomicU32::new(0),
            board: (0..16).map(|_| AtomicU32::new(1)).collect(),
            counts: Counts::default(),
        };
        for index in 0..TABLES {
            let table = arena.add_table(index);
            arena.tables.push(Mutex::new(table));
        }
        for index in 0..SETS {
            let set = arena.add_set(index).expect("room for a set");
            arena.sets.push(Mutex::new(set));
        }
        arena
    }

    pub fn table(&self, index: usize) -> Arc<TableCell> {
        Arc::clone(&self.tables[index].lock().expect("no thread panicked"))
    }

    pub fn set(&self, index: usize) -> Arc<SetCell> {
        Arc::clone(&self.sets[index].lock().expect("no thread panicked"))
    }

    /// The set of that allocation, also if it is closed by now.
    #[track_caller]
    pub fn info_of(&self, id: Id) -> &Arc<SetInfo> {
        let info = self.infos.get(id.set()).and_then(OnceLock::get);
        info.expect("broken: a word that no allocation had")
    }

    fn add_table(&self, index: usize) -> Arc<TableCell> {
        let width = PasidWidth::new(WIDTHS[index]).expect("at most 20 bits");
        // Not where few values are left anyway.
        let reserves = RESERVING.contains(&index) && self.last > 4;
        let made = self.tables_made.fetch_add(1, Ordering::Relaxed);
        let reserved = reserves.then(|| made % self.last + 1);
        let ranges: Vec<PasidRange> = reserved.iter().map(|&it| pasid(it).into()).collect();
        let plain = TableConfig::new(width);
        let (table, reserved) = match self.space.add_table(plain.reserved(&ranges)) {
            Ok(table) => (table, reserved),
            Err(Error::HeldGlobally(held)) => {
                assert_eq!(Some(held), reserved.map(pasid));
                self.counts.add(Met::TableRefused);
                (
                    self.space.add_table(plain).expect("nothing is in its way"),
                    None,
                )
            }
            Err(error) => panic!("broken: {error:?} for a table"),
        };
        if let Some(number) = reserved {
            self.everything.sides.enter(number, Side::Table);
        }
        let last_fit = width.last().get();
        table
            .preload(range(0, self.last.min(last_fit)))
            .expect("a little memory");
        Arc::new(TableCell {
            table: Arc::new(table),
            shadow: Arc::new(TableShadow {
                last_fit,
                owners: Owners::new(self.last + 1),
                entries: Entries::new(self.last + 1),
                reserved,
            }),
        })
    }

    /// The set at that place, anew. `None` where the capacity or a table is not there yet.
    fn add_set(&self, index: usize) -> Option<Arc<SetCell>> {
        let cells: Vec<_> = members_of(index).iter().map(|&at| self.table(at)).collect();
        let tables: Vec<Table> = cells.iter().map(|one| (*one.table).clone()).collect();
        let (side, scope) = match tables.as_slice() {
            [] => (Side::Global, Scope::Global),
            [table] => (Side::Table, Scope::Local(table)),
            several => (Side::Table, Scope::Group(several)),
        };
        let counted = if index < TABLES {
            index < TABLES / 2
        } else {
            index % 2 == 1
        };
        let quota = counted.then_some(2 + self.last / 8);
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let info = Arc::new(SetInfo {
            key,
            side,
            members: cells.iter().map(|one| Arc::clone(&one.shadow)).collect(),
            range: range(1, self.last),
            credits: quota.map(Credits::new),
            quota: quota.unwrap_or(0),
            space: Arc::clone(&self.everything),
        });
        assert!(self.infos[key as usize].set(Arc::clone(&info)).is_ok());
        add(&self.everything.observed.made);
        let mut config = SetConfig::new(scope)
            .range(info.range)
            .policy(POLICIES[index % POLICIES.len()])
            .token(index as u64)
            .observer(Arc::new(Watch(Arc::clone(&info))));
        if let Some(quota) = quota {
            config = config.quota(quota);
        }
        let set = match self.space.add_set(config) {
            Ok(set) => set,
            Err(Error::CapacityExceeded { .. }) => {
                self.counts.add(Met::CapacityExceeded);
                return None;
            }
            Err(Error::Closing) => return None,
            Err(error) => panic!("broken: {error:?} for a set"),
        };
        set.preload(info.range).expect("a little memory");
        Some(Arc::new(SetCell {
            set: Arc::new(set),
            info,
            tables: cells,
            adjusting: Mutex::new(quota.unwrap_or(0)),
        }))
    }

    /// Closes the set at that place, and adds it again if it can.
    pub fn replace_set(&self, index: usize) {
        let mut place = self.sets[index].lock().expect("no thread panicked");
        let set = &*place.set;
        if place.tables.iter().any(|cell| cell.table.is_closing()) {
            // Closed with its table, or a group that allocates no more.
            assert_eq!(set.alloc(place.info.range, 0).err(), Some(Error::Closing));
        }
        set.close();
        self.counts.add(Met::SetClosed);
        assert_eq!(set.alloc(place.info.range, 0).err(), Some(Error::Closing));
        assert_eq!(
            set.count_live(set.range()),
            0,
            "broken: live in a closed set"
        );
        for number in 1..=self.last.min(8) {
            let got = set.get_at(pasid(number)).map(drop);
            assert!(got.is_err(), "broken: {number} is had from a closed set");
        }
        let found = self.space.find_set(index as u64);
        assert!(found.is_none(), "broken: a closed set is found");
        if let Some(set) = self.add_set(index) {
            *place = set;
        }
    }

    /// Removes the table at that place, and adds another, with its sets.
    pub fn replace_table(&self, index: usize) {
        let mut place = self.tables[index].lock().expect("no thread panicked");
        if let Some(number) = place.shadow.reserved {
            self.everything.sides.leave(number, Side::Table);
        }
        place.table.close();
        let fault = (&*place.table).fault_get(pasid(1)).map(drop);
        let refused = matches!(fault, Err(Error::Closing | Error::BeingFreed(_)));
        assert!(refused, "broken: {fault:?} for a fault on a closed table");
        self.counts.add(Met::TableClosed);
        *place = self.add_table(index);
        drop(place);
        for set in (0..SETS).filter(|&set| members_of(set).contains(&index)) {
            self.replace_set(set);
        }
    }

    /// Closes all that is there, and keeps the space alone.
    pub fn close(self) -> Space {
        for index in 0..SETS {
            self.set(index).set.close();
        }
        for index in 0..TABLES {
            self.table(index).table.close();
        }
        self.space
    }
}
