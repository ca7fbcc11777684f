// SPDX-License-Identifier: MIT OR Apache-2.0
//! A group among its tables: it stands in the list of each of them, so that a fault there
//! learns its state, from before it hands out a PASID until it goes.

use super::{Reach, Source};
use crate::error::{Error, Result};

impl Source {
    /// Enters a group in the lists of its tables. If it fails, the drop of the set takes it
    /// out of those in which it is.
    pub(crate) fn join_tables(&self) -> Result<()> {
        if let Reach::Group { members, own } = &self.reach {
            let mut joined = members.iter().map(|table| table.groups.add(own));
            if !joined.all(|joined| joined) {
                return Err(Error::OutOfMemory);
            }
        }
        Ok(())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            // A model that failed is unwinding, and loom's objects are gone.
            return;
        }
        if let Reach::Group { members, own } = &self.reach {
            members.iter().for_each(|table| table.groups.remove(own));
        }
    }
}
