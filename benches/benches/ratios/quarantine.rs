// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets whose PASIDs await a flush, beside the same sets whose PASIDs are reused at once.

use std::convert::Infallible;
use std::fmt;
use std::hint::black_box;

use criterion::Criterion;
use fastrand::Rng;
use pasid::{Flush, FlushStatistics, IoasidSet, Owned, PasidRange, Pool, Reuse, SpaceKind};
use pasid_benches::report::{Goal, Report};
use pasid_benches::rounds::{Round, compare, compare_slowly, time};
use pasid_benches::sets::{Machine, Quarantined, check_pair, occupy};
use pasid_benches::spaces::{Occupancy, range, rng};

use crate::alloc::alloc_and_free;

/// How many wait when a flush is asked for.
const FEW: u32 = 1024;
/// The same; and how many PASIDs a set has that is flushed when they are exhausted.
const MANY: u32 = 4096;

/// The free half of all PASIDs: after as many allocations they wait.
const HALF: u64 = 1 << 19;

/// The most that a pair of calls may take with a quarantine, of one without.
const PAIR: Goal = Goal::Final(1.5);
/// The fewest PASIDs for one invalidation.
const BATCH: Goal = Goal::AtLeast(1000.0);

/// When a flush comes.
#[derive(Clone, Copy)]
enum When {
    /// As soon as so many wait: whoever frees asks for it.
    Waiting(u32),
    /// When nothing else is free: the allocation runs it.
    Exhausted,
}

impl When {
    fn waiting(self) -> Option<u32> {
        match self {
            When::Waiting(count) => Some(count),
            When::Exhausted => None,
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Waiting(count) => write!(formatter, "flush at {count}"),
            When::Exhausted => formatter.write_str("flush on exhaustion"),
        }
    }
}

pub(crate) fn run(criterion: &mut Criterion, report: &mut Report) {
    for (name, kind, is_global) in [
        ("global space", SpaceKind::Global, true),
        ("table space", SpaceKind::Tables, false),
        ("local in a space for both", SpaceKind::Both, false),
        ("global in a space for both", SpaceKind::Both, true),
    ] {
        for when in [When::Waiting(FEW), When::Waiting(MANY), When::Exhausted] {
            pair(criterion, report, (name, kind, is_global), when);
        }
    }
    churn(criterion, report, When::Exhausted);
    churn(criterion, report, When::Waiting(FEW));
}

fn flush(set: &IoasidSet) {
    let flushed: Result<u32, Infallible> = set.flush(|_| Ok(()));
    let _ = black_box(flushed);
}

/// Pairs of calls, and a flush after each so many, if that is asked for.
fn pairs(set: &IoasidSet, range: PasidRange, count: u64, each: Option<u32>) {
    // Counted down by who frees: to ask the set would count what waits.
    let each = each.map_or(u64::MAX, u64::from);
    let mut left = each;
    for word in 0..count {
        alloc_and_free(set, range, word);
        left -= 1;
        if left == 0 {
            left = each;
            flush(set);
        }
    }
}

fn pair(
    criterion: &mut Criterion,
    report: &mut Report,
    (name, kind, is_global): (&str, SpaceKind, bool),
    when: When,
) {
    let (work, each) = (format!("quarantine: {name}, {when}"), when.waiting());
    let (machine, other) = (Machine::new(kind), Machine::new(kind));
    let narrow = each.is_none().then_some(range(1, MANY));
    let waiting = Quarantined::new(&machine, is_global, narrow, Reuse::AfterFlush);
    let reused = Quarantined::new(&other, is_global, narrow, Reuse::Immediate);
    let range = black_box(waiting.set().range());
    for set in [waiting.set(), reused.set()] {
        check_pair(set, range);
        flush(set);
    }
    let before = waiting.set().flushes();
    let round = Round {
        iterations: MANY.into(),
        operations: 1,
    };
    let results = compare(
        criterion,
        ("quarantine", &work),
        round,
        |count| time(|| pairs(waiting.set(), range, count, each)),
        |count| time(|| pairs(reused.set(), range, count, each)),
    );
    check_pair(waiting.set(), range);
    check_pair(reused.set(), range);
    report.ratio(&work, "of immediate", PAIR, &results);
    if !results.is_empty() {
        let batch = batch(before, waiting.set().flushes());
        assert!(batch >= f64::from(FEW), "{batch} PASIDs a flush");
    }
}

/// PASIDs per flush between two looks.
fn batch(before: FlushStatistics, after: FlushStatistics) -> f64 {
    let completed = after.completed - before.completed;
    (after.returned - before.returned) as f64 / completed.max(1) as f64
}

/// A set half full, of which a random PASID is freed and one allocated, again and again.
struct Churn<'a> {
    set: &'a IoasidSet,
    live: Vec<Owned<&'a IoasidSet>>,
    rng: Rng,
    /// After how many frees it is flushed, if not on exhaustion.
    each: Option<u32>,
    freed: u32,
    failures: u64,
}

impl<'a> Churn<'a> {
    fn new(set: &'a IoasidSet, each: Option<u32>) -> Churn<'a> {
        let live = occupy(set, Occupancy::HALF);
        flush(set);
        Churn {
            set,
            live,
            rng: rng(),
            each,
            freed: 0,
            failures: 0,
        }
    }

    fn run(&mut self, count: u64) {
        let range = black_box(self.set.range());
        for word in 0..count {
            // The old owner is dropped by the assignment, after the new one is there.
            match self.set.alloc(range, word) {
                Ok(new) => {
                    let place = self.rng.usize(..self.live.len());
                    self.live[place] = new;
                }
                Err(_) => self.failures += 1,
            }
            self.freed += 1;
            if Some(self.freed) == self.each {
                self.freed = 0;
                flush(self.set);
            }
        }
    }
}

/// Steady churn in a full-width space.
///
/// With a flush on exhaustion an allocation takes the next PASID, and without a quarantine
/// the one that was freed last, which is anywhere; so the former takes less.
fn churn(criterion: &mut Criterion, report: &mut Report, when: When) {
    let work = format!("quarantine: random churn, 50 % full, {when}");
    let each = when.waiting();
    let (machine, other) = (Machine::new(SpaceKind::Both), Machine::new(SpaceKind::Both));
    let waiting = Quarantined::new(&machine, true, None, Reuse::AfterFlush);
    let reused = Quarantined::new(&other, true, None, Reuse::Immediate);
    let (mut churn, mut reference) = (
        Churn::new(waiting.set(), each),
        Churn::new(reused.set(), each),
    );
    let before = waiting.set().flushes();
    let (work_round, reference_round) = (
        |count| time(|| churn.run(count)),
        |count| time(|| reference.run(count)),
    );
    let id = ("churn", work.as_str());
    let round = |iterations| Round {
        iterations,
        operations: 1,
    };
    let results = match each {
        // Each round has one flush.
        Some(_) => compare(
            criterion,
            id,
            round(FEW.into()),
            work_round,
            reference_round,
        ),
        None => compare_slowly(criterion, id, round(HALF), work_round, reference_round),
    };
    let failures = (churn.failures, reference.failures);
    assert_eq!(failures, (0, 0), "churn that found nothing free");
    report.ratio(&work, "of immediate", PAIR, &results);
    if !results.is_empty() {
        let batch = batch(before, waiting.set().flushes());
        let work = format!("PASIDs per flush, random churn, 50 % full, {when}");
        report.value(&work, "PASIDs", BATCH, batch);
    }
}
