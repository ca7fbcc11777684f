// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl run` as its user meets it: output, broken rules, errors, exit code.

mod common;

use std::time::{Duration, Instant};

use common::{Config, Folder, dump, pasidctl, rows};
use serde_json::Value;

const RULES: [&str; 16] = [
    "M1", "M2", "M3", "M4", "M5", "M6", "M7", "flush", "drain", "M8", "stale", "revoked", "lookup",
    "fault", "closing", "exact",
];

/// Runs for a second, with a fixed seed, and reads what it printed.
fn run(arguments: &[&str]) -> Value {
    let fixed = ["run", "--json", "--seconds", "1", "--seed", "1"];
    pasidctl(&[&fixed, arguments].concat()).json()
}

fn rule<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rules = report["rules"].as_array().unwrap();
    rules.iter().find(|rule| rule["rule"] == name).unwrap()
}

#[test]
fn a_run_makes_every_call_and_breaks_no_rule() {
    let report = run(&["--threads", "4"]);
    assert_eq!(report["broken"], 0);
    assert_eq!(report["failed"], 0);
    assert_eq!(report["rules_checked"], RULES.len());
    for name in RULES {
        assert!(
            rule(&report, name)["checks"].as_u64().unwrap() > 0,
            "{name}"
        );
        assert!(rule(&report, name)["example"].is_null(), "{name}");
    }
    let operations = report["operations"].as_array().unwrap();
    let calls = |operation: &Value| operation["calls"].as_u64().unwrap();
    assert_eq!(operations.len(), 29);
    for operation in operations {
        assert!(calls(operation) > 0, "{operation}");
    }
    let total: u64 = operations.iter().map(calls).sum();
    assert_eq!(report["calls"], total);
    assert!(report["mops_per_s"].as_f64().unwrap() > 0.0);
    let get = &operations[6];
    assert_eq!(get["kind"], "get");
    assert!(get["p50_ns"].as_u64().unwrap() <= get["p99_ns"].as_u64().unwrap());
}

#[test]
fn the_story_is_told_of_either_reuse() {
    for width in ["6", "20"] {
        let report = run(&["--width", width]);
        let story = &report["story"];
        let told = story["told"].as_array().unwrap();
        let count = |index: usize, name: &str| told[index][name].as_u64().unwrap();
        assert_eq!(story["devices"], 3);
        let reuses = [&told[0]["reuse"], &told[1]["reuse"]];
        assert_eq!(reuses, ["immediate", "after flush"]);
        for same in ["contexts", "faults"] {
            assert_eq!(count(0, same), count(1, same));
        }
        assert!(count(0, "to_wrong_owner") > 0 && count(0, "flushes") == 0);
        assert!(count(1, "to_wrong_owner") == 0 && count(1, "flushes") > 0);
        let flushes = &report["flushes"];
        for name in ["completed", "pasids", "put_back"] {
            assert!(flushes[name].as_u64().unwrap() > 0, "{flushes}");
        }
        // The same seed tells the same.
        assert_eq!(&run(&["--width", width])["story"], story);
    }
}

