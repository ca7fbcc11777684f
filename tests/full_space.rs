// SPDX-License-Identifier: MIT OR Apache-2.0
//! A space of 20 bits, filled to the last PASID.

mod common;

use common::{alloc_raw, free_raw, handle, pasid, put_raw, random, refused, snapshot, tag};
use pasid::{Error, Handle, IdSpace, PasidWidth, Policy, Pool};
use std::collections::BTreeSet;
use std::sync::{Barrier, Mutex};

/// PASID 0 is reserved.
const ALLOCATABLE: usize = (1 << 20) - 1;

fn exhausted(space: &IdSpace) -> Error {
    Error::Exhausted {
        range: space.range(),
    }
}

/// Allocates until there is nothing left, each with its own number as word.
fn fill(space: &IdSpace) -> Vec<Handle> {
    let mut handles = Vec::with_capacity(ALLOCATABLE);
    loop {
        match space.alloc(space.range(), 0) {
            Ok(owned) => {
                owned.replace(owned.pasid().get().into());
                handles.push(handle(owned.into_raw()));
            }
            Err(error) => {
                assert_eq!(error, exhausted(space));
                return handles;
            }
        }
    }
}

fn full(policy: Policy) -> (IdSpace, Vec<Handle>) {
    let space = IdSpace::new(PasidWidth::MAX).with_policy(policy);
    let handles = fill(&space);
    assert_eq!(handles.len(), ALLOCATABLE);
    (space, handles)
}

#[test]
fn allocation_1_048_575_succeeds_and_the_next_is_exhausted() {
    for policy in [Policy::Lowest, Policy::Next] {
        let (space, handles) = full(policy);
        for (number, handle) in (1..).zip(&handles) {
            assert_eq!(handle.pasid(), pasid(number));
        }
        for _ in 0..3 {
            assert_eq!(refused(space.alloc(space.range(), 0)), exhausted(&space));
            assert_eq!(
                refused(space.alloc_in_place(space.range(), 0)),
                exhausted(&space)
            );
        }
        // One that comes free is the one that is handed out next.
        for index in [0, 1, 77_777, ALLOCATABLE - 1] {
            free_raw(&space, handles[index]).unwrap();
            let again = alloc_raw(&space, 0, 0xf_ffff).unwrap();
            assert_eq!(again.pasid(), handles[index].pasid());
            assert_ne!(again, handles[index]);
            assert_eq!(refused(space.alloc(space.range(), 0)), exhausted(&space));
        }
    }
}

#[test]
fn two_threads_racing_for_the_last_few_get_exactly_those() {
    const ROUNDS: usize = 200;
    for policy in [Policy::Lowest, Policy::Next] {
        let (space, mut handles) = full(policy);
        let mut random = random(0x2_7ead_5000 + policy as u64);
        let (start, stop) = (Barrier::new(3), Barrier::new(3));
        let taken = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        start.wait();
                        let mine = fill(&space);
                        taken.lock().unwrap().extend(mine);
                        stop.wait();
                    }
                });
            }
            for round in 0..ROUNDS {
                let few = round % 9;
                let mut freed = BTreeSet::new();
                for _ in 0..few {
                    let handle = handles.swap_remove(random.usize(..handles.len()));
                    free_raw(&space, handle).unwrap();
                    freed.insert(handle.pasid());
                }
                start.wait();
                stop.wait();
                let got: Vec<Handle> = taken.lock().unwrap().drain(..).collect();
                assert_eq!(got.len(), few, "round {round}");
                let numbers: BTreeSet<_> = got.iter().map(|handle| handle.pasid()).collect();
                assert_eq!(numbers, freed, "round {round}");
                handles.extend(got);
            }
        });
        assert_eq!(space.count_live(space.range()) as usize, ALLOCATABLE);
    }
}

#[test]
fn nothing_is_lost_after_a_million_random_frees() {
    for policy in [Policy::Lowest, Policy::Next] {
        let (space, mut handles) = full(policy);
        let mut random = random(0xf4ee_0000 + policy as u64);
        let mut freed = 0;
        // Bursts, so that marks over leaves and nodes come and go at every depth.
        while freed < 1_000_000 {
            let burst = 1 << random.u32(..=16);
            for _ in 0..burst {
                let handle = handles.swap_remove(random.usize(..handles.len()));
                free_raw(&space, handle).unwrap();
            }
            freed += burst;
            let again = fill(&space);
            assert_eq!(again.len(), burst);
            handles.extend(again);
        }
        let all: BTreeSet<_> = handles.iter().map(|handle| handle.pasid()).collect();
        assert_eq!(all.len(), ALLOCATABLE);
        assert!(!all.contains(&pasid(0)));
        random.shuffle(&mut handles);
        for handle in handles {
            free_raw(&space, handle).unwrap();
        }
        assert_eq!(snapshot(&space), []);
        assert_eq!(fill(&space).len(), ALLOCATABLE);
    }
}

/// Every call by handle, of which each must say *stale*.
#[track_caller]
fn use_in_vain(space: &IdSpace, handle: Handle) {
    let stale = Err(Error::Stale(handle));
    assert_eq!(space.get(handle).map(drop), stale);
    assert_eq!(put_raw(space, handle), stale);
    assert_eq!(free_raw(space, handle), stale);
    assert_eq!(space.revoke(handle), stale);
}

#[test]
fn a_million_stale_and_foreign_calls_change_nothing() {
    let (space, old) = full(Policy::Lowest);
    for &handle in &old {
        free_raw(&space, handle).unwrap();
    }
    let live = fill(&space);
    let (other, foreign) = full(Policy::Lowest);
    assert_ne!(tag(live[0]), tag(foreign[0]));

    let (before, before_other) = (snapshot(&space), snapshot(&other));
    assert_eq!(before.len(), ALLOCATABLE);
    for &handle in old.iter().chain(&foreign) {
        use_in_vain(&space, handle);
    }
    let mut random = random(0x57a1e);
    for _ in 0..1_000_000 {
        // Noise: not one of the live handles of this space, whose generations
        // are all 1.
        let made_up = random.u64(..) | 0x1 << 20;
        let generation = made_up >> 32;
        if generation != 1 {
            use_in_vain(&space, handle(made_up));
        }
    }
    assert_eq!(snapshot(&space), before);
    assert_eq!(snapshot(&other), before_other);
    assert_eq!(refused(space.alloc(space.range(), 0)), exhausted(&space));
    // No reference was added or taken either: one free each ends them all.
    for &handle in &live {
        assert_eq!(free_raw(&space, handle), Ok(()));
    }
    assert_eq!(snapshot(&space), []);
}
