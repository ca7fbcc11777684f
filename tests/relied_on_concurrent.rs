// SPDX-License-Identifier: MIT OR Apache-2.0
//! What users of existing allocators rely on, one test for each row of the
//! specification's list: the rows that need a plain model or several threads.

mod common;

use common::{alloc_raw, free_raw, owned_from, pasid, random, range, refused, width};
use pasid::{Error, Handle, IdSpace, Owned, Policy, Pool};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

// ---- Row 9 -------------------------------------------------------------------

const VALUES: u32 = 2_048;
const STEPS: u32 = 100_000;

/// 100,000 random steps on a space of 2048 values and on a plain map of what is
/// live, compared at every step. The words carry `mark`, by which a space would
/// show what leaked into it from another one.
fn steps_against_a_map(seed: u64, mark: u64) {
    let space = Arc::new(IdSpace::with_reserved(width(11), &[]));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut live: BTreeMap<u32, Owned<Arc<IdSpace>>> = BTreeMap::new();
    let mut free: BTreeSet<u32> = (0..VALUES).collect();
    for step in 0..STEPS {
        let (a, b) = (random.u32(..VALUES), random.u32(..VALUES));
        let (first, last) = (a.min(b), a.max(b));
        let request = range(first, last);
        let word = mark << 32 | u64::from(step);
        match random.u8(..8) {
            // As many allocations as frees, in phases that favour one of them.
            0..=3 if step / 5_000 % 2 == 0 || random.bool() => {
                let expected = free.range(first..=last).next().copied();
                let got = space.clone().alloc(request, word);
                match expected {
                    Some(number) => {
                        let owned = got.unwrap();
                        assert_eq!((owned.pasid(), owned.word()), (pasid(number), word));
                        assert!(live.insert(number, owned).is_none());
                        free.remove(&number);
                    }
                    None => assert_eq!(refused(got), Error::Exhausted { range: request }),
                }
            }
            0..=5 => {
                let Some((&number, _)) = live.range(a..).next() else {
                    continue;
                };
                let owned = live.remove(&number).expect("it was there");
                let handle = owned.handle();
                drop(owned);
                free.insert(number);
                assert_eq!(refused(space.clone().get(handle)), Error::Stale(handle));
            }
            6 => {
                let found = space.find(pasid(a));
                let expected = live.get(&a).map(|owned| (owned.handle(), owned.word()));
                assert_eq!(
                    found.map(|found| (found.handle, found.word)),
                    expected.ok_or(Error::NotFound(pasid(a)))
                );
            }
            _ => {
                let expected = live.range(first..=last).map(|(&number, _)| number);
                let found = space.iter(request).map(|found| {
                    assert_eq!(found.word >> 32, mark);
                    found.handle.pasid().get()
                });
                // The next few: at 2048 values all of them would be all the time.
                let (found, expected) = (found.take(8), expected.take(8));
                assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            }
        }
    }
    assert_eq!(space.count_live(space.range()) as usize, live.len());
    drop(live);
    assert!(!space.any_live(space.range()));
}

#[test]
fn row_9_2048_values_and_100_000_random_steps_do_as_a_plain_map_does() {
    let seed = random(0x9).u64(..);
    steps_against_a_map(seed, 0);
}

#[test]
fn row_9_twenty_threads_with_a_space_each_leak_nothing_into_each_other() {
    let mut random = random(0x9_0020);
    std::thread::scope(|scope| {
        for thread in 0..20 {
            let seed = random.u64(..);
            scope.spawn(move || steps_against_a_map(seed, thread));
        }
    });
}

// ---- Row 10 ------------------------------------------------------------------

const THREADS: u64 = 4;

/// Who has each PASID, in the test's own atomics. All accesses are relaxed: what
/// orders them must be the space.
struct Owners(Vec<AtomicU64>);

impl Owners {
    fn new(count: u32) -> Owners {
        Owners((0..count).map(|_| AtomicU64::new(0)).collect())
    }

    #[track_caller]
    fn enter(&self, handle: Handle, owner: u64) {
        let before = self.0[handle.pasid().get() as usize].swap(owner, Ordering::Relaxed);
        assert_eq!(before, 0, "{handle} was handed out twice");
    }

    #[track_caller]
    fn leave(&self, handle: Handle, owner: u64) {
        let before = self.0[handle.pasid().get() as usize].swap(0, Ordering::Relaxed);
        assert_eq!(before, owner, "{handle} was handed out twice");
    }
}

