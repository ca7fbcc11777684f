// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults that find nothing attached beside the groups of their table: a group answers for
//! its PASIDs from their beginning to their end, and nothing of it is freed under a fault.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{HeldOf, Machine, Model, Set, beside, by_number, pasid};
use pasid::model::Mutation;
use pasid::{Attach, Error, Pool, Scope, SetConfig, SpaceKind, Table};
use std::sync::Arc;

mod turn;

use turn::beside_in_turn;

const NOT_ATTACHED: Error = Error::NotAttached(pasid(1));
const BEING_FREED: Error = Error::BeingFreed(pasid(1));
const NOT_FOUND: Error = Error::NotFound(pasid(1));

/// What a fault on PASID 1, which is attached nowhere, is told.
fn told(table: &Table) -> Error {
    let fault = table.fault_get(pasid(1)).map(|fault| fault.word());
    fault.expect_err("nothing is attached")
}

/// Two tables, of which one is returned, and a group of them that has PASID 1.
fn machine() -> (Machine, Arc<Table>, Set, HeldOf) {
    let machine = Machine::new(SpaceKind::Tables, 2, 2);
    let (table, group) = (machine.table(0), machine.group(&[0, 1]));
    let owned = by_number(&group).expect("it is free");
    (machine, table, group, owned)
}

/// It is loom that sees who reads what is not built or is freed, in a cell of each entry.
const READ: &str = "Causality violation";

// ---- Groups come and go ---------------------------------------------------------------

/// Groups go, which come before the one that has the PASID, while a fault asks them all.
fn go_against_fault(count: usize) {
    let (machine, table, _group, owned) = machine();
    let going: Vec<Set> = (0..count).map(|_| machine.group(&[0, 1])).collect();
    let (asked, space) = (table.clone(), machine.space());
    beside_in_turn(
        move || assert_eq!(told(&asked), NOT_ATTACHED, "a group is passed over"),
        move || {
            // The last comes first in the list, and a reader may stand on it.
            for goes in going.into_iter().rev() {
                goes.close();
                drop(goes);
                // The control call that forgets it.
                assert!(space.find_set(0).is_none());
            }
        },
    );
    assert_eq!(told(&table), NOT_ATTACHED, "a group is passed over");
    drop(owned);
    assert_eq!(told(&table), NOT_FOUND);
}

#[test]
fn nothing_of_a_group_is_freed_under_a_fault() {
    let model = Model::new("fault_get | a group goes", 66, || go_against_fault(1));
    model.check();
    model.canary(Mutation::GroupFreedWhileRead, READ);
    model.canary(Mutation::GroupsLeftRelaxed, READ);
    model.canary(Mutation::GroupsReadRelaxed, READ);
}

#[test]
fn a_fault_gets_on_over_groups_that_go() {
    let model = Model::new("fault_get | two groups go", 148, || go_against_fault(2));
    model.check();
    model.canary(Mutation::GroupFreedWhileRead, READ);
    model.canary(Mutation::GroupsLeftRelaxed, READ);
    model.canary(Mutation::GroupsReadRelaxed, READ);
}

/// The last handle of a group is dropped, whose space is gone.
fn drop_against_fault() {
    let (machine, table, _group, owned) = machine();
    let goes = machine.group(&[0, 1]);
    drop(machine);
    beside_in_turn(
        move || assert_eq!(told(&table), NOT_ATTACHED, "a group is passed over"),
        move || drop(goes),
    );
    drop(owned);
}

#[test]
fn nothing_of_a_group_without_a_space_is_freed_under_a_fault() {
    let model = Model::new("fault_get | drop of a group", 65, drop_against_fault);
    model.check();
    model.canary(Mutation::GroupFreedWhileRead, READ);
    model.canary(Mutation::GroupsLeftRelaxed, READ);
    model.canary(Mutation::GroupsReadRelaxed, READ);
}

/// A group is added before the one that has the PASID, and goes at once, while a fault
/// asks them.
fn add_against_fault() {
    let (machine, table, _group, owned) = machine();
    let (asked, space) = (table.clone(), machine.space());
    let tables = [Table::clone(&table), Table::clone(&machine.table(1))];
    let (_, added) = beside_in_turn(
        move || assert_eq!(told(&asked), NOT_ATTACHED, "a group is passed over"),
        move || {
            let added = space.add_set(SetConfig::new(Scope::Group(&tables)));
            added.expect("memory").close();
            space
        },
    );
    assert!(added.sets().expect("memory").len() == 1);
    assert_eq!(told(&table), NOT_ATTACHED, "a group is passed over");
    drop(owned);
}

#[test]
fn a_fault_sees_a_group_built() {
    let model = Model::new("fault_get | add_set, close", 29, add_against_fault);
    model.check();
    model.canary(Mutation::GroupListedRelaxed, READ);
}

// ---- What a group says ------------------------------------------------------------------

/// A group's PASID is revoked while two faults come, one after the other.
fn revoke_against_faults() {
    let (_machine, table, group, owned) = machine();
    let (asked, written) = (table.clone(), Arc::new(AtomicU64::new(0)));
    let note = written.clone();
    let ((), owned) = beside(
        move || {
            let both = [told(&asked), told(&asked)];
            if both.contains(&BEING_FREED) {
                // Relaxed: it is the answer that must have carried it here.
                let seen = note.load(Ordering::Relaxed);
                assert_eq!(
                    seen, 1,
                    "a fault comes before the revocation it was told of"
                );
            }
            let known = [NOT_ATTACHED, BEING_FREED];
            assert!(both.iter().all(|told| known.contains(told)), "{both:?}");
            let back = both == [BEING_FREED, NOT_ATTACHED];
            assert!(!back, "what was revoked is live again");
        },
        move || {
            // Relaxed: as above.
            written.store(1, Ordering::Relaxed);
            group.revoke(owned.handle()).expect("it is held");
            owned
        },
    );
    assert_eq!(told(&table), BEING_FREED);
    drop(owned);
    assert_eq!(told(&table), NOT_FOUND);
}

#[test]
fn a_fault_is_told_of_a_revocation_by_the_group() {
    let model = Model::new("fault_get, fault_get | revoke", 34, revoke_against_faults);
    model.check();
    model.canary(
        Mutation::RevokeRelaxed,
        "a fault comes before the revocation it was told of",
    );
}

/// A group closes while one allocates from it: no fault that comes afterwards is told that
/// a PASID of it is live.
fn close_against_alloc() {
    let machine = Machine::new(SpaceKind::Tables, 2, 2);
    let (table, group) = (machine.table(0), machine.group(&[0, 1]));
    let closing = group.clone();
    let (owned, after) = beside(
        move || group.alloc_at(pasid(1), 1),
        move || {
            closing.close();
            told(&table)
        },
    );
    let known = [BEING_FREED, NOT_FOUND];
    assert!(known.contains(&after), "a closed group has a live PASID");
    if let Err(error) = owned {
        assert_eq!(error, Error::Closing);
    }
}

#[test]
fn a_fault_after_a_closing_is_told_of_nothing_live() {
    let model = Model::new("group's alloc | close, fault_get", 453, close_against_alloc);
    model.check();
    model.canary(
        Mutation::GetForgetsClosing,
        "a closed group has a live PASID",
    );
}
