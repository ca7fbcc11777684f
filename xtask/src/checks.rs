// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of checks, cheapest first.

use anyhow::Result;

use crate::command::{CommandLine, Project};
use crate::summary::Outcome;
use crate::{asan, bench, context, freestanding, msrv, tidy};

/// One check: `cargo xtask NAME`.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether `cargo xtask test`, and so the project's CI, runs it.
    pub(crate) in_ci: bool,
    /// A tool that a toolchain may come without.
    needs: Option<Tool>,
    work: Work,
}

/// A tool, how it is looked for, and how it is had.
struct Tool {
    probe: &'static str,
    hint: &'static str,
}

enum Work {
    /// Command lines alone, in this order; the first that fails ends the check.
    Lines(fn(&Project) -> Vec<CommandLine>),
    /// Command lines that run tests; one that runs none fails too.
    Tests(fn(&Project) -> Vec<CommandLine>),
    /// Likewise, where every test program has to run some: behind a cfg that is not
    /// set a file is empty, and passes.
    Programs(fn(&Project) -> Vec<CommandLine>),
    /// A check that looks at results itself. It prints the lines that it runs.
    Function {
        describe: &'static str,
        run: fn(&Project) -> Result<Outcome>,
    },
}

/// Every check there is.
pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "fmt",
        about: "Formatting",
        in_ci: true,
        needs: Some(Tool {
            probe: "fmt --version",
            hint: "rustfmt is not installed: rustup component add rustfmt",
        }),
        work: Work::Lines(|_| vec![CommandLine::cargo("fmt --all --check"), freestanding_fmt()]),
    },
    Check {
        name: "tidy",
        about: "SPDX lines, file lengths, white space, links between the documents",
        in_ci: true,
        needs: None,
        work: Work::Function {
            describe: tidy::DESCRIPTION,
            run: tidy::run,
        },
    },
    Check {
        name: "clippy",
        about: "Lints, with every warning an error",
        in_ci: true,
        needs: Some(Tool {
            probe: "clippy --version",
            hint: "clippy is not installed: rustup component add clippy",
        }),
        work: Work::Lines(clippy),
    },
    Check {
        name: "doc",
        about: "The documentation builds and its links lead somewhere",
        in_ci: true,
        needs: None,
        work: Work::Lines(doc),
    },
    Check {
        name: "unit",
        about: "Unit, integration and documentation tests, all features and none",
        in_ci: true,
        needs: None,
        work: Work::Tests(unit),
    },
    Check {
        name: "freestanding",
        about: "What the calls reach without an operating system: no panic, no allocator",
        in_ci: true,
        needs: None,
        work: Work::Function {
            describe: freestanding::DESCRIPTION,
            run: freestanding::run,
        },
    },
    Check {
        name: "replay",
        about: "The fuzz targets' corpora replayed, random operations, every small state",
        in_ci: true,
        needs: None,
        work: Work::Tests(|_| vec![CommandLine::cargo("test -p pasid-fuzz --release")]),
    },
    Check {
        name: "stress",
        about: "Real threads against a shadow, with lost races counted",
        in_ci: true,
        needs: None,
        work: Work::Programs(stress),
    },
    Check {
        name: "asan",
        about: "Nothing is used after its end, or lost, under AddressSanitizer: payloads and stress",
        in_ci: true,
        needs: None,
        work: Work::Function {
            describe: asan::DESCRIPTION,
            run: asan::run,
        },
    },
    Check {
        name: "context",
        about: "Every data call in a signal handler, and stopped after each instruction",
        in_ci: true,
        needs: None,
        work: Work::Function {
            describe: context::DESCRIPTION,
            run: context::run,
        },
    },
    Check {
        name: "loom",
        about: "The models, at two preemptions",
        in_ci: true,
        needs: None,
        work: Work::Programs(loom),
    },
    Check {
        name: "msrv",
        about: "Each package with the oldest compiler it promises to build with",
        in_ci: true,
        needs: None,
        work: Work::Function {
            describe: msrv::DESCRIPTION,
            run: msrv::run,
        },
    },
    Check {
        name: "bench",
        about: "Measure, and print the ratios beside their goals",
        in_ci: false,
        needs: None,
        work: Work::Function {
            describe: bench::DESCRIPTION,
            run: bench::run,
        },
    },
    Check {
        name: "fuzz",
        about: "Fuzz for a while, from the corpora on, half of it with each target",
        in_ci: false,
        needs: Some(Tool {
            probe: "fuzz --version",
            hint: "cargo-fuzz is not installed: cargo install --locked cargo-fuzz",
        }),
        work: Work::Lines(fuzz),
    },
];

