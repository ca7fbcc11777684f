// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets of several tables: they take a PASID on all of their tables or on none, and give
//! it back on all of them.
#![cfg(loom)]

use loom_tests::{
    Ask, LOST, Machine, Model, Set, TOGETHER, Turns, assert_free, beside, by_number, by_search,
    range, three_beside,
};
use pasid::model::Mutation;
use pasid::{Pool, SpaceKind};

const NOT_ONE: &str = "not one of them has it";

// ---- In turn ---------------------------------------------------------------------------

/// Two sets that share a table ask and give back: one at a time has it, and nothing is
/// left behind on any table.
fn in_turn(ask: Ask, [one, two]: [&Set; 2], all: &[Set]) {
    let turns = Turns::begin();
    let asker = |set: &Set| {
        let (set, turns) = (set.clone(), turns.clone());
        move || {
            if let Ok(held) = ask(&set) {
                turns.take(held);
            }
        }
    };
    beside(asker(one), asker(two));
    assert_free(all);
}

/// One holds the PASID, frees it and asks for it again, while the other asks.
fn handed_over([holder, other]: [&Set; 2], all: &[Set]) {
    let turns = Turns::begin();
    let held = by_number(holder).unwrap();
    let (holder, other, its) = (holder.clone(), other.clone(), turns.clone());
    beside(
        move || {
            if let Ok(held) = by_number(&other) {
                its.take(held);
            }
        },
        move || {
            turns.take(held);
            if let Ok(held) = by_number(&holder) {
                turns.take(held);
            }
        },
    );
    assert_free(all);
}

/// A group of both tables, and a set of one of them.
fn group_and_member(kind: SpaceKind, member: usize, ask: Ask) {
    let machine = Machine::new(kind, 2, 2);
    let (group, local) = (machine.group(&[0, 1]), machine.local(member));
    let other = machine.local(1 - member);
    in_turn(
        ask,
        [&group, &local],
        &[group.clone(), local.clone(), other],
    );
}

#[test]
fn a_group_and_its_first_table_take_turns() {
    let model = Model::new("group | first member", 107, || {
        group_and_member(SpaceKind::Tables, 0, by_number);
    });
    model.check();
    model.canary(Mutation::TakeInTwoSteps, LOST);
}

#[test]
fn a_group_and_its_last_table_take_turns() {
    let model = Model::new("group | last member", 107, || {
        group_and_member(SpaceKind::Tables, 1, by_number);
    });
    model.check();
    model.canary(Mutation::TakeInTwoSteps, LOST);
    model.canary(Mutation::GroupKeepsBits, LOST);
}

#[test]
fn a_group_and_its_last_table_take_turns_beside_global_sets() {
    let model = Model::new(
        "group alloc | last member alloc, beside global sets",
        1_077,
        || {
            group_and_member(SpaceKind::Both, 1, by_search);
        },
    );
    model.check();
    model.canary(Mutation::TakeInTwoSteps, LOST);
    model.canary(Mutation::GroupKeepsBits, LOST);
}

#[test]
fn a_table_sees_what_a_group_wrote() {
    let model = Model::new("member | group free, alloc, free", 61, || {
        let machine = Machine::new(SpaceKind::Tables, 2, 2);
        let (group, local) = (machine.group(&[0, 1]), machine.local(0));
        handed_over([&group, &local], &[group.clone(), local.clone()]);
    });
    model.check();
    model.canary(Mutation::TakeRelaxed, TOGETHER);
    model.canary(Mutation::GiveBackRelaxed, TOGETHER);
}

#[test]
fn a_group_sees_what_a_table_wrote() {
    let model = Model::new("group | last member free, alloc, free", 226, || {
        let machine = Machine::new(SpaceKind::Tables, 2, 2);
        let (group, local) = (machine.group(&[0, 1]), machine.local(1));
        handed_over([&local, &group], &[group.clone(), local.clone()]);
    });
    model.check();
    model.canary(Mutation::TakeRelaxed, TOGETHER);
    model.canary(Mutation::GiveBackRelaxed, TOGETHER);
    model.canary(Mutation::GroupKeepsBits, LOST);
}

