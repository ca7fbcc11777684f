// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real threads against a shadow of their own: unique ownership, references,
//! stale handles, look-ups and growth, until each contested outcome was met often
//! enough to count as tested.
//!
//! Built with `--cfg pasid_events`, which makes the crate count the races that it
//! lost; `cargo xtask stress` runs it. Everything is bounded by a number of
//! operations and nothing by time.
#![cfg(pasid_events)]

#[path = "../common/mod.rs"]
mod common;
mod shadow;
mod worker;

use pasid::events::count;
use pasid::{Error, Handle, IdSpace, Pasid, PasidRange, PasidWidth, Policy, Pool, events::Event};
use shadow::{Shadow, UNSET, check_word, word_of};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use worker::{Arena, Worker};

const THREADS: u32 = 8;
const STEPS: u32 = 50_000;
const POLICIES: [Policy; 2] = [Policy::Lowest, Policy::Next];

/// Each contested outcome must occur this often.
const OCCURRENCES: u64 = 1_000;

/// Rounds that are run in any case, and rounds after which an outcome that is
/// still rare counts as not met.
const CHURN_ROUNDS: std::ops::RangeInclusive<u32> = 10..=100;
const GROWTH_ROUNDS: std::ops::RangeInclusive<u32> = 50..=20_000;

fn range(first: u32, last: u32) -> PasidRange {
    PasidRange::try_from(first..=last).expect("not empty, and of 20 bits")
}

/// Fails unless every PASID of `request` can be had again, once.
fn check_nothing_is_lost(space: &IdSpace, request: PasidRange) {
    assert_eq!(space.count_live(space.range()), 0, "something is left live");
    let mut all: Vec<_> = (0..request.count())
        .map(|_| space.alloc(request, 0).expect("broken: a PASID was lost"))
        .collect();
    assert_eq!(
        space.alloc(request, 0).map(drop),
        Err(Error::Exhausted { range: request })
    );
    all.sort_by_key(|owned| owned.pasid());
    for (number, owned) in (request.first().get()..).zip(&all) {
        assert_eq!(owned.pasid().get(), number);
    }
    drop(all);
    assert!(!space.any_live(space.range()));
}

/// One space, churned by all threads. Returns how often `get` was refused and
/// how often the request was exhausted.
fn churn(seed: u64, policy: Policy, request: PasidRange, revoking: bool) -> (u64, u64) {
    let space = IdSpace::new(PasidWidth::MAX).with_policy(policy);
    space.preload(request).expect("a little memory");
    let arena = Arena {
        space: &space,
        request,
        shadow: Shadow::new(request.last().get() + 1),
        board: (0..16).map(|_| AtomicU64::new(0)).collect(),
        revoking,
        refused: AtomicU64::new(0),
        exhausted: AtomicU64::new(0),
    };
    // Together a little more than there is, so that it runs out now and then.
    let held_last = request.count() / THREADS + 2;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let arena = &arena;
            scope.spawn(move || {
                let seed = seed ^ u64::from(thread) << 56;
                Worker::new(arena, seed, held_last as usize).run(STEPS);
            });
        }
    });
    let (refused, exhausted) = (arena.refused.into_inner(), arena.exhausted.into_inner());
    check_nothing_is_lost(&space, request);
    (refused, exhausted)
}

