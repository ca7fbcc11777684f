// SPDX-License-Identifier: MIT OR Apache-2.0
//! What there is to say of a snapshot.

use comfy_table::{CellAlignment, Table, presets};
use pasid::PasidRange;
use pasid::snapshot::{AliasMapSnapshot, ScopeSnapshot, SetSnapshot, SpaceSnapshot, TableSnapshot};
use serde::Serialize;

use super::naming;
use crate::run::group;

/// A snapshot in numbers.
#[derive(Serialize)]
pub struct Description {
    version: u32,
    kind: pasid::SpaceKind,
    quiescent: bool,
    /// The most PASIDs of all sets together, if there is a limit.
    capacity: Option<u32>,
    /// PASIDs.
    reserved: u32,
    tables: Vec<TableRow>,
    sets: Vec<SetRow>,
    aliases: Vec<AliasRow>,
}

/// A guest's alias map.
#[derive(Serialize)]
struct AliasRow {
    /// Virtual tables.
    tables: u32,
    /// Entries of all of them.
    entries: u32,
}

#[derive(Serialize)]
struct TableRow {
    /// Bits that every device has.
    width: u8,
    devices: Vec<String>,
    /// PASIDs that are attached, and faults that were not answered.
    attached: u32,
    faults: u32,
    /// PASIDs, beside those of the space.
    reserved: u32,
    paused: bool,
    closing: bool,
}

#[derive(Serialize)]
struct SetRow {
    /// `global`, or which tables.
    scope: String,
    ranges: Vec<PasidRange>,
    policy: pasid::Policy,
    reuse: pasid::Reuse,
    quota: Option<u32>,
    token: Option<u64>,
    /// PASIDs.
    live: u32,
    freeing: u32,
    quarantined: u32,
    pinned: u32,
    /// References to all of them.
    references: u64,
    closing: bool,
}

fn count(ranges: &[PasidRange]) -> u32 {
    let counts = ranges.iter().map(|range| range.count());
    counts.fold(0, u32::saturating_add)
}

impl TableRow {
    fn new(table: &TableSnapshot) -> TableRow {
        let attached = table.attachments.iter().map(|run| run.count);
        let faults = table.attachments.iter();
        let faults = faults.map(|run| run.count.saturating_mul(run.faults));
        let devices = table.devices.iter();
        TableRow {
            width: naming::width(table).bits(),
            devices: devices.map(|device| device.device.to_string()).collect(),
            attached: attached.fold(0, u32::saturating_add),
            faults: faults.fold(0, u32::saturating_add),
            reserved: count(&table.reserved),
            paused: table.paused,
            closing: table.closing,
        }
    }
}

impl SetRow {
    fn new(set: &SetSnapshot) -> SetRow {
        let [live, freeing, quarantined, pinned] = naming::counts(set);
        let references = set.pasids.iter();
        let references = references.map(|run| u64::from(run.count) * u64::from(run.references));
        SetRow {
            scope: match &set.scope {
                ScopeSnapshot::Global => "global".to_owned(),
                ScopeSnapshot::Local(table) => format!("table {table}"),
                ScopeSnapshot::Group(tables) => {
                    let tables: Vec<_> = tables.iter().map(u32::to_string).collect();
                    format!("tables {}", tables.join(", "))
                }
            },
            ranges: set.ranges.clone(),
            policy: set.policy,
            reuse: set.reuse,
            quota: set.quota,
            token: set.token,
            live,
            freeing,
            quarantined,
            pinned,
            references: references.fold(0, u64::saturating_add),
            closing: set.closing,
        }
    }
}

impl AliasRow {
    fn new(map: &AliasMapSnapshot) -> AliasRow {
        let runs = map.tables.iter().flat_map(|table| &table.entries);
        AliasRow {
            tables: map.tables.len() as u32,
            entries: runs.fold(0, |sum, run| sum.saturating_add(run.count)),
        }
    }
}

