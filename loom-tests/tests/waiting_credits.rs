// SPDX-License-Identifier: MIT OR Apache-2.0
//! Credits of PASIDs that await a flush: they come back once, after the PASIDs, and to the
//! set that had them, which is forgotten no sooner.
#![cfg(loom)]

use loom_tests::flushing::{flush, set_of, take};
use loom_tests::{Model, Set, beside, pasid, range};
use pasid::model::Mutation;
use pasid::{
    Error, Flush, IoasidSet, Pool, QuotaStatistics, Reuse, Scope, SetConfig, Space, SpaceKind,
};
use std::sync::Arc;

const LATE: &str = "a credit came to another set";

fn quota(set: &IoasidSet) -> QuotaStatistics {
    set.quota().expect("the set has a quota")
}

/// A set of 0 to 3 whose PASIDs await a flush, with two credits.
fn set_of_two_credits() -> (impl Sized, Set) {
    set_of(3, |config| config.reuse(Reuse::AfterFlush).quota(2))
}

/// One asks while a flush gives the credits back: with a credit, it gets the PASID that
/// came with it.
fn ask_against_flush() {
    let (_space, set) = set_of_two_credits();
    drop([take(&set, 0), take(&set, 1)]);
    let (asker, flusher) = (set.clone(), set.clone());
    let (asked, covered) = beside(
        move || asker.alloc_in_place(range(0, 1), 8),
        move || flush(&flusher),
    );
    assert_eq!(covered, [0, 1]);
    let used = u32::from(asked.is_ok());
    if let Err(error) = &asked {
        assert_eq!(
            *error,
            Error::QuotaExceeded { quota: 2 },
            "a credit came before its PASID"
        );
    }
    assert_eq!(quota(&set).used, used, "a credit is lost");
    drop(asked);
    assert_eq!(
        quota(&set).used,
        used,
        "a credit came back before the flush"
    );
}

#[test]
fn a_credit_comes_back_after_its_pasid() {
    let model = Model::new("credits: alloc | flush", 153, ask_against_flush);
    model.check();
    model.canary(
        Mutation::CreditsGivenBackFirst,
        "a credit came before its PASID",
    );
}

/// One frees and flushes while another flushes: each credit comes back once.
fn put_and_flush_against_flush() {
    let (_space, set) = set_of_two_credits();
    let owned = take(&set, 1);
    drop(take(&set, 0));
    let (one, two) = (set.clone(), set.clone());
    let (one, two) = beside(
        move || {
            drop(owned);
            one.begin_flush().complete()
        },
        move || two.begin_flush().complete(),
    );
    assert_eq!(quota(&set).used, 0, "a credit came back twice, or never");
    assert_eq!(one + two, 2);
}

#[test]
fn each_credit_comes_back_once() {
    let model = Model::new(
        "credits: free, flush | flush",
        115,
        put_and_flush_against_flush,
    );
    model.check();
    model.canary(
        Mutation::BatchTakenInTwoSteps,
        "a credit came back twice, or never",
    );
}

/// A ticket is dropped while another flushes: credits come back with what that completed.
fn drop_ticket_against_flush() {
    let (_space, set) = set_of_two_credits();
    drop(take(&set, 0));
    let dropping = set.clone().begin_flush();
    drop(take(&set, 2));
    let flusher = set.clone();
    let (covered, ()) = beside(move || flush(&flusher), move || drop(dropping));
    let left = 2 - covered.len() as u32;
    assert_eq!(quota(&set).used, left, "a credit came back twice, or never");
    assert_eq!(flush(&set).len() as u32, left, "a credit is lost");
    assert_eq!(quota(&set).used, 0, "a credit came back twice, or never");
}

#[test]
fn a_credit_stays_with_what_was_put_back() {
    let model = Model::new(
        "credits: flush | drop ticket",
        32,
        drop_ticket_against_flush,
    );
    model.check();
    model.canary(Mutation::LeafMarkedBeforeWaiting, "a credit is lost");
}

// ---- A set that goes away ------------------------------------------------------------

/// A closed set whose handle is gone and whose only PASID waits.
fn closed_set() -> Arc<Space> {
    let space = Space::with_capacity_and_reserved(SpaceKind::Global, 2, &[]);
    let set = Arc::new(space.add_set(config(1)).expect("memory"));
    set.preload(set.range()).expect("memory");
    drop(take(&set, 0));
    set.close();
    Arc::new(space)
}

fn config(quota: u32) -> SetConfig<'static> {
    let config = SetConfig::new(Scope::Global).range(range(0, 1));
    config.quota(quota).reuse(Reuse::AfterFlush)
}

/// Adds a set that takes what it can from one that may be gone, and allocates from it.
fn add(space: &Space) -> (Set, loom_tests::HeldOf) {
    let set = Arc::new(space.add_set(config(1)).expect("memory"));
    let owned = set.clone().alloc_at(pasid(1), 8).expect("it is free");
    (set, owned)
}

fn assert_kept(space: &Space, set: &Set) {
    let QuotaStatistics { limit, used, .. } = quota(set);
    assert_eq!((limit, used), (1, 1), "a credit came to another set");
    assert_eq!(space.capacity_left(), Some(1), "capacity is lost");
}

/// A flush completes while a set is added that may get the place of the one that goes.
fn complete_against_add() {
    let space = closed_set();
    let ticket = space.clone().begin_flush();
    let adding = space.clone();
    let ((set, _owned), returned) = beside(move || add(&adding), move || ticket.complete());
    assert_eq!(returned, 1);
    assert_kept(&space, &set);
}

#[test]
fn a_set_that_goes_beside_a_flush_keeps_its_credits_until_then() {
    let model = Model::new("add_set, alloc | complete", 480, complete_against_add);
    model.check();
    model.canary(Mutation::ForgottenWhileFlushed, LATE);
}

/// The same with a flush that begins meanwhile.
fn flush_against_add() {
    let space = closed_set();
    let (adding, flusher) = (space.clone(), space.clone());
    let ((set, _owned), returned) = beside(
        move || add(&adding),
        move || flusher.begin_flush().complete(),
    );
    assert_eq!(returned, 1);
    assert_kept(&space, &set);
}

#[test]
fn a_set_that_goes_beside_a_whole_flush_keeps_its_credits_until_then() {
    let model = Model::new("add_set, alloc | flush", 480, flush_against_add);
    model.check();
    model.canary(Mutation::FlushLookedForFirst, LATE);
    model.canary(Mutation::ForgottenWhileFlushed, LATE);
    model.canary(Mutation::EndRelaxed, LATE);
}
