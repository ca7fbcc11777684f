// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a space is built: in a constant, without memory. What it is built with is fixed.

use super::Space;
use crate::alloc::RESERVED_BY_DEFAULT;
use crate::kind::SpaceKind;
use crate::link::Link;
use crate::range::PasidRange;
use crate::sync::const_unless_loom;

impl Space {
    const_unless_loom! {
        /// A space of that kind in which PASID 0 is reserved.
        pub fn new(kind: SpaceKind) -> Space {
            Space::with_reserved(kind, RESERVED_BY_DEFAULT)
        }
    }

    const_unless_loom! {
        /// A space in which the PASIDs in `reserved` are reserved on every table, and 0 is
        /// not unless it is among them. Ranges may overlap.
        ///
        /// ```
        /// use pasid::{Error, Pasid, PasidRange, Pool, Scope, SetConfig, Space, SpaceKind};
        ///
        /// const RESERVED: &[PasidRange] = &[PasidRange::single(Pasid::from_u16(1))];
        /// let space = Space::with_reserved(SpaceKind::Global, RESERVED);
        /// let users = space.add_set(SetConfig::new(Scope::Global))?;
        /// let first = users.alloc(users.range(), 0)?;
        /// let second = users.alloc(users.range(), 0)?;
        /// assert_eq!((first.pasid().get(), second.pasid().get()), (0, 2));
        /// # Ok::<(), Error>(())
        /// ```
        pub fn with_reserved(kind: SpaceKind, reserved: &'static [PasidRange]) -> Space {
            Space {
                kind,
                reserved,
                capacity: None,
                inner: Link::vacant(),
            }
        }
    }

    const_unless_loom! {
        /// A space with a capacity, in which PASID 0 is reserved: the most PASIDs that all
        /// of its sets together may have. Each set reserves its quota out of it when it is
        /// added; one without a quota reserves as many PASIDs as its range has.
        ///
        /// ```
        /// use pasid::{Error, Scope, SetConfig, Space, SpaceKind};
        ///
        /// let space = Space::with_capacity(SpaceKind::Global, 100);
        /// let set = space.add_set(SetConfig::new(Scope::Global).quota(60))?;
        /// let more = SetConfig::new(Scope::Global).quota(50);
        /// assert_eq!(space.add_set(more.clone()).err(), Some(Error::CapacityExceeded { left: 40 }));
        /// set.set_quota(50)?;
        /// assert!(space.add_set(more).is_ok());
        /// # Ok::<(), Error>(())
        /// ```
        pub fn with_capacity(kind: SpaceKind, capacity: u32) -> Space {
            Space::with_capacity_and_reserved(kind, capacity, RESERVED_BY_DEFAULT)
        }
    }

    const_unless_loom! {
        /// A space with a capacity, see [`Space::with_capacity`], in which the PASIDs in
        /// `reserved` are reserved, see [`Space::with_reserved`].
        pub fn with_capacity_and_reserved(
            kind: SpaceKind,
            capacity: u32,
            reserved: &'static [PasidRange],
        ) -> Space {
            Space {
                kind,
                reserved,
                capacity: Some(capacity),
                inner: Link::vacant(),
            }
        }
    }
}
