// SPDX-License-Identifier: MIT OR Apache-2.0
//! Damaged snapshots: bytes of both formats flipped, and the structure changed field by
//! field. Each is refused and leaves nothing behind, or is restored into something that
//! keeps the rules and can be given back whole. None makes anything panic.
#![cfg(feature = "serde")]

mod common;

use common::allocator::{Instrumented, counted};
use common::sets::{global, group, local, table, take};
use common::snapshots::{busy_snapshot, keeps_rules, roomy};
use common::{random, range};
use pasid::snapshot::{
    Numbers, Offence, PhaseSnapshot, Restore, RestoreError, Restored, SpaceSnapshot,
};
use pasid::{Error, Flush, Owned, Space, Table};
use serde_json::Value;
use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Instrumented = Instrumented;

/// What became of damaged snapshots.
#[derive(Default)]
struct Fates {
    unreadable: u32,
    refused: BTreeMap<String, u32>,
    restored: u32,
}

impl Fates {
    fn refused(&self) -> u32 {
        self.refused.values().sum()
    }

    fn print(&self, what: &str) {
        let (unreadable, restored) = (self.unreadable, self.restored);
        println!(
            "{what}: {unreadable} unreadable, {restored} restored, refused {:?}",
            self.refused
        );
    }

    /// Tries a damaged snapshot in an empty space and in an occupied one.
    fn meet(&mut self, damaged: Option<SpaceSnapshot>) {
        let Some(damaged) = damaged else {
            self.unreadable += 1;
            return;
        };
        let checked = Restore::new(&damaged).check();
        let empty = empty(&damaged);
        occupied(&damaged, false);
        occupied(&damaged, true);
        match empty {
            // What is an offence by itself is one wherever it goes.
            Err(error) => {
                assert!(checked.is_ok() || checked == Err(error));
                let offence = format!("{:?}", error.offence);
                let end = offence.find([' ', '(']).unwrap_or(offence.len());
                *self.refused.entry(offence[..end].to_owned()).or_default() += 1;
            }
            Ok(()) => {
                assert_eq!(checked, Ok(()));
                self.restored += 1;
            }
        }
    }
}

/// The capacity of the snapshot is not the space's, which has its own.
fn empty(damaged: &SpaceSnapshot) -> Result<(), RestoreError> {
    let (result, asked) = counted(|| {
        let space = roomy(2_000);
        unchanged_or_whole(&space, damaged, Numbers::Same)
    });
    assert_eq!(asked.live_bytes, 0, "what was built went with the space");
    result
}

/// A space in which others have PASIDs, of which one may be that of the last set.
fn occupied(damaged: &SpaceSnapshot, collides: bool) {
    let space = roomy(2_000_000);
    let device = table(&space, 18);
    let sets = [
        global(&space),
        local(&space, &device),
        group(&space, std::slice::from_ref(&device)),
    ];
    let last = if collides { 3000 } else { 1500 };
    let owned: Vec<Owned<_>> = [(0, last), (0, 30), (1, 1800), (2, 1801)]
        .map(|(set, number): (usize, u32)| take(&sets[set], number).expect("free"))
        .into();
    let same = unchanged_or_whole(&space, damaged, Numbers::Same);
    let closing = damaged.sets.last().filter(|set| set.pasids.len() == 1);
    if collides && closing.is_some_and(|set| set.pasids[0].first.get() == last) {
        assert!(same.is_err());
    }
    let _ = unchanged_or_whole(&space, damaged, Numbers::New);
    drop(owned);
}

fn seen(space: &Space) -> (SpaceSnapshot, Option<u32>) {
    (space.snapshot().expect("memory"), space.capacity_left())
}