/// A group and a global set.
fn group_and_global(ask: Ask) {
    let machine = Machine::new(SpaceKind::Both, 2, 2);
    let (group, global) = (machine.group(&[0, 1]), machine.global());
    let all = [group.clone(), global.clone(), machine.local(0)];
    in_turn(ask, [&group, &global], &all);
}

#[test]
fn a_group_and_a_global_set_take_turns() {
    let model = Model::new("group alloc_at | global alloc_at", 107, || {
        group_and_global(by_number)
    });
    model.check();
    model.canary(Mutation::ClaimInTwoSteps, TOGETHER);
    model.canary(Mutation::LocalClaimsFirstNotChecked, TOGETHER);
    model.canary(Mutation::GroupKeepsBits, LOST);
}

#[test]
fn a_group_and_a_global_set_find_a_pasid_in_turn() {
    let model = Model::new("group alloc | global alloc", 229, || {
        group_and_global(by_search);
    });
    model.check();
    model.canary(Mutation::ClaimInTwoSteps, TOGETHER);
    model.canary(Mutation::GroupKeepsBits, LOST);
}

#[test]
fn a_global_set_sees_what_a_group_wrote() {
    let model = Model::new("global | group free, alloc, free", 61, || {
        let machine = Machine::new(SpaceKind::Both, 2, 2);
        let (group, global) = (machine.group(&[0, 1]), machine.global());
        handed_over([&group, &global], &[group.clone(), global.clone()]);
    });
    model.check();
    model.canary(Mutation::ClaimReleaseRelaxed, TOGETHER);
    model.canary(Mutation::ClaimInTwoSteps, TOGETHER);
}

#[test]
fn a_group_sees_what_a_global_set_wrote() {
    let model = Model::new("group | global free, alloc, free", 226, || {
        let machine = Machine::new(SpaceKind::Both, 2, 2);
        let (group, global) = (machine.group(&[0, 1]), machine.global());
        handed_over([&global, &group], &[group.clone(), global.clone()]);
    });
    model.check();
    model.canary(Mutation::ClaimReleaseRelaxed, TOGETHER);
    model.canary(Mutation::LocalClaimsFirstNotChecked, TOGETHER);
}

/// Groups of three tables.
fn two_groups(one: &[usize], two: &[usize], ask: Ask) {
    let machine = Machine::new(SpaceKind::Tables, 2, 3);
    let (one, two) = (machine.group(one), machine.group(two));
    let all = [one.clone(), two.clone(), machine.group(&[0, 1, 2])];
    in_turn(ask, [&one, &two], &all);
}

#[test]
fn groups_that_share_a_table_take_turns() {
    let model = Model::new("A B, free | B C, free", 48, || {
        two_groups(&[0, 1], &[1, 2], by_number);
    });
    model.check();
    model.canary(Mutation::TakeInTwoSteps, LOST);
    model.canary(Mutation::GroupKeepsBits, LOST);
}

// ---- One of them has it ------------------------------------------------------------------

/// All ask for one PASID and keep it: one of them has it, whoever comes in between.
fn assert_one(owners: &[bool]) {
    let count = owners.iter().filter(|&&owner| owner).count();
    assert_eq!(count, 1, "not one of them has it");
}

fn one_of_two(machine: &Machine, ask: Ask, [one, two]: [&Set; 2]) {
    let asker = |set: &Set| {
        let set = set.clone();
        move || ask(&set)
    };
    let (got_one, got_two) = beside(asker(one), asker(two));
    assert_one(&[got_one.is_ok(), got_two.is_ok()]);
    drop((got_one, got_two));
    assert_free(&[one.clone(), two.clone(), machine.group(&[0, 1])]);
}

