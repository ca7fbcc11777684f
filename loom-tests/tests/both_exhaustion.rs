// SPDX-License-Identifier: MIT OR Apache-2.0
//! *Exhausted* is exact also where more than one word decides: beside global sets, and for
//! groups. It is not said while at every instant of the call a PASID of the request was
//! free for the set that asks.
#![cfg(loom)]

use loom_tests::{Machine, Model, Set, beside, pasid, range, three_beside};
use pasid::model::Mutation;
use pasid::{Error, Pool, SpaceKind};

const WRONG: &str = "refused while one was always free";

/// Of 1 and 2, the first of `movers` holds `first`. It is freed, and the next mover takes
/// the other, and so on, while `asker` asks for either.
///
/// What the asker reads it acquires, also in the search by hints that comes before the
/// scans. So one move is not enough to make one scan wrong, but three are; and two equal
/// scans take five.
fn passing(asker: &Set, first: u16, movers: &[&Set]) {
    let (asker, number) = (asker.clone(), move |round: usize| match round % 2 {
        0 => pasid(first),
        _ => pasid(3 - first),
    });
    let mut held = movers[0].clone().alloc_at(number(0), 1);
    assert!(held.is_ok());
    let movers: Vec<Set> = movers.iter().map(|&set| set.clone()).collect();
    let (got, _held) = beside(
        move || asker.alloc_in_place(range(1, 2), 2),
        move || {
            for (round, mover) in movers.into_iter().enumerate().skip(1) {
                drop(held);
                held = mover.alloc_at(number(round), 1);
            }
            held
        },
    );
    assert!(got.is_ok(), "refused while one was always free: {got:?}");
}

fn both(of: fn(&Machine)) {
    of(&Machine::new(SpaceKind::Both, 2, 2));
}

// ---- A set of a table asks ---------------------------------------------------------------

fn global_passes(machine: &Machine, first: u16, rounds: usize) {
    let (local, global) = (machine.local(0), machine.global());
    passing(&local, first, &vec![&global; rounds + 1]);
}

#[test]
fn a_table_is_not_exhausted_while_a_global_pasid_moves() {
    let model = Model::new("local alloc | global 1 to 2", 221, || {
        both(|machine| global_passes(machine, 1, 1));
    });
    model.check();
    model.canary(Mutation::ClaimRelaxed, WRONG);
}

#[test]
fn a_table_is_not_exhausted_while_a_global_pasid_moves_back() {
    let model = Model::new("local alloc | global 2 to 1", 22, || {
        both(|machine| global_passes(machine, 2, 1));
    });
    model.check();
    model.canary(Mutation::ClaimRelaxed, WRONG);
}

#[test]
fn a_global_pasid_that_comes_back_is_not_taken_for_one_that_stayed() {
    let model = Model::new("local alloc | global 1 to 2, to 1, to 2", 4_481, || {
        both(|machine| global_passes(machine, 1, 3));
    });
    model.check();
    model.canary(Mutation::ScanOnce, WRONG);
    model.canary(Mutation::ScanRelaxed, WRONG);
}

#[test]
fn a_global_pasid_that_goes_five_times_is_not_taken_for_one_that_stayed() {
    let model = Model::new("local alloc | global 1 to 2, five times", 5_983, || {
        both(|machine| global_passes(machine, 1, 5));
    });
    let model = model.at_preemptions(1);
    model.check();
    model.canary(Mutation::ScanForgetsClaims, WRONG);
    model.canary(Mutation::ClaimReleaseUncounted, WRONG);
    model.canary(Mutation::ScanForgetsVersions, WRONG);
}

#[test]
fn a_table_is_not_exhausted_while_a_pasid_moves_from_it_to_all() {
    let model = Model::new("local alloc | local 1 to global 2", 54, || {
        both(|machine| {
            passing(
                &machine.local(0),
                1,
                &[&machine.local(0), &machine.global()],
            )
        });
    });
    model.check();
    model.canary(Mutation::ClaimRelaxed, WRONG);
}

#[test]
fn a_table_is_not_exhausted_while_a_pasid_moves_from_all_to_it() {
    let model = Model::new("local alloc | global 1 to local 2", 533, || {
        both(|machine| {
            passing(
                &machine.local(0),
                1,
                &[&machine.global(), &machine.local(0)],
            )
        });
    });
    model.check();
    model.canary(Mutation::TakeRelaxed, WRONG);
}

