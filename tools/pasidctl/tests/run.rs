// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl run` as its user meets it: output, broken rules, errors, exit code.

mod common;

use std::time::{Duration, Instant};

use common::{Config, Folder, dump, pasidctl, rows};
use serde_json::Value;

const RULES: [&str; 8] = [
    "M1", "M4", "M5", "M7", "stale", "revoked", "lookup", "exact",
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
    assert_eq!(operations.len(), 16);
    for operation in operations {
        assert!(calls(operation) > 0, "{operation}");
    }
    let total: u64 = operations.iter().map(calls).sum();
    assert_eq!(report["calls"], total);
    assert!(report["exhausted"].as_u64().unwrap() > 0);
    assert!(report["mops_per_s"].as_f64().unwrap() > 0.0);
    let get = &operations[5];
    assert_eq!(get["kind"], "get");
    assert!(get["p50_ns"].as_u64().unwrap() <= get["p999_ns"].as_u64().unwrap());
}

#[test]
fn the_report_says_what_was_asked_for() {
    let report = run(&["--threads", "3", "--policy", "next", "--width", "12"]);
    assert_eq!(report["threads"], 3);
    assert_eq!(report["seed"], 1);
    assert_eq!(report["policy"], "next");
    assert_eq!(report["width"], 12);
    assert_eq!(report["planted"], Value::Null);
    assert_eq!(report["reserved"], serde_json::json!([0, 16, 4095]));
    assert!(report["highest_pasid"].as_u64().unwrap() < 4095);
    assert_eq!(report["broken"], 0);
}

#[test]
fn the_narrowest_spaces_work() {
    for width in ["1", "2", "5", "6"] {
        let report = run(&["--width", width]);
        assert_eq!(report["broken"], 0, "{report}");
        assert!(report["exhausted"].as_u64().unwrap() > 0);
        assert!(rule(&report, "M1")["checks"].as_u64().unwrap() > 1000);
    }
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
    assert!(last.starts_with("rules checked: 8, broken: 0 ("), "{last}");
    assert!(text.contains("p99.9 ns") && text.contains("highest PASID"));
    assert!(text.contains("ns of each time are the clock's own"));

    let broken = pasidctl(&["run", "--seconds", "1", "--plant", "M7"]);
    broken.exit_code(1);
    let text = broken.stdout();
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("rules checked: 8, broken: 1 ("), "{last}");
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
fn the_space_is_that_of_the_machine() {
    let folder = Folder::new();
    let narrow = dump("e1:00.0 Ethernet", &Config::express().pasid(0x0c00, 0));
    let wide = dump("e2:00.0 Ethernet", &Config::express().pasid(0x1000, 0));
    let file = folder.write("dump", format!("{narrow}\n{wide}"));
    let report = run(&["--lspci", &file]);
    assert_eq!(report["width"], 16);
    assert_eq!(report["devices"][0]["width"], 12);
    assert_eq!(report["devices"][1]["address"], "e2:00.0");
    assert_eq!(report["broken"], 0);

    let message = pasidctl(&["run", "--lspci", &file, "--width", "17"]).refused("17 bits");
    assert!(message.contains("more than the 16"), "{message}");
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
        (&["--width", "31"], "1 to 20 bits"),
        (&["--width", "0"], "1 to 20 bits"),
        (&["--width", "wide"], "1 to 20 bits"),
        (&["--threads", "0"], "1 to 1024"),
        (&["--threads", "-1"], "1 to 1024"),
        (&["--seconds", "0"], "1 to 86400"),
        (&["--seconds", "1.5"], "1 to 86400"),
        (&["--seconds", "18446744073709551616"], "1 to 86400"),
        (&["--seed", "x"], "a seed is a number"),
        (&["--seed", "-1"], "a seed is a number"),
        (&["--policy", "first"], "lowest, next"),
        (
            &["--plant", "M2"],
            "M1, M4, M5, M7, stale, revoked, lookup, exact",
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
