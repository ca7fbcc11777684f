// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots as JSON and as postcard: what is written is read back, and what was written in
//! version 1 stays readable.
//!
//! The golden files in `tests/golden/` are written by
//! `PASID_WRITE_GOLDEN=1 cargo test --features serde --test snapshot_formats golden`. Those of
//! a version are written once, before it is released, and never again.
#![cfg(feature = "serde")]

mod common;

use common::snapshots::{busy, busy_snapshot, keeps_rules, plain, roomy};
use pasid::snapshot::{Aliasing, Numbers, Offence, Place, Restore, SpaceSnapshot, VERSION};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn json(snapshot: &SpaceSnapshot) -> String {
    serde_json::to_string_pretty(snapshot).expect("every field has a form")
}

fn postcard(snapshot: &SpaceSnapshot) -> Vec<u8> {
    postcard::to_allocvec(snapshot).expect("every field has a form")
}

fn from_postcard(bytes: &[u8]) -> Result<SpaceSnapshot, postcard::Error> {
    postcard::from_bytes(bytes)
}

fn golden(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("tests/golden").join(name)
}

/// Restores into an empty space, in which it is then what it was.
fn restores(taken: &SpaceSnapshot) {
    let space = roomy(0);
    let restored = Restore::new(taken).into_space(&space);
    let mut restored = restored.expect("it is whole");
    let users = Arc::new(restored.set::<u64>(0).expect("words"));
    // The guests' entries are all of this set.
    let maps = restored.alias_maps(|_| Ok(users.clone())).expect("memory");
    let named: Vec<&dyn Aliasing> = maps.iter().map(|map| map as _).collect();
    let again = space.snapshot_with(&named).expect("memory");
    keeps_rules(&again);
    assert_eq!(again.aliases, taken.aliases);
    assert_eq!(plain(again), plain(taken.clone()));
    drop(restored);
}

#[test]
fn both_formats_bring_back_a_busy_space() {
    let taken = busy_snapshot();
    let text = json(&taken);
    let bytes = postcard(&taken);
    println!("{} bytes of JSON, {} of postcard", text.len(), bytes.len());
    for read in [
        serde_json::from_str(&text).expect("whole"),
        from_postcard(&bytes).expect("whole"),
    ] {
        assert_eq!(read, taken);
        restores(&read);
    }
}

/// The golden snapshot of version 1, in its two forms.
#[test]
fn golden_files_of_version_1_stay_readable() {
    let names = ["snapshot-v1.json", "snapshot-v1.postcard"].map(golden);
    if std::env::var_os("PASID_WRITE_GOLDEN").is_some() {
        let taken = busy_snapshot();
        std::fs::write(&names[0], json(&taken) + "\n").expect("a folder");
        std::fs::write(&names[1], postcard(&taken)).expect("a folder");
    }
    let text = std::fs::read_to_string(&names[0]).expect("committed");
    let bytes = std::fs::read(&names[1]).expect("committed");
    let taken: SpaceSnapshot = serde_json::from_str(&text).expect("readable for good");
    assert_eq!(from_postcard(&bytes).expect("readable for good"), taken);
    assert_eq!((taken.version, VERSION), (1, 1));
    // It is written today as it was then.
    assert_eq!(json(&taken) + "\n", text);
    assert_eq!(postcard(&taken), bytes);
    restores(&taken);
    let space = roomy(0);
    let restored = Restore::new(&taken)
        .numbers(Numbers::New)
        .into_space(&space)
        .expect("there is room");
    keeps_rules(&space.snapshot().expect("memory"));
    drop(restored);
}

