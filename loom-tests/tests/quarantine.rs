// SPDX-License-Identifier: MIT OR Apache-2.0
//! What awaits a flush, beside puts and flushes: it is of one batch, none is lost, and
//! what ends after a batch was taken is not returned by it.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::flushing::{
    TWICE, UNCOVERED, awaiting, batch, flush, marked_set, take, waiting_set,
};
use loom_tests::{Model, Set, beside, pasid, range, three_beside};
use pasid::model::Mutation;
use pasid::{
    Attach, Error, Flush, PasidWidth, Pool, Reuse, Scope, SetConfig, Space, SpaceKind, TableConfig,
};
use std::sync::Arc;

const LOST: &str = "a PASID is lost";
const UNSEEN: &str = "the next owner does not see what the last one wrote";

/// Fails unless each of `numbers` was covered once by all of `batches` together.
fn assert_once(numbers: impl IntoIterator<Item = u16>, batches: &[&[u16]]) {
    for number in numbers {
        let covered = batches.iter().filter(|batch| batch.contains(&number));
        let count = covered.count();
        assert!(count <= 1, "a PASID is in two batches");
        assert!(count == 1, "a PASID is lost");
    }
}

// ---- A put beside a flush --------------------------------------------------------

/// One frees while another flushes, in a leaf of which something waits already: what was
/// freed is in this batch or in the next, and what is not in this one is not returned.
fn put_against_flush() {
    let (_space, set) = marked_set();
    let owned = take(&set, 1);
    let flusher = set.clone();
    let (first, ()) = beside(move || flush(&flusher), move || drop(owned));
    assert!(first.contains(&2), "a PASID is lost");
    match set.clone().alloc_at(pasid(1), 8) {
        Ok(_) => assert!(first.contains(&1), "a flush returned what it did not cover"),
        Err(error) => {
            assert_eq!(error, awaiting(1, 1), "a PASID is lost");
            assert!(!first.contains(&1), "a PASID is lost");
        }
    }
    assert!(flush(&set).contains(&1), "a PASID is lost");
    assert!(set.alloc_at(pasid(1), 9).is_ok(), "a PASID is lost");
}

#[test]
fn a_put_beside_a_flush_is_in_its_batch_or_in_the_next() {
    let model = Model::new("flush | free", 20, put_against_flush).with_total_order();
    model.check();
    model.canary(Mutation::LeafMarkedBeforeWaiting, LOST);
    model.canary(Mutation::MarkWithoutOrder, LOST);
    model.canary(Mutation::FlushTakesLate, UNCOVERED);
}

/// Two put PASIDs of one word while another flushes.
fn two_puts_against_flush() {
    let (_space, set) = waiting_set(1);
    let (one, two) = (take(&set, 0), take(&set, 1));
    let flusher = set.clone();
    let ((), (), first) = three_beside(
        move || drop(one),
        move || drop(two),
        move || flush(&flusher),
    );
    let second = flush(&set);
    assert_once(0..=1, &[&first, &second]);
}

#[test]
fn two_puts_in_a_word_beside_a_flush_are_both_found() {
    let model = Model::new("free | free | flush", 520, two_puts_against_flush).with_total_order();
    model.check();
    model.canary(Mutation::LeafMarkedBeforeWaiting, LOST);
    model.canary(Mutation::WaitInTwoSteps, LOST);
}

/// One writes and frees while another flushes, and allocates what that returned.
fn put_against_flush_and_alloc() {
    let (_space, set) = marked_set();
    let owned = take(&set, 0);
    let written = Arc::new(AtomicU64::new(0));
    let note = written.clone();
    let next = set.clone();
    beside(
        move || {
            if !flush(&next).contains(&0) {
                return;
            }
            assert!(next.alloc_at(pasid(0), 8).is_ok(), "a PASID is lost");
            // Relaxed: it is the PASID that must carry it to the next owner.
            let seen = written.load(Ordering::Relaxed);
            assert_eq!(
                seen, 1,
                "the next owner does not see what the last one wrote"
            );
        },
        move || {
            // Relaxed: as above.
            note.store(1, Ordering::Relaxed);
            drop(owned);
        },
    );
}

#[test]
fn who_flushes_and_allocates_sees_what_the_last_owner_wrote() {
    let model = Model::new("flush, alloc | free", 29, put_against_flush_and_alloc);
    model.check();
    model.canary(Mutation::WaitRelaxed, UNSEEN);
}

/// One writes and frees, another flushes, and a third allocates: it comes after the
/// flush, and sees what both wrote before.
fn put_against_flush_against_alloc() {
    let (_space, set) = marked_set();
    let owned = take(&set, 0);
    let written = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let (note, invalidated) = (written.clone(), written.clone());
    let (flusher, asker) = (set.clone(), set);
    three_beside(
        move || {
            if asker.clone().alloc_in_place(pasid(0).into(), 8).is_err() {
                return;
            }
            for note in written.iter() {
                // Relaxed: it is the PASID that must carry it to the next owner.
                let seen = note.load(Ordering::Relaxed);
                assert_eq!(
                    seen, 1,
                    "the next owner does not see what the last one wrote"
                );
            }
        },
        move || {
            // Relaxed: as above.
            note[0].store(1, Ordering::Relaxed);
            drop(owned);
        },
        move || {
            let ticket = flusher.begin_flush();
            // Relaxed: as above.
            invalidated[1].store(1, Ordering::Relaxed);
            ticket.complete();
        },
    );
}