#[test]
fn a_table_is_not_exhausted_while_both_kinds_pass_a_pasid_along() {
    let model = Model::new(
        "local alloc | global 1, local 2, global 1, local 2",
        1_669,
        || {
            both(|machine| {
                let (local, global) = (machine.local(0), machine.global());
                passing(&local, 1, &[&global, &local, &global, &local]);
            });
        },
    );
    let model = model.at_preemptions(1);
    model.check();
    model.canary(Mutation::ScanOnce, WRONG);
}

#[test]
fn a_table_is_not_exhausted_while_one_of_its_pasids_moves() {
    let model = Model::new("local alloc | local 1 to local 2", 225, || {
        both(|machine| {
            let local = machine.local(0);
            passing(&local, 1, &[&local, &local]);
        });
    });
    model.check();
    model.canary(Mutation::TakeRelaxed, WRONG);
}

// ---- A global set asks -------------------------------------------------------------------

#[test]
fn a_global_set_is_not_exhausted_while_a_pasid_moves_between_tables() {
    let model = Model::new("global alloc | table 1 to table 2", 310, || {
        both(|machine| {
            passing(
                &machine.global(),
                1,
                &[&machine.local(0), &machine.local(1)],
            )
        });
    });
    model.check();
    model.canary(Mutation::ClaimRelaxed, WRONG);
}

#[test]
fn a_global_set_is_not_exhausted_while_tables_pass_a_pasid_along() {
    let model = Model::new("global alloc | table 1, table 2, 1, 2", 6_125, || {
        both(|machine| {
            let (one, two) = (machine.local(0), machine.local(1));
            passing(&machine.global(), 1, &[&one, &two, &one, &two]);
        });
    });
    model.check();
    model.canary(Mutation::ScanOnce, WRONG);
    model.canary(Mutation::ScanRelaxed, WRONG);
}

// ---- Another learns of the free, and then takes the other ----------------------------------

/// One frees 1 and then 0, both global. Another, if it gets 0 for its table, takes 2 for a
/// global set. A third asks for 1 or 2.
fn learning() {
    let machine = Machine::new(SpaceKind::Both, 2, 2);
    let (asker, learner, global) = (machine.local(0), machine.local(1), machine.global());
    let [z, x] = [0, 1].map(|number| global.clone().alloc_at(pasid(number), 1).unwrap());
    let ((), _held, got) = three_beside(
        move || {
            drop(x);
            drop(z);
        },
        move || {
            let learnt = learner.alloc_at(pasid(0), 1);
            learnt.map(|held| (held, global.alloc_at(pasid(2), 1)))
        },
        move || asker.alloc_in_place(range(1, 2), 2),
    );
    assert!(got.is_ok(), "refused while one was always free: {got:?}");
}

#[test]
fn who_gets_what_the_other_kind_freed_passes_the_free_on() {
    let model = Model::new(
        "global frees x, z | table gets z, global y | table",
        3_761,
        learning,
    );
    model.check();
    model.canary(Mutation::ClaimReleaseRelaxed, WRONG);
    model.canary(Mutation::ClaimRelaxed, WRONG);
}

// ---- A group asks ------------------------------------------------------------------------

fn tables_pass(machine: &Machine, rounds: usize) {
    let (group, one, two) = (machine.group(&[0, 1]), machine.local(0), machine.local(1));
    passing(&group, 1, &[&one, &two, &one, &two, &one, &two][..=rounds]);
}

#[test]
fn a_group_is_not_exhausted_while_a_pasid_moves_between_its_tables() {
    let model = Model::new("group alloc | table 1 to table 2", 45, || {
        tables_pass(&Machine::new(SpaceKind::Tables, 2, 2), 1);
    });
    model.check();
    model.canary(Mutation::ScanRelaxed, WRONG);
    model.canary(Mutation::TakeRelaxed, WRONG);
}

#[test]
fn a_group_is_not_exhausted_while_a_pasid_moves_to_and_fro() {
    let model = Model::new("group alloc | table 1 to table 2, to 1, to 2", 443, || {
        tables_pass(&Machine::new(SpaceKind::Tables, 2, 2), 3);
    });
    model.check();
    model.canary(Mutation::ScanOnce, WRONG);
}

