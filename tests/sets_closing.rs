// SPDX-License-Identifier: MIT OR Apache-2.0
//! Closing sets and tables at any moment, and what is left of them.

mod common;

use common::allocator::{Instrumented, calls, counted};
use common::sets::{
    KINDS, any, both, exhausted, free, global, group, live, local, put, set, table, take, take_at,
};
use common::{handle, pasid, range, width};
use pasid::{
    Attach, Error, IoasidSet, Policy, Pool, Scope, SetConfig, Space, SpaceKind, Table, TableConfig,
};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Instrumented = Instrumented;

/// A scope for which a space of that kind has sets.
fn scope(kind: SpaceKind, table: &Table) -> Scope<'_> {
    match kind {
        SpaceKind::Global => Scope::Global,
        _ => Scope::Local(table),
    }
}

#[test]
fn a_closed_set_takes_no_new_calls_and_revokes_its_pasids() {
    for kind in KINDS {
        let space = Space::new(kind);
        let one = table(&space, 20);
        let mine = set(&space, scope(kind, &one));
        let beside = set(&space, scope(kind, &one));
        let owned = take(&mine, 5).unwrap();
        let raw = handle(take(&mine, 6).unwrap().into_raw());
        let reference = mine.get(raw).unwrap();
        let gone = take(&mine, 7).unwrap().handle();
        let other = take(&beside, 8).unwrap();
        let of = owned.handle();
        assert!(!mine.is_closing());
        for _ in 0..2 {
            mine.close();
            assert!(mine.is_closing() && !beside.is_closing());
            let closing = Some(Error::Closing);
            assert_eq!(any(&mine).err(), closing);
            assert_eq!(mine.alloc_in_place(mine.range(), 0).err(), closing);
            assert_eq!(mine.alloc_near(3, mine.range(), 0).err(), closing);
            assert_eq!(mine.alloc_in_place_near(3, mine.range(), 0).err(), closing);
            assert_eq!(mine.alloc_at(pasid(9), 0).err(), closing);
            assert!(mine.set_quota(3).is_err());
            for (number, of) in [(5, of), (6, raw)] {
                let freeing = Some(Error::BeingFreed(pasid(number)));
                assert_eq!(mine.find(pasid(number)).err(), freeing);
                assert_eq!(mine.get_at(pasid(number)).err(), freeing);
                assert_eq!(mine.get(of).err(), freeing);
            }
            assert_eq!(mine.get(gone).err(), Some(Error::Stale(gone)));
            assert_eq!(live(&mine), [] as [u32; 0]);
            assert_eq!((mine.statistics().live, mine.statistics().freeing), (0, 2));
            assert_eq!(beside.find(other.pasid()).unwrap().handle, other.handle());
        }
        // The numbers are held until the last reference.
        for number in [5, 6] {
            assert_eq!(take(&beside, number).err(), exhausted(number));
        }
        drop(owned);
        assert!(take(&beside, 5).is_ok());
        assert_eq!(free(&mine, raw), Ok(()));
        assert_eq!(take(&beside, 6).err(), exhausted(6));
        drop(reference);
        assert!(take(&beside, 6).is_ok());
        assert_eq!(mine.statistics().freeing, 0);
        assert_eq!(put(&mine, raw), Err(Error::Stale(raw)));
    }
}

#[test]
fn a_closed_set_is_forgotten_with_its_last_holder() {
    for kind in KINDS {
        let space = Space::with_capacity(kind, 100);
        let one = table(&space, 20);
        let config = SetConfig::new(scope(kind, &one)).quota(100).token(7);
        let mine = space.add_set(config.clone()).unwrap();
        assert_eq!(space.capacity_left(), Some(0));
        let owned = Arc::new(mine.clone()).alloc(range(5, 5), 0).unwrap();
        assert!(space.find_set(7).is_some_and(|found| found.is_same(&mine)));
        let refused = space.add_set(config.clone().quota(0));
        assert_eq!(refused.err(), Some(Error::TokenInUse { token: 7 }));
        mine.close();
        // It is not to be found, and its token is free.
        assert!(space.find_set(7).is_none());
        assert!(space.sets().unwrap().is_empty());
        let second = space.add_set(config.clone().quota(0)).unwrap();
        assert!(
            space
                .find_set(7)
                .is_some_and(|found| found.is_same(&second))
        );
        assert_eq!(space.capacity_left(), Some(0));
        drop(mine);
        assert_eq!(space.capacity_left(), Some(0), "a PASID is still held");
        drop(owned);
        assert_eq!(space.capacity_left(), Some(100));
    }
}

