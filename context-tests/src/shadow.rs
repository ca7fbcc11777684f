// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known of who holds what, beside the allocator and without it.
//!
//! A holder is entered after the allocator gave it something, and leaves before it gives
//! that back. So what is in the shadow is in the allocator too, and what is in neither hand
//! is free, but for what the one call in progress is about.
//!
//! One hand runs at a time, and its changes are between its calls: each access is a plain
//! load or store of its own, and atomic only because two threads take turns.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The PASIDs that are not reserved: the end of one leaf of the tree and the beginning of
/// the next, so that words, leaves and their marks all take part.
pub const FIRST: u32 = 253;
pub const COUNT: usize = 6;
/// A bit for each of them.
pub type Values = u8;
pub const ALL: Values = (1 << COUNT) - 1;

/// The PASIDs of a set of values.
pub fn each(values: Values) -> impl Iterator<Item = u32> {
    (0..COUNT as u32)
        .filter(move |&index| values & 1 << index != 0)
        .map(|index| FIRST + index)
}

/// The bit of a PASID.
#[track_caller]
pub fn bit(pasid: u32) -> Values {
    1 << index(pasid)
}

#[track_caller]
fn index(pasid: u32) -> usize {
    match pasid.checked_sub(FIRST) {
        Some(index) if (index as usize) < COUNT => index as usize,
        _ => broken!("M4 or M5: {pasid} is reserved, or not in the request"),
    }
}

/// Names one allocation, and is its owner's word.
///
/// ```text
///  63      56 55                  1   0
/// +----------+---------------------+------+
/// |   set    |       number        | flip |
/// +----------+---------------------+------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(u64);

/// What [`Id::word`] turns into while its owner has replaced it.
pub const FLIP: u64 = 1;

impl Id {
    pub const fn new(set: u8, number: u64) -> Id {
        Id((set as u64) << 56 | (number << 1 & 0xff_ffff_ffff_ffff))
    }

    /// Whose word that is.
    pub fn of(word: u64) -> Id {
        Id(word & !FLIP)
    }

    pub const fn word(self) -> u64 {
        self.0
    }

    /// Its number, without the set.
    pub const fn number(self) -> u64 {
        self.0 << 8 >> 9
    }

    /// The key of its set.
    pub fn set(self) -> u8 {
        (self.0 >> 56) as u8
    }
}

fn add(to: &AtomicU64, more: i64) -> u64 {
    let now = to.load(Relaxed).wrapping_add_signed(more);
    to.store(now, Relaxed);
    now
}

/// Who has the PASIDs of one table, or the global ones.
#[derive(Default)]
struct Owners([Owner; COUNT]);

/// Of one PASID the newest allocation, how many hold it, and whether it waits for a flush.
#[derive(Default)]
struct Owner {
    newest: AtomicU64,
    holders: AtomicU64,
    waits: AtomicU64,
}

impl Owners {
    #[track_caller]
    fn of(&self, pasid: u32) -> &Owner {
        &self.0[index(pasid)]
    }

    fn is_held(&self, pasid: u32) -> bool {
        let owner = self.of(pasid);
        owner.holders.load(Relaxed) > 0 || owner.waits.load(Relaxed) > 0
    }

    /// Returns whether it is the first holder.
    #[track_caller]
    fn enter(&self, pasid: u32, id: Id) -> bool {
        let owner = self.of(pasid);
        let (before, count) = (owner.newest.load(Relaxed), owner.holders.load(Relaxed));
        if owner.waits.load(Relaxed) != 0 {
            // It does not wait: who enters was just getting a reference when the others
            // gave theirs back.
            holds!(
                before == id.0,
                "M7: {pasid} is {:#x}'s, and waits for a flush",
                id.0
            );
            owner.waits.store(0, Relaxed);
            add(&owner.holders, 1);
            return false;
        }
        holds!(
            count == 0 || before == id.0,
            "M1: {pasid} is {:#x}'s, and {count} hold it for {before:#x}",
            id.0
        );
        owner.newest.store(id.0, Relaxed);
        add(&owner.holders, 1) == 1
    }

    /// Returns whether no holder is left. Then it `waits`, if it is to.
    #[track_caller]
    fn leave(&self, pasid: u32, id: Id, waits: bool) -> bool {
        let owner = self.of(pasid);
        let (before, count) = (owner.newest.load(Relaxed), owner.holders.load(Relaxed));
        holds!(
            before == id.0 && count > 0,
            "M1: {pasid} was taken from {:#x}, which holds it: it is {before:#x}'s",
            id.0
        );
        let last = add(&owner.holders, -1) == 0;
        owner.waits.store(u64::from(last && waits), Relaxed);
        last
    }