/// Restores. What is refused leaves nothing behind; what is not keeps the rules, and when
/// all of it is closed and given back, nothing is left either.
fn unchanged_or_whole(
    space: &Space,
    damaged: &SpaceSnapshot,
    numbers: Numbers,
) -> Result<(), RestoreError> {
    let before = seen(space);
    let mut restored = match Restore::new(damaged).numbers(numbers).into_space(space) {
        Ok(restored) => restored,
        Err(error) => {
            assert_eq!(seen(space), before, "{error}");
            assert!(!error.to_string().is_empty());
            return Err(error);
        }
    };
    keeps_rules(&space.snapshot().expect("memory"));
    aliases(&mut restored);
    let sets = damaged.sets.len();
    let tables: Vec<Table> = (0..damaged.tables.len())
        .map(|index| restored.table(index).expect("restored").clone())
        .collect();
    let words: Vec<_> = (0..sets)
        .filter_map(|index| restored.set::<u64>(index))
        .collect();
    let nothing: Vec<_> = (0..sets)
        .filter_map(|index| restored.set::<()>(index))
        .collect();
    assert_eq!(words.len() + nothing.len(), sets);
    drop(restored);
    // Nobody holds anything: what is left was kept by a flush alone.
    let flushed = |_: &mut _| Ok::<(), Error>(());
    space.flush(flushed).expect("nothing fails");
    for table in &tables {
        table.flush(|_| Ok::<(), Error>(())).expect("nothing fails");
    }
    for set in &words {
        set.flush(|_| Ok::<(), Error>(())).expect("nothing fails");
        let of = set.statistics();
        assert_eq!((of.live, of.freeing, of.waiting, of.pinned), (0, 0, 0, 0));
        set.close();
    }
    for set in &nothing {
        set.flush(|_| Ok::<(), Error>(())).expect("nothing fails");
        let of = set.statistics();
        assert_eq!((of.live, of.freeing, of.waiting, of.pinned), (0, 0, 0, 0));
        set.close();
    }
    tables.iter().for_each(Table::close);
    drop((words, nothing, tables));
    let (mut after, left) = seen(space);
    // What the snapshot reserves stays reserved.
    after.reserved.clone_from(&before.0.reserved);
    assert_eq!((after, left), before);
    Ok(())
}

/// Builds the alias maps over whatever set they name, if that is one of words. All their
/// entries hold what they say.
fn aliases(restored: &mut Restored) {
    let sets: Vec<_> = (0..8)
        .map(|index| restored.set::<u64>(index).map(Arc::new))
        .collect();
    let pool = |index: usize| {
        let set = sets.get(index).cloned().flatten();
        set.ok_or(Error::InvalidScope)
    };
    let unclaimed = |restored: &Restored| restored.unclaimed().map(|of| of.aliases).sum::<u32>();
    let before = unclaimed(restored);
    let Ok(maps) = restored.alias_maps(pool) else {
        assert_eq!(unclaimed(restored), before);
        return;
    };
    assert_eq!(unclaimed(restored), 0);
    let tables = maps.iter().flat_map(|map| map.tables().expect("memory"));
    let entries: usize = tables
        .map(|table| table.aliases(range(0, 0xf_ffff)).count())
        .sum();
    assert_eq!(entries as u32, before);
}

#[test]
fn flipped_bytes_of_json_do_no_harm() {
    let whole = serde_json::to_vec(&busy_snapshot()).expect("a form");
    let mut random = random(0x1A50);
    let mut fates = Fates::default();
    for _ in 0..1_000 {
        let mut bytes = whole.clone();
        for _ in 0..random.u32(1..3) {
            let mut place = random.usize(..bytes.len());
            // Mostly a digit for a digit, so that more can be read.
            let digits = random.u8(..4) > 0;
            while digits && !bytes[place].is_ascii_digit() {
                place = random.usize(..bytes.len());
            }
            bytes[place] = match digits {
                true => random.u8(b'0'..=b'9'),
                false => bytes[place] ^ 1 << random.u32(..8),
            };
        }
        fates.meet(serde_json::from_slice(&bytes).ok());
    }
    fates.print("JSON");
    assert!(fates.unreadable > 100 && fates.refused() > 50 && fates.restored > 10);
}

#[test]
fn flipped_bytes_of_postcard_do_no_harm() {
    let whole = postcard::to_allocvec(&busy_snapshot()).expect("a form");
    let mut random = random(0x9057);
    let mut fates = Fates::default();
    for _ in 0..1_000 {
        let mut bytes = whole.clone();
        for _ in 0..random.u32(1..3) {
            let place = random.usize(..bytes.len());
            bytes[place] ^= 1 << random.u32(..8);
        }
        fates.meet(postcard::from_bytes(&bytes).ok());
    }
    fates.print("postcard");
    assert!(fates.unreadable > 50 && fates.refused() > 200 && fates.restored > 10);
}

/// The ways to all values, of which a way is the steps from the top.
fn ways(value: &Value, way: &mut Vec<Value>, all: &mut Vec<Vec<Value>>) {
    all.push(way.clone());
    let mut deeper = |step: Value, value| {
        way.push(step);
        ways(value, way, all);
        way.pop();
    };
    match value {
        Value::Array(values) => (0..).zip(values).for_each(|(index, value)| {
            deeper(Value::from(index), value);
        }),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            deeper(Value::from(name.as_str()), value);
        }),
        _ => {}
    }
}