#[test]
fn a_handle_of_an_open_set_can_be_had_again() {
    let space = both();
    let one = table(&space, 20);
    drop(local(&space, &one));
    drop(
        space
            .add_set(SetConfig::new(Scope::Global).token(3))
            .unwrap(),
    );
    let sets = space.sets().unwrap();
    assert_eq!(sets.len(), 2);
    assert_eq!((sets[0].token(), sets[1].token()), (None, Some(3)));
    assert!(space.find_set(3).unwrap().is_same(&sets[1]));
    assert!(space.find_set(4).is_none());
    assert!(!sets[0].is_same(&sets[1]));
}

#[test]
fn a_thousand_and_23_sets_are_open_at_once_and_one_more_is_refused() {
    for kind in KINDS {
        let space = Space::new(kind);
        let one = table(&space, 20);
        let add = || space.add_set(SetConfig::new(scope(kind, &one)));
        let sets: Vec<IoasidSet> = (0..1_023).map(|_| add().unwrap()).collect();
        for _ in 0..3 {
            assert_eq!(add().err(), Some(Error::TooManySets));
        }
        assert_eq!(space.sets().unwrap().len(), 1_023);
        // They are told apart, the first and the last as well.
        let owned: Vec<_> = sets.iter().map(|set| any(set).unwrap()).collect();
        for (index, set) in sets.iter().enumerate() {
            assert_eq!(live(set), [index as u32 + 1]);
        }
        // Another table's are counted by themselves.
        if kind != SpaceKind::Global {
            let other = table(&space, 20);
            assert!(space.add_set(SetConfig::new(Scope::Local(&other))).is_ok());
        }
        // One that is closed and held has its index still.
        sets[500].close();
        assert_eq!(add().err(), Some(Error::TooManySets));
        drop(owned);
        assert_eq!(add().err(), Some(Error::TooManySets));
        drop(sets);
        let again = add().unwrap();
        assert_eq!(live(&again), [] as [u32; 0]);
        assert_eq!(add().err(), Some(Error::TooManySets));
    }
}

#[test]
fn five_thousand_sets_come_and_go_and_their_memory_with_them() {
    for kind in KINDS {
        let space = Space::new(kind);
        let one = table(&space, 20);
        let round = |number: u64| {
            let config = SetConfig::new(scope(kind, &one)).token(number).quota(9);
            let mine = space.add_set(config).unwrap();
            let owned = take(&mine, 5).unwrap();
            assert_eq!(live(&mine), [5]);
            if number % 2 == 0 {
                drop(owned);
                mine.close();
            } else {
                mine.close();
                drop(owned);
            }
        };
        (0..10).for_each(round);
        let _ = space.sets();
        let before = calls().live_bytes;
        (10..5_010).for_each(round);
        assert!(space.sets().unwrap().is_empty());
        assert_eq!(calls().live_bytes, before);
    }
}

#[test]
fn tables_come_and_go_and_their_memory_with_them() {
    for kind in KINDS {
        let space = Space::new(kind);
        let users = (kind != SpaceKind::Tables).then(|| global(&space));
        let round = |_| {
            let reserved = [range(300, 310), range(70_000, 70_000)];
            let config = TableConfig::new(width(20)).reserved(&reserved);
            let one = space.add_table(config).unwrap();
            let sets = match kind {
                SpaceKind::Global => vec![],
                _ => vec![
                    local(&space, &one),
                    group(&space, std::slice::from_ref(&one)),
                ],
            };
            let owned: Vec<_> = sets.iter().map(|set| any(set).unwrap()).collect();
            one.preload(range(0, 5)).unwrap();
            for owned in &owned {
                let attached = (&one).attach(owned, 0).unwrap().commit().unwrap();
                drop((&one).fault_get(owned.pasid()).unwrap());
                attached.detach();
            }
            drop(owned);
            one.reserve(pasid(9)).unwrap();
            one.close();
            // A group of the table is not its own, and closed by itself.
            sets.iter().for_each(IoasidSet::close);
        };
        (0..5).for_each(round);
        assert!(space.tables().unwrap().is_empty() && space.sets().unwrap().len() < 2);
        let before = calls().live_bytes;
        (0..200).for_each(round);
        assert!(space.tables().unwrap().is_empty() && space.sets().unwrap().len() < 2);
        // Claims keep their memory, and other lists the room that they have had.
        assert_eq!(calls().live_bytes, before);
        if let Some(users) = users {
            for number in [9, 300, 310, 70_000] {
                assert!(take(&users, number).is_ok());
            }
        }
    }
}

