// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask NAME`: the one entry to every check of the project.
//!
//! `cargo xtask list` shows the checks and the command lines behind them, so
//! that each can also be run by hand. `cargo xtask test` runs all that the
//! project's own CI wants, cheapest first, and ends with a summary that names
//! every skipped check and the reason.

mod asan;
mod bench;
mod checks;
mod command;
mod context;
mod freestanding;
mod link;
mod msrv;
mod summary;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::checks::{CHECKS, Check};
use crate::command::Project;
use crate::summary::Summary;

fn main() -> ExitCode {
    let matches = command_line().get_matches();
    match dispatch(&matches) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One subcommand for each check of the table, and the two that use the whole
/// table.
fn command_line() -> Command {
    let seconds = Arg::new("seconds")
        .long("seconds")
        .value_name("SECONDS")
        .default_value("60")
        .value_parser(value_parser!(u32).range(1..))
        .help("How long to fuzz, in seconds");
    let quick = Arg::new("quick")
        .long("quick")
        .action(ArgAction::SetTrue)
        .help("A tenth of the time, and wider spreads");
    Command::new("xtask")
        .bin_name("cargo xtask")
        .about("The one entry to every check of the project")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("test").about("Everything that CI runs, cheapest first"))
        .subcommand(Command::new("list").about("The checks and the command lines behind them"))
        .subcommands(
            CHECKS
                .iter()
                .map(|check| Command::new(check.name).about(check.about)),
        )
        .mut_subcommand("fuzz", |fuzz| fuzz.arg(seconds))
        .mut_subcommand("bench", |bench| bench.arg(quick))
}

/// Runs what was asked for; `false` says that a check failed, or that one which
/// was asked for by name did not run.
fn dispatch(matches: &ArgMatches) -> Result<bool> {
    let mut project = Project::find()?;
    match matches.subcommand() {
        Some(("list", _)) => {
            checks::list(&project);
            Ok(true)
        }
        Some(("test", _)) => {
            let summary = run(&project, CHECKS.iter().filter(|check| check.in_ci));
            Ok(summary.failed() == 0)
        }
        Some((name, arguments)) => {
            if let Ok(Some(&seconds)) = arguments.try_get_one::<u32>("seconds") {
                project.fuzz_seconds = seconds;
            }
            if let Ok(Some(&quick)) = arguments.try_get_one::<bool>("quick") {
                project.quick = quick;
            }
            let summary = run(&project, CHECKS.iter().filter(|check| check.name == name));
            Ok(summary.failed() == 0 && summary.skipped() == 0)
        }
        None => Ok(true),
    }
}

fn run<'a>(project: &Project, checks: impl Iterator<Item = &'a Check>) -> Summary {
    let mut summary = Summary::default();
    for check in checks {
        println!("\n=== {}: {}", check.name, check.about);
        summary.time(check.name, || checks::run(project, check));
    }
    print!("{summary}");
    summary
}

#[cfg(test)]
mod tests {
    #[test]
    fn command_line_is_consistent() {
        super::command_line().debug_assert();
    }
}
