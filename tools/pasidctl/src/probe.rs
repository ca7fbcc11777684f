// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl probe`: the PASID-capable devices of a machine.

mod report;

use std::io;
use std::process::ExitCode;

use crate::machine::{MachineError, Source};
use crate::print;

/// The options of `pasidctl probe`. Without any it reads this machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Print an array of devices, with widths in bits
    #[arg(long)]
    json: bool,
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The machine could not be read.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The result could not be turned into JSON.
    #[error("the result cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The result could not be printed.
    #[error("the result cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// Reads the machine and prints its PASID-capable devices.
///
/// # Errors
/// [`ProbeError`], and then nothing was printed that could be taken for a
/// result.
pub fn run(args: &Args) -> Result<ExitCode, ProbeError> {
    let machine = args.source.read_or_this_machine()?;
    let text = if args.json {
        report::json(&machine)?
    } else {
        report::table(&machine)
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
