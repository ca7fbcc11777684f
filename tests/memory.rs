// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory a space takes, by the allocator's own count, and what
//! `shrink` gives back.

mod common;

use common::allocator::{Instrumented, counted};
use common::{alloc, alloc_raw, free_raw, owned_from, pasid, range, refused, snapshot};
use pasid::{Error, Handle, IdSpace, PasidWidth, Pool};
use std::sync::Barrier;

#[global_allocator]
static ALLOCATOR: Instrumented = Instrumented;

const ALL: u32 = 1 << 20;

/// What `space` itself takes and what the allocator gave out for it since it was
/// new: the whole of its memory.
fn bytes(space: &IdSpace, grown: i64) -> i64 {
    let whole = size_of::<IdSpace>() as i64 + grown;
    assert_eq!(space.memory_bytes() as i64, whole, "memory_bytes is honest");
    whole
}

/// Allocates everything and keeps the handles.
fn fill(space: &IdSpace, handles: &mut Vec<Handle>) {
    let before = handles.len();
    while let Ok(owned) = space.alloc(space.range(), 0) {
        handles.push(common::handle(owned.into_raw()));
    }
    assert_eq!(handles.len() - before, ALL as usize - 1);
}

#[test]
fn an_empty_20_bit_space_takes_at_most_1_kib() {
    let (space, asked) = counted(|| IdSpace::new(PasidWidth::MAX));
    assert_eq!((asked.allocated, asked.live_bytes), (0, 0));
    assert!(bytes(&space, 0) <= 1024);
    // Looking does not make it grow.
    let ((), asked) = counted(|| {
        assert!(!space.any_live(space.range()));
        assert!(space.find(pasid(5)).is_err());
        assert!(space.alloc_in_place(space.range(), 0).is_err());
        assert!(space.alloc_at(pasid(5), 0).is_err());
    });
    assert_eq!((asked.allocated, asked.live_bytes), (0, 0));
}

#[test]
fn a_dense_space_takes_at_most_18_bytes_a_live_pasid() {
    let space = IdSpace::new(PasidWidth::MAX);
    let mut handles = Vec::with_capacity(ALL as usize);
    let ((), asked) = counted(|| fill(&space, &mut handles));
    let bytes = bytes(&space, asked.live_bytes);
    let live = i64::from(space.count_live(space.range()));
    println!("{bytes} bytes for {live} live PASIDs");
    assert!(bytes <= 18 * live);
    // Whoever has preloaded it all takes no more.
    let preloaded = IdSpace::new(PasidWidth::MAX);
    let (added, asked) = counted(|| preloaded.preload(preloaded.range()));
    assert_eq!(added.map(|added| added as i64), Ok(asked.live_bytes));
    assert!((16 << 20..=18 << 20).contains(&asked.live_bytes));
    assert_eq!(preloaded.preload(preloaded.range()), Ok(0));
    assert_eq!(preloaded.memory_bytes() as i64, bytes);
}

#[test]
fn a_dropped_space_leaves_no_memory_behind() {
    let mut handles = Vec::with_capacity(ALL as usize);
    let ((), asked) = counted(|| {
        let space = IdSpace::new(PasidWidth::MAX);
        fill(&space, &mut handles);
        // Live PASIDs do not keep it.
        drop(space);
    });
    assert!(asked.allocated > 4096);
    assert_eq!(asked.allocated, asked.freed);
    assert_eq!(asked.live_bytes, 0);
}

#[test]
fn what_loses_a_race_of_growth_is_given_back() {
    for _ in 0..20 {
        let space = IdSpace::new(PasidWidth::MAX);
        let start = Barrier::new(4);
        let grown: i64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=4)
                .map(|thread| {
                    let (space, start) = (&space, &start);
                    scope.spawn(move || {
                        start.wait();
                        let ((), asked) = counted(|| {
                            for leaf in 0..200 {
                                let number = leaf * 256 + thread;
                                alloc_raw(space, number, number).unwrap();
                            }
                        });
                        asked.live_bytes
                    })
                })
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        // All threads together keep as much as the space knows of.
        bytes(&space, grown);
        let ((), asked) = counted(|| drop(space));
        assert_eq!(asked.live_bytes, -grown);
    }
}

