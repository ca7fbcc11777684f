// SPDX-License-Identifier: MIT OR Apache-2.0
//! References beside each other where a freed PASID awaits a flush: once the last is given
//! back the PASID waits, exactly once, and nobody gets it before the flush.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::flushing::{flush, set_of, take, waiting_set};
use loom_tests::{HeldOf, Model, Set, beside, pasid};
use pasid::model::Mutation;
use pasid::{Error, Flush, Handle, Observer, Pool, Reuse};
use std::sync::Arc;

const LOST: &str = "a PASID is lost";
const TWICE: &str = "a PASID waited twice";
const HANDED_OUT: &str = "a PASID was handed out that is referenced";

/// A set in which 0 is allocated with the word 7.
fn owned() -> (impl Sized, Set, HeldOf) {
    let (space, set) = waiting_set(0);
    let owned = take(&set, 0);
    (space, set, owned)
}

/// Fails if 0, of which somebody holds a reference, is flushed or can be allocated.
fn assert_held(set: &Set) {
    let flushed = flush(set);
    assert!(
        flushed.is_empty(),
        "a PASID was handed out that is referenced"
    );
    let next = set.clone().alloc_in_place(pasid(0).into(), 9);
    let held = Error::Exhausted {
        range: pasid(0).into(),
    };
    assert_eq!(
        next.err(),
        Some(held),
        "a PASID was handed out that is referenced"
    );
}

/// Fails unless 0 was in one of the batches `before`, or waits for the next flush alone.
fn assert_waited_once(set: &Set, before: &[&[u16]]) {
    let next = flush(set);
    let count = before.iter().map(|batch| batch.len()).sum::<usize>() + next.len();
    assert!(count <= 1 && flush(set).is_empty(), "a PASID waited twice");
    assert!(count == 1, "a PASID is lost");
    let next = set.clone().alloc_at(pasid(0), 9);
    assert!(next.is_ok(), "a PASID is lost");
}

/// Two free what is owned in raw form, while a third holds a reference.
fn free_against_free() {
    let (_space, set, owned) = owned();
    let third = owned.get().expect("nobody frees yet");
    let handle = Handle::from_raw(owned.into_raw()).expect("a raw form");
    let (one, two) = (set.clone(), set.clone());
    let freed = beside(
        // SAFETY: the allocation is owned in raw form; who is second frees one that
        // is without its own reference.
        move || unsafe { one.free(handle) },
        // SAFETY: as above.
        move || unsafe { two.free(handle) },
    );
    assert_eq!(freed, (Ok(()), Ok(())));
    assert_held(&set);
    assert_eq!(third.word(), 7);
    drop(third);
    assert_waited_once(&set, &[]);
}

#[test]
fn two_frees_let_the_pasid_wait_once() {
    let model = Model::new("waiting: free | free", 22, free_against_free);
    model.check();
    model.canary(Mutation::FreeJudgesEarly, HANDED_OUT);
}

/// An owner frees, and flushes, while another holder gives its reference back by handle,
/// and flushes too: one of the flushes or the next has it.
fn free_against_put() {
    let (_space, set, owned) = owned();
    let other = owned.get().expect("nobody frees yet");
    let handle = Handle::from_raw(other.into_raw()).expect("a raw form");
    let (freeing, putting) = (set.clone(), set.clone());
    let (one, two) = beside(
        move || {
            drop(owned);
            flush(&freeing)
        },
        move || {
            // SAFETY: the reference that `into_raw` gave up.
            let put = unsafe { putting.put(handle) };
            assert_eq!(put, Ok(()));
            flush(&putting)
        },
    );
    assert_waited_once(&set, &[&one, &two]);
}

#[test]
fn the_own_reference_and_another_let_the_pasid_wait_once() {
    let model = Model::new(
        "waiting: free, flush | put by handle, flush",
        72,
        free_against_put,
    );
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
}

/// One asks for a reference while the last is given back, and flushes when it has given it
/// up again: it holds the PASID, which does not wait, or is refused.
fn get_against_last(give_up: fn(HeldOf)) {
    let (_space, set, owned) = owned();
    let handle = owned.handle();
    let getter = set.clone();
    let (first, ()) = beside(
        move || {
            match getter.clone().get(handle) {
                Ok(reference) => {
                    assert_held(&getter);
                    assert_eq!(reference.word(), 7);
                }
                Err(error) => assert!(
                    error == Error::Stale(handle) || error == Error::BeingFreed(pasid(0)),
                    "{error}"
                ),
            }
            flush(&getter)
        },
        move || give_up(owned),
    );
    assert_waited_once(&set, &[&first]);
}

#[test]
fn a_get_beside_the_last_put_holds_or_the_pasid_waits() {
    let model = Model::new("waiting: get, flush | last put", 132, || {
        get_against_last(|owned| drop(owned.into_ref()));
    });
    model.check();
    model.canary(Mutation::GetFromNothing, TWICE);
}

