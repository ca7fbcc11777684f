// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order in which each policy hands out, for each kind of set.

mod common;

use common::sets::{KINDS, any, global, group, local, next_numbers, table, take};
use common::{pasid, range};
use pasid::{
    Error, IoasidSet, PasidRange, Policy, Pool, Scope, SetConfig, Space, SpaceKind, Table,
};

/// Sets of that policy and range, of every kind and scope, in spaces of 10 bits or more.
fn each(policy: Policy, within: PasidRange, reserved: &[PasidRange], check: impl Fn(&IoasidSet)) {
    for kind in KINDS {
        for reach in 0..3 {
            let space = Space::with_reserved(kind, &[]);
            let tables = [table(&space, 10), table(&space, 20)];
            let scope = match (kind, reach) {
                (SpaceKind::Global, 1..) | (SpaceKind::Tables, 0) => continue,
                (_, 0) => Scope::Global,
                (_, 1) => Scope::Local(&tables[0]),
                _ => Scope::Group(&tables),
            };
            for quota in [None, Some(5_000)] {
                let config = SetConfig::new(scope).policy(policy).range(within);
                let mut config = config.reserved(reserved);
                if let Some(quota) = quota {
                    config = config.quota(quota);
                }
                let set = space.add_set(config).unwrap();
                assert_eq!(set.policy(), policy);
                check(&set);
            }
        }
    }
}

/// What is handed out when each is freed at once.
fn one_after_another(set: &IoasidSet, request: PasidRange, count: usize) -> Vec<u32> {
    (0..count)
        .map(|_| set.alloc(request, 0).unwrap().pasid().get())
        .collect()
}

#[test]
fn lowest_gives_the_lowest_free_one() {
    each(Policy::Lowest, range(0, 1_023), &[], |set| {
        let first: Vec<_> = (0..600).map(|_| any(set).unwrap()).collect();
        assert!(
            first
                .iter()
                .zip(0..)
                .all(|(owned, at)| owned.pasid().get() == at)
        );
        let mut first: Vec<_> = first.into_iter().map(Some).collect();
        for hole in [20, 21, 300] {
            first[hole] = None;
        }
        assert_eq!(next_numbers(set, 4), [20, 21, 300, 600]);
        assert_eq!(one_after_another(set, range(0, 1_023), 3), [20, 20, 20]);
        assert_eq!(one_after_another(set, range(22, 900), 2), [300, 300]);
    });
}

#[test]
fn next_goes_on_after_the_last_one_and_wraps() {
    each(Policy::Next, range(0, 1_023), &[], |set| {
        assert_eq!(one_after_another(set, set.range(), 3), [0, 1, 2]);
        let kept = [take(set, 1_020).unwrap(), take(set, 1_022).unwrap()];
        assert_eq!(one_after_another(set, set.range(), 3), [1_023, 0, 1]);
        drop(kept);
        // A request for another range goes on there, and wraps there.
        assert_eq!(
            one_after_another(set, range(500, 502), 5),
            [500, 501, 502, 500, 501]
        );
        assert_eq!(one_after_another(set, set.range(), 1), [502]);
    });
    // All are handed out before one comes again.
    each(Policy::Next, range(5, 14), &[], |set| {
        let numbers = one_after_another(set, set.range(), 20);
        assert_eq!(numbers[..10], (5..15).collect::<Vec<u32>>());
        assert_eq!(numbers[10..], numbers[..10]);
    });
}

#[test]
fn preserve_narrow_goes_from_the_upper_half_down() {
    each(Policy::PreserveNarrow, range(0, 1_023), &[], |set| {
        assert_eq!(one_after_another(set, set.range(), 3), [512, 513, 514]);
        let upper: Vec<_> = (0..512).map(|_| any(set).unwrap()).collect();
        assert!(upper.iter().all(|owned| owned.pasid().get() >= 512));
        let next: Vec<_> = (0..256).map(|_| any(set).unwrap()).collect();
        assert!(
            next.iter()
                .all(|owned| (256..512).contains(&owned.pasid().get()))
        );
        assert_eq!(any(set).unwrap().pasid(), pasid(128));
        // Down to the last.
        let rest: Vec<_> = std::iter::from_fn(|| any(set).ok()).collect();
        assert_eq!(rest.len(), 256);
        assert!(rest.last().is_some_and(|owned| owned.pasid().get() < 2));
        assert_eq!(
            any(set).err(),
            Some(Error::Exhausted { range: set.range() })
        );
        // What comes free above is taken before what comes free below.
        drop(rest);
        drop(next);
        assert!(any(set).unwrap().pasid() >= pasid(256));
    });
    // It wraps inside a half before it goes to the next one.
    each(Policy::PreserveNarrow, range(0, 1_023), &[], |set| {
        let upper: Vec<_> = (0..512).map(|_| any(set).unwrap()).collect();
        let mut upper: Vec<_> = upper.into_iter().map(Some).collect();
        upper[300] = None;
        let again = any(set).unwrap();
        assert_eq!(again.pasid(), pasid(812));
        upper[10] = None;
        assert_eq!(any(set).unwrap().pasid(), pasid(522));
    });
    // Inside a half like next, also after requests for others.
    each(Policy::PreserveNarrow, range(0, 1_023), &[], |set| {
        assert_eq!(one_after_another(set, range(0, 255), 2), [128, 129]);
        assert_eq!(one_after_another(set, set.range(), 2), [512, 513]);
        assert_eq!(one_after_another(set, range(0, 255), 1), [130]);
        assert_eq!(one_after_another(set, set.range(), 1), [514]);
        assert_eq!(one_after_another(set, range(0, 99), 2), [64, 65]);
    });
}

