// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the library's calls reach when there is nothing to lean on.
//!
//! The crate in `xtask/freestanding` puts every call behind a C name and
//! defines neither the allocator's two hooks nor the function that stands for
//! a panic. Linked without any other library and with only the data calls kept,
//! it must have no undefined symbol: they reach no allocator, no panic, and not
//! even the functions for copying and filling memory that a compiler calls. With
//! all calls kept, it may lack the two hooks and these functions, which a kernel has
//! and a bare target's own Rust libraries define, and nothing else.
//! Deliberate faults, linked the same way, show that the look finds what it
//! looks for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::command::{CommandLine, Project};
use crate::link::{Linked, Linker, exported};
use crate::summary::Outcome;

pub(crate) const DESCRIPTION: &str = "$ CARGO_TARGET_DIR=target/freestanding cargo build --release \
     --manifest-path xtask/freestanding/Cargo.toml, for x86_64-unknown-none where that target is \
     installed and else for the host; then the linker lines that it prints, and a look at the result";

/// Built for it, the library shows that it asks nothing of an operating system.
const BARE_TARGET: &str = "x86_64-unknown-none";
const DATA: &str = "pasid_data_";
const CONTROL: &str = "pasid_control_";
/// Every data call that has to be there to be checked, without its prefix.
const DATA_CALLS: [&str; 93] = [
    "alias_attach",
    "alias_attach_below",
    "alias_detach",
    "alias_detach_all",
    "alias_find",
    "alias_find_and_get",
    "alias_iterate",
    "alloc_at",
    "alloc_in_place",
    "any_live",
    "cell_bind_in_place",
    "cell_find",
    "cell_is_retired",
    "cell_of_ids_bind_in_place",
    "cell_retire",
    "cell_static_bind_in_place",
    "clone",
    "count_live",
    "drop_owned",
    "drop_ref",
    "find",
    "free",
    "get",
    "get_at",
    "into_ref",
    "iterate",
    "nothing_alloc_in_place",
    "nothing_drop_owned",
    "nothing_find",
    "pin",
    "put",
    "replace",
    "revoke",
    "set_alloc_at",
    "set_alloc_in_place",
    "set_alloc_in_place_near",
    "set_close",
    "set_drop_owned",
    "set_drop_ref",
    "set_find",
    "set_flush",
    "set_flush_begin",
    "set_flush_complete",
    "set_flush_count",
    "set_flush_drop",
    "set_flush_put_back_on",
    "set_flush_range",
    "set_flush_range_on",
    "set_flushes",
    "set_free",
    "set_free_all",
    "set_get",
    "set_get_at",
    "set_iterate",
    "set_live",
    "set_pin",
    "set_put",
    "set_revoke",
    "set_unpin",
    "space_flush_begin",
    "space_flush_complete",
    "space_flush_count",
    "space_flush_drop",
    "space_flush_put_back_on",
    "space_flush_range",
    "space_flush_range_on",
    "space_flushes",
    "static_alloc_at",
    "static_alloc_in_place",
    "static_drop_owned",
    "static_drop_ref",
    "static_find",
    "static_iterate",
    "static_replace",
    "table_attach",
    "table_back_out",
    "table_commit",
    "table_detach",
    "table_fault_get",
    "table_fault_put",
    "table_flush_begin",
    "table_flush_complete",
    "table_flush_count",
    "table_flush_drop",
    "table_flush_put_back_on",
    "table_flush_range",
    "table_flush_range_on",
    "table_flushes",
    "table_iterate",
    "table_pause",
    "table_replace",
    "table_resume",
    "unpin",
];
/// Each deliberate fault, and the symbol that gives it away.
const CANARIES: [(&str, &[&str]); 3] = [
    ("pasid_canary_panic", &["pasid_panic_reached"]),
    ("pasid_canary_allocate", &["pasid_hook_alloc"]),
    ("pasid_canary_copy", &["memcpy", "memmove"]),
];
/// Parts of names that no kept function may have, whoever defines it.
const PANICS: [&str; 7] = [
    "panicking",
    "panic_fmt",
    "panic_bounds_check",
    "unwrap_failed",
    "expect_failed",
    "handle_alloc_error",
    "tls_get_addr",
];
/// What compilers call for copies and fills that are too long for instructions.
const INTRINSICS: [&str; 5] = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];

/// Which calls a program holds, and what they may reach.
struct Kind {
    name: &'static str,
    /// What may be undefined.
    lacks: &'static [&'static str],
    /// Parts of names that may not be there.
    banned: &'static [&'static [&'static str]],
}

const DATA_ALONE: Kind = Kind {
    name: "data calls",
    lacks: &[],
    banned: &[&PANICS, &INTRINSICS],
};
const ALL_CALLS: Kind = Kind {
    name: "all calls",
    lacks: &[
        "pasid_hook_alloc",
        "pasid_hook_free",
        "bcmp",
        "memcmp",
        "memcpy",
        "memmove",
        "memset",
    ],
    banned: &[&PANICS],
};

