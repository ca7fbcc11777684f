// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules that are checked while the load runs, and the ledger of what
//! broke them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;

/// A rule that the space must keep at every instant.
///
/// M1 to M8 have the numbers of the project's list of rules. What M7 says of flushes is
/// *flush*, and what it is for is *drain*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// No PASID has two owners on a table.
    #[value(name = "M1")]
    M1,
    /// Sets that share no table may have the same PASID.
    #[value(name = "M2")]
    M2,
    /// No PASID is global and local at once.
    #[value(name = "M3")]
    M3,
    /// No reserved PASID is handed out.
    #[value(name = "M4")]
    M4,
    /// A PASID lies in its request, and what does not fit a table is refused.
    #[value(name = "M5")]
    M5,
    /// Two drivers on one table never have the same PASID.
    #[value(name = "M6")]
    M6,
    /// No PASID is handed out again before its last reference is back.
    #[value(name = "M7")]
    M7,
    /// No PASID that awaits a flush is handed out before one that began later has
    /// completed.
    #[value(name = "flush")]
    Flush,
    /// No page fault reaches a later owner of its PASID after a flush; some do where
    /// PASIDs are reused at once.
    #[value(name = "drain")]
    Drain,
    /// No set has more PASIDs than its quota, and no credit is lost.
    #[value(name = "M8")]
    M8,
    /// A handle whose allocation is over is refused.
    #[value(name = "stale")]
    Stale,
    /// A PASID that is being freed gives no new reference.
    #[value(name = "revoked")]
    Revoked,
    /// A look-up answers with the allocation that is there.
    #[value(name = "lookup")]
    Lookup,
    /// A fault is answered as the attachment's state says.
    #[value(name = "fault")]
    Fault,
    /// What is closed takes no new calls, and what is paused no attachment.
    #[value(name = "closing")]
    Closing,
    /// A request fails only when none is free, and nothing is lost.
    #[value(name = "exact")]
    Exact,
}

/// How many rules there are.
pub const RULES: usize = 16;

impl Rule {
    /// Every rule, in the order in which they are listed.
    pub const ALL: [Rule; RULES] = [
        Rule::M1,
        Rule::M2,
        Rule::M3,
        Rule::M4,
        Rule::M5,
        Rule::M6,
        Rule::M7,
        Rule::Flush,
        Rule::Drain,
        Rule::M8,
        Rule::Stale,
        Rule::Revoked,
        Rule::Lookup,
        Rule::Fault,
        Rule::Closing,
        Rule::Exact,
    ];

    /// The name by which `--plant` knows it.
    pub fn name(self) -> &'static str {
        match self {
            Rule::M1 => "M1",
            Rule::M2 => "M2",
            Rule::M3 => "M3",
            Rule::M4 => "M4",
            Rule::M5 => "M5",
            Rule::M6 => "M6",
            Rule::M7 => "M7",
            Rule::Flush => "flush",
            Rule::Drain => "drain",
            Rule::M8 => "M8",
            Rule::Stale => "stale",
            Rule::Revoked => "revoked",
            Rule::Lookup => "lookup",
            Rule::Fault => "fault",
            Rule::Closing => "closing",
            Rule::Exact => "exact",
        }
    }

    /// What it says.
    pub fn text(self) -> &'static str {
        match self {
            Rule::M1 => "no PASID has two owners on a table",
            Rule::M2 => "sets that share no table may have the same PASID",
            Rule::M3 => "a PASID is never global and a driver's at once",
            Rule::M4 => "a reserved PASID is never handed out",
            Rule::M5 => "a PASID lies in its request, its set and its tables' width",
            Rule::M6 => "two drivers on one table never have the same PASID",
            Rule::M7 => "no PASID is reused while a reference or attachment holds it",
            Rule::Flush => "what awaits a flush is reused only after one that began later (M7)",
            Rule::Drain => "no fault reaches a later owner after a flush; at once, some do",
            Rule::M8 => "a set never has more than its quota, and no credit is lost",
            Rule::Stale => "a stale or foreign handle is refused, and changes nothing",
            Rule::Revoked => "a PASID that is being freed gives no new reference",
            Rule::Lookup => "a look-up finds the allocation that is there, in its set alone",
            Rule::Fault => "a fault finds what is attached to its table, and says why not",
            Rule::Closing => "what is closed takes no new calls, and what is paused no attachment",
            Rule::Exact => "exhausted means that none is free, and none is lost",
        }
    }
}

/// A rule that was seen broken, and how.
#[derive(Debug)]
pub struct Breach {
    /// The rule.
    pub rule: Rule,
    /// What was seen, as a sentence without a full stop.
    pub text: String,
}

impl Breach {
    /// `text` broke `rule`.
    #[cold]
    pub fn new(rule: Rule, text: String) -> Breach {
        Breach { rule, text }
    }
}

/// How a call ended, for the text of a breach.
#[cold]
pub fn outcome<T>(result: &pasid::Result<T>) -> String {
    match result {
        Ok(_) => "it succeeded".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// How many checks of each rule failed, in all threads together.
#[derive(Debug, Default)]
pub struct Ledger {
    failed: [AtomicU64; RULES],
    examples: [OnceLock<String>; RULES],
}

impl Ledger {
    /// Enters a breach; the first of each rule is kept as its example.
    #[cold]
    pub fn enter(&self, breach: Breach) {
        let index = breach.rule as usize;
        self.examples[index].get_or_init(|| breach.text);
        // Relaxed: a count, read for the display and after the threads are joined.
        self.failed[index].fetch_add(1, Ordering::Relaxed);
    }

    /// How many checks of `rule` failed.
    pub fn failed(&self, rule: Rule) -> u64 {
        // Relaxed: as in `enter`.
        self.failed[rule as usize].load(Ordering::Relaxed)
    }

    /// The first breach of `rule`.
    pub fn example(&self, rule: Rule) -> Option<&str> {
        self.examples[rule as usize].get().map(String::as_str)
    }

    /// How many checks failed, of all rules.
    pub fn total(&self) -> u64 {
        Rule::ALL.iter().map(|&rule| self.failed(rule)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_indices() {
        for (index, rule) in Rule::ALL.into_iter().enumerate() {
            assert_eq!(rule as usize, index);
            assert_eq!(Rule::from_str(rule.name(), true), Ok(rule));
        }
    }

    #[test]
    fn the_first_breach_is_the_example() {
        let ledger = Ledger::default();
        ledger.enter(Breach::new(Rule::M5, "one".to_owned()));
        ledger.enter(Breach::new(Rule::M5, "two".to_owned()));
        assert_eq!(ledger.failed(Rule::M5), 2);
        assert_eq!(ledger.example(Rule::M5), Some("one"));
        assert_eq!(ledger.example(Rule::M1), None);
        assert_eq!(ledger.total(), 2);
    }
}
