// SPDX-License-Identifier: MIT OR Apache-2.0
//! Full marks: a search marks what it found full while others give PASIDs back.
//! When all is done no mark hides a free PASID: the order *lowest* is exact while
//! nothing else runs, and a search that steps over a marked leaf would break it.
//!
//! These models have what stands for the total order of sequentially consistent
//! operations, on which the marks rest.
#![cfg(loom)]

use loom_tests::{Held, Model, beside, pasid, range, space, three_beside};
use pasid::model::Mutation;
use pasid::{IdSpace, PasidRange, Pool};
use std::sync::Arc;

const HIDDEN: &str = "a full mark hides a free PASID";

fn alloc(space: &Arc<IdSpace>) -> Held {
    let owned = space.clone().alloc_in_place(space.range(), 1);
    owned.expect("some are always free")
}

/// Fails unless the lowest free PASID of the space is `lowest`.
fn assert_lowest(space: &Arc<IdSpace>, lowest: u16) {
    let found = alloc(space).pasid();
    assert_eq!(found, pasid(lowest), "a full mark hides a free PASID");
}

/// A space in which 0 is held, and full marks were set once and cleared again.
fn marked_before(bits: u8, reserved: &'static [PasidRange]) -> (Arc<IdSpace>, Held) {
    let space = space(bits, reserved);
    let owned = space.clone().alloc_at(pasid(0), 1).unwrap();
    drop(alloc(&space));
    drop(owned);
    let owned = space.clone().alloc_at(pasid(0), 1).unwrap();
    (space, owned)
}

/// A search passes by what is full while 0 is given back. If that comes too late
/// for it, it takes `other`.
fn mark_against_free((space, owned): (Arc<IdSpace>, Held), other: u16) {
    let searcher = space.clone();
    let (found, ()) = beside(move || alloc(&searcher), move || drop(owned));
    let lowest = if found.pasid() == pasid(0) { other } else { 0 };
    assert_lowest(&space, lowest);
}

#[test]
fn the_mark_of_a_leaf_hides_nothing() {
    let model = Model::new("mark a leaf | free", 66, || {
        mark_against_free(marked_before(3, const { &[range(1, 3)] }), 4);
    });
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::MarkWithoutOrder, HIDDEN);
    model.canary(Mutation::MarkLooksOnce, HIDDEN);
}

/// All of the first node but 0.
const BUT_0: &[PasidRange] = &[range(1, 7)];

#[test]
fn the_mark_of_a_node_hides_nothing() {
    let model = Model::new("mark a node | free", 71, || {
        mark_against_free(marked_before(4, BUT_0), 8);
    });
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::MarkWithoutOrder, HIDDEN);
    model.canary(Mutation::MarkLooksOnce, HIDDEN);
}

/// The first node is marked, and two of it are given back, 0 and `high`. Whoever
/// has finished finds one of the two.
fn free_two_of_a_marked_node(reserved: &'static [PasidRange], high: u16) {
    let space = space(4, reserved);
    let low = space.clone().alloc_at(pasid(0), 1).unwrap();
    let high = space.clone().alloc_at(pasid(high), 1).unwrap();
    drop(alloc(&space));
    let searcher = space.clone();
    let (found, ()) = beside(
        move || {
            drop(high);
            alloc(&searcher)
        },
        move || drop(low),
    );
    assert!(found.pasid() < pasid(8), "a full mark hides a free PASID");
    drop(found);
    assert_lowest(&space, 0);
}

#[test]
fn a_finished_free_is_not_hidden_by_another_in_its_leaf() {
    let model = Model::new("free, alloc | free in its leaf", 53, || {
        free_two_of_a_marked_node(const { &[range(2, 7)] }, 1);
    });
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::UnmarkStopsEarly, HIDDEN);
}

#[test]
fn a_finished_free_is_not_hidden_by_another_in_its_node() {
    let model = Model::new("free, alloc | free in its node", 37, || {
        free_two_of_a_marked_node(const { &[range(1, 3), range(5, 7)] }, 4);
    });
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::UnmarkStopsEarly, HIDDEN);
}

/// Two searches mark while one frees.
fn two_mark() {
    let (space, owned) = marked_before(4, BUT_0);
    let (one, two) = (space.clone(), space.clone());
    let (one, two, ()) = three_beside(
        move || alloc(&one),
        move || alloc(&two),
        move || drop(owned),
    );
    let found = [one.pasid(), two.pasid()];
    let lowest = if found.contains(&pasid(0)) { 9 } else { 0 };
    assert_lowest(&space, lowest);
}

#[test]
fn two_searches_that_mark_hide_nothing() {
    let model = Model::new("mark | mark | free", 16_372, two_mark).with_total_order();
    model.check();
    model.canary(Mutation::MarkLooksOnce, HIDDEN);
}

/// One marks while two free, one in each leaf of the node.
fn mark_against_two_frees() {
    let space = space(4, const { &[range(1, 3), range(5, 7)] });
    let low = space.clone().alloc_at(pasid(0), 1).unwrap();
    let high = space.clone().alloc_at(pasid(4), 1).unwrap();
    let searcher = space.clone();
    let (found, (), ()) = three_beside(
        move || alloc(&searcher),
        move || drop(low),
        move || drop(high),
    );
    let lowest = if found.pasid() == pasid(0) { 4 } else { 0 };
    assert_lowest(&space, lowest);
}

#[test]
fn a_mark_beside_two_frees_hides_nothing() {
    let model = Model::new("mark | free | free", 1_204, mark_against_two_frees).with_total_order();
    model.check();
    model.canary(Mutation::MarkLooksOnce, HIDDEN);
}