/// What turns the library, and the epochs that it uses, into their models. Sanitizing is
/// a smaller bag of what is to be dropped, and dropping all that can be at once.
pub(crate) const LOOM: &str = "--cfg loom --cfg crossbeam_loom --cfg crossbeam_sanitize";

/// The format of the one crate that is not a member of the workspace.
fn freestanding_fmt() -> CommandLine {
    CommandLine::cargo("fmt --manifest-path xtask/freestanding/Cargo.toml --check")
}

fn clippy(project: &Project) -> Vec<CommandLine> {
    let warnings = ["--", "-D", "warnings"];
    // What the library may not contain, its tests aside: a panic there is a
    // bug, whosever input it is.
    let panics = "-D clippy::unwrap_used -D clippy::expect_used -D clippy::panic \
         -D clippy::unreachable -D clippy::todo -D clippy::unimplemented";
    // What the documentation of each of its public functions has to say.
    let sections = "-D clippy::missing_errors_doc -D clippy::missing_panics_doc";
    vec![
        CommandLine::cargo("clippy --workspace --all-targets --all-features").args(warnings),
        CommandLine::cargo("clippy -p pasid --lib --all-features")
            .args(warnings)
            .args(sections.split_whitespace()),
        CommandLine::cargo("clippy -p pasid --lib --no-default-features")
            .args(warnings)
            .args(panics.split_whitespace()),
        // The models, and the library as they see it.
        CommandLine::cargo("clippy -p loom-tests --lib --tests")
            .env("RUSTFLAGS", LOOM)
            .env("CARGO_TARGET_DIR", project.target_for("loom"))
            .args(warnings),
        // With the profile in which it is built: the other has no panic handler.
        CommandLine::cargo("clippy --manifest-path xtask/freestanding/Cargo.toml --release")
            .args(["--features", "canary"])
            .env("CARGO_TARGET_DIR", project.target_for("freestanding"))
            .args(warnings),
    ]
}

fn doc(_: &Project) -> Vec<CommandLine> {
    let deny = |line: &str| CommandLine::cargo(line).env("RUSTDOCFLAGS", "-D warnings");
    vec![
        deny("doc -p pasid --no-deps --all-features"),
        // Without its cfg the models' crate is empty.
        deny("doc --workspace --exclude loom-tests --no-deps --all-features")
            .args(["--document-private-items"]),
    ]
}

fn unit(_: &Project) -> Vec<CommandLine> {
    // Contexts, models and the fuzz target have checks of their own. What the benchmarks
    // are made of has tests here; cargo runs the benchmarks only if told to.
    let others = "--exclude context-tests --exclude loom-tests --exclude pasid-fuzz";
    vec![
        CommandLine::cargo(&format!("test --workspace {others} --all-features")),
        CommandLine::cargo("test -p pasid --no-default-features"),
    ]
}

fn stress(project: &Project) -> Vec<CommandLine> {
    let line = CommandLine::cargo("test -p pasid --release --test stress --test stress_sets")
        .env("RUSTFLAGS", "--cfg pasid_events -D warnings")
        .env("CARGO_TARGET_DIR", project.target_for("events"));
    vec![line.args(["--", "--show-output"])]
}

fn loom(project: &Project) -> Vec<CommandLine> {
    // The iteration counts are part of the result, so passing tests show what
    // they printed.
    let line = CommandLine::cargo("test -p loom-tests --profile loom --test *")
        .env("RUSTFLAGS", format!("{LOOM} -D warnings"))
        .env("LOOM_MAX_PREEMPTIONS", "2")
        .env("LOOM_MAX_BRANCHES", "10000")
        // Canaries panic on purpose.
        .env("RUST_BACKTRACE", "0")
        .env("CARGO_TARGET_DIR", project.target_for("loom"));
    vec![line.args(["--", "--show-output"])]
}