#[test]
fn the_next_owner_comes_after_the_flush() {
    let model = Model::new(
        "alloc | free | flush",
        14_286,
        put_against_flush_against_alloc,
    );
    model.check();
    model.canary(Mutation::WaitRelaxed, UNSEEN);
    model.canary(Mutation::GiveBackRelaxed, UNSEEN);
    model.canary(Mutation::TakeRelaxed, UNSEEN);
}

/// One looks a PASID up while it is freed by another and linked into a batch by a third:
/// what it finds is the owner's word, and no link.
fn find_against_put_against_flush() {
    let (_space, set) = marked_set();
    let owned = take(&set, 0);
    let (finder, flusher) = (set.clone(), set);
    let (found, (), _ticket) = three_beside(
        move || finder.find(pasid(0)),
        move || drop(owned),
        move || flusher.begin_flush(),
    );
    match found {
        Ok(found) => assert_eq!(found.word, 7, "a look-up found a link"),
        Err(error) => assert_eq!(error, Error::NotFound(pasid(0))),
    }
}

#[test]
fn a_look_up_never_finds_a_link() {
    let model = Model::new("find | free | flush", 868, find_against_put_against_flush);
    model.check();
    let message = "a look-up found a link";
    model.canary(Mutation::WaitRelaxed, message);
    model.canary(Mutation::WordRelaxed, message);
}

// ---- Flushes beside each other ---------------------------------------------------

/// Two flush, one of them after it freed: each PASID is of one batch. Two are in one word,
/// and one is in another.
fn put_and_flush_against_flush() {
    let (_space, set) = marked_set();
    drop(take(&set, 0));
    let owned = take(&set, 1);
    let (one, two) = (set.clone(), set.clone());
    let (one, two) = beside(
        move || {
            drop(owned);
            flush(&one)
        },
        move || flush(&two),
    );
    assert_once(0..=2, &[&one, &two]);
    assert_eq!(set.clone().flushes().returned, 3);
    let all = [take(&set, 0), take(&set, 1), take(&set, 2)];
    assert_eq!(set.statistics().live, 3);
    drop(all);
}

#[test]
fn each_pasid_belongs_to_one_of_two_flushes() {
    let model = Model::new("free, flush | flush", 117, put_and_flush_against_flush);
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::BatchTakenInTwoSteps, TWICE);
}

/// Two flush while another frees: what it freed is of one of their batches or of the next.
fn put_against_two_flushes() {
    let (_space, set) = waiting_set(1);
    let owned = take(&set, 0);
    drop(take(&set, 1));
    let (one, two) = (set.clone(), set.clone());
    let ((), one, two) = three_beside(
        move || drop(owned),
        move || flush(&one),
        move || flush(&two),
    );
    let next = flush(&set);
    assert_once(0..=1, &[&one, &two, &next]);
}

#[test]
fn a_put_beside_two_flushes_is_found_once() {
    let model =
        Model::new("free | flush | flush", 1_026, put_against_two_flushes).with_total_order();
    model.check();
    model.canary(Mutation::LeafMarkedBeforeWaiting, LOST);
    // Each of the two links what it took through the same slot.
    model.canary(Mutation::BatchTakenInTwoSteps, LOST);
}

/// A ticket is dropped while another flushes: its batch is of that flush or of the next.
fn dropped_ticket_against_flush() {
    let (_space, set) = waiting_set(3);
    drop(take(&set, 0));
    let dropping = set.clone().begin_flush();
    assert_eq!(batch(&dropping), [0]);
    drop(take(&set, 2));
    let flusher = set.clone();
    let (first, ()) = beside(move || flush(&flusher), move || drop(dropping));
    let second = flush(&set);
    assert_once([0, 2], &[&first, &second]);
    assert_eq!(set.flushes().in_flight, 0);
}

#[test]
fn a_dropped_ticket_is_found_by_this_flush_or_the_next() {
    let model = Model::new("flush | drop ticket", 32, dropped_ticket_against_flush);
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::LeafMarkedBeforeWaiting, LOST);
}

/// The invalidation fails on one table while one frees a PASID of the same word: both wait
/// for the next flush, and what was not attached there is returned.
fn put_back_against_put() {
    let space = Space::with_reserved(SpaceKind::Both, &[]);
    let width = PasidWidth::new(2).expect("at most 4 bits");
    let table = Arc::new(space.add_table(TableConfig::new(width)).expect("memory"));
    table.preload(width.range()).expect("memory");
    let config = SetConfig::new(Scope::Global).range(range(0, 2));
    let set = space
        .add_set(config.reuse(Reuse::AfterFlush))
        .expect("memory");
    set.preload(set.range()).expect("memory");
    let set: Set = Arc::new(set);
    let (there, owned, elsewhere) = (take(&set, 0), take(&set, 1), take(&set, 2));
    drop(
        (&*table)
            .attach(&there, 1)
            .and_then(|attaching| attaching.commit()),
    );
    drop((there, elsewhere));
    let mut ticket = set.clone().begin_flush();
    assert_eq!(batch(&ticket), [0, 2]);
    let (first, ()) = beside(
        move || {
            assert_eq!(ticket.put_back_on(&table), 1, "a PASID is lost");
            let first = batch(&ticket);
            assert_eq!(ticket.complete(), 1, "a PASID is lost");
            first
        },
        move || drop(owned),
    );
    let second = flush(&set);
    assert_once(0..=2, &[&first, &second]);
    assert_eq!(first, [2]);
}

#[test]
fn what_is_put_back_beside_a_put_waits_with_it() {
    let model = Model::new("put_back_on, complete | free", 22, put_back_against_put);
    model.check();
    model.canary(Mutation::WaitInTwoSteps, LOST);
}
