// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocating and freeing in sets.

use std::hint::black_box;

use criterion::Criterion;
use pasid::{IoasidSet, Policy, Scope, SetConfig, SpaceKind};
use pasid_benches::reference::HotWord;
use pasid_benches::report::{Goal, Report};
use pasid_benches::rounds::{Round, alone, compare, time};
use pasid_benches::sets::{Machine, check_full, check_pair, occupy, take};
use pasid_benches::spaces::{self, FULL_COUNT, Occupancy, in_place};

use crate::alloc::alloc_and_free;

/// What the other side holds below a set's first free PASID.
const BELOW_COUNT: u32 = 100_000;

pub(crate) fn run(criterion: &mut Criterion, report: &mut Report) {
    for occupancy in [Occupancy::EMPTY, Occupancy::NEARLY] {
        let machine = Machine::new(SpaceKind::Global);
        let global = machine.add_global(Policy::Lowest);
        let work = format!("set: global space, {occupancy}");
        beside_id_space(criterion, report, &work, &global, occupancy);
        let machine = Machine::new(SpaceKind::Tables);
        let local = machine.add_local(Policy::Lowest);
        let work = format!("set: table space, {occupancy}");
        beside_id_space(criterion, report, &work, &local, occupancy);
    }
    for occupancy in [Occupancy::EMPTY, Occupancy::NEARLY] {
        for (name, is_global) in [("local", false), ("global", true)] {
            let machine = Machine::new(SpaceKind::Both);
            let set = match is_global {
                false => machine.add_local(Policy::Lowest),
                true => machine.add_global(Policy::Lowest),
            };
            let _live = occupy(&set, occupancy);
            let work = format!("set: {name} in a space for both, {occupancy}");
            pair(criterion, report, &work, &set, Goal::Final(2.2));
        }
    }
    below(criterion, report);
    others(criterion, report);
    full(criterion, report);
}

/// A pair of calls against R.
fn pair(criterion: &mut Criterion, report: &mut Report, work: &str, set: &IoasidSet, goal: Goal) {
    let (range, hot) = (black_box(set.range()), HotWord::default());
    check_pair(set, range);
    let pairs = compare(
        criterion,
        ("sets", work),
        Round::SHORT,
        |count| time(|| (0..count).for_each(|word| alloc_and_free(set, range, word))),
        |count| time(|| (0..count).for_each(|_| black_box(&hot).allocate_and_free())),
    );
    check_pair(set, range);
    report.ratio(work, "R", goal, &pairs);
}

/// A pair of calls in a space for one kind of sets, against the same pair in an id space
/// that was filled and emptied in the same order.
fn beside_id_space(
    criterion: &mut Criterion,
    report: &mut Report,
    work: &str,
    set: &IoasidSet,
    occupancy: Occupancy,
) {
    let space = in_place(Policy::Lowest);
    let (live, set_live) = (spaces::occupy(&space, occupancy), occupy(set, occupancy));
    assert_eq!(live.len(), set_live.len());
    let range = black_box(set.range());
    let first = check_pair(set, range);
    spaces::check_pair(&space, range);
    let pairs = compare(
        criterion,
        ("sets", work),
        Round::SHORT,
        |count| time(|| (0..count).for_each(|word| alloc_and_free(set, range, word))),
        |count| time(|| (0..count).for_each(|word| alloc_and_free(&space, range, word))),
    );
    assert_eq!(check_pair(set, range), first);
    spaces::check_pair(&space, range);
    report.ratio(work, "of IdSpace", Goal::Final(1.03), &pairs);
}

/// With PASIDs of the other side below the first that is free.
fn below(criterion: &mut Criterion, report: &mut Report) {
    for (work, goal, is_global) in [
        (
            "set: local, 100,000 global below it",
            Goal::Final(3.0),
            false,
        ),
        ("set: global, 100,000 local below it", Goal::None, true),
    ] {
        let machine = Machine::new(SpaceKind::Both);
        let local = machine.add_local(Policy::Lowest);
        let global = machine.add_global(Policy::Lowest);
        let (below, set) = if is_global {
            (&local, &global)
        } else {
            (&global, &local)
        };
        let _below = take(below, below.range(), BELOW_COUNT);
        // All of them, and nothing above: the reference would not know.
        assert_eq!(check_pair(set, set.range()), BELOW_COUNT + 1);
        pair(criterion, report, work, set, goal);
        assert_eq!(check_pair(set, set.range()), BELOW_COUNT + 1);
    }
}

/// What else a set can be: a group's, with a quota, with another policy.
fn others(criterion: &mut Criterion, report: &mut Report) {
    for (work, kind) in [
        ("set: group of 2 tables, table space", SpaceKind::Tables),
        ("set: group of 2 tables, space for both", SpaceKind::Both),
    ] {
        let machine = Machine::new(kind);
        let group = machine.add_set(SetConfig::new(Scope::Group(&machine.tables)));
        pair(criterion, report, work, &group, Goal::None);
    }
    for (work, policy, quota) in [
        ("set: with a quota", Policy::Lowest, Some(1000)),
        ("set: next", Policy::Next, None),
        ("set: preserve-narrow", Policy::PreserveNarrow, None),
        ("set: spread, one thread", Policy::Spread, None),
    ] {
        let machine = Machine::new(SpaceKind::Tables);
        let config = SetConfig::new(Scope::Local(&machine.tables[0])).policy(policy);
        let config = match quota {
            Some(quota) => config.quota(quota),
            None => config,
        };
        let set = machine.add_set(config);
        pair(criterion, report, work, &set, Goal::None);
    }
}

/// Asks sets for which nothing is free, and waits for the exact answer.
fn full(criterion: &mut Criterion, report: &mut Report) {
    let machine = Machine::new(SpaceKind::Both);
    let local = machine.add_local(Policy::Lowest);
    let global = machine.add_global(Policy::Lowest);
    let whole = local.range();
    let half = FULL_COUNT / 2;
    // Half is held by the other side, so that neither the bits nor the claims would do.
    let _global = take(&global, whole, half);
    let _local = take(&local, whole, FULL_COUNT - half);
    check_full(&local, whole);
    let work = "set: alloc, 2^20 full, space for both";
    let asked = black_box(whole);
    let ns = alone(criterion, ("sets", work), Round::SINGLE, |count| {
        time(|| (0..count).for_each(|word| alloc_and_free(&local, asked, word)))
    });
    check_full(&local, whole);
    report.time(work, ("µs", 1000.0), Goal::None, &ns);

    let machine = Machine::new(SpaceKind::Global);
    let global = machine.add_global(Policy::Lowest);
    let _live = take(&global, global.range(), FULL_COUNT);
    let asked = black_box(global.range());
    check_full(&global, asked);
    let work = "set: alloc, 2^20 full, global space, nothing freed since";
    let ns = alone(criterion, ("sets", work), Round::SHORT, |count| {
        time(|| (0..count).for_each(|word| alloc_and_free(&global, asked, word)))
    });
    check_full(&global, asked);
    report.time(work, ("ns", 1.0), Goal::Aim(10.0), &ns);
}
