// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the threads of a round share: the space, its tables and sets, which are closed and
//! added again all the time, and the shadow of who holds what.

use crate::counts::Met;
use crate::flusher::Installed;
use crate::info::{Everything, KEYS, SetCell, SetInfo, TableCell, TableShadow, Watch, add};
use crate::shadow::{Credits, Entries, Id, Owners, Side};
use crate::waiting::{Batches, Reuse};
use pasid::{Attach, Error, Pasid, PasidRange, PasidWidth, Policy, Pool, Scope, SetConfig};
use pasid::{Space, SpaceKind, Table, TableConfig};
use std::sync::atomic::{AtomicU32, Ordering};
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
/// Sets that nobody observes: their calls take other ways.
const UNOBSERVED: [usize; 4] = [4, 6, 10, 14];

pub fn pasid(number: u32) -> Pasid {
    Pasid::new(number).expect("of 20 bits")
}

pub fn range(first: u32, last: u32) -> PasidRange {
    PasidRange::new(pasid(first), pasid(last)).expect("not empty")
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
    /// Closed sets of which something may still await a flush.
    closed: Mutex<Vec<Arc<SetCell>>>,
    next_key: AtomicU32,
    tables_made: AtomicU32,
    /// What was attached of late, for others to fault on: a table's place and a PASID.
    pub board: Vec<AtomicU32>,
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
        let space = Space::with_capacity(SpaceKind::Both, capacity);
        let everything = Arc::new(Everything::new(last + 1));
        let mut arena = Arena {
            space,
            last,
            capacity,
            tables: Vec::new(),
            sets: Vec::new(),
            everything,
            infos: (0..KEYS).map(|_| OnceLock::new()).collect(),
            closed: Mutex::default(),
            next_key: AtomicU32::new(1),
            tables_made: AtomicU32::new(0),
            board: (0..16).map(|_| AtomicU32::new(1)).collect(),
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
                self.everything.counts.add(Met::TableRefused);
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
                narrowest: AtomicU32::new(last_fit),
                owners: Owners::new(self.last + 1),
                reuse: Reuse::new(self.last + 1),
                batches: Arc::new(Batches::new(self.last + 1)),
                entries: Entries::new(self.last + 1),
                reserved,
            }),
        })
    }

    /// What waits where the PASIDs of such a set do.
    fn batches_of(&self, side: Side, tables: &[Arc<TableCell>]) -> Arc<Batches> {
        match (side, tables) {
            (Side::Global, _) => Arc::clone(&self.everything.batches),
            (_, [table]) => Arc::clone(&table.shadow.batches),
            _ => Arc::new(Batches::new(self.last + 1)),
        }
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
        let batches = self.batches_of(side, &cells);
        let info = Arc::new(SetInfo {
            key,
            side,
            members: cells.iter().map(|one| Arc::clone(&one.shadow)).collect(),
            range: range(1, self.last),
            credits: quota.map(Credits::new),
            quota: quota.unwrap_or(0),
            // Each time another at each place.
            after_flush: key % 3 != 0,
            space: Arc::clone(&self.everything),
            batches,
            owed: (0..=self.last).map(|_| AtomicU32::new(0)).collect(),
        });
        assert!(self.infos[key as usize].set(Arc::clone(&info)).is_ok());
        let weak = Arc::downgrade(&info);
        assert!(self.everything.infos[key as usize].set(weak).is_ok());
        let mut config = SetConfig::new(scope)
            .range(info.range)
            .policy(POLICIES[index % POLICIES.len()])
            .token(index as u64);
        if !UNOBSERVED.contains(&index) {
            add(&self.everything.observed.made);
            config = config.observer(Arc::new(Watch(Arc::clone(&info))));
        }
        if let Some(quota) = quota {
            config = config.quota(quota);
        }
        let flusher = (info.after_flush && key % 2 == 0).then(|| Installed::new(&info));
        if info.after_flush {
            config = config.reuse(pasid::Reuse::AfterFlush);
        }
        if let Some(flusher) = &flusher {
            config = config.flusher(flusher.clone());
        }
        let set = match self.space.add_set(config) {
            Ok(set) => set,
            Err(Error::CapacityExceeded { .. }) => {
                self.everything.counts.add(Met::CapacityExceeded);
                return None;
            }
            Err(Error::Closing) => return None,
            Err(error) => panic!("broken: {error:?} for a set"),
        };
        set.preload(info.range).expect("a little memory");
        let set = Arc::new(set);
        if let Some(flusher) = flusher {
            flusher.install(&set);
        }
        Some(Arc::new(SetCell {
            set,
            info,
            tables: cells,
            adjusting: Mutex::new(quota.unwrap_or(0)),
        }))
    }

    /// Closes the set at that place, and adds it again if it can.
    pub fn replace_set(&self, index: usize) {
        let mut place = self.sets[index].lock().expect("no thread panicked");
        let set = &*place.set;
        // A group allocates no more as soon as one of its tables closes; the set of a table
        // that is just being closed may yet be open.
        let mut closing = place.tables.iter().map(|cell| cell.table.is_closing());
        if set.is_closing() || place.tables.len() > 1 && closing.any(|closing| closing) {
            assert_eq!(set.alloc(place.info.range, 0).err(), Some(Error::Closing));
        }
        set.close();
        self.everything.counts.add(Met::SetClosed);
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
            let closed = std::mem::replace(&mut *place, set);
            if closed.info.after_flush {
                self.closed.lock().expect("no thread panicked").push(closed);
            }
        }
    }

    /// Closed sets, of which each is to be flushed, and put back where it is not empty.
    pub fn take_closed(&self) -> Vec<Arc<SetCell>> {
        std::mem::take(&mut self.closed.lock().expect("no thread panicked"))
    }

    pub fn put_closed_back(&self, cell: Arc<SetCell>) {
        self.closed.lock().expect("no thread panicked").push(cell);
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
        self.everything.counts.add(Met::TableClosed);
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
