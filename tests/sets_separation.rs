// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which sets may have the same PASID, and which never do.

mod common;

use common::sets::{any, both, exhausted, global, group, live, local, set, table, take, take_at};
use common::{pasid, range, refused};
use pasid::{Error, IoasidSet, Pool, Scope, SetConfig, Space, SpaceKind, Table};

const FIVE: u32 = 5;

/// Asserts that `set` is refused five, by each way to ask for it, and has nothing of it.
#[track_caller]
fn refuses_five(set: &IoasidSet, why: Error) {
    assert_eq!(take(set, FIVE).err(), exhausted(FIVE));
    assert_eq!(take_at(set, FIVE).err(), Some(why));
    let in_place = set.alloc_in_place(range(FIVE, FIVE), 0);
    assert_eq!(in_place.err(), exhausted(FIVE));
    assert!(!live(set).contains(&FIVE));
}

#[test]
fn sets_of_different_tables_have_the_same_pasid() {
    for kind in [SpaceKind::Tables, SpaceKind::Both] {
        let space = Space::new(kind);
        let tables: Vec<Table> = (0..8).map(|_| table(&space, 20)).collect();
        let sets: Vec<IoasidSet> = tables.iter().map(|table| local(&space, table)).collect();
        let owned: Vec<_> = sets.iter().map(|set| take(set, FIVE).unwrap()).collect();
        for (set, owned) in sets.iter().zip(&owned) {
            assert_eq!(owned.pasid(), pasid(FIVE));
            assert_eq!(set.find(pasid(FIVE)).unwrap().handle, owned.handle());
        }
        // Each is free again by itself.
        let mut owned = owned.into_iter();
        drop(owned.next());
        assert!(take(&sets[0], FIVE).is_ok());
        assert_eq!(take(&sets[1], FIVE).err(), exhausted(FIVE));
    }
}

#[test]
fn sets_of_one_table_never_have_the_same_pasid() {
    for kind in [SpaceKind::Tables, SpaceKind::Both] {
        let space = Space::new(kind);
        let one = table(&space, 20);
        let (first, second) = (local(&space, &one), local(&space, &one));
        let owned = take(&first, FIVE).unwrap();
        refuses_five(&second, Error::InUse(pasid(FIVE)));
        let others = any(&second).unwrap();
        assert_ne!(others.pasid(), owned.pasid());
        drop(owned);
        assert!(take_at(&second, FIVE).is_ok());
    }
}

#[test]
fn global_sets_never_have_the_same_pasid() {
    for kind in [SpaceKind::Global, SpaceKind::Both] {
        let space = Space::new(kind);
        let (first, second) = (global(&space), global(&space));
        let owned = take(&first, FIVE).unwrap();
        refuses_five(&second, Error::InUse(pasid(FIVE)));
        drop(owned);
        assert!(take_at(&second, FIVE).is_ok());
    }
}

#[test]
fn a_global_pasid_excludes_it_on_every_table_also_on_one_added_later() {
    let space = both();
    let tables = [table(&space, 20), table(&space, 8)];
    let early = local(&space, &tables[0]);
    let grouped = group(&space, &tables);
    let users = global(&space);
    let owned = take(&users, FIVE).unwrap();
    let later = table(&space, 20);
    let late = local(&space, &later);
    let wide = group(&space, &[tables[1].clone(), later.clone()]);
    let sets = [&early, &grouped, &late, &wide];
    for set in sets {
        refuses_five(set, Error::HeldGlobally(pasid(FIVE)));
    }
    // Also while it is being freed.
    let held = owned.get().unwrap();
    drop(owned);
    for set in sets {
        refuses_five(set, Error::HeldGlobally(pasid(FIVE)));
    }
    drop(held);
    for set in sets {
        assert!(take(set, FIVE).is_ok());
        assert!(take_at(set, FIVE).is_ok());
    }
}