#[test]
fn every_contested_answer_is_met() {
    let longer = ["run", "--json", "--seconds", "3", "--threads", "4"];
    let report = pasidctl(&longer).json();
    let answers = report["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 20);
    for answer in answers {
        let met = answer["count"].as_u64().unwrap() > 0;
        let unmet = ["other", "outside the set"].map(Value::from);
        assert_eq!(met, !unmet.contains(&answer["answer"]), "{answer}");
    }
}

#[test]
fn the_report_says_what_was_asked_for() {
    let report = run(&["--threads", "3", "--policy", "next", "--width", "12"]);
    assert_eq!(report["threads"], 3);
    assert_eq!(report["seed"], 1);
    assert_eq!(report["policy"], "next");
    assert_eq!(report["planted"], Value::Null);
    for table in report["tables"].as_array().unwrap() {
        assert_eq!(table["width"], 12);
    }
    assert!(
        report["highest_pasid"].as_u64().unwrap() > 4095,
        "a global one"
    );
    assert_eq!(report["broken"], 0);
}

#[test]
fn every_policy_and_narrow_tables_keep_the_rules() {
    for (policy, width) in [
        ("lowest", "6"),
        ("next", "7"),
        ("preserve-narrow", "8"),
        ("spread", "16"),
    ] {
        let report = run(&["--policy", policy, "--width", width]);
        assert_eq!(report["broken"], 0, "{report}");
        assert_eq!(report["rules_checked"], RULES.len());
    }
}

#[test]
fn the_builtin_machine_has_a_table_for_each_device_with_pasid_support() {
    let report = run(&[]);
    let tables = report["tables"].as_array().unwrap();
    let seen: Vec<_> = tables
        .iter()
        .map(|table| (&table["devices"][0], &table["width"], &table["again"]))
        .map(|(device, width, again)| (device.as_str(), width.as_u64(), again.as_bool()))
        .collect();
    let expected = [("6a:01.0", 20), ("e1:00.0", 16), ("06:00.0", 16)];
    let expected = expected.map(|(device, width)| (Some(device), Some(width), Some(false)));
    assert_eq!(seen, expected);
    assert_eq!(report["refused"], serde_json::json!(["00:01.2"]));
}

#[test]
fn each_rule_is_seen_broken_when_it_is_planted() {
    for name in RULES {
        let fixed = ["run", "--seconds", "1", "--seed", "1", "--json"];
        // The name of a rule is known in any case.
        let plant = name.to_lowercase();
        let run = pasidctl(&[&fixed[..], &["--plant", &plant]].concat());
        run.exit_code(1);
        let report: Value = serde_json::from_str(&run.stdout()).unwrap();
        assert_eq!(report["planted"], name);
        assert_eq!(report["broken"], 1, "{report}");
        assert!(
            rule(&report, name)["failed"].as_u64().unwrap() > 0,
            "{report}"
        );
        let example = rule(&report, name)["example"].as_str().unwrap();
        let complaint = run.stderr();
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(complaint.contains(&format!("rule {name} is broken, as planted")));
        assert!(complaint.contains(example), "{complaint}");
    }
}

#[test]
fn people_get_tables_and_a_last_line() {
    let text = pasidctl(&["run", "--seconds", "1"]).success();
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("rules checked: 16, broken: 0 ("), "{last}");
    assert!(text.contains("p99.9 ns") && text.contains("highest PASID"));
    assert!(text.contains("ns of each time are the clock's own"));
    assert!(text.contains("IOMMU group") && text.contains("refused calls: exhausted"));
    assert!(text.contains("page faults wait in a queue") && text.contains("PASIDs each"));

    let broken = pasidctl(&["run", "--seconds", "1", "--plant", "flush"]);
    broken.exit_code(1);
    let text = broken.stdout();
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("rules checked: 16, broken: 1 ("), "{last}");
}

#[test]
fn it_ends_in_time() {
    let started = Instant::now();
    pasidctl(&["run", "--seconds", "1", "--width", "8"]).success();
    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_secs(1), "{elapsed:?}");
    // The rest is for a machine that has other things to do.
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
}

