// SPDX-License-Identifier: MIT OR Apache-2.0
//! Quotas, the capacity of a space, and what a set says of itself.

mod common;

use common::sets::{KINDS, any, both, free, global, group, local, set, table, take};
use common::{handle, pasid, range};
use pasid::{
    Attach, Error, FailureStatistics, IoasidSet, Pool, QuotaStatistics, Scope, SetConfig, Space,
    SpaceKind, Table,
};

fn scopes<'a>(kind: SpaceKind, tables: &'a [Table]) -> Vec<Scope<'a>> {
    match kind {
        SpaceKind::Global => vec![Scope::Global],
        SpaceKind::Tables => vec![Scope::Local(&tables[0]), Scope::Group(tables)],
        SpaceKind::Both => vec![
            Scope::Global,
            Scope::Local(&tables[0]),
            Scope::Group(tables),
        ],
    }
}

/// One set with that quota for each kind of space and each scope.
fn each(quota: u32, check: impl Fn(&IoasidSet)) {
    for kind in KINDS {
        let space = Space::new(kind);
        let tables = [table(&space, 20), table(&space, 20)];
        for scope in scopes(kind, &tables) {
            let set = space.add_set(SetConfig::new(scope).quota(quota)).unwrap();
            check(&set);
            set.close();
        }
    }
}

fn quota(set: &IoasidSet) -> QuotaStatistics {
    set.statistics().quota.expect("a set with a quota")
}

#[test]
fn zero_means_zero() {
    each(0, |set| {
        let refused = Some(Error::QuotaExceeded { quota: 0 });
        assert_eq!(any(set).err(), refused);
        assert_eq!(set.alloc_in_place(set.range(), 0).err(), refused);
        let _ = set.preload(range(5, 5));
        assert_eq!(set.alloc_at(pasid(5), 0).err(), refused);
        assert_eq!((quota(set).used, quota(set).limit), (0, 0));
        assert_eq!(set.statistics().failures.quota, 3);
        set.set_quota(1).unwrap();
        let owned = any(set).unwrap();
        assert_eq!(set.set_quota(0), Err(Error::QuotaInUse { used: 1 }));
        drop(owned);
        assert_eq!(set.set_quota(0), Ok(()));
        assert_eq!(any(set).err(), refused);
    });
}

#[test]
fn a_quota_is_exact_and_counts_what_is_being_freed() {
    each(600, |set| {
        let mut owned: Vec<_> = (0..600).map(|_| any(set).unwrap()).collect();
        let refused = Some(Error::QuotaExceeded { quota: 600 });
        assert_eq!(any(set).err(), refused);
        assert_eq!(quota(set).used, 600);
        let references: Vec<_> = owned.iter().map(|owned| owned.get().unwrap()).collect();
        drop(owned.drain(300..));
        assert_eq!(any(set).err(), refused);
        assert_eq!(
            (set.statistics().live, set.statistics().freeing),
            (300, 300)
        );
        drop(references);
        assert_eq!(quota(set).used, 300);
        owned.extend((0..300).map(|_| any(set).unwrap()));
        assert_eq!(any(set).err(), refused);
        assert_eq!(quota(set).high_water, 600);
        assert_eq!(quota(set).allocations, 900);
        drop(owned);
        assert_eq!((quota(set).used, quota(set).high_water), (0, 600));
    });
}

#[test]
fn each_way_for_a_pasid_to_end_gives_its_credit_back() {
    each(1, |set| {
        for round in 0..100 {
            let owned = any(set).unwrap();
            match round % 5 {
                0 => drop(owned),
                1 => drop(owned.into_ref()),
                2 => free(set, handle(owned.into_raw())).unwrap(),
                3 => {
                    set.free_all();
                    drop(owned);
                }
                _ => {
                    let reference = owned.get().unwrap();
                    set.revoke(owned.handle()).unwrap();
                    drop((owned, reference));
                }
            }
            assert_eq!(quota(set).used, 0);
        }
        assert_eq!(quota(set).high_water, 1);
    });
}

