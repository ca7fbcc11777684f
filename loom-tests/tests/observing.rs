// SPDX-License-Identifier: MIT OR Apache-2.0
//! What observers are told: each transition once, and *reclaimed* before the PASID can be
//! allocated again.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Model, beside, pasid};
use pasid::model::Mutation;
use pasid::{
    Error, Handle, IoasidSet, Observer, Owned, PasidWidth, Pool, Scope, SetConfig, Space,
    SpaceKind, TableConfig,
};
use std::sync::Arc;

mod turn;

use turn::beside_in_turn;

type Set = Arc<IoasidSet>;

/// Keeps count of what it is told of PASID 0.
#[derive(Default)]
struct Book {
    allocated: AtomicU64,
    live: AtomicU64,
    /// Of generations that are even, and that are odd.
    revoked: [AtomicU64; 2],
}

impl Book {
    fn revocations(&self) -> u64 {
        // Relaxed: the threads are joined.
        let counts = self
            .revoked
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        counts.sum()
    }
}

impl Observer for Book {
    fn allocated(&self, _: Handle, _: u64) {
        // Relaxed: it is the PASID that must carry what was told to its next owner.
        let live = self.live.load(Ordering::Relaxed);
        assert_eq!(
            live, 0,
            "a PASID was allocated before it was told reclaimed"
        );
        // Relaxed: as above.
        self.live.store(1, Ordering::Relaxed);
        self.allocated.store(1, Ordering::Relaxed);
    }

    fn revoked(&self, handle: Handle) {
        let revoked = &self.revoked[handle.generation() as usize % 2];
        // Relaxed: only counts. It may be told before the allocation is.
        let before = revoked.fetch_add(1, Ordering::Relaxed);
        assert_eq!(before, 0, "a revocation was told twice");
    }

    fn reclaimed(&self, handle: Handle) {
        let revoked = &self.revoked[handle.generation() as usize % 2];
        // Relaxed: as above; each PASID of these models is revoked before it ends.
        let told = revoked.load(Ordering::Relaxed);
        assert_eq!(told, 1, "a reclaiming was told before its revocation");
        // Relaxed: as above.
        let live = self.live.load(Ordering::Relaxed);
        assert_eq!(live, 1, "a reclaiming was told twice");
        // Relaxed: as above.
        self.live.store(0, Ordering::Relaxed);
    }
}

/// A set of the PASIDs 0 and 1 with an observer, all memory in place. The space is to be
/// kept.
fn observed_set() -> (Space, Arc<Book>, Set) {
    let space = Space::with_reserved(SpaceKind::Tables, &[]);
    let width = PasidWidth::new(1).expect("at most 4 bits");
    let table = space.add_table(TableConfig::new(width)).expect("memory");
    let book = Arc::new(Book::default());
    let config = SetConfig::new(Scope::Local(&table)).observer(book.clone());
    let set = space.add_set(config).expect("memory");
    set.preload(set.range()).expect("memory for 2 PASIDs");
    (space, book, Arc::new(set))
}

/// The same, and 0 is allocated.
fn observed() -> (Space, Arc<Book>, Set, Owned<Set>) {
    let (space, book, set) = observed_set();
    let owned = set.clone().alloc_at(pasid(0), 5).expect("it is free");
    (space, book, set, owned)
}

/// One frees while another allocates.
fn free_against_observed_alloc() {
    let (_space, book, set, owned) = observed();
    let asker = set.clone();
    let (next, ()) = beside(
        move || asker.alloc_in_place(pasid(0).into(), 6),
        move || drop(owned),
    );
    let live = u64::from(next.is_ok());
    // Relaxed: the threads are joined.
    assert_eq!(
        book.live.load(Ordering::Relaxed),
        live,
        "a transition was not told"
    );
}

#[test]
fn reclaimed_is_told_before_the_next_allocation() {
    let model = Model::new("observed: alloc | free", 66, free_against_observed_alloc);
    model.check();
    let message = "a PASID was allocated before it was told reclaimed";
    model.canary(Mutation::ReclaimedToldLate, message);
    model.canary(Mutation::GiveBackRelaxed, message);
}

/// One revokes while a set closes: one of them is told, and the reclaiming once.
fn revoke_against_close() {
    let (_space, book, set, owned) = observed();
    let handle = owned.handle();
    let (revoking, closing) = (set.clone(), set);
    let (revoked, ()) = beside(move || revoking.revoke(handle), move || closing.close());
    assert_eq!(revoked, Ok(()));
    drop(owned);
    // Relaxed: the threads are joined.
    let told = (book.revocations(), book.live.load(Ordering::Relaxed));
    assert_eq!(told, (1, 0), "a transition was not told");
}

#[test]
fn each_revocation_is_told_once() {
    let model = Model::new("observed: revoke | close", 244, revoke_against_close);
    model.check();
    // A reference that is lost is one too many in the end.
    model.canary(Mutation::AdvanceInTwoSteps, "a transition was not told");
}

/// One revokes while the owner frees: whoever is first tells, and before the end is told.
fn revoke_against_free() {
    let (_space, book, set, owned) = observed();
    let handle = owned.handle();
    let revoking = set.clone();
    let (revoked, ()) = beside_in_turn(move || revoking.revoke(handle), move || drop(owned));
    assert!(revoked.is_ok() || revoked == Err(Error::Stale(handle)));
    // Relaxed: the threads are joined.
    let told = (book.revocations(), book.live.load(Ordering::Relaxed));
    assert_eq!(told, (1, 0), "a transition was not told");
}

#[test]
fn a_revocation_is_told_before_the_end() {
    let model = Model::new("observed: revoke | free", 119, revoke_against_free);
    model.check();
    model.canary(
        Mutation::RevokedToldLate,
        "a reclaiming was told before its revocation",
    );
}

/// An owner frees while a set closes and another holder gives its reference back.
fn free_against_close() {
    let (_space, book, set, owned) = observed();
    let holder = owned.get().expect("nobody frees yet");
    beside(
        move || {
            drop(owned);
            drop(holder);
        },
        move || set.close(),
    );
    // Relaxed: the threads are joined.
    let told = (book.revocations(), book.live.load(Ordering::Relaxed));
    assert_eq!(told, (1, 0), "a transition was not told");
}

#[test]
fn each_reclaiming_is_told_once() {
    let model = Model::new("observed: free, put | close", 1_623, free_against_close);
    model.check();
    // A reference that is lost is one too many in the end.
    model.canary(Mutation::AdvanceInTwoSteps, "a transition was not told");
}

/// A set closes while one allocates: if that is not refused, it is told revoked by the
/// closing, and not when its owner frees it.
fn alloc_against_close() {
    let (_space, book, set) = observed_set();
    let asker = set.clone();
    let (owned, ()) = beside_in_turn(
        move || asker.alloc_in_place(pasid(0).into(), 5),
        move || set.close(),
    );
    // Relaxed: the threads are joined.
    let revoked = book.revocations();
    assert_eq!(
        revoked,
        // Who came after the closing has allocated and freed nothing.
        book.allocated.load(Ordering::Relaxed),
        "a closing did not tell a revocation"
    );
    drop(owned);
    // Relaxed: as above.
    assert_eq!(
        book.live.load(Ordering::Relaxed),
        0,
        "a transition was not told"
    );
}

#[test]
fn a_closing_tells_what_it_revokes() {
    let model = Model::new("observed: alloc | close", 228, alloc_against_close).with_total_order();
    model.check();
    let message = "a closing did not tell a revocation";
    model.canary(Mutation::MarkWithoutOrder, message);
    model.canary(Mutation::ClosingNotLookedAtAgain, message);
}