#[test]
fn one_of_two_groups_that_name_their_tables_crosswise_has_it() {
    let model = Model::new("A B | B A", 58, || {
        let machine = Machine::new(SpaceKind::Tables, 2, 2);
        let sets = [machine.group(&[0, 1]), machine.group(&[1, 0])];
        one_of_two(&machine, by_number, [&sets[0], &sets[1]]);
    });
    model.check();
    model.canary(Mutation::TakeInTwoSteps, LOST);
}

#[test]
fn one_of_two_groups_in_a_chain_has_it() {
    let model = Model::new("A B | C B", 22, || {
        let machine = Machine::new(SpaceKind::Tables, 2, 3);
        let sets = [machine.group(&[0, 1]), machine.group(&[2, 1])];
        one_of_two(&machine, by_number, [&sets[0], &sets[1]]);
    });
    model.check();
    model.canary(Mutation::TakeInTwoSteps, NOT_ONE);
    model.canary(Mutation::GroupKeepsBits, LOST);
}

/// A table, all tables and a group of two ask.
fn table_global_group() {
    let machine = Machine::new(SpaceKind::Both, 2, 2);
    let sets = [machine.local(1), machine.global(), machine.group(&[0, 1])];
    let asker = |set: &Set| {
        let set = set.clone();
        move || by_number(&set)
    };
    let got = three_beside(asker(&sets[0]), asker(&sets[1]), asker(&sets[2]));
    assert_one(&[got.0.is_ok(), got.1.is_ok(), got.2.is_ok()]);
    drop(got);
    assert_free(&sets);
}

#[test]
fn a_table_or_a_group_or_all_have_it() {
    let model = Model::new("table | global | group", 2_543, table_global_group);
    model.check();
    model.canary(Mutation::LocalClaimsFirstNotChecked, NOT_ONE);
}

// ---- Back to all of them -------------------------------------------------------------------

/// A group frees while a set of its first table asks. If that one gets it, the group can
/// have it again afterwards.
fn what_a_table_got_the_group_gets(kind: SpaceKind) {
    let machine = Machine::new(kind, 2, 2);
    let (group, local) = (machine.group(&[0, 1]), machine.local(0));
    let held = by_number(&group).unwrap();
    beside(
        move || {
            if by_number(&local).is_ok() {
                assert!(by_number(&group).is_ok(), "a PASID is lost");
            }
        },
        move || drop(held),
    );
}

#[test]
fn what_a_group_frees_on_a_table_is_free_for_it() {
    let model = Model::new("table alloc, free, group alloc | group free", 18, || {
        what_a_table_got_the_group_gets(SpaceKind::Tables);
    });
    model.check();
    model.canary(Mutation::GroupOwnBitLast, LOST);
}

// ---- Growth ----------------------------------------------------------------------------------

const GROWTH: &str = "growth lost who holds a PASID";

/// Two ask for one PASID where no memory is.
fn both_grow(machine: &Machine, one: &Set, two: &Set) {
    let asker = |set: &Set| {
        let set = set.clone();
        move || set.alloc(range(1, 1), 1)
    };
    let got = beside(asker(one), asker(two));
    assert!(
        got.0.is_ok() != got.1.is_ok(),
        "growth lost who holds a PASID"
    );
    drop(got);
    for set in [one.clone(), two.clone(), machine.group(&[0, 1])] {
        assert!(set.alloc(range(1, 1), 1).is_ok(), "a PASID is lost");
    }
}

#[test]
fn a_group_and_its_table_grow_the_same_node() {
    let model = Model::new("group growth | member growth", 163, || {
        let machine = Machine::empty(SpaceKind::Tables, 2, 2);
        both_grow(&machine, &machine.group(&[0, 1]), &machine.local(1));
    });
    model.check();
    model.canary(Mutation::PublishBlindly, GROWTH);
}