#[test]
fn a_pasid_of_any_table_excludes_it_from_global_sets() {
    let space = both();
    let tables = [table(&space, 20), table(&space, 20)];
    let locals = [local(&space, &tables[0]), local(&space, &tables[1])];
    let users = global(&space);
    let one = take(&locals[0], FIVE).unwrap();
    let other = take(&locals[1], FIVE).unwrap();
    refuses_five(&users, Error::HeldLocally(pasid(FIVE)));
    drop(one);
    refuses_five(&users, Error::HeldLocally(pasid(FIVE)));
    // Also while it is being freed.
    let held = other.get().unwrap();
    drop(other);
    refuses_five(&users, Error::HeldLocally(pasid(FIVE)));
    drop(held);
    let owned = take_at(&users, FIVE).unwrap();
    for set in &locals {
        refuses_five(set, Error::HeldGlobally(pasid(FIVE)));
    }
    drop(owned);
    assert!(take(&locals[0], FIVE).is_ok());
}

#[test]
fn the_sides_step_over_each_other() {
    let space = both();
    let tables = [table(&space, 12), table(&space, 12)];
    let locals = [local(&space, &tables[0]), local(&space, &tables[1])];
    let grouped = group(&space, &tables);
    let users = global(&space);
    // Some hundreds, so that whole leaves belong to the other side.
    let globals: Vec<_> = (1..=700).map(|n| take(&users, n).unwrap()).collect();
    let first = any(&locals[0]).unwrap();
    assert_eq!(first.pasid(), pasid(701));
    let second = any(&locals[1]).unwrap();
    assert_eq!(second.pasid(), pasid(701));
    let third = any(&grouped).unwrap();
    assert_eq!(third.pasid(), pasid(702));
    assert_eq!(any(&users).unwrap().pasid(), pasid(703));
    drop(globals);
    assert_eq!(any(&locals[0]).unwrap().pasid(), pasid(1));
    assert_eq!(any(&grouped).unwrap().pasid(), pasid(1));
    assert_eq!(any(&users).unwrap().pasid(), pasid(1));
}

#[test]
fn a_group_has_a_pasid_on_all_its_tables_and_on_no_other() {
    for kind in [SpaceKind::Tables, SpaceKind::Both] {
        let space = Space::new(kind);
        let tables: Vec<Table> = (0..4).map(|_| table(&space, 20)).collect();
        let locals: Vec<IoasidSet> = tables.iter().map(|table| local(&space, table)).collect();
        // Named in no order.
        let members = [tables[2].clone(), tables[0].clone()];
        let grouped = group(&space, &members);
        let owned = take_at(&grouped, FIVE).unwrap();
        assert_eq!(live(&grouped), [FIVE]);
        for member in [0, 2] {
            refuses_five(&locals[member], Error::InUse(pasid(FIVE)));
        }
        for other in [1, 3] {
            assert!(take(&locals[other], FIVE).is_ok());
        }
        // A group that shares one table, and one that shares none.
        let crossed = group(&space, &tables[..2]);
        refuses_five(&crossed, Error::InUse(pasid(FIVE)));
        let apart = group(&space, &[tables[1].clone(), tables[3].clone()]);
        assert!(take(&apart, FIVE).is_ok());
        let held = owned.get().unwrap();
        drop(owned);
        refuses_five(&locals[0], Error::InUse(pasid(FIVE)));
        drop(held);
        assert!(take(&locals[0], FIVE).is_ok());
        assert!(take(&crossed, FIVE).is_ok());
    }
}

#[test]
fn a_group_that_fails_on_its_last_table_leaves_nothing_behind() {
    for kind in [SpaceKind::Tables, SpaceKind::Both] {
        let space = Space::new(kind);
        let tables: Vec<Table> = (0..5).map(|_| table(&space, 10)).collect();
        let locals: Vec<IoasidSet> = tables.iter().map(|table| local(&space, table)).collect();
        let grouped = group(&space, &tables);
        for blocked in 0..5 {
            let held = take(&locals[blocked], FIVE).unwrap();
            for _ in 0..100 {
                assert_eq!(
                    take_at(&grouped, FIVE).err(),
                    Some(Error::InUse(pasid(FIVE)))
                );
                assert_eq!(take(&grouped, FIVE).err(), exhausted(FIVE));
            }
            assert_eq!(live(&grouped), [] as [u32; 0]);
            drop(held);
            for set in &locals {
                assert!(take_at(set, FIVE).is_ok());
            }
            if kind == SpaceKind::Both {
                // No claim is left either.
                assert!(take_at(&global(&space), FIVE).is_ok());
            }
            assert!(take_at(&grouped, FIVE).is_ok());
        }
    }
}

