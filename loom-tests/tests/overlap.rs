// SPDX-License-Identifier: MIT OR Apache-2.0
//! Global sets beside the sets of tables: a PASID is held by one kind at a time, on every
//! table, and whoever gets it sees what the last holder wrote.
#![cfg(loom)]

use loom_tests::{
    Ask, HeldOf, LOST, Machine, Model, Set, TOGETHER, Turns, assert_free, beside, by_number,
    by_search, pasid, range, three_beside,
};
use pasid::model::Mutation;
use pasid::{Error, PasidWidth, Pool, SpaceKind, TableConfig};

const TWO_OWNERS: &str = "one PASID has two owners";

// ---- Both ask --------------------------------------------------------------------------

/// Both kinds ask for one PASID and give it back: never both have it.
fn both_ask(ask: Ask) {
    let machine = Machine::new(SpaceKind::Both, 2, 1);
    let sets = [machine.global(), machine.local(0)];
    let turns = Turns::begin();
    let asker = |set: &Set| {
        let (set, turns) = (set.clone(), turns.clone());
        move || {
            if let Ok(held) = ask(&set) {
                turns.take(held);
            }
        }
    };
    beside(asker(&sets[0]), asker(&sets[1]));
    assert_free(&sets);
}

#[test]
fn one_kind_holds_a_pasid() {
    let model = Model::new("global alloc_at, free | local alloc_at, free", 107, || {
        both_ask(by_number);
    });
    model.check();
    model.canary(Mutation::ClaimInTwoSteps, TOGETHER);
    model.canary(Mutation::LocalClaimsFirstNotChecked, TOGETHER);
}

#[test]
fn one_kind_finds_a_pasid() {
    let model = Model::new("global alloc, free | local alloc, free", 232, || {
        both_ask(by_search);
    });
    model.check();
    model.canary(Mutation::ClaimInTwoSteps, TOGETHER);
    model.canary(Mutation::LocalClaimsFirstNotChecked, TOGETHER);
}

/// One kind holds a PASID, frees it and asks for it again, while the other asks.
fn freed_and_asked_for_again(holder: usize, ask: Ask) {
    let machine = Machine::new(SpaceKind::Both, 2, 1);
    let sets = [machine.global(), machine.local(0)];
    let turns = Turns::begin();
    let held = by_number(&sets[holder]).unwrap();
    let (other, its) = (sets[1 - holder].clone(), turns.clone());
    let own = sets[holder].clone();
    beside(
        move || {
            if let Ok(held) = ask(&other) {
                its.take(held);
            }
        },
        move || {
            turns.take(held);
            if let Ok(held) = ask(&own) {
                turns.take(held);
            }
        },
    );
    assert_free(&sets);
}

#[test]
fn a_table_gets_what_was_global_and_back() {
    let model = Model::new(
        "local alloc, free | global free, alloc, free",
        2_307,
        || {
            freed_and_asked_for_again(0, by_search);
        },
    );
    model.check();
    model.canary(Mutation::ClaimReleaseRelaxed, TOGETHER);
    model.canary(Mutation::ClaimInTwoSteps, TOGETHER);
    model.canary(Mutation::LocalClaimsFirstNotChecked, TOGETHER);
}

#[test]
fn a_global_set_gets_what_was_local_and_back() {
    let model = Model::new(
        "global alloc, free | local free, alloc, free",
        2_307,
        || {
            freed_and_asked_for_again(1, by_search);
        },
    );
    model.check();
    model.canary(Mutation::ClaimReleaseRelaxed, TOGETHER);
    model.canary(Mutation::ClaimInTwoSteps, TOGETHER);
    model.canary(Mutation::LocalClaimsFirstNotChecked, TOGETHER);
}

/// Two of one table and a global set ask.
fn two_of_a_table_ask() {
    let machine = Machine::new(SpaceKind::Both, 2, 1);
    let sets = [machine.local(0), machine.local(0), machine.global()];
    let got = asked(&sets);
    let owners = got.iter().filter(|got| got.is_ok()).count();
    assert!(owners < 2, "one PASID has two owners");
    drop(got);
    assert_free(&sets);
}

fn asked(sets: &[Set; 3]) -> [pasid::Result<HeldOf>; 3] {
    let asker = |set: &Set| {
        let set = set.clone();
        move || by_number(&set)
    };
    three_beside(asker(&sets[0]), asker(&sets[1]), asker(&sets[2])).into()
}

#[test]
fn two_of_a_table_and_a_global_set_do_not_share() {
    let model = Model::new("local | local | global", 2_834, two_of_a_table_ask);
    model.check();
    model.canary(Mutation::TakeInTwoSteps, LOST);
    model.canary(Mutation::LocalClaimsFirstNotChecked, TWO_OWNERS);
}

const NEITHER: &str = "neither all tables have it nor the global set";

/// Two tables and a global set ask: the tables both get the same number, or the global
/// set does.
fn two_tables_ask() {
    let machine = Machine::new(SpaceKind::Both, 2, 2);
    let sets = [machine.local(0), machine.local(1), machine.global()];
    let got = asked(&sets);
    let tables = got[0].is_ok() && got[1].is_ok() && got[2].is_err();
    let global = got[0].is_err() && got[1].is_err() && got[2].is_ok();
    assert!(
        tables || global,
        "neither all tables have it nor the global set"
    );
    // And it stays so until the last of them gives it back.
    let [one, two, all] = got;
    drop((one, all));
    let again = by_number(&sets[2]).map(drop);
    match &two {
        Ok(_) => assert_eq!(again.err(), Some(Error::HeldLocally(pasid(1)))),
        Err(_) => assert!(again.is_ok(), "a PASID is lost"),
    }
    drop(two);
    assert_free(&sets);
}

