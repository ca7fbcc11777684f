// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hints at claims: a search hides what the other kind of sets holds while others give it
//! back. When all is done no hint hides a free PASID: the order *lowest* is exact while
//! nothing else runs, and a search that steps over a hidden PASID would break it.
//!
//! These models have what stands for the total order of sequentially consistent
//! operations, on which the hints rest as the full marks do.
#![cfg(loom)]

use loom_tests::{HeldOf, Machine, Model, Set, beside, pasid, range, three_beside};
use pasid::model::Mutation;
use pasid::{Error, Pool, SpaceKind};

const HIDDEN: &str = "a hint hides a free PASID";

fn alloc(set: &Set) -> HeldOf {
    let owned = set.clone().alloc_in_place(set.range(), 1);
    owned.expect("some are always free")
}

/// Fails unless the lowest PASID that the set can have is `lowest`.
fn assert_lowest(set: &Set, lowest: u16) {
    let found = alloc(set).pasid();
    assert_eq!(found, pasid(lowest), "a hint hides a free PASID");
}

/// Lets `holder` have the first `count` PASIDs and `searcher` hide them all. Then one of
/// them, `shown`, is given back and taken again, so that neither it nor what it lies in is
/// hidden any more.
///
/// Every hint and mark was set and cleared by operations that have a place in the total
/// order, so that the models are left with what happens beside each other.
fn hidden_before(holder: &Set, searcher: &Set, count: u16, shown: u16) -> Vec<Option<HeldOf>> {
    let take = |number| holder.clone().alloc_at(pasid(number), 1).ok();
    let mut held: Vec<_> = (0..count).map(take).collect();
    let range = range(0, count - 1);
    let refused = searcher.clone().alloc_in_place(range, 1).err();
    assert_eq!(refused, Some(Error::Exhausted { range }));
    held[usize::from(shown)] = None;
    held[usize::from(shown)] = take(shown);
    held
}

/// A search by `searcher` passes by what is hidden while `freed` is given back. If that
/// comes too late for it, it takes `other`.
fn hide_against_free(searcher: &Set, freed: HeldOf, other: u16) {
    let (asker, lowest) = (searcher.clone(), freed.pasid());
    let (found, ()) = beside(move || alloc(&asker), move || drop(freed));
    if found.pasid() == lowest {
        assert_lowest(searcher, other);
    } else {
        assert_eq!(found.pasid(), pasid(other), "a hint hides a free PASID");
        assert_lowest(searcher, lowest.get() as u16);
    }
}

/// `searcher` hides 0 while `holder` gives it back.
fn hide_one(holder: &Set, searcher: &Set) {
    let freed = hidden_before(holder, searcher, 1, 0).remove(0);
    hide_against_free(searcher, freed.unwrap(), 1);
}

// ---- One PASID -----------------------------------------------------------------------------

#[test]
fn what_was_global_is_not_hidden_from_a_table() {
    let model = Model::new("local hides | global free", 66, || {
        let machine = Machine::new(SpaceKind::Both, 2, 1);
        hide_one(&machine.global(), &machine.local(0));
    });
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::HideLooksOnce, HIDDEN);
    model.canary(Mutation::MarkWithoutOrder, HIDDEN);
}

#[test]
fn what_was_global_is_not_hidden_from_a_group() {
    let model = Model::new("group hides | global free", 50, || {
        let machine = Machine::new(SpaceKind::Both, 2, 2);
        hide_one(&machine.global(), &machine.group(&[0, 1]));
    });
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::HideLooksOnce, HIDDEN);
    model.canary(Mutation::MarkWithoutOrder, HIDDEN);
}

#[test]
fn what_was_local_is_not_hidden_from_a_global_set() {
    let model = Model::new("global hides | local free", 66, || {
        let machine = Machine::new(SpaceKind::Both, 2, 1);
        hide_one(&machine.local(0), &machine.global());
    });
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::HideLooksOnce, HIDDEN);
    model.canary(Mutation::MarkWithoutOrder, HIDDEN);
}

