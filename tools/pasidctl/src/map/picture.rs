// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a picture shows, before it is drawn: rows of spans of numbers, counted for columns
//! of equal numbers, and the windows that are worth a closer look.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// Reserved: handed out by nobody.
    Reserved,
    /// Live, of the set with that colour.
    Live(usize),
    /// Revoked, and held by somebody still.
    Freeing,
    /// Awaiting a flush, or pinned beyond its last reference.
    Quarantined,
}

/// Numbers from the first to the last, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl Span {
    /// How many numbers.
    pub fn count(self) -> u32 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

/// A set, in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Legend {
    /// Its name.
    pub name: String,
    /// Its colour, the same in each row, and no other set's of the same row while there
    /// are enough.
    pub colour: usize,
    /// How many of its PASIDs are live, being freed, in quarantine, pinned.
    pub counts: [u32; 4],
}

impl fmt::Display for Legend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = ["live", "being freed", "in quarantine", "pinned"];
        let counts = self.counts.iter().zip(words);
        let counts = counts.filter(|&(&count, word)| count > 0 || word == "live");
        let counts: Vec<_> = counts
            .map(|(&count, word)| format!("{} {word}", grouped(count)))
            .collect();
        write!(f, "{}: {}", self.name, counts.join(", "))
    }
}

/// A table, or what is global.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What else there is to say of it.
    pub note: String,
    /// The last number that the row has.
    pub last: u32,
    /// What is not free.
    pub spans: Vec<(Span, Look)>,
    /// What is attached.
    pub attached: Vec<Span>,
    /// What is pinned.
    pub pinned: Vec<Span>,
    /// The sets that are seen in it.
    pub sets: Vec<Legend>,
}

/// The whole.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// What it is a picture of.
    pub title: String,
    /// What else there is to say.
    pub note: String,
    /// There are 2 to the power of so many numbers.
    pub bits: u8,
    /// First what is global, if there is any, and then each table.
    pub rows: Vec<Row>,
}

/// What is in one column of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// How many numbers have each look, without those that are free.
    pub looks: BTreeMap<Look, u32>,
    /// How many are attached.
    pub attached: u32,
    /// How many are pinned.
    pub pinned: u32,
    /// Whether none of them is the row's.
    pub beyond: bool,
    /// How many numbers it has.
    pub count: u32,
}

impl Column {
    /// How many numbers are not free.
    pub fn taken(&self) -> u32 {
        self.looks
            .values()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Whether at least half of the numbers are taken.
    pub fn is_half(&self) -> bool {
        self.taken() >= self.count.div_ceil(2)
    }

    /// Whether there is nothing to see.
    pub fn is_empty(&self) -> bool {
        self.looks.is_empty() && self.attached == 0 && self.pinned == 0
    }
}

/// How many numbers a window has for a closer look.
pub const WINDOW: u32 = 256;
/// How many windows there are, at most.
pub const WINDOWS: usize = 3;

impl Row {
    /// The numbers of `span`, as so many columns. `columns` divides them.
    pub fn columns(&self, span: Span, columns: u32) -> Vec<Column> {
        let each = (span.count() / columns.max(1)).max(1);
        let mut all = vec![Column::default(); columns as usize];
        for (index, column) in (0..).zip(&mut all) {
            column.beyond = span.first + index * each > self.last;
            column.count = each;
        }
        let mut tell = |part: Span, add: &mut dyn FnMut(&mut Column, u32)| {
            let (first, last) = (part.first.max(span.first), part.last.min(span.last));
            if first > last {
                return;
            }
            let place = |number: u32| (number - span.first) / each;
            for index in place(first)..=place(last) {
                let start = span.first + index * each;
                let count = last.min(start + (each - 1)) - first.max(start) + 1;
                if let Some(column) = all.get_mut(index as usize) {
                    add(column, count);
                }
            }
        };
        for &(part, look) in &self.spans {
            tell(part, &mut |column, count| {
                let taken = column.looks.entry(look).or_default();
                *taken = taken.saturating_add(count);
            });
        }
        for &part in &self.attached {
            tell(part, &mut |column, count| {
                column.attached = column.attached.saturating_add(count);
            });
        }
        for &part in &self.pinned {
            tell(part, &mut |column, count| {
                column.pinned = column.pinned.saturating_add(count);
            });
        }
        all
    }
}

impl Picture {
    /// All numbers.
    pub fn all(&self) -> Span {
        Span {
            first: 0,
            last: (1 << self.bits.min(20)) - 1,
        }
    }

