// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tests of payloads and of cells, and the stress tests, under AddressSanitizer, which
//! also looks for what is never freed.

use std::fs;

use anyhow::{Context, Result};

use crate::checks::run_tests;
use crate::command::{CommandLine, Project};
use crate::summary::Outcome;

pub(crate) const DESCRIPTION: &str = "$ RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address --cfg pasid_events -D warnings' \
     CARGO_TARGET_DIR=target/asan cargo test -p pasid --release --target HOST --test payloads \
     --test stress_payloads --test stress --test stress_sets --test sva --test sva_concurrent, \
     where the compiler comes with the sanitizer's runtime";
const TESTS: &str = "test -p pasid --release --test payloads --test stress_payloads \
     --test stress --test stress_sets --test sva --test sva_concurrent";

/// Runs them, where the compiler has the runtime for its host.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    let rustc = |arguments: &str| {
        let line = CommandLine::new("rustc").args(arguments.split_whitespace());
        line.output(&project.root).map(|output| output.stdout)
    };
    let version = rustc("-vV")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not name its host")?;
    let libraries = rustc("--print target-libdir")?;
    let mut names = fs::read_dir(libraries.trim())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    if !names.any(|name| name.ends_with("_rt.asan.a")) {
        return Ok(Outcome::Skipped(format!(
            "this compiler has no AddressSanitizer for {host}; rustup's for x86_64 Linux has"
        )));
    }
    // A stable compiler has the sanitizer too. With a target of its own, so that what runs
    // while it builds is not sanitized.
    let line = CommandLine::cargo(TESTS)
        .args(["--target", host])
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "RUSTFLAGS",
            "-Zsanitizer=address --cfg pasid_events -D warnings",
        )
        .env("CARGO_TARGET_DIR", project.target_for("asan"));
    run_tests(project, &[line], true)
}
