// SPDX-License-Identifier: MIT OR Apache-2.0
//! The benchmarks, and their ratios as a table beside the goals.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::{CommandLine, Project};
use crate::summary::Outcome;

pub(crate) const DESCRIPTION: &str =
    "$ cargo bench -p pasid-benches, then the table from target/pasid-ratios.json";

/// What `--quick` hands to the benchmarks: a tenth of the time, and wider spreads.
const QUICK: &str = "--sample-size 10 --warm-up-time 0.1 --measurement-time 0.3";

/// The file that the benchmarks leave in the target folder.
const RATIOS: &str = "pasid-ratios.json";

/// The work of every row that the benchmarks leave. One that came to no round, or
/// was not run at all, would else be missed by nobody.
const WORK: [&str; 87] = [
    "alloc + free, empty, lowest",
    "alloc + free, 50 % full, lowest",
    "alloc + free, 90 % full, lowest",
    "alloc + free, 99 % full, lowest",
    "alloc + free, 99.99 % full, lowest",
    "alloc + free, empty, next",
    "alloc + free, 50 % full, next",
    "alloc + free, 90 % full, next",
    "alloc + free, 99 % full, next",
    "alloc + free, 99.99 % full, next",
    "random churn, 50 % full",
    "random churn, 99.99 % full",
    "fill 2^20, a PASID",
    "drain 2^20, a PASID",
    "alloc, 2^20 full, after a free",
    "alloc, 2^20 full, nothing freed since",
    "get by handle + drop, 1,000 live",
    "clone + drop of a Ref",
    "find, throughput, 1,000 live",
    "find, throughput, cached PASID",
    "find, throughput, 2^20 live",
    "set: global space, empty",
    "set: table space, empty",
    "set: global space, 99 % full",
    "set: table space, 99 % full",
    "set: local in a space for both, empty",
    "set: global in a space for both, empty",
    "set: local in a space for both, 99 % full",
    "set: global in a space for both, 99 % full",
    "set: local, 100,000 global below it",
    "set: global, 100,000 local below it",
    "set: group of 2 tables, table space",
    "set: group of 2 tables, space for both",
    "set: with a quota",
    "set: next",
    "set: preserve-narrow",
    "set: spread, one thread",
    "set: alloc, 2^20 full, space for both",
    "set: alloc, 2^20 full, global space, nothing freed since",
    "quarantine: global space, flush at 1024",
    "quarantine: global space, flush at 4096",
    "quarantine: global space, flush on exhaustion",
    "quarantine: table space, flush at 1024",
    "quarantine: table space, flush at 4096",
    "quarantine: table space, flush on exhaustion",
    "quarantine: local in a space for both, flush at 1024",
    "quarantine: local in a space for both, flush at 4096",
    "quarantine: local in a space for both, flush on exhaustion",
    "quarantine: global in a space for both, flush at 1024",
    "quarantine: global in a space for both, flush at 4096",
    "quarantine: global in a space for both, flush on exhaustion",
    "quarantine: random churn, 50 % full, flush on exhaustion",
    "PASIDs per flush, random churn, 50 % full, flush on exhaustion",
    "quarantine: random churn, 50 % full, flush at 1024",
    "PASIDs per flush, random churn, 50 % full, flush at 1024",
    "fault_get + drop, local, one attached",
    "fault_get + drop, local, 1,000 attached",
    "attach + commit + detach, local",
    "fault_get + drop, global, one attached",
    "fault_get + drop, global, 1,000 attached",
    "attach + commit + detach, global",
    "set: get by handle + drop, 1,000 live",
    "set: find, throughput, 1,000 live",
    "payload: alloc + free, Arc, table space",
    "payload: find_guarded, Arc, 1,000 live",
    "payload: find_guarded, Arc, a guard for each",
    "payload: find_guarded, Arc, beside a load",
    "alloc + free, two threads, a half each, lowest (goal: of spread)",
    "get + put of one PASID, two threads",
    "R, two threads, a word each",
    "spread, two threads, global space",
    "spread, two threads, table space",
    "spread, two threads, local, both",
    "spread, two threads, global, both",
    "memory of an empty 20-bit space",
    "memory after a burst and shrink",
    "memory of a live PASID, dense",
    "memory of 1,000 tables, 16 local PASIDs each, table space",
    "memory of 1,000 tables, 16 local PASIDs each, space for both",
    "snapshot of 2^20 PASIDs, dense: JSON",
    "snapshot of 2^20 PASIDs, dense: postcard",
    "snapshot of 2^20 PASIDs, dense: take",
    "snapshot of 2^20 PASIDs, dense: restore",
    "snapshot of 2^20 PASIDs, alternating generations: JSON",
    "snapshot of 2^20 PASIDs, alternating generations: postcard",
    "snapshot of 2^20 PASIDs, alternating generations: take",
    "snapshot of 2^20 PASIDs, alternating generations: restore",
];

