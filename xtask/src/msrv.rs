// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every package built by the oldest compiler that its manifest promises.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::checks;
use crate::command::{CommandLine, Project};
use crate::summary::Outcome;

pub(crate) const DESCRIPTION: &str = "$ RUSTC --edition 2024 --crate-type lib --crate-name pasid \
     --emit metadata --out-dir target/msrv src/lib.rs, without and with --cfg 'feature=\"std\"', \
     and RUSTC=... cargo check --all-features for each package of the workspace, where RUSTC is a compiler \
     of the package's rust-version: $PASID_MSRV_RUSTC, rustup's toolchain of that version, or \
     /usr/bin/rustc; then, in `cargo metadata`, what the dependencies promise";

/// The package that the others are there for.
const LIBRARY: &str = "pasid";

/// Holds the dependencies of each package to its promise, and builds those for
/// whose promise there is a compiler. The others are named.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    let line = CommandLine::cargo("metadata --format-version 1 --all-features");
    println!("$ {line}");
    let output = line.output(&project.root)?;
    ensure!(output.success, "`{line}`: {}", output.stderr);
    let packages = promises(&serde_json::from_str(&output.stdout)?)?;
    let mut breaches = 0_usize;
    let mut compiled: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut linted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in &packages {
        let (name, version) = (package.name.as_str(), package.version.as_str());
        for newer in &package.newer {
            println!("{name} promises Rust {version}, but depends on {newer}");
            breaches += 1;
        }
        let Some(compiler) = find(project, version) else {
            linted.entry(version).or_default().push(name);
            continue;
        };
        for line in build(project, name, &compiler)? {
            let status = line.run(&project.root)?;
            if !status.success() {
                return Ok(Outcome::Failed(format!("`{line}`: {status}")));
            }
        }
        compiled.entry(version).or_default().push(name);
    }
    if breaches > 0 {
        return Ok(Outcome::Failed(format!(
            "{breaches} dependencies promise less than the packages that use them"
        )));
    }
    let mut note = Vec::new();
    for (version, names) in &compiled {
        note.push(format!("{} compiled with Rust {version}", names.join(", ")));
    }
    for (version, names) in &linted {
        note.push(format!(
            "{} NOT compiled, as there is no Rust {version} here, but checked by clippy's msrv lint",
            names.join(", ")
        ));
    }
    let note = note.join("; ");
    if !compiled.values().flatten().any(|name| *name == LIBRARY) {
        return Ok(Outcome::Skipped(format!(
            "{note}. Set PASID_MSRV_RUSTC to its rustc (for 1.85 on Debian 12: apt-get install \
             --no-install-recommends rustc-web), or: rustup toolchain install VERSION"
        )));
    }
    Ok(Outcome::Passed(note))
}

/// The lines that build one package with this compiler.
fn build(project: &Project, name: &str, compiler: &str) -> Result<Vec<CommandLine>> {
    let out_dir = project.target_for("msrv");
    if name != LIBRARY {
        let line = CommandLine::cargo("check --all-features -p")
            .args([name])
            .env("RUSTC", compiler)
            .env("CARGO_TARGET_DIR", out_dir);
        // Without its cfg the models' crate is empty.
        return Ok(vec![match name {
            "loom-tests" => line.args(["--tests"]).env("RUSTFLAGS", checks::LOOM),
            _ => line,
        }]);
    }
    // Without its optional dependency the library needs neither cargo nor another
    // crate, and this shows that too.
    fs::create_dir_all(project.root.join(&out_dir))?;
    let line = CommandLine::new(compiler)
        .args("--edition 2024 --crate-type lib --crate-name pasid --emit metadata".split(' '))
        .args(["--out-dir", &out_dir, "src/lib.rs"]);
    let with_std = line.clone().args(["--cfg", "feature=\"std\""]);
    // With all of its features it needs both.
    let whole = CommandLine::cargo("check --all-features -p pasid")
        .env("RUSTC", compiler)
        .env("CARGO_TARGET_DIR", out_dir);
    Ok(vec![line, with_std, whole])
}

/// A package of the workspace, and what its manifest promises.
struct Promise {
    name: String,
    /// The manifest's `rust-version`, such as "1.85".
    version: String,
    /// Dependencies that promise less, with what they promise.
    newer: Vec<String>,
}

/// The promises of the workspace's packages, by name; a package without one is
/// an error.
fn promises(metadata: &Value) -> Result<Vec<Promise>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> = list(&metadata["packages"])
        .into_iter()
        .map(|package| (text(&package["id"]), package))
        .collect();
    let edges: BTreeMap<String, Vec<String>> = list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| {
            let dependencies = list(&node["dependencies"]).iter().map(text).collect();
            (text(&node["id"]), dependencies)
        })
        .collect();
    let mut promises = Vec::new();
    for id in list(&metadata["workspace_members"]).iter().map(text) {
        let package = packages.get(&id).context("a member without a package")?;
        let name = text(&package["name"]);
        let version = package["rust_version"].as_str();
        let version = version.with_context(|| format!("{name} states no rust-version"))?;
        let newer = reached(&edges, &id)
            .into_iter()
            .filter_map(|id| packages.get(id))
            .filter(|other| {
                let other = other["rust_version"].as_str();
                other.is_some_and(|other| parts(other) > parts(version))
            })
            .map(|other| format!("{} of Rust {}", text(&other["name"]), other["rust_version"]))
            .collect();
        promises.push(Promise {
            name,
            version: version.to_owned(),
            newer,
        });
    }
    ensure!(!promises.is_empty(), "the workspace has no packages");
    promises.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(promises)
}

/// Everything that a package depends on, at any distance and for any target.
fn reached<'a>(edges: &'a BTreeMap<String, Vec<String>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(id) = open.pop() {
        for next in edges.get(id).into_iter().flatten() {
            if reached.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    reached
}

/// "1.85" and "1.85.0" are the same version.
fn parts(version: &str) -> [u32; 3] {
    let mut parts = [0; 3];
    for (part, word) in parts.iter_mut().zip(version.split('.')) {
        *part = word.parse().unwrap_or(0);
    }
    parts
}

/// A compiler of exactly this version; a newer one would show nothing.
fn find(project: &Project, version: &str) -> Option<String> {
    let rustup = CommandLine::new("rustup")
        .args(["which", "--toolchain", version, "rustc"])
        .output(&project.root)
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
            .output(&project.root)
            .is_ok_and(|output| output.stdout.starts_with(&prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::{parts, promises};
    use serde_json::json;

    #[test]
    fn promise_is_held_against_distant_dependencies() {
        let metadata = |version| {
            json!({
                "packages": [
                    {"id": "one", "name": "one", "rust_version": "1.85"},
                    {"id": "two", "name": "two", "rust_version": null},
                    {"id": "three", "name": "three", "rust_version": version},
                ],
                "workspace_members": ["one"],
                "resolve": {"nodes": [
                    {"id": "one", "dependencies": ["two"]},
                    {"id": "two", "dependencies": ["three"]},
                ]},
            })
        };
        let newer = |version| promises(&metadata(version)).unwrap()[0].newer.len();
        assert_eq!((newer("1.85.0"), newer("1.85.1"), newer("1.9")), (0, 1, 0));
        let mut silent = metadata("1.80");
        silent["workspace_members"] = json!(["two"]);
        assert!(promises(&silent).is_err());
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(parts("1.100") > parts("1.99.7"));
        assert_eq!(parts("1.85"), parts("1.85.0"));
    }
}
