// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every control call under a lack of memory: each of its allocations fails once, which is
//! an error, changes nothing, leaks nothing, and does not keep the next try from working.
//!
//! Nothing here asserts while the allocator refuses: the message would need memory.

mod common;

use common::allocator::{Instrumented, calls, with_memory_for};
use common::sets::{KINDS, global, group, local, set, table, take, take_at};
use common::{pasid, range, width};
use pasid::{
    Attach, Error, Flush, Pool, RequesterId, Reuse, Scope, SetConfig, Space, SpaceKind, Table,
    TableConfig,
};

#[global_allocator]
static ALLOCATOR: Instrumented = Instrumented;

/// More allocations than any control call makes.
const ENOUGH: u64 = 100;

/// Calls with memory for none, one, two and more allocations until it succeeds, and asserts
/// that each failure is *out of memory* and leaves what `state` says as it was.
///
/// Returns what came of it, and how many allocations it took.
#[track_caller]
fn each_failure<T, S: PartialEq + std::fmt::Debug>(
    call: impl Fn() -> Result<T, Error>,
    state: impl Fn() -> S,
) -> (T, u64) {
    let before = state();
    for memory in 0..ENOUGH {
        match with_memory_for(memory, &call) {
            Ok(done) => return (done, memory),
            Err(why) => assert_eq!(why, Error::OutOfMemory, "with memory for {memory}"),
        }
        assert_eq!(state(), before, "with memory for {memory}");
    }
    panic!("it fails with any memory");
}

/// What of a space must be as it was.
fn state(space: &Space) -> (usize, usize, Option<u32>) {
    let counts = (space.tables().unwrap().len(), space.sets().unwrap().len());
    (counts.0, counts.1, space.capacity_left())
}

#[test]
fn a_space_s_first_table() {
    for kind in KINDS {
        let before = calls().live_bytes;
        let space = Space::with_capacity(kind, 100);
        let reserved = [range(3, 4), range(700, 700)];
        let config = TableConfig::new(width(20)).reserved(&reserved);
        let (one, needed) = each_failure(|| space.add_table(config), || state(&space));
        assert!(needed >= 3);
        assert_eq!(one.width(), width(20));
        drop((one, space));
        assert_eq!(calls().live_bytes, before);
    }
}

#[test]
fn a_space_s_first_set() {
    let before = calls().live_bytes;
    let space = Space::with_capacity(SpaceKind::Global, 100);
    let config = SetConfig::new(Scope::Global).quota(100).token(7);
    let (users, needed) = each_failure(|| space.add_set(config.clone()), || state_of(&space));
    assert!(needed >= 3);
    assert_eq!(space.capacity_left(), Some(0));
    assert!(take(&users, 5).is_ok());
    drop((users, space));
    assert_eq!(calls().live_bytes, before);
}

/// The same with the set's token.
fn state_of(space: &Space) -> (usize, usize, Option<u32>, bool) {
    let (tables, sets, left) = state(space);
    (tables, sets, left, space.find_set(7).is_some())
}

#[test]
fn a_table_s_reserved_values_are_not_kept_by_a_failure() {
    for kind in [SpaceKind::Global, SpaceKind::Both] {
        let space = Space::new(kind);
        let users = global(&space);
        // In several leaves and nodes, so that there is much to fail.
        let reserved = [
            range(3, 3),
            range(300, 300),
            range(20_000, 20_000),
            range(3, 4),
        ];
        let config = TableConfig::new(width(20)).reserved(&reserved);
        let all_free = || {
            for number in [3, 4, 300, 20_000] {
                assert!(take(&users, number).is_ok());
            }
        };
        let before = calls().live_bytes;
        let (one, needed) = each_failure(|| space.add_table(config), || state(&space));
        assert!(needed >= 5);
        for number in [3, 4, 300, 20_000] {
            assert!(take(&users, number).is_err());
        }
        one.close();
        drop(one);
        let _ = space.tables();
        all_free();
        // Now that the tree and the claims have their memory nothing more is kept.
        let grown = calls().live_bytes;
        assert!(grown >= before);
        for memory in 0..needed {
            let added = with_memory_for(memory, || space.add_table(config));
            let _ = added.map(|one| one.close());
            let _ = space.tables();
        }
        all_free();
        assert_eq!(calls().live_bytes, grown);
    }
}