impl Description {
    /// Of a snapshot in any state; what does not fit together is counted as it is.
    pub fn new(snapshot: &SpaceSnapshot) -> Description {
        Description {
            version: snapshot.version,
            kind: snapshot.kind,
            quiescent: snapshot.quiescent,
            capacity: snapshot.capacity,
            reserved: count(&snapshot.reserved),
            tables: snapshot.tables.iter().map(TableRow::new).collect(),
            sets: snapshot.sets.iter().map(SetRow::new).collect(),
            aliases: snapshot.aliases.iter().map(AliasRow::new).collect(),
        }
    }

    /// For people.
    pub fn text(&self, name: &str) -> String {
        let quiescent = match self.quiescent {
            true => "quiescent: nothing changed while it was taken",
            false => "not quiescent: others worked while it was taken, and it may not restore",
        };
        let mut parts = vec![
            format!(
                "{name}: version {}, a space for {}",
                self.version, self.kind
            ),
            quiescent.to_owned(),
            format!(
                "{}, {}, {} reserved on every table",
                naming::count(self.tables.len(), "table"),
                naming::count(self.sets.len(), "set"),
                naming::count(self.reserved as usize, "PASID"),
            ),
        ];
        if let Some(capacity) = self.capacity {
            parts.push(format!("capacity: {} PASIDs", group(capacity.into())));
        }
        if !self.tables.is_empty() {
            parts.extend([String::new(), self.tables()]);
        }
        if !self.sets.is_empty() {
            parts.extend([String::new(), self.sets()]);
        }
        if !self.aliases.is_empty() {
            parts.extend([String::new(), self.aliases()]);
        }
        parts.join("\n")
    }

    fn tables(&self) -> String {
        let header = [
            "table", "width", "attached", "faults", "reserved", "devices", "state",
        ];
        let rows = self.tables.iter().enumerate().map(|(index, table)| {
            let state = [(table.paused, "paused"), (table.closing, "closed")];
            vec![
                index.to_string(),
                format!("{} bits", table.width),
                group(table.attached.into()),
                group(table.faults.into()),
                group(table.reserved.into()),
                table.devices.join(", "),
                words(&state),
            ]
        });
        aligned(&header, rows, &[1, 2, 3, 4])
    }

    fn aliases(&self) -> String {
        let header = ["guest", "virtual tables", "entries"];
        let rows = self.aliases.iter().enumerate().map(|(index, map)| {
            let (tables, entries) = (group(map.tables.into()), group(map.entries.into()));
            vec![index.to_string(), tables, entries]
        });
        aligned(&header, rows, &[1, 2])
    }

    fn sets(&self) -> String {
        let header = [
            "set",
            "scope",
            "range",
            "live",
            "freeing",
            "quarantine",
            "pinned",
            "references",
            "quota",
            "policy",
            "reuse",
            "token",
            "state",
        ];
        let rows = self.sets.iter().enumerate().map(|(index, set)| {
            vec![
                index.to_string(),
                set.scope.clone(),
                ranges(&set.ranges),
                group(set.live.into()),
                group(set.freeing.into()),
                group(set.quarantined.into()),
                group(set.pinned.into()),
                group(set.references),
                set.quota
                    .map_or("-".to_owned(), |quota| group(quota.into())),
                name(&set.policy),
                name(&set.reuse),
                set.token
                    .map_or("-".to_owned(), |token| format!("{token:#x}")),
                words(&[(set.closing, "closed")]),
            ]
        });
        aligned(&header, rows, &[3, 4, 5, 6, 7, 8])
    }
}

/// The first and the last of a set's ranges, since most have one.
fn ranges(ranges: &[PasidRange]) -> String {
    match ranges {
        [] => "-".to_owned(),
        [one] => format!("{} to {}", one.first(), one.last()),
        [first, .., last] => {
            let left = ranges.len();
            format!("{} to {} in {left} parts", first.first(), last.last())
        }
    }
}

/// The name that a value has in JSON.
fn name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "-".to_owned(),
    }
}

fn words(states: &[(bool, &str)]) -> String {
    let words = states.iter().filter(|(holds, _)| *holds);
    words.map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
}

fn aligned(header: &[&str], rows: impl Iterator<Item = Vec<String>>, right: &[usize]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table.add_rows(rows);
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}
