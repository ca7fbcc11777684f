// SPDX-License-Identifier: MIT OR Apache-2.0
//! What users of existing allocators rely on, one test for each row of the
//! specification's list: the rows that one thread shows.

mod common;

use common::{alloc, alloc_raw, bare, free_raw, handle, pasid, range, refused, snapshot, width};
use pasid::{Error, Handle, IdSpace, Owned, Policy, Pool};

const LEAF: u32 = 256;

#[test]
fn row_1_ten_thousand_allocations_are_consecutive_and_holes_are_filled_first() {
    let space = bare(20);
    let mut owned: Vec<_> = (0..10_000)
        .map(|_| space.alloc(space.range(), 0).unwrap())
        .collect();
    for (number, owned) in (0..).zip(&owned) {
        assert_eq!(owned.pasid(), pasid(number));
    }
    // The higher one is freed first: the order of freeing does not matter.
    drop(owned.remove(21));
    drop(owned.remove(20));
    let next: Vec<_> = (0..3)
        .map(|_| space.alloc(space.range(), 0).unwrap())
        .collect();
    let numbers: Vec<u32> = next.iter().map(|owned| owned.pasid().get()).collect();
    assert_eq!(numbers, [20, 21, 10_000]);
}

#[test]
fn row_2_min_is_honoured_though_lower_pasids_are_free() {
    for policy in [Policy::Lowest, Policy::Next] {
        let space = bare(20).with_policy(policy);
        let mut owned: Vec<Owned<&IdSpace>> = (0..10_000)
            .map(|_| space.alloc(space.range(), 0).unwrap())
            .collect();
        owned.drain(..5_000).for_each(drop);
        assert_eq!(space.count_live(range(0, 4_999)), 0);
        for _ in 0..100 {
            let above = alloc(&space, 5_000, 0xf_ffff).unwrap();
            assert!(above.pasid() >= pasid(5_000), "{policy:?}: {above:?}");
            owned.push(above);
        }
        assert_eq!(space.count_live(range(0, 4_999)), 0);
    }
}

#[test]
fn row_3_filling_and_freeing_one_leaf_leaves_the_space_as_when_empty() {
    let mut space = bare(20);
    let empty_bytes = space.memory_bytes();
    let mut leaf_bytes = None;
    for leaf in 0..(1 << 20) / LEAF {
        let (first, last) = (leaf * LEAF, leaf * LEAF + (LEAF - 1));
        let handles: Vec<Handle> = (0..LEAF)
            .map(|_| alloc_raw(&space, first, last).unwrap())
            .collect();
        assert_eq!(
            refused(alloc(&space, first, last)),
            Error::Exhausted {
                range: range(first, last)
            }
        );
        assert_eq!(space.count_live(space.range()), LEAF);
        for handle in handles {
            free_raw(&space, handle).unwrap();
        }
        assert_eq!(snapshot(&space), []);
        assert!(!space.any_live(space.range()));
        // Nothing hides the leaf from a search that comes from below it.
        let again = alloc_raw(&space, first, 0xf_ffff).unwrap();
        assert_eq!(again.pasid(), pasid(first));
        free_raw(&space, again).unwrap();
        let given_back = space.shrink();
        assert_eq!(space.memory_bytes(), empty_bytes);
        assert_eq!(*leaf_bytes.get_or_insert(given_back), given_back);
    }
}

#[test]
fn row_4_the_last_j_pasids_come_in_order_and_the_next_is_exhausted() {
    for policy in [Policy::Lowest, Policy::Next] {
        for j in (0..=16).map(|power| 1_u32 << power) {
            let space = bare(20).with_policy(policy);
            let first = (1 << 20) - j;
            let _below = alloc(&space, 0, first - 1).unwrap();
            for expected in first..1 << 20 {
                let got = alloc_raw(&space, first, 0xf_ffff).unwrap();
                assert_eq!(got.pasid(), pasid(expected), "{policy:?}, last {j}");
            }
            for _ in 0..2 {
                assert_eq!(
                    refused(alloc(&space, first, 0xf_ffff)),
                    Error::Exhausted {
                        range: range(first, 0xf_ffff)
                    }
                );
            }
            assert_eq!(space.count_live(range(0, first - 1)), 1);
        }
    }
}

/// Tries to free, in `space`, what was never allocated or is free again, at
/// `number`, under each generation that could be near.
fn free_in_vain(space: &IdSpace, like: Handle, number: u32) {
    let live = space.find(pasid(number)).map(|found| found.handle);
    for generation in [0, 1, 2, u32::MAX] {
        let made_up = common::with_generation(common::with_pasid(like, number), generation);
        if live == Ok(made_up) {
            continue;
        }
        assert_eq!(free_raw(space, made_up), Err(Error::Stale(made_up)));
        assert_eq!(common::put_raw(space, made_up), Err(Error::Stale(made_up)));
        assert_eq!(space.revoke(made_up), Err(Error::Stale(made_up)));
    }
}

