// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reservations are data: of the space, of a table, and of a set, when it is built and at
//! run time.

mod common;

use common::sets::{
    KINDS, any, both, exhausted, global, group, listed, local, table, take, take_at,
};
use common::{pasid, range, width};
use pasid::{
    Error, IoasidSet, Pasid, PasidRange, Pool, Scope, SetConfig, Space, SpaceKind, Table,
    TableConfig,
};

const SEVEN: &[PasidRange] = &[PasidRange::single(Pasid::from_u16(7))];

fn table_with(space: &Space, reserved: &[PasidRange]) -> Result<Table, Error> {
    space.add_table(TableConfig::new(width(20)).reserved(reserved))
}

/// The sets that a space of that kind can have over `table`.
fn every_set(space: &Space, table: &Table) -> Vec<IoasidSet> {
    let mut sets = Vec::new();
    if space.kind() != SpaceKind::Global {
        sets.push(local(space, table));
        sets.push(group(space, std::slice::from_ref(table)));
    }
    if space.kind() != SpaceKind::Tables {
        sets.push(global(space));
    }
    sets
}

#[test]
fn pasid_0_is_reserved_by_default_and_usable_where_it_is_not() {
    for kind in KINDS {
        let space = Space::new(kind);
        let one = table(&space, 20);
        for set in every_set(&space, &one) {
            assert_eq!(any(&set).unwrap().pasid(), pasid(1));
            assert_eq!(take(&set, 0).err(), exhausted(0));
            assert_eq!(take_at(&set, 0).err(), Some(Error::Reserved(pasid(0))));
        }
        let space = Space::with_reserved(kind, &[]);
        let one = table(&space, 20);
        for set in every_set(&space, &one) {
            assert_eq!(any(&set).unwrap().pasid(), pasid(0));
            assert!(take_at(&set, 0).is_ok());
        }
    }
}

#[test]
fn what_the_space_was_built_with_is_reserved_in_every_set_for_good() {
    for kind in KINDS {
        let space = Space::with_reserved(kind, SEVEN);
        let one = table(&space, 20);
        for set in every_set(&space, &one) {
            assert_eq!(take(&set, 7).err(), exhausted(7));
            assert_eq!(take_at(&set, 7).err(), Some(Error::Reserved(pasid(7))));
            assert_eq!(set.find(pasid(7)), Err(Error::Reserved(pasid(7))));
            let get = set.get_at(pasid(7));
            assert_eq!(get.err(), Some(Error::Reserved(pasid(7))));
        }
        assert_eq!(one.reserve(pasid(7)), Err(Error::Reserved(pasid(7))));
        assert_eq!(one.unreserve(pasid(7)), Err(Error::NotFound(pasid(7))));
        if kind != SpaceKind::Tables {
            assert_eq!(space.reserve(pasid(7)), Err(Error::Reserved(pasid(7))));
            assert_eq!(space.unreserve(pasid(7)), Err(Error::NotFound(pasid(7))));
        }
        for set in every_set(&space, &one) {
            assert_eq!(take(&set, 7).err(), exhausted(7));
        }
    }
}

#[test]
fn a_reservation_of_the_space_at_run_time_holds_on_every_table() {
    for kind in [SpaceKind::Global, SpaceKind::Both] {
        let space = Space::new(kind);
        let early = table(&space, 20);
        space.reserve(pasid(9)).unwrap();
        assert_eq!(space.reserve(pasid(9)), Err(Error::Reserved(pasid(9))));
        let late = table(&space, 20);
        for one in [&early, &late] {
            for set in every_set(&space, one) {
                assert_eq!(take(&set, 9).err(), exhausted(9));
                assert_eq!(listed(&set), []);
            }
        }
        space.unreserve(pasid(9)).unwrap();
        assert_eq!(space.unreserve(pasid(9)), Err(Error::NotFound(pasid(9))));
        for one in [&early, &late] {
            for set in every_set(&space, one) {
                assert!(take_at(&set, 9).is_ok());
            }
        }
    }
}

#[test]
fn what_is_reserved_at_run_time_is_named_as_reserved() {
    let space = both();
    let one = table(&space, 20);
    space.reserve(pasid(9)).unwrap();
    one.reserve(pasid(10)).unwrap();
    for set in [
        local(&space, &one),
        group(&space, std::slice::from_ref(&one)),
    ] {
        for number in [9, 10] {
            assert_eq!(
                take_at(&set, number).err(),
                Some(Error::Reserved(pasid(number)))
            );
            assert_eq!(set.find(pasid(number)), Err(Error::Reserved(pasid(number))));
        }
    }
    assert_eq!(
        take_at(&global(&space), 9).err(),
        Some(Error::Reserved(pasid(9)))
    );
}

