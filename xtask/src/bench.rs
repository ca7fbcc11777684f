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

/// The file that the benchmarks leave in the target folder.
const RATIOS: &str = "pasid-ratios.json";

/// Runs the benchmarks and prints what they measured. A goal that is missed is
/// printed as missed and fails nothing: timings depend on the machine.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    let start = SystemTime::now();
    let line = CommandLine::cargo("bench -p pasid-benches");
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
    let met = rows.iter().filter(|row| row.met()).count();
    Ok(Outcome::Passed(format!(
        "{met} of {} goals met",
        rows.len()
    )))
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
    goal: f64,
    /// The spread of `measured` over the rounds.
    low: f64,
    high: f64,
}

impl Row {
    fn read(row: &Value) -> Result<Row> {
        let text = |name: &str| {
            row[name]
                .as_str()
                .with_context(|| format!("no text `{name}` in {row}"))
        };
        let number = |name: &str| {
            row[name]
                .as_f64()
                .with_context(|| format!("no number `{name}` in {row}"))
        };
        Ok(Row {
            work: text("work")?.to_owned(),
            measured: row["ratio"].as_f64().map_or_else(|| number("value"), Ok)?,
            unit: text("unit")?.to_owned(),
            goal: number("goal")?,
            low: number("low")?,
            high: number("high")?,
        })
    }

    /// Every goal is an upper bound.
    fn met(&self) -> bool {
        self.measured <= self.goal
    }
}

fn table(rows: &[Row]) -> String {
    let width = rows
        .iter()
        .map(|row| row.work.chars().count())
        .max()
        .unwrap_or(4);
    let mut text = format!(
        "\n{:<width$}  {:>10}  {:>21}  {:>10}\n",
        "work", "measured", "low .. high", "goal"
    );
    for row in rows {
        let spread = format!("{} .. {}", number(row.low), number(row.high));
        text += &format!(
            "{:<width$}  {:>10}  {spread:>21}  {:>10}  {:<5}  {}\n",
            row.work,
            number(row.measured),
            number(row.goal),
            row.unit,
            if row.met() { "met" } else { "MISSED" }
        );
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
    use super::{Row, table};
    use serde_json::json;

    #[test]
    fn table_shows_the_ratio_or_the_value_and_says_what_is_missed() {
        let rows = [
            json!({"work": "get + drop", "ratio": 1.25, "unit": "P", "value": 9.5, "goal": 1.4, "low": 1.2, "high": 1.3}),
            json!({"work": "empty", "ratio": null, "unit": "bytes", "value": 2048, "goal": 1024, "low": 2048, "high": 2048}),
        ];
        let rows: Vec<Row> = rows.iter().map(|row| Row::read(row).unwrap()).collect();
        assert!(rows[0].met() && !rows[1].met());
        let text = table(&rows);
        assert!(text.contains("1.25") && text.contains("2048 .. 2048") && text.contains("MISSED"));
        assert!(Row::read(&json!({"work": "half a row"})).is_err());
    }
}
