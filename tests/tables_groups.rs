// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a page fault is told of a group's PASIDs, whose state is not the table's.

mod common;

use common::allocator::{Instrumented, calls, with_memory_for};
use common::sets::{both, exhausted, global, group, local, table, take};
use common::{pasid, range};
use pasid::{Attach, Error, IoasidSet, Pool, Reuse, Scope, SetConfig, Space, SpaceKind, Table};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Instrumented = Instrumented;

const FIVE: u32 = 5;

fn not_attached(number: u32) -> Result<u64, Error> {
    Err(Error::NotAttached(pasid(number)))
}

fn being_freed(number: u32) -> Result<u64, Error> {
    Err(Error::BeingFreed(pasid(number)))
}

fn not_found(number: u32) -> Result<u64, Error> {
    Err(Error::NotFound(pasid(number)))
}

fn fault(table: &Table, number: u32) -> Result<u64, Error> {
    table.fault_get(pasid(number)).map(|fault| fault.word())
}

/// What a fault is told on each table.
fn faults<const N: usize>(tables: &[Table; N], number: u32) -> [Result<u64, Error>; N] {
    tables.each_ref().map(|table| fault(table, number))
}

/// A space of either kind that has groups, and that many tables.
fn each<const N: usize>(check: impl Fn(&Space, &[Table; N])) {
    for kind in [SpaceKind::Tables, SpaceKind::Both] {
        for preload in [false, true] {
            let space = Space::new(kind);
            let tables: [Table; N] = std::array::from_fn(|_| table(&space, 16));
            // A table without memory for attachments knows as much.
            if preload {
                let memory = |table: &Table| table.preload(range(0, 255)).map(drop);
                tables.iter().for_each(|table| memory(table).unwrap());
            }
            check(&space, &tables);
        }
    }
}

#[test]
fn a_group_s_pasid_is_told_on_each_of_its_tables_from_its_beginning_to_its_end() {
    each(|space, tables: &[Table; 3]| {
        tables[0].preload(range(0, 255)).unwrap();
        let grouped = group(space, &tables[..2]);
        assert_eq!(faults(tables, FIVE), [not_found(FIVE); 3]);
        let owned = take(&grouped, FIVE).unwrap();
        let others = not_found(FIVE);
        let held = not_attached(FIVE);
        assert_eq!(faults(tables, FIVE), [held, held, others]);
        let attachment = (&tables[0]).attach(&owned, 1).unwrap().commit().unwrap();
        assert_eq!(faults(tables, FIVE), [Ok(1), held, others]);
        let open = (&tables[0]).fault_get(pasid(FIVE)).unwrap();
        let of = owned.handle();
        drop(owned);
        // It is being freed wherever it is held, attached there or not.
        let freeing = being_freed(FIVE);
        assert_eq!(faults(tables, FIVE), [freeing, freeing, others]);
        assert_eq!(grouped.get(of).err(), freeing.err());
        assert_eq!(attachment.replace(2), freeing);
        drop(attachment);
        assert_eq!(take(&grouped, FIVE).err(), exhausted(FIVE));
        assert_eq!(faults(tables, FIVE), [freeing, freeing, others]);
        drop(open);
        assert_eq!(faults(tables, FIVE), [others; 3]);
        let again = take(&grouped, FIVE).unwrap();
        assert_eq!(faults(tables, FIVE), [held, held, others]);
        grouped.revoke(again.handle()).unwrap();
        assert_eq!(faults(tables, FIVE), [freeing, freeing, others]);
        drop(again);
        assert_eq!(faults(tables, FIVE), [others; 3]);
    });
}

#[test]
fn the_pasids_of_a_closed_group_are_being_freed() {
    each(|space, tables: &[Table; 2]| {
        let grouped = group(space, tables);
        let owned = take(&grouped, FIVE).unwrap();
        let held = owned.get().unwrap();
        for round in 0..2 {
            grouped.close();
            assert_eq!(faults(tables, FIVE), [being_freed(FIVE); 2], "{round}");
            assert_eq!(faults(tables, 6), [not_found(6); 2]);
            // A control call does not forget what is held.
            assert!(space.sets().unwrap().is_empty());
        }
        drop(owned);
        assert_eq!(faults(tables, FIVE), [being_freed(FIVE); 2]);
        drop(held);
        assert_eq!(faults(tables, FIVE), [not_found(FIVE); 2]);
    });
}