/// A golden file is worth as much as what is in it: no field has one value throughout.
#[test]
fn golden_files_use_every_field() {
    let text = std::fs::read_to_string(golden("snapshot-v1.json")).expect("committed");
    let taken: SpaceSnapshot = serde_json::from_str(&text).expect("readable for good");
    let sets = || taken.sets.iter();
    let tables = || taken.tables.iter();
    let runs = || sets().flat_map(|set| &set.pasids);
    let attached = || tables().flat_map(|table| &table.attachments);
    let both = |seen: &mut dyn Iterator<Item = bool>| {
        let seen: std::collections::HashSet<bool> = seen.collect();
        assert_eq!(seen.len(), 2);
    };
    assert!(taken.capacity.is_some() && !taken.reserved.is_empty());
    both(&mut tables().map(|table| table.paused));
    both(&mut tables().map(|table| table.closing));
    both(&mut tables().map(|table| table.reserved.is_empty()));
    both(&mut tables().map(|table| table.devices.is_empty()));
    both(&mut attached().map(|run| run.detached));
    both(&mut attached().map(|run| run.faults > 0));
    both(&mut attached().map(|run| run.set > 0));
    both(&mut sets().map(|set| set.ranges.len() > 1));
    both(&mut sets().map(|set| set.cursors.is_empty()));
    both(&mut sets().map(|set| set.closing));
    both(&mut sets().map(|set| set.token.is_some()));
    both(&mut runs().map(|run| run.pinned));
    both(&mut runs().map(|run| run.own));
    both(&mut runs().map(|run| run.count > 1));
    both(&mut sets().flat_map(|set| &set.words).map(|run| run.step > 0));
    both(
        &mut sets()
            .flat_map(|set| &set.generations)
            .map(|run| run.count > 1),
    );
    for name in [
        "lowest",
        "next",
        "preserve-narrow",
        "spread",
        "immediate",
        "after-flush",
        "word",
        "nothing",
        "live",
        "freeing",
        "quarantined",
        "pinned",
        "global",
        "local",
        "group",
    ] {
        assert!(text.contains(&format!("\"{name}\"")), "{name}");
    }
    let aliases = || taken.aliases.iter().flat_map(|map| &map.tables);
    both(&mut aliases().map(|table| table.below.is_some()));
    both(
        &mut aliases()
            .flat_map(|table| &table.entries)
            .map(|run| run.below.is_some()),
    );
}

#[test]
fn what_is_cut_short_is_refused() {
    let taken = busy_snapshot();
    let bytes = postcard(&taken);
    for length in 0..bytes.len() {
        assert!(from_postcard(&bytes[..length]).is_err(), "{length}");
    }
    let text = json(&taken);
    for length in 0..text.len() {
        let read = serde_json::from_str::<SpaceSnapshot>(&text[..length]);
        assert!(read.is_err(), "{length}");
    }
}

#[test]
fn what_follows_a_snapshot_is_seen() {
    let taken = busy_snapshot();
    let mut bytes = postcard(&taken);
    let length = bytes.len();
    bytes.extend([0, 1, 2]);
    let (read, rest) = postcard::take_from_bytes::<SpaceSnapshot>(&bytes).expect("whole");
    assert_eq!((read, rest), (taken.clone(), &bytes[length..]));
    let text = json(&taken) + "0";
    assert!(serde_json::from_str::<SpaceSnapshot>(&text).is_err());
}

#[test]
fn a_newer_version_is_refused() {
    let mut newer = busy_snapshot();
    newer.version = VERSION + 1;
    let place = Place::Snapshot;
    refused_for_its_version(&newer, place);
    let mut newer = busy_snapshot();
    newer.sets[1].version = VERSION + 1;
    refused_for_its_version(&newer, Place::Set(1));
}

fn refused_for_its_version(newer: &SpaceSnapshot, place: Place) {
    let read: SpaceSnapshot = serde_json::from_str(&json(newer)).expect("the fields are known");
    let space = busy();
    let before = space.snapshot().expect("memory");
    let error = Restore::new(&read).into_space(&space).expect_err("newer");
    let found = VERSION + 1;
    assert_eq!(
        (error.place, error.offence),
        (place, Offence::Version { found })
    );
    assert_eq!(space.snapshot().expect("memory"), before);
}