/// Builds, links and looks.
pub(crate) fn run(project: &Project) -> Result<Outcome> {
    let Some(build) = Build::find(project)? else {
        return Ok(Outcome::Skipped(format!(
            "needs an ELF system with a C compiler, or the target: rustup target add {BARE_TARGET}"
        )));
    };
    let archive = build.library(&[])?;
    let data = exported(&archive, DATA)?;
    let control = exported(&archive, CONTROL)?;
    let expected: Vec<String> = DATA_CALLS
        .iter()
        .map(|call| format!("{DATA}{call}"))
        .collect();
    ensure!(
        data == expected,
        "the data calls are {data:?}, not {expected:?}"
    );
    ensure!(!control.is_empty(), "there are no control calls");

    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let all: Vec<&str> = data
        .iter()
        .copied()
        .chain(control.iter().map(String::as_str))
        .collect();
    let mut faults = build.look(&archive, &DATA_ALONE, &data)?;
    faults += build.look(&archive, &ALL_CALLS, &all)?;
    faults += build.canaries()?;
    Ok(match faults {
        0 => Outcome::Passed(format!(
            "{}: {} data calls reach nothing outside, {} control calls the allocator alone, {} canaries found",
            build.target,
            data.len(),
            control.len(),
            CANARIES.len()
        )),
        count => Outcome::Failed(format!("{count} faults, listed above")),
    })
}

/// How to build and link here.
struct Build<'a> {
    project: &'a Project,
    linker: Linker,
    /// The target's name, also for the host: where the environment or a file names
    /// another target, it does not count here.
    target: String,
    folder: PathBuf,
}

impl<'a> Build<'a> {
    /// None where this machine can do neither kind.
    fn find(project: &'a Project) -> Result<Option<Build<'a>>> {
        let rustc = |arguments: &[&str]| {
            CommandLine::new("rustc")
                .args(arguments.iter().copied())
                .output(&project.root)
        };
        let folder = project.absolute_target("freestanding");
        let build = |linker, target: &str| {
            Some(Build {
                project,
                linker,
                target: target.to_owned(),
                folder,
            })
        };
        let version = rustc(&["-vV"])?.stdout;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("rustc does not name its host")?;
        let libraries = rustc(&["--print", "target-libdir", "--target", BARE_TARGET])?.stdout;
        let lld = PathBuf::from(rustc(&["--print", "sysroot"])?.stdout.trim())
            .join(format!("lib/rustlib/{host}/bin/rust-lld"));
        if Path::new(libraries.trim()).exists() && lld.exists() {
            return Ok(build(Linker::RustLld(lld), BARE_TARGET));
        }
        println!("(the target {BARE_TARGET} is not installed: building for the host, {host})");
        let elf = ["linux", "freebsd", "netbsd", "openbsd", "illumos"];
        let cc = CommandLine::new("cc")
            .args(["--version"])
            .succeeds(&project.root);
        let usable = cc && elf.iter().any(|system| host.contains(system));
        Ok(if usable {
            build(Linker::Cc, host)
        } else {
            None
        })
    }

    /// Builds the static library and returns its path.
    fn library(&self, features: &[&str]) -> Result<PathBuf> {
        let mut line =
            CommandLine::cargo("build --release --manifest-path xtask/freestanding/Cargo.toml")
                .args(["--target", &self.target])
                .env("CARGO_TARGET_DIR", self.project.target_for("freestanding"));
        if !features.is_empty() {
            line = line.args(["--features", &features.join(",")]);
        }
        let status = line.run(&self.project.root)?;
        ensure!(status.success(), "`{line}`: {status}");
        let library = "release/libpasid_freestanding.a";
        Ok(self.folder.join(&self.target).join(library))
    }

    /// Links with only `roots` kept, prints what is there, and counts what must
    /// not be.
    fn look(&self, archive: &Path, kind: &Kind, roots: &[&str]) -> Result<usize> {
        let what = kind.name;
        let program = self.folder.join(what.replace(' ', "-"));
        let linked = self.linker.link(self.project, archive, roots, &program)?;
        println!(
            "{what}, {} entry points, undefined symbols: {:?}",
            roots.len(),
            linked.undefined
        );
        for root in roots {
            let size = linked
                .functions
                .get(*root)
                .context("the linker dropped an entry point")?;
            println!("  {root:<32} {size:>6} bytes");
        }
        let faults = faults(&linked, kind);
        if !faults.is_empty() {
            println!("FAULTS in {what}: {faults:?}");
            println!(
                "{}",
                self.linker
                    .explain(self.project, archive, roots, &program)?
            );
        }
        Ok(faults.len())
    }

    /// Counts the deliberate faults that the look does not find.
    fn canaries(&self) -> Result<usize> {
        let archive = self.library(&["canary"])?;
        let mut missed = 0;
        for (root, signs) in CANARIES {
            let program = self.folder.join(root);
            let linked = self
                .linker
                .link(self.project, &archive, &[root], &program)?;
            let found = faults(&linked, &DATA_ALONE);
            let caught = found
                .iter()
                .any(|fault| signs.iter().any(|sign| fault.contains(sign)));
            println!(
                "canary {root}: {}, by {found:?}",
                if caught { "found" } else { "MISSED" }
            );
            missed += usize::from(!caught);
        }
        Ok(missed)
    }
}

/// What a program linked from the library must not have.
fn faults(linked: &Linked, kind: &Kind) -> Vec<String> {
    let mut faults: Vec<String> = linked
        .undefined
        .iter()
        .filter(|name| !kind.lacks.contains(&name.as_str()))
        .map(|name| format!("undefined {name}"))
        .collect();
    faults.extend(
        linked
            .functions
            .keys()
            .filter(|name| {
                kind.banned
                    .iter()
                    .flat_map(|parts| parts.iter())
                    .any(|part| name.contains(part))
            })
            .map(|name| format!("kept {name}")),
    );
    if linked.thread_local {
        faults.push("thread-local variables".to_owned());
    }
    faults
}
