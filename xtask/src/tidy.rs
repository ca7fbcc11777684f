// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules that no compiler knows, checked on every file that git tracks.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::command::{CommandLine, Project};
use crate::summary::Outcome;

pub(crate) const DESCRIPTION: &str = "reads every file that `git ls-files` names";

/// The licence line, in pieces, so that this file is not taken for one that
/// carries it twice.
const SPDX: &str = concat!("SPDX-License-", "Identifier: MIT OR Apache-2.0");
/// A longer file holds more than one concept.
const RUST_LINES_LAST: usize = 500;

/// Reads every tracked file and reports each breach by file and line.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    let line = CommandLine::new("git").args(["ls-files", "-z"]);
    println!("$ {line}");
    let listing = match line.output(&project.root) {
        Ok(output) if output.success => output.stdout,
        _ => return Ok(Outcome::Skipped("not a git checkout, or no git".to_owned())),
    };
    let mut breaches = Vec::new();
    let mut files = 0_usize;
    for path in listing.split('\0').filter(|path| !path.is_empty()) {
        let Ok(bytes) = fs::read(project.root.join(path)) else {
            continue; // removed in the working tree, or a link to nowhere
        };
        // Binary files have no lines.
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        if is_data(path) {
            continue;
        }
        files += 1;
        check_text(path, &text, &mut breaches);
        check_links(&project.root, path, &text, &mut breaches);
        check_page(&project.root, path, &mut breaches);
    }
    for breach in &breaches {
        println!("{breach}");
    }
    Ok(match breaches.len() {
        0 => Outcome::Passed(format!("{files} files")),
        count => Outcome::Failed(format!("{count} breaches in {files} files")),
    })
}

/// Files whose format or origin has no place for a comment, or whose white
/// space is theirs.
fn is_data(path: &str) -> bool {
    path.starts_with("LICENSE-")
        || path.ends_with(".lock")
        || path.ends_with(".json")
        || path.starts_with("fuzz/corpus/")
        || path.starts_with("tests/examples/")
}

fn check_text(path: &str, text: &str, breaches: &mut Vec<String>) {
    // A script's first line is its interpreter, so the licence may come second.
    if !text.lines().take(2).any(|line| line.contains(SPDX)) {
        breaches.push(format!("{path}:1: no line `{SPDX}`"));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        breaches.push(format!("{path}: no newline at the end"));
    }
    for (index, line) in text.lines().enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            breaches.push(format!("{path}:{}: white space at the end", index + 1));
        }
    }
    if !path.ends_with(".rs") {
        return;
    }
    let lines = text.lines().count();
    if lines > RUST_LINES_LAST {
        breaches.push(format!(
            "{path}: {lines} lines, more than {RUST_LINES_LAST}"
        ));
    }
    // One file chooses between core's atomics and the model checker's.
    if path.starts_with("src/") && path != "src/sync.rs" {
        for (index, line) in text.lines().enumerate() {
            // The module's name, however the path to it is written. A `//` in a text
            // hides the rest of its line, which is no path then.
            let code = line.split("//").next().unwrap_or_default();
            let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(|word| word == "atomic") || code.contains("loom::") {
                breaches.push(format!("{path}:{}: atomics come from sync.rs", index + 1));
            }
        }
    }
}

/// Links from one document to another file of the project.
fn check_links(root: &Path, path: &str, text: &str, breaches: &mut Vec<String>) {
    if !path.ends_with(".md") {
        return;
    }
    let folder = root
        .join(path)
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    for (index, line) in text.lines().enumerate() {
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') && !folder.join(target).exists() {
                breaches.push(format!("{path}:{}: `{target}` does not exist", index + 1));
            }
        }
    }
}

/// A page whose code is no test says what nobody checks; one that nothing leads to is
/// not read.
fn check_page(root: &Path, path: &str, breaches: &mut Vec<String>) {
    if !(path.starts_with("docs/") && path.ends_with(".md")) {
        return;
    }
    for names_it in ["src/pages.rs", "README.md"] {
        let text = fs::read_to_string(root.join(names_it)).unwrap_or_default();
        if !text.contains(path) {
            breaches.push(format!("{path}: `{names_it}` does not name it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{SPDX, check_links, check_page, check_text};

    fn breaches(path: &str, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        check_text(path, text, &mut found);
        found
    }

    #[test]
    fn each_rule_finds_its_breach() {
        let head = format!("// {SPDX}\n");
        assert!(breaches("src/a.rs", &head).is_empty());
        assert!(breaches("run", &format!("#!/bin/sh\n# {SPDX}\n")).is_empty());
        let found = |text: &str| breaches("src/a.rs", &format!("{head}{text}")).len();
        assert_eq!(breaches("src/a.rs", "fn main() {}\n").len(), 1, "licence");
        assert_eq!(found("// no newline"), 1);
        assert_eq!(found("let a = 1; \n"), 1);
        assert_eq!(found("use core::sync::atomic::AtomicU64;\n"), 1);
        assert_eq!(found("use core::{fmt, sync::{atomic as a}};\n"), 1);
        assert_eq!(found("use crate::sync::AtomicU64; // atomic\n"), 0);
        assert_eq!(found("// core::sync::atomic, in a comment\n"), 0);
        assert_eq!(found(&"\n".repeat(500)), 1);
    }

    #[test]
    fn a_link_leads_to_a_file_and_a_page_is_named() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let links = |path, text| {
            let mut found = Vec::new();
            check_links(&root, path, text, &mut found);
            found.len()
        };
        assert_eq!(
            links("docs/contexts.md", "[a](which-set.md), [b](../README.md)"),
            0
        );
        assert_eq!(
            links("docs/contexts.md", "[a](README.md), [b](missing.md)"),
            2
        );
        assert_eq!(
            links("README.md", "[a](docs/contexts.md#head) [b](https://a.b/c)"),
            0
        );
        let page = |path| {
            let mut found = Vec::new();
            check_page(&root, path, &mut found);
            found.len()
        };
        assert_eq!(
            (page("docs/contexts.md"), page("docs/unheard-of.md")),
            (0, 2)
        );
    }
}