/// Runs the benchmarks and prints what they measured. A goal that is missed is
/// printed as missed and fails nothing: timings depend on the machine.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    let start = SystemTime::now();
    // The ratios are what is compared, and with goals; a comparison with the times
    // of an earlier run would say how busy the machine was.
    let mut line = CommandLine::cargo("bench -p pasid-benches -- --discard-baseline");
    if project.quick {
        line = line.args(QUICK.split_whitespace());
    }
    let status = line.run(&project.root)?;
    if !status.success() {
        return Ok(Outcome::Failed(format!("`{line}`: {status}")));
    }
    let path = project.absolute_target(RATIOS);
    fresh(&path, start)?;
    let text = fs::read_to_string(&path)?;
    let rows: Vec<Value> = serde_json::from_str(&text).context("the ratios are no JSON array")?;
    let rows = rows.iter().map(Row::read).collect::<Result<Vec<_>>>()?;
    print!("{}", table(&rows));
    let work: Vec<&str> = rows.iter().map(|row| row.work.as_str()).collect();
    if let Some(fault) = unexpected(&work) {
        return Ok(Outcome::Failed(fault));
    }
    let goals = rows.iter().filter(|row| row.goal.is_some()).count();
    let short = rows.iter().filter(|row| row.is_short()).count();
    Ok(Outcome::Passed(format!(
        "{} of {goals} goals reached",
        goals - short
    )))
}

/// Names the rows that are missing, and those that [`WORK`] does not know.
fn unexpected(work: &[&str]) -> Option<String> {
    let without = |from: &[&str], known: &[&str]| -> Vec<String> {
        let rest = from.iter().filter(|work| !known.contains(work));
        rest.map(|work| work.to_string()).collect()
    };
    let (missing, unknown) = (without(&WORK, work), without(work, &WORK));
    (!missing.is_empty() || !unknown.is_empty())
        .then(|| format!("rows missing: {missing:?}; rows that nobody expects: {unknown:?}"))
}

/// Refuses the file of an earlier run.
fn fresh(path: &PathBuf, start: SystemTime) -> Result<()> {
    let metadata =
        fs::metadata(path).with_context(|| format!("the benchmarks left no {}", path.display()))?;
    anyhow::ensure!(
        metadata.modified()? >= start,
        "{} is from an earlier run",
        path.display()
    );
    Ok(())
}

/// One line of work, measured.
struct Row {
    work: String,
    /// What is compared with the goal: the ratio, or the value where there is none.
    measured: f64,
    unit: String,
    /// Beside a ratio, what the work took.
    ns: Option<f64>,
    /// The bound, where there is one, and whose it is.
    goal: Option<f64>,
    /// Whether it is a lower bound, and not an upper one.
    at_least: bool,
    goal_is: String,
    /// A stricter bound for later.
    aim: Option<f64>,
    /// The spread of `measured` over the rounds.
    low: f64,
    high: f64,
}

impl Row {
    fn read(row: &Value) -> Result<Row> {
        let text = |name: &str| {
            let text = row[name].as_str();
            text.map(str::to_owned)
                .with_context(|| format!("no text `{name}` in {row}"))
        };
        let number = |name: &str| {
            let number = row[name].as_f64();
            number.with_context(|| format!("no number `{name}` in {row}"))
        };
        let (ratio, value) = (row["ratio"].as_f64(), number("value")?);
        Ok(Row {
            work: text("work")?,
            measured: ratio.unwrap_or(value),
            unit: text("unit")?,
            ns: ratio.map(|_| value),
            goal: row["goal"].as_f64(),
            at_least: row["at_least"].as_bool().unwrap_or(false),
            goal_is: text("goal_is")?,
            aim: row["aim"].as_f64(),
            low: number("low")?,
            high: number("high")?,
        })
    }

