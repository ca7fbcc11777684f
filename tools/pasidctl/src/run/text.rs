// SPDX-License-Identifier: MIT OR Apache-2.0
//! The result of a run, for people.

use comfy_table::{CellAlignment, Table, presets};

use super::report::Report;

/// More tables than this are counted rather than listed.
const LISTED_LAST: usize = 16;
/// How many answers stand in a line.
const ANSWERS_IN_LINE: usize = 5;

impl Report {
    /// One sentence for each rule that broke, or was not checked.
    pub fn complaints(&self) -> impl Iterator<Item = String> + '_ {
        let unchecked = self.unchecked.iter();
        let unchecked = unchecked.map(|rule| format!("rule {rule} was not checked"));
        self.broken_rules().chain(unchecked)
    }

    fn broken_rules(&self) -> impl Iterator<Item = String> + '_ {
        let broken = self.rules.iter().filter(|rule| rule.failed > 0);
        broken.map(|rule| {
            let planted = match self.planted {
                Some(planted) if planted == rule.rule => ", as planted",
                _ => "",
            };
            let failed = group(rule.failed);
            let example = rule.example.as_deref().unwrap_or("no example was kept");
            let name = rule.rule;
            format!(
                "rule {name} is broken{planted} (failed checks: {failed}), the first: {example}"
            )
        })
    }

    /// The whole result.
    pub fn text(&self) -> String {
        let kib = group(self.memory_bytes.div_ceil(1024) as u64);
        let highest = match self.highest_pasid {
            Some(pasid) => pasid.to_string(),
            None => "none".to_owned(),
        };
        [
            self.head(),
            String::new(),
            self.story_table(),
            String::new(),
            self.operations_table(),
            String::new(),
            format!(
                "One call in {} is timed, and {} ns of each time are the clock's own.",
                self.sample_every, self.clock_ns
            ),
            format!(
                "{:.1} Mops/s in total, highest PASID {highest}, {kib} KiB of memory",
                self.mops_per_s
            ),
            self.flushes_line(),
            String::new(),
            self.answers_lines(),
            String::new(),
            self.rules_table(),
            String::new(),
            format!(
                "rules checked: {}, broken: {} ({} checks, {} failed)",
                self.rules_checked,
                self.broken,
                group(self.checks),
                group(self.failed)
            ),
        ]
        .join("\n")
    }

    fn head(&self) -> String {
        let mut lines = vec![
            format!("machine  {}", self.machine),
            format!(
                "load     {} threads for {:.1} s, policy {}, seed {}",
                self.threads, self.seconds, self.policy, self.seed
            ),
        ];
        if !self.refused.is_empty() {
            let (count, last) = (self.refused.len(), self.refused.len().min(LISTED_LAST));
            let more = if count > last { ", and others" } else { "" };
            let named = self.refused[..last].join(", ");
            lines.push(format!("refused  no PASID support: {named}{more}"));
        }
        if let Some(rule) = self.planted {
            lines.push(format!(
                "planted  {rule}: the load breaks it on purpose, and the allocator is as it is"
            ));
        }
        lines.extend([String::new(), self.tables_table()]);
        lines.join("\n")
    }

    fn tables_table(&self) -> String {
        if self.tables.len() > LISTED_LAST {
            let widths = self.tables.iter().map(|table| table.width);
            let narrowest = widths.clone().min().unwrap_or_default();
            let widest = widths.max().unwrap_or_default();
            return format!(
                "{} tables of {narrowest} to {widest} bits",
                self.tables.len()
            );
        }
        let rows = self.tables.iter().map(|one| {
            let again = if one.again { " (again)" } else { "" };
            let reserved = one
                .reserved
                .map_or(String::new(), |pasid| format!(" {pasid}"));
            [
                one.devices.join(" ") + again,
                one.group
                    .map_or("-".to_owned(), |number| number.to_string()),
                one.width.to_string(),
                format!("0{reserved}"),
            ]
        });
        table(["table of", "IOMMU group", "bits", "reserved"], 1, rows)
    }

    /// What happens to page faults in a queue while their PASIDs are reused.
    fn story_table(&self) -> String {
        let rows = self.story.told.iter().map(|told| {
            let per_flush = told.pasids_per_flush();
            [
                told.reuse.to_owned(),
                group(told.contexts),
                group(told.faults),
                group(told.to_owner),
                group(told.to_nobody),
                group(told.to_wrong_owner),
                group(told.flushes),
                per_flush.map_or("-".to_owned(), group),
            ]
        });
        let header = [
            "reuse",
            "contexts",
            "faults",
            "to their own",
            "to nobody",
            "to another's",
            "flushes",
            "PASIDs each",
        ];
        format!(
            "Before the load, on each of {} devices: page faults wait in a queue while contexts \
             come and go.\n{}",
            self.story.devices,
            table(header, 1, rows)
        )
    }

    fn flushes_line(&self) -> String {
        let flushes = &self.flushes;
        let each = flushes.pasids as f64 / flushes.completed.max(1) as f64;
        let (completed, put_back) = (group(flushes.completed), group(flushes.put_back));
        format!("{completed} flushes of {each:.1} PASIDs each, and {put_back} put back")
    }

    fn answers_lines(&self) -> String {
        let given = self.answers.iter().filter(|answer| answer.count > 0);
        let given: Vec<String> = given
            .map(|answer| format!("{} {}", answer.answer, group(answer.count)))
            .collect();
        let lines: Vec<String> = given
            .chunks(ANSWERS_IN_LINE)
            .map(|line| line.join(", "))
            .collect();
        format!("refused calls: {}", lines.join(",\n               "))
    }

    fn operations_table(&self) -> String {
        let ns = |value: Option<u64>| value.map_or("-".to_owned(), group);
        let rows = self.operations.iter().map(|operation| {
            [
                operation.title.to_owned(),
                group(operation.calls),
                ns(operation.p50_ns),
                ns(operation.p99_ns),
                ns(operation.p999_ns),
            ]
        });
        table(["call", "calls", "p50 ns", "p99 ns", "p99.9 ns"], 1, rows)
    }

    fn rules_table(&self) -> String {
        let rows = self.rules.iter().map(|rule| {
            [
                rule.rule.to_owned(),
                rule.text.to_owned(),
                group(rule.checks),
                group(rule.failed),
            ]
        });
        table(["rule", "what it says", "checks", "failed"], 2, rows)
    }
}

/// A table whose columns from `numbers` on are numbers.
fn table<const N: usize>(
    header: [&str; N],
    numbers: usize,
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

/// A count with its digits in groups of three.
pub fn group(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::group;

    #[test]
    fn digits_are_grouped() {
        let grouped = [0, 12, 123, 1234, 1_048_575].map(group);
        assert_eq!(grouped, ["0", "12", "123", "1,234", "1,048,575"]);
    }
}