#[test]
fn after_a_burst_and_shrink_at_most_2_kib_are_left_and_stale_stays_stale() {
    let mut space = IdSpace::new(PasidWidth::MAX);
    let mut first = Vec::with_capacity(ALL as usize);
    let mut second = Vec::with_capacity(ALL as usize);
    let ((), asked) = counted(|| {
        fill(&space, &mut first);
        for &handle in &first {
            free_raw(&space, handle).unwrap();
        }
        let before = space.memory_bytes();
        let given_back = space.shrink();
        assert_eq!(before - given_back, space.memory_bytes());
        assert_eq!(space.shrink(), 0, "there is nothing more to give back");
    });
    let bytes = bytes(&space, asked.live_bytes);
    println!("{bytes} bytes after a burst of {} and shrink", first.len());
    assert!(bytes <= 2048);

    // Stale without memory, and stale again when every PASID has a new owner.
    let all_stale = |space: &IdSpace| {
        first.iter().all(|&handle| {
            let stale = Some(Error::Stale(handle));
            space.get(handle).err() == stale
                && space.revoke(handle).err() == stale
                && free_raw(space, handle).err() == stale
                && common::put_raw(space, handle).err() == stale
        })
    };
    assert!(all_stale(&space));
    fill(&space, &mut second);
    let live = snapshot(&space);
    assert!(all_stale(&space));
    assert_eq!(snapshot(&space), live);
    for (old, new) in first.iter().zip(&second) {
        assert_eq!(old.pasid(), new.pasid());
        assert_ne!(old, new);
    }
}

#[test]
fn shrink_keeps_what_is_held_with_its_word_and_references() {
    let mut space = IdSpace::new(PasidWidth::MAX);
    let numbers = [1, 255, 300, 16_384, 0xf_ffff];
    let owners = numbers.map(|number| {
        let owned = space.alloc(pasid(number).into(), number.into()).unwrap();
        owned.into_raw()
    });
    let being_freed = {
        let owned = alloc(&space, 5_000, 5_000).unwrap();
        owned.get().unwrap().into_raw()
    };
    space.reserve(pasid(9_000)).unwrap();
    let passing = alloc_raw(&space, 40_000, 40_000).unwrap();
    free_raw(&space, passing).unwrap();

    let before = snapshot(&space);
    assert!(space.shrink() > 0);
    assert_eq!(snapshot(&space), before);
    assert_eq!(
        space.find(pasid(5_000)),
        Err(Error::BeingFreed(pasid(5_000)))
    );
    assert_eq!(
        refused(alloc(&space, 5_000, 5_000)),
        Error::Exhausted {
            range: range(5_000, 5_000)
        }
    );
    assert_eq!(
        refused(space.alloc_at(pasid(9_000), 0)),
        Error::Reserved(pasid(9_000))
    );
    drop(common::ref_from(&space, being_freed));
    for (number, raw) in numbers.into_iter().zip(owners) {
        let owned = owned_from(&space, raw);
        assert_eq!(
            (owned.pasid(), owned.word()),
            (pasid(number), number.into())
        );
    }
    assert_eq!(snapshot(&space), []);
}

/// The bits of such a leaf are those of a new one, and yet it is not new.
#[test]
fn shrink_keeps_a_live_pasid_whose_reservation_was_taken_away() {
    let mut space = IdSpace::new(PasidWidth::MAX);
    space.unreserve(pasid(0)).unwrap();
    let owner = space.alloc_at(pasid(0), 7).unwrap().into_raw();
    let before = snapshot(&space);
    assert_eq!(before.len(), 1);
    space.shrink();
    assert_eq!(snapshot(&space), before);
    let owned = owned_from(&space, owner);
    assert_eq!(
        (owned.word(), space.find(pasid(0)).map(|found| found.word)),
        (7, Ok(7))
    );
}

#[test]
fn shrink_keeps_a_reservation_that_was_taken_away_and_one_that_was_added() {
    let mut space = IdSpace::new(PasidWidth::MAX);
    space.unreserve(pasid(0)).unwrap();
    space.reserve(pasid(300)).unwrap();
    space.shrink();
    assert_eq!(alloc(&space, 0, 0xf_ffff).unwrap().pasid(), pasid(0));
    assert_eq!(
        refused(space.reserve(pasid(300))),
        Error::Reserved(pasid(300))
    );
    // Back to the list that it was built with, it gives all memory back.
    space.reserve(pasid(0)).unwrap();
    space.unreserve(pasid(300)).unwrap();
    assert!(space.shrink() > 0);
    assert_eq!(space.memory_bytes(), size_of::<IdSpace>());
    assert_eq!(refused(space.reserve(pasid(0))), Error::Reserved(pasid(0)));
}