    fn is_short(&self) -> bool {
        self.goal.is_some_and(|goal| match self.at_least {
            true => self.measured < goal,
            false => self.measured > goal,
        })
    }

    fn verdict(&self) -> &'static str {
        match self.goal {
            None => "",
            Some(_) if self.is_short() => "SHORT",
            Some(_) => "ok",
        }
    }

    /// The goal, marked where more is better.
    fn bound(&self) -> String {
        match self.goal {
            None => String::new(),
            Some(goal) if self.at_least => format!(">= {}", number(goal)),
            Some(goal) => number(goal),
        }
    }

    /// Whose goal it is, and what comes after it.
    fn note(&self) -> String {
        match self.aim {
            Some(aim) => format!("{}; later {}", self.goal_is, number(aim)),
            None => self.goal_is.clone(),
        }
    }
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.work.chars().count());
    let width = width.max().unwrap_or(4);
    let mut text = format!(
        "\n{:<width$}  {:>8} {:<10}  {:>16}  {:>8}  {:>8}\n",
        "work", "measured", "", "low .. high", "goal", "ns"
    );
    let optional = |value: Option<f64>| value.map_or_else(String::new, number);
    for row in rows {
        let spread = format!("{} .. {}", number(row.low), number(row.high));
        let line = format!(
            "{:<width$}  {:>8} {:<10}  {spread:>16}  {:>8}  {:>8}  {:<5}  {}",
            row.work,
            number(row.measured),
            row.unit,
            row.bound(),
            optional(row.ns),
            row.verdict(),
            row.note(),
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Two decimals for ratios, none for numbers as large as bytes.
fn number(value: f64) -> String {
    if value.abs() < 1000.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, WORK, table, unexpected};
    use serde_json::Value;

    #[test]
    fn row_that_is_missing_or_new_is_named() {
        assert_eq!(unexpected(&WORK), None);
        let missing = unexpected(&WORK[1..]).unwrap();
        assert!(missing.contains(WORK[0]), "{missing}");
        let mut more = WORK.to_vec();
        more.push("more work");
        assert!(unexpected(&more).unwrap().contains("more work"));
    }

    #[test]
    fn lower_bound_is_short_below_and_not_above() {
        let row = |measured| {
            let text = format!(
                r#"{{"work": "spread", "ratio": {measured}, "unit": "of one", "value": 20,
                "goal": 1.9, "at_least": true, "aim": null, "goal_is": "required",
                "low": 1, "high": 2}}"#
            );
            Row::read(&serde_json::from_str::<Value>(&text).unwrap()).unwrap()
        };
        let rows = [row(1.95), row(1.85)];
        assert_eq!(rows.each_ref().map(Row::verdict), ["ok", "SHORT"]);
        assert!(table(&rows).contains(">= 1.90"));
    }

    #[test]
    fn table_shows_the_ratio_or_the_value_and_says_what_is_short() {
        let row = |text| Row::read(&serde_json::from_str::<Value>(text).unwrap());
        let rows = [
            row(
                r#"{"work": "get + drop", "ratio": 1.25, "unit": "P", "value": 9.5,
                "goal": 1.4, "aim": 1.2, "goal_is": "required", "low": 1.2, "high": 1.3}"#,
            ),
            row(
                r#"{"work": "empty", "ratio": null, "unit": "bytes", "value": 2048,
                "goal": 1024, "aim": null, "goal_is": "required", "low": 2048, "high": 2048}"#,
            ),
            row(
                r#"{"work": "churn", "ratio": 3.5, "unit": "R", "value": 70.0,
                "goal": null, "aim": null, "goal_is": "", "low": 3, "high": 4}"#,
            ),
        ];
        let rows = rows.map(Result::unwrap);
        assert_eq!(rows.each_ref().map(Row::verdict), ["ok", "SHORT", ""]);
        let text = table(&rows);
        assert!(text.contains("1.25 P") && text.contains("9.50"), "{text}");
        assert!(text.contains("required; later 1.20"), "{text}");
        assert!(text.contains("2048 .. 2048"), "{text}");
        assert!(row(r#"{"work": "half a row"}"#).is_err());
    }
}
