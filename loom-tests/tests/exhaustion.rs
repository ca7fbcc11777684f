// SPDX-License-Identifier: MIT OR Apache-2.0
//! *Exhausted* and *out of memory* are exact: neither is said while at every
//! instant of the call a PASID of the request was free where memory is, however
//! the others pass it along and whatever they learn of each other.
#![cfg(loom)]

use loom_tests::{Held, Model, beside, empty_space, pasid, range, space, three_beside};
use pasid::model::Mutation;
use pasid::{Error, IdSpace, PasidRange, Pool};
use std::sync::Arc;

/// What is refused, though one was always free.
const WRONG: &str = "refused while one was always free";

fn assert_not_refused(got: &pasid::Result<Held>) {
    assert!(got.is_ok(), "refused while one was always free: {got:?}");
}

// ---- One frees x and then takes y ---------------------------------------------------

/// One frees `x` and then takes `y`, `rounds` times to and fro, while another asks
/// for `request`, in which these two alone are not reserved.
fn passing(
    reserved: &'static [PasidRange],
    (x, y): (u16, u16),
    request: PasidRange,
    rounds: usize,
) {
    let space = space(3, reserved);
    let first = space.clone().alloc_at(pasid(x), 1).unwrap();
    let (asker, mover) = (space.clone(), space.clone());
    let (got, _held) = beside(
        move || asker.alloc_in_place(request, 2),
        move || {
            let mut held = Ok(first);
            for round in 0..rounds {
                drop(held);
                let next = if round % 2 == 0 { y } else { x };
                held = mover.clone().alloc_at(pasid(next), 1);
            }
            held
        },
    );
    assert_not_refused(&got);
}

/// All but 0, which keeps the leaf from being full and is not asked for, and 1 and
/// 2: the last of one word and the first of the next.
const BUT_0_1_2: &[PasidRange] = &[range(3, 7)];

#[test]
fn two_words_are_not_exhausted_while_one_is_free() {
    let model = Model::new("alloc 1..=2 | free 1, alloc 2", 133, || {
        passing(BUT_0_1_2, (1, 2), range(1, 2), 1);
    });
    model.check();
    model.canary(Mutation::ScanOnce, WRONG);
    model.canary(Mutation::ScanRelaxed, WRONG);
    model.canary(Mutation::TakeRelaxed, WRONG);
}

#[test]
fn two_words_are_not_exhausted_backwards_either() {
    let model = Model::new("alloc 1..=2 | free 2, alloc 1", 64, || {
        passing(BUT_0_1_2, (2, 1), range(1, 2), 1);
    });
    model.check();
    model.canary(Mutation::TakeRelaxed, WRONG);
}

#[test]
fn a_pasid_that_comes_back_is_not_taken_for_one_that_stayed() {
    let model = Model::new("alloc 1..=2 | 1 to 2, to 1, to 2", 7_949, || {
        passing(BUT_0_1_2, (1, 2), range(1, 2), 3);
    });
    model.check();
    model.canary(Mutation::ScanForgetsVersions, WRONG);
}

/// All but 0 and 3, in two words of a leaf that is full when both are held.
const BUT_0_3: &[PasidRange] = &[range(1, 2), range(4, 7)];

#[test]
fn a_whole_leaf_is_not_exhausted_while_one_is_free() {
    let model = Model::new("alloc | free 0, alloc 3", 109, || {
        passing(BUT_0_3, (0, 3), range(0, 7), 1);
    });
    model.check();
    model.canary(Mutation::TakeRelaxed, WRONG);
}

/// All but 0, which is not asked for, and 3 and 4: in two leaves.
const BUT_0_3_4: &[PasidRange] = &[range(1, 2), range(5, 7)];

#[test]
fn two_leaves_are_not_exhausted_while_one_is_free() {
    let model = Model::new("alloc 2..=5 | free 3, alloc 4", 84, || {
        passing(BUT_0_3_4, (3, 4), range(2, 5), 1);
    });
    model.check();
    model.canary(Mutation::TakeRelaxed, WRONG);
}

#[test]
fn two_leaves_are_not_exhausted_backwards_either() {
    let model = Model::new("alloc 2..=5 | free 4, alloc 3", 79, || {
        passing(BUT_0_3_4, (4, 3), range(2, 5), 1);
    });
    model.check();
    model.canary(Mutation::ScanRelaxed, WRONG);
}

/// One takes the reservation of 3 away and then reserves 4.
fn reserving() {
    let space = space(3, BUT_0_3_4);
    space.reserve(pasid(3)).unwrap();
    let (asker, mover) = (space.clone(), space.clone());
    let (got, _) = beside(
        move || asker.alloc_in_place(range(2, 5), 2),
        move || {
            mover.unreserve(pasid(3)).expect("it is reserved");
            mover.reserve(pasid(4))
        },
    );
    assert_not_refused(&got);
}

#[test]
fn reservations_are_exact_too() {
    let model = Model::new("alloc 2..=5 | unreserve 3, reserve 4", 84, reserving);
    model.check();
    model.canary(Mutation::TakeRelaxed, WRONG);
}

// ---- A leaf comes up ----------------------------------------------------------------

/// Memory comes up for `grown` before the last free PASID with memory is taken.
fn growing(present: u16, grown: u16) {
    let space = empty_space(3, BUT_0_3_4);
    space.preload(pasid(present).into()).unwrap();
    let (asker, grower) = (space.clone(), space.clone());
    let (got, _held) = beside(
        move || asker.alloc_in_place(range(2, 5), 2),
        move || {
            grower.preload(pasid(grown).into()).expect("memory");
            grower.alloc_at(pasid(present), 1)
        },
    );
    assert_not_refused(&got);
}

