// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data calls neither allocate nor free memory.

mod common;

use common::allocator::{Instrumented, counted, without_allocator};
use common::{alloc, free_raw, handle, owned_from, pasid, put_raw, range, ref_from};
use pasid::{Error, IdSpace, Owned, PasidWidth, Policy, Pool, Ref};
use std::hint::black_box;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Instrumented = Instrumented;

/// PASIDs that have memory: 1 ..= 1023, of which 0 is reserved.
const LAST: u32 = 1_023;

fn space(policy: Policy) -> IdSpace {
    let space = IdSpace::new(PasidWidth::MAX).with_policy(policy);
    space.preload(range(0, LAST)).unwrap();
    space
}

#[test]
fn the_counting_allocator_counts() {
    let (boxed, asked) = counted(|| black_box(Box::new([0_u8; 48])));
    assert_eq!((asked.allocated, asked.freed, asked.live_bytes), (1, 0, 48));
    let ((), asked) = counted(|| drop(boxed));
    assert_eq!(
        (asked.allocated, asked.freed, asked.live_bytes),
        (0, 1, -48)
    );
    // And growth is seen: the first PASID costs a node and a leaf.
    let space = IdSpace::new(PasidWidth::MAX);
    let (owned, asked) = counted(|| space.alloc(space.range(), 0));
    assert!(owned.is_ok());
    assert_eq!((asked.allocated, asked.freed), (2, 0));
}

#[test]
fn allocating_and_dropping_owners_asks_nothing_of_the_allocator() {
    for policy in [Policy::Lowest, Policy::Next] {
        let space = space(policy);
        let grown = range(0, LAST);
        let mut owned = Vec::with_capacity(LAST as usize);
        for round in 0..10_000_u64 {
            owned.push(without_allocator("alloc_in_place", || {
                space.alloc_in_place(grown, round).unwrap()
            }));
            owned.push(without_allocator("alloc in a grown space", || {
                space.alloc(grown, round).unwrap()
            }));
            let at = pasid(LAST - (round % 500) as u32);
            if let Ok(got) = without_allocator("alloc_at", || space.alloc_at(at, round)) {
                owned.push(got);
            }
            if owned.len() >= 600 {
                without_allocator("drop of an Owned", || owned.clear());
            }
        }
        // Full, and beyond: the exact answers cost no memory either.
        while let Ok(got) = without_allocator("alloc_in_place", || space.alloc_in_place(grown, 0)) {
            owned.push(got);
        }
        assert_eq!(owned.len(), LAST as usize);
        let answer = without_allocator("alloc_in_place when full", || {
            space.alloc_in_place(grown, 0).map(drop)
        });
        assert_eq!(answer, Err(Error::Exhausted { range: grown }));
        let answer = without_allocator("alloc when full", || space.alloc(grown, 0).map(drop));
        assert_eq!(answer, Err(Error::Exhausted { range: grown }));
        let answer = without_allocator("alloc_at of one in use", || {
            space.alloc_at(pasid(5), 0).map(drop)
        });
        assert_eq!(answer, Err(Error::InUse(pasid(5))));
        let answer = without_allocator("alloc_in_place beyond the memory", || {
            space.alloc_in_place(space.range(), 0).map(drop)
        });
        assert_eq!(answer, Err(Error::OutOfMemory));
    }
}

#[test]
fn references_and_look_ups_ask_nothing_of_the_allocator() {
    let space = space(Policy::Lowest);
    let owned = alloc(&space, 0, LAST).unwrap();
    let (of, at) = (owned.handle(), owned.pasid());
    for word in 0..1_000 {
        let one = without_allocator("get", || space.get(of).unwrap());
        let two = without_allocator("get_at", || space.get_at(at).unwrap());
        let three = without_allocator("try_clone", || one.try_clone().unwrap());
        let four = without_allocator("get on an Owned", || owned.get().unwrap());
        without_allocator("replace", || three.replace(word));
        let found = without_allocator("find", || space.find(at).unwrap());
        assert_eq!((found.handle, found.word), (of, word));
        without_allocator("drop of a Ref", || drop((one, two, three, four)));
    }
    let missing = without_allocator("find of nothing", || space.find(pasid(0xf_ffff)));
    assert_eq!(missing, Err(Error::NotFound(pasid(0xf_ffff))));
    let listed = without_allocator("iter", || space.iter(space.range()).count());
    assert_eq!(listed, 1);
    assert!(without_allocator("any_live", || space.any_live(space.range())));
    let live = without_allocator("count_live", || space.count_live(space.range()));
    assert_eq!(live, 1);
    without_allocator("memory_bytes", || space.memory_bytes());
}

#[test]
fn calls_by_raw_handle_ask_nothing_of_the_allocator() {
    let space = space(Policy::Lowest);
    for _ in 0..1_000 {
        let raw = without_allocator("into_raw of an Owned", || {
            space.alloc_in_place(range(0, LAST), 0).unwrap().into_raw()
        });
        let of = handle(raw);
        let reference =
            without_allocator("into_raw of a Ref", || space.get(of).unwrap().into_raw());
        without_allocator("put", || put_raw(&space, handle(reference)).unwrap());
        let owned = without_allocator("from_raw of an Owned", || owned_from(&space, raw));
        let one = without_allocator("into_ref", || owned.into_ref());
        let raw = one.into_raw();
        drop(without_allocator("from_raw of a Ref", || {
            ref_from(&space, raw)
        }));
        let of = handle(space.alloc_in_place(range(0, LAST), 0).unwrap().into_raw());
        without_allocator("revoke", || space.revoke(of).unwrap());
        without_allocator("free", || free_raw(&space, of).unwrap());
        let stale = without_allocator("stale calls", || {
            [
                space.get(of).map(drop),
                space.revoke(of),
                put_raw(&space, of),
                free_raw(&space, of),
            ]
        });
        assert_eq!(stale, [Err(Error::Stale(of)); 4]);
    }
}

#[test]
fn a_shared_space_is_counted_by_its_arc_and_nothing_else() {
    let shared = Arc::new(space(Policy::Lowest));
    for _ in 0..1_000 {
        without_allocator("the life of a PASID in an Arc<IdSpace>", || {
            let owned: Owned<Arc<IdSpace>> = shared.clone().alloc(range(0, LAST), 0).unwrap();
            let one: Ref<Arc<IdSpace>> = owned.get().unwrap();
            let two = one.try_clone().unwrap();
            drop((owned, one));
            drop(two);
        });
    }
    assert_eq!(Arc::strong_count(&shared), 1);
}
