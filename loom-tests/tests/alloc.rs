// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who gets a PASID: at any time one owner, and the next one sees what the last
//! wrote before it gave the PASID up.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Held, Model, beside, pasid, space, three_beside};
use pasid::model::Mutation;
use pasid::{Error, PasidRange, Pool};
use std::sync::Arc;

/// Two ask for any of two PASIDs: both get one, and not the same.
fn two_allocate() {
    let space = space(1, &[]);
    let (range, one, two) = (space.range(), space.clone(), space.clone());
    let (one, two) = beside(
        move || one.alloc_in_place(range, 1),
        move || two.alloc_in_place(range, 2),
    );
    let (one, two) = (one.expect("one is free"), two.expect("one is free"));
    assert_ne!(one.pasid(), two.pasid(), "one PASID has two owners");
    assert_eq!((one.word(), two.word()), (1, 2));
}

#[test]
fn two_that_allocate_get_different_pasids() {
    let model = Model::new("alloc | alloc", 22, two_allocate);
    model.check();
    model.canary(Mutation::TakeInTwoSteps, "one PASID has two owners");
}

/// Three ask for any of three PASIDs, which stand in two words.
fn three_allocate() {
    let space = space(2, const { &[PasidRange::single(pasid(0))] });
    let range = space.range();
    let asker = |word| {
        let space = space.clone();
        move || space.alloc_in_place(range, word).expect("one is free")
    };
    let owned: [Held; 3] = three_beside(asker(1), asker(2), asker(3)).into();
    let mut pasids = owned.each_ref().map(|owned| owned.pasid().get());
    pasids.sort_unstable();
    assert_eq!(pasids, [1, 2, 3], "one PASID has two owners");
    assert_eq!(owned.map(|owned| owned.word()), [1, 2, 3]);
}

#[test]
fn three_that_allocate_get_different_pasids() {
    let model = Model::new("alloc | alloc | alloc", 1_096, three_allocate);
    model.check();
    model.canary(Mutation::TakeInTwoSteps, "one PASID has two owners");
}

/// Two ask for a PASID while its owner frees it: at most one gets it.
fn two_ask_for_what_is_freed() {
    let space = space(1, &[]);
    let owned = space.clone().alloc_at(pasid(0), 1).unwrap();
    let asker = || {
        let space = space.clone();
        move || space.alloc_in_place(pasid(0).into(), 2)
    };
    let (one, two, ()) = three_beside(asker(), asker(), move || drop(owned));
    assert!(one.is_err() || two.is_err(), "one PASID has two owners");
    drop((one, two));
    let again = space.alloc_in_place(pasid(0).into(), 3);
    assert!(again.is_ok(), "a PASID is lost");
}

#[test]
fn one_of_two_gets_what_is_freed() {
    let model = Model::new("alloc | alloc | free", 5_026, two_ask_for_what_is_freed);
    model.check();
    model.canary(Mutation::TakeInTwoSteps, "one PASID has two owners");
}

/// One asks for a PASID by its number and one for any: one of them gets it.
fn one_asks_by_number() {
    let space = space(1, &[]);
    let (one, two) = (space.clone(), space.clone());
    let range = PasidRange::single(pasid(1));
    let owners = beside(
        move || one.alloc_at(pasid(1), 1),
        move || two.alloc_in_place(range, 2),
    );
    match owners {
        (Ok(owned), Err(error)) => {
            assert_eq!((owned.word(), error), (1, Error::Exhausted { range }));
        }
        (Err(error), Ok(owned)) => {
            assert_eq!((owned.word(), error), (2, Error::InUse(pasid(1))));
        }
        (Ok(_), Ok(_)) => panic!("one PASID has two owners"),
        (Err(_), Err(_)) => panic!("nobody has the PASID"),
    }
}

#[test]
fn one_of_two_gets_the_only_pasid() {
    let model = Model::new("alloc_at | alloc", 34, one_asks_by_number);
    model.check();
    model.canary(Mutation::TakeInTwoSteps, "one PASID has two owners");
}