#[test]
fn everything_is_given_back_when_everything_is_dropped() {
    let ((), asked) = counted(|| {
        for kind in KINDS {
            let space = Space::with_capacity(kind, 9_000_000);
            let tables = [table(&space, 20), table(&space, 16)];
            for policy in [
                Policy::Lowest,
                Policy::Next,
                Policy::PreserveNarrow,
                Policy::Spread,
            ] {
                let mut scopes = vec![];
                if kind != SpaceKind::Global {
                    scopes.extend([Scope::Local(&tables[0]), Scope::Group(&tables)]);
                }
                if kind != SpaceKind::Tables {
                    scopes.push(Scope::Global);
                }
                for scope in scopes {
                    let config = SetConfig::new(scope).policy(policy).quota(1_000);
                    let mine = space.add_set(config).unwrap();
                    let owned: Vec<_> = (0..600).map(|_| any(&mine).unwrap()).collect();
                    tables[0].preload(range(0, 0xf_ffff)).unwrap();
                    let attached: Vec<_> = owned
                        .iter()
                        .map(|owned| (&tables[0]).attach(owned, 0).unwrap().commit().unwrap())
                        .collect();
                    if policy != Policy::Next {
                        mine.close();
                    }
                    drop(attached);
                    let references: Vec<_> = owned.iter().map(|owned| owned.get()).collect();
                    drop(owned);
                    drop(references);
                }
            }
            tables[1].close();
            tables[0].reserve(pasid(0xf_0000)).unwrap();
        }
    });
    assert_eq!(asked.live_bytes, 0);
    assert_eq!(asked.allocated, asked.freed);
}

#[test]
fn an_attached_pasid_of_a_set_that_is_gone_keeps_the_set_s_memory() {
    for reach in 0..3 {
        let space = both();
        let one = table(&space, 20);
        one.preload(range(5, 5)).unwrap();
        let mine = match reach {
            0 => global(&space),
            1 => local(&space, &one),
            _ => group(&space, std::slice::from_ref(&one)),
        };
        let owned = take(&mine, 5).unwrap();
        let attached = (&one).attach(&owned, 1).unwrap().commit().unwrap();
        let fault = (&one).fault_get(pasid(5)).unwrap();
        drop(owned);
        mine.close();
        drop(mine);
        assert!(space.sets().unwrap().is_empty());
        assert_eq!(
            (&one).fault_get(pasid(5)).err(),
            Some(Error::BeingFreed(pasid(5)))
        );
        assert_eq!((attached.word(), fault.word()), (1, 1));
        attached.detach();
        let users = global(&space);
        assert_eq!(take(&users, 5).err(), exhausted(5));
        let _ = space.sets();
        drop(fault);
        assert!(take_at(&users, 5).is_ok());
    }
}

