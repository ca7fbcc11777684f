// SPDX-License-Identifier: MIT OR Apache-2.0
//! The picture for a terminal, 80 characters wide.

use std::fmt::Write;

use super::picture::{Column, Legend, Look, Picture, Row, Span, grouped};

/// Characters of a strip.
const COLUMNS: u32 = 64;
/// More tables than this have only their strips.
const CLOSE_ROWS: usize = 32;

/// Draws it.
pub fn draw(picture: &Picture) -> String {
    let mut lines = vec![picture.title.clone(), picture.note.clone(), String::new()];
    lines.extend(
        [
            "a-z live, by set: a capital is at least half of the numbers; . free; # reserved",
            "! being freed; ~ in quarantine; ^ attached there; v pinned; blank: beyond it",
            "",
        ]
        .map(str::to_owned),
    );
    let all = picture.all();
    let columns = all.count().min(COLUMNS);
    let each = match all.count() / columns {
        1 => "each character is one number".to_owned(),
        each => format!("each character is {} numbers", grouped(each)),
    };
    lines.push(format!("Numbers 0 to {}, {each}:", grouped(all.last)));
    for row in &picture.rows {
        lines.push(String::new());
        lines.push(format!("{} {}", row.name, row.note).trim_end().to_owned());
        lines.extend(strip(row, all, columns));
        lines.extend(row.sets.iter().map(legend));
    }
    for window in picture.windows() {
        lines.push(String::new());
        let (first, last) = (grouped(window.first), grouped(window.last));
        lines.push(format!("Numbers {first} to {last}, one by one:"));
        for row in picture.rows.iter().take(CLOSE_ROWS) {
            let close = closer(row, window);
            if !close.is_empty() {
                lines.push(String::new());
                lines.push(row.name.clone());
                lines.extend(close);
            }
        }
    }
    let lines = lines.iter().map(|line| line.trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// The lines of a window that have something.
fn closer(row: &Row, window: Span) -> Vec<String> {
    let starts = (window.first..=window.last).step_by(COLUMNS as usize);
    let parts = starts.map(|first| Span {
        first,
        last: first + (COLUMNS - 1),
    });
    let mut lines = Vec::new();
    for part in parts {
        let columns = row.columns(part, COLUMNS);
        if columns.iter().any(|column| !column.is_empty()) {
            lines.extend(lines_of(part.first, &columns));
        }
    }
    lines
}

fn strip(row: &Row, span: Span, columns: u32) -> Vec<String> {
    lines_of(span.first, &row.columns(span, columns))
}

/// A line of what there is, and one of what is attached and pinned, if anything is.
fn lines_of(first: u32, columns: &[Column]) -> Vec<String> {
    let each = |character: fn(&Column) -> char| columns.iter().map(character).collect::<String>();
    let mut lines = vec![format!("{:>9} |{}|", grouped(first), each(state))];
    let marks = each(mark);
    if !marks.trim().is_empty() {
        let mut line = String::new();
        // Writing to a string does not fail.
        let _ = write!(line, "{:>9}  {marks}", "");
        lines.push(line);
    }
    lines
}

/// What most of the numbers are that are taken; of equally many what is rarer elsewhere.
fn state(column: &Column) -> char {
    let most = column
        .looks
        .iter()
        .max_by_key(|&(look, count)| (*count, *look));
    match most {
        None if column.beyond => ' ',
        None => '.',
        Some((Look::Reserved, _)) => '#',
        Some((Look::Freeing, _)) => '!',
        Some((Look::Quarantined, _)) => '~',
        Some((&Look::Live(set), _)) => letter(set, column.count > 1 && column.is_half()),
    }
}

fn mark(column: &Column) -> char {
    match (column.pinned, column.attached) {
        (0, 0) => ' ',
        (0, _) => '^',
        _ => 'v',
    }
}

fn letter(set: usize, capital: bool) -> char {
    let letter = ('a'..='z').cycle().nth(set % 26).unwrap_or('a');
    match capital {
        true => letter.to_ascii_uppercase(),
        false => letter,
    }
}

fn legend(set: &Legend) -> String {
    format!("{:>9}  {set}", letter(set.colour, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_has_a_character_for_each_column() {
        let span = |first, last| Span { first, last };
        let row = Row {
            name: "table 0".to_owned(),
            note: "15 bits".to_owned(),
            last: 0x7fff,
            spans: vec![
                (span(0, 0x7ff), Look::Live(0)),
                (span(0x800, 0x801), Look::Live(27)),
                (span(0xc00, 0xc00), Look::Freeing),
                (span(0x1000, 0x1000), Look::Quarantined),
                (span(0x1001, 0x1002), Look::Reserved),
            ],
            attached: vec![span(0x400, 0xbff)],
            pinned: vec![span(0x800, 0x800)],
            sets: vec![Legend {
                name: "set 3".to_owned(),
                colour: 27,
                counts: [2, 1, 1_000, 0],
            }],
        };
        let picture = Picture {
            title: "a.json".to_owned(),
            note: "one".to_owned(),
            bits: 16,
            rows: vec![row],
        };
        let drawn = draw(&picture);
        let lines: Vec<_> = drawn.lines().collect();
        let strip = format!("        0 |AAb!#{}{}|", ".".repeat(27), " ".repeat(32));
        let at = lines.iter().position(|line| **line == strip).unwrap();
        assert_eq!(lines[at - 1], "table 0 15 bits");
        assert_eq!(lines[at + 1], "            ^v");
        let legend = "        b  set 3: 2 live, 1 being freed, 1,000 in quarantine";
        assert_eq!(lines[at + 2], legend);
        assert!(drawn.contains("Numbers 0 to 65,535, each character is 1,024 numbers:"));
        assert!(
            drawn.contains("Numbers 2,048 to 2,303, one by one:"),
            "{drawn}"
        );
        let close = format!("    2,048 |bb{}|", ".".repeat(62));
        assert!(lines.contains(&close.as_str()), "{drawn}");
        assert!(lines.iter().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn letters_begin_again() {
        let letters = [(0, false), (25, true), (26, false)];
        assert_eq!(
            letters.map(|(set, capital)| letter(set, capital)),
            ['a', 'Z', 'a']
        );
    }
}
