// SPDX-License-Identifier: MIT OR Apache-2.0
//! The result of a run.

use pasid::Pasid;
use serde::Serialize;

use super::answer::Answer;
use super::measure::{Kind, Meter, SAMPLE_EVERY};
use super::plan::Plan;
use super::quarantine::Tally;
use super::rules::{RULES, Rule};
use super::story::Story;

/// What a run has measured and checked. Serialized, it is the object that
/// `--json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where the machine comes from.
    pub machine: String,
    /// Its PASID tables.
    pub tables: Vec<ReportedTable>,
    /// The devices without PASID support, which have none.
    pub refused: Vec<String>,
    /// The order of handing out.
    pub policy: &'static str,
    /// How many threads there were.
    pub threads: usize,
    /// Where their random numbers came from.
    pub seed: u64,
    /// How long the threads ran.
    pub seconds: f64,
    /// The rule that was broken on purpose.
    pub planted: Option<&'static str>,
    /// Faults that waited in a queue while PASIDs were reused, before the load.
    pub story: Story,
    /// Calls by kind.
    pub operations: Vec<Operation>,
    /// All calls.
    pub calls: u64,
    /// Millions of calls a second, of all threads together; the load's own work
    /// goes into the time.
    pub mops_per_s: f64,
    /// One call in so many was timed.
    pub sample_every: u32,
    /// What reading the clock twice takes, in ns: a part of each time.
    pub clock_ns: u64,
    /// The highest PASID that a process was given.
    pub highest_pasid: Option<u32>,
    /// What calls were refused with.
    pub answers: Vec<CountedAnswer>,
    /// The flushes of the load.
    pub flushes: Flushes,
    /// The space's memory at the end of the load.
    pub memory_bytes: usize,
    /// Every rule.
    pub rules: Vec<CheckedRule>,
    /// All checks.
    pub checks: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many rules were checked at least once.
    pub rules_checked: usize,
    /// How many rules broke.
    pub broken: usize,
    /// The rules that were not checked at all, which is as bad.
    pub unchecked: Vec<&'static str>,
}

/// A PASID table.
#[derive(Debug, Serialize)]
pub struct ReportedTable {
    /// The addresses of the devices that share it.
    pub devices: Vec<String>,
    /// The number of their IOMMU group, where it is known.
    pub group: Option<u32>,
    /// How many bits all of them have.
    pub width: u8,
    /// What is reserved on it alone.
    pub reserved: Option<u32>,
    /// It is a copy of an earlier one, because the machine has too few.
    pub again: bool,
}

/// The flushes of the load.
#[derive(Debug, Serialize)]
pub struct Flushes {
    /// Those that completed, empty ones left out.
    pub completed: u64,
    /// PASIDs that they returned.
    pub pasids: u64,
    /// Those that failed or were given up, and tables on which one failed: what they had
    /// waited for another.
    pub put_back: u64,
}

/// An answer of calls that are refused.
#[derive(Debug, Serialize)]
pub struct CountedAnswer {
    /// Its name.
    pub answer: &'static str,
    /// How often it was given.
    pub count: u64,
}

/// A kind of call.
#[derive(Debug, Serialize)]
pub struct Operation {
    /// Its name.
    pub kind: &'static str,
    /// Its name for people.
    #[serde(skip)]
    pub title: &'static str,
    /// How many there were.
    pub calls: u64,
    /// How many of them were timed.
    pub samples: u64,
    /// Half of them took at most so long.
    pub p50_ns: Option<u64>,
    /// 99 of 100; none if fewer were timed.
    pub p99_ns: Option<u64>,
    /// 999 of 1000; none if fewer were timed.
    pub p999_ns: Option<u64>,
}

/// A rule.
#[derive(Debug, Serialize)]
pub struct CheckedRule {
    /// Its name.
    pub rule: &'static str,
    /// What it says.
    pub text: &'static str,
    /// How often it was checked.
    pub checks: u64,
    /// How many of the checks failed.
    pub failed: u64,
    /// What the first that failed saw.
    pub example: Option<String>,
}

/// What the parts of a run leave for the report.
#[derive(Debug)]
pub struct Findings<'a> {
    /// What the load was.
    pub plan: &'a Plan,
    /// How many threads it had.
    pub threads: usize,
    /// What its random numbers came from.
    pub seed: u64,
    /// The rule that was broken on purpose.
    pub plant: Option<Rule>,
    /// How long the threads ran, in seconds.
    pub seconds: f64,
    /// All threads' counts and times.
    pub meter: &'a Meter,
    /// What reading the clock twice costs, in ns.
    pub clock_ns: u64,
    /// What was told before the load.
    pub story: &'a Story,
    /// What the flushes came to, and what was seen broken.
    pub tally: &'a Tally,
    /// The highest PASID handed out.
    pub highest: Option<Pasid>,
    /// The space's memory at the end of the load, in bytes.
    pub memory_bytes: usize,
    /// How often each rule was checked.
    pub checked: [u64; RULES],
}

