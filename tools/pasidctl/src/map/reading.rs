// SPDX-License-Identifier: MIT OR Apache-2.0
//! A snapshot as a picture: each row has what its own sets hold.

use std::collections::{BTreeMap, BTreeSet};

use pasid::PasidRange;
use pasid::snapshot::TableSnapshot;
use pasid::snapshot::{PasidRun, PhaseSnapshot, ScopeSnapshot, SetSnapshot, SpaceSnapshot};

use super::picture::{Legend, Look, Picture, Row, Span};
use crate::snapshot::naming;

/// The last PASID there can be.
const LAST: u32 = (1 << 20) - 1;

/// The picture of a snapshot that was read from `name`. What is not as it should be in a
/// snapshot is drawn as far as it can be; nothing in it is looked up unchecked.
pub fn picture(snapshot: &SpaceSnapshot, name: &str) -> Picture {
    let colours = colours(snapshot);
    let row = |place, name: String, last| Reading {
        snapshot,
        colours: &colours,
        place,
        row: Row {
            name,
            last,
            ..Row::default()
        },
    };
    let mut rows = Vec::new();
    if places(snapshot).any(|(place, _)| place.is_none()) || snapshot.tables.is_empty() {
        rows.push(row(None, "global".to_owned(), LAST).read(None));
    }
    for (index, table) in (0..).zip(&snapshot.tables) {
        let name = format!("table {index}");
        let last = naming::width(table).last().get();
        rows.push(row(Some(index), name, last).read(Some(table)));
    }
    let bits = bits(&rows);
    Picture {
        title: name.to_owned(),
        note: naming::whole(snapshot),
        bits,
        rows,
    }
}

/// As many bits as the tables have, and as what is used has.
fn bits(rows: &[Row]) -> u8 {
    let used = rows.iter().flat_map(|row| {
        let spans = row.spans.iter().map(|(span, _)| span.last);
        let others = row.attached.iter().chain(&row.pinned);
        let width = (row.name != "global").then_some(row.last);
        spans.chain(others.map(|span| span.last)).chain(width)
    });
    let last = used.max().unwrap_or(0).min(LAST);
    (last | 0xff).ilog2() as u8 + 1
}

/// Each place where there are sets, global ones nowhere in particular, with the set.
fn places(snapshot: &SpaceSnapshot) -> impl Iterator<Item = (Option<u32>, usize)> + '_ {
    let sets = snapshot.sets.iter().enumerate();
    sets.flat_map(|(index, set)| {
        let places = match &set.scope {
            ScopeSnapshot::Global => vec![None],
            ScopeSnapshot::Local(table) => vec![Some(*table)],
            ScopeSnapshot::Group(tables) => tables.iter().copied().map(Some).collect(),
        };
        places.into_iter().map(move |place| (place, index))
    })
}

/// A colour for each set that has PASIDs, another than those of the sets before it in the
/// same rows.
fn colours(snapshot: &SpaceSnapshot) -> Vec<usize> {
    let mut used: BTreeMap<Option<u32>, BTreeSet<usize>> = BTreeMap::new();
    let mut colours = vec![0; snapshot.sets.len()];
    let mut places_of: BTreeMap<usize, Vec<Option<u32>>> = BTreeMap::new();
    for (place, set) in places(snapshot) {
        places_of.entry(set).or_default().push(place);
    }
    for (set, places) in places_of {
        let seen = snapshot
            .sets
            .get(set)
            .is_some_and(|set| !set.pasids.is_empty());
        if !seen {
            continue;
        }
        let taken = |colour: &usize| {
            let mut used = places.iter().filter_map(|place| used.get(place));
            used.any(|used| used.contains(colour))
        };
        let colour = (0..).find(|colour| !taken(colour)).unwrap_or(0);
        if let Some(place) = colours.get_mut(set) {
            *place = colour;
        }
        for place in places {
            used.entry(place).or_default().insert(colour);
        }
    }
    colours
}

/// A row that is being read.
struct Reading<'a> {
    snapshot: &'a SpaceSnapshot,
    colours: &'a [usize],
    place: Option<u32>,
    row: Row,
}

impl Reading<'_> {
    fn read(mut self, table: Option<&TableSnapshot>) -> Row {
        self.reserved(&self.snapshot.reserved);
        if let Some(table) = table {
            self.row.note = naming::table(table);
            self.reserved(&table.reserved);
            for run in &table.attachments {
                // What was detached waits for its faults, and is in no hardware table any more.
                let there = (!run.detached).then(|| span(run.first.get(), run.count));
                self.row.attached.extend(there.flatten());
            }
        }
        let place = self.place;
        let sets = places(self.snapshot).filter(|(at, _)| *at == place);
        let mut empty = 0;
        for (_, index) in sets.collect::<Vec<_>>() {
            match self.snapshot.sets.get(index) {
                Some(set) if set.pasids.is_empty() => empty += 1,
                Some(set) => self.set(set, index),
                None => {}
            }
        }
        if empty > 0 {
            let separator = if self.row.note.is_empty() { "" } else { "; " };
            let empty = naming::count(empty, "set");
            self.row.note += &format!("{separator}{empty} without PASIDs");
        }
        self.row
    }

    fn reserved(&mut self, ranges: &[PasidRange]) {
        for range in ranges {
            let count = range.count();
            let span = span(range.first().get(), count);
            self.row
                .spans
                .extend(span.map(|span| (span, Look::Reserved)));
        }
    }

    fn set(&mut self, set: &SetSnapshot, index: usize) {
        let colour = self.colours.get(index).copied().unwrap_or(0);
        for run in &set.pasids {
            let Some(span) = span(run.first.get(), run.count) else {
                continue;
            };
            self.row.spans.push((span, look(run, colour)));
            if run.pinned {
                self.row.pinned.push(span);
            }
        }
        self.row.sets.push(Legend {
            name: naming::set(set, index),
            colour,
            counts: naming::counts(set),
        });
    }
}

fn look(run: &PasidRun, colour: usize) -> Look {
    match run.phase {
        PhaseSnapshot::Live => Look::Live(colour),
        PhaseSnapshot::Freeing => Look::Freeing,
        PhaseSnapshot::Quarantined | PhaseSnapshot::Pinned => Look::Quarantined,
    }
}

/// Numbers, as far as there are such.
fn span(first: u32, count: u32) -> Option<Span> {
    let last = first.saturating_add(count.checked_sub(1)?).min(LAST);
    (first <= last).then_some(Span { first, last })
}