#[test]
fn a_set_of_every_scope() {
    for kind in KINDS {
        let space = Space::with_capacity(kind, 100);
        let tables: Vec<Table> = (0..9).map(|_| table(&space, 20)).collect();
        let scopes = match kind {
            SpaceKind::Global => vec![Scope::Global],
            SpaceKind::Tables => vec![Scope::Local(&tables[0]), Scope::Group(&tables)],
            SpaceKind::Both => {
                vec![
                    Scope::Global,
                    Scope::Local(&tables[0]),
                    Scope::Group(&tables),
                ]
            }
        };
        let reserved = [range(3, 4), range(600, 700)];
        // Twice, because lists have room for a second one.
        for scope in scopes.iter().chain(&scopes) {
            let config = SetConfig::new(*scope).quota(9).token(7).reserved(&reserved);
            let before = calls().live_bytes;
            let add = || space.add_set(config.clone());
            let (mine, needed) = each_failure(add, || state_of(&space));
            assert!(needed >= 2);
            assert_eq!(space.capacity_left(), Some(91));
            assert!(take(&mine, 5).is_ok());
            mine.close();
            drop(mine);
            assert_eq!(space.capacity_left(), Some(100));
            // Lists keep their room.
            let room = calls().live_bytes - before;
            for memory in 0..needed {
                let added = with_memory_for(memory, add);
                let _ = added.map(|set| set.close());
                assert_eq!(state_of(&space).2, Some(100));
            }
            assert!(calls().live_bytes - before <= room.max(0));
            assert!(tables.iter().all(|table| !table.is_closing()));
        }
    }
}

/// Quotas and quarantines lie in the id space, and are there for the next set too.
#[test]
fn a_set_after_flush_with_a_quota() {
    for kind in KINDS {
        let space = Space::with_capacity(kind, 100);
        let tables: Vec<Table> = (0..3).map(|_| table(&space, 20)).collect();
        let all = [
            Scope::Global,
            Scope::Local(&tables[0]),
            Scope::Group(&tables),
        ];
        let scopes = match kind {
            SpaceKind::Global => &all[..1],
            SpaceKind::Tables => &all[1..],
            SpaceKind::Both => &all[..],
        };
        for scope in scopes {
            let config = SetConfig::new(*scope).quota(9).token(7);
            let config = config.reuse(Reuse::AfterFlush);
            let add = || space.add_set(config.clone());
            let (mine, needed) = each_failure(add, || state_of(&space));
            // The set, its quota, and the quarantine.
            assert!(needed >= 3, "{needed}");
            let used = || mine.quota().map(|quota| (quota.used, quota.limit));
            assert_eq!(used(), Some((0, 9)));
            drop(take(&mine, 5).unwrap());
            assert_eq!(used(), Some((1, 9)));
            // Without any memory.
            let flushed = with_memory_for(0, || mine.begin_flush().complete());
            assert_eq!((flushed, used()), (1, Some((0, 9))));
            mine.close();
            drop(mine);
            assert_eq!(space.capacity_left(), Some(100));
            // What a failure assigned is taken back, or there would be ever more of it.
            let before = calls().live_bytes;
            for memory in (0..needed).chain(0..needed) {
                let added = with_memory_for(memory, add);
                let _ = added.map(|set| set.close());
                assert_eq!(space.capacity_left(), Some(100));
            }
            assert_eq!(calls().live_bytes, before);
        }
    }
}

#[test]
fn lists_of_tables_and_sets() {
    for kind in KINDS {
        let space = Space::new(kind);
        let tables: Vec<Table> = (0..5).map(|_| table(&space, 20)).collect();
        let scope = match kind {
            SpaceKind::Global => Scope::Global,
            _ => Scope::Local(&tables[0]),
        };
        let _sets = [set(&space, scope), set(&space, scope)];
        let (listed, needed) = each_failure(|| space.tables(), || ());
        assert_eq!((listed.len(), needed), (5, 1));
        let (listed, needed) = each_failure(|| space.sets(), || ());
        assert_eq!((listed.len(), needed), (2, 1));
    }
}

#[test]
fn reservations_at_run_time() {
    for kind in KINDS {
        let space = Space::new(kind);
        let one = table(&space, 20);
        let sets = match kind {
            SpaceKind::Global => vec![global(&space)],
            SpaceKind::Tables => vec![local(&space, &one)],
            SpaceKind::Both => vec![local(&space, &one), global(&space)],
        };
        let reserve = |number| {
            let ((), needed) = each_failure(
                || one.reserve(pasid(number)),
                || one.unreserve(pasid(number)),
            );
            assert!(needed >= 2, "{kind:?}");
            sets.iter()
                .for_each(|set| assert!(take(set, number).is_err()));
            one.unreserve(pasid(number)).unwrap();
            sets.iter()
                .for_each(|set| assert!(take_at(set, number).is_ok()));
        };
        reserve(700);
        reserve(40_000);
        if kind != SpaceKind::Tables {
            let at = pasid(80_000);
            let ((), needed) = each_failure(|| space.reserve(at), || space.unreserve(at));
            assert!(needed >= 2);
            sets.iter()
                .for_each(|set| assert!(take(set, 80_000).is_err()));
            space.unreserve(at).unwrap();
            sets.iter()
                .for_each(|set| assert!(take_at(set, 80_000).is_ok()));
        }
    }
}