impl Report {
    /// Puts the findings together.
    pub fn new(findings: &Findings<'_>) -> Report {
        let Findings {
            plan,
            meter,
            story,
            tally,
            ..
        } = *findings;
        let ledger = &tally.ledger;
        let operations = Kind::ALL.map(|kind| operation(meter, kind));
        let rules = Rule::ALL.map(|rule| CheckedRule {
            rule: rule.name(),
            text: rule.text(),
            checks: findings.checked[rule as usize],
            failed: ledger.failed(rule),
            example: ledger.example(rule).map(str::to_owned),
        });
        let tables = plan.tables.iter().map(|table| ReportedTable {
            devices: table
                .devices
                .iter()
                .map(|device| device.name.clone())
                .collect(),
            group: table.group,
            width: table.width.bits(),
            reserved: table.reserved.map(Pasid::get),
            again: table.again,
        });
        let unchecked = Rule::ALL
            .into_iter()
            .filter(|&rule| findings.checked[rule as usize] == 0);
        let answers = Answer::ALL.map(|answer| CountedAnswer {
            answer: answer.name(),
            count: meter.answers(answer),
        });
        Report {
            machine: plan.origin.clone(),
            tables: tables.collect(),
            refused: plan.without.clone(),
            policy: plan.policy.name(),
            threads: findings.threads,
            seed: findings.seed,
            seconds: findings.seconds,
            planted: findings.plant.map(Rule::name),
            story: story.clone(),
            operations: operations.into(),
            calls: meter.total(),
            mops_per_s: meter.total() as f64 / findings.seconds / 1e6,
            sample_every: SAMPLE_EVERY,
            clock_ns: findings.clock_ns,
            highest_pasid: findings.highest.map(Pasid::get),
            answers: answers.into(),
            flushes: Flushes {
                completed: tally.completed(),
                pasids: tally.returned(),
                put_back: tally.put_back(),
            },
            memory_bytes: findings.memory_bytes,
            rules_checked: rules.iter().filter(|rule| rule.checks > 0).count(),
            checks: findings.checked.iter().sum(),
            failed: ledger.total(),
            broken: rules.iter().filter(|rule| rule.failed > 0).count(),
            unchecked: unchecked.map(Rule::name).collect(),
            rules: rules.into(),
        }
    }

    /// Whether a rule broke, or was not checked.
    pub fn is_broken(&self) -> bool {
        self.broken > 0 || !self.unchecked.is_empty()
    }
}

fn operation(meter: &Meter, kind: Kind) -> Operation {
    let times = meter.times_ns(kind);
    // The slowest one in so many is known only where there are so many.
    let slowest_in = |count: u64| {
        let quantile = 1.0 - 1.0 / count as f64;
        (times.len() >= count).then(|| times.value_at_quantile(quantile))
    };
    Operation {
        kind: kind.name(),
        title: kind.title(),
        calls: meter.calls(kind),
        samples: times.len(),
        p50_ns: slowest_in(2),
        p99_ns: slowest_in(100),
        p999_ns: slowest_in(1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::builtin;
    use crate::run::options::Order;

    #[test]
    fn a_rule_that_was_not_checked_counts_as_broken() {
        let plan = Plan::new(&builtin().unwrap(), None, Order::Mixed).unwrap();
        let (meter, tally) = (Meter::new().unwrap(), Tally::default());
        let story = Story::tell(&plan, 1, false).unwrap();
        let report = |checked| {
            Report::new(&Findings {
                plan: &plan,
                threads: 1,
                seed: 1,
                plant: None,
                seconds: 1.0,
                meter: &meter,
                clock_ns: 1,
                story: &story,
                tally: &tally,
                highest: None,
                memory_bytes: 1,
                checked,
            })
        };
        assert!(!report([1; RULES]).is_broken());
        for rule in Rule::ALL {
            let mut checked = [1; RULES];
            checked[rule as usize] = 0;
            let report = report(checked);
            assert!(report.is_broken());
            let complaints: Vec<String> = report.complaints().collect();
            assert_eq!(
                complaints,
                [format!("rule {} was not checked", rule.name())]
            );
            assert!(report.text().contains("rules checked: 15, broken: 0"));
        }
    }
}