fn at<'a>(value: &'a mut Value, way: &[Value]) -> &'a mut Value {
    way.iter().fold(value, |value, step| match step {
        Value::String(name) => &mut value[name.as_str()],
        step => &mut value[step.as_u64().expect("an index") as usize],
    })
}

const NAMES: [&str; 16] = [
    "lowest",
    "next",
    "preserve-narrow",
    "spread",
    "immediate",
    "after-flush",
    "word",
    "nothing",
    "value",
    "live",
    "freeing",
    "quarantined",
    "pinned",
    "global",
    "both",
    "tables",
];

/// Changes a value into another of the same sort.
fn change(value: &mut Value, random: &mut fastrand::Rng) {
    match value {
        Value::Bool(set) => *set = !*set,
        Value::Null => *value = Value::from(random.u32(..3_000)),
        Value::Number(number) => {
            let now = number.as_u64().expect("no sign and no fraction");
            *value = Value::from(match random.u8(..8) {
                0 => 0,
                1 => now.wrapping_add(1),
                2 => now.saturating_sub(1),
                3 => u64::from(random.u32(..8)),
                4 => u64::from(random.u32(..4_096)),
                5 => u64::from(random.u32(..1 << 20)),
                6 => u64::from(random.u32(..)),
                _ => now ^ 1 << random.u32(..16),
            });
        }
        Value::String(name) => *name = NAMES[random.usize(..NAMES.len())].to_owned(),
        Value::Array(values) if !values.is_empty() => {
            let (one, other) = (random.usize(..values.len()), random.usize(..values.len()));
            match random.u8(..5) {
                0 => drop(values.remove(one)),
                1 => values.insert(other, values[one].clone()),
                2 => values.swap(one, other),
                3 => values.truncate(one),
                _ => values.clear(),
            }
        }
        Value::Array(_) => {}
        // An option with something in it, or a name with something.
        Value::Object(_) => *value = Value::Null,
    }
}

#[test]
fn changed_structures_do_no_harm() {
    let whole = serde_json::to_value(busy_snapshot()).expect("a form");
    let mut all = Vec::new();
    ways(&whole, &mut Vec::new(), &mut all);
    let mut random = random(0x57_2C7);
    let mut fates = Fates::default();
    // Each field several times, and then with others at once.
    for round in 0..6 {
        for way in &all {
            let mut damaged = whole.clone();
            change(at(&mut damaged, way), &mut random);
            for _ in 3..=round {
                let mut now = Vec::new();
                ways(&damaged, &mut Vec::new(), &mut now);
                let way = &now[random.usize(..now.len())];
                change(at(&mut damaged, way), &mut random);
            }
            fates.meet(serde_json::from_value(damaged).ok());
        }
    }
    fates.print("structure");
    assert!(fates.refused() > 1_000 && fates.restored > 100);
    for offence in [
        "Version",
        "Index",
        "Disorder",
        "Columns",
        "Phase",
        "References",
        "Payload",
        "Tag",
        "Kind",
        "OutsideSet",
        "DoesNotFit",
        "HeldTwice",
        "Quota",
        "Reach",
        "Device",
    ] {
        assert!(fates.refused.contains_key(offence), "{offence}");
    }
}

/// What holds of a column alone, without the restoring: it is read to its end or ends early.
#[test]
fn entries_of_changed_columns_end() {
    let whole = busy_snapshot();
    let mut random = random(0xC01);
    for _ in 0..1_000 {
        let mut set = whole.sets[random.usize(..whole.sets.len())].clone();
        set.tag = random.u16(..);
        if let Some(run) = set.pasids.first_mut() {
            run.count = random.u32(..1_000);
            run.phase = PhaseSnapshot::Live;
        }
        if let Some(run) = set.generations.first_mut() {
            run.generation = random.u32(..);
            run.count = random.u32(..1_000);
        }
        assert!(set.entries().count() as u64 <= set.count());
    }
}

/// One PASID in the way: nothing of all the others is left behind.
#[test]
fn each_collision_changes_nothing() {
    let taken = busy_snapshot();
    for set in taken
        .sets
        .iter()
        .filter(|set| set.scope == taken.sets[0].scope)
    {
        for entry in set.entries() {
            let space = roomy(2_000_000);
            let others = global(&space);
            let number = entry.handle.pasid();
            let _owned = ManuallyDrop::new(take(&others, number.get()).expect("free"));
            let before = seen(&space);
            let error = Restore::new(&taken).into_space(&space).expect_err("in use");
            assert_eq!(error.offence, Offence::Refused(Error::InUse(number)));
            assert_eq!(seen(&space), before);
        }
    }
}
