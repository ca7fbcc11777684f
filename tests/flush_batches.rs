// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a ticket says of its batch, against a plain model: its ranges are exactly what
//! waits, and those on a table exactly what was attached there in its last life.

mod common;

use common::sets::{KINDS, table, take};
use common::{pasid, random, range};
use fastrand::Rng;
use pasid::{
    Attach, Flush, IoasidSet, Owned, PasidRange, Reuse, Scope, SetConfig, Space, SpaceKind, Table,
    Ticket,
};
use std::collections::{BTreeMap, BTreeSet};

const TABLES: usize = 3;
/// In words of one leaf, across leaves, and in other nodes.
const PLACES: [(u32, u32); 5] = [
    (1, 70),
    (250, 263),
    (16_380, 16_390),
    (40_000, 40_031),
    (0xf_fff0, 0xf_ffff),
];

/// What is known of one PASID: on which tables it was attached in this life.
type Lives = BTreeMap<u32, BTreeSet<usize>>;

fn ranges(numbers: impl Iterator<Item = u32>) -> Vec<PasidRange> {
    let mut ranges: Vec<PasidRange> = Vec::new();
    for number in numbers {
        let last = ranges.last().map(|one| one.last().get() + 1);
        match ranges.last_mut().filter(|_| last == Some(number)) {
            Some(one) => *one = range(one.first().get(), number),
            None => ranges.push(range(number, number)),
        }
    }
    ranges
}

/// The ranges are those of the model, as few as can be.
fn check(ticket: &Ticket<&IoasidSet>, tables: &[Table], batch: &Lives) {
    assert_eq!(ticket.count() as usize, batch.len());
    assert_eq!(ticket.is_empty(), batch.is_empty());
    let all: Vec<_> = ticket.ranges().collect();
    assert_eq!(all, ranges(batch.keys().copied()));
    for (index, table) in tables.iter().enumerate() {
        let on = batch.iter().filter(|(_, tables)| tables.contains(&index));
        let on = ranges(on.map(|(&number, _)| number));
        assert_eq!(ticket.concerns(table), !on.is_empty());
        assert_eq!(ticket.ranges_on(table).collect::<Vec<_>>(), on);
    }
}

struct Run<'a> {
    random: Rng,
    tables: &'a [Table],
    /// To which of the tables the set's PASIDs can be attached.
    reached: &'a [usize],
    held: Vec<(Owned<&'a IoasidSet>, BTreeSet<usize>)>,
    waiting: Lives,
    tickets: Vec<(Ticket<&'a IoasidSet>, Lives)>,
}

impl<'a> Run<'a> {
    fn alloc(&mut self, set: &'a IoasidSet) {
        let (first, last) = PLACES[self.random.usize(..PLACES.len())];
        let number = self.random.u32(first..=last);
        if let Ok(owned) = take(set, number) {
            self.held.push((owned, BTreeSet::new()));
        }
    }

    fn attach(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let at = self.random.usize(..self.held.len());
        let index = self.reached[self.random.usize(..self.reached.len())];
        let (owned, tables) = &mut self.held[at];
        let attaching = (&self.tables[index]).attach(owned, 0).unwrap();
        tables.insert(index);
        // Backed out now and then: the hardware entry may have been written.
        if self.random.bool() {
            drop(attaching.commit().unwrap());
        }
    }

    fn free(&mut self) {
        if !self.held.is_empty() {
            let at = self.random.usize(..self.held.len());
            let (owned, tables) = self.held.swap_remove(at);
            self.waiting.insert(owned.pasid().get(), tables);
        }
    }

    fn begin(&mut self, set: &'a IoasidSet) {
        let (ticket, batch) = (set.begin_flush(), std::mem::take(&mut self.waiting));
        check(&ticket, self.tables, &batch);
        self.tickets.push((ticket, batch));
        if self.tickets.len() > 3 {
            self.end();
        }
    }

    fn end(&mut self) {
        if self.tickets.is_empty() {
            return;
        }
        let at = self.random.usize(..self.tickets.len());
        let (mut ticket, mut batch) = self.tickets.swap_remove(at);
        check(&ticket, self.tables, &batch);
        if self.random.bool() {
            let index = self.random.usize(..TABLES);
            let on = |tables: &BTreeSet<usize>| tables.contains(&index);
            let kept = ticket.put_back_on(&self.tables[index]);
            assert_eq!(
                kept as usize,
                batch.values().filter(|tables| on(tables)).count()
            );
            self.waiting
                .extend(batch.iter().filter(|(_, tables)| on(tables)).map(own));
            batch.retain(|_, tables| !on(tables));
            check(&ticket, self.tables, &batch);
        }
        match self.random.u8(..3) {
            0 => self.waiting.extend(batch),
            _ => assert_eq!(ticket.complete() as usize, batch.len()),
        }
    }
}

fn own((&number, tables): (&u32, &BTreeSet<usize>)) -> (u32, BTreeSet<usize>) {
    (number, tables.clone())
}

fn run(seed: u64, set: &IoasidSet, tables: &[Table], reached: &[usize]) -> u64 {
    let mut run = Run {
        random: random(seed),
        tables,
        reached,
        held: Vec::new(),
        waiting: Lives::new(),
        tickets: Vec::new(),
    };
    let mut batches = 0;
    for _ in 0..3_000 {
        match run.random.u8(..32) {
            0..=13 => run.alloc(set),
            14..=19 => run.attach(),
            20..=29 => run.free(),
            30 => {
                run.begin(set);
                batches += u64::from(!run.tickets.is_empty());
            }
            _ => run.end(),
        }
        if run.random.u8(..16) == 0 {
            let taken: usize = run.tickets.iter().map(|(_, batch)| batch.len()).sum();
            let waiting = set.statistics().waiting as usize;
            assert_eq!(waiting, run.waiting.len() + taken);
        }
    }
    batches
}

#[test]
fn the_ranges_are_what_waits_and_those_on_a_table_what_was_attached_there() {
    for (seed, kind) in (0x9a51_d100..).zip(KINDS) {
        let space = Space::new(kind);
        let tables = [(); TABLES].map(|()| table(&space, 20));
        for table in &tables {
            for (first, last) in PLACES {
                table.preload(range(first, last)).unwrap();
            }
        }
        let group = &tables[1..];
        let all: [(Scope<'_>, &[usize]); 3] = [
            (Scope::Global, &[0, 1, 2]),
            (Scope::Local(&tables[0]), &[0]),
            (Scope::Group(group), &[1, 2]),
        ];
        let scopes = match kind {
            SpaceKind::Global => &all[..1],
            SpaceKind::Tables => &all[1..],
            SpaceKind::Both => &all[..],
        };
        for &(scope, reached) in scopes {
            let config = SetConfig::new(scope).reuse(Reuse::AfterFlush);
            let set = space.add_set(config).unwrap();
            assert!(run(seed, &set, &tables, reached) > 50);
            assert!(set.find(pasid(1)).is_err());
            assert_eq!(set.flush(|_| Ok::<(), ()>(())).map(|_| ()), Ok(()));
            assert_eq!(set.statistics().waiting, 0);
            set.close();
        }
    }
}