#[test]
fn row_5_freeing_what_is_not_allocated_changes_nothing() {
    let numbers = [
        0, 1, 31, 32, 255, 256, 257, 16_383, 16_384, 0xf_fffe, 0xf_ffff,
    ];
    // An empty space, which has handed out no handle: every tag is tried.
    let empty = bare(20);
    for tag in 1..=0xfff {
        for number in numbers {
            free_in_vain(&empty, handle(tag << 20), number);
        }
    }
    assert_eq!(snapshot(&empty), []);
    assert_eq!(alloc(&empty, 0, 0xf_ffff).unwrap().pasid(), pasid(0));

    // A space in which one PASID is live.
    let single = bare(20);
    let one = alloc(&single, 256, 256).unwrap();
    let before = snapshot(&single);
    for number in numbers {
        free_in_vain(&single, one.handle(), number);
    }
    assert_eq!(snapshot(&single), before);
    assert_eq!(alloc(&single, 0, 0xf_ffff).unwrap().pasid(), pasid(0));

    // A full leaf.
    let full = bare(20);
    let owned: Vec<_> = (0..LEAF).map(|_| alloc(&full, 0, 255).unwrap()).collect();
    let before = snapshot(&full);
    for number in (0..LEAF).chain(numbers) {
        free_in_vain(&full, owned[0].handle(), number);
    }
    assert_eq!(snapshot(&full), before);
    assert!(matches!(
        refused(alloc(&full, 0, 255)),
        Error::Exhausted { .. }
    ));
}

#[test]
fn row_6_the_first_live_pasid_is_found_in_whatever_leaf_it_lies() {
    let space = bare(20);
    for number in [0, 255, 256, 511, 16_383, 16_384, 500_000, 0xf_ffff] {
        let owned = space.alloc(pasid(number).into(), number.into()).unwrap();
        for first in [0, number / 2, number] {
            let searched = range(first, 0xf_ffff);
            assert!(space.any_live(searched), "{number} from {first}");
            let found = space.iter(searched).next().expect("one is live");
            assert_eq!((found.handle, found.word), (owned.handle(), number.into()));
            assert_eq!(space.count_live(searched), 1);
        }
        if number > 0 {
            assert!(!space.any_live(range(0, number - 1)));
        }
        if number < 0xf_ffff {
            assert!(!space.any_live(range(number + 1, 0xf_ffff)));
        }
    }
    // Several, in a later leaf and in its middle: all, in order.
    let numbers = [700, 701, 1_000, 70_000, 0xf_ffff];
    let _owned = numbers.map(|number| alloc(&space, number, number).unwrap());
    let found: Vec<u32> = space
        .iter(space.range())
        .map(|found| found.handle.pasid().get())
        .collect();
    assert_eq!(found, numbers);
}

// Row 7, out of memory, needs an allocator of its own: tests/out_of_memory.rs.

#[test]
fn row_8_min_equal_to_max_allocates_exactly_that_pasid_and_then_is_exhausted() {
    for policy in [Policy::Lowest, Policy::Next] {
        let space = bare(20).with_policy(policy);
        for number in [0, 1, 255, 256, 77_777, 0xf_fffe, 0xf_ffff] {
            let only = range(number, number);
            let owned = space.alloc(only, 0).unwrap();
            assert_eq!(owned.pasid(), pasid(number));
            let exhausted = Error::Exhausted { range: only };
            assert_eq!(refused(space.alloc(only, 0)), exhausted);
            assert_eq!(refused(space.alloc_in_place(only, 0)), exhausted);
            let in_use = Error::InUse(pasid(number));
            assert_eq!(refused(space.alloc_at(pasid(number), 0)), in_use);
            // Also while it is being freed, and no longer than that.
            let reference = owned.get().unwrap();
            drop(owned);
            assert_eq!(refused(space.alloc(only, 0)), exhausted);
            assert_eq!(refused(space.alloc_at(pasid(number), 0)), in_use);
            drop(reference);
            assert_eq!(
                space.alloc_at(pasid(number), 0).unwrap().pasid(),
                pasid(number)
            );
        }
    }
    // A range that reaches beyond the width ends at it.
    let narrow = IdSpace::new(width(8));
    let _last = alloc(&narrow, 255, 0xf_ffff).unwrap();
    assert_eq!(
        refused(alloc(&narrow, 255, 0xf_ffff)),
        Error::Exhausted {
            range: range(255, 255)
        }
    );
}