#[test]
fn memory_is_not_short_while_one_with_memory_is_free() {
    let model = Model::new("alloc in place | grow 4, alloc 3", 49, || {
        growing(3, 4);
    });
    model.check();
    model.canary(Mutation::ScanRelaxed, WRONG);
}

#[test]
fn memory_is_not_short_backwards_either() {
    let model = Model::new("alloc in place | grow 3, alloc 4", 59, || {
        growing(4, 3);
    });
    model.check();
    model.canary(Mutation::TakeRelaxed, WRONG);
}

/// Memory comes up for two PASIDs of which one is always free: in place *out of
/// memory* may be said, and *exhausted* may not.
fn growing_and_passing() {
    let space = empty_space(2, const { &[range(1, 1), range(3, 3)] });
    let (asker, mover) = (space.clone(), space.clone());
    let (got, _held) = beside(
        move || asker.alloc_in_place(range(0, 3), 2),
        move || {
            mover.preload(range(0, 3)).expect("memory");
            drop(mover.clone().alloc_at(pasid(0), 1));
            mover.alloc_at(pasid(2), 1)
        },
    );
    if got.as_ref().err() != Some(&Error::OutOfMemory) {
        assert_not_refused(&got);
    }
}

#[test]
fn a_leaf_that_comes_up_is_not_taken_for_full() {
    let model = Model::new(
        "alloc in place | grow, alloc 0, free 0, alloc 2",
        643,
        growing_and_passing,
    );
    model.check();
    model.canary(Mutation::ScanForgetsMissing, WRONG);
}

// ---- Another learns of the free, and then takes y -------------------------------------

/// All but 0, 2 and 4: x, y and z.
const BUT_0_2_4: &[PasidRange] = &[range(1, 1), range(3, 3), range(5, 7)];

/// One frees x and then ends z by `end`. Another, if it learns of that by `learn`,
/// takes y. A third asks for x or y.
fn learning(end: fn(&IdSpace, Held), learn: fn(&Arc<IdSpace>) -> bool) {
    let space = space(3, BUT_0_2_4);
    let x = space.clone().alloc_at(pasid(0), 1).unwrap();
    let z = space.clone().alloc_at(pasid(4), 1).unwrap();
    let (mover, learner, asker) = (space.clone(), space.clone(), space.clone());
    let ((), _held, got) = three_beside(
        move || {
            drop(x);
            end(&mover, z);
        },
        move || learn(&learner).then(|| learner.alloc_at(pasid(2), 1)),
        move || asker.alloc_in_place(range(0, 3), 2),
    );
    assert_not_refused(&got);
}

fn by_free(_: &IdSpace, z: Held) {
    drop(z);
}

fn by_put(_: &IdSpace, z: Held) {
    drop(z.into_ref());
}

fn by_revoke(space: &IdSpace, z: Held) {
    let handle = z.handle();
    // Kept: only the revoking is to be learnt of.
    std::mem::forget(z);
    assert_eq!(space.revoke(handle), Ok(()));
}

#[test]
fn who_allocates_what_was_freed_passes_the_free_on() {
    let model = Model::new("alloc | free x, free z | alloc z, alloc y", 875, || {
        learning(by_free, |space| space.clone().alloc_at(pasid(4), 1).is_ok());
    });
    model.check();
    model.canary(Mutation::GiveBackRelaxed, WRONG);
}

#[test]
fn who_finds_nothing_passes_the_free_on() {
    let model = Model::new("alloc | free x, put z | find z, alloc y", 5_665, || {
        learning(by_put, |space| {
            space.find(pasid(4)) == Err(Error::NotFound(pasid(4)))
        });
    });
    model.check();
    model.canary(Mutation::EndRelaxed, WRONG);
    model.canary(Mutation::FindRelaxed, WRONG);
}

#[test]
fn who_finds_a_revoked_pasid_passes_the_free_on() {
    let model = Model::new("alloc | free x, revoke z | find z, alloc y", 1_082, || {
        learning(by_revoke, |space| {
            space.find(pasid(4)) == Err(Error::BeingFreed(pasid(4)))
        });
    });
    model.check();
    model.canary(Mutation::RevokeRelaxed, WRONG);
}

#[test]
fn who_lists_nothing_passes_the_free_on() {
    let model = Model::new(
        "alloc | free x, free z | any_live z, alloc y",
        2_837,
        || {
            learning(by_free, |space| !space.any_live(pasid(4).into()));
        },
    );
    model.check();
    model.canary(Mutation::ListRelaxed, WRONG);
}

/// One frees x and then takes a reference to z. Another gives back its own, and if z is
/// there all the same, it knows that the first has one, and takes y.
fn learning_by_a_count() {
    let space = space(3, BUT_0_2_4);
    let x = space.clone().alloc_at(pasid(0), 1).unwrap();
    let z = space.clone().alloc_at(pasid(4), 1).unwrap().into_ref();
    let handle = z.handle();
    let (mover, learner, asker) = (space.clone(), space.clone(), space.clone());
    let (got, (), _held) = three_beside(
        move || asker.alloc_in_place(range(0, 3), 2),
        move || {
            drop(x);
            // Kept: its end is not what is to be learnt of.
            mover.get(handle).map(std::mem::forget).unwrap_or_default();
        },
        move || {
            drop(z);
            let known = learner.find(pasid(4)).is_ok();
            known.then(|| learner.alloc_at(pasid(2), 1))
        },
    );
    assert_not_refused(&got);
}

#[test]
fn who_sees_a_reference_counted_passes_the_free_on() {
    let model = Model::new(
        "alloc | free x, get z | put z, find z, alloc y",
        1_111,
        learning_by_a_count,
    );
    model.check();
    model.canary(Mutation::GetWithoutRelease, WRONG);
}