/// A fresh space, in which all threads ask for memory in the same places at the
/// same time: each for a PASID of its own in every leaf.
fn grow_together(policy: Policy, leaves: u32) {
    let space = IdSpace::new(PasidWidth::MAX).with_policy(policy);
    let start = Barrier::new(THREADS as usize);
    let handles: Vec<Vec<Handle>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS)
            .map(|thread| {
                let (space, start) = (&space, &start);
                scope.spawn(move || {
                    start.wait();
                    (0..leaves)
                        .map(|leaf| {
                            let number = leaf * 256 + thread;
                            let owned = space
                                .alloc(range(number, number), UNSET)
                                .expect("broken: nobody else asks for it");
                            owned.replace(word_of(owned.handle()));
                            Handle::from_raw(owned.into_raw()).expect("the raw form of a handle")
                        })
                        .collect()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread of the round"))
            .collect()
    });
    // Whoever lost the race for a leaf is in the winner's.
    assert_eq!(space.count_live(space.range()), leaves * THREADS);
    for &handle in handles.iter().flatten() {
        let found = space.find(handle.pasid()).expect("broken: lost in growth");
        assert_eq!(found.handle, handle);
        check_word(handle, found.word);
        // SAFETY: the allocation that `into_raw` gave up.
        unsafe { space.free(handle) }.expect("the owner frees");
    }
    check_nothing_is_lost(&space, range(1, leaves * 256 - 1));
}

#[test]
fn contested_calls_keep_every_rule() {
    let (mut refused, mut exhausted) = (0, 0);
    let mut rounds = 0;
    while rounds < *CHURN_ROUNDS.end() {
        for policy in POLICIES {
            for (request, revoking) in [
                (range(1, 1), false),
                (range(1, 7), true),
                (range(30, 69), false),
                (range(200, 520), true),
                (range(1, 5_000), false),
            ] {
                let seed = u64::from(rounds) << 32 | u64::from(request.last().get());
                let met = churn(seed, policy, request, revoking);
                refused += met.0;
                exhausted += met.1;
            }
        }
        rounds += 1;
        let rarest = count(Event::BitLost).min(refused).min(exhausted);
        if rounds >= *CHURN_ROUNDS.start() && rarest >= OCCURRENCES {
            break;
        }
    }
    println!("rounds of churn       {rounds}");
    println!("lost race for a bit   {}", count(Event::BitLost));
    println!("get refused           {refused}");
    println!("exhausted             {exhausted}");
    println!("scan repeated         {}", count(Event::ScanRepeated));
    assert!(count(Event::BitLost) >= OCCURRENCES, "races for a bit");
    assert!(refused >= OCCURRENCES, "gets refused");
    assert!(exhausted >= OCCURRENCES, "exhausted");
}

#[test]
fn contested_growth_keeps_every_rule() {
    let mut rounds = 0;
    while rounds < *GROWTH_ROUNDS.end() {
        for policy in POLICIES {
            for leaves in [1, 2, 65, 200] {
                grow_together(policy, leaves);
            }
        }
        rounds += 1;
        if rounds >= *GROWTH_ROUNDS.start() && count(Event::GrowthLost) >= OCCURRENCES {
            break;
        }
    }
    println!("rounds of growth      {rounds}");
    println!("growth lost           {}", count(Event::GrowthLost));
    assert!(count(Event::GrowthLost) >= OCCURRENCES, "races of growth");
}

/// Never more held than there is, at any instant, and so never *exhausted*.
#[test]
fn exhausted_is_not_said_while_a_pasid_is_free() {
    for policy in POLICIES {
        for each in [1, 2, 5, 40, 700] {
            // At most `each` a thread, and never all of them while one asks.
            let request = range(1, THREADS * each);
            let space = IdSpace::new(PasidWidth::MAX).with_policy(policy);
            let asked = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (space, asked) = (&space, &asked);
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(thread.into());
                        let mut mine = Vec::new();
                        for _ in 0..100_000 {
                            if mine.len() == each as usize {
                                drop(mine.swap_remove(random.usize(..mine.len())));
                            }
                            let owned = space.alloc(request, 0);
                            mine.push(owned.expect("broken: one was free all the time"));
                        }
                        asked.fetch_add(mine.len() as u64, Ordering::Relaxed);
                    });
                }
            });
            assert_eq!(asked.into_inner(), u64::from(THREADS * each));
            check_nothing_is_lost(&space, request);
        }
    }
}

/// The same with the least that can be free, which jumps past the searcher.
#[test]
fn exhausted_is_not_said_while_the_free_one_moves() {
    for policy in POLICIES {
        for count in [33, 64, 257, 3_000] {
            common::moving::ask_while_the_free_one_moves(policy, count, 1_000_000);
        }
    }
}

/// Counts a thread as done however it ends.
struct Done<'a>(&'a AtomicU64);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Look-ups beside an owner who changes the word under them.
#[test]
fn a_look_up_never_pairs_a_handle_with_another_allocation_s_word() {
    const OWNERS_SEEN: u32 = 20_000;
    const LOOKS_LAST: u32 = 50_000_000;
    let space = IdSpace::new(PasidWidth::MAX);
    let only = Pasid::new(1).expect("of 20 bits");
    let (seen, done) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(|| {
                let _done = Done(&done);
                let (mut last, mut owners) = (None, 0);
                for look in 0..LOOKS_LAST {
                    if look % 256 == 0 {
                        // The owner may be waiting for this very CPU.
                        std::thread::yield_now();
                    }
                    let Ok(one) = space.find(only) else {
                        continue;
                    };
                    check_word(one.handle, one.word);
                    owners += u32::from(last.replace(one.handle) != Some(one.handle));
                    if owners == OWNERS_SEEN {
                        break;
                    }
                }
                seen.fetch_add(owners.into(), Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            while done.load(Ordering::Relaxed) < u64::from(THREADS - 1) {
                let owned = space
                    .alloc(only.into(), UNSET)
                    .expect("it is this thread's");
                owned.replace(word_of(owned.handle()));
                let reference = owned.get().expect("nobody revokes");
                drop(owned);
                drop(reference);
            }
        });
    });
    println!("owners seen           {}", seen.load(Ordering::Relaxed));
    assert!(seen.into_inner() >= OCCURRENCES);
}

/// Each word that was put there comes back once, from whoever replaced it.
#[test]
fn a_replaced_word_is_returned_once() {
    const REPLACED: u64 = 500_000;
    let space = IdSpace::new(PasidWidth::MAX);
    let owned = space.alloc(space.range(), 0).expect("an empty space");
    // Sums of all words put and of all words returned.
    let (put, returned) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 1..=u64::from(THREADS) {
            let reference = owned.get().expect("nobody revokes");
            let (put, returned) = (&put, &returned);
            scope.spawn(move || {
                let (mut mine, mut others) = (0_u64, 0_u64);
                for word in (0..REPLACED).map(|count| count * u64::from(THREADS) + thread) {
                    mine = mine.wrapping_add(word);
                    others = others.wrapping_add(reference.replace(word));
                }
                put.fetch_add(mine, Ordering::Relaxed);
                returned.fetch_add(others, Ordering::Relaxed);
            });
        }
    });
    let returned = returned.into_inner().wrapping_add(owned.word());
    assert_eq!(returned, put.into_inner(), "broken: a word was lost");
}
