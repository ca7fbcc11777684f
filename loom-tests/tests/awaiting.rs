// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocating where nothing is free but what awaits a flush: it says so as long as
//! something waits, and never *exhausted*; and what a flush returned can be had.
#![cfg(loom)]

use loom_tests::flushing::{awaiting, flush, set_of, take, waiting_set};
use loom_tests::{HeldOf, Model, Set, beside, pasid, range, three_beside};
use pasid::model::Mutation;
use pasid::{
    Attach, Flush, Flusher, PasidWidth, Pool, Result, Reuse, Scope, SetConfig, Space, SpaceKind,
    TableConfig,
};
use std::sync::{Arc, OnceLock};

const EXHAUSTED: &str = "exhausted, while something waits";

/// Finds any PASID of the set.
fn ask(set: &Set) -> Result<HeldOf> {
    set.clone().alloc_in_place(set.range(), 8)
}

/// Asks for 0 by its number.
fn ask_at(set: &Set) -> Result<HeldOf> {
    set.clone().alloc_at(pasid(0), 8)
}

/// Fails if an allocation of `0 ..= last` failed for another reason than that something
/// waits.
fn assert_awaiting(asked: &Result<HeldOf>, last: u16) {
    if let Err(error) = asked {
        assert_eq!(
            *error,
            awaiting(0, last),
            "exhausted, while something waits"
        );
    }
}

// ---- Two that need all of a flush --------------------------------------------------

/// Two ask for the two PASIDs of a flush beside it. Each gets one, or is told that
/// something waits; and once the flush has completed, whoever got nothing gets the other.
fn two_ask_beside_a_flush() {
    let (_space, set) = waiting_set(1);
    drop([take(&set, 0), take(&set, 1)]);
    let (one, two, flusher) = (set.clone(), set.clone(), set.clone());
    let (one, two, covered) = three_beside(
        move || ask(&one),
        move || ask(&two),
        move || flush(&flusher),
    );
    assert_eq!(covered, [0, 1]);
    assert_awaiting(&one, 1);
    assert_awaiting(&two, 1);
    let all = [one, two].map(|asked| asked.or_else(|_| ask(&set)));
    assert!(all.iter().all(Result::is_ok), "a PASID is lost");
}

#[test]
fn two_that_need_all_of_a_flush_get_it_or_are_told_that_it_waits() {
    let model = Model::new("alloc | alloc | flush", 129_620, two_ask_beside_a_flush);
    model.check();
    model.canary(Mutation::CompletionUncounted, EXHAUSTED);
}

/// Two ask for the two PASIDs of a flush that has completed.
fn two_ask_after_a_flush() {
    let (_space, set) = waiting_set(1);
    drop([take(&set, 0), take(&set, 1)]);
    assert_eq!(ask(&set).err(), Some(awaiting(0, 1)));
    assert_eq!(flush(&set), [0, 1]);
    let (one, two) = (set.clone(), set);
    let (one, two) = beside(move || ask(&one), move || ask(&two));
    let numbers = [one, two].map(|asked| asked.map(|held| (held.pasid(), held.into_raw())));
    let [Ok((one, _)), Ok((two, _))] = numbers else {
        panic!("a PASID is lost");
    };
    assert_ne!(one, two, "one PASID has two owners");
}

#[test]
fn two_that_need_all_of_a_completed_flush_succeed() {
    let model = Model::new("alloc | alloc after a flush", 22, two_ask_after_a_flush);
    model.check();
    model.canary(Mutation::TakeInTwoSteps, "one PASID has two owners");
}

// ---- One beside each step of a flush -------------------------------------------------

/// One asks while a flush begins, and while it completes.
fn ask_against_flush(ask: fn(&Set) -> Result<HeldOf>) {
    let (_space, set) = waiting_set(0);
    drop(take(&set, 0));
    let (asker, flusher) = (set.clone(), set.clone());
    let (asked, covered) = beside(move || ask(&asker), move || flush(&flusher));
    assert_eq!(covered, [0]);
    assert_awaiting(&asked, 0);
    let asked = asked.or_else(|_| ask(&set));
    assert!(asked.is_ok(), "a PASID is lost");
}

#[test]
fn who_asks_beside_a_flush_gets_its_pasid_or_is_told_that_it_waits() {
    let model = Model::new("alloc | flush", 622, || ask_against_flush(ask));
    model.check();
    model.canary(Mutation::CompletionUncounted, EXHAUSTED);
    model.canary(Mutation::FlushCountedLate, EXHAUSTED);
    model.canary(Mutation::CompletingUncounted, EXHAUSTED);
}

#[test]
fn who_asks_by_number_beside_a_flush_is_told_the_same() {
    let model = Model::new("alloc_at | flush", 492, || ask_against_flush(ask_at));
    model.check();
    model.canary(Mutation::CompletionUncounted, EXHAUSTED);
    model.canary(Mutation::FlushCountedLate, EXHAUSTED);
}

/// One asks while a batch is put back: it waits all the time.
fn ask_against_put_back(ask: fn(&Set) -> Result<HeldOf>) {
    let (_space, set) = waiting_set(0);
    drop(take(&set, 0));
    let ticket = set.clone().begin_flush();
    let (asked, ()) = beside(move || ask(&set), move || drop(ticket));
    assert!(asked.is_err(), "a PASID was handed out that waits");
    assert_awaiting(&asked, 0);
}

