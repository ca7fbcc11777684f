// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl restore --check`: whether a snapshot can be restored.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use pasid::Space;
use pasid::snapshot::{PasidEntry, Restore, RestoreError, SetSnapshot, SpaceSnapshot};

use crate::run::group;
use crate::snapshot::file::{self, FileError};
use crate::snapshot::naming;
use crate::{complain, print};

/// The exit code if the snapshot does not restore.
const OFFENCE: u8 = 1;

/// The options of `pasidctl restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Restore into an empty space, and say what the first offence is, or that it holds;
    /// the exit code is 1 for an offence
    #[arg(long, required = true)]
    check: bool,
    /// A snapshot of JSON (.json) or postcard (.postcard)
    file: PathBuf,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The snapshot could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The result could not be printed.
    #[error("the result cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// What keeps a snapshot from being restored.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It breaks a rule, or the space refuses it.
    #[error("{0}")]
    Offence(#[from] RestoreError),
    /// What was restored could not be looked at.
    #[error("what was restored cannot be looked at: {0}")]
    Look(#[from] pasid::Error),
    /// What was restored is something else.
    #[error("{0} is not what it was after it was restored")]
    Differs(String),
}

/// Restores a snapshot into an empty space.
///
/// # Errors
/// [`CommandError`]; that the snapshot does not restore is no error, but the exit code 1.
pub fn run(args: &Args) -> Result<ExitCode, CommandError> {
    let snapshot = file::read(&args.file)?;
    let name = args.file.display();
    match restore(&snapshot) {
        Ok(()) => {
            print(&format!("{name}: it holds: {}", summary(&snapshot)))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            complain(&format!("{name}: {failure}"));
            Ok(ExitCode::from(OFFENCE))
        }
    }
}

fn summary(snapshot: &SpaceSnapshot) -> String {
    let pasids = snapshot.sets.iter().map(SetSnapshot::count).sum::<u64>();
    format!("{}; PASIDs: {}", naming::whole(snapshot), group(pasids))
}

fn restore(snapshot: &SpaceSnapshot) -> Result<(), Failure> {
    // Before a space is made that reserves what it says.
    Restore::new(snapshot).check()?;
    let space = empty_space(snapshot);
    // Holds what was restored, until all of it was looked at.
    let restored = Restore::new(snapshot).into_space(&space)?;
    let again = space.snapshot()?;
    for (index, (before, after)) in snapshot.sets.iter().zip(&again.sets).enumerate() {
        if !before
            .entries()
            .map(content)
            .eq(after.entries().map(content))
        {
            return Err(Failure::Differs(format!("set {index}")));
        }
    }
    for (index, (before, after)) in snapshot.tables.iter().zip(&again.tables).enumerate() {
        if (&before.attachments, &before.words) != (&after.attachments, &after.words) {
            return Err(Failure::Differs(format!(
                "what is attached to table {index}"
            )));
        }
    }
    let counts = (again.sets.len(), again.tables.len());
    if counts != (snapshot.sets.len(), snapshot.tables.len()) {
        return Err(Failure::Differs("the space".to_owned()));
    }
    drop(restored);
    Ok(())
}

/// A space as it was when nothing was in it.
fn empty_space(snapshot: &SpaceSnapshot) -> Space {
    // What a space is built with is for good, and this process makes one.
    let reserved = Box::leak(snapshot.reserved.clone().into_boxed_slice());
    match snapshot.capacity {
        None => Space::with_reserved(snapshot.kind, reserved),
        Some(capacity) => Space::with_capacity_and_reserved(snapshot.kind, capacity, reserved),
    }
}

/// What must be the same after a restore: not the generation and the id space, which
/// are another's.
fn content(entry: PasidEntry) -> impl PartialEq {
    let state = (entry.phase, entry.pinned, entry.own, entry.references);
    (entry.handle.pasid(), state, entry.word)
}
