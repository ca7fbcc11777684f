// SPDX-License-Identifier: MIT OR Apache-2.0
//! Timing the work and its reference side by side.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};

/// One round: nanoseconds per operation.
#[derive(Clone, Copy)]
pub struct Pair {
    /// Of the work.
    pub work_ns: f64,
    /// Of the reference operation.
    pub reference_ns: f64,
}

/// How much is done before the work and its reference take turns.
#[derive(Clone, Copy)]
pub struct Round {
    /// Iterations of either.
    pub iterations: u64,
    /// Operations in one iteration.
    pub operations: u32,
}

impl Round {
    /// Some twenty microseconds of operations that take nanoseconds: long for the
    /// clock, and short beside a time slice of the scheduler.
    pub const SHORT: Round = Round {
        iterations: 2048,
        operations: 1,
    };

    /// One operation that takes microseconds.
    pub const SINGLE: Round = Round {
        iterations: 1,
        operations: 1,
    };
}

/// How long `run` takes.
pub fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// Hands `work` to criterion as the benchmark `group/name`, beside its reference.
/// Returns what the rounds took: none if criterion was asked for other benchmarks.
///
/// Both do as many iterations as they are told and return how long that took. Every
/// other round times the reference first, so that a drift of the clock speed favours
/// neither. Only whole rounds are run, and at least one for each of criterion's
/// samples, however few iterations it wants; it is told what those would have taken.
pub fn compare(
    criterion: &mut Criterion,
    id: (&str, &str),
    round: Round,
    work: impl FnMut(u64) -> Duration,
    reference: impl FnMut(u64) -> Duration,
) -> Vec<Pair> {
    compare_samples(criterion, id, None, round, work, reference)
}

/// [`compare`] where a round takes the better part of a second: with as few samples as
/// criterion takes, whatever the command line asks for.
pub fn compare_slowly(
    criterion: &mut Criterion,
    id: (&str, &str),
    round: Round,
    work: impl FnMut(u64) -> Duration,
    reference: impl FnMut(u64) -> Duration,
) -> Vec<Pair> {
    compare_samples(criterion, id, Some(10), round, work, reference)
}

fn compare_samples(
    criterion: &mut Criterion,
    (group, name): (&str, &str),
    samples: Option<usize>,
    round: Round,
    mut work: impl FnMut(u64) -> Duration,
    mut reference: impl FnMut(u64) -> Duration,
) -> Vec<Pair> {
    let count = round.iterations as f64 * f64::from(round.operations);
    let ns_each = |time: Duration| time.as_nanos() as f64 / count;
    let mut pairs: Vec<Pair> = Vec::new();
    let mut group = criterion.benchmark_group(group);
    if let Some(samples) = samples {
        group.sample_size(samples);
    }
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter_custom(|iterations| {
            let rounds = (iterations / round.iterations).max(1);
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let (work_time, reference_time) = if pairs.len().is_multiple_of(2) {
                    let work_time = work(round.iterations);
                    (work_time, reference(round.iterations))
                } else {
                    let reference_time = reference(round.iterations);
                    (work(round.iterations), reference_time)
                };
                pairs.push(Pair {
                    work_ns: ns_each(work_time),
                    reference_ns: ns_each(reference_time),
                });
                total += work_time;
            }
            total.mul_f64(iterations as f64 / (rounds * round.iterations) as f64)
        });
    });
    group.finish();
    pairs
}

/// [`compare`] for work without a reference: the nanoseconds that an iteration took in
/// each round.
pub fn alone(
    criterion: &mut Criterion,
    id: (&str, &str),
    round: Round,
    work: impl FnMut(u64) -> Duration,
) -> Vec<f64> {
    let pairs = compare(criterion, id, round, work, |_| Duration::ZERO);
    pairs.iter().map(|pair| pair.work_ns).collect()
}

/// The median and the spread of a quantity over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// A tenth of the rounds lie below.
    pub low: f64,
    /// Half of the rounds lie below.
    pub median: f64,
    /// A tenth of the rounds lie above.
    pub high: f64,
}

impl Spread {
    /// Of one quantity, a value for each round; `None` without rounds.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |tenths: usize| values.get(values.len().saturating_sub(1) * tenths / 10);
        Some(Spread {
            low: *at(1)?,
            median: *at(5)?,
            high: *at(9)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn spread_is_the_median_and_the_outer_tenths() {
        let spread = Spread::of((0..=10).rev().map(f64::from));
        let expected = Spread {
            low: 1.0,
            median: 5.0,
            high: 9.0,
        };
        assert_eq!(spread, Some(expected));
        assert_eq!(Spread::of(std::iter::empty()), None);
    }
}
