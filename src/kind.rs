// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which kinds of sets a space has.

use core::fmt;

/// Which sets a [`Space`](crate::Space) has. It is fixed when the space is built.
///
/// Where global sets stand beside those of tables, a PASID that one kind holds must be
/// held by none of the other, and each allocation and each free has one more step for
/// that. A space for one kind does without it.
///
/// Where both kinds take the lowest free values of the same range, they mix, and a search
/// looks at each 256 values in which there are both: 10 microseconds at 200,000. Give them
/// ranges of their own, or one of them another [policy](crate::Policy).
///
/// ```
/// use pasid::{Error, PasidWidth, Scope, SetConfig, Space, SpaceKind, TableConfig};
///
/// let space = Space::new(SpaceKind::Tables);
/// let table = space.add_table(TableConfig::new(PasidWidth::MAX))?;
/// assert!(space.add_set(SetConfig::new(Scope::Local(&table))).is_ok());
/// let refused = space.add_set(SetConfig::new(Scope::Global)).err();
/// assert!(matches!(refused, Some(Error::WrongKind { .. })));
/// assert_eq!(SpaceKind::Tables.to_string(), "the sets of tables alone");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum SpaceKind {
    /// Global sets alone.
    Global,
    /// The sets of tables and of groups of tables alone.
    Tables,
    /// Both, and separate from each other on every table.
    Both,
}

impl fmt::Display for SpaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpaceKind::Global => "global sets alone",
            SpaceKind::Tables => "the sets of tables alone",
            SpaceKind::Both => "global sets and the sets of tables",
        })
    }
}
