// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library built by the oldest compiler that its manifest promises.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::{CommandLine, Project};
use crate::summary::Outcome;

pub(crate) const DESCRIPTION: &str = "$ RUSTC --edition 2024 --crate-type lib --crate-name pasid \
     --emit metadata --out-dir target/msrv src/lib.rs, without and with --cfg 'feature=\"std\"', \
     where RUSTC is a compiler of the manifest's rust-version: $PASID_MSRV_RUSTC, rustup's \
     toolchain of that version, or /usr/bin/rustc";

/// One compiler call for each feature set: without its optional dependency the
/// library needs neither cargo nor another crate, and this shows that too.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    let version = promised(&project.root)?;
    let Some(compiler) = find(&project.root, &version) else {
        return Ok(Outcome::Skipped(format!(
            "no Rust {version} here: set PASID_MSRV_RUSTC to its rustc (Debian 12: apt-get \
             install --no-install-recommends rustc-web; or: rustup toolchain install {version})"
        )));
    };
    let out_dir = project.absolute_target("msrv");
    fs::create_dir_all(&out_dir)?;
    for features in [&[][..], &["--cfg", "feature=\"std\""][..]] {
        let line = CommandLine::new(&compiler)
            .args("--edition 2024 --crate-type lib --crate-name pasid --emit metadata".split(' '))
            .args([
                "--out-dir".to_owned(),
                out_dir.to_string_lossy().into_owned(),
            ])
            .args(features.iter().copied())
            .args(["src/lib.rs"]);
        let status = line.run(&project.root)?;
        if !status.success() {
            return Ok(Outcome::Failed(format!("`{line}`: {status}")));
        }
    }
    Ok(Outcome::Passed(format!("with Rust {version}")))
}

/// The manifest's `rust-version`, such as "1.85".
fn promised(root: &Path) -> Result<String> {
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let value = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "));
    Ok(value
        .context("Cargo.toml states no rust-version")?
        .trim_matches('"')
        .to_owned())
}

/// A compiler of exactly this version; a newer one would show nothing.
fn find(root: &Path, version: &str) -> Option<String> {
    let rustup = CommandLine::new("rustup")
        .args(["which", "--toolchain", version, "rustc"])
        .output(root)
        .ok()
        .filter(|output| output.success)
        .map(|output| output.stdout.trim().to_owned());
    let candidates = [
        std::env::var("PASID_MSRV_RUSTC").ok(),
        rustup,
        Some("/usr/bin/rustc".to_owned()),
    ];
    let prefix = format!("rustc {version}.");
    candidates.into_iter().flatten().find(|compiler| {
        CommandLine::new(compiler)
            .args(["--version"])
            .output(root)
            .is_ok_and(|output| output.stdout.starts_with(&prefix))
    })
}
