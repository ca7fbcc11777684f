// SPDX-License-Identifier: MIT OR Apache-2.0
//! The remembered *exhausted*: once a release has returned, nobody is told of an
//! answer from before it.
#![cfg(loom)]

use loom::sync::atomic::{AtomicBool, Ordering};
use loom_tests::{Model, pasid, range, space, three_beside};
use pasid::model::Mutation;
use pasid::{PasidRange, Pool};
use std::sync::Arc;

const STALE: &str = "told of an answer from before a release";

/// All but 3 and 4, which lie in two leaves, and 0 and 7, which keep the leaves from
/// being marked and are not asked for: a request for both takes two scans, and one that
/// comes later is answered before it looks into the second leaf.
const BUT_0_3_4_7: &[PasidRange] = &[range(1, 2), range(5, 6)];

const REQUEST: PasidRange = range(3, 4);

/// Both are held. One gives 4 back; one asks for either, and remembers if there was
/// none; one asks too, if it knows that 4 was given back.
fn remember_against_free() {
    let space = space(3, BUT_0_3_4_7);
    let first = space.clone().alloc_at(pasid(4), 1).unwrap();
    let _second = space.clone().alloc_at(pasid(3), 1).unwrap();
    // An answer was remembered before, and forgotten.
    assert!(space.clone().alloc_in_place(REQUEST, 1).is_err());
    drop(first);
    let first = space.clone().alloc_at(pasid(4), 1).unwrap();
    let returned = Arc::new(AtomicBool::new(false));
    let (flag, flagged) = (returned.clone(), returned);
    let (asker, late) = (space.clone(), space.clone());
    let (got, (), got_late) = three_beside(
        move || asker.alloc_in_place(REQUEST, 2),
        move || {
            drop(first);
            // Release: pairs with the acquire below.
            flag.store(true, Ordering::Release);
        },
        move || {
            // Acquire: who sees the flag knows that 4 was given back.
            let known = flagged.load(Ordering::Acquire);
            if !known {
                return None;
            }
            // Nothing is given back from here on.
            match late.clone().alloc_in_place(REQUEST, 3) {
                Ok(owned) => Some(owned),
                Err(_) => {
                    let there = late.alloc_at(pasid(4), 3);
                    assert!(there.is_err(), "told of an answer from before a release");
                    None
                }
            }
        },
    );
    if got.is_err() && got_late.is_none() {
        let after = space.clone().alloc_in_place(REQUEST, 4);
        assert!(after.is_ok(), "told of an answer from before a release");
    }
}

#[test]
fn an_answer_is_forgotten_before_a_release_returns() {
    let model = Model::new("remember | free | alloc", 2_259, remember_against_free);
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::RememberAtOnce, STALE);
    model.canary(Mutation::MarkWithoutOrder, STALE);
}

/// Both are held. One gives 4 back, and two ask for either; one of them asks again if
/// it knows that 4 was given back.
fn two_remember_against_free() {
    let space = space(3, BUT_0_3_4_7);
    let first = space.clone().alloc_at(pasid(4), 1).unwrap();
    let _second = space.clone().alloc_at(pasid(3), 1).unwrap();
    let returned = Arc::new(AtomicBool::new(false));
    let (flag, flagged) = (returned.clone(), returned);
    let (asker, other) = (space.clone(), space);
    let _held = three_beside(
        move || {
            let got = asker.clone().alloc_in_place(REQUEST, 2);
            // Acquire: who sees the flag knows that 4 was given back.
            if got.is_ok() || !flagged.load(Ordering::Acquire) {
                return got;
            }
            let late = asker.clone().alloc_in_place(REQUEST, 3);
            if late.is_err() {
                let there = asker.alloc_at(pasid(4), 3);
                assert!(there.is_err(), "told of an answer from before a release");
            }
            late
        },
        move || {
            drop(first);
            // Release: pairs with the acquire above.
            flag.store(true, Ordering::Release);
        },
        move || other.alloc_in_place(REQUEST, 4),
    );
}

#[test]
fn an_answer_is_confirmed_by_who_proposed_it() {
    let model = Model::new(
        "remember, alloc | free | remember",
        31_826,
        two_remember_against_free,
    );
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::ForgetUncounted, STALE);
}
