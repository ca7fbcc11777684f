// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl map`: a picture of a snapshot.

mod picture;
mod reading;
mod svg;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, io};

use crate::print;
use crate::snapshot::file::{self, FileError};

/// The options of `pasidctl map`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A snapshot of JSON (.json) or postcard (.postcard)
    snapshot: PathBuf,
    /// Write the picture as SVG
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FILE.svg",
        required_unless_present = "text"
    )]
    svg: Option<PathBuf>,
    /// Print it with characters, for a terminal
    #[arg(long)]
    text: bool,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The snapshot could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The picture has another name than one of SVG.
    #[error("{}: a picture's file ends in .svg", .0.display())]
    Name(PathBuf),
    /// The picture could not be written.
    #[error("{}: {error}", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It could not be printed.
    #[error("the picture cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// Draws a snapshot: a row for each table and one for what is global.
///
/// # Errors
/// [`MapError`].
pub fn run(args: &Args) -> Result<ExitCode, MapError> {
    let other = |path: &&PathBuf| path.extension().is_none_or(|extension| extension != "svg");
    if let Some(path) = args.svg.as_ref().filter(other) {
        return Err(MapError::Name(path.clone()));
    }
    let snapshot = file::read(&args.snapshot)?;
    let picture = reading::picture(&snapshot, &args.snapshot.display().to_string());
    if let Some(path) = &args.svg {
        fs::write(path, svg::draw(&picture)).map_err(|error| MapError::Write {
            path: path.clone(),
            error,
        })?;
    }
    if args.text {
        print(&text::draw(&picture))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use pasid::snapshot::SpaceSnapshot;
    use pasid::{
        Attach, PasidRange, PasidWidth, Policy, Pool, Reuse, Scope, SetConfig, Space, SpaceKind,
        TableConfig,
    };

    use super::*;

    /// A space with something of everything.
    fn snapshot() -> pasid::Result<SpaceSnapshot> {
        let space = Space::new(SpaceKind::Both);
        let tables = [
            space.add_table(TableConfig::new(PasidWidth::new(16)?))?,
            space.add_table(TableConfig::new(PasidWidth::new(9)?))?,
        ];
        let config = |scope| SetConfig::new(scope).reuse(Reuse::AfterFlush);
        let local = space.add_set(config(Scope::Local(&tables[0])).quota(90))?;
        let group = space.add_set(config(Scope::Group(&tables)))?;
        let policy = config(Scope::Global).policy(Policy::PreserveNarrow);
        let global = space.add_set(policy)?;
        let mut held = Vec::new();
        for set in [&local, &group, &global] {
            for word in 0..60 {
                held.push(set.alloc(set.range(), word)?);
            }
        }
        let pin = held[70].pin()?;
        let reference = held[80].get()?;
        tables[0].preload(PasidRange::try_from(0..=511)?)?;
        let attachment = tables[0].attach(&held[3], 7)?.commit()?;
        held.truncate(120);
        held.drain(60..90).for_each(drop);
        let snapshot = space.snapshot();
        drop((pin, reference, attachment));
        snapshot
    }

    #[test]
    fn damaged_snapshots_are_refused_or_drawn_as_they_are() {
        let good = postcard::to_stdvec(&snapshot().unwrap()).unwrap();
        let mut random = fastrand::Rng::with_seed(3);
        let (mut drawn, mut refused) = (0, 0);
        while drawn + refused < 1_000 {
            let mut damaged = good.clone();
            for _ in 0..random.usize(1..4) {
                let place = random.usize(..damaged.len());
                damaged[place] = random.u8(..);
            }
            let Ok((snapshot, _)) = postcard::take_from_bytes(&damaged) else {
                refused += 1;
                continue;
            };
            drawn += 1;
            let picture = reading::picture(&snapshot, "damaged");
            assert!(svg::draw(&picture).ends_with("</svg>\n"));
            assert!(text::draw(&picture).contains("Numbers 0 to"));
            let described = crate::snapshot::describe(&snapshot, "damaged");
            assert!(described.starts_with("damaged"));
        }
        assert!(drawn > 100 && refused > 100, "{drawn} {refused}");
    }

    #[test]
    fn what_is_on_a_table_is_in_its_row() {
        let picture = reading::picture(&snapshot().unwrap(), "good");
        let names: Vec<_> = picture.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["global", "table 0", "table 1"]);
        let sets = picture.rows.iter().map(|row| row.sets.len());
        assert!(sets.eq([1, 2, 1]));
        // A group has the same colour in each row, and another than its neighbours.
        let colours = |row: usize| picture.rows[row].sets.iter().map(|set| set.colour);
        assert!(colours(0).eq([0]) && colours(1).eq([0, 1]) && colours(2).eq([1]));
        let group = &picture.rows[2].sets[0];
        assert_eq!(group.counts, [30, 1, 28, 1], "{group}");
        let attached = picture.rows.iter().map(|row| row.attached.len());
        assert!(attached.eq([0, 1, 0]));
        assert_eq!(picture.bits, 20);
    }
}