#[test]
fn the_tables_are_those_of_the_machine() {
    let folder = Folder::new();
    let grouped = |name: &str| format!("{name} Ethernet\n\tIOMMU group: 9\n");
    let narrow = dump("e1:00.0 Ethernet", &Config::express().pasid(0x0300, 0));
    let wide = dump(&grouped("e2:00.0"), &Config::express().pasid(0x1000, 0));
    let wider = dump(&grouped("e2:00.1"), &Config::express().pasid(0x1400, 0));
    let without = dump(&grouped("e2:00.2"), &Config::express());
    let alone = dump("e3:00.0 Ethernet", &Config::express());
    let file = folder.write("dump", [narrow, wide, wider, without, alone].join("\n"));
    let report = run(&["--lspci", &file]);
    let tables = report["tables"].as_array().unwrap();
    // Three bits are too few for a group; so the other table is there three times.
    assert_eq!(tables.len(), 4);
    assert_eq!(tables[0]["width"], 3);
    for table in &tables[1..] {
        let devices = serde_json::json!(["e2:00.0", "e2:00.1", "e2:00.2"]);
        assert_eq!((&table["devices"], &table["group"]), (&devices, &9.into()));
        assert_eq!(table["width"], 16);
    }
    let again: Vec<_> = tables
        .iter()
        .map(|table| table["again"].as_bool())
        .collect();
    assert_eq!(again, [false, false, true, true].map(Some));
    assert_eq!(report["refused"], serde_json::json!(["e2:00.2", "e3:00.0"]));
    assert_eq!(report["broken"], 0, "{report}");

    let message = pasidctl(&["run", "--lspci", &file, "--width", "21"]).refused("21 bits");
    assert!(message.contains("6 to 20 bits"), "{message}");
    let small = folder.write(
        "small",
        dump("e1:00.0 A", &Config::express().pasid(0x0300, 0)),
    );
    let message = pasidctl(&["run", "--lspci", &small]).refused("3 bits");
    assert!(
        message.contains("no device has 6 bits or more"),
        "{message}"
    );
    let message = pasidctl(&["run", "--lspci", &small, "--width", "17"]).refused("17 bits");
    assert!(message.contains("more than the 3"), "{message}");
}

#[cfg(target_os = "linux")]
#[test]
fn where_complaints_cannot_be_written_the_exit_code_says_it() {
    use std::fs::OpenOptions;
    use std::process::{Command, Stdio};

    let cases: [(&[&str], i32); 3] = [
        (&["run", "--lspci", "/nowhere"], 2),
        (&["run", "--width", "31"], 2),
        (&["run", "--seconds", "1", "--plant", "M5"], 1),
    ];
    for (arguments, code) in cases {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status = Command::new(env!("CARGO_BIN_EXE_pasidctl"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(full)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn bad_input_is_refused_in_one_sentence() {
    let folder = Folder::new();
    let without = folder.write("dump", dump("01:00.0 Ethernet", &Config::express()));
    let hidden = folder.write("hidden", {
        let rows = rows(&Config::express().bytes()[..64]);
        format!("01:00.0 Ethernet\n{rows}\n")
    });
    let cases: [(&[&str], &str); 16] = [
        (&["--width", "31"], "6 to 20 bits"),
        (&["--width", "0"], "6 to 20 bits"),
        (&["--width", "wide"], "6 to 20 bits"),
        (&["--threads", "0"], "1 to 1024"),
        (&["--threads", "-1"], "1 to 1024"),
        (&["--seconds", "0"], "1 to 86400"),
        (&["--seconds", "1.5"], "1 to 86400"),
        (&["--seconds", "18446744073709551616"], "1 to 86400"),
        (&["--seed", "x"], "a seed is a number"),
        (&["--seed", "-1"], "a seed is a number"),
        (
            &["--policy", "first"],
            "lowest, next, preserve-narrow, spread",
        ),
        (
            &["--plant", "M9"],
            "M1, M2, M3, M4, M5, M6, M7, flush, drain, M8, stale, revoked, lookup, fault, closing, exact",
        ),
        (&["--lspci", "a", "--sysfs", "b"], "--sysfs"),
        (&["--lspci", "/nowhere"], "/nowhere"),
        (&["--lspci", &without], "no device has PASID support"),
        (&["--lspci", &hidden], "unreadable: run as root"),
    ];
    for (arguments, expected) in cases {
        let name = arguments.join(" ");
        let message = pasidctl(&[&["run"], arguments].concat()).refused(&name);
        assert!(message.contains(expected), "{name}: {message}");
    }
}