#[test]
fn a_reservation_of_the_space_that_is_held_is_refused_and_names_it() {
    for kind in [SpaceKind::Global, SpaceKind::Both] {
        let space = Space::new(kind);
        let one = table(&space, 20);
        for set in every_set(&space, &one) {
            let owned = take(&set, 9).unwrap();
            let before = listed(&set);
            let why = space.reserve(pasid(9)).unwrap_err();
            let held = [Error::HeldGlobally(pasid(9)), Error::HeldLocally(pasid(9))];
            assert!(held.contains(&why), "{why:?}");
            assert_eq!(listed(&set), before);
            let held = owned.get().unwrap();
            drop(owned);
            // Being freed is held as well.
            assert!(space.reserve(pasid(9)).is_err());
            drop(held);
            space.reserve(pasid(9)).unwrap();
            space.unreserve(pasid(9)).unwrap();
        }
    }
}

#[test]
fn a_global_pasid_that_the_space_is_to_reserve_is_named_as_held_globally() {
    for kind in [SpaceKind::Global, SpaceKind::Both] {
        let space = Space::new(kind);
        let users = global(&space);
        let _owned = take(&users, 9).unwrap();
        assert_eq!(space.reserve(pasid(9)), Err(Error::HeldGlobally(pasid(9))));
    }
    let space = both();
    let one = table(&space, 20);
    let drivers = local(&space, &one);
    let _owned = take(&drivers, 9).unwrap();
    assert_eq!(space.reserve(pasid(9)), Err(Error::HeldLocally(pasid(9))));
}

#[test]
fn a_table_s_own_values_are_reserved_there_and_for_global_sets() {
    for kind in KINDS {
        let space = Space::new(kind);
        let special = table_with(&space, SEVEN).unwrap();
        let plain = table(&space, 20);
        for set in every_set(&space, &special) {
            assert_eq!(take(&set, 7).err(), exhausted(7));
            assert!(take(&set, 8).is_ok());
        }
        assert_eq!(special.reserve(pasid(7)), Err(Error::Reserved(pasid(7))));
        assert_eq!(special.unreserve(pasid(7)), Err(Error::NotFound(pasid(7))));
        if kind != SpaceKind::Global {
            let drivers = local(&space, &plain);
            assert!(take_at(&drivers, 7).is_ok());
            let grouped = group(&space, &[plain.clone(), special.clone()]);
            assert_eq!(take(&grouped, 7).err(), exhausted(7));
            assert_eq!(take_at(&grouped, 7).err(), Some(Error::Reserved(pasid(7))));
        }
    }
}

#[test]
fn a_table_whose_reserved_value_is_held_globally_is_refused_and_changes_nothing() {
    for kind in [SpaceKind::Global, SpaceKind::Both] {
        let space = Space::new(kind);
        let users = global(&space);
        let owned = take(&users, 7).unwrap();
        // Some that are free come before it, and one twice.
        let reserved = [range(3, 5), range(4, 6), range(7, 7), range(9, 9)];
        for _ in 0..100 {
            let refused = table_with(&space, &reserved);
            assert_eq!(refused.err(), Some(Error::HeldGlobally(pasid(7))));
        }
        assert!(space.tables().unwrap().is_empty());
        // None of the free ones was kept back.
        for number in [3, 4, 5, 6, 9] {
            assert!(take_at(&users, number).is_ok(), "{number}");
        }
        let held = owned.get().unwrap();
        drop(owned);
        let refused = table_with(&space, &reserved);
        assert_eq!(refused.err(), Some(Error::HeldGlobally(pasid(7))));
        drop(held);
        let one = table_with(&space, &reserved).unwrap();
        for number in [3, 4, 5, 6, 7, 9] {
            assert_eq!(take(&users, number).err(), exhausted(number));
        }
        one.close();
        drop(one);
        let _ = space.tables();
        for number in [3, 4, 5, 6, 7, 9] {
            assert!(take(&users, number).is_ok(), "{number}");
        }
    }
}

#[test]
fn tables_share_reserved_values_until_the_last_of_them_goes() {
    for kind in [SpaceKind::Global, SpaceKind::Both] {
        let space = Space::new(kind);
        let users = global(&space);
        let tables: Vec<Table> = (0..3).map(|_| table_with(&space, SEVEN).unwrap()).collect();
        tables[0].reserve(pasid(8)).unwrap();
        tables[1].reserve(pasid(8)).unwrap();
        for one in tables {
            assert_eq!(take(&users, 7).err(), exhausted(7));
            one.close();
            let kept = one.clone();
            drop(one);
            // A handle is still there.
            let _ = space.tables();
            assert_eq!(take(&users, 7).err(), exhausted(7));
            drop(kept);
            let _ = space.tables();
        }
        assert!(take_at(&users, 7).is_ok());
        assert!(take_at(&users, 8).is_ok());
    }
}

#[test]
fn a_table_s_reservation_at_run_time_comes_and_goes() {
    for kind in KINDS {
        let space = Space::new(kind);
        let (one, other) = (table(&space, 20), table(&space, 20));
        assert_eq!(one.unreserve(pasid(9)), Err(Error::NotFound(pasid(9))));
        for _ in 0..3 {
            one.reserve(pasid(9)).unwrap();
            other.reserve(pasid(9)).unwrap();
            assert_eq!(one.reserve(pasid(9)), Err(Error::Reserved(pasid(9))));
            for set in every_set(&space, &one) {
                assert_eq!(take(&set, 9).err(), exhausted(9));
            }
            one.unreserve(pasid(9)).unwrap();
            assert_eq!(one.unreserve(pasid(9)), Err(Error::NotFound(pasid(9))));
            if kind != SpaceKind::Tables {
                // The other table still has it.
                assert_eq!(take(&global(&space), 9).err(), exhausted(9));
            }
            other.unreserve(pasid(9)).unwrap();
            for set in every_set(&space, &one) {
                assert!(take_at(&set, 9).is_ok());
            }
        }
    }
}

