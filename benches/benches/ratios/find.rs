// SPDX-License-Identifier: MIT OR Apache-2.0
//! Look-ups by number: how many are done in a time. None waits for the result of the
//! one before, so the processor overlaps them, as it does the loads that they are
//! compared with; how long a single look-up takes from end to end is more.

use std::hint::black_box;

use criterion::Criterion;
use pasid::{Pasid, PasidWidth, Policy};
use pasid_benches::reference;
use pasid_benches::report::{Goal, Report};
use pasid_benches::rounds::{Round, compare, time};
use pasid_benches::spaces::{FULL_COUNT, check_live, fill, in_place, range, rng};

pub(crate) fn run(criterion: &mut Criterion, report: &mut Report) {
    find(
        criterion,
        report,
        ("find, throughput, 1,000 live", 1000),
        Goal::Aim(2.5),
    );
    find(
        criterion,
        report,
        ("find, throughput, 2^20 live", FULL_COUNT),
        Goal::Aim(1.5),
    );
}

fn find(criterion: &mut Criterion, report: &mut Report, (work, count): (&str, u32), goal: Goal) {
    let space = in_place(Policy::Lowest);
    let live = fill(&space, range(1, count));
    let mut pasids: Vec<Pasid> = live.iter().map(|owned| owned.pasid()).collect();
    rng().shuffle(&mut pasids);
    assert_eq!(live.len(), count as usize);
    check_live(&space, &live);
    let array = vec![0_u64; PasidWidth::MAX.count() as usize];
    let (mut next, mut reference_next) = (pasids.iter().cycle(), pasids.iter().cycle());
    let mut find = |count| {
        for &pasid in next.by_ref().take(count as usize) {
            black_box(space.find(pasid).map_or(0, |found| found.word));
        }
    };
    let mut load = |count| {
        for &pasid in reference_next.by_ref().take(count as usize) {
            reference::load(&array, pasid.get() as usize);
        }
    };
    let pairs = compare(
        criterion,
        ("find", work),
        Round::SHORT,
        |count| time(|| find(count)),
        |count| time(|| load(count)),
    );
    check_live(&space, &live);
    report.ratio(work, "I", goal, &pairs);
    if count <= 1000 {
        report.difference(
            "find, throughput, cached PASID",
            "ns above I",
            Goal::Final(3.0),
            &pairs,
        );
    }
}
