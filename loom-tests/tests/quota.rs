// SPDX-License-Identifier: MIT OR Apache-2.0
//! Quotas: never more in use than the limit, also while it is changed; who is refused
//! leaves nothing behind, and who gets a credit sees the PASID that it paid for last.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Model, beside, pasid, range};
use pasid::model::Mutation;
use pasid::{Error, IoasidSet, Owned, Pool, QuotaStatistics, Scope, SetConfig, Space, SpaceKind};
use std::sync::Arc;

mod turn;

use turn::beside_in_turn;

type Set = Arc<IoasidSet>;

/// A global set of the PASIDs 0 and 1 with `quota`, and all memory in place. The space
/// is to be kept.
fn set_of_two(quota: u32) -> (Space, Set) {
    set_of(1, quota)
}

/// The same of the PASIDs 0 to `last`.
fn set_of(last: u16, quota: u32) -> (Space, Set) {
    let space = Space::with_capacity_and_reserved(SpaceKind::Global, 4, &[]);
    let config = SetConfig::new(Scope::Global).range(range(0, last));
    let set = space.add_set(config.quota(quota)).expect("memory");
    set.preload(set.range()).expect("memory for 4 PASIDs");
    (space, Arc::new(set))
}

fn quota_of(set: &Set) -> QuotaStatistics {
    set.statistics().quota.expect("the set has a quota")
}

/// Allocates any PASID of the set.
fn asker(set: &Set) -> impl FnOnce() -> Result<Owned<Set>, Error> + 'static {
    let set = set.clone();
    move || set.clone().alloc_in_place(set.range(), 1)
}

fn assert_kept(set: &Set) {
    let QuotaStatistics { limit, used, .. } = quota_of(set);
    assert!(used <= limit, "a quota is exceeded");
}

const EXCEEDED: &str = "a quota is exceeded";

// ---- The last credit -------------------------------------------------------------

/// Two ask for the last credit: one gets it, and all comes back.
fn two_ask_for_the_last_credit() {
    let (_space, set) = set_of_two(1);
    let (one, two) = beside(asker(&set), asker(&set));
    assert_kept(&set);
    let (owned, refused) = match (one, two) {
        (Ok(_), Ok(_)) => panic!("a quota is exceeded"),
        (Ok(owned), Err(error)) | (Err(error), Ok(owned)) => (owned, error),
        (Err(_), Err(_)) => panic!("nobody has the last credit"),
    };
    assert_eq!(refused, Error::QuotaExceeded { quota: 1 });
    assert_eq!(quota_of(&set).used, 1);
    drop(owned);
    assert_eq!(quota_of(&set).used, 0, "a credit is lost");
    assert_eq!(quota_of(&set).allocations, 1);
    assert!(asker(&set)().is_ok(), "a credit is lost");
}

#[test]
fn one_of_two_gets_the_last_credit() {
    let model = Model::new("quota: alloc | alloc", 22, two_ask_for_the_last_credit);
    model.check();
    model.canary(Mutation::QuotaInTwoSteps, EXCEEDED);
}

/// Two ask for the only PASID, with credits for both: who fails gives the credit back.
fn two_ask_for_the_last_pasid() {
    let (_space, set) = set_of_two(2);
    let neighbour = set.clone().alloc_at(pasid(1), 9).expect("it is free");
    set.set_quota(3).expect("the space has room");
    let (one, two) = beside(asker(&set), asker(&set));
    assert!(one.is_err() || two.is_err(), "one PASID has two owners");
    for refused in [one.as_ref().err(), two.as_ref().err()]
        .into_iter()
        .flatten()
    {
        assert_eq!(refused, &Error::Exhausted { range: range(0, 1) });
    }
    assert_eq!(quota_of(&set).used, 2, "a credit is lost");
    drop((one, two, neighbour));
    assert_eq!(quota_of(&set).used, 0, "a credit is lost");
}

#[test]
fn who_finds_no_pasid_gives_the_credit_back() {
    let model = Model::new(
        "quota: alloc | alloc of one",
        204,
        two_ask_for_the_last_pasid,
    );
    model.check();
    model.canary(Mutation::TakeInTwoSteps, "one PASID has two owners");
}