#[test]
fn a_get_beside_a_free_holds_or_the_pasid_waits() {
    let model = Model::new("waiting: get, flush | free", 53, || get_against_last(drop));
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
}

/// A handle of an allocation that waits is used while a flush completes and the next owner
/// comes: it does not touch the next owner's references.
fn stale_get_against_flush_and_alloc() {
    let (_space, set, owned) = owned();
    let stale = owned.handle();
    drop(owned);
    let (getter, owner) = (set.clone(), set.clone());
    let (owned, got) = beside(
        move || {
            assert_eq!(flush(&owner), [0]);
            take(&owner, 0)
        },
        move || getter.get(stale).map(|reference| reference.word()),
    );
    assert_eq!(got, Err(Error::Stale(stale)));
    let reference = owned.get();
    assert!(reference.is_ok(), "the next owner's count is corrupted");
    drop(owned);
    assert_held(&set);
    drop(reference);
    assert_waited_once(&set, &[]);
}

#[test]
fn a_stale_get_does_not_touch_the_owner_after_a_flush() {
    let model = Model::new(
        "waiting: flush, alloc | stale get",
        24,
        stale_get_against_flush_and_alloc,
    );
    model.check();
    model.canary(
        Mutation::GetByAddition,
        "the next owner's count is corrupted",
    );
}

// ---- Observers ---------------------------------------------------------------------

/// Whether the PASID is live for who is told.
#[derive(Default)]
struct Live(AtomicU64);

impl Observer for Live {
    fn allocated(&self, _: Handle, _: u64) {
        // Relaxed: it is the PASID that must carry what was told to its next owner.
        let live = self.0.load(Ordering::Relaxed);
        assert_eq!(
            live, 0,
            "a PASID was allocated before it was told reclaimed"
        );
        // Relaxed: as above.
        self.0.store(1, Ordering::Relaxed);
    }

    fn reclaimed(&self, _: Handle) {
        // Relaxed: as above.
        self.0.store(0, Ordering::Relaxed);
    }
}

/// One frees while another flushes and allocates.
fn free_against_flush_and_observed_alloc() {
    let live = Arc::new(Live::default());
    let (_space, set) = set_of(3, |config| {
        config.reuse(Reuse::AfterFlush).observer(live.clone())
    });
    // Marks the leaf, so that nothing but the word of 0 carries what was told.
    drop(take(&set, 2));
    let owned = take(&set, 0);
    let (next, ()) = beside(
        move || {
            set.clone().begin_flush().complete();
            set.alloc_in_place(pasid(0).into(), 8)
        },
        move || drop(owned),
    );
    // Relaxed: the threads are joined.
    let told = live.0.load(Ordering::Relaxed);
    assert_eq!(told, u64::from(next.is_ok()), "a transition was not told");
}

#[test]
fn reclaimed_is_told_before_the_flush_can_have_the_pasid() {
    let model = Model::new(
        "observed: flush, alloc | free",
        29,
        free_against_flush_and_observed_alloc,
    );
    model.check();
    let message = "a PASID was allocated before it was told reclaimed";
    model.canary(Mutation::ReclaimedToldLate, message);
    model.canary(Mutation::WaitRelaxed, message);
}

/// One gives back the last reference while another counts: it is freed, or waits.
fn last_put_against_count() {
    let (_space, set, owned) = owned();
    let last = owned.get().expect("nobody frees yet");
    drop(owned);
    let (of, ()) = beside(
        {
            let set = set.clone();
            move || set.statistics()
        },
        move || drop(last),
    );
    assert_eq!(of.freeing + of.waiting, 1, "a PASID was not counted");
    assert_waited_once(&set, &[]);
}

#[test]
fn a_pasid_whose_last_reference_goes_is_counted() {
    let model = Model::new("waiting: count | put", 33, last_put_against_count);
    model.check();
    model.canary(Mutation::EndingNotCounted, "a PASID was not counted");
}

/// The same beside a snapshot: if it says that it was quiescent, it has the PASID.
fn last_put_against_snapshot() {
    let (_space, set, owned) = owned();
    let last = owned.get().expect("nobody frees yet");
    drop(owned);
    let (taken, ()) = beside(
        {
            let set = set.clone();
            move || set.snapshot().expect("memory")
        },
        move || drop(last),
    );
    let whole = !taken.quiescent || taken.count() == 1;
    assert!(whole, "a quiescent snapshot lacks a PASID");
    assert_waited_once(&set, &[]);
}

#[test]
fn a_quiescent_snapshot_has_the_pasid_whose_last_reference_goes() {
    let model = Model::new("waiting: snapshot | put", 178, last_put_against_snapshot);
    model.check();
    let message = "a quiescent snapshot lacks a PASID";
    model.canary(Mutation::EndingNotCounted, message);
}
