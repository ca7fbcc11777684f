// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl restore --check`, from the outside.

mod common;

use common::{Folder, pasidctl};
use pasid::snapshot::SpaceSnapshot;
use pasid::{
    Attach, Pasid, PasidWidth, Pool, RequesterId, Reuse, Scope, SetConfig, Space, SpaceKind,
    TableConfig,
};
use serde_json::{Value, json};

/// A table, with a set of its own and a global one; PASID 1 to 4 of the table's set, of
/// which 1 is attached and 4 in quarantine, and the global PASID 5.
fn snapshot() -> pasid::Result<SpaceSnapshot> {
    let space = Space::with_capacity(SpaceKind::Both, 2_000_000);
    let table = space.add_table(TableConfig::new(PasidWidth::new(16)?))?;
    table.join(RequesterId(0x3a08), PasidWidth::new(12)?)?;
    let config = SetConfig::new(Scope::Local(&table)).quota(10);
    let local = space.add_set(config.reuse(Reuse::AfterFlush))?;
    let global = space.add_set(SetConfig::new(Scope::Global).token(7).quota(5))?;
    let held = (0..4).map(|word| local.alloc(local.range(), word));
    let mut held = held.collect::<pasid::Result<Vec<_>>>()?;
    held.pop();
    table.preload(Pasid::new(1)?.into())?;
    let attachment = table.attach(&held[0], 9)?.commit()?;
    // Beside the one that waits.
    let process = global.alloc(global.range(), 0)?;
    assert_eq!(process.pasid().get(), 5);
    let snapshot = space.snapshot();
    drop((held, attachment, process));
    snapshot
}

#[test]
fn a_snapshot_holds_in_both_formats() {
    let folder = Folder::new();
    let snapshot = snapshot().unwrap();
    let files = [
        folder.write("a.json", serde_json::to_vec(&snapshot).unwrap()),
        folder.write("a.postcard", postcard::to_stdvec(&snapshot).unwrap()),
    ];
    for file in files {
        let text = pasidctl(&["restore", "--check", &file]).success();
        let expected = "it holds: 1 table, 2 sets; quiescent; PASIDs: 5\n";
        assert_eq!(text, format!("{file}: {expected}"));
    }
}

#[test]
fn what_a_run_leaves_holds() {
    let folder = Folder::new();
    let file = folder.path("left.postcard");
    pasidctl(&["run", "--seconds", "1", "--snapshot", &file]).success();
    let text = pasidctl(&["restore", "--check", &file]).success();
    assert!(text.contains("it holds: "), "{text}");
}

#[test]
fn the_first_offence_is_named_and_the_exit_code_says_it() {
    let folder = Folder::new();
    let good = serde_json::to_value(snapshot().unwrap()).unwrap();
    // Where, what it becomes, and what is said.
    let cases: [(&str, Value, &str); 10] = [
        ("/version", json!(0), "snapshot: written in version 0"),
        (
            "/sets/0/generations",
            json!([]),
            "set 0: the columns are not equally long",
        ),
        ("/sets/0/quota", json!(3), "set 0: more than the quota"),
        ("/sets/1/token", json!(null), ""),
        ("/sets/1/pasids/0/first", json!(2), "PASID 2: held twice"),
        (
            "/sets/1/scope",
            json!({"local": 3}),
            "index 3 names nothing",
        ),
        ("/sets/0/pasids/1/references", json!(0), "set 0, PASID "),
        (
            "/tables/0/attachments/0/first",
            json!(9),
            "table 0, attachment of PASID 9",
        ),
        ("/tables/0/devices/0/width", json!(0), ""),
        ("/capacity", json!(3), "more than the quota or the capacity"),
    ];
    for (place, value, expected) in cases {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = value;
        let file = folder.write("bad.json", bad.to_string());
        let run = pasidctl(&["restore", "--check", &file]);
        if expected.is_empty() {
            // What differs, and is no offence.
            run.success();
            continue;
        }
        run.exit_code(1);
        let message = run.stderr();
        assert_eq!(
            (run.stdout().as_str(), message.lines().count()),
            ("", 1),
            "{message}"
        );
        assert!(
            message.starts_with(&format!("pasidctl: {file}: ")),
            "{message}"
        );
        assert!(message.contains(expected), "{place}: {message}");
    }
}

#[test]
fn what_is_no_snapshot_is_refused() {
    let folder = Folder::new();
    let file = folder.write("a.json", "{\"version\": 1}");
    let message = pasidctl(&["restore", "--check", &file]).refused("no snapshot");
    assert!(message.contains("missing field"), "{message}");
    let message = pasidctl(&["restore", &file]).refused("without --check");
    assert!(message.contains("--check"), "{message}");
    let message = pasidctl(&["restore", "--check"]).refused("without a file");
    assert!(message.contains("<FILE>"), "{message}");
}
