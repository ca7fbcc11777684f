// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data calls of sets and tables neither allocate nor free memory.

mod common;

use common::allocator::{Instrumented, counted, without_allocator};
use common::sets::{free, put, table};
use common::{handle, pasid, range};
use pasid::{
    Attach, Error, Flush, IoasidSet, Owned, PasidRange, Plain, Policy, Pool, Reuse, Scope,
    SetConfig, Space, SpaceKind, Table,
};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Instrumented = Instrumented;

/// PASIDs that have memory: 1 ..= 1023, of which 0 is reserved.
const LAST: u32 = 1_023;

fn grown() -> PasidRange {
    range(0, LAST)
}

/// A set of each scope in each kind of space with each policy, with and without a quota,
/// and a table that takes its attachments.
fn each(check: impl Fn(&Table, &IoasidSet)) {
    for policy in [
        Policy::Lowest,
        Policy::Next,
        Policy::PreserveNarrow,
        Policy::Spread,
    ] {
        for kind in [SpaceKind::Global, SpaceKind::Tables, SpaceKind::Both] {
            for reach in 0..3 {
                let space = Space::new(kind);
                let tables = [table(&space, 20), table(&space, 20)];
                tables[0].preload(grown()).unwrap();
                let scope = match (kind, reach) {
                    (SpaceKind::Global, 1..) | (SpaceKind::Tables, 0) => continue,
                    (_, 0) => Scope::Global,
                    (_, 1) => Scope::Local(&tables[0]),
                    _ => Scope::Group(&tables),
                };
                let reserved = [range(600, 610)];
                for config in [
                    SetConfig::new(scope),
                    SetConfig::new(scope).quota(700).reserved(&reserved),
                ] {
                    let set = space.add_set(config.policy(policy)).unwrap();
                    set.preload(grown()).unwrap();
                    check(&tables[0], &set);
                }
            }
        }
    }
}

#[test]
fn the_preloaded_memory_is_all_that_an_allocation_needs() {
    each(|_, set| {
        let limit = set.statistics().quota.map_or(LAST, |quota| quota.limit) as usize;
        let mut owned: Vec<Owned<&IoasidSet>> = Vec::with_capacity(LAST as usize);
        for round in 0..300_u32 {
            owned.push(without_allocator("alloc_in_place", || {
                set.alloc_in_place(grown(), 0).unwrap()
            }));
            owned.push(without_allocator("alloc_in_place_near", || {
                set.alloc_in_place_near(round, grown(), 0).unwrap()
            }));
            let at = pasid(LAST - round % 400);
            if let Ok(got) = without_allocator("alloc_at", || set.alloc_at(at, 0)) {
                owned.push(got);
            }
            if owned.len() >= 500 {
                without_allocator("drop of an Owned", || owned.clear());
            }
        }
        while let Ok(got) = without_allocator("to the last", || set.alloc_in_place(grown(), 0)) {
            owned.push(got);
        }
        assert_eq!(owned.len(), limit);
        let full = without_allocator("when full", || set.alloc_in_place(grown(), 0).map(drop));
        let exhausted = Error::Exhausted { range: grown() };
        let quota = Error::QuotaExceeded { quota: 700 };
        assert!([Err(exhausted), Err(quota)].contains(&full), "{full:?}");
        without_allocator("drop of an Owned", || owned.clear());
        let beyond = range(20_000, 20_000);
        let missing = without_allocator("beyond", || set.alloc_in_place(beyond, 0).map(drop));
        assert_eq!(missing, Err(Error::OutOfMemory));
        let missing = without_allocator("beyond", || set.alloc_at(pasid(20_000), 0).map(drop));
        assert_eq!(missing, Err(Error::OutOfMemory));
    });
}

#[test]
fn references_look_ups_and_raw_handles_ask_nothing_of_the_allocator() {
    each(|_, set| {
        without_allocator("the life of a PASID", || {
            for _ in 0..100 {
                let owned = set.alloc(grown(), 1).unwrap();
                let (of, at) = (owned.handle(), owned.pasid());
                let one = set.get(of).unwrap();
                let two = set.get_at(at).unwrap();
                assert_eq!(set.find(at).unwrap().handle, of);
                assert_eq!(set.iter(set.range()).count(), 1);
                assert_eq!(set.count_live(grown()), 1);
                assert_eq!(set.statistics().live, 1);
                let three = owned.get().unwrap().try_clone().unwrap();
                set.revoke(of).unwrap();
                drop((one, two, three));
                let raw = owned.into_raw();
                free(set, handle(raw)).unwrap();
                let of = handle(set.alloc(grown(), 1).unwrap().into_raw());
                let raw = handle(set.get(of).unwrap().into_raw());
                put(set, raw).unwrap();
                set.free_all();
                free(set, of).unwrap();
                assert_eq!(put(set, of), Err(Error::Stale(of)));
            }
        });
        let held = set.alloc(grown(), 0).unwrap();
        without_allocator("close", || {
            set.close();
            assert_eq!(set.alloc(grown(), 0).err(), Some(Error::Closing));
            drop(held);
        });
    });
}