#[test]
fn an_allocation_that_fails_gives_its_credit_back() {
    each(3, |set| {
        let owned = take(set, 5).unwrap();
        for _ in 0..100 {
            assert!(take(set, 5).is_err());
            assert!(set.alloc_at(pasid(5), 0).is_err());
            assert!(set.alloc_in_place(range(70_000, 70_000), 0).is_err());
            assert!(set.alloc_at(pasid(0), 0).is_err());
        }
        assert_eq!((quota(set).used, quota(set).allocations), (1, 1));
        drop(owned);
        assert_eq!(quota(set).used, 0);
    });
}

#[test]
fn a_quota_is_adjusted_while_in_use_and_never_below_it() {
    each(3, |set| {
        let owned: Vec<_> = (0..3).map(|_| any(set).unwrap()).collect();
        assert_eq!(set.set_quota(2), Err(Error::QuotaInUse { used: 3 }));
        assert_eq!((quota(set).limit, quota(set).used), (3, 3));
        set.set_quota(3).unwrap();
        assert!(any(set).is_err());
        set.set_quota(4).unwrap();
        let more = any(set).unwrap();
        assert_eq!(any(set).err(), Some(Error::QuotaExceeded { quota: 4 }));
        drop(more);
        set.set_quota(3).unwrap();
        assert_eq!(any(set).err(), Some(Error::QuotaExceeded { quota: 3 }));
        drop(owned);
        set.set_quota(0).unwrap();
        set.set_quota(u32::MAX).unwrap();
        assert!(any(set).is_ok());
    });
}

#[test]
fn a_set_without_a_quota_has_none_to_adjust() {
    let space = both();
    let users = global(&space);
    assert_eq!(users.set_quota(3), Err(Error::NoQuota));
    assert_eq!(users.statistics().quota, None);
}

#[test]
fn a_space_s_capacity_is_reserved_up_front() {
    for kind in KINDS {
        let space = Space::with_capacity(kind, 100);
        assert_eq!(space.capacity_left(), Some(100));
        let tables = [table(&space, 20), table(&space, 20)];
        let scope = scopes(kind, &tables)[0];
        let add = |quota| space.add_set(SetConfig::new(scope).quota(quota));
        let one = add(60).unwrap();
        assert_eq!(space.capacity_left(), Some(40));
        assert_eq!(add(41).err(), Some(Error::CapacityExceeded { left: 40 }));
        assert_eq!(space.capacity_left(), Some(40));
        assert_eq!(space.sets().unwrap().len(), 1);
        let two = add(40).unwrap();
        let none = add(0).unwrap();
        assert_eq!(space.capacity_left(), Some(0));
        assert_eq!(none.set_quota(1), Err(Error::CapacityExceeded { left: 0 }));
        assert_eq!(quota(&none).limit, 0);
        // What one gives up the other can have.
        let owned: Vec<_> = (0..10).map(|_| any(&one).unwrap()).collect();
        assert_eq!(owned[0].pasid(), pasid(1), "0 is reserved");
        assert_eq!(one.set_quota(9), Err(Error::QuotaInUse { used: 10 }));
        assert_eq!(space.capacity_left(), Some(0));
        one.set_quota(10).unwrap();
        assert_eq!(space.capacity_left(), Some(50));
        assert_eq!(two.set_quota(91), Err(Error::CapacityExceeded { left: 50 }));
        two.set_quota(90).unwrap();
        assert_eq!(space.capacity_left(), Some(0));
        // All of it comes back with the sets.
        two.close();
        assert_eq!(two.set_quota(1), Err(Error::Closing));
        assert_eq!(space.capacity_left(), Some(0));
        drop(two);
        assert_eq!(space.capacity_left(), Some(90));
        one.close();
        drop(one.clone());
        drop(owned);
        drop(one);
        assert_eq!(space.capacity_left(), Some(100));
    }
}