#[test]
fn a_group_is_not_exhausted_while_a_pasid_moves_five_times() {
    let model = Model::new(
        "group alloc | table 1 to table 2, five times",
        4_169,
        || {
            tables_pass(&Machine::new(SpaceKind::Tables, 2, 2), 5);
        },
    );
    model.check();
    model.canary(Mutation::ScanForgetsVersions, WRONG);
}

#[test]
fn a_group_is_not_exhausted_while_a_pasid_moves_to_all() {
    let model = Model::new("group alloc | table 1 to global 2", 54, || {
        both(|machine| {
            let group = machine.group(&[0, 1]);
            passing(&group, 1, &[&machine.local(1), &machine.global()]);
        });
    });
    model.check();
    model.canary(Mutation::ClaimRelaxed, WRONG);
}

/// A table's set has no memory while a group with its own passes a PASID along: the table
/// may be short of memory, and is not exhausted.
fn without_memory() {
    let machine = Machine::empty(SpaceKind::Tables, 2, 1);
    let (local, group) = (machine.local(0), machine.group(&[0]));
    group.preload(range(0, 3)).unwrap();
    let mut held = group.clone().alloc_at(pasid(1), 1);
    let (got, _held) = beside(
        move || local.alloc_in_place(range(1, 2), 2).err(),
        move || {
            for number in [2, 1, 2] {
                drop(held);
                held = group.clone().alloc_at(pasid(number), 1);
            }
            held
        },
    );
    assert_eq!(
        got,
        Some(Error::OutOfMemory),
        "refused while one was always free"
    );
}

#[test]
fn a_table_without_memory_is_not_exhausted_while_a_group_passes_a_pasid_along() {
    let model = Model::new(
        "local alloc in place | group 1 to 2, to 1, to 2",
        13_752,
        || {
            without_memory();
        },
    );
    let model = model.at_preemptions(1);
    model.check();
    model.canary(Mutation::ScanForgetsVersions, WRONG);
}

// ---- A leaf comes up ---------------------------------------------------------------------

/// Memory comes up for `grown` before the last free PASID with memory is taken.
fn growing(present: u16, grown: u16) {
    let machine = Machine::empty(SpaceKind::Both, 3, 1);
    let (asker, mover) = (machine.local(0), machine.global());
    asker.preload(pasid(present).into()).unwrap();
    mover.preload(range(3, 4)).unwrap();
    let grower = asker.clone();
    let (got, _held) = beside(
        move || asker.alloc_in_place(range(3, 4), 2),
        move || {
            grower.preload(pasid(grown).into()).expect("memory");
            mover.alloc_at(pasid(present), 1)
        },
    );
    assert!(got.is_ok(), "refused while one was always free: {got:?}");
}

#[test]
fn memory_is_not_short_while_one_with_memory_is_free() {
    let model = Model::new("local alloc in place | grow 4, global 3", 22, || {
        growing(3, 4)
    });
    model.check();
    model.canary(Mutation::ClaimRelaxed, WRONG);
}

#[test]
fn memory_is_not_short_backwards_either() {
    let model = Model::new("local alloc in place | grow 3, global 4", 52, || {
        growing(4, 3)
    });
    model.check();
    model.canary(Mutation::ClaimRelaxed, WRONG);
}

/// Memory comes up for two PASIDs of which one is always free: in place *out of memory*
/// may be said, and *exhausted* may not.
fn growing_and_passing(rounds: usize) {
    let machine = Machine::empty(SpaceKind::Both, 2, 1);
    let (asker, mover) = (machine.local(0), machine.global());
    let grower = asker.clone();
    let (got, _held) = beside(
        move || asker.alloc_in_place(range(1, 2), 2),
        move || {
            grower.preload(range(1, 2)).expect("memory");
            mover.preload(range(1, 2)).expect("memory");
            let mut held = mover.clone().alloc_at(pasid(1), 1);
            for round in 0..rounds {
                drop(held);
                held = mover.clone().alloc_at(pasid(2 - (round % 2) as u16), 1);
            }
            held
        },
    );
    if got.as_ref().err() != Some(&Error::OutOfMemory) {
        assert!(got.is_ok(), "refused while one was always free: {got:?}");
    }
}

#[test]
fn a_leaf_that_comes_up_is_not_taken_for_full() {
    let model = Model::new("local alloc in place | grow, global 1 to 2", 4_504, || {
        growing_and_passing(1);
    });
    let model = model.at_preemptions(1);
    model.check();
    model.canary(Mutation::ScanForgetsMissing, WRONG);
}