fn payloads_ask_nothing<P: Plain>(payload: P) {
    for reuse in [Reuse::Immediate, Reuse::AfterFlush] {
        let space = Space::new(SpaceKind::Both);
        let one = table(&space, 20);
        one.preload(grown()).unwrap();
        for scope in [Scope::Global, Scope::Local(&one)] {
            let config = SetConfig::new(scope).reuse(reuse);
            let set = space.add_set_of::<P>(config).unwrap();
            set.preload(grown()).unwrap();
            without_allocator("the life of a PASID with a plain payload", || {
                for _ in 0..100 {
                    let owned = set.alloc_in_place(grown(), payload).unwrap();
                    let attached = one.attach(&owned, 1).unwrap().commit().unwrap();
                    let at = owned.pasid();
                    let reference = set.get_at(at).unwrap();
                    let _ = (owned.replace(payload), reference.word());
                    let _ = (set.find(at).unwrap().word, set.iter(grown()).count());
                    drop((owned, one.fault_get(at).unwrap(), attached, reference));
                    assert!(set.alloc_at(pasid(20_000), payload).is_err());
                }
            });
        }
    }
}

#[test]
fn plain_payloads_ask_nothing_of_the_allocator() {
    static DRIVER: [u64; 3] = [1, 2, 3];
    payloads_ask_nothing(&DRIVER);
    payloads_ask_nothing(());
}

#[cfg(feature = "epoch")]
#[test]
fn look_ups_under_a_guard_ask_nothing_of_the_allocator() {
    let space = Space::new(SpaceKind::Both);
    let set = space.add_set_of::<Box<u64>>(SetConfig::new(Scope::Global));
    let set = set.unwrap();
    let owned = set.alloc(grown(), Box::new(7)).unwrap();
    let guard = pasid::Guard::new();
    without_allocator("a look-up under a guard", || {
        for _ in 0..100 {
            let found = set.find_guarded(owned.pasid(), &guard).unwrap();
            assert_eq!((*found.payload, *owned.payload(&guard)), (7, 7));
            assert_eq!(set.iter_guarded(grown(), &guard).count(), 1);
            let reference = set.get(owned.handle()).unwrap();
            assert_eq!(*reference.payload(&guard), 7);
            drop(reference.try_clone().unwrap());
        }
    });
}

#[test]
fn attachments_and_faults_ask_nothing_of_the_allocator() {
    each(|table, set| {
        let owned = set.alloc(grown(), 1).unwrap();
        without_allocator("the life of an attachment", || {
            for word in 0..100 {
                drop(table.attach(&owned, word).unwrap());
                let attached = table.attach(&owned, word).unwrap().commit().unwrap();
                let fault = table.fault_get(owned.pasid()).unwrap();
                assert_eq!((fault.word(), attached.word()), (word, word));
                assert_eq!(attached.replace(7), Ok(word));
                assert_eq!(table.attachments(grown()).count(), 1);
                assert!(table.attach(&owned, 0).is_err());
                assert!(table.fault_get(pasid(1_000)).is_err());
                attached.detach();
                drop(fault);
                table.pause();
                assert!(table.attach(&owned, 0).is_err());
                table.resume();
            }
            for _ in 0..3 {
                let fault = table.fault_get(owned.pasid()).err();
                assert_eq!(fault, Some(Error::NotAttached(owned.pasid())));
            }
        });
        // Ended by the last fault of a PASID that is gone otherwise.
        let attached = table.attach(&owned, 0).unwrap().commit().unwrap();
        without_allocator("the end of a PASID", || {
            let fault = table.fault_get(owned.pasid()).unwrap();
            drop(owned);
            drop(attached);
            drop(fault);
        });
    });
}

