// SPDX-License-Identifier: MIT OR Apache-2.0
//! Out of memory is an error of its own and leaves everything as it was.
//!
//! Nothing here asserts while the allocator refuses: the message would need
//! memory.

mod common;

use common::allocator::{Instrumented, calls, counted, with_memory_for};
use common::{alloc, bare, pasid, range, refused, snapshot, width};
use pasid::{Error, IdSpace, Owned, Pasid, PasidRange, Policy, Pool};

#[global_allocator]
static ALLOCATOR: Instrumented = Instrumented;

type Attempt<'a> = Result<Owned<&'a IdSpace>, Error>;

fn alloc_with(space: &IdSpace, memory: u64, request: PasidRange) -> Attempt<'_> {
    with_memory_for(memory, || space.alloc(request, 1))
}

fn number(attempt: &Attempt<'_>) -> Result<Pasid, Error> {
    attempt.as_ref().map(Owned::pasid).map_err(|error| *error)
}

#[test]
fn row_7_out_of_memory_is_not_exhaustion_and_leaves_everything_as_it_was() {
    for policy in [Policy::Lowest, Policy::Next] {
        let space = IdSpace::new(width(20)).with_policy(policy);
        // Nothing at all, then the node alone: a leaf is the second allocation.
        for memory in [0, 1] {
            let before = calls();
            let attempt = alloc_with(&space, memory, space.range());
            assert_eq!(number(&attempt), Err(Error::OutOfMemory));
            assert!(
                calls().live_bytes - before.live_bytes <= 5 * 1024,
                "more than a node stays"
            );
            assert_eq!(snapshot(&space), []);
        }
        // As if nothing had happened.
        let first = alloc(&space, 0, 0xf_ffff).unwrap();
        assert_eq!(first.pasid(), pasid(1));

        // The same beside live ones.
        let before = snapshot(&space);
        let elsewhere = range(300, 0xf_ffff);
        assert_eq!(
            number(&alloc_with(&space, 0, elsewhere)),
            Err(Error::OutOfMemory)
        );
        assert_eq!(snapshot(&space), before);
        assert_eq!(alloc(&space, 300, 400).unwrap().pasid(), pasid(300));

        // A full range that has memory is exhausted, memory or not.
        let single = range(1, 1);
        assert_eq!(
            number(&alloc_with(&space, 0, single)),
            Err(Error::Exhausted { range: single })
        );
        // So is one whose missing part has nothing to hand out.
        let nothing = IdSpace::new(width(20));
        assert_eq!(
            number(&alloc_with(&nothing, 0, range(0, 0))),
            Err(Error::Exhausted { range: range(0, 0) })
        );
    }
}

#[test]
fn without_memory_an_allocation_takes_what_lies_where_memory_is() {
    for policy in [Policy::Lowest, Policy::Next] {
        let space = bare(20).with_policy(policy);
        let high = alloc(&space, 1_000, 1_000).unwrap();
        // Lower ones are free, but only this leaf, 768 ..= 1023, has memory.
        let mut taken = Vec::with_capacity(300);
        with_memory_for(0, || {
            while let Ok(owned) = space.alloc(space.range(), 0) {
                taken.push(owned);
            }
        });
        let mut numbers: Vec<u32> = taken.iter().map(|owned| owned.pasid().get()).collect();
        numbers.push(high.pasid().get());
        numbers.sort_unstable();
        assert_eq!(numbers, (768..=1_023).collect::<Vec<u32>>(), "{policy:?}");
        assert_eq!(
            number(&alloc_with(&space, 0, space.range())),
            Err(Error::OutOfMemory)
        );
        // What comes free there is found again.
        drop(taken.pop());
        assert!(alloc_with(&space, 0, space.range()).is_ok());
        // With memory the policy's own first choice is back: the lowest, or what
        // comes after the last one handed out, which was 999.
        let chosen = alloc(&space, 0, 0xf_ffff).unwrap().pasid().get();
        assert_eq!(chosen, if policy == Policy::Next { 1_024 } else { 0 });
    }
}