/// An owner writes and gives up, and the next owner sees what it wrote.
fn next_owner_sees(give_up: fn(Held)) {
    let space = space(1, &[]);
    let owned = space.clone().alloc_at(pasid(0), 1).unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let (note, asker) = (written.clone(), space.clone());
    beside(
        move || {
            if let Ok(next) = asker.alloc_in_place(pasid(0).into(), 2) {
                // Relaxed: it is the PASID that must have carried it here.
                let seen = note.load(Ordering::Relaxed);
                assert_eq!(seen, 1, "the next owner does not see what the last wrote");
                assert_eq!(next.word(), 2);
            }
        },
        move || {
            // Relaxed: as above.
            written.store(1, Ordering::Relaxed);
            give_up(owned);
        },
    );
    let again = space.alloc_in_place(pasid(0).into(), 3);
    assert!(again.is_ok(), "a PASID is lost");
}

const UNSEEN: &str = "the next owner does not see what the last wrote";

#[test]
fn the_next_owner_sees_what_the_last_wrote_before_its_free() {
    let model = Model::new("alloc | free", 66, || next_owner_sees(drop));
    model.check();
    model.canary(Mutation::GiveBackRelaxed, UNSEEN);
    model.canary(Mutation::TakeRelaxed, UNSEEN);
}

#[test]
fn the_next_owner_sees_what_the_last_wrote_before_its_put() {
    let model = Model::new("alloc | last put", 66, || {
        next_owner_sees(|owned| drop(owned.into_ref()));
    });
    model.check();
    model.canary(Mutation::GiveBackRelaxed, UNSEEN);
}

/// One reserves a PASID while another allocates it: one of them has it.
fn reserve_against_alloc() {
    let space = space(1, &[]);
    let (one, two) = (space.clone(), space.clone());
    let (owned, reserved) = beside(
        move || one.alloc_in_place(pasid(0).into(), 7),
        move || two.reserve(pasid(0)),
    );
    match (owned, reserved) {
        (Ok(owned), Err(error)) => {
            assert_eq!(error, Error::InUse(pasid(0)));
            assert_eq!(space.find(pasid(0)).map(|found| found.word), Ok(7));
            drop(owned);
            assert_eq!(space.reserve(pasid(0)), Ok(()), "a PASID is lost");
        }
        (Err(_), Ok(())) => {
            assert_eq!(space.find(pasid(0)), Err(Error::Reserved(pasid(0))));
            assert_eq!(space.unreserve(pasid(0)), Ok(()));
            let owned = space.alloc_in_place(pasid(0).into(), 7);
            assert!(owned.is_ok(), "a PASID is lost");
        }
        (Ok(_), Ok(())) => panic!("a reserved PASID is live"),
        (Err(_), Err(_)) => panic!("nobody has the PASID"),
    }
}

#[test]
fn a_pasid_is_reserved_or_allocated() {
    let model = Model::new("reserve | alloc", 34, reserve_against_alloc);
    model.check();
    model.canary(Mutation::TakeInTwoSteps, "a reserved PASID is live");
}

/// Two take the same reservation away: one does, the bit comes free once, and the
/// PASID beside it stays held.
fn two_unreserve() {
    let space = space(1, const { &[PasidRange::single(pasid(0))] });
    let neighbour = space.clone().alloc_at(pasid(1), 1).unwrap();
    let (one, two) = (space.clone(), space.clone());
    let (one, two) = beside(
        move || one.unreserve(pasid(0)),
        move || two.unreserve(pasid(0)),
    );
    assert!(
        one.is_ok() != two.is_ok(),
        "a reservation was taken away twice"
    );
    assert!(space.clone().alloc_at(pasid(1), 2).is_err());
    let owned = space.clone().alloc_at(pasid(0), 3);
    assert!(owned.is_ok(), "a PASID is lost");
    assert_eq!(neighbour.word(), 1);
}

#[test]
fn a_reservation_is_taken_away_once() {
    let model = Model::new("unreserve | unreserve", 22, two_unreserve);
    model.check();
    model.canary(
        Mutation::AdvanceInTwoSteps,
        "a reservation was taken away twice",
    );
}
