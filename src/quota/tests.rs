// SPDX-License-Identifier: MIT OR Apache-2.0
//! Quotas and capacities on one thread and on real threads.

use super::*;
use std::thread;

/// One round of the lower bits of the allocations.
const ROUND: u64 = 1 << FIELD_BITS;

fn set(quota: &Quota, credits: u64, rounds: u64) {
    // Relaxed: one thread.
    quota.word.store(credits, Ordering::Relaxed);
    // Relaxed: as above.
    quota.rounds.store(rounds, Ordering::Relaxed);
}

fn rounds(quota: &Quota) -> u64 {
    // Relaxed: one thread, or after the others are joined.
    quota.rounds.load(Ordering::Relaxed)
}

#[test]
fn credits_end_at_the_limit_and_come_back() {
    let quota = Quota::new(2);
    assert_eq!((quota.take(), quota.take()), (Ok(()), Ok(())));
    assert_eq!(quota.take(), Err(2));
    assert_eq!((quota.give_back(), quota.take()), (1, Ok(())));
    assert_eq!((quota.give_back(), quota.give_back()), (1, 0));
    assert_eq!((quota.used(), quota.limit()), (0, 2));
    assert_eq!((quota.allocations(), quota.high_water()), (3, 2));
}

#[test]
fn zero_means_zero() {
    let quota = Quota::new(0);
    assert_eq!(quota.take(), Err(0));
    assert_eq!(quota.take_many(0), Ok(()));
    assert_eq!((quota.allocations(), quota.high_water()), (0, 0));
}

#[test]
fn many_are_taken_whole_or_not_at_all() {
    let quota = Quota::new(5);
    assert_eq!(quota.take_many(4), Ok(()));
    assert_eq!(quota.take_many(2), Err(5));
    assert_eq!(quota.take_many(u32::MAX), Err(5));
    assert_eq!((quota.used(), quota.allocations()), (4, 4));
    assert_eq!(quota.give_back_many(3), 1);
    let full = Quota::new(u32::MAX);
    assert_eq!(full.limit(), LIMIT_LAST);
    assert_eq!(full.take_many(LIMIT_LAST), Ok(()));
    assert_eq!(full.take(), Err(LIMIT_LAST));
    assert_eq!((full.used(), full.high_water()), (LIMIT_LAST, LIMIT_LAST));
    assert_eq!(full.allocations(), u64::from(LIMIT_LAST));
    assert_eq!(full.give_back_many(LIMIT_LAST), 0);
}

#[test]
fn a_limit_is_never_below_what_is_in_use() {
    let quota = Quota::new(3);
    assert_eq!(quota.take_many(2), Ok(()));
    assert_eq!(quota.adjust(1), Err(2));
    assert_eq!((quota.adjust(2), quota.take()), (Ok(3), Err(2)));
    assert_eq!((quota.adjust(u32::MAX), quota.limit()), (Ok(2), LIMIT_LAST));
    assert_eq!((quota.used(), quota.allocations()), (2, 2));
    assert_eq!(quota.give_back_many(2), 0);
    assert_eq!((quota.adjust(0), quota.take()), (Ok(LIMIT_LAST), Err(0)));
}

#[test]
fn what_is_withdrawn_was_no_allocation() {
    let quota = Quota::new(2);
    assert_eq!(quota.take_many(2), Ok(()));
    assert_eq!(quota.withdraw(), 1);
    assert_eq!((quota.allocations(), quota.used()), (1, 1));
    assert_eq!(quota.give_back(), 0);
    assert_eq!(quota.allocations(), 1);
}

#[test]
fn rounds_of_the_count_lose_nothing() {
    let quota = Quota::new(LIMIT_LAST);
    let mut expected = 0;
    for count in [LIMIT_LAST, 1, 7, LIMIT_LAST, LIMIT_LAST, 12, LIMIT_LAST] {
        assert_eq!(quota.take_many(count), Ok(()));
        assert_eq!(quota.give_back_many(count), 0);
        expected += u64::from(count);
        assert_eq!(quota.allocations(), expected);
        assert_eq!(rounds(&quota), expected / ROUND);
    }
}