#[test]
fn devices_that_join() {
    let space = Space::new(SpaceKind::Both);
    let one = table(&space, 16);
    for device in 0..20 {
        let join = || one.join(RequesterId(device), width(8));
        // The width is what it was before a failure.
        let ((), _) = each_failure(join, || (device > 0, one.width()));
        assert_eq!(one.width(), width(8));
    }
    (0..20).for_each(|device| one.leave(RequesterId(device)).unwrap());
    assert_eq!(one.width(), width(16));
}

#[test]
fn preloads_of_sets_and_of_attachments() {
    for kind in KINDS {
        let space = Space::new(kind);
        let tables = [table(&space, 20), table(&space, 20)];
        let sets = match kind {
            SpaceKind::Global => vec![global(&space)],
            SpaceKind::Tables => vec![local(&space, &tables[0]), group(&space, &tables)],
            SpaceKind::Both => {
                vec![
                    local(&space, &tables[0]),
                    global(&space),
                    group(&space, &tables),
                ]
            }
        };
        for (set, first) in sets.iter().zip([50_000, 100_000, 150_000]) {
            let wanted = range(first, first + 700);
            let nothing_live = || set.count_live(set.range());
            let (_, needed) = each_failure(|| set.preload(wanted), nothing_live);
            assert!(needed >= 1);
            assert_eq!(set.preload(wanted), Ok(0));
            let in_place = with_memory_for(0, || set.alloc_in_place(wanted, 0));
            assert_eq!(in_place.map(|owned| owned.pasid()), Ok(pasid(first)));
            let (_, needed) = each_failure(|| tables[0].preload(wanted), || ());
            assert!(needed >= 1);
            let owned = take(set, first).unwrap();
            let attached = with_memory_for(0, || (&tables[0]).attach(&owned, 1).map(drop));
            assert_eq!(attached, Ok(()));
        }
    }
}

#[test]
fn allocations_that_grow() {
    for kind in KINDS {
        for quota in [None, Some(1)] {
            let space = Space::new(kind);
            let tables = [table(&space, 20), table(&space, 20), table(&space, 20)];
            let scopes = match kind {
                SpaceKind::Global => vec![Scope::Global],
                SpaceKind::Tables => vec![Scope::Local(&tables[0]), Scope::Group(&tables)],
                SpaceKind::Both => {
                    vec![
                        Scope::Global,
                        Scope::Local(&tables[0]),
                        Scope::Group(&tables),
                    ]
                }
            };
            for (index, scope) in scopes.into_iter().enumerate() {
                let mut config = SetConfig::new(scope);
                if let Some(quota) = quota {
                    config = config.quota(quota);
                }
                let mine = space.add_set(config).unwrap();
                let first = 50_000 * (index as u32 + 1);
                let used = || {
                    let statistics = mine.statistics();
                    (statistics.live, statistics.quota.map(|quota| quota.used))
                };
                let call = || mine.alloc(range(first, first + 9), 0);
                let (owned, needed) = each_failure(call, used);
                assert!(needed >= 2);
                assert_eq!(owned.pasid(), pasid(first));
                assert_eq!(mine.statistics().failures.out_of_memory, needed);
            }
        }
    }
}

#[test]
fn closing_and_data_calls_work_without_any_memory() {
    for kind in KINDS {
        let space = Space::new(kind);
        let one = table(&space, 20);
        let mine = match kind {
            SpaceKind::Global => global(&space),
            _ => local(&space, &one),
        };
        let owned: Vec<_> = (1..300)
            .map(|number| take(&mine, number).unwrap())
            .collect();
        let (closed, table_closed) = with_memory_for(0, || {
            mine.free_all();
            mine.close();
            one.close();
            let _ = (
                space.find_set(3),
                space.capacity_left(),
                space.memory_bytes(),
            );
            (mine.is_closing(), one.is_closing())
        });
        assert!(closed && table_closed);
        with_memory_for(0, || drop(owned));
        assert_eq!(mine.statistics().freeing, 0);
    }
}