#[test]
fn who_asks_while_a_batch_is_put_back_is_told_that_it_waits() {
    let model = Model::new("alloc | drop ticket", 31, || ask_against_put_back(ask));
    model.check();
    model.canary(Mutation::PutBackUncounted, EXHAUSTED);
}

#[test]
fn who_asks_by_number_while_a_batch_is_put_back_is_told_that_it_waits() {
    let model = Model::new("alloc_at | drop ticket", 31, || {
        ask_against_put_back(ask_at);
    });
    model.check();
    model.canary(Mutation::PutBackUncounted, EXHAUSTED);
}

/// The same where the invalidation failed on the only table concerned, and the flush is
/// completed with nothing left in it.
fn ask_against_put_back_on_table() {
    let space = Space::with_reserved(SpaceKind::Global, &[]);
    let width = PasidWidth::new(1).expect("at most 4 bits");
    let table = Arc::new(space.add_table(TableConfig::new(width)).expect("memory"));
    table.preload(width.range()).expect("memory");
    let config = SetConfig::new(Scope::Global).range(range(0, 0));
    let set = space
        .add_set(config.reuse(Reuse::AfterFlush))
        .expect("memory");
    set.preload(set.range()).expect("memory");
    let set: Set = Arc::new(set);
    let owned = take(&set, 0);
    drop(
        (&*table)
            .attach(&owned, 1)
            .and_then(|attaching| attaching.commit()),
    );
    drop(owned);
    let mut ticket = set.clone().begin_flush();
    let (asked, ()) = beside(
        move || ask(&set),
        move || {
            assert_eq!(ticket.put_back_on(&table), 1);
            assert_eq!(ticket.complete(), 0);
        },
    );
    assert!(asked.is_err(), "a PASID was handed out that waits");
    assert_awaiting(&asked, 0);
}

#[test]
fn who_asks_while_all_of_a_batch_is_put_back_on_a_table_is_told_that_it_waits() {
    let model = Model::new(
        "alloc | put_back_on, complete",
        31,
        ask_against_put_back_on_table,
    );
    model.check();
    model.canary(Mutation::CompletionUncounted, EXHAUSTED);
}

/// One asks for what waits by its number while a flush completes that does not have it.
fn ask_at_against_another_flush() {
    let (_space, set) = waiting_set(1);
    drop(take(&set, 1));
    let ticket = set.clone().begin_flush();
    drop(take(&set, 0));
    let (asked, returned) = beside(move || ask_at(&set), move || ticket.complete());
    assert_eq!(returned, 1);
    assert!(asked.is_err(), "a PASID was handed out that waits");
    assert_awaiting(&asked, 0);
}

#[test]
fn what_waits_beside_another_flush_is_said_to_wait() {
    let model = Model::new(
        "alloc_at | another flush",
        103,
        ask_at_against_another_flush,
    );
    model.check();
    model.canary(Mutation::NotTriedAgain, EXHAUSTED);
}

/// One frees and asks while another flushes: it gets it back, or is told that it waits.
fn put_and_ask_against_flush() {
    let (_space, set) = waiting_set(0);
    let owned = take(&set, 0);
    let (asker, flusher) = (set.clone(), set.clone());
    let (covered, asked) = beside(
        move || flush(&flusher),
        move || {
            drop(owned);
            ask(&asker)
        },
    );
    assert_awaiting(&asked, 0);
    assert!(
        asked.is_err() || covered == [0],
        "a PASID was handed out that waits"
    );
    let asked = asked.or_else(|_| {
        if covered.is_empty() {
            assert_eq!(flush(&set), [0]);
        }
        ask(&set)
    });
    assert!(asked.is_ok(), "a PASID is lost");
}

#[test]
fn who_frees_and_asks_beside_a_flush_is_told_that_it_waits() {
    let model = Model::new("flush | free, alloc", 294, put_and_ask_against_flush);
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::CompletionUncounted, EXHAUSTED);
    model.canary(Mutation::FlushCountedLate, EXHAUSTED);
}

// ---- An installed flush ------------------------------------------------------------

/// Flushes one set.
struct Flushes(OnceLock<Set>);

impl Flusher for Flushes {
    fn flush(&self) {
        if let Some(set) = self.0.get() {
            flush(set);
        }
    }
}

/// Two ask who may each run the installed flush: with two PASIDs for them, both succeed or
/// one is told that the other's flush has them.
fn two_run_the_installed_flush() {
    let flusher = Arc::new(Flushes(OnceLock::new()));
    let installed = flusher.clone();
    let (_space, set) = set_of(1, |config| {
        config.reuse(Reuse::AfterFlush).flusher(installed)
    });
    let _ = flusher.0.set(set.clone());
    drop([take(&set, 0), take(&set, 1)]);
    let (one, two) = (set.clone(), set.clone());
    let (one, two) = beside(
        move || one.clone().alloc(range(0, 1), 8),
        move || two.clone().alloc(range(0, 1), 8),
    );
    assert!(one.is_ok() || two.is_ok(), "a PASID is lost");
    assert_awaiting(&one, 1);
    assert_awaiting(&two, 1);
    let all = [one, two].map(|asked| asked.or_else(|_| ask(&set)));
    assert!(all.iter().all(Result::is_ok), "a PASID is lost");
}

#[test]
fn two_that_run_the_installed_flush_get_its_pasids() {
    let model = Model::new(
        "alloc, flusher | alloc, flusher",
        3_438,
        two_run_the_installed_flush,
    );
    model.check();
    model.canary(Mutation::CompletingUncounted, EXHAUSTED);
}
