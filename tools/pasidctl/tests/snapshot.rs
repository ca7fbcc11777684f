// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl run --snapshot`, `snapshot` and `map`, from the outside.

mod common;

use std::fs;

use common::{Folder, pasidctl};
use serde_json::Value;

/// Leaves a snapshot of a short run.
fn leave(folder: &Folder, name: &str) -> String {
    let file = folder.path(name);
    pasidctl(&["run", "--seconds", "1", "--seed", "1", "--snapshot", &file]).success();
    file
}

fn sum(list: &Value, name: &str) -> u64 {
    let numbers = list.as_array().unwrap().iter();
    numbers.map(|row| row[name].as_u64().unwrap()).sum()
}

#[test]
fn a_run_leaves_one_of_everything_behind() {
    let folder = Folder::new();
    for name in ["left.json", "left.postcard"] {
        let file = leave(&folder, name);
        let description = pasidctl(&["snapshot", &file, "--json"]).json();
        assert_eq!(description["quiescent"], true, "{description}");
        assert_eq!(description["version"], 1);
        let (tables, sets) = (&description["tables"], &description["sets"]);
        let widths = tables.as_array().unwrap().iter();
        let widths: Vec<_> = widths
            .map(|table| table["width"].as_u64().unwrap())
            .collect();
        // A device that was removed and came back has another.
        assert!(widths.len() >= 3 && widths.contains(&20), "{description}");
        let open = tables.as_array().unwrap().iter();
        assert_eq!(open.filter(|table| table["closing"] == false).count(), 3);
        for state in ["live", "freeing", "quarantined", "pinned"] {
            assert!(sum(sets, state) > 0, "{state}: {description}");
        }
        assert!(sum(tables, "attached") > 0 && sum(tables, "faults") > 0);

        let text = pasidctl(&["snapshot", &file]).success();
        assert!(text.contains("quiescent: nothing changed"), "{text}");
        let said = text.contains(" tables, ") && text.contains("global");
        assert!(said, "{text}");
    }
}

#[test]
fn both_formats_say_the_same() {
    let folder = Folder::new();
    let json = leave(&folder, "left.json");
    let snapshot: pasid::snapshot::SpaceSnapshot =
        serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let postcard = folder.write("left.postcard", postcard::to_stdvec(&snapshot).unwrap());
    let describe = |file: &str| pasidctl(&["snapshot", file, "--json"]).json();
    assert_eq!(describe(&json), describe(&postcard));
    let shorter = fs::metadata(&postcard).unwrap().len() * 2;
    assert!(shorter < fs::metadata(&json).unwrap().len());
}

#[test]
fn a_map_has_a_row_for_each_table_and_for_what_is_global() {
    let folder = Folder::new();
    let file = leave(&folder, "left.postcard");
    let drawing = folder.path("left.svg");
    let silent = pasidctl(&["map", &file, "-o", &drawing]).success();
    assert_eq!(silent, "");
    let svg = fs::read_to_string(&drawing).unwrap();
    let text = pasidctl(&["map", &file, "--text"]).success();
    let description = pasidctl(&["snapshot", &file, "--json"]).json();
    let tables = description["tables"].as_array().unwrap().len();
    let rows = (0..tables).map(|table| format!("table {table}"));
    for name in rows.chain(["global".to_owned()]) {
        // In the overview, and in each closer look.
        let drawn = svg.lines().filter(|line| line.trim() == name).count();
        assert_eq!(drawn, 4, "{name}");
        let printed = text.lines().any(|line| line.starts_with(&name));
        assert!(printed, "{name}: {text}");
    }
    let none = format!("table {tables}");
    assert!(!text.contains(&none) && !svg.contains(&none));
    for word in [
        "being freed",
        "in quarantine",
        "reserved",
        "attached",
        "pinned",
    ] {
        assert!(svg.contains(word) && text.contains(word), "{word}");
    }
    assert!(svg.contains("each column is 1,024 numbers"));
    assert!(text.contains("each character is 16,384 numbers"));
    // At the terminal and in a file at once.
    let both = pasidctl(&["map", &file, "--text", "-o", &drawing]).success();
    assert_eq!(both, text);
}

#[test]
fn bad_files_are_refused_in_one_sentence() {
    let folder = Folder::new();
    let good = fs::read(leave(&folder, "left.json")).unwrap();
    let good = String::from_utf8(good).unwrap();
    let packed = fs::read(leave(&folder, "left.postcard")).unwrap();
    let newer = good.replacen("\"version\": 1,", "\"version\": 2,", 1);
    let long = [&packed[..], b"xy"].concat();
    let text = folder.write("left.txt", &good);
    let cases = [
        ("/nowhere.json".to_owned(), "/nowhere.json"),
        (text, "ends in .json or .postcard"),
        (folder.write("empty.json", ""), "the file is empty"),
        (
            folder.write("cut.json", &good[..good.len() / 2]),
            "no snapshot, or a damaged one",
        ),
        (
            folder.write("more.json", good.clone() + "{}"),
            "no snapshot, or a damaged one",
        ),
        (
            folder.write("other.json", "{\"version\": 1}"),
            "missing field",
        ),
        (folder.write("list.json", "[]"), "no snapshot"),
        (folder.write("noise.json", [0xff, 0xfe]), "no snapshot"),
        (folder.write("newer.json", newer), "of version 2"),
        (
            folder.write("cut.postcard", &packed[..packed.len() / 2]),
            "no snapshot, or a damaged one",
        ),
        (
            folder.write("long.postcard", long),
            "2 bytes come after its end",
        ),
        (folder.write("newer.postcard", [9, 0]), "of version 9"),
        (
            folder.write("folder.json/file", ""),
            "folder.json/file: a snapshot's file ends",
        ),
        (folder.path("folder.json"), "this is a directory"),
    ];
    for (file, expected) in &cases {
        for command in [&["snapshot", file][..], &["map", file, "--text"]] {
            let message = pasidctl(command).refused(file);
            assert!(message.contains(expected), "{file}: {message}");
        }
    }
    let file = folder.write("good.json", good);
    let nowhere = folder.path("no/folder/a.svg");
    let cases: [(&[&str], &str); 5] = [
        (&["map", &file], "--output <FILE.svg>"),
        (
            &["map", &file, "-o", "a.png"],
            "a picture's file ends in .svg",
        ),
        (&["map", &file, "-o", &nowhere], "no/folder/a.svg"),
        (
            &["run", "--snapshot", "left.txt"],
            "ends in .json or .postcard",
        ),
        (
            &["run", "--seconds", "1", "--snapshot", "/nowhere/a.json"],
            "/nowhere/a.json",
        ),
    ];
    for (arguments, expected) in cases {
        let name = arguments.join(" ");
        let message = pasidctl(arguments).refused(&name);
        assert!(message.contains(expected), "{name}: {message}");
    }
}
