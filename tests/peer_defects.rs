// SPDX-License-Identifier: MIT OR Apache-2.0
//! Defects that were met in other allocators of numbers, each as a test that
//! this one must pass. (A reference count that overflows into a flag is in
//! tests/references.rs, because it takes a program of its own.)

mod common;

use common::{alloc, alloc_raw, bare, free_raw, pasid, random, range, refused, snapshot};
use common::{with_generation, with_pasid};
use pasid::{Error, IdSpace, Policy, Pool};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

const POLICIES: [Policy; 2] = [Policy::Lowest, Policy::Next];

#[test]
fn a_space_with_a_hundred_free_is_not_full() {
    const FREE: usize = 100;
    for policy in POLICIES {
        let space = bare(16).with_policy(policy);
        let mut random = random(0x100_f4ee + policy as u64);
        let mut handles: Vec<_> = (0..1 << 16)
            .map(|_| alloc_raw(&space, 0, 0xf_ffff).unwrap())
            .collect();
        for round in 0..200 {
            // Asked while full, so that everything is marked so.
            assert!(space.alloc(space.range(), 0).is_err());
            for _ in 0..FREE {
                // Scattered, or side by side in one place.
                let index = match round % 2 {
                    0 => random.usize(..handles.len()),
                    _ => handles.len() - 1,
                };
                free_raw(&space, handles.swap_remove(index)).unwrap();
            }
            for _ in 0..FREE {
                handles.push(alloc_raw(&space, 0, 0xf_ffff).unwrap());
            }
            assert_eq!(
                refused(space.alloc(space.range(), 0)),
                Error::Exhausted {
                    range: space.range()
                }
            );
        }
    }
}

#[test]
fn a_free_pasid_that_moves_about_is_not_missed() {
    for policy in POLICIES {
        for count in [2, 33, 64, 257, 3_000, 40_000] {
            common::moving::ask_while_the_free_one_moves(policy, count, 30_000);
        }
    }
}

#[test]
fn a_pasid_freed_without_having_been_allocated_is_not_handed_out_twice() {
    for policy in POLICIES {
        let space = bare(10).with_policy(policy);
        // One of each leaf is live, so that the tree is there.
        let live: Vec<_> = (0..4)
            .map(|leaf| alloc(&space, leaf * 256, leaf * 256).unwrap())
            .collect();
        let before = snapshot(&space);
        for number in 0..1_024 {
            for generation in 0..3 {
                let made_up = with_generation(with_pasid(live[0].handle(), number), generation);
                if live.iter().all(|owned| owned.handle() != made_up) {
                    assert_eq!(free_raw(&space, made_up), Err(Error::Stale(made_up)));
                }
            }
        }
        assert_eq!(snapshot(&space), before);
        let mut seen: BTreeSet<_> = live.iter().map(|owned| owned.pasid()).collect();
        let rest: Vec<_> = (4..1_024)
            .map(|_| alloc(&space, 0, 1_023).unwrap())
            .collect();
        for owned in &rest {
            assert!(seen.insert(owned.pasid()), "{owned:?} was handed out twice");
        }
        assert_eq!(seen.len(), 1_024);
        assert!(alloc(&space, 0, 1_023).is_err());
        // And freed twice it is not handed out twice either.
        let twice = rest[0].handle();
        drop(rest);
        assert_eq!(free_raw(&space, twice), Err(Error::Stale(twice)));
        let again: BTreeSet<_> = (4..1_024)
            .map(|_| alloc_raw(&space, 0, 1_023).unwrap().pasid())
            .collect();
        assert_eq!(again.len(), 1_020);
    }
}

/// Take two, give back the first, take again, give back the others: the step that
/// makes a linked free list return what is in use, when another thread read its
/// head before.
#[test]
fn a_pasid_in_use_does_not_come_back_by_aba() {
    const THREADS: u32 = 4;
    for policy in POLICIES {
        // Enough for three each, and a few.
        for count in [3 * THREADS, 3 * THREADS + 30] {
            let space = bare(20).with_policy(policy);
            let users: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
            let user = |number: u32| &users[number as usize];
            std::thread::scope(|scope| {
                for thread in 1..=THREADS {
                    let (space, user) = (&space, &user);
                    scope.spawn(move || {
                        let enter = || {
                            let owned = alloc(space, 0, count - 1).expect("three are mine");
                            let before = user(owned.pasid().get()).swap(thread, Ordering::Relaxed);
                            assert_eq!(before, 0, "{owned:?} is in use");
                            owned
                        };
                        let leave = |owned: pasid::Owned<&IdSpace>| {
                            let before = user(owned.pasid().get()).swap(0, Ordering::Relaxed);
                            assert_eq!(before, thread, "{owned:?} was handed out again");
                        };
                        for _ in 0..30_000 {
                            let (a, b) = (enter(), enter());
                            leave(a);
                            let c = enter();
                            leave(b);
                            leave(c);
                        }
                    });
                }
            });
            assert_eq!(snapshot(&space), []);
            let all: Vec<_> = (0..count)
                .map(|_| alloc(&space, 0, count - 1).unwrap())
                .collect();
            assert!(alloc(&space, 0, count - 1).is_err());
            drop(all);
        }
    }
}

#[test]
fn nothing_breaks_one_short_of_the_capacity_or_at_it() {
    for policy in POLICIES {
        for bits in 1..=20 {
            let space = bare(bits).with_policy(policy);
            let count = space.width().count();
            let exhausted = Error::Exhausted {
                range: space.range(),
            };
            let mut handles: Vec<_> = (0..count - 1)
                .map(|_| alloc_raw(&space, 0, 0xf_ffff).unwrap())
                .collect();
            // In and out at the last one, which is the last of everything: of its
            // word, its leaf, its node and the space.
            for _ in 0..100 {
                let last = alloc(&space, 0, 0xf_ffff).unwrap();
                assert_eq!(last.pasid(), space.range().last());
                assert_eq!(refused(space.alloc(space.range(), 0)), exhausted);
                assert_eq!(refused(space.alloc_in_place(space.range(), 0)), exhausted);
            }
            assert_eq!(space.count_live(space.range()), count - 1);
            assert_eq!(space.iter(space.range()).count() as u32, count - 1);
            handles.push(alloc_raw(&space, 0, 0xf_ffff).unwrap());
            assert_eq!(space.count_live(space.range()), count);
            assert!(space.find(space.range().last()).is_ok());
            for handle in handles {
                free_raw(&space, handle).unwrap();
            }
            assert!(!space.any_live(space.range()));
        }
    }
}

/// Ranges that end one short of a word, a leaf and a node, and one after it.
#[test]
fn nothing_breaks_at_the_edges_of_words_leaves_and_nodes() {
    for policy in POLICIES {
        let space = bare(20).with_policy(policy);
        for edge in [32_u32, 256, 16_384, 1 << 20] {
            for last in [edge - 2, edge - 1, edge.min(0xf_ffff)] {
                for first in [last - 1, last, last.saturating_sub(40)] {
                    let owned: Vec<_> = (first..=last)
                        .map(|_| alloc(&space, first, last).unwrap())
                        .collect();
                    assert_eq!(
                        refused(alloc(&space, first, last)),
                        Error::Exhausted {
                            range: range(first, last)
                        }
                    );
                    let numbers: BTreeSet<_> = owned.iter().map(|one| one.pasid()).collect();
                    assert_eq!(numbers, (first..=last).map(pasid).collect());
                    assert_eq!(space.count_live(space.range()), last - first + 1);
                }
            }
        }
    }
}