#[test]
fn a_round_that_is_not_counted_yet_is_seen_and_counted_by_the_next() {
    let quota = Quota::new(0);
    let limit = u64::from(LIMIT_LAST);
    let round = 1 << ROUND_SHIFT;
    // A thread has made the third round and stands before it counts it.
    set(&quota, round | 5 << ALLOCATIONS_SHIFT | limit, 2);
    assert_eq!(quota.allocations(), 3 * ROUND + 5);
    assert_eq!((quota.take(), rounds(&quota)), (Ok(()), 2));
    assert_eq!(quota.allocations(), 3 * ROUND + 6);
    // The next round counts both.
    set(&quota, round | FIELD << ALLOCATIONS_SHIFT | limit, 2);
    assert_eq!((quota.take(), rounds(&quota)), (Ok(()), 4));
    assert_eq!(quota.allocations(), 4 * ROUND);
    // The one who stood there goes on, and counts nothing twice.
    quota.settle_round();
    assert_eq!(quota.allocations(), 4 * ROUND);
}

#[test]
fn threads_never_exceed_the_limit_and_lose_no_credit() {
    const THREADS: u64 = 4;
    const TIMES: u64 = 20_000;
    let quota = Quota::new(3);
    // So that rounds are made while it runs.
    set(&quota, (FIELD - 1_000) << ALLOCATIONS_SHIFT | 3, 0);
    let taken: u64 = thread::scope(|scope| {
        let works: std::vec::Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut taken = 0;
                    let mut last = 0;
                    for _ in 0..TIMES {
                        match quota.take() {
                            Ok(()) => {
                                taken += 1;
                                assert!(quota.used() <= 3);
                                quota.give_back();
                            }
                            Err(limit) => assert_eq!(limit, 3),
                        }
                        let now = quota.allocations();
                        assert!(now >= last, "a round was torn");
                        last = now;
                    }
                    taken
                })
            })
            .collect();
        works.into_iter().map(|work| work.join().unwrap()).sum()
    });
    assert_eq!((quota.used(), quota.limit()), (0, 3));
    assert_eq!(quota.allocations(), FIELD - 1_000 + taken);
    assert!((1..=3).contains(&quota.high_water()));
}

#[test]
fn rounds_beside_each_other_are_counted_once() {
    let quota = Quota::new(LIMIT_LAST);
    let batch = LIMIT_LAST / 4;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut last = 0;
                for _ in 0..4_000 {
                    quota.take_many(batch).unwrap();
                    let now = quota.allocations();
                    assert!(now > last, "a round was torn");
                    last = now;
                    quota.give_back_many(batch);
                }
            });
        }
    });
    assert_eq!(quota.allocations(), 16_000 * u64::from(batch));
    assert_eq!(rounds(&quota), quota.allocations() / ROUND);
}

#[test]
fn a_limit_adjusted_beside_takers_holds() {
    let quota = Quota::new(1);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20_000 {
                if let Ok(old) = quota.adjust(0) {
                    assert_eq!(old, 1);
                    assert_eq!(quota.used(), 0, "a credit above the limit");
                    assert_eq!(quota.adjust(1), Ok(0));
                }
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if quota.take().is_ok() {
                        quota.give_back();
                    }
                }
            });
        }
    });
    assert_eq!((quota.used(), quota.limit()), (0, 1));
}

#[test]
fn a_capacity_is_reserved_and_given_back() {
    let capacity = Capacity::new(10);
    assert_eq!((capacity.reserve(7), capacity.reserve(4)), (Ok(()), Err(3)));
    capacity.give_back(7);
    assert_eq!(capacity.reserved_of(), (0, 10));
    let capacity = Capacity::new(u32::MAX);
    assert_eq!(capacity.reserve(u32::MAX), Ok(()));
    assert_eq!(capacity.reserve(1), Err(0));
    assert_eq!(capacity.reserved_of(), (u32::MAX, u32::MAX));
    capacity.give_back(u32::MAX);
    assert_eq!(capacity.reserved_of(), (0, u32::MAX));
}