/// Two tables give the same PASID back: the last of them shows it to the global sets.
fn two_tables_free() {
    let machine = Machine::new(SpaceKind::Both, 2, 2);
    let global = machine.global();
    let sets = [machine.local(0), machine.local(1)];
    hidden_before(&sets[0], &global, 1, 0);
    let (one, two) = (alloc(&sets[0]), alloc(&sets[1]));
    let searcher = global.clone();
    let (found, (), ()) = three_beside(
        move || alloc(&searcher),
        move || drop(one),
        move || drop(two),
    );
    let lowest = if found.pasid() == pasid(0) { 1 } else { 0 };
    assert_lowest(&global, lowest);
}

#[test]
fn the_last_table_shows_what_it_gives_back() {
    let model = Model::new(
        "global hides | table free | table free",
        1_046,
        two_tables_free,
    );
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::HideLooksOnce, HIDDEN);
    model.canary(Mutation::MarkWithoutOrder, HIDDEN);
}

/// Two searches hide while one frees.
fn two_hide() {
    let machine = Machine::new(SpaceKind::Both, 2, 2);
    let sets = [machine.local(0), machine.local(1)];
    let mut held = hidden_before(&machine.global(), &sets[0], 1, 0);
    let held = held.remove(0);
    let (one, two) = (sets[0].clone(), sets[1].clone());
    let found = three_beside(move || alloc(&one), move || alloc(&two), move || drop(held));
    for (set, found) in sets.iter().zip([&found.0, &found.1]) {
        let lowest = if found.pasid() == pasid(0) { 1 } else { 0 };
        assert_lowest(set, lowest);
    }
}

#[test]
fn two_searches_that_hide_one_pasid_hide_nothing() {
    let model = Model::new("hide | hide | free", 11_427, two_hide).with_total_order();
    model.check();
    model.canary(Mutation::HideLooksOnce, HIDDEN);
}

/// One hides while another frees, takes the same PASID again, and frees it.
fn hide_against_two_frees() {
    let machine = Machine::new(SpaceKind::Both, 2, 1);
    let (local, global) = (machine.local(0), machine.global());
    let held = hidden_before(&global, &local, 1, 0).remove(0);
    let (searcher, again) = (local.clone(), global.clone());
    let (found, ()) = beside(
        move || alloc(&searcher),
        move || {
            drop(held);
            drop(again.alloc_at(pasid(0), 1));
        },
    );
    let lowest = if found.pasid() == pasid(0) { 1 } else { 0 };
    assert_lowest(&local, lowest);
    drop(found);
    assert_lowest(&global, 0);
}

#[test]
fn what_is_freed_twice_is_not_hidden() {
    let model = Model::new("hide | free, alloc, free", 355, hide_against_two_frees);
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::HideLooksOnce, HIDDEN);
    model.canary(Mutation::MarkWithoutOrder, HIDDEN);
}

// ---- All of a leaf, and of a node ------------------------------------------------------------

/// The first `count` PASIDs are global and all but `shown` are hidden, so that no mark was
/// ever set. Then the search hides that one and marks what it lies in, while 0 is given
/// back.
fn mark_against_free(bits: u8, count: u16, shown: u16) {
    let machine = Machine::new(SpaceKind::Both, bits, 1);
    let (global, local) = (machine.global(), machine.local(0));
    let mut held: Vec<_> = (0..count).map(|_| Some(alloc(&global))).collect();
    for range in [range(0, shown - 1), range(shown + 1, count - 1)] {
        let refused = local.clone().alloc_in_place(range, 1).err();
        assert_eq!(refused, Some(Error::Exhausted { range }));
    }
    let freed = held[0].take();
    let searcher = local.clone();
    let ((), found) = beside(move || drop(freed), move || alloc(&searcher));
    let lowest = if found.pasid() == pasid(0) { count } else { 0 };
    assert_lowest(&local, lowest);
}