    /// A flush is about to return it. Returns whether it is known to wait: an allocation
    /// that a closing undid waits too, and nobody ever held it.
    #[track_caller]
    fn returned(&self, pasid: u32) -> bool {
        let owner = self.of(pasid);
        let count = owner.holders.load(Relaxed);
        holds!(count == 0, "M7: {pasid} is flushed, and {count} hold it");
        owner.waits.swap(0, Relaxed) != 0
    }
}

/// What is attached to one table: the word of each PASID's newest attachment, and how
/// many hold it.
#[derive(Default)]
struct Entries([(AtomicU64, AtomicU64); COUNT]);

/// The tables of a space, at most.
pub const TABLES: usize = 3;

/// All that is known of one space. An id space is a space with one table.
#[derive(Default)]
pub struct Shadow {
    tables: [Owners; TABLES],
    globals: Owners,
    /// How many tables' allocations and reservations each PASID has.
    on_tables: [AtomicU64; COUNT],
    entries: [Entries; TABLES],
}

/// Where a set's PASIDs count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Global,
    /// On these tables.
    Tables(&'static [usize]),
}

/// What is known of one set.
pub struct Scope {
    key: u8,
    pub side: Side,
    quota: Option<u64>,
    /// Whether what is freed waits for a flush.
    pub waits: bool,
    used: AtomicU64,
    /// What it may hand out.
    pub values: Values,
}

impl Scope {
    pub fn new(key: u8, side: Side, quota: Option<u32>, values: Values) -> Scope {
        Scope {
            key,
            side,
            quota: quota.map(u64::from),
            waits: false,
            used: AtomicU64::new(0),
            values,
        }
    }

    /// The same set, whose freed PASIDs wait for a flush.
    pub fn waiting(mut self, waits: bool) -> Scope {
        self.waits = waits;
        self
    }

    pub fn key(&self) -> u8 {
        self.key
    }

    pub fn id(&self, number: u64) -> Id {
        Id::new(self.key, number)
    }

    /// How many more its quota allows, as far as is known.
    pub fn credits_left(&self) -> Option<u64> {
        self.quota
            .map(|quota| quota.saturating_sub(self.used.load(Relaxed)))
    }
}

impl Shadow {
    /// A reserved value of a table, which no global set may have.
    pub fn reserve(&self, pasid: u32) {
        add(&self.on_tables[index(pasid)], 1);
    }

    fn owners(&self, side: Side) -> impl Iterator<Item = &Owners> {
        let (all, tables): (_, &[usize]) = match side {
            Side::Global => (Some(&self.globals), &[]),
            Side::Tables(tables) => (None, tables),
        };
        let members = tables.iter().map(|&table| &self.tables[table]);
        all.into_iter().chain(members)
    }

    /// Whether the set could have it, if nobody else takes it.
    pub fn is_free(&self, scope: &Scope, pasid: u32) -> bool {
        let opposed = match scope.side {
            Side::Global => self.on_tables[index(pasid)].load(Relaxed) > 0,
            Side::Tables(_) => self.globals.is_held(pasid),
        };
        let held = self.owners(scope.side).any(|owners| owners.is_held(pasid));
        scope.values & bit(pasid) != 0 && !opposed && !held
    }

    /// What the set could have.
    pub fn free(&self, scope: &Scope) -> Values {
        let free = each(scope.values).filter(|&pasid| self.is_free(scope, pasid));
        free.fold(0, |free, pasid| free | bit(pasid))
    }

    /// The newest allocation of the PASID where the set's count.
    pub fn newest(&self, side: Side, pasid: u32) -> Id {
        let owner = self.first(side).of(pasid);
        Id(owner.newest.load(Relaxed))
    }

    /// The allocation of the set that holds the PASID, if one does.
    pub fn holder(&self, scope: &Scope, pasid: u32) -> Option<Id> {
        let owner = self.first(scope.side).of(pasid);
        let id = Id(owner.newest.load(Relaxed));
        (owner.holders.load(Relaxed) > 0 && id.set() == scope.key).then_some(id)
    }

    fn first(&self, side: Side) -> &Owners {
        match side {
            Side::Global => &self.globals,
            Side::Tables(tables) => &self.tables[tables[0]],
        }
    }