/// One asks for the last credit while it is given back: whoever gets it sees the PASID
/// that it paid for free, and what its owner wrote. Others are free in another word.
fn ask_against_free() {
    let (_space, set) = set_of(3, 2);
    let owned = asker(&set)().expect("it is free");
    let _neighbour = asker(&set)().expect("it is free");
    let written = Arc::new(AtomicU64::new(0));
    let (note, ask) = (written.clone(), asker(&set));
    let (next, ()) = beside(
        move || {
            let next = ask();
            if next.is_ok() {
                // Relaxed: it is the credit that must have carried it here.
                let seen = note.load(Ordering::Relaxed);
                assert_eq!(seen, 1, "a credit came before what it paid for");
            }
            next
        },
        move || {
            // Relaxed: as above.
            written.store(1, Ordering::Relaxed);
            drop(owned);
        },
    );
    match next {
        // The lowest is free by then.
        Ok(next) => assert_eq!(next.pasid(), pasid(0), "a credit came before its PASID"),
        Err(error) => assert_eq!(error, Error::QuotaExceeded { quota: 2 }),
    }
    assert!(asker(&set)().is_ok(), "a credit is lost");
    assert_kept(&set);
}

#[test]
fn a_credit_comes_after_what_it_paid_for() {
    let model = Model::new("quota: alloc | free", 31, ask_against_free);
    model.check();
    model.canary(
        Mutation::QuotaRelaxed,
        "a credit came before what it paid for",
    );
}

// ---- Another limit ---------------------------------------------------------------

/// The limit is lowered while one allocates: one of them is refused.
fn lower_against_alloc() {
    let (space, set) = set_of_two(1);
    let lowering = set.clone();
    let (owned, lowered) = beside(asker(&set), move || lowering.set_quota(0));
    assert_kept(&set);
    match (owned, lowered) {
        (Ok(_), Ok(())) => panic!("a quota is exceeded"),
        (Ok(owned), Err(error)) => {
            assert_eq!(error, Error::QuotaInUse { used: 1 });
            assert_eq!((quota_of(&set).limit, space.capacity_left()), (1, Some(3)));
            drop(owned);
            assert_eq!(set.set_quota(0), Ok(()), "a credit is lost");
        }
        (Err(error), lowered) => {
            let quota = u32::from(lowered.is_err());
            assert_eq!(error, Error::QuotaExceeded { quota: 0 });
            assert_eq!(quota, 0, "a limit was kept for nobody");
        }
    }
    assert_eq!(space.capacity_left(), Some(4), "capacity is lost");
}

#[test]
fn a_quota_is_lowered_or_its_last_credit_taken() {
    let model = Model::new("set_quota lower | alloc", 28, lower_against_alloc);
    model.check();
    model.canary(Mutation::AdjustForgetsUse, EXCEEDED);
    model.canary(Mutation::QuotaInTwoSteps, EXCEEDED);
}

/// Two change the limit: it and the space's capacity agree afterwards.
fn adjust_against_adjust() {
    let (space, set) = set_of_two(1);
    let (one, two) = (set.clone(), set.clone());
    let adjusted = beside_in_turn(move || one.set_quota(3), move || two.set_quota(2));
    assert_eq!(adjusted, (Ok(()), Ok(())));
    let limit = quota_of(&set).limit;
    assert!(limit == 2 || limit == 3);
    assert_eq!(space.capacity_left(), Some(4 - limit), "capacity is lost");
}

#[test]
fn two_that_change_a_quota_agree_with_the_capacity() {
    let model = Model::new("set_quota | set_quota", 34, adjust_against_adjust);
    model.check();
    // It is loom that sees two holders of a lock, in the cell that the lock guards.
    model.canary(Mutation::UnlockRelaxed, "Causality violation");
}

// ---- The number of allocations -----------------------------------------------------

/// Counts come round while two allocate: no round is lost. Under loom a round is 4.
fn count_rounds() {
    let (_space, set) = set_of_two(2);
    for _ in 0..3 {
        let _ = asker(&set)().expect("it is free");
    }
    let (one, two) = (asker(&set), set.clone());
    beside(
        move || drop(one()),
        move || {
            for _ in 0..4 {
                drop(asker(&two)());
            }
        },
    );
    assert_eq!(quota_of(&set).allocations, 8, "allocations are not counted");
}

#[test]
fn no_round_of_the_count_is_lost() {
    let model = Model::new("round | round", 7_096, count_rounds);
    model.check();
    model.canary(Mutation::RoundUnsettled, "allocations are not counted");
}