/// A set whose PASIDs await a flush, of each scope that there is, and a table of it.
fn each_after_flush(check: impl Fn(&Space, &Table, &IoasidSet)) {
    for kind in [SpaceKind::Global, SpaceKind::Tables, SpaceKind::Both] {
        let space = Space::new(kind);
        let tables = [table(&space, 20), table(&space, 20)];
        tables[0].preload(grown()).unwrap();
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
        for &scope in scopes {
            let config = SetConfig::new(scope).reuse(Reuse::AfterFlush);
            for config in [config.clone(), config.quota(700)] {
                let set = space.add_set(config).unwrap();
                set.preload(grown()).unwrap();
                check(&space, &tables[0], &set);
                set.flush(|_| Ok::<(), ()>(())).unwrap();
            }
        }
    }
}

#[test]
fn flushes_and_pins_ask_nothing_of_the_allocator() {
    each_after_flush(|space, table, set| {
        without_allocator("frees, and flushes of all kinds", || {
            for round in 0..50 {
                let owned = set.alloc_in_place(grown(), 0).unwrap();
                drop(table.attach(&owned, 0).unwrap().commit().unwrap());
                let pin = owned.pin().unwrap();
                assert!(owned.pin().is_err());
                let held = handle(owned.get().unwrap().into_raw());
                free(set, handle(owned.into_raw())).unwrap();
                put(set, held).unwrap();
                drop(set.alloc_in_place(grown(), 0).unwrap());
                let first = set.begin_flush();
                drop(pin);
                let mut second = set.begin_flush();
                assert_eq!((first.count(), second.count()), (1, 1));
                assert_eq!(first.ranges().count() + second.ranges().count(), 2);
                assert_eq!(second.ranges_on(table).count(), 1);
                assert!(second.concerns(table) && !first.concerns(table));
                assert_eq!(second.put_back_on(table), 1);
                assert_eq!(second.complete(), 0);
                match round % 3 {
                    0 => drop(first),
                    _ => assert_eq!(first.complete(), 1),
                }
                assert!(set.statistics().waiting > 0 && set.flushes().in_flight == 0);
                let failed = set.flush(|batch| Err(batch.count()));
                assert!(failed.is_err());
                assert!(set.flush(|_| Ok::<(), ()>(())).unwrap() > 0);
                assert!(table.begin_flush().is_empty() && space.begin_flush().is_empty());
            }
        });
        let all: Vec<Owned<&IoasidSet>> = (0..700)
            .map(|_| set.alloc_in_place(grown(), 0).unwrap())
            .collect();
        without_allocator("a large batch", || {
            all.iter()
                .for_each(|owned| set.revoke(owned.handle()).unwrap());
        });
        drop(all);
        without_allocator("a large batch", || {
            assert!(set.alloc_at(pasid(7), 0).is_err());
            assert!(set.alloc_in_place(range(1, 700), 0).is_err());
            assert_eq!(set.begin_flush().complete(), 700);
        });
        let pinned = set.alloc(grown(), 0).unwrap();
        without_allocator("close", || {
            let pin = pinned.pin().unwrap();
            drop(pinned);
            set.close();
            drop(pin);
        });
    });
}

#[test]
fn holders_by_arc_count_and_nothing_else() {
    each(|table, set| {
        let (shared, table) = (Arc::new(set.clone()), Arc::new(table.clone()));
        without_allocator("the life of a PASID by Arc", || {
            for _ in 0..100 {
                let owned = shared.clone().alloc_in_place(grown(), 1).unwrap();
                let attached = table.clone().attach(&owned, 1).unwrap().commit().unwrap();
                let fault = table.clone().fault_get(owned.pasid()).unwrap();
                drop((owned, attached, fault));
            }
        });
    });
}

#[test]
fn a_set_that_goes_with_its_last_fault_is_freed_by_a_control_call() {
    for by_drop in [false, true] {
        let ((), asked) = counted(|| {
            let space = Space::new(SpaceKind::Both);
            let one = table(&space, 20);
            one.preload(grown()).unwrap();
            let mut held = Vec::new();
            for scope in [
                Scope::Global,
                Scope::Local(&one),
                Scope::Group(std::slice::from_ref(&one)),
            ] {
                let set = space.add_set(SetConfig::new(scope)).unwrap();
                let owned = set.alloc(grown(), 0).unwrap();
                let attached = (&one).attach(&owned, 0).unwrap().commit().unwrap();
                held.push((attached, (&one).fault_get(owned.pasid()).unwrap()));
                drop(owned);
                set.close();
            }
            drop(space);
            let mut held = held.into_iter();
            without_allocator("the end of a set", || held.by_ref().for_each(drop));
            drop(held);
            if !by_drop {
                let ((), asked) = counted(|| one.close());
                assert!(asked.freed > 0);
            }
        });
        assert_eq!((asked.live_bytes, asked.allocated), (0, asked.freed));
    }
}
