// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocating and freeing.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use fastrand::Rng;
use pasid::{IdSpace, Owned, PasidRange, Policy, Pool};
use pasid_benches::reference::HotWord;
use pasid_benches::report::{Goal, Report};
use pasid_benches::rounds::{Round, alone, compare, time};
use pasid_benches::spaces::{
    FULL_COUNT, Occupancy, check_full, check_pair, fill, in_place, occupy, rng,
};

pub(crate) fn run(criterion: &mut Criterion, report: &mut Report) {
    let up_to_99 = Goal::Must(1.5, 1.25);
    for (policy, policy_name) in [(Policy::Lowest, "lowest"), (Policy::Next, "next")] {
        for (occupancy, goal) in [
            (Occupancy::EMPTY, up_to_99),
            (Occupancy::HALF, up_to_99),
            (Occupancy::MOST, up_to_99),
            (Occupancy::NEARLY, up_to_99),
            (Occupancy::ALMOST, Goal::Aim(1.5)),
        ] {
            let work = format!("alloc + free, {occupancy}, {policy_name}");
            pair(criterion, report, &work, policy, occupancy, goal);
        }
    }
    for occupancy in [Occupancy::HALF, Occupancy::ALMOST] {
        churn(criterion, report, occupancy);
    }
    fill_and_drain(criterion, report);
    full(criterion, report);
}

/// The pair of calls that R is the least of. The owner goes through `black_box`,
/// as it would go through the caller's own structure.
#[inline(always)]
pub(crate) fn alloc_and_free(pool: impl Pool<Payload = u64>, range: PasidRange, word: u64) {
    drop(black_box(pool.alloc(range, word)));
}

fn pair(
    criterion: &mut Criterion,
    report: &mut Report,
    work: &str,
    policy: Policy,
    occupancy: Occupancy,
    goal: Goal,
) {
    let space = in_place(policy);
    let _live = occupy(&space, occupancy);
    let (range, hot) = (black_box(space.range()), HotWord::default());
    check_pair(&space, range);
    let pairs = compare(
        criterion,
        ("alloc", work),
        Round::SHORT,
        |count| time(|| (0..count).for_each(|word| alloc_and_free(&space, range, word))),
        |count| time(|| (0..count).for_each(|_| black_box(&hot).allocate_and_free())),
    );
    check_pair(&space, range);
    report.ratio(work, "R", goal, &pairs);
}

/// Frees a random live PASID and allocates one.
fn churn(criterion: &mut Criterion, report: &mut Report, occupancy: Occupancy) {
    let space = in_place(Policy::Lowest);
    let mut live = occupy(&space, occupancy);
    let (range, hot) = (black_box(space.range()), HotWord::default());
    let work = format!("random churn, {occupancy}");
    let (mut rng, mut reference_rng) = (rng(), rng());
    let count = live.len();
    let mut failures = 0_u64;
    check_pair(&space, range);
    let choose = |rng: &mut Rng| rng.usize(..count);
    let mut churn = |count| {
        for word in 0..count {
            // The old owner is dropped by the assignment, after the new one is there.
            match space.alloc(range, word) {
                Ok(new) => live[choose(&mut rng)] = new,
                Err(_) => failures += 1,
            }
        }
    };
    let mut reference = |count| {
        for _ in 0..count {
            black_box(choose(&mut reference_rng));
            black_box(&hot).allocate_and_free();
        }
    };
    let pairs = compare(
        criterion,
        ("churn", &work),
        Round::SHORT,
        |count| time(|| churn(count)),
        |count| time(|| reference(count)),
    );
    check_pair(&space, range);
    assert_eq!(failures, 0, "churn that found nothing free");
    report.ratio(&work, "R", Goal::None, &pairs);
}

/// Words that take as much memory as an owner.
type Kept = [u64; 3];
const _: () = assert!(size_of::<Kept>() == size_of::<Owned<&IdSpace>>());

/// Fills a space with memory in place, and empties it. The reference keeps as many
/// results in as much memory.
fn fill_and_drain(criterion: &mut Criterion, report: &mut Report) {
    let space = in_place(Policy::Lowest);
    let (range, hot) = (black_box(space.range()), HotWord::default());
    let mut live: Vec<Owned<&IdSpace>> = Vec::with_capacity(FULL_COUNT as usize);
    let mut results: Vec<Kept> = Vec::with_capacity(FULL_COUNT as usize);
    let mut reference = |count| {
        time(|| {
            for _ in 0..count {
                results.clear();
                for result in 0..u64::from(FULL_COUNT) {
                    black_box(&hot).allocate_and_free();
                    results.push([0, 0, result]);
                }
            }
        })
    };
    let fill_once = |live: &mut Vec<_>| {
        while let Ok(owned) = space.alloc(range, 0) {
            live.push(owned);
        }
    };
    let round = Round {
        iterations: 1,
        operations: FULL_COUNT,
    };
    let fill = |count| {
        (0..count).fold(Duration::ZERO, |sum, _| {
            live.clear();
            let sum = sum + time(|| fill_once(&mut live));
            assert_eq!(live.len(), FULL_COUNT as usize);
            sum
        })
    };
    let filled = compare(criterion, ("fill", "fill"), round, fill, &mut reference);
    report.ratio("fill 2^20, a PASID", "R", Goal::Aim(1.4), &filled);
    let drain = |count| {
        (0..count).fold(Duration::ZERO, |sum, _| {
            fill_once(&mut live);
            assert_eq!(live.len(), FULL_COUNT as usize);
            sum + time(|| live.clear())
        })
    };
    let drained = compare(criterion, ("fill", "drain"), round, drain, &mut reference);
    assert_eq!(space.count_live(range), 0);
    report.ratio("drain 2^20, a PASID", "R", Goal::None, &drained);
}

/// Asks a space that is full, and waits for the exact answer.
fn full(criterion: &mut Criterion, report: &mut Report) {
    let space = in_place(Policy::Lowest);
    let range = black_box(space.range());
    let mut live = fill(&space, range);
    let mut rng = rng();
    check_full(&space, range);
    let once = alone(
        criterion,
        ("full", "after a free"),
        Round::SINGLE,
        |count| {
            (0..count).fold(Duration::ZERO, |sum, word| {
                drop(live.swap_remove(rng.usize(..live.len())));
                live.extend(space.alloc(range, word));
                assert_eq!(live.len(), FULL_COUNT as usize);
                sum + time(|| alloc_and_free(&space, range, word))
            })
        },
    );
    check_full(&space, range);
    let work = "alloc, 2^20 full, after a free";
    report.time(work, ("µs", 1000.0), Goal::Aim(20.0), &once);
    let again = alone(criterion, ("full", "again"), Round::SHORT, |count| {
        time(|| (0..count).for_each(|word| alloc_and_free(&space, range, word)))
    });
    check_full(&space, range);
    let work = "alloc, 2^20 full, nothing freed since";
    report.time(work, ("ns", 1.0), Goal::Aim(10.0), &again);
}
