// SPDX-License-Identifier: MIT OR Apache-2.0
//! A test that runs again in a process of its own: a part of it, or with a fault planted.

use std::env;
use std::process::Command;

/// The environment's variable that says which part a process does: `INDEX/COUNT`.
pub const PART: &str = "PASID_PART";

/// That test of this program.
pub fn again(test: &str) -> Command {
    let program = env::current_exe().expect("the program has a path");
    let mut command = Command::new(program);
    command.args([test, "--exact", "--nocapture"]);
    command
}

/// Fails unless that test fails with that fault planted, and says one of these things.
///
/// # Panics
/// If the test passes, or fails with other words.
pub fn is_noticed(test: &str, fault: &str, words: &[&str]) {
    let mut command = again(test);
    // The whole in one process, which ends at the fault.
    command.env("PASID_PLANT", fault).env(PART, "0/1");
    let output = command.output();
    let output = output.expect("the test runs");
    let told = String::from_utf8_lossy(&output.stderr);
    let broken = told.lines().find(|line| line.starts_with("broken: "));
    let broken = broken.unwrap_or("nothing");
    println!("{fault}: {broken}");
    assert!(
        !output.status.success() && words.iter().any(|words| broken.contains(words)),
        "with {fault} planted, {test} says {broken}"
    );
}
