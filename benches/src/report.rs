// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows of the report, and the file that they are written to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::rounds::{Pair, Spread};

/// What a result should reach: an upper bound, unless it says otherwise.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// What this version must reach; a later one aims at the second number.
    Must(f64, f64),
    /// What this version must reach.
    Final(f64),
    /// What this version must reach, as a lower bound.
    AtLeast(f64),
    /// What the design aims at.
    Aim(f64),
    /// None: measured to be known.
    None,
}

impl Goal {
    fn parts(self) -> (Option<f64>, Option<f64>, &'static str) {
        match self {
            Goal::Must(goal, aim) => (Some(goal), Some(aim), "required"),
            Goal::Final(goal) | Goal::AtLeast(goal) => (Some(goal), None, "required"),
            Goal::Aim(goal) => (Some(goal), None, "aimed at"),
            Goal::None => (None, None, ""),
        }
    }
}

/// One line of the report.
#[derive(Debug, Serialize)]
pub struct Row {
    work: String,
    /// The median of the rounds' ratios to the reference, where there is one.
    ratio: Option<f64>,
    /// Of `ratio`, or of `value` where there is no ratio.
    unit: String,
    /// What the work takes: nanoseconds beside a ratio, else in `unit`.
    value: f64,
    /// The bound of the ratio, or of the value where there is no ratio.
    goal: Option<f64>,
    /// Whether the goal is a lower bound, and not an upper one.
    at_least: bool,
    /// The stricter bound of a later version.
    aim: Option<f64>,
    /// `required` of this version, or `aimed at` by the design.
    goal_is: &'static str,
    low: f64,
    high: f64,
}

/// All rows so far.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds the ratio of the work to its reference, which is called `unit`.
    pub fn ratio(&mut self, work: &str, unit: &str, goal: Goal, pairs: &[Pair]) {
        let ratio = Spread::of(pairs.iter().map(|pair| pair.work_ns / pair.reference_ns));
        let value = Spread::of(pairs.iter().map(|pair| pair.work_ns));
        if let (Some(ratio), Some(value)) = (ratio, value) {
            self.push(work, Some(ratio.median), unit, value.median, goal, ratio);
        }
    }

    /// Adds how many times as much as the reference `threads` threads do together, where
    /// each does as much as the reference.
    pub fn throughput(&mut self, work: &str, threads: u32, goal: Goal, pairs: &[Pair]) {
        let threads = f64::from(threads);
        let times = pairs
            .iter()
            .map(|pair| threads * pair.reference_ns / pair.work_ns);
        let value = Spread::of(pairs.iter().map(|pair| pair.work_ns));
        if let (Some(times), Some(value)) = (Spread::of(times), value) {
            let unit = "of one";
            self.push(work, Some(times.median), unit, value.median, goal, times);
        }
    }

    /// Adds what the work takes beyond its reference, in nanoseconds.
    pub fn difference(&mut self, work: &str, unit: &str, goal: Goal, pairs: &[Pair]) {
        let beyond = pairs.iter().map(|pair| pair.work_ns - pair.reference_ns);
        if let Some(beyond) = Spread::of(beyond) {
            self.push(work, None, unit, beyond.median, goal, beyond);
        }
    }

    /// Adds the time of work without a reference, in units of `unit_ns` nanoseconds.
    pub fn time(&mut self, work: &str, (unit, unit_ns): (&str, f64), goal: Goal, ns: &[f64]) {
        if let Some(time) = Spread::of(ns.iter().map(|ns| ns / unit_ns)) {
            self.push(work, None, unit, time.median, goal, time);
        }
    }

    /// Adds a number that is the same each time.
    pub fn value(&mut self, work: &str, unit: &str, goal: Goal, value: f64) {
        let spread = Spread {
            low: value,
            median: value,
            high: value,
        };
        self.push(work, None, unit, value, goal, spread);
    }

    fn push(
        &mut self,
        work: &str,
        ratio: Option<f64>,
        unit: &str,
        value: f64,
        goal: Goal,
        spread: Spread,
    ) {
        let at_least = matches!(goal, Goal::AtLeast(_));
        let (goal, aim, goal_is) = goal.parts();
        self.rows.push(Row {
            work: work.to_owned(),
            ratio,
            unit: unit.to_owned(),
            value,
            goal,
            at_least,
            aim,
            goal_is,
            low: spread.low,
            high: spread.high,
        });
    }

    /// Writes the rows as a JSON array to `pasid-ratios.json` in the folder
    /// `target`, and returns the file's path.
    pub fn write(&self, target: &Path) -> io::Result<PathBuf> {
        let path = target.join("pasid-ratios.json");
        fs::write(&path, serde_json::to_string_pretty(&self.rows)?)?;
        Ok(path)
    }
}
