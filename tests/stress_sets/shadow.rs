// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the test itself knows of who holds what, beside the space and without it.
//!
//! A holder is entered after the space gave it something, and leaves before it gives that
//! back. So what is in the shadow is in the space too, at every instant, and whatever the
//! space promises must hold here. Every access is relaxed: the order that the checks need
//! must come from the space, and a space that does not give it fails them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Names one allocation of one set. No other one of a round has it.
///
/// ```text
///  47         32 31     28 27        0
/// +-------------+---------+-----------+
/// |   set key   | thread  |  number   |
/// +-------------+---------+-----------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(pub u64);

impl Id {
    pub fn new(set: u32, thread: u32, number: u32) -> Id {
        assert!(set < 1 << 16 && thread < 1 << 4 && number < 1 << 28);
        Id(u64::from(set) << 32 | u64::from(thread << 28 | number))
    }

    pub fn set(self) -> usize {
        (self.0 >> 32) as usize
    }
}

/// What holders turn an attachment's word into, and back.
pub const FLIP: u64 = 1;

/// The word of an attachment: the allocation's identity, which attachment of it, and
/// [`FLIP`].
pub fn attached_word(id: Id, number: u32) -> u64 {
    id.0 << 16 | u64::from(number << 1 & 0xffff)
}

/// Whose attachment has that word.
pub fn id_of(word: u64) -> Id {
    Id(word >> 16)
}

const HOLDERS: u64 = 0xffff;

/// Who has the PASIDs of one table, or of all: for each the identity of the newest
/// allocation, and how many hold it.
pub struct Owners(Vec<AtomicU64>);

impl Owners {
    pub fn new(count: u32) -> Owners {
        Owners((0..count).map(|_| AtomicU64::new(0)).collect())
    }

    /// The caller has got a reference to `id`, or has allocated it: nobody holds another
    /// allocation of the PASID here. Returns whether it is the first holder.
    #[track_caller]
    pub fn enter(&self, pasid: u32, id: Id) -> bool {
        let word = &self.0[pasid as usize];
        let mut now = word.load(Ordering::Relaxed);
        loop {
            let (other, holders) = (now >> 16, now & HOLDERS);
            assert!(
                holders == 0 || other == id.0,
                "broken: PASID {pasid} is {id:x?}'s, and {holders} hold it for {other:#x}"
            );
            let next = id.0 << 16 | (holders + 1);
            match word.compare_exchange_weak(now, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return holders == 0,
                Err(actual) => now = actual,
            }
        }
    }

    /// The caller is about to give a reference to `id` back. Returns whether no holder is
    /// left.
    #[track_caller]
    pub fn leave(&self, pasid: u32, id: Id) -> bool {
        let before = self.0[pasid as usize].fetch_sub(1, Ordering::Relaxed);
        assert_eq!(
            before >> 16,
            id.0,
            "broken: {pasid} is over while it is held"
        );
        assert_ne!(before & HOLDERS, 0, "broken: {pasid} has no holder");
        before & HOLDERS == 1
    }

    /// The space says that the last reference is gone.
    #[track_caller]
    pub fn check_vacant(&self, pasid: u32) {
        let now = self.0[pasid as usize].load(Ordering::Relaxed);
        assert_eq!(
            now & HOLDERS,
            0,
            "broken: {pasid} is over, and {now:#x} holds"
        );
    }
}

/// Global sets, or those of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Table,
    Global,
}

/// How many allocations of each side have a PASID, on whatever table: at most one global
/// one, or any number of tables' and tables' reservations.
pub struct Sides(Vec<AtomicU64>);

impl Sides {
    pub fn new(count: u32) -> Sides {
        Sides((0..count).map(|_| AtomicU64::new(0)).collect())
    }

    const fn one(side: Side) -> u64 {
        match side {
            Side::Table => 1,
            Side::Global => 1 << 32,
        }
    }

    /// Returns how many of the side there were.
    #[track_caller]
    pub fn enter(&self, pasid: u32, side: Side) -> u32 {
        let before = self.0[pasid as usize].fetch_add(Self::one(side), Ordering::Relaxed);
        let (global, table) = ((before >> 32) as u32, before as u32);
        let (same, other) = match side {
            Side::Table => (table, global),
            Side::Global => (global, table),
        };
        assert_eq!(
            other, 0,
            "broken: {pasid} is held on both sides, last: {side:?}"
        );
        same
    }

    pub fn leave(&self, pasid: u32, side: Side) {
        self.0[pasid as usize].fetch_sub(Self::one(side), Ordering::Relaxed);
    }
}

/// What is attached to one table: for each PASID the word of the newest attachment, and
/// how many hold it.
pub struct Entries(Vec<(AtomicU64, AtomicU32)>);

impl Entries {
    pub fn new(count: u32) -> Entries {
        let entry = || (AtomicU64::new(0), AtomicU32::new(0));
        Entries((0..count).map(|_| entry()).collect())
    }

    /// The caller has reserved the entry, and nobody finds it yet.
    #[track_caller]
    pub fn reserved(&self, pasid: u32, word: u64) {
        let (newest, holders) = &self.0[pasid as usize];
        let holders = holders.load(Ordering::Relaxed);
        assert_eq!(
            holders, 0,
            "broken: the entry of {pasid} is reserved and held"
        );
        newest.store(word, Ordering::Relaxed);
    }

