// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the test itself knows of PASIDs that are over: when they may be handed out again,
//! and which flush has them. As in `shadow.rs` everything here lies within what is so in the
//! space, and every access is relaxed.

use crate::shadow::Id;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// When each PASID of one table, or of all, may be handed out again (M7).
///
/// Moments are counted by one clock: whatever comes after another through the space has
/// the higher number.
pub struct Reuse(Vec<Wait>);

/// What is known of one PASID.
#[derive(Default)]
struct Wait {
    /// When a holder or its pin was last about to go, of a set whose PASIDs await a flush; and
    /// in the lower half, of which allocation.
    left: AtomicU64,
    /// When the last flush that returned it had begun.
    covered: AtomicU64,
    /// The allocation that is pinned.
    pin: AtomicU64,
}

/// What tells the allocations of one round apart.
fn half(id: Id) -> u64 {
    id.0 & 0xffff_ffff
}

impl Reuse {
    pub fn new(count: u32) -> Reuse {
        Reuse((0..count).map(|_| Wait::default()).collect())
    }

    fn at(&self, pasid: u32) -> &Wait {
        &self.0[pasid as usize]
    }

    /// A holder of the PASID, or its pin, is about to go.
    pub fn leaves(&self, pasid: u32, id: Id, now: u64) {
        assert!(now < 1 << 32);
        let left = now << 32 | half(id);
        self.at(pasid).left.fetch_max(left, Ordering::Relaxed);
    }

    /// A flush that had begun at `begun` is about to return it.
    pub fn returns(&self, pasid: u32, begun: u64) {
        self.at(pasid).covered.fetch_max(begun, Ordering::Relaxed);
    }

    /// The PASID was handed out as `id`. Returns whether it had awaited a flush before.
    #[track_caller]
    pub fn check(&self, pasid: u32, id: Id) -> bool {
        let wait = self.at(pasid);
        let pinned = wait.pin.load(Ordering::Relaxed);
        assert!(
            pinned == 0 || pinned == id.0,
            "broken: {pasid} is handed out while it is pinned"
        );
        let (left, covered) = (
            wait.left.load(Ordering::Relaxed),
            wait.covered.load(Ordering::Relaxed),
        );
        if left & 0xffff_ffff == half(id) {
            // Somebody has had it by its number, and let it go, before this look.
            return false;
        }
        let left = left >> 32;
        assert!(
            left == 0 || covered > left,
            "broken: {pasid} went at {left}, and the last flush of it had begun at {covered}"
        );
        left != 0
    }

    /// The caller has pinned the PASID.
    #[track_caller]
    pub fn pin(&self, pasid: u32, id: Id) {
        let before = self.at(pasid).pin.swap(id.0, Ordering::Relaxed);
        assert_eq!(before, 0, "broken: {pasid} is pinned twice");
    }

    /// The caller is about to take the pin away.
    pub fn unpin(&self, pasid: u32) {
        self.at(pasid).pin.store(0, Ordering::Relaxed);
    }

    pub fn is_pinned(&self, pasid: u32) -> bool {
        self.at(pasid).pin.load(Ordering::Relaxed) != 0
    }
}

/// What is in the batches of one id space, and whose the PASIDs were.
pub struct Batches {
    /// For each PASID the newest allocation in this id space.
    newest: Vec<AtomicU64>,
    /// Whether it is in a batch.
    taken: Vec<AtomicU32>,
    /// Batches in flight that have something.
    in_flight: AtomicU32,
}

impl Batches {
    pub fn new(count: u32) -> Batches {
        Batches {
            newest: (0..count).map(|_| AtomicU64::new(0)).collect(),
            taken: (0..count).map(|_| AtomicU32::new(0)).collect(),
            in_flight: AtomicU32::new(0),
        }
    }

    pub fn note(&self, pasid: u32, id: Id) {
        self.newest[pasid as usize].store(id.0, Ordering::Relaxed);
    }

    /// Whose the PASID of a batch was, if it was anybody's that the shadow knows.
    pub fn owner(&self, pasid: u32) -> Option<Id> {
        let id = self.newest[pasid as usize].load(Ordering::Relaxed);
        (id != 0).then_some(Id(id))
    }

    /// A batch with something has begun. Returns whether there was another.
    pub fn begin(&self) -> bool {
        self.in_flight.fetch_add(1, Ordering::Relaxed) > 0
    }

    /// It is about to be over.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn any_in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// The caller's batch has the PASID.
    #[track_caller]
    pub fn take(&self, pasid: u32) {
        let before = self.taken[pasid as usize].swap(1, Ordering::Relaxed);
        assert_eq!(before, 0, "broken: {pasid} belongs to two flushes");
    }

    /// The caller is about to return it, or to put it back.
    #[track_caller]
    pub fn let_go(&self, pasid: u32) {
        let before = self.taken[pasid as usize].swap(0, Ordering::Relaxed);
        assert_eq!(before, 1, "broken: {pasid} left a batch by itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shadow_accepts_an_orderly_flush() {
        let (reuse, batches) = (Reuse::new(2), Batches::new(2));
        assert!(!reuse.check(1, Id(7)));
        batches.note(1, Id(7));
        reuse.leaves(1, Id(7), 5);
        // By somebody else who had it, before its owner looked.
        assert!(!reuse.check(1, Id(7)));
        assert!(!batches.begin() && batches.begin());
        batches.take(1);
        batches.let_go(1);
        batches.take(1);
        assert_eq!((batches.owner(0), batches.owner(1)), (None, Some(Id(7))));
        reuse.returns(1, 6);
        batches.let_go(1);
        batches.end();
        assert!(batches.any_in_flight());
        assert!(reuse.check(1, Id(8)));
    }

    #[test]
    #[should_panic(expected = "the last flush of it had begun at 0")]
    fn it_notices_reuse_without_a_flush() {
        let reuse = Reuse::new(2);
        reuse.leaves(1, Id(7), 5);
        reuse.check(1, Id(8));
    }

    #[test]
    #[should_panic(expected = "went at 5, and the last flush of it had begun at 4")]
    fn it_notices_reuse_after_a_flush_that_began_too_early() {
        let reuse = Reuse::new(2);
        reuse.leaves(1, Id(7), 5);
        reuse.returns(1, 4);
        reuse.check(1, Id(8));
    }

    #[test]
    #[should_panic(expected = "while it is pinned")]
    fn it_notices_the_reuse_of_what_is_pinned() {
        let reuse = Reuse::new(2);
        reuse.pin(1, Id(7));
        reuse.check(1, Id(8));
    }

    #[test]
    #[should_panic(expected = "two flushes")]
    fn it_notices_a_pasid_of_two_flushes() {
        let batches = Batches::new(2);
        batches.take(1);
        batches.take(1);
    }
}
