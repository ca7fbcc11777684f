// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is attached in a virtual table, listed.

use super::VirtualTable;
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::pool::Pool;
use crate::range::PasidRange;

impl<S: Pool> VirtualTable<S> {
    /// The entries of the guest's numbers in `range`, in ascending order: also those whose
    /// host PASID was revoked, and those whose entry below is gone.
    ///
    /// Safe beside everything else: what is attached throughout is listed once.
    ///
    /// Progress: each step is lock-free, bounded by the memory in `range`. Context: any.
    pub fn aliases(&self, range: PasidRange) -> Aliases<'_, S> {
        let last = range.last().min(self.width().last());
        Aliases {
            table: self,
            next: Some(range.first().get()),
            last: last.get(),
        }
    }
}

/// The entries of a virtual table within a range; see [`VirtualTable::aliases`].
///
/// ```
/// use pasid::{Alias, AliasMap, Error, Pasid, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set(SetConfig::new(Scope::Global))?;
/// let guest = AliasMap::new();
/// let table = guest.add_table(PasidWidth::new(8)?, &set)?;
/// let process = set.alloc(set.range(), 0)?;
/// let number = Pasid::new(7)?;
/// table.preload(number.into())?;
/// table.attach(number, process.handle())?;
///
/// let all: Vec<Alias> = table.aliases(table.width().range()).collect();
/// assert_eq!(all, [Alias { guest: number, handle: process.handle(), below: None }]);
/// # Ok::<(), Error>(())
/// ```
#[must_use = "an iterator does nothing until it is asked"]
pub struct Aliases<'a, S: Pool> {
    table: &'a VirtualTable<S>,
    next: Option<u32>,
    last: u32,
}

/// One entry of a virtual table, as a listing saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Alias {
    /// The guest's number.
    pub guest: Pasid,
    /// The host's allocation.
    pub handle: Handle,
    /// The number that it points to, if it points into the table below.
    pub below: Option<Pasid>,
}

impl<S: Pool> Iterator for Aliases<'_, S> {
    type Item = Alias;

    fn next(&mut self) -> Option<Alias> {
        let first = self.next.take()?;
        let (number, seen) = self.table.core.entries.first(first, self.last)?;
        self.next = (number < self.last).then_some(number + 1);
        Some(Alias {
            guest: Pasid::from_index(number),
            handle: seen.handle(),
            below: seen.below(),
        })
    }
}

impl<S: Pool> core::iter::FusedIterator for Aliases<'_, S> {}

impl<S: Pool> core::fmt::Debug for Aliases<'_, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Aliases").finish_non_exhaustive()
    }
}
