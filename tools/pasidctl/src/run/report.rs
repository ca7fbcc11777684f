// SPDX-License-Identifier: MIT OR Apache-2.0
//! The result of a run.

use pasid::Pasid;
use serde::Serialize;

use super::measure::{Kind, Meter, SAMPLE_EVERY};
use super::plan::Plan;
use super::rules::{Ledger, RULES, Rule};

/// What a run has measured and checked. Serialized, it is the object that
/// `--json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where the machine comes from.
    pub machine: String,
    /// Its PASID-capable devices.
    pub devices: Vec<ReportedDevice>,
    /// The width of the space, in bits.
    pub width: u8,
    /// The PASIDs that were reserved from beginning to end.
    pub reserved: Vec<u32>,
    /// The order of handing out.
    pub policy: &'static str,
    /// How many threads there were.
    pub threads: usize,
    /// Where their random numbers came from.
    pub seed: u64,
    /// How many processes there could be at a time.
    pub processes: usize,
    /// How long the threads ran.
    pub seconds: f64,
    /// The rule that was broken on purpose.
    pub planted: Option<&'static str>,
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
    /// How many allocations found none free.
    pub exhausted: u64,
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
}

/// A PASID-capable device.
#[derive(Debug, Serialize)]
pub struct ReportedDevice {
    /// Its address.
    pub address: String,
    /// How wide its PASIDs were taken to be, in bits.
    pub width: u8,
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
    /// The highest PASID handed out.
    pub highest: Option<Pasid>,
    /// The space's memory at the end of the load, in bytes.
    pub memory_bytes: usize,
    /// How often each rule was checked.
    pub checked: [u64; RULES],
    /// What was seen broken.
    pub ledger: &'a Ledger,
}

impl Report {
    /// Puts the findings together.
    pub fn new(findings: &Findings<'_>) -> Report {
        let Findings {
            plan,
            meter,
            ledger,
            ..
        } = *findings;
        let operations = Kind::ALL.map(|kind| operation(meter, kind));
        let rules = Rule::ALL.map(|rule| CheckedRule {
            rule: rule.name(),
            text: rule.text(),
            checks: findings.checked[rule as usize],
            failed: ledger.failed(rule),
            example: ledger.example(rule).map(str::to_owned),
        });
        let devices = plan.holders.iter().take(plan.devices);
        Report {
            machine: plan.origin.clone(),
            devices: devices
                .map(|holder| ReportedDevice {
                    address: holder.name.clone(),
                    width: holder.width.bits(),
                })
                .collect(),
            width: plan.width.bits(),
            reserved: plan.reserved.iter().map(|pasid| pasid.get()).collect(),
            policy: plan.policy.name(),
            threads: findings.threads,
            seed: findings.seed,
            processes: plan.processes,
            seconds: findings.seconds,
            planted: findings.plant.map(Rule::name),
            operations: operations.into(),
            calls: meter.total(),
            mops_per_s: meter.total() as f64 / findings.seconds / 1e6,
            sample_every: SAMPLE_EVERY,
            clock_ns: findings.clock_ns,
            highest_pasid: findings.highest.map(Pasid::get),
            exhausted: meter.calls(Kind::Exhausted),
            memory_bytes: findings.memory_bytes,
            rules_checked: rules.iter().filter(|rule| rule.checks > 0).count(),
            checks: findings.checked.iter().sum(),
            failed: ledger.total(),
            broken: rules.iter().filter(|rule| rule.failed > 0).count(),
            rules: rules.into(),
        }
    }

    /// Whether a rule broke.
    pub fn is_broken(&self) -> bool {
        self.broken > 0
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
