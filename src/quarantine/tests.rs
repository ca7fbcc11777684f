// SPDX-License-Identifier: MIT OR Apache-2.0
//! Batches and their links, by one thread.

use super::*;
use crate::pasid::PasidWidth;
use crate::radix::NODE_PASIDS;
use crate::reuse::Reuse;
use crate::state::{Left, SetIndex, Sought};
use heap::borrow::Cow;
use heap::vec::Vec;

/// Just below the ends of a word, a leaf, a node, and the tree; and the first ones after.
const EDGES: [u32; 10] = [
    0,
    WORD_BITS - 1,
    WORD_BITS,
    LEAF_PASIDS - 1,
    LEAF_PASIDS,
    NODE_PASIDS - 1,
    NODE_PASIDS,
    LEAVES * NODES * LEAF_PASIDS / 2,
    LEAVES * NODES * LEAF_PASIDS - 2,
    LEAVES * NODES * LEAF_PASIDS - 1,
];

fn empty() -> Tree {
    Tree::new(PasidWidth::MAX, Cow::Borrowed(&[]))
}

/// Brings PASIDs to their end, so that they wait.
fn let_wait(tree: &Tree, numbers: impl IntoIterator<Item = u32>) {
    for pasid in numbers.into_iter().map(Pasid::from_index) {
        assert!(tree.grow_range(pasid, pasid));
        let slot = tree.entry(pasid).unwrap().slot;
        let generation = slot.publish(SetIndex::NONE, 0xA5);
        let freed = slot.free(Sought::of(generation), Reuse::AfterFlush);
        assert_eq!(freed, Ok(Left::Waiting));
        tree.wait(pasid);
    }
}

fn waiting_at(numbers: impl IntoIterator<Item = u32>) -> Tree {
    let tree = empty();
    let_wait(&tree, numbers);
    tree
}

/// The PASIDs of a batch; fails unless its count is theirs.
fn numbers(tree: &Tree, batch: Batch) -> Vec<u32> {
    let pasids = tree.groups(batch).flat_map(Group::pasids);
    let numbers: Vec<_> = pasids.map(Pasid::get).collect();
    assert_eq!(numbers.len(), batch.count as usize);
    numbers
}

/// What a flush would take now.
fn taken(tree: &Tree) -> Vec<u32> {
    numbers(tree, tree.take_waiting())
}

fn group(base: u32, bits: u32) -> Group {
    Group {
        base,
        bits,
        next: None,
    }
}

/// Of each group, the PASIDs that are among these.
fn those(numbers: &[u32]) -> impl Fn(Group) -> Group + '_ {
    move |group| {
        let pasids = group.pasids().map(Pasid::get);
        let chosen = pasids.filter(|number| numbers.contains(number));
        group.only(chosen.fold(0, |bits, number| bits | 1 << (number % WORD_BITS)))
    }
}

#[test]
fn a_group_names_its_pasids_in_ascending_order() {
    let mut group = group(NODE_PASIDS + WORD_BITS, 1 << 31 | 1 << 7 | 1);
    let base = NODE_PASIDS + WORD_BITS;
    let pasids: Vec<_> = group.pasids().map(Pasid::get).collect();
    assert_eq!(pasids, [base, base + 7, base + 31]);
    assert_eq!((group.count(), group.word()), (3, 1));
    let place = group.place();
    assert_eq!((place.node, place.leaf, place.position), (1, 0, WORD_BITS));
    assert_eq!(group.take_lowest().map(Pasid::get), Some(base));
    assert_eq!(group.first().map(Pasid::get), Some(base + 7));
    assert_eq!(group.only(1 << 31 | 1).bits, 1 << 31);
    assert_eq!(group.only(0).first(), None);
    assert_eq!(group.only(0).take_lowest(), None);
}

#[test]
fn what_waits_is_taken_once_across_words_leaves_and_nodes() {
    let tree = waiting_at(EDGES);
    assert_eq!(taken(&tree), EDGES);
    assert_eq!(tree.take_waiting().count, 0);
    assert!(tree.take_waiting().first.is_none());
}

#[test]
fn a_tree_without_memory_has_nothing_that_waits() {
    assert_eq!(taken(&empty()), []);
}

#[test]
fn the_order_in_which_pasids_ended_is_of_no_account() {
    let tree = waiting_at(EDGES.into_iter().rev());
    assert_eq!(taken(&tree), EDGES);
}

#[test]
fn what_ends_after_a_batch_was_taken_is_of_the_next() {
    let tree = waiting_at([3, 300]);
    let first = tree.take_waiting();
    let_wait(&tree, [2, 4, 299, NODE_PASIDS]);
    let second = tree.take_waiting();
    // Both stay linked beside each other, in the same words.
    assert_eq!(numbers(&tree, first), [3, 300]);
    assert_eq!(numbers(&tree, second), [2, 4, 299, NODE_PASIDS]);
}

#[test]
fn what_is_put_back_is_taken_again() {
    let tree = waiting_at(EDGES);
    let batch = tree.take_waiting();
    let_wait(&tree, [1, LEAF_PASIDS + 1]);
    for group in tree.groups(batch) {
        tree.wait_again(group);
    }
    let mut all = Vec::from(EDGES);
    all.extend([1, LEAF_PASIDS + 1]);
    all.sort_unstable();
    assert_eq!(taken(&tree), all);
}