#[test]
fn a_closed_table_closes_its_own_sets_and_no_others() {
    let space = both();
    let tables = [table(&space, 20), table(&space, 20)];
    let own = [local(&space, &tables[0]), local(&space, &tables[0])];
    let beside = local(&space, &tables[1]);
    let grouped = group(&space, &tables);
    let users = global(&space);
    let mine = take(&own[0], 5).unwrap();
    let theirs = take(&beside, 5).unwrap();
    let shared = take(&grouped, 6).unwrap();
    let everyone = take(&users, 7).unwrap();
    for _ in 0..2 {
        tables[0].close();
        assert!(tables[0].is_closing() && !tables[1].is_closing());
        assert!(own.iter().all(IoasidSet::is_closing));
        assert!(!beside.is_closing() && !users.is_closing());
        assert_eq!(own[0].find(pasid(5)), Err(Error::BeingFreed(pasid(5))));
        assert_eq!(any(&own[1]).err(), Some(Error::Closing));
        for (set, owned) in [(&beside, &theirs), (&grouped, &shared), (&users, &everyone)] {
            assert_eq!(set.find(owned.pasid()).unwrap().handle, owned.handle());
        }
        // The group has nothing more to give, and the others have.
        assert_eq!(any(&grouped).err(), Some(Error::Closing));
        assert_eq!(grouped.alloc_at(pasid(9), 0).err(), Some(Error::Closing));
        assert_eq!(
            grouped.alloc_in_place(range(9, 9), 0).err(),
            Some(Error::Closing)
        );
        assert!(any(&beside).is_ok() && any(&users).is_ok());
    }
    for scope in [Scope::Local(&tables[0]), Scope::Group(&tables)] {
        let added = space.add_set(SetConfig::new(scope));
        assert_eq!(added.err(), Some(Error::Closing));
    }
    let open = space.tables().unwrap();
    assert!(open.len() == 1 && open[0].is_same(&tables[1]));
    drop(mine);
    assert_eq!(
        (&own[0]).get_at(pasid(5)).err(),
        Some(Error::NotFound(pasid(5)))
    );
}

#[test]
fn the_groups_of_a_closed_table_give_back_what_they_have_on_all() {
    let space = both();
    let tables = [table(&space, 20), table(&space, 20)];
    let grouped = group(&space, &tables);
    let beside = local(&space, &tables[1]);
    let owned = take(&grouped, 5).unwrap();
    let [gone, stays] = tables;
    gone.close();
    drop(gone);
    assert_eq!(space.tables().unwrap().len(), 1);
    assert_eq!(take(&beside, 5).err(), exhausted(5));
    drop(owned);
    assert!(take(&beside, 5).is_ok());
    assert!(take(&global(&space), 5).is_ok());
    assert!(stays.is_same(&space.tables().unwrap()[0]));
}

#[test]
fn tables_and_sets_are_listed_in_the_order_in_which_they_were_added() {
    for kind in KINDS {
        let space = Space::new(kind);
        assert!(space.tables().unwrap().is_empty() && space.sets().unwrap().is_empty());
        assert!(space.find_set(0).is_none());
        let tables: Vec<Table> = (1..6).map(|bits| table(&space, bits)).collect();
        let add = |token| {
            let config = SetConfig::new(scope(kind, &tables[4])).token(token);
            space.add_set(config).unwrap()
        };
        let sets: Vec<IoasidSet> = (0..5).map(add).collect();
        tables[1].close();
        sets[2].close();
        let bits = |table: &Table| table.width().bits();
        let open: Vec<u8> = space.tables().unwrap().iter().map(bits).collect();
        assert_eq!(open, [1, 3, 4, 5]);
        let tokens: Vec<_> = space.sets().unwrap().iter().map(IoasidSet::token).collect();
        assert_eq!(tokens, [Some(0), Some(1), Some(3), Some(4)]);
    }
}

#[test]
fn memory_bytes_says_what_the_allocator_was_asked_for() {
    for kind in KINDS {
        let space = Box::new(Space::new(kind));
        assert_eq!(space.memory_bytes(), size_of::<Space>());
        let before = calls().live_bytes;
        let tables: Vec<Table> = (0..50).map(|_| table(&space, 20)).collect();
        let sets: Vec<IoasidSet> = tables
            .iter()
            .map(|one| set(&space, scope(kind, one)))
            .collect();
        let owned: Vec<_> = sets.iter().map(|set| any(set).unwrap()).collect();
        tables[0].preload(range(0, 70_000)).unwrap();
        let grown = calls().live_bytes - before;
        let said = (space.memory_bytes() - size_of::<Space>()) as i64;
        // The lists and the counts of handles beside.
        assert!((grown - said).abs() < grown / 20 + 20_000, "{grown} {said}");
        drop(owned);
    }
}
