// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl`: PASIDs on the command line.

mod machine;
mod map;
mod probe;
mod restore;
mod run;
mod snapshot;

use std::error::Error;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::error::ErrorKind as Refusal;
use clap::{Parser, Subcommand};

/// What the exit code 2 says: the input cannot be used.
const BAD_INPUT: u8 = 2;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the PASID-capable devices of a dump or of this machine
    Probe(probe::Args),
    /// Put a space under load on all CPUs, and check every rule while it runs
    Run(run::Args),
    /// Describe a snapshot: its tables, its sets and how many PASIDs they have
    Snapshot(snapshot::Args),
    /// Say whether a snapshot can be restored
    Restore(restore::Args),
    /// Draw a snapshot: which numbers are live, freed, in quarantine, attached
    Map(map::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let result: Result<ExitCode, Box<dyn Error>> = match cli.command {
        Command::Probe(args) => probe::run(&args).map_err(Into::into),
        Command::Run(args) => run::run(&args).map_err(Into::into),
        Command::Snapshot(args) => snapshot::run(&args).map_err(Into::into),
        Command::Restore(args) => restore::run(&args).map_err(Into::into),
        Command::Map(args) => map::run(&args).map_err(Into::into),
    };
    result.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::from(BAD_INPUT)
    })
}

/// Prints a result.
fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        // Whoever reads the output has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Says in one line what is wrong. Where not even that can be written, the exit
/// code says it alone.
fn complain(what: &dyn Display) {
    let _ = writeln!(io::stderr(), "pasidctl: {what}");
}

/// Says in one line what is wrong with the arguments, as everything else that is
/// wrong is said; or shows the help or the version, if that was asked for.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        Refusal::DisplayHelp
            | Refusal::DisplayVersion
            | Refusal::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        error.exit();
    }
    let rendered = error.render().to_string();
    // What comes after an empty line is advice.
    let lines = rendered.lines().map(str::trim);
    let message: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    let message = message.join(" ");
    complain(&message.trim_start_matches("error: "));
    ExitCode::from(BAD_INPUT)
}
