// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every data call in the middle of every other, on a system whose signals are known.

use std::env::consts::{ARCH, OS};

use anyhow::Result;

use crate::checks::run_tests;
use crate::command::{CommandLine, Project};
use crate::summary::Outcome;

pub(crate) const DESCRIPTION: &str = "$ cargo test -p context-tests --release -- --show-output, on \
     Linux on x86-64; minutes";

/// Runs it, where the processor can be stepped.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    if OS != "linux" || ARCH != "x86_64" {
        return Ok(Outcome::Skipped(format!(
            "it interrupts and steps calls on Linux on x86-64, and this is {OS} on {ARCH}"
        )));
    }
    // One after the other: each part uses what processors there are.
    let line = CommandLine::cargo("test -p context-tests --release --lib --test *").args([
        "--",
        "--show-output",
        "--test-threads=1",
    ]);
    run_tests(project, &[line], true)
}