#[test]
fn a_set_without_a_quota_reserves_as_many_as_it_can_hand_out() {
    let space = Space::with_capacity(SpaceKind::Both, 1_000);
    let one = table(&space, 8);
    let drivers = local(&space, &one);
    assert_eq!(space.capacity_left(), Some(1_000 - 256));
    let reserved = [range(0, 9)];
    let config = SetConfig::new(Scope::Global)
        .range(range(0, 99))
        .reserved(&reserved);
    let users = space.add_set(config).unwrap();
    assert_eq!(space.capacity_left(), Some(1_000 - 256 - 90));
    let refused = space.add_set(SetConfig::new(Scope::Global));
    assert_eq!(refused.err(), Some(Error::CapacityExceeded { left: 654 }));
    one.close();
    drop((drivers, one));
    users.close();
    drop(users);
    assert_eq!(space.capacity_left(), Some(1_000));
    assert_eq!(both().capacity_left(), None);
}

#[test]
fn a_static_space_has_a_capacity() {
    static SPACE: Space = Space::with_capacity_and_reserved(SpaceKind::Both, 64, &[]);
    let one = table(&SPACE, 6);
    let drivers = local(&SPACE, &one);
    assert_eq!(SPACE.capacity_left(), Some(0));
    assert_eq!(any(&drivers).unwrap().pasid(), pasid(0));
}

#[test]
fn an_attached_pasid_keeps_its_credit_until_the_last_fault_is_answered() {
    let space = both();
    let one = table(&space, 20);
    one.preload(range(0, 255)).unwrap();
    let config = SetConfig::new(Scope::Local(&one)).quota(1);
    let drivers = space.add_set(config).unwrap();
    let owned = any(&drivers).unwrap();
    let attached = (&one).attach(&owned, 0).unwrap().commit().unwrap();
    let fault = (&one).fault_get(owned.pasid()).unwrap();
    drop(owned);
    assert!(any(&drivers).is_err());
    attached.detach();
    assert!(any(&drivers).is_err());
    drop(fault);
    assert!(any(&drivers).is_ok());
}

#[test]
fn statistics_count_what_is_there_and_what_was_refused() {
    for kind in KINDS {
        let space = Space::new(kind);
        let tables = [table(&space, 10), table(&space, 10)];
        for scope in scopes(kind, &tables) {
            let mine = space
                .add_set(SetConfig::new(scope).range(range(1, 500)))
                .unwrap();
            let beside = set(&space, scope);
            let before = mine.statistics();
            assert_eq!((before.live, before.freeing, before.quota), (0, 0, None));
            assert_eq!(before.failures, FailureStatistics::default());
            let owned: Vec<_> = (0..10).map(|_| any(&mine).unwrap()).collect();
            let _other = any(&beside).unwrap();
            let held = owned[0].get().unwrap();
            let mut owned = owned.into_iter();
            drop(owned.next());
            assert_eq!((mine.statistics().live, mine.statistics().freeing), (9, 1));
            assert!(take(&mine, 2).is_err());
            assert!(mine.alloc_at(pasid(2), 0).is_err());
            assert!(mine.alloc_at(pasid(3), 0).is_err());
            assert!(mine.alloc(range(501, 600), 0).is_err());
            assert!(mine.alloc_in_place(range(400, 400), 0).is_err());
            mine.close();
            assert!(any(&mine).is_err());
            let failures = mine.statistics().failures;
            let counts = (failures.exhausted, failures.in_use, failures.misfit);
            assert_eq!(counts, (1, 2, 1));
            let counts = (failures.out_of_memory, failures.closing, failures.quota);
            assert_eq!(counts, (1, 1, 0));
            assert_eq!((mine.statistics().live, mine.statistics().freeing), (0, 10));
            drop(held);
            assert_eq!(mine.statistics().freeing, 9);
            assert_eq!(beside.statistics().failures, FailureStatistics::default());
        }
    }
}

#[test]
fn many_allocations_are_counted_exactly() {
    let space = both();
    let one = table(&space, 20);
    let scopes = [
        Scope::Global,
        Scope::Local(&one),
        Scope::Group(std::slice::from_ref(&one)),
    ];
    for scope in scopes {
        let set = space.add_set(SetConfig::new(scope).quota(2)).unwrap();
        for count in 1..=5_000 {
            let _owned = any(&set).unwrap();
            assert_eq!(quota(&set).allocations, count);
        }
        assert_eq!(quota(&set).high_water, 1);
    }
    let _ = group(&space, std::slice::from_ref(&one));
}