#[test]
fn a_group_s_pasid_that_waits_for_a_flush_is_not_found() {
    each(|space, tables: &[Table; 2]| {
        let config = SetConfig::new(Scope::Group(tables)).reuse(Reuse::AfterFlush);
        let grouped = space.add_set(config).unwrap();
        let owned = take(&grouped, FIVE).unwrap();
        let held = owned.get().unwrap();
        drop(owned);
        assert_eq!(faults(tables, FIVE), [being_freed(FIVE); 2]);
        drop(held);
        assert!(take(&grouped, FIVE).is_err());
        assert_eq!(faults(tables, FIVE), [not_found(FIVE); 2]);
        grouped.close();
        assert_eq!(faults(tables, FIVE), [not_found(FIVE); 2]);
    });
}

#[test]
fn a_group_of_a_closed_table_is_still_known_on_the_others() {
    each(|space, tables: &[Table; 2]| {
        let grouped = group(space, tables);
        let owned = take(&grouped, FIVE).unwrap();
        tables[0].close();
        assert_eq!(
            faults(tables, FIVE),
            [Err(Error::Closing), not_attached(FIVE)]
        );
        let held = owned.get().unwrap();
        drop(owned);
        assert_eq!(fault(&tables[1], FIVE), being_freed(FIVE));
        drop(held);
        assert_eq!(fault(&tables[1], FIVE), not_found(FIVE));
    });
}

/// What is allocated from one set is told by that set, whichever others the table has.
#[test]
fn each_of_many_sets_of_a_table_tells_of_its_own() {
    each(|space, tables: &[Table; 3]| {
        let scopes: [&[Table]; 4] = [&tables[..2], &tables[..], &tables[1..], &tables[..2]];
        let groups = scopes.map(|scope| group(space, scope));
        let mut sets: Vec<IoasidSet> = groups.into();
        sets.push(local(space, &tables[1]));
        if matches!(space.kind(), SpaceKind::Both) {
            sets.push(global(space));
        }
        let owned: Vec<_> = (10..)
            .zip(&sets)
            .map(|(number, set)| take(set, number))
            .collect();
        for (number, owned) in (10..).zip(owned) {
            assert_eq!(fault(&tables[1], number), not_attached(number));
            let held = owned.as_ref().unwrap().get().unwrap();
            drop(owned);
            assert_eq!(fault(&tables[1], number), being_freed(number));
            drop(held);
            assert_eq!(fault(&tables[1], number), not_found(number));
        }
        for number in 10..10 + sets.len() as u32 {
            assert_eq!(fault(&tables[1], number), not_found(number));
        }
    });
}

#[test]
fn a_narrow_group_says_nothing_of_what_others_have_beyond_its_width() {
    each(|space, tables: &[Table; 2]| {
        let narrow = [tables[0].clone(), table(space, 3)];
        let (wide, narrow) = (group(space, tables), group(space, &narrow));
        let held = take(&narrow, FIVE).unwrap();
        let owned = take(&wide, 100).unwrap();
        assert_eq!(faults(tables, 100), [not_attached(100); 2]);
        assert_eq!(faults(tables, FIVE), [not_attached(FIVE), not_found(FIVE)]);
        let kept = owned.get().unwrap();
        drop(owned);
        assert_eq!(faults(tables, 100), [being_freed(100); 2]);
        drop((kept, held));
    });
}

#[test]
fn the_groups_that_stay_are_known_while_others_go() {
    each(|space, tables: &[Table; 2]| {
        // The first, one in the middle and the last, in every order.
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut sets: Vec<Option<Arc<IoasidSet>>> = (0..3)
                .map(|_| Some(Arc::new(group(space, tables))))
                .collect();
            let taken = |(number, set): (u32, &Option<Arc<IoasidSet>>)| {
                let set = set.clone().unwrap();
                Some(set.alloc(range(number, number), 0).unwrap())
            };
            let mut owned: Vec<_> = (20..).zip(&sets).map(taken).collect();
            for gone in order {
                let set = sets[gone].take().unwrap();
                set.close();
                drop((set, owned[gone].take()));
                let left = sets.iter().flatten().count();
                assert_eq!(space.sets().unwrap().len(), left);
                for (number, owned) in (20..).zip(&owned) {
                    let told = match owned {
                        Some(_) => not_attached(number),
                        None => not_found(number),
                    };
                    assert_eq!(faults(tables, number), [told; 2]);
                }
            }
        }
    });
}