#[test]
fn the_mark_of_a_leaf_hides_nothing() {
    let model = Model::new("free in its other word | mark a hidden leaf", 49, || {
        mark_against_free(3, 4, 2);
    });
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::HideLooksOnce, HIDDEN);
    model.canary(Mutation::MarkWithoutOrder, HIDDEN);
}

#[test]
fn the_mark_of_a_leaf_hides_nothing_of_the_word_that_came_last() {
    let model = Model::new("mark a hidden leaf | free in its last word", 71, || {
        let machine = Machine::new(SpaceKind::Both, 3, 1);
        let local = machine.local(0);
        let mut held = hidden_before(&machine.global(), &local, 4, 2);
        hide_against_free(&local, held[2].take().unwrap(), 4);
    });
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::HideLooksOnce, HIDDEN);
    model.canary(Mutation::MarkWithoutOrder, HIDDEN);
}

#[test]
fn the_mark_of_a_node_hides_nothing() {
    let model = Model::new("free in its first leaf | mark a hidden node", 75, || {
        mark_against_free(4, 8, 6)
    });
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::HideLooksOnce, HIDDEN);
    model.canary(Mutation::MarkWithoutOrder, HIDDEN);
}

/// The search hides the last of a leaf and marks it, while two are given back, one in each
/// of its words.
fn mark_against_two_frees() {
    let machine = Machine::new(SpaceKind::Both, 3, 1);
    let (local, global) = (machine.local(0), machine.global());
    let mut held = hidden_before(&global, &local, 4, 2);
    let (one, two) = (held[0].take(), held[3].take());
    let searcher = local.clone();
    let (found, (), ()) = three_beside(
        move || alloc(&searcher),
        move || drop(one),
        move || drop(two),
    );
    let lowest = if found.pasid() == pasid(0) { 3 } else { 0 };
    assert_lowest(&local, lowest);
}

#[test]
fn the_mark_of_a_leaf_beside_two_frees_hides_nothing() {
    let model = Model::new(
        "mark a hidden leaf | free | free",
        774,
        mark_against_two_frees,
    );
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::HideLooksOnce, HIDDEN);
}

/// The first `count` PASIDs are hidden with all that they lie in, and two of them are given
/// back, 0 and `high`. Whoever has finished finds one of the two.
fn free_two_of(bits: u8, count: u16, high: u16) {
    let machine = Machine::new(SpaceKind::Both, bits, 1);
    let (local, global) = (machine.local(0), machine.global());
    let shown = count - 1;
    let mut held = hidden_before(&global, &local, count, shown);
    // Now it is hidden again, and all is marked.
    let refused = local.clone().alloc_in_place(range(shown, shown), 1);
    assert!(refused.is_err());
    let (low, high) = (held[0].take(), held[usize::from(high)].take());
    let searcher = local.clone();
    let (found, ()) = beside(
        move || {
            drop(high);
            alloc(&searcher)
        },
        move || drop(low),
    );
    let hidden = found.pasid() >= pasid(count);
    assert!(!hidden, "a hint hides a free PASID");
    drop(found);
    assert_lowest(&local, 0);
}

#[test]
fn a_finished_free_is_not_hidden_by_another_in_its_word() {
    let model = Model::new("free, alloc | free in its word, hidden", 39, || {
        free_two_of(3, 4, 1);
    });
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::UnhideStopsEarly, HIDDEN);
}

#[test]
fn a_finished_free_is_not_hidden_by_another_in_its_node() {
    let model = Model::new("free, alloc | free in its node, hidden", 39, || {
        free_two_of(4, 8, 4);
    });
    let model = model.with_total_order();
    model.check();
    model.canary(Mutation::UnhideStopsEarly, HIDDEN);
}
