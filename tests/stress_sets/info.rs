// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known of one table and of one set, and what its observer is told.

use crate::counts::{Counts, Met};
use crate::shadow::{Credits, Entries, Id, Owners, Side, Sides};
use crate::waiting::{Batches, Reuse};
use pasid::{Handle, IoasidSet, Observer, Pasid, PasidRange, Table};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// Keys that a round has for its sets.
pub const KEYS: usize = 1 << 14;

/// One table, from its adding to its end; the next one at its place is another.
pub struct TableCell {
    pub table: Arc<Table>,
    pub shadow: Arc<TableShadow>,
}

/// What is known of it.
pub struct TableShadow {
    pub last_fit: u32,
    /// The same, but with the narrowest device that was about to join so far.
    pub narrowest: AtomicU32,
    pub owners: Owners,
    pub reuse: Reuse,
    pub entries: Entries,
    /// Of the table's own sets.
    pub batches: Arc<Batches>,
    pub reserved: Option<u32>,
}

/// One set, likewise, without the set: what its PASIDs count for.
pub struct SetInfo {
    pub key: u32,
    pub side: Side,
    /// For a global set none.
    pub members: Vec<Arc<TableShadow>>,
    pub range: PasidRange,
    pub credits: Option<Credits>,
    pub quota: u32,
    pub after_flush: bool,
    pub space: Arc<Everything>,
    /// Of whatever waits where the set's PASIDs do.
    pub batches: Arc<Batches>,
    /// For each PASID what it still costs until a flush has returned it.
    pub owed: Vec<AtomicU32>,
}

/// The PASID is held on the set's side.
const SIDE: u32 = 1;
/// It has a credit.
const CREDIT: u32 = 2;

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
    reuse: Reuse,
    pub batches: Arc<Batches>,
    pub sides: Sides,
    pub observed: Observed,
    pub counts: Counts,
    clock: AtomicU64,
    pub infos: Vec<OnceLock<Weak<SetInfo>>>,
}

impl Everything {
    pub fn new(count: u32) -> Everything {
        Everything {
            globals: Owners::new(count),
            reuse: Reuse::new(count),
            batches: Arc::new(Batches::new(count)),
            sides: Sides::new(count),
            observed: Observed::default(),
            counts: Counts::default(),
            clock: AtomicU64::new(1),
            infos: (0..KEYS).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The moment of now, later than all that came before through the space.
    pub fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// The set of that allocation, also if it is closed by now.
    #[track_caller]
    pub fn info_of(&self, id: Id) -> Arc<SetInfo> {
        let info = self.infos.get(id.set()).and_then(OnceLock::get);
        let info = info.and_then(Weak::upgrade);
        info.expect("broken: a word that no allocation had")
    }
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

pub fn add(to: &AtomicU64) {
    to.fetch_add(1, Ordering::Relaxed);
}

impl TableShadow {
    /// A device is about to join that has entries up to `last`.
    pub fn narrow(&self, last: u32) {
        self.narrowest.fetch_min(last, Ordering::Relaxed);
    }

    /// Whether the table had an entry for `number` all the time.
    pub fn fitted(&self, number: u32) -> bool {
        number <= self.narrowest.load(Ordering::Relaxed)
    }
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
        if first && self.after_flush {
            self.batches.note(pasid, id);
            // Its holders may all go, and others come that had a reference before.
            first = self.owe(pasid, SIDE);
        }
        first && self.space.sides.enter(pasid, self.side) > 0
    }

    /// Returns whether it was not owed before.
    fn owe(&self, pasid: u32, what: u32) -> bool {
        let before = self.owed[pasid as usize].fetch_or(what, Ordering::Relaxed);
        before & what == 0
    }

    /// A flush that had begun at `begun` is about to return a PASID of the set.
    #[track_caller]
    pub fn returns(&self, pasid: u32, begun: u64) {
        self.reuses().for_each(|reuse| reuse.returns(pasid, begun));
        let owed = self.owed[pasid as usize].swap(0, Ordering::Relaxed);
        if owed & SIDE != 0 {
            self.space.sides.leave(pasid, self.side);
        }
        if let (Some(credits), true) = (&self.credits, owed & CREDIT != 0) {
            credits.leave();
        }
    }

    /// Nobody holds a PASID that a flush has taken.
    #[track_caller]
    pub fn check_vacant(&self, pasid: u32) {
        self.owners().for_each(|owners| owners.check_vacant(pasid));
    }

    /// When PASIDs may be handed out again, on each table of the set, or on all.
    fn reuses(&self) -> impl Iterator<Item = &Reuse> {
        let all = (self.side == Side::Global).then_some(&self.space.reuse);
        let members = self.members.iter().map(|table| &table.reuse);
        members.chain(all)
    }

    /// M7, for who has just been given the PASID.
    #[track_caller]
    pub fn check_reuse(&self, pasid: u32, id: Id) {
        let reuses = self.reuses().filter(|reuse| reuse.check(pasid, id));
        let waited = reuses.count();
        if waited > 0 {
            self.space.counts.add(Met::Reused);
        }
    }

    #[track_caller]
    pub fn pin(&self, pasid: u32, id: Id) {
        self.reuses().for_each(|reuse| reuse.pin(pasid, id));
    }

    pub fn unpin(&self, pasid: u32, id: Id) {
        self.leaves(pasid, id);
        self.reuses().for_each(|reuse| reuse.unpin(pasid));
    }

    /// What keeps the PASID is about to go, and may be the last that does.
    fn leaves(&self, pasid: u32, id: Id) {
        if self.after_flush {
            let now = self.space.now();
            self.reuses().for_each(|reuse| reuse.leaves(pasid, id, now));
        }
    }

    /// The caller is about to give a reference to `id` back.
    #[track_caller]
    pub fn leave(&self, pasid: u32, id: Id) {
        self.leaves(pasid, id);
        let mut last = false;
        for (index, owners) in self.owners().enumerate() {
            last |= owners.leave(pasid, id) & (index == 0);
        }
        if last && !self.after_flush {
            self.space.sides.leave(pasid, self.side);
        }
    }

    /// The last PASID that the set may hand out.
    pub fn last(&self) -> u32 {
        let fit = self.members.iter().map(|table| table.last_fit).min();
        fit.map_or(u32::MAX, |fit| fit).min(self.range.last().get())
    }

    /// Whether the tables had an entry for `pasid` all the time.
    pub fn fitted(&self, pasid: Pasid) -> bool {
        let mut members = self.members.iter();
        members.all(|table| table.fitted(pasid.get()))
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
pub struct Watch(pub Arc<SetInfo>);

impl Observer for Watch {
    fn allocated(&self, handle: Handle, word: u64) {
        assert_eq!(Id(word).set(), self.0.key as usize, "broken: not its set's");
        let number = handle.pasid().get();
        self.0.check_has(handle.pasid());
        self.0.check_reuse(number, Id(word));
        if self.0.after_flush {
            self.0.batches.note(number, Id(word));
            self.0.owe(number, CREDIT);
        }
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
        let (number, met) = (handle.pasid().get(), &self.0.space.counts);
        self.0.check_vacant(number);
        // It is told when the pin is gone too.
        let pinned = self.0.reuses().any(|reuse| reuse.is_pinned(number));
        assert!(!pinned, "broken: {number} is over while it is pinned");
        if self.0.after_flush {
            if let Some(id) = self.0.batches.owner(number) {
                self.0.leaves(number, id);
            }
            if self.0.batches.any_in_flight() {
                met.add(Met::FreedInFlight);
            }
        } else if let Some(credits) = &self.0.credits {
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
