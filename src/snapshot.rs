// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots: what a space or a set has, as data.
//!
//! The fields are public and plain: a snapshot can be looked at, written down, sent to
//! another host and built by hand, with or without `serde`. [`VERSION`] numbers their
//! meaning; what was written in version 1 stays readable.
//!
//! # Columns
//! What a set has is written in three columns, each in ascending order of PASIDs and each
//! as runs: which PASIDs in which state, which generations, and which words. Runs of one
//! column go on where those of another end. So 2^20 PASIDs that were allocated one after
//! the other take a few runs also where each has a word of its own.
//!
//! # By hand
//! A set of two PASIDs on a table of 8 bits. One of them is attached, with a fault in flight,
//! and is number 7 of a guest.
//!
//! ```
//! use pasid::snapshot::*;
//! use pasid::{Pasid, PasidWidth, Policy, RequesterId, Reuse, Space, SpaceKind};
//!
//! let [one, last] = [Pasid::new(1)?, Pasid::new(255)?];
//! let width = PasidWidth::new(8)?;
//! let table = TableSnapshot {
//!     width,
//!     reserved: vec![last.into()],
//!     devices: vec![DeviceSnapshot { device: RequesterId(0x10), width }],
//!     paused: false,
//!     closing: false,
//!     attachments: vec![AttachmentRun { first: one, count: 1, set: 0, detached: false, faults: 1 }],
//!     words: vec![WordRun { count: 1, word: 0xD0, step: 0 }],
//! };
//! // Its own reference, the attachment's and the alias's.
//! let phase = PhaseSnapshot::Live;
//! let attached = PasidRun { first: one, count: 1, phase, pinned: false, own: true, references: 3 };
//! let set = SetSnapshot {
//!     version: VERSION,
//!     quiescent: true,
//!     scope: ScopeSnapshot::Local(0),
//!     ranges: vec![pasid::PasidRange::new(one, last)?],
//!     policy: Policy::Lowest,
//!     cursors: vec![],
//!     quota: Some(10),
//!     token: None,
//!     reuse: Reuse::Immediate,
//!     closing: false,
//!     payload: PayloadSnapshot::Word,
//!     tag: 1,
//!     pasids: vec![attached, PasidRun { first: Pasid::new(2)?, references: 1, ..attached }],
//!     generations: vec![GenerationRun { count: 2, generation: 0 }],
//!     words: vec![WordRun { count: 2, word: 0xFEED, step: 0 }],
//! };
//! let seven = AliasRun { first: Pasid::new(7)?, count: 1, host: one, below: None };
//! let guest = VirtualTableSnapshot { width, set: 0, below: None, entries: vec![seven] };
//! let snapshot = SpaceSnapshot {
//!     version: VERSION,
//!     quiescent: true,
//!     kind: SpaceKind::Tables,
//!     capacity: None,
//!     reserved: vec![],
//!     tables: vec![table],
//!     sets: vec![set],
//!     aliases: vec![AliasMapSnapshot { tables: vec![guest] }],
//! };
//!
//! let space = Space::new(SpaceKind::Tables);
//! let restored = Restore::new(&snapshot).into_space(&space)?;
//! assert_eq!(restored.unclaimed().count(), 2);
//! assert_eq!(space.snapshot()?.tables, snapshot.tables);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use crate::kind::SpaceKind;
use crate::order::Policy;
use crate::pasid::{Pasid, PasidWidth};
use crate::range::PasidRange;
use crate::requester::RequesterId;
use crate::reuse::Reuse;
use heap::vec::Vec;

mod aliasing;
mod checking;
mod columns;
mod error;
mod restored;
mod restoring;
mod taking;
mod tenant;

pub use aliasing::Aliasing;
pub use columns::{PasidEntries, PasidEntry};
pub use error::{Offence, Place, RestoreError};
pub use restored::{Restored, Unclaimed};
pub use restoring::{Configure, Numbers, Restore};

/// The version of what is written today.
pub const VERSION: u32 = 1;

/// A space with its tables, its sets and what they have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SpaceSnapshot {
    /// What the fields mean: [`VERSION`].
    pub version: u32,
    /// Whether nothing changed while the snapshot was taken: two scans were equal. Only
    /// such a snapshot is promised to restore.
    pub quiescent: bool,
    /// For which kinds of sets the space is.
    pub kind: SpaceKind,
    /// The PASIDs that all sets together may have, if that is limited.
    pub capacity: Option<u32>,
    /// What is reserved on every table, in ascending order.
    pub reserved: Vec<PasidRange>,
    /// The tables, in the order in which they were added.
    pub tables: Vec<TableSnapshot>,
    /// The sets, in the order in which they were added.
    pub sets: Vec<SetSnapshot>,
    /// The alias maps that were named when the snapshot was taken.
    pub aliases: Vec<AliasMapSnapshot>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TableSnapshot {
    /// The bits that the table was added with.
    pub width: PasidWidth,
    /// What the table reserves beside the space, in ascending order.
    pub reserved: Vec<PasidRange>,
    /// The devices that have joined.
    pub devices: Vec<DeviceSnapshot>,
    /// Whether attaching was paused.
    pub paused: bool,
    /// Whether the table was closed.
    pub closing: bool,
    /// What is attached, in ascending order.
    pub attachments: Vec<AttachmentRun>,
    /// The words of what is attached, in the same order.
    pub words: Vec<WordRun>,
}