#[test]
fn a_table_s_reservation_of_what_is_held_is_refused_and_names_it() {
    for kind in KINDS {
        let space = Space::new(kind);
        let one = table(&space, 20);
        for set in every_set(&space, &one) {
            let owned = take(&set, 9).unwrap();
            let held = owned.get().unwrap();
            let mut owned = Some(owned);
            for _ in 0..2 {
                let why = one.reserve(pasid(9)).unwrap_err();
                let globally = Error::HeldGlobally(pasid(9));
                assert!([Error::InUse(pasid(9)), globally].contains(&why), "{why:?}");
                owned = None;
            }
            drop((owned, held));
            one.reserve(pasid(9)).unwrap();
            one.unreserve(pasid(9)).unwrap();
        }
        let narrow = table(&space, 8);
        let (at, bits) = (pasid(256), width(8));
        let misfit = Error::DoesNotFit {
            pasid: at,
            width: bits,
        };
        assert_eq!(narrow.reserve(at), Err(misfit));
    }
}

#[test]
fn what_a_table_reserves_is_not_the_space_s_to_take_away() {
    for kind in [SpaceKind::Global, SpaceKind::Both] {
        let space = Space::new(kind);
        let users = global(&space);
        let special = table_with(&space, SEVEN).unwrap();
        special.reserve(pasid(8)).unwrap();
        for number in [7, 8] {
            let unreserved = space.unreserve(pasid(number));
            let refusals = [Error::NotFound, Error::HeldLocally].map(|why| Err(why(pasid(number))));
            assert!(refusals.contains(&unreserved), "{kind:?} {unreserved:?}");
            assert_eq!(take(&users, number).err(), exhausted(number));
        }
    }
}

#[test]
fn the_space_and_its_tables_reserve_the_same_value() {
    for kind in [SpaceKind::Global, SpaceKind::Both] {
        let space = Space::new(kind);
        let users = global(&space);
        space.reserve(pasid(7)).unwrap();
        // Nobody holds it, so there is nothing to collide with.
        let special = table_with(&space, SEVEN).unwrap();
        assert_eq!(take(&users, 7).err(), exhausted(7));
        assert!(special.unreserve(pasid(7)).is_err());
        // As long as the table is there no global set may have it.
        let _ = space.unreserve(pasid(7));
        assert_eq!(take(&users, 7).err(), exhausted(7));
        special.close();
        drop(special);
        let _ = space.tables();
        let _ = space.unreserve(pasid(7));
        assert!(take_at(&users, 7).is_ok(), "{kind:?}");
    }
}

#[test]
fn a_set_s_own_reserved_values_are_its_own() {
    for kind in KINDS {
        let space = Space::new(kind);
        let one = table(&space, 20);
        for usual in every_set(&space, &one) {
            let scope = match kind {
                SpaceKind::Global => Scope::Global,
                _ => Scope::Local(&one),
            };
            let reserved = [range(3, 4), range(2, 3), range(8, 900)];
            let config = SetConfig::new(scope)
                .range(range(1, 902))
                .reserved(&reserved);
            let special = space.add_set(config).unwrap();
            assert_eq!(special.range(), range(1, 902));
            let owned: Vec<_> = std::iter::from_fn(|| any(&special).ok()).collect();
            let numbers: Vec<u32> = owned.iter().map(|owned| owned.pasid().get()).collect();
            assert_eq!(numbers, [1, 5, 6, 7, 901, 902]);
            let range = range(1, 902);
            assert_eq!(any(&special).err(), Some(Error::Exhausted { range }));
            assert!(special.alloc(common::range(8, 900), 0).is_err());
            assert!(special.alloc_at(pasid(3), 0).is_err());
            drop(owned);
            // Other sets have them.
            assert!(take_at(&usual, 3).is_ok());
        }
        let three = [range(3, 3)];
        let config = SetConfig::new(Scope::Local(&one)).range(range(3, 4));
        let config = config.reserved(&three);
        if kind != SpaceKind::Global {
            assert_eq!(space.add_set(config).unwrap().range(), range(4, 4));
        }
    }
}

#[test]
fn a_set_that_reserves_all_of_its_range_is_refused() {
    let space = both();
    let reserved = [range(0, 10), range(11, 20)];
    let config = SetConfig::new(Scope::Global)
        .range(range(5, 15))
        .reserved(&reserved);
    let refused = space.add_set(config);
    assert_eq!(
        refused.err(),
        Some(Error::OutsideSet {
            range: range(5, 15)
        })
    );
    assert!(space.sets().unwrap().is_empty());
}
