// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl`: PASIDs on the command line.

mod machine;
mod probe;

use std::error::Error;
use std::process::ExitCode;

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
}

fn main() -> ExitCode {
    let result: Result<ExitCode, Box<dyn Error>> = match Cli::parse().command {
        Command::Probe(args) => probe::run(&args).map_err(Into::into),
    };
    result.unwrap_or_else(|error| {
        eprintln!("pasidctl: {error}");
        ExitCode::from(BAD_INPUT)
    })
}