/// A device that has joined a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DeviceSnapshot {
    /// Which device.
    pub device: RequesterId,
    /// Its bits; 0 for one without PASID support.
    pub width: PasidWidth,
}

/// Attachments of PASIDs that follow each other, alike but for their words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AttachmentRun {
    /// The first PASID.
    pub first: Pasid,
    /// How many PASIDs, at least 1.
    pub count: u32,
    /// Whose they are: an index into [`SpaceSnapshot::sets`].
    pub set: u32,
    /// Whether they were detached while faults were in flight.
    pub detached: bool,
    /// Faults in flight, of each.
    pub faults: u32,
}

/// A set with its PASIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SetSnapshot {
    /// What the fields mean: [`VERSION`].
    pub version: u32,
    /// Whether nothing changed while the set was looked at: two scans were equal.
    pub quiescent: bool,
    /// On which tables the PASIDs count.
    pub scope: ScopeSnapshot,
    /// What the set may hand out, in ascending order.
    pub ranges: Vec<PasidRange>,
    /// The order of handing out.
    pub policy: Policy,
    /// Where the policy goes on: for *next* one PASID after the last one handed out, for
    /// *preserve-narrow* one for each half from the lowest; otherwise none.
    pub cursors: Vec<u32>,
    /// The most PASIDs that the set may have, if that is limited.
    pub quota: Option<u32>,
    /// The number by which the set is found.
    pub token: Option<u64>,
    /// When its PASIDs may be allocated again.
    pub reuse: Reuse,
    /// Whether the set was closed.
    pub closing: bool,
    /// What the words stand for.
    pub payload: PayloadSnapshot,
    /// Which id space the set's handles name: bits 20 to 31 of each raw handle. 0 where
    /// that id space has not had a PASID yet, and so the set has none.
    pub tag: u16,
    /// The PASIDs, in ascending order.
    pub pasids: Vec<PasidRun>,
    /// Their generations, in the same order.
    pub generations: Vec<GenerationRun>,
    /// Their words, in the same order.
    pub words: Vec<WordRun>,
}

/// On which tables the PASIDs of a set count; tables by their index in
/// [`SpaceSnapshot::tables`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum ScopeSnapshot {
    /// On every table.
    Global,
    /// On one table.
    Local(u32),
    /// On several, in ascending order.
    Group(Vec<u32>),
}

/// What the words of a set stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum PayloadSnapshot {
    /// For themselves.
    Word,
    /// For nothing: the type is `()`.
    Nothing,
    /// For a value in the memory of who took the snapshot. It is not written down, the
    /// words are 0, and such a set is not restored.
    Value,
}

/// Where a PASID is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum PhaseSnapshot {
    /// Allocated.
    Live,
    /// Revoked, and still referred to.
    Freeing,
    /// Without references, until a flush has completed.
    Quarantined,
    /// Without references, until its pin goes.
    Pinned,
}

/// PASIDs that follow each other, alike but for their generations and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PasidRun {
    /// The first PASID.
    pub first: Pasid,
    /// How many PASIDs, at least 1.
    pub count: u32,
    /// Where they are in their life.
    pub phase: PhaseSnapshot,
    /// Whether each is pinned.
    pub pinned: bool,
    /// Whether the owner's own reference is held: an [`Owned`](crate::Owned) that is
    /// neither freed nor turned into a [`Ref`](crate::Ref).
    pub own: bool,
    /// References held on each, with the owner's own, one for each table to which it is
    /// attached and one for each alias.
    pub references: u32,
}

/// PASIDs with one generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GenerationRun {
    /// How many PASIDs, at least 1.
    pub count: u32,
    /// The generation.
    pub generation: u32,
}

/// Words of which each is the one before and `step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WordRun {
    /// How many words, at least 1.
    pub count: u32,
    /// The first word.
    pub word: u64,
    /// What is added from one to the next, modulo 2^64.
    pub step: u64,
}

/// An alias map: a guest's numbers, and what they stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AliasMapSnapshot {
    /// The virtual tables, in the order in which they were added.
    pub tables: Vec<VirtualTableSnapshot>,
}

/// One virtual table of an alias map.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct VirtualTableSnapshot {
    /// The bits of a guest's number.
    pub width: PasidWidth,
    /// Of which set the PASIDs are: an index into [`SpaceSnapshot::sets`].
    pub set: u32,
    /// In a nested guest's map, the virtual table that its entries point into.
    pub below: Option<BelowSnapshot>,
    /// The entries, in ascending order of the guest's numbers.
    pub entries: Vec<AliasRun>,
}

/// A virtual table by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BelowSnapshot {
    /// An index into [`SpaceSnapshot::aliases`].
    pub map: u32,
    /// An index into [`AliasMapSnapshot::tables`].
    pub table: u32,
}

/// Guest's numbers that follow each other, and what they stand for, which follows too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AliasRun {
    /// The guest's first number.
    pub first: Pasid,
    /// How many, at least 1.
    pub count: u32,
    /// The host PASID that the first stands for.
    pub host: Pasid,
    /// In a nested guest's map, the number in the table below that the first stands for.
    pub below: Option<Pasid>,
}
