// SPDX-License-Identifier: MIT OR Apache-2.0
//! What memory a set needs, and what it has.

use super::{Reach, Source};
use crate::error::{Error, Result};
use crate::range::PasidRange;

impl Source {
    /// Puts memory in place for `range`, wherever an allocation of it may look.
    pub(crate) fn preload(&self, range: PasidRange) -> Result<usize> {
        let (first, last) = self.request(range)?;
        let before = self.memory_bytes();
        let complete = match &self.reach {
            Reach::Group { members, own } => self.grouped(members, own).preload(first, last),
            _ => self.claimed().preload(first, last),
        };
        if complete {
            Ok(self.memory_bytes().saturating_sub(before))
        } else {
            Err(Error::OutOfMemory)
        }
    }

    /// Bytes of the set itself, and of a group's own slots.
    pub(crate) fn own_bytes(&self) -> usize {
        let slots = match &self.reach {
            Reach::Global | Reach::Local(_) => 0,
            Reach::Group { members, own } => own.memory_bytes(members.len()),
        };
        size_of::<Source>() + slots
    }

    fn memory_bytes(&self) -> usize {
        let tables = match &self.reach {
            Reach::Global => 0,
            Reach::Local(table) => table.ids.memory_bytes(),
            Reach::Group { members, own } => {
                let members = members.iter().map(|table| table.ids.memory_bytes());
                own.ids.memory_bytes() + members.sum::<usize>()
            }
        };
        tables + self.shared.memory_bytes()
    }
}