#[test]
fn spread_starts_where_the_cpu_says_and_wraps() {
    each(Policy::Spread, range(0, 1_023), &[], |set| {
        let near = |cpu| set.alloc_near(cpu, set.range(), 0).unwrap();
        let numbers = [0, 1, 3, 4, 5, 1_000].map(|cpu| near(cpu).pasid().get());
        assert_eq!(numbers, [0, 256, 768, 0, 256, 0]);
        let owned: Vec<_> = (0..256).map(|_| near(3)).collect();
        assert!(owned.iter().all(|owned| owned.pasid() >= pasid(768)));
        let wrapped = near(3);
        assert_eq!(wrapped.pasid(), pasid(0));
        assert_eq!(any(set).unwrap().pasid(), pasid(1));
        let in_place = set.alloc_in_place_near(3, set.range(), 0).unwrap();
        assert_eq!(in_place.pasid(), pasid(1));
        drop(owned);
        assert_eq!(near(3).pasid(), pasid(768));
        assert_eq!(near(u32::MAX).pasid().get() % 256, 0);
    });
}

#[test]
fn every_policy_honours_the_request_and_the_set_s_own_holes() {
    let reserved = [range(100, 199), range(300, 300)];
    for policy in [
        Policy::Lowest,
        Policy::Next,
        Policy::PreserveNarrow,
        Policy::Spread,
    ] {
        each(policy, range(90, 310), &reserved, |set| {
            let request = range(95, 305);
            let owned: Vec<_> = std::iter::from_fn(|| set.alloc(request, 0).ok()).collect();
            let mut numbers: Vec<u32> = owned.iter().map(|owned| owned.pasid().get()).collect();
            numbers.sort_unstable();
            let expected = (95..100).chain(200..300).chain(301..306);
            assert_eq!(numbers, expected.collect::<Vec<u32>>(), "{policy:?}");
            let range = request;
            assert_eq!(
                set.alloc(request, 0).err(),
                Some(Error::Exhausted { range })
            );
            assert_eq!(
                set.alloc_in_place(request, 0).err(),
                Some(Error::Exhausted { range })
            );
            // The rest of the set's own.
            let rest = std::iter::from_fn(|| any(set).ok());
            assert_eq!(rest.collect::<Vec<_>>().len(), 10);
            for outside in [
                common::range(0, 89),
                common::range(311, 900),
                common::range(100, 150),
            ] {
                let refused = set.alloc(outside, 0);
                assert_eq!(refused.err(), Some(Error::OutsideSet { range: outside }));
            }
        });
    }
}

#[test]
fn every_policy_hands_out_everything_once_and_says_exhausted_then() {
    for policy in [
        Policy::Lowest,
        Policy::Next,
        Policy::PreserveNarrow,
        Policy::Spread,
    ] {
        each(policy, range(0, 700), &[], |set| {
            let near = |cpu: u32| set.alloc_near(cpu, set.range(), 0);
            let owned: Vec<_> = (0..701).map(|cpu| near(cpu).unwrap()).collect();
            let mut numbers: Vec<u32> = owned.iter().map(|owned| owned.pasid().get()).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..=700).collect::<Vec<u32>>());
            let range = set.range();
            assert_eq!(near(1).err(), Some(Error::Exhausted { range }));
            let mut owned = owned.into_iter();
            let freed = owned.next_back().unwrap().pasid();
            assert_eq!(near(2).unwrap().pasid(), freed);
        });
    }
}

#[test]
fn every_policy_steps_over_what_others_hold() {
    for policy in [
        Policy::Lowest,
        Policy::Next,
        Policy::PreserveNarrow,
        Policy::Spread,
    ] {
        let space = Space::new(SpaceKind::Both);
        let tables: Vec<Table> = (0..2).map(|_| table(&space, 10)).collect();
        let (users, drivers) = (global(&space), local(&space, &tables[0]));
        let grouped = group(&space, &tables);
        let _held: Vec<_> = (0..1_024)
            .filter(|number| number % 4 != 0)
            .map(|number| match number % 4 {
                1 => take(&users, number),
                2 => take(&drivers, number),
                _ => take(&grouped, number),
            })
            .map(Result::unwrap)
            .collect();
        let config = SetConfig::new(Scope::Local(&tables[0])).policy(policy);
        let mine = space.add_set(config).unwrap();
        let owned: Vec<_> = std::iter::from_fn(|| any(&mine).ok()).collect();
        assert_eq!(owned.len(), 255, "{policy:?}");
        assert!(owned.iter().all(|owned| owned.pasid().get() % 4 == 0));
        // On the other table what the first one's driver has is free.
        let config = SetConfig::new(Scope::Local(&tables[1])).policy(policy);
        let other = space.add_set(config).unwrap();
        assert_eq!(
            std::iter::from_fn(|| any(&other).ok())
                .collect::<Vec<_>>()
                .len(),
            511
        );
    }
}