    #[track_caller]
    fn check(&self, pasid: u32, word: u64) {
        let newest = self.0[pasid as usize].0.load(Ordering::Relaxed);
        assert_eq!(
            newest | FLIP,
            word | FLIP,
            "broken: PASID {pasid} has the word of another attachment"
        );
    }

    /// The caller holds the attachment of that word: it has committed it, or found it.
    #[track_caller]
    pub fn enter(&self, pasid: u32, word: u64) {
        self.check(pasid, word);
        self.0[pasid as usize].1.fetch_add(1, Ordering::Relaxed);
    }

    /// The caller is about to give it back.
    #[track_caller]
    pub fn leave(&self, pasid: u32, word: u64) {
        self.check(pasid, word);
        let before = self.0[pasid as usize].1.fetch_sub(1, Ordering::Relaxed);
        assert_ne!(before, 0, "broken: the entry of {pasid} has no holder");
    }
}

/// A set's credits: what is out, and the most that may be. One word, so that both are
/// read at one instant.
pub struct Credits(AtomicU64);

impl Credits {
    pub fn new(limit: u32) -> Credits {
        Credits(AtomicU64::new(u64::from(limit) << 32))
    }

    #[track_caller]
    pub fn enter(&self) {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let (limit, used) = (before >> 32, before & 0xffff_ffff);
        assert!(used < limit, "broken: more than the quota of {limit}");
    }

    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The limit is about to be raised, or was lowered, by this thread alone.
    #[track_caller]
    pub fn limit(&self, limit: u32) {
        let before = self.0.load(Ordering::Relaxed) >> 32;
        let change = u64::from(limit).wrapping_sub(before) << 32;
        let now = self
            .0
            .fetch_add(change, Ordering::Relaxed)
            .wrapping_add(change);
        assert!(
            now & 0xffff_ffff <= now >> 32,
            "broken: the quota was made less than what is in use"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Id = Id(1 << 32 | 1);
    const OTHER: Id = Id(2 << 32 | 1);

    #[test]
    fn the_shadow_accepts_an_orderly_life() {
        let owners = Owners::new(2);
        for id in [ONE, OTHER] {
            assert!(owners.enter(1, id));
            assert!(!owners.enter(1, id));
            assert!(!owners.leave(1, id));
            assert!(owners.leave(1, id));
            owners.check_vacant(1);
        }
        let sides = Sides::new(2);
        assert_eq!(
            (sides.enter(1, Side::Table), sides.enter(1, Side::Table)),
            (0, 1)
        );
        sides.leave(1, Side::Table);
        sides.leave(1, Side::Table);
        assert_eq!(sides.enter(1, Side::Global), 0);
        let entries = Entries::new(2);
        let word = attached_word(ONE, 7);
        assert_eq!(id_of(word), ONE);
        entries.reserved(1, word);
        entries.enter(1, word ^ FLIP);
        entries.leave(1, word);
        entries.reserved(1, attached_word(ONE, 8));
        let credits = Credits::new(1);
        credits.enter();
        credits.limit(2);
        credits.enter();
    }

    #[test]
    #[should_panic(expected = "hold it for")]
    fn it_notices_two_owners() {
        let owners = Owners::new(2);
        owners.enter(1, ONE);
        owners.enter(1, OTHER);
    }

    #[test]
    #[should_panic(expected = "over while it is held")]
    fn it_notices_another_owner_at_the_end() {
        let owners = Owners::new(2);
        owners.enter(1, ONE);
        owners.leave(1, OTHER);
    }

    #[test]
    #[should_panic(expected = "is over, and")]
    fn it_notices_a_holder_at_the_end() {
        let owners = Owners::new(2);
        owners.enter(1, ONE);
        owners.check_vacant(1);
    }

    #[test]
    #[should_panic(expected = "on both sides")]
    fn it_notices_a_global_one_beside_a_table_s() {
        let sides = Sides::new(2);
        sides.enter(1, Side::Table);
        sides.enter(1, Side::Global);
    }

    #[test]
    #[should_panic(expected = "of another attachment")]
    fn it_notices_the_word_of_an_earlier_attachment() {
        let entries = Entries::new(2);
        entries.reserved(1, attached_word(ONE, 2));
        entries.enter(1, attached_word(ONE, 1));
    }

    #[test]
    #[should_panic(expected = "reserved and held")]
    fn it_notices_an_entry_that_is_reserved_under_a_fault() {
        let entries = Entries::new(2);
        entries.reserved(1, attached_word(ONE, 1));
        entries.enter(1, attached_word(ONE, 1));
        entries.reserved(1, attached_word(ONE, 2));
    }

    #[test]
    #[should_panic(expected = "more than the quota")]
    fn it_notices_a_credit_too_many() {
        let credits = Credits::new(1);
        credits.enter();
        credits.enter();
    }

    #[test]
    #[should_panic(expected = "less than what is in use")]
    fn it_notices_a_quota_below_its_use() {
        let credits = Credits::new(2);
        credits.enter();
        credits.enter();
        credits.limit(1);
    }
}