#[test]
fn a_group_and_global_sets_exclude_each_other() {
    let space = both();
    let tables = [table(&space, 20), table(&space, 20)];
    let (grouped, users) = (group(&space, &tables), global(&space));
    let owned = take(&grouped, FIVE).unwrap();
    refuses_five(&users, Error::HeldLocally(pasid(FIVE)));
    drop(owned);
    let owned = take(&users, FIVE).unwrap();
    refuses_five(&grouped, Error::HeldGlobally(pasid(FIVE)));
    // The bits of the attempts are gone.
    drop(owned);
    for table in &tables {
        assert!(take_at(&local(&space, table), FIVE).is_ok());
    }
}

#[test]
fn exhaustion_counts_what_the_other_side_holds() {
    let space = both();
    let one = table(&space, 4);
    let (drivers, users) = (local(&space, &one), global(&space));
    let globals: Vec<_> = (1..=8).map(|n| take(&users, n).unwrap()).collect();
    let locals: Vec<_> = std::iter::from_fn(|| any(&drivers).ok()).collect();
    let numbers: Vec<u32> = locals.iter().map(|owned| owned.pasid().get()).collect();
    assert_eq!(numbers, (9..=15).collect::<Vec<u32>>());
    let range = range(0, 15);
    assert_eq!(refused(any(&drivers)), Error::Exhausted { range });
    assert_eq!(refused(users.alloc(range, 0)), Error::Exhausted { range });
    // One comes free on either side.
    drop(globals);
    assert_eq!(any(&drivers).unwrap().pasid(), pasid(1));
    drop(locals);
    assert_eq!(users.alloc(range, 0).unwrap().pasid(), pasid(1));
}

#[test]
fn a_space_of_one_kind_refuses_the_other_scopes() {
    let tables_only = Space::new(SpaceKind::Tables);
    let one = table(&tables_only, 20);
    let kind = SpaceKind::Tables;
    let add = tables_only.add_set(SetConfig::new(Scope::Global));
    assert_eq!(add.err(), Some(Error::WrongKind { kind }));
    assert_eq!(
        tables_only.reserve(pasid(9)),
        Err(Error::WrongKind { kind })
    );
    assert_eq!(
        tables_only.unreserve(pasid(9)),
        Err(Error::WrongKind { kind })
    );
    assert!(take(&local(&tables_only, &one), 9).is_ok());

    let global_only = Space::new(SpaceKind::Global);
    let one = table(&global_only, 20);
    let kind = SpaceKind::Global;
    for scope in [Scope::Local(&one), Scope::Group(std::slice::from_ref(&one))] {
        let add = global_only.add_set(SetConfig::new(scope));
        assert_eq!(add.err(), Some(Error::WrongKind { kind }));
    }
    assert!(global_only.sets().unwrap().is_empty());
}

#[test]
fn a_scope_that_makes_no_sense_is_refused() {
    let (space, other) = (both(), both());
    let one = table(&space, 20);
    let foreign = table(&other, 20);
    let add = |scope: Scope<'_>| space.add_set(SetConfig::new(scope)).err();
    assert_eq!(add(Scope::Group(&[])), Some(Error::InvalidScope));
    let twice = [one.clone(), one.clone()];
    assert_eq!(add(Scope::Group(&twice)), Some(Error::InvalidScope));
    let mixed = [one.clone(), foreign.clone()];
    assert_eq!(add(Scope::Group(&mixed)), Some(Error::InvalidScope));
    assert_eq!(add(Scope::Local(&foreign)), Some(Error::InvalidScope));
    assert!(space.sets().unwrap().is_empty());
    // One table is a group as well.
    let alone = set(&space, Scope::Group(&twice[..1]));
    let owned = take(&alone, FIVE).unwrap();
    assert_eq!(take(&local(&space, &one), FIVE).err(), exhausted(FIVE));
    drop(owned);
}