    /// What is worth a closer look: windows that show as much as possible of what there
    /// is in each row, in ascending order. None where all numbers fit in one.
    pub fn windows(&self) -> Vec<Span> {
        if self.all().count() <= WINDOW {
            return Vec::new();
        }
        let mut kinds: BTreeMap<u32, BTreeSet<(usize, Kind)>> = BTreeMap::new();
        for (index, row) in self.rows.iter().enumerate() {
            let looks = row.spans.iter();
            let looks = looks.map(|&(span, look)| (span, Kind::Look(look)));
            let attached = row.attached.iter().map(|&span| (span, Kind::Attached));
            let pinned = row.pinned.iter().map(|&span| (span, Kind::Pinned));
            for (span, kind) in looks.chain(attached).chain(pinned) {
                // Where it begins and where it ends; in between there is nothing to see.
                for number in [span.first, span.last.min(row.last)] {
                    kinds
                        .entry(number / WINDOW)
                        .or_default()
                        .insert((index, kind));
                }
            }
        }
        let shows: BTreeMap<u32, usize> = kinds
            .iter()
            .map(|(&window, kinds)| (window, kinds.len()))
            .collect();
        let mut chosen = BTreeSet::new();
        while chosen.len() < WINDOWS {
            // Of those that show as much that is new, the one that shows most, and the first.
            let others = kinds.iter().filter(|(window, _)| !chosen.contains(*window));
            let most = others.max_by_key(|&(&window, kinds)| {
                (kinds.len(), shows.get(&window), u32::MAX - window)
            });
            let Some((&window, shown)) = most else {
                break;
            };
            let shown = shown.clone();
            chosen.insert(window);
            kinds
                .values_mut()
                .for_each(|kinds| kinds.retain(|kind| !shown.contains(kind)));
        }
        let span = |window: u32| Span {
            first: window * WINDOW,
            last: window * WINDOW + (WINDOW - 1),
        };
        chosen.into_iter().map(span).collect()
    }
}

/// What makes a window worth looking at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Look(Look),
    Attached,
    Pinned,
}

/// A number with commas between groups of three digits.
pub fn grouped(number: u32) -> String {
    crate::run::group(number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u32, last: u32) -> Span {
        Span { first, last }
    }

    #[test]
    fn numbers_are_counted_in_their_columns() {
        let row = Row {
            last: 0x7fff,
            spans: vec![
                (span(0, 0), Look::Reserved),
                (span(1, 70), Look::Live(0)),
                (span(0x10_0000 - 1, 0x10_0000 - 1), Look::Freeing),
            ],
            attached: vec![span(63, 64)],
            pinned: vec![span(64, 64)],
            ..Row::default()
        };
        let all = row.columns(span(0, 0xf_ffff), 1 << 14); // 64 numbers each
        let counts = |index: usize| all[index].looks.iter().map(|(&look, &count)| (look, count));
        assert!(counts(0).eq([(Look::Reserved, 1), (Look::Live(0), 63)]));
        assert!(counts(1).eq([(Look::Live(0), 7)]));
        assert!(counts((1 << 14) - 1).eq([(Look::Freeing, 1)]));
        assert_eq!((all[0].attached, all[1].attached), (1, 1));
        assert_eq!((all[0].pinned, all[1].pinned), (0, 1));
        assert_eq!((all[0].taken(), all[2].taken()), (64, 0));
        assert!(!all[511].beyond && all[512].beyond);
        // Each number by itself.
        let near = row.columns(span(0, 255), 256);
        assert_eq!(near.iter().map(Column::taken).sum::<u32>(), 71);
        assert!(near[70].taken() == 1 && near[71].taken() == 0);
    }

    #[test]
    fn windows_show_what_there_is() {
        let row = Row {
            last: 0xffff,
            spans: vec![
                (span(0, 0), Look::Reserved),
                (span(1, 0x8000), Look::Live(0)),
                (span(0x9000, 0x9000), Look::Freeing),
                (span(0x9010, 0x9010), Look::Quarantined),
            ],
            ..Row::default()
        };
        let mut picture = Picture {
            bits: 16,
            rows: vec![row],
            ..Picture::default()
        };
        let windows = picture.windows();
        // The end of what is live is worth a look too.
        let end = span(0x8000, 0x80ff);
        assert_eq!(windows, [span(0, 0xff), end, span(0x9000, 0x90ff)]);
        picture.rows[0].pinned.push(span(0x4321, 0x4321));
        picture.rows[0].attached.push(span(0xfff0, 0xffff));
        let windows = picture.windows();
        assert_eq!(windows.len(), WINDOWS);
        assert!(!windows.contains(&end), "there is more to see elsewhere");
        picture.bits = 8;
        assert!(picture.windows().is_empty());
        assert!(Picture::default().windows().is_empty());
    }
}
