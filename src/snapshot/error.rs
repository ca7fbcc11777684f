// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a snapshot is not restored.

use super::VERSION;
use crate::error::Error;
use crate::pasid::Pasid;
use core::fmt;

/// Why a snapshot was not restored: the first thing found wrong, and where. The space is
/// as it was before, but for memory that was put in place.
///
/// ```
/// use pasid::snapshot::{Offence, Place, Restore, VERSION};
/// use pasid::{Error, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set(SetConfig::new(Scope::Global))?;
/// let owned = set.alloc(set.range(), 0)?;
/// let mut taken = space.snapshot()?;
///
/// // There it is live already.
/// let error = Restore::new(&taken).into_space(&space).expect_err("it collides");
/// assert_eq!(error.place, Place::Pasid { set: 0, pasid: owned.pasid() });
/// assert!(matches!(error.offence, Offence::Refused(Error::InUse(_))));
///
/// // Written by who knows more.
/// taken.version = VERSION + 1;
/// let error = Restore::new(&taken).check().expect_err("it is newer");
/// assert_eq!(error.offence, Offence::Version { found: 2 });
/// assert_eq!(error.to_string(), "snapshot: written in version 2, and 1 is known");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RestoreError {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub offence: Offence,
}

/// A place in a snapshot, by the indices of its lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// The snapshot itself.
    Snapshot,
    /// A table.
    Table(u32),
    /// A set.
    Set(u32),
    /// A PASID of a set.
    Pasid {
        /// The set.
        set: u32,
        /// The PASID, by its number in the snapshot.
        pasid: Pasid,
    },
    /// An attachment.
    Attachment {
        /// The table.
        table: u32,
        /// The PASID, by its number in the snapshot.
        pasid: Pasid,
    },
    /// An alias map's virtual table.
    VirtualTable {
        /// The alias map.
        map: u32,
        /// The virtual table.
        table: u32,
    },
    /// An entry of an alias map.
    Alias {
        /// The alias map.
        map: u32,
        /// The virtual table.
        table: u32,
        /// The guest's number.
        number: Pasid,
    },
}

/// What is wrong with a snapshot, or between it and the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Offence {
    /// It was written in a version that is not known here.
    Version {
        /// That version.
        found: u32,
    },
    /// An index names nothing, or what [`on_tables`](super::Restore::on_tables) was told of
    /// twice.
    Index {
        /// The index.
        index: u32,
    },
    /// A range or run is empty, overlaps the one before, does not come after it, or
    /// reaches beyond the last PASID.
    Disorder,
    /// The columns are not equally long: the snapshot was cut short, or put together wrong.
    Columns,
    /// Phase, pin, own reference and number of references contradict each other, or the set.
    Phase,
    /// Fewer references are held than the own one, attachments and aliases together, or
    /// more than can be.
    References,
    /// A scope that spaces of the kind do not have.
    Kind,
    /// The payloads were values in the memory of who took the snapshot.
    Payload,
    /// The set's handles would name no id space: the tag has more than 12 bits, or it is 0
    /// and the set has PASIDs.
    Tag,
    /// The set has not that PASID: outside its ranges, or beyond the width of its tables.
    OutsideSet,
    /// Beyond the width of a table, or of a device that has joined it.
    DoesNotFit,
    /// A device has joined the table twice.
    Device,
    /// Reserved where it is live.
    Reserved,
    /// Held by two sets that share a table, or by a global set and another.
    HeldTwice,
    /// The set has more than its quota, or the sets together more than the capacity.
    Quota,
    /// Another set has the token.
    Token,
    /// What is attached, or has an alias, belongs to a set that does not reach there.
    Reach,
    /// The space refused.
    Refused(Error),
}

impl RestoreError {
    pub(super) const fn new(place: Place, offence: Offence) -> RestoreError {
        RestoreError { place, offence }
    }

    pub(super) const fn refused(place: Place) -> impl Fn(Error) -> RestoreError {
        move |error| RestoreError::new(place, Offence::Refused(error))
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.offence)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Snapshot => f.write_str("snapshot"),
            Place::Table(table) => write!(f, "table {table}"),
            Place::Set(set) => write!(f, "set {set}"),
            Place::Pasid { set, pasid } => write!(f, "set {set}, PASID {pasid}"),
            Place::Attachment { table, pasid } => {
                write!(f, "table {table}, attachment of PASID {pasid}")
            }
            Place::VirtualTable { map, table } => {
                write!(f, "alias map {map}, virtual table {table}")
            }
            Place::Alias { map, table, number } => {
                write!(f, "alias map {map}, virtual table {table}, number {number}")
            }
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Offence::Version { found } => {
                return write!(f, "written in version {found}, and {VERSION} is known");
            }
            Offence::Index { index } => return write!(f, "index {index} names nothing"),
            Offence::Disorder => "a range is empty, out of order, or reaches beyond the last PASID",
            Offence::Columns => "the columns are not equally long",
            Offence::Phase => "phase, pin and references contradict each other",
            Offence::References => "the references do not add up",
            Offence::Kind => "the space has no sets of that scope",
            Offence::Payload => "the payloads are not in the snapshot",
            Offence::Tag => "the tag names no id space",
            Offence::OutsideSet => "the set has no such PASID",
            Offence::DoesNotFit => "beyond the width of the table",
            Offence::Device => "the device has joined twice",
            Offence::Reserved => "reserved, and live",
            Offence::HeldTwice => "held twice",
            Offence::Quota => "more than the quota or the capacity",
            Offence::Token => "another set has the token",
            Offence::Reach => "the set does not reach there",
            Offence::Refused(error) => return write!(f, "refused: {error}"),
        })
    }
}

impl core::error::Error for RestoreError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.offence {
            Offence::Refused(error) => Some(error),
            _ => None,
        }
    }
}