#[test]
fn row_10_no_pasid_is_handed_out_twice_to_threads_that_allocate_and_free() {
    for policy in [Policy::Lowest, Policy::Next] {
        // Fewer PASIDs than the threads want together, so that they contend.
        for count in [1, 5, 64, 300] {
            let space = IdSpace::new(width(20)).with_policy(policy);
            let request = range(1, count);
            let owners = Owners::new(count + 1);
            let allocated = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for thread in 1..=THREADS {
                    let (space, owners, allocated) = (&space, &owners, &allocated);
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(thread);
                        let mut mine = Vec::new();
                        for _ in 0..25_000 {
                            match alloc_raw(space, request.first().get(), request.last().get()) {
                                Ok(handle) => {
                                    assert!(request.contains(handle.pasid()));
                                    owners.enter(handle, thread);
                                    mine.push(handle);
                                    allocated.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(error) => {
                                    assert_eq!(error, Error::Exhausted { range: request });
                                }
                            }
                            if random.bool() && !mine.is_empty() {
                                let handle = mine.swap_remove(random.usize(..mine.len()));
                                owners.leave(handle, thread);
                                free_raw(space, handle).unwrap();
                            }
                        }
                        for handle in mine {
                            owners.leave(handle, thread);
                            free_raw(space, handle).unwrap();
                        }
                    });
                }
            });
            assert!(allocated.into_inner() > u64::from(count));
            assert!(!space.any_live(space.range()));
            let again: Vec<_> = (0..count)
                .map(|_| space.alloc(request, 0).unwrap())
                .collect();
            assert_eq!(
                refused(space.alloc(request, 0)),
                Error::Exhausted { range: request }
            );
            drop(again);
        }
    }
}

#[test]
fn row_10_the_free_may_come_from_another_thread() {
    let space = Arc::new(IdSpace::new(width(20)));
    let request = range(1, 100);
    let owners = Arc::new(Owners::new(101));
    // A ring: each thread frees what its neighbour allocated.
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..THREADS).map(|_| mpsc::sync_channel(20)).unzip();
    let freed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let neighbours = senders.into_iter().cycle().skip(1).take(THREADS as usize);
        for ((thread, receiver), sender) in (1..).zip(receivers).zip(neighbours) {
            let (space, owners, freed) = (space.clone(), owners.clone(), &freed);
            scope.spawn(move || {
                let free = |(owned, owner): (Owned<Arc<IdSpace>>, u64)| {
                    owners.leave(owned.handle(), owner);
                    drop(owned);
                    freed.fetch_add(1, Ordering::Relaxed);
                };
                for _ in 0..20_000 {
                    if let Ok(owned) = space.clone().alloc(request, 0) {
                        owners.enter(owned.handle(), thread);
                        // A full neighbour gets nothing: it frees its own.
                        if let Err(back) = sender.try_send((owned, thread)) {
                            let (mpsc::TrySendError::Full(own)
                            | mpsc::TrySendError::Disconnected(own)) = back;
                            free(own);
                        }
                    }
                    receiver.try_iter().take(2).for_each(free);
                }
                drop(sender);
                receiver.iter().for_each(free);
            });
        }
    });
    assert!(freed.into_inner() >= 20_000);
    assert!(!space.any_live(space.range()));
    assert_eq!(Arc::strong_count(&space), 1);
}

#[test]
fn row_10_writes_before_the_free_are_visible_to_the_next_owner() {
    /// What an owner keeps beside its PASID: all equal, or somebody saw a part of
    /// another's writes.
    struct Beside([AtomicU64; 4]);

    let space = IdSpace::new(width(20));
    let request = range(1, 3);
    let beside: Vec<Beside> = (0..4)
        .map(|_| Beside([const { AtomicU64::new(0) }; 4]))
        .collect();
    // How often each PASID was owned, by its owners' count, relaxed: an owner
    // that did not see the last one's writes loses counts.
    let turns = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..50_000 {
                    let Ok(owner) = space.alloc(request, 0) else {
                        std::thread::yield_now();
                        continue;
                    };
                    let own = &beside[owner.pasid().get() as usize].0;
                    let seen = own.each_ref().map(|one| one.load(Ordering::Relaxed));
                    assert_eq!(seen, [seen[0]; 4], "of {:?}", owner.handle());
                    for one in own {
                        // Not a fetch_add: it would find a lost write by itself.
                        one.store(seen[0] + 1, Ordering::Relaxed);
                    }
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let kept: u64 = beside
        .iter()
        .map(|own| own.0[3].load(Ordering::Relaxed))
        .sum();
    assert_eq!(kept, turns.into_inner());
    assert!(kept > 1_000);
}

#[test]
fn row_10_the_owner_s_word_is_the_owner_s_whoever_frees() {
    // The free comes from a thread that has only the raw word.
    let space = IdSpace::new(width(8));
    let (sender, receiver) = mpsc::sync_channel::<(u64, u64)>(8);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (raw, word) in receiver {
                let owned = owned_from(&space, raw);
                assert_eq!(owned.word(), word);
                assert_eq!(space.find(owned.pasid()).map(|found| found.word), Ok(word));
            }
        });
        for word in 0..100_000 {
            // 255 PASIDs, and at most ten are on their way.
            let owned = space.alloc(space.range(), word).unwrap();
            sender.send((owned.into_raw(), word)).unwrap();
        }
        drop(sender);
    });
    assert!(!space.any_live(space.range()));
}