#[test]
fn putting_nothing_back_marks_nothing() {
    let tree = waiting_at([5]);
    let _ = tree.take_waiting();
    tree.wait_again(group(0, 0));
    // Relaxed: one thread.
    let marks = tree.node(0).unwrap().waiting.load(Ordering::Relaxed);
    assert_eq!(marks, 0);
}

/// Splits the batch of `all`, of which `leaving` leave.
fn split(all: &[u32], leaving: &[u32]) {
    let tree = waiting_at(all.iter().copied());
    let batch = tree.take_waiting();
    let rest = tree.split(batch, those(leaving));
    let (left, stays): (Vec<_>, Vec<_>) = all.iter().partition(|number| leaving.contains(number));
    assert_eq!(numbers(&tree, rest), stays);
    assert_eq!(taken(&tree), left);
    // What was let go has been linked anew, and the rest is as it was.
    assert_eq!(numbers(&tree, rest), stays);
}

#[test]
fn a_split_leaves_a_batch_of_the_rest() {
    let mut all: Vec<_> = EDGES.into_iter().chain([40, 41, 42]).collect();
    all.sort_unstable();
    split(&all, &[]);
    split(&all, &all);
    for &one in &all {
        let others: Vec<_> = all
            .iter()
            .copied()
            .filter(|&number| number != one)
            .collect();
        split(&all, &[one]);
        split(&all, &others);
    }
}

#[test]
fn the_lowest_pasid_of_a_group_may_leave_with_its_link() {
    // Its slot had the link to the next group, and the group before points to it.
    split(&[1, 70, 71, 72, 600], &[70]);
    split(&[1, 70, 71, 72, 600], &[70, 71]);
    split(&[1, 70, 71, 72, 600], &[1, 70, 600]);
    split(&[1, 70, 71, 72, 600], &[1]);
}

#[test]
fn a_batch_may_be_split_again() {
    let tree = waiting_at(0..200);
    let mut batch = tree.take_waiting();
    for third in 0..3 {
        let leaving: Vec<_> = (0..200).filter(|number| number % 3 == third).collect();
        batch = tree.split(batch, those(&leaving));
        assert_eq!(taken(&tree), leaving);
    }
    assert!(batch.first.is_none() && batch.count == 0);
}

#[test]
fn a_batch_of_every_pasid_is_linked_through_32768_slots() {
    let all = PasidWidth::MAX.count();
    let tree = waiting_at(0..all);
    let batch = tree.take_waiting();
    assert_eq!(batch.count, all);
    let mut next = 0;
    for group in tree.groups(batch) {
        assert_eq!((group.base, group.bits), (next, ALL));
        next += WORD_BITS;
    }
    assert_eq!(next, all);
    // The odd ones leave, so that every word is written again.
    let rest = tree.split(batch, |group| group.only(0xAAAA_AAAA));
    assert_eq!(rest.count, all / 2);
    assert!(tree.groups(rest).all(|group| group.bits == 0x5555_5555));
    let left = tree.take_waiting();
    assert_eq!(left.count, all / 2);
    assert!(tree.groups(left).all(|group| group.bits == 0xAAAA_AAAA));
    assert_eq!(tree.groups(left).count(), tree.groups(rest).count());
}

#[test]
fn what_waits_is_seen_in_each_range_that_has_it() {
    let tree = waiting_at(EDGES);
    let quarantine = Quarantine::new();
    let awaits = |first, last| tree.any_awaits_flush(&quarantine, first, last);
    let check = || {
        for edge in EDGES {
            assert!(awaits(edge, edge), "{edge}");
            let next = EDGES.into_iter().find(|&next| next > edge);
            if let Some(next) = next.filter(|&next| next > edge + 1) {
                assert!(!awaits(edge + 1, next - 1), "between {edge} and {next}");
                assert!(awaits(edge + 1, next), "up to {next}");
            }
        }
    };
    check();
    // The same by the slots, once a flush has them.
    quarantine.begin();
    let batch = tree.take_waiting();
    check();
    for group in tree.groups(batch) {
        tree.wait_again(group);
    }
    quarantine.put_back();
    check();
}

#[test]
fn a_batch_that_is_being_completed_may_have_anything() {
    let tree = waiting_at([7]);
    let quarantine = Quarantine::new();
    let awaits = |number| tree.any_awaits_flush(&quarantine, number, number);
    quarantine.begin();
    let _ = tree.take_waiting();
    assert!(awaits(7) && !awaits(8));
    quarantine.begin_completing();
    tree.entry(Pasid::from_index(7)).unwrap().slot.end_waiting();
    assert!(awaits(7) && awaits(8));
    quarantine.complete(1);
    assert!(!awaits(7) && !awaits(8));
}

#[test]
fn each_flush_that_had_something_is_over_once() {
    let quarantine = Quarantine::new();
    // Nothing was found.
    quarantine.begin();
    assert!(quarantine.is_in_flight());
    quarantine.end();
    assert_eq!((quarantine.over(), quarantine.is_in_flight()), (0, false));
    // Put back, whole and table by table.
    quarantine.begin();
    quarantine.put_back();
    quarantine.begin();
    quarantine.begin_completing();
    quarantine.complete(0);
    assert_eq!((quarantine.over(), quarantine.completed()), (2, 0));
    // Completed, while another is in flight.
    quarantine.begin();
    quarantine.begin();
    quarantine.begin_completing();
    quarantine.complete(40);
    assert_eq!((quarantine.over(), quarantine.completed()), (3, 1));
    let statistics = FlushStatistics {
        in_flight: 1,
        completed: 1,
        returned: 40,
    };
    assert_eq!(quarantine.read(), statistics);
}