#[test]
fn groups_come_and_go_beside_one_that_stays_and_their_memory_with_them() {
    each(|space, tables: &[Table; 2]| {
        let stays = group(space, tables);
        let owned = take(&stays, FIVE).unwrap();
        let round = |number: u64| {
            let config = SetConfig::new(Scope::Group(tables)).token(number);
            let mine = space.add_set(config).unwrap();
            let held = take(&mine, 6).unwrap();
            assert_eq!(faults(tables, 6), [not_attached(6); 2]);
            mine.close();
            assert_eq!(faults(tables, 6), [being_freed(6); 2]);
            drop(held);
            assert_eq!(faults(tables, 6), [not_found(6); 2]);
        };
        (0..10).for_each(round);
        let _ = space.sets();
        let (before, said) = (calls().live_bytes, space.memory_bytes());
        (10..500).for_each(round);
        assert_eq!(space.sets().unwrap().len(), 1);
        assert_eq!((calls().live_bytes, space.memory_bytes()), (before, said));
        assert_eq!(faults(tables, FIVE), [not_attached(FIVE); 2]);
        drop(owned);
        assert_eq!(faults(tables, FIVE), [not_found(FIVE); 2]);
    });
}

#[test]
fn a_group_for_which_memory_is_short_is_on_all_of_its_tables_or_on_none() {
    each(|space, tables: &[Table; 3]| {
        let before = calls().live_bytes;
        let add = || space.add_set(SetConfig::new(Scope::Group(tables)));
        let mut failures = 0;
        let grouped = loop {
            match with_memory_for(failures, add) {
                Ok(grouped) => break grouped,
                Err(why) => assert_eq!(why, Error::OutOfMemory),
            }
            failures += 1;
        };
        // The set, its slots, its lists, and an entry in the list of each table.
        assert!(failures >= 6, "{failures}");
        let owned = take(&grouped, FIVE).unwrap();
        assert_eq!(faults(tables, FIVE), [not_attached(FIVE); 3]);
        drop(owned);
        grouped.close();
        drop(grouped);
        assert!(space.sets().unwrap().is_empty());
        // Trees and lists keep their room, and nothing of the failures is left.
        let room = calls().live_bytes - before;
        for memory in 0..failures {
            assert!(with_memory_for(memory, add).is_err());
        }
        assert_eq!(calls().live_bytes - before, room);
    });
}

#[test]
fn memory_bytes_counts_a_group_s_places_in_the_lists_of_its_tables() {
    let space = both();
    let tables: Vec<Table> = (0..50).map(|_| table(&space, 20)).collect();
    drop(global(&space));
    let (before, said) = (calls().live_bytes, space.memory_bytes());
    let grouped = group(&space, &tables);
    let grown = calls().live_bytes - before;
    let said = (space.memory_bytes() - said) as i64;
    // The group's own list of its tables, and counts of handles, beside.
    assert!(grown > 50 * 24, "{grown}");
    assert!((grown - said).abs() < 50 * 8 + 200, "{grown} {said}");
    drop(grouped);
}

/// A table and its groups may outlive their space.
#[test]
fn a_group_whose_space_is_gone_is_known_until_it_goes_itself() {
    let begin = calls().live_bytes;
    let space = both();
    let tables = [table(&space, 16), table(&space, 16)];
    tables[0].preload(range(0, 255)).unwrap();
    let grouped = Arc::new(group(&space, &tables));
    let other = group(&space, &tables);
    let owned = grouped.clone().alloc(range(FIVE, FIVE), 0).unwrap();
    let attaching = (&tables[0]).attach(&owned, 1).unwrap();
    drop((space, grouped));
    assert_eq!(faults(&tables, FIVE), [not_attached(FIVE); 2]);
    let attachment = attaching.commit().unwrap();
    assert_eq!(faults(&tables, FIVE), [Ok(1), not_attached(FIVE)]);
    let with_both = calls().live_bytes;
    drop(owned);
    assert_eq!(faults(&tables, FIVE), [being_freed(FIVE); 2]);
    // It goes with its last attachment, or with what the table does next: a data call
    // frees nothing.
    let before = calls().freed;
    attachment.detach();
    assert_eq!(calls().freed, before);
    assert_eq!(faults(&tables, FIVE), [not_found(FIVE); 2]);
    tables[0].close();
    assert!(calls().live_bytes < with_both);
    let with_other = calls().live_bytes;
    let owned = take(&other, 6).err();
    assert_eq!(owned, Some(Error::Closing));
    drop(other);
    assert!(calls().live_bytes < with_other);
    drop(tables);
    assert_eq!(calls().live_bytes, begin);
}
