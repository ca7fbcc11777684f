// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots as files: JSON or postcard, as the name ends.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use pasid::snapshot::{SpaceSnapshot, VERSION};
use serde::Deserialize;

/// A file that cannot be used. The message is one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct FileError {
    path: PathBuf,
    problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
enum Problem {
    /// The operating system refuses it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is a directory.
    #[error("this is a directory, and a file with a snapshot was expected")]
    Directory,
    /// Its name says nothing.
    #[error("a snapshot's file ends in .json or .postcard")]
    Name,
    /// It has no bytes.
    #[error("the file is empty")]
    Empty,
    /// It is larger than any snapshot.
    #[error("the file is over {0} bytes long, and no snapshot")]
    TooLong(u64),
    /// It is from a version of the future.
    #[error("the snapshot is of version {0}, and this program knows versions up to {VERSION}")]
    Newer(u32),
    /// It is no JSON, or not that of a snapshot.
    #[error("this is no snapshot, or a damaged one: {0}")]
    Json(#[from] serde_json::Error),
    /// It is no postcard, or not that of a snapshot.
    #[error("this is no snapshot, or a damaged one: {0}")]
    Postcard(#[from] postcard::Error),
    /// Something comes after the snapshot.
    #[error("this is no snapshot, or a damaged one: {0} bytes come after its end")]
    Left(usize),
}

impl Problem {
    fn at(self, path: &Path) -> FileError {
        FileError {
            path: path.to_owned(),
            problem: self,
        }
    }
}

/// A space with every number in a run of its own takes less.
const LONGEST: u64 = 1 << 30;

#[derive(Clone, Copy)]
enum Format {
    Json,
    Postcard,
}

impl Format {
    fn of(path: &Path) -> Result<Format, Problem> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Ok(Format::Json),
            Some("postcard") => Ok(Format::Postcard),
            _ => Err(Problem::Name),
        }
    }
}

/// What every version begins with.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// Reads a snapshot. That it is in the form of one is all that this says.
///
/// # Errors
/// [`FileError`], in one sentence.
pub fn read(path: &Path) -> Result<SpaceSnapshot, FileError> {
    let parsed = Format::of(path).and_then(|format| parse(format, &bytes(path)?));
    parsed.map_err(|problem| problem.at(path))
}

fn bytes(path: &Path) -> Result<Vec<u8>, Problem> {
    if path.is_dir() {
        return Err(Problem::Directory);
    }
    let mut bytes = Vec::new();
    // A file may grow, or be none that has a length.
    File::open(path)?
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        0 => Err(Problem::Empty),
        len if len > LONGEST => Err(Problem::TooLong(LONGEST)),
        _ => Ok(bytes),
    }
}

fn parse(format: Format, bytes: &[u8]) -> Result<SpaceSnapshot, Problem> {
    // Before the rest, which another version has in another form.
    let Head { version } = match format {
        Format::Json => serde_json::from_slice(bytes)?,
        Format::Postcard => postcard::take_from_bytes(bytes)?.0,
    };
    if version > VERSION {
        return Err(Problem::Newer(version));
    }
    match format {
        Format::Json => Ok(serde_json::from_slice(bytes)?),
        Format::Postcard => match postcard::take_from_bytes(bytes)? {
            (snapshot, []) => Ok(snapshot),
            (_, left) => Err(Problem::Left(left.len())),
        },
    }
}

/// Whether a snapshot can be written under that name.
///
/// # Errors
/// [`FileError`].
pub fn check_name(path: &Path) -> Result<(), FileError> {
    Format::of(path)
        .map(|_| ())
        .map_err(|problem| problem.at(path))
}

/// Writes a snapshot.
///
/// # Errors
/// [`FileError`].
pub fn write(path: &Path, snapshot: &SpaceSnapshot) -> Result<(), FileError> {
    let written = Format::of(path).and_then(|format| {
        let bytes = match format {
            Format::Json => serde_json::to_vec_pretty(snapshot)?,
            Format::Postcard => postcard::to_stdvec(snapshot)?,
        };
        Ok(fs::write(path, bytes)?)
    });
    written.map_err(|problem| problem.at(path))
}
