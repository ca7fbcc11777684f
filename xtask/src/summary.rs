// SPDX-License-Identifier: MIT OR Apache-2.0
//! What came of each check, and the table at the end.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use anyhow::Result;

/// What came of one check. The text is the reason, or what a pass has to say.
pub(crate) enum Outcome {
    /// The check ran and found nothing wrong.
    Passed(String),
    /// The check ran and found something wrong, or could not be run to its end.
    Failed(String),
    /// The check cannot be run here; the reason names what is missing.
    Skipped(String),
}

impl Outcome {
    pub(crate) fn passed() -> Outcome {
        Outcome::Passed(String::new())
    }

    fn word(&self) -> &'static str {
        match self {
            Outcome::Passed(_) => "passed",
            Outcome::Failed(_) => "failed",
            Outcome::Skipped(_) => "skipped",
        }
    }

    fn note(&self) -> &str {
        match self {
            Outcome::Passed(note) | Outcome::Failed(note) | Outcome::Skipped(note) => note,
        }
    }
}

/// The outcomes of all checks of one run, in the order in which they ran.
#[derive(Default)]
pub(crate) struct Summary {
    rows: Vec<(&'static str, Outcome, Duration)>,
}

impl Summary {
    /// Runs one check and keeps its outcome; an error is a failure.
    pub(crate) fn time(&mut self, name: &'static str, check: impl FnOnce() -> Result<Outcome>) {
        let start = Instant::now();
        let outcome = check().unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        println!("--- {name}: {}{}", outcome.word(), with_note(&outcome));
        self.rows.push((name, outcome, start.elapsed()));
    }

    pub(crate) fn failed(&self) -> usize {
        self.count("failed")
    }

    pub(crate) fn skipped(&self) -> usize {
        self.count("skipped")
    }

    fn count(&self, word: &str) -> usize {
        self.rows
            .iter()
            .filter(|(_, outcome, _)| outcome.word() == word)
            .count()
    }
}

fn with_note(outcome: &Outcome) -> String {
    match outcome.note() {
        "" => String::new(),
        note => format!(": {note}"),
    }
}

impl Display for Summary {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let total: Duration = self.rows.iter().map(|(_, _, time)| *time).sum();
        writeln!(formatter, "\n=== summary ({:.1} s)", total.as_secs_f64())?;
        for (name, outcome, time) in &self.rows {
            let line = format!(
                "{name:<13} {:<8} {:>7.1} s  {}",
                outcome.word(),
                time.as_secs_f64(),
                outcome.note()
            );
            writeln!(formatter, "{}", line.trim_end())?;
        }
        writeln!(
            formatter,
            "{} passed, {} failed, {} skipped",
            self.count("passed"),
            self.count("failed"),
            self.count("skipped")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Summary};

    #[test]
    fn summary_counts_and_names_the_reason() {
        let mut summary = Summary::default();
        summary.time("one", || Ok(Outcome::passed()));
        summary.time("two", || Ok(Outcome::Skipped("no tool".to_owned())));
        summary.time("three", || anyhow::bail!("cannot start"));
        let text = summary.to_string();
        assert!(
            text.ends_with("\n1 passed, 1 failed, 1 skipped\n"),
            "{text}"
        );
        assert!(
            text.contains("no tool") && text.contains("cannot start"),
            "{text}"
        );
        assert_eq!((summary.failed(), summary.skipped()), (1, 1));
    }
}