fn fuzz(project: &Project) -> Vec<CommandLine> {
    // Stable compilers have the instrumentation too; the sanitizer is for code
    // that dereferences pointers of its input, and costs a third of the speed.
    let seconds = (project.fuzz_seconds / 2).max(1);
    let target = |name: &str| {
        CommandLine::cargo(&format!("fuzz run --fuzz-dir fuzz -s none {name} --"))
            .env("RUSTC_BOOTSTRAP", "1")
            .args([format!("-max_total_time={seconds}")])
    };
    vec![target("ops"), target("sets")]
}

/// Prints every check with what it runs.
pub(crate) fn list(project: &Project) {
    println!("Each check is `cargo xtask NAME`; `cargo xtask test` runs those marked with *.");
    for check in CHECKS {
        println!(
            "\n{} {:<13} {}",
            if check.in_ci { '*' } else { ' ' },
            check.name,
            check.about
        );
        match &check.work {
            Work::Lines(lines) | Work::Tests(lines) | Work::Programs(lines) => {
                for line in lines(project) {
                    println!("  $ {line}");
                }
            }
            Work::Function { describe, .. } => println!("  {describe}"),
        }
    }
}

/// Runs one check. An error is for what keeps it from running to its end.
pub(crate) fn run(project: &Project, check: &Check) -> Result<Outcome> {
    if let Some(tool) = &check.needs
        && !CommandLine::cargo(tool.probe).succeeds(&project.root)
    {
        return Ok(Outcome::Skipped(tool.hint.to_owned()));
    }
    match &check.work {
        Work::Function { run, .. } => run(project),
        Work::Lines(lines) => {
            for line in lines(project) {
                let status = line.run(&project.root)?;
                if !status.success() {
                    return Ok(Outcome::Failed(format!("`{line}`: {status}")));
                }
            }
            Ok(Outcome::passed())
        }
        Work::Tests(lines) => run_tests(project, &lines(project), false),
        Work::Programs(lines) => run_tests(project, &lines(project), true),
    }
}

/// Runs lines that run tests, and says how many passed. Each line has to run some,
/// and so has each test program if `in_each`.
pub(crate) fn run_tests(
    project: &Project,
    lines: &[CommandLine],
    in_each: bool,
) -> Result<Outcome> {
    let mut total = 0;
    for line in lines {
        let (status, counts) = line.run_counting(&project.root)?;
        if !status.success() {
            return Ok(Outcome::Failed(format!("`{line}`: {status}")));
        }
        if let Some(fault) = too_few(&counts, in_each) {
            return Ok(Outcome::Failed(format!("`{line}` ran {fault}")));
        }
        total += counts.iter().sum::<usize>();
    }
    Ok(Outcome::Passed(format!("{total} tests")))
}

/// What is wrong with the counts of a line's test programs.
fn too_few(counts: &[usize], in_each: bool) -> Option<&'static str> {
    if counts.iter().all(|&count| count == 0) {
        return Some("no test");
    }
    (in_each && counts.contains(&0)).then_some("a test program without a test")
}

#[cfg(test)]
mod tests {
    use super::{CHECKS, too_few};

    #[test]
    fn programs_without_tests_are_found() {
        assert!(too_few(&[], false).is_some() && too_few(&[0, 0], false).is_some());
        assert!(too_few(&[0, 3], false).is_none() && too_few(&[2, 3], true).is_none());
        assert!(too_few(&[0, 3], true).is_some());
    }

    #[test]
    fn every_check_has_a_name_of_its_own() {
        for (index, check) in CHECKS.iter().enumerate() {
            assert!(!["test", "list"].contains(&check.name));
            assert!(
                CHECKS
                    .iter()
                    .skip(index + 1)
                    .all(|other| other.name != check.name)
            );
        }
    }
}