#[test]
fn two_tables_have_the_same_pasid_or_all_have() {
    let model = Model::new("table | table | global", 1_157, two_tables_ask);
    model.check();
    model.canary(Mutation::LocalClaimsFirstNotChecked, NEITHER);
}

// ---- What is free for one is free for the other -------------------------------------------

/// A global PASID is freed while a set of a table asks for it. If that one gets it, a
/// global set can have it afterwards.
fn what_a_table_got_a_global_set_gets() {
    let machine = Machine::new(SpaceKind::Both, 2, 1);
    let (global, local) = (machine.global(), machine.local(0));
    let held = by_number(&global).unwrap();
    beside(
        move || {
            if by_number(&local).is_ok() {
                assert!(by_number(&global).is_ok(), "a PASID is lost");
            }
        },
        move || drop(held),
    );
}

#[test]
fn a_claim_given_back_leaves_no_bit_behind() {
    let model = Model::new(
        "local alloc, free, global alloc | global free",
        40,
        what_a_table_got_a_global_set_gets,
    );
    model.check();
    model.canary(Mutation::GlobalClaimGivenBackFirst, LOST);
}

// ---- Reservations ------------------------------------------------------------------------

const NOT_ONE: &str = "not one of reserved and live";

/// The PASID is reserved on every table while a table's set allocates it.
fn reserve_in_the_space() {
    let machine = Machine::new(SpaceKind::Both, 2, 1);
    let (local, space) = (machine.local(0), machine.space());
    machine.global();
    let (asker, reserver) = (local.clone(), space.clone());
    let (got, reserved) = beside(
        move || by_number(&asker),
        move || reserver.reserve(pasid(1)),
    );
    let one = got.is_ok() != reserved.is_ok();
    assert!(one, "not one of reserved and live");
    if reserved.is_ok() {
        assert_eq!(space.unreserve(pasid(1)), Ok(()));
    }
    drop(got);
    assert_free(&[local]);
}

#[test]
fn what_is_reserved_on_every_table_is_live_on_none() {
    let model = Model::new(
        "local alloc | reserve in the space",
        42,
        reserve_in_the_space,
    );
    model.check();
    model.canary(Mutation::LocalClaimsFirstNotChecked, NOT_ONE);
}

/// The PASID is reserved on a table while a global set allocates it.
fn reserve_on_a_table() {
    let machine = Machine::new(SpaceKind::Both, 2, 1);
    let (global, table) = (machine.global(), machine.table(0));
    machine.local(0);
    let (asker, reserver) = (global.clone(), table.clone());
    let (reserved, got) = beside(
        move || reserver.reserve(pasid(1)),
        move || by_number(&asker),
    );
    let one = got.is_ok() != reserved.is_ok();
    assert!(one, "not one of reserved and live");
    if reserved.is_ok() {
        assert_eq!(table.unreserve(pasid(1)), Ok(()));
    }
    drop(got);
    assert_free(&[global]);
}

#[test]
fn what_is_reserved_on_a_table_is_not_live_globally() {
    let model = Model::new("reserve on a table | global alloc", 42, reserve_on_a_table);
    model.check();
    model.canary(Mutation::LocalClaimsFirstNotChecked, NOT_ONE);
}

/// A global set allocates and frees while a table is added that reserves the PASID.
fn table_is_added(kind: SpaceKind) {
    let machine = Machine::new(kind, 2, 0);
    let (global, space) = (machine.global(), machine.space());
    let width = PasidWidth::new(2).expect("at most 4 bits");
    let turns = Turns::begin();
    let (asker, its) = (global.clone(), turns.clone());
    let ((), added) = beside(
        move || {
            if let Ok(held) = by_number(&asker) {
                its.take(held);
            }
        },
        move || {
            let reserved = [range(1, 1)];
            let table = space.add_table(TableConfig::new(width).reserved(&reserved));
            if table.is_ok() {
                turns.enter();
            }
            table
        },
    );
    match added {
        Ok(_) => assert!(by_number(&global).is_err(), "a reserved PASID is live"),
        Err(error) => assert_eq!(error, Error::HeldGlobally(pasid(1))),
    }
}

#[test]
fn what_a_new_table_reserves_is_not_live_globally() {
    let model = Model::new("global alloc, free | add a table, claims", 147, || {
        table_is_added(SpaceKind::Both);
    });
    model.check();
    model.canary(Mutation::ClaimInTwoSteps, TOGETHER);
}

#[test]
fn what_a_new_table_reserves_is_not_live_in_a_global_space() {
    let model = Model::new(
        "global alloc, free | add a table, global space",
        131,
        || {
            table_is_added(SpaceKind::Global);
        },
    );
    model.check();
    model.canary(Mutation::TakeInTwoSteps, TOGETHER);
}

// ---- Growth ------------------------------------------------------------------------------

/// Both kinds ask for one PASID where no memory is.
fn both_grow() {
    let machine = Machine::empty(SpaceKind::Both, 2, 1);
    let sets = [machine.global(), machine.local(0)];
    let asker = |set: &Set| {
        let set = set.clone();
        move || set.alloc(range(1, 1), 1)
    };
    let got = beside(asker(&sets[0]), asker(&sets[1]));
    assert!(
        got.0.is_ok() != got.1.is_ok(),
        "growth lost who holds a PASID"
    );
    drop(got);
    for set in &sets {
        assert!(set.clone().alloc(range(1, 1), 1).is_ok(), "a PASID is lost");
    }
}

#[test]
fn both_kinds_grow_the_same_claims() {
    let model = Model::new("global growth | local growth", 798, both_grow);
    model.check();
    model.canary(Mutation::PublishBlindly, "growth lost who holds a PASID");
}
