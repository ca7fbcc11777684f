// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the parts of a snapshot are called, for people.

use pasid::PasidWidth;
use pasid::snapshot::{PhaseSnapshot, ScopeSnapshot, SetSnapshot, SpaceSnapshot, TableSnapshot};

/// A count with its word, in the plural unless it is one.
pub fn count(number: usize, word: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {word}{plural}", crate::run::group(number as u64))
}

/// The whole, in one line.
pub fn whole(snapshot: &SpaceSnapshot) -> String {
    let quiescent = match snapshot.quiescent {
        true => "quiescent",
        false => "not quiescent: others worked while it was taken",
    };
    let (tables, sets) = (snapshot.tables.len(), snapshot.sets.len());
    let (tables, sets) = (count(tables, "table"), count(sets, "set"));
    format!("{tables}, {sets}; {quiescent}")
}

/// How many bits every device of a table has.
pub fn width(table: &TableSnapshot) -> PasidWidth {
    let devices = table.devices.iter().map(|device| device.width);
    let supporting = devices.filter(|&width| width != PasidWidth::ZERO);
    supporting.fold(table.width, PasidWidth::narrower)
}

/// What there is to say of a table.
pub fn table(table: &TableSnapshot) -> String {
    let mut parts = vec![
        format!("{} bits", width(table).bits()),
        count(table.devices.len(), "device"),
    ];
    parts.extend(table.paused.then(|| "paused".to_owned()));
    parts.extend(table.closing.then(|| "closed".to_owned()));
    parts.join(", ")
}

/// A set's name, without its counts.
pub fn set(set: &SetSnapshot, index: usize) -> String {
    let scope = match &set.scope {
        ScopeSnapshot::Global | ScopeSnapshot::Local(_) => String::new(),
        ScopeSnapshot::Group(tables) => {
            let tables: Vec<_> = tables.iter().map(u32::to_string).collect();
            format!(" of tables {}", tables.join(", "))
        }
    };
    let closing = if set.closing { " (closed)" } else { "" };
    format!("set {index}{scope}{closing}")
}

/// How many of its PASIDs are live, being freed, in quarantine, pinned.
pub fn counts(set: &SetSnapshot) -> [u32; 4] {
    let sum = |wanted: &dyn Fn(&pasid::snapshot::PasidRun) -> bool| {
        let runs = set.pasids.iter().filter(|run| wanted(run));
        runs.fold(0, |sum: u32, run| sum.saturating_add(run.count))
    };
    [
        sum(&|run| run.phase == PhaseSnapshot::Live),
        sum(&|run| run.phase == PhaseSnapshot::Freeing),
        sum(&|run| run.phase == PhaseSnapshot::Quarantined),
        sum(&|run| run.pinned),
    ]
}