#[test]
fn in_place_calls_answer_out_of_memory_exactly_where_none_is() {
    let space = bare(20);
    assert_eq!(
        refused(space.alloc_in_place(space.range(), 0)),
        Error::OutOfMemory
    );
    assert_eq!(refused(space.alloc_at(pasid(7), 0)), Error::OutOfMemory);
    space.preload(range(256, 300)).unwrap();
    let attempt = with_memory_for(0, || space.alloc_in_place(space.range(), 0));
    assert_eq!(number(&attempt), Ok(pasid(256)));
    let attempt = with_memory_for(0, || space.alloc_at(pasid(511), 0));
    assert_eq!(number(&attempt), Ok(pasid(511)));
    assert_eq!(refused(space.alloc_at(pasid(512), 0)), Error::OutOfMemory);
    assert_eq!(refused(space.alloc_at(pasid(255), 0)), Error::OutOfMemory);
    // What is reserved by the space's list says so, memory or not.
    let space = IdSpace::new(width(20));
    assert_eq!(
        refused(space.alloc_at(pasid(0), 0)),
        Error::Reserved(pasid(0))
    );
    assert_eq!(
        refused(space.alloc_in_place(range(0, 0), 0)),
        Error::Exhausted { range: range(0, 0) }
    );
}

#[test]
fn a_preload_that_fails_is_an_error_and_can_be_repeated() {
    let space = bare(20);
    let owned = alloc(&space, 0, 0).unwrap();
    let before = snapshot(&space);
    let wanted = range(0, 4_095);
    for memory in [0, 5] {
        let preload = with_memory_for(memory, || space.preload(wanted));
        assert_eq!(preload, Err(Error::OutOfMemory));
        assert_eq!(snapshot(&space), before);
    }
    // The five leaves of the second try stayed; the node was there.
    let in_place = |number| space.alloc_at(pasid(number), 0).map(|owned| owned.pasid());
    assert_eq!(in_place(5 * 256), Ok(pasid(5 * 256)));
    assert_eq!(in_place(6 * 256), Err(Error::OutOfMemory));
    assert!(space.preload(wanted).unwrap() > 0);
    assert_eq!(in_place(4_095), Ok(pasid(4_095)));
    assert_eq!(space.preload(wanted), Ok(0));
    drop(owned);
    assert_eq!(snapshot(&space), []);
}

#[test]
fn reserving_without_memory_is_an_error_that_changes_nothing() {
    let space = bare(20);
    let (nine, far) = (pasid(9), pasid(0xf_ffff));
    let _nine = alloc(&space, 9, 9).unwrap();
    let before = snapshot(&space);
    let refusals = with_memory_for(0, || [space.reserve(far), space.unreserve(far)]);
    assert_eq!(refusals, [Err(Error::OutOfMemory); 2]);
    assert_eq!(snapshot(&space), before);
    assert_eq!(alloc(&space, 0xf_ffff, 0xf_ffff).unwrap().pasid(), far);
    // Where there is memory, none is needed.
    let refusals = with_memory_for(0, || [space.reserve(nine), space.unreserve(nine)]);
    assert_eq!(
        refusals,
        [Err(Error::InUse(nine)), Err(Error::NotFound(nine))]
    );
}

#[test]
fn growth_works_after_any_number_of_failures() {
    let space = bare(20);
    let mut owned = Vec::with_capacity(64);
    // One leaf in each of 64 nodes. Each growth fails first without any memory,
    // then with enough for the node but not for the leaf.
    for node in 0..64 {
        let request = range(node * 16_384, node * 16_384 + 16_383);
        for memory in [0, 1, 0] {
            let attempt = alloc_with(&space, memory, request);
            assert_eq!(number(&attempt), Err(Error::OutOfMemory), "node {node}");
        }
        let attempt = alloc_with(&space, 1, request);
        assert_eq!(number(&attempt), Ok(request.first()));
        owned.push(attempt);
    }
    assert_eq!(space.count_live(space.range()), 64);
}

#[test]
fn memory_that_is_refused_is_not_asked_for_again_and_again() {
    for policy in [Policy::Lowest, Policy::Next] {
        let space = bare(20).with_policy(policy);
        // A node's memory everywhere, and a leaf in each: 63 leaves of each are missing.
        let held: Vec<_> = (0..64)
            .map(|node| alloc(&space, node << 14, node << 14))
            .collect();
        assert!(held.iter().all(Result::is_ok));
        let request = range(1 << 8, (1 << 14) - 1);
        let (attempt, asked) = counted(|| alloc_with(&space, 0, request));
        assert_eq!(number(&attempt), Err(Error::OutOfMemory));
        assert!(
            (1..=8).contains(&asked.refused),
            "asked {} times",
            asked.refused
        );
        let (attempt, asked) = counted(|| alloc_with(&space, 0, range(300, 20_000)));
        assert!(attempt.is_ok());
        assert!(
            (1..=8).contains(&asked.refused),
            "asked {} times",
            asked.refused
        );
    }
}