    /// A hand holds a reference to that allocation of the set.
    #[track_caller]
    pub fn enter(&self, scope: &Scope, pasid: u32, id: Id) {
        if self.is_held_by(scope, pasid, id) {
            // One more holder of the same: nothing else is to be checked.
            return self.owners(scope.side).for_each(|owners| {
                owners.enter(pasid, id);
            });
        }
        let values = scope.values;
        holds!(
            values & bit(pasid) != 0,
            "M4 or M5: {pasid} is reserved on a table of the set, or does not fit it"
        );
        holds!(
            id.set() == scope.key,
            "the word {:#x} is another set's",
            id.0
        );
        let other = match scope.side {
            Side::Global => self.on_tables[index(pasid)].load(Relaxed) > 0,
            Side::Tables(_) => self.globals.is_held(pasid),
        };
        holds!(!other, "M3: {pasid} is live globally and on a table");
        let mut first = false;
        for owners in self.owners(scope.side) {
            first |= owners.enter(pasid, id);
        }
        if first {
            if let Side::Tables(_) = scope.side {
                add(&self.on_tables[index(pasid)], 1);
            }
            let used = add(&scope.used, 1);
            if let Some(quota) = scope.quota {
                holds!(used <= quota, "M8: {used} in use of a quota of {quota}");
            }
        }
    }

    #[inline(always)]
    fn is_held_by(&self, scope: &Scope, pasid: u32, id: Id) -> bool {
        let owner = self.first(scope.side).of(pasid);
        owner.newest.load(Relaxed) == id.0 && owner.holders.load(Relaxed) > 0
    }

    /// A hand is about to give such a reference back.
    #[track_caller]
    pub fn leave(&self, scope: &Scope, pasid: u32, id: Id) {
        let mut last = false;
        for owners in self.owners(scope.side) {
            last |= owners.leave(pasid, id, scope.waits);
        }
        if last && !scope.waits {
            self.end(scope, pasid);
        }
    }

    /// A flush is about to return a PASID of the set, which waited for one.
    #[track_caller]
    pub fn returned(&self, scope: &Scope, pasid: u32) {
        let mut waited = false;
        for owners in self.owners(scope.side) {
            waited |= owners.returned(pasid);
        }
        if waited {
            self.end(scope, pasid);
        }
    }

    fn end(&self, scope: &Scope, pasid: u32) {
        if let Side::Tables(_) = scope.side {
            add(&self.on_tables[index(pasid)], -1);
        }
        add(&scope.used, -1);
    }

    // ---- Attachments -------------------------------------------------------------------

    /// A hand has reserved the table's entry, which nobody finds yet.
    #[track_caller]
    pub fn reserve_entry(&self, table: usize, pasid: u32, word: u64) {
        let (newest, holders) = &self.entries[table].0[index(pasid)];
        let count = holders.load(Relaxed);
        holds!(
            count == 0,
            "the entry of {pasid} is reserved, and {count} hold it"
        );
        newest.store(word, Relaxed);
        holders.store(1, Relaxed);
    }

    #[track_caller]
    fn entry(&self, table: usize, pasid: u32, word: u64) -> &AtomicU64 {
        let (newest, holders) = &self.entries[table].0[index(pasid)];
        let newest = newest.load(Relaxed);
        holds!(
            newest | FLIP == word | FLIP,
            "M7: the entry of {pasid} is {newest:#x}'s, and {word:#x} is found there"
        );
        holders
    }

    /// A hand holds the attachment of that word.
    #[track_caller]
    pub fn enter_entry(&self, table: usize, pasid: u32, word: u64) {
        add(self.entry(table, pasid, word), 1);
    }

    /// A hand is about to give it back.
    #[track_caller]
    pub fn leave_entry(&self, table: usize, pasid: u32, word: u64) {
        let holders = self.entry(table, pasid, word);
        holds!(
            holders.load(Relaxed) > 0,
            "the entry of {pasid} has no holder"
        );
        add(holders, -1);
    }

    pub fn is_entered(&self, table: usize, pasid: u32) -> bool {
        self.entries[table].0[index(pasid)].1.load(Relaxed) > 0
    }

    // ---- At the end --------------------------------------------------------------------

    /// Whether no hand holds anything.
    pub fn is_empty(&self) -> bool {
        let pasids = || FIRST..FIRST + COUNT as u32;
        let owners = self.tables.iter().chain([&self.globals]);
        let mut held = owners.flat_map(|owners| pasids().map(move |pasid| owners.is_held(pasid)));
        let mut entered =
            (0..TABLES).flat_map(|table| pasids().map(move |pasid| self.is_entered(table, pasid)));
        !held.any(|held| held) && !entered.any(|entered| entered)
    }
}

#[cfg(test)]
mod tests;
