// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl snapshot`: what a snapshot has.

mod describing;
pub mod file;
pub mod naming;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use pasid::snapshot::SpaceSnapshot;

use crate::print;
use describing::Description;
use file::FileError;

/// The options of `pasidctl snapshot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file of JSON (.json) or postcard (.postcard)
    file: PathBuf,
    /// Print one JSON object, with widths in bits
    #[arg(long)]
    json: bool,
}

/// Why there is no description.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The snapshot could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The result could not be turned into JSON.
    #[error("the result cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The result could not be printed.
    #[error("the result cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// Describes a snapshot: its tables, its sets, and how many PASIDs they have.
///
/// # Errors
/// [`SnapshotError`], and then nothing was printed that could be taken for a result.
pub fn run(args: &Args) -> Result<ExitCode, SnapshotError> {
    let snapshot = file::read(&args.file)?;
    print(&if args.json {
        serde_json::to_string_pretty(&Description::new(&snapshot))?
    } else {
        describe(&snapshot, &args.file.display().to_string())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A snapshot that was read from `name`, for people.
pub fn describe(snapshot: &SpaceSnapshot, name: &str) -> String {
    Description::new(snapshot).text(name)
}
