// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links a static library without any other, keeping only what given entry
//! points reach, and reads what came out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::read::archive::ArchiveFile;
use object::{File, Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

use crate::command::{CommandLine, Project};

/// A linker for ELF programs.
pub(crate) enum Linker {
    /// The C compiler, which is what rustc links with on this machine.
    Cc,
    /// The linker that comes with rustc for targets without an operating system.
    RustLld(PathBuf),
}

/// What a linked program contains, and what it still lacks.
pub(crate) struct Linked {
    /// Names that are referred to and defined nowhere.
    pub(crate) undefined: BTreeSet<String>,
    /// Functions that were kept, and their size in bytes.
    pub(crate) functions: BTreeMap<String, u64>,
    /// Whether there are thread-local variables.
    pub(crate) thread_local: bool,
}

impl Linker {
    /// The line that links `archive` to `program`. A linker told to report
    /// names the function that refers to each undefined symbol, and fails.
    fn line(&self, archive: &Path, roots: &[&str], program: &Path, report: bool) -> CommandLine {
        let mut options = vec!["-static".to_owned(), "--gc-sections".to_owned()];
        if !report {
            options.push("--unresolved-symbols=ignore-all".to_owned());
        }
        options.extend(roots.iter().map(|root| format!("--undefined={root}")));
        // A program has to begin somewhere; this one is never started.
        options.extend(roots.first().map(|root| format!("--entry={root}")));
        let line = match self {
            Linker::Cc => CommandLine::new("cc")
                .args(["-nostdlib", "-nostartfiles", "-static", "-no-pie"])
                .args(options.iter().skip(1).map(|option| format!("-Wl,{option}"))),
            Linker::RustLld(path) => CommandLine::new(path.to_string_lossy())
                .args(["-flavor", "gnu"])
                .args(options),
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        line.args(["-o".to_owned(), text(program), text(archive)])
    }

    /// Links only what the roots reach, and reads the program.
    pub(crate) fn link(
        &self,
        project: &Project,
        archive: &Path,
        roots: &[&str],
        program: &Path,
    ) -> Result<Linked> {
        let line = self.line(archive, roots, program, false);
        println!("$ {line}");
        let output = line.output(&project.root)?;
        anyhow::ensure!(output.success, "`{line}` failed:\n{}", output.stderr);
        read_program(program)
    }

    /// The linker's own words on what is undefined and who refers to it.
    pub(crate) fn explain(
        &self,
        project: &Project,
        archive: &Path,
        roots: &[&str],
        program: &Path,
    ) -> Result<String> {
        let output = self
            .line(archive, roots, program, true)
            .output(&project.root)?;
        Ok(output.stderr)
    }
}

fn read_program(path: &Path) -> Result<Linked> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = File::parse(&*bytes)?;
    let mut linked = Linked {
        undefined: BTreeSet::new(),
        functions: BTreeMap::new(),
        thread_local: false,
    };
    for symbol in file.symbols() {
        let name = symbol.name()?;
        // The first entry of every symbol table is empty and undefined.
        if symbol.is_undefined() && !name.is_empty() {
            linked.undefined.insert(name.to_owned());
        } else if symbol.kind() == SymbolKind::Text {
            linked.functions.insert(name.to_owned(), symbol.size());
        }
    }
    linked.thread_local = file.sections().any(|section| {
        let kind = section.kind();
        section.size() > 0 && matches!(kind, SectionKind::Tls | SectionKind::UninitializedTls)
    });
    Ok(linked)
}

/// The names of the functions that the library defines for others to call.
pub(crate) fn exported(archive: &Path, prefix: &str) -> Result<Vec<String>> {
    let bytes = fs::read(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let library = ArchiveFile::parse(&*bytes)?;
    let mut names = BTreeSet::new();
    for member in library.members() {
        let Ok(file) = File::parse(member?.data(&*bytes)?) else {
            continue;
        };
        for symbol in file.symbols() {
            let name = symbol.name().unwrap_or_default();
            if symbol.is_global() && symbol.is_definition() && name.starts_with(prefix) {
                names.insert(name.to_owned());
            }
        }
    }
    Ok(names.into_iter().collect())
}
