// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often the signals come: so that as many as possible find the thread at another place
//! than the last one, for the time that it runs.
//!
//! Where they come too often the thread gets nowhere between two, and where they come too
//! seldom it runs for nothing. What is best depends on the machine: an interrupt of a timer
//! may cost a microsecond or, in a virtual machine within another, twenty. So each of some
//! gaps has a mark, which is renewed when it is used. The one with the best is used, but for
//! a look at its neighbours now and then.

/// The gaps, in nanoseconds: each an eighth longer than the one before.
const STEPS: usize = 56;
const FIRST: f64 = 1_000.0;
const FACTOR: f64 = 1.125;
/// Where it begins: at 33 microseconds.
const BEGIN: usize = 30;
/// After so many windows the neighbours are tried again, and how much of a mark stays then.
const AGAIN: u32 = 24;
const KEPT: f64 = 0.7;

pub struct Pace {
    /// New places for each nanosecond, at each gap where that is known.
    marks: [Option<f64>; STEPS],
    at: usize,
    windows: u32,
}

impl Pace {
    pub fn new() -> Pace {
        Pace {
            marks: [None; STEPS],
            at: BEGIN,
            windows: 0,
        }
    }

    /// The gap to use, in nanoseconds.
    pub fn gap(&self) -> i64 {
        (FIRST * FACTOR.powi(self.at as i32)) as i64
    }

    /// That many new places for each nanosecond were met with it.
    pub fn met(&mut self, rate: f64) {
        let mark = &mut self.marks[self.at];
        *mark = Some(mark.map_or(rate, |mark| mark * KEPT + rate * (1.0 - KEPT)));
        self.windows += 1;
        self.choose();
    }

    /// The best that is known, or a neighbour of it that is not.
    fn choose(&mut self) {
        let mark = |step: &usize| self.marks[*step].unwrap_or(0.0);
        let best = (0..STEPS).max_by(|one, other| mark(one).total_cmp(&mark(other)));
        let best = best.unwrap_or(BEGIN);
        let near = [best.saturating_sub(1), (best + 1).min(STEPS - 1)];
        if self.windows.is_multiple_of(AGAIN) {
            near.iter().for_each(|&step| self.marks[step] = None);
        }
        let unknown = near.into_iter().find(|&step| self.marks[step].is_none());
        self.at = unknown.unwrap_or(best);
    }

    /// No new place was met at all.
    pub fn starves(&mut self) {
        let shorter = self.marks.iter_mut().take(self.at + 1);
        shorter.for_each(|mark| *mark = Some(0.0));
        self.at = (self.at + 1).min(STEPS - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which a signal costs that many nanoseconds.
    fn settles(cost: f64) -> f64 {
        let mut pace = Pace::new();
        for _ in 0..1_000 {
            let gap = pace.gap() as f64;
            if gap <= cost {
                pace.starves();
            } else {
                pace.met(1.0 / gap);
            }
        }
        pace.gap() as f64 / cost
    }

    #[test]
    fn it_finds_the_shortest_gap_that_leaves_time() {
        for cost in [1_500.0, 7_000.0, 24_000.0, 200_000.0] {
            let ratio = settles(cost);
            assert!((0.8..1.4).contains(&ratio), "{ratio} of {cost}");
        }
    }
}
