// SPDX-License-Identifier: MIT OR Apache-2.0
//! Alias maps: which host PASID stands behind a guest's number.
//!
//! A guest numbers as it likes, and for each of its devices anew: 5 on two of its devices
//! is two entries. What hardware is given is a host PASID. A [`VirtualTable`] has the
//! numbers of one such device, an [`AliasMap`] the virtual tables of one guest.
//!
//! # What an entry holds
//! One counted reference on its host PASID, so the PASID gets no other owner as long as
//! the entry stands. An entry is made by handle: it takes a reference of its own, and the
//! generation says whether the allocation is the one that was meant. So whoever holds an
//! Owned, a Ref or a binding, or wrote a handle down, attaches by the same call.
//!
//! # A look-up is one step
//! It reads the entry's handle, and takes a reference by that handle. The generation
//! refuses what is over, so nothing is counted on another owner, and no reader is
//! announced to the one who detaches.
//! * *It succeeds*: the entry held a reference when it was read, so the PASID was live or
//!   being freed then. It was live afterwards, and being freed is for good, so it was live
//!   when it was read. That instant is the look-up's.
//! * *It is refused*: the entry is read again. If it names another allocation, or none, the
//!   look-up begins anew; somebody else got on meanwhile. If it names the same, the PASID
//!   is being freed at this second reading, and that is said.
//!
//! # Nested tables
//! An entry of a nested guest may point to a number in a table of the guest that runs it.
//! It has the handle found there when it was attached, with a reference of its own, and it
//! is good as long as the entry below has the same. So what the outer guest detaches its
//! nested guest no longer reaches, and what the outer guest attaches anew it reaches only by
//! attaching too. A look-up reads the entries from the top to the bottom and then, from the
//! bottom to the top, whether each still is what it was: all of them stood when the lowest
//! was read. The depth is limited, since each level takes some stack.
//!
//! `table.rs` has the calls, `entries.rs` the protocol of an entry.

use crate::error::{Error, Result};
use crate::lists;
use crate::lock::ControlLock;
use crate::pasid::PasidWidth;
use crate::pool::Pool;
use crate::sync::const_unless_loom;
use core::fmt;
use heap::vec::Vec;

mod entries;
mod listing;
#[cfg(loom)]
mod mutants;
mod table;

pub use listing::{Alias, Aliases};
pub(crate) use table::LEVELS;
pub use table::VirtualTable;

/// The virtual tables of one guest.
///
/// Each has PASIDs of one pool behind it, held by an `S`: `Arc<IoasidSet>` or
/// `&IoasidSet`, as with every [`Pool`]. What a table has attached goes when the map and
/// all other handles of the table are gone.
///
/// ```
/// use pasid::{AliasMap, Error, Pasid, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind};
/// use std::sync::Arc;
///
/// let space = Space::new(SpaceKind::Global);
/// let config = SetConfig::new(Scope::Global).quota(100);
/// let set = Arc::new(space.add_set(config)?);
///
/// // A guest with a device of 16 bits. Its number 5 is the host's first PASID.
/// let guest = AliasMap::new();
/// let device = guest.add_table(PasidWidth::new(16)?, set.clone())?;
/// let five = Pasid::new(5)?;
/// device.preload(five.into())?;
/// let host = set.clone().alloc(set.range(), 0)?;
/// device.attach(five, host.handle())?;
///
/// // What a trapped command needs: the host's number, kept while it is in use.
/// let reference = device.find_and_get(five)?;
/// assert_eq!(reference.pasid().get(), 1);
///
/// // Once the host PASID is revoked, the entry says so, until it is detached.
/// drop((host, reference));
/// assert_eq!(device.find(five), Err(Error::BeingFreed(Pasid::new(1)?)));
/// device.detach(five)?;
/// assert_eq!(device.find(five), Err(Error::NotAttached(five)));
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "SPID")]
#[doc(alias = "vSID")]
pub struct AliasMap<S: Pool> {
    tables: ControlLock<Vec<VirtualTable<S>>>,
}

impl<S: Pool> AliasMap<S> {
    const_unless_loom! {
        /// A map without tables.
        ///
        /// Progress: wait-free. Context: any.
        #[must_use]
        pub fn new() -> AliasMap<S> {
            AliasMap {
                tables: ControlLock::new(Vec::new()),
            }
        }
    }

    /// Adds the table of one of the guest's devices: as many bits as the guest is shown, and
    /// the pool that the host PASIDs are from.
    ///
    /// Progress: waits for other control calls. Context: may allocate memory.
    ///
    /// # Errors
    /// [`Error::NoPasidSupport`] for a width of 0, [`Error::OutOfMemory`].
    pub fn add_table(&self, width: PasidWidth, pool: S) -> Result<VirtualTable<S>> {
        self.add(width, pool, None)
    }

    /// Adds a table whose entries may point to numbers of `below`, a table of the guest
    /// that runs this one: see [`VirtualTable::attach_below`]. Its PASIDs are from the same
    /// pool. It keeps a handle of `below`.
    ///
    /// Progress: waits for other control calls. Context: may allocate memory.
    ///
    /// # Errors
    /// [`Error::NoPasidSupport`] for a width of 0, [`Error::TooManyLevels`] above 8 tables
    /// over one another, [`Error::OutOfMemory`].
    ///
    /// ```
    /// use pasid::{AliasMap, Error, IdSpace, Pasid, PasidWidth, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let host = space.alloc(space.range(), 0)?;
    /// let [five, nine] = [Pasid::new(5)?, Pasid::new(9)?];
    ///
    /// let (guest, nested) = (AliasMap::new(), AliasMap::new());
    /// let outer = guest.add_table(PasidWidth::new(16)?, &space)?;
    /// let inner = nested.add_nested(PasidWidth::new(8)?, &outer)?;
    /// outer.preload(five.into())?;
    /// inner.preload(nine.into())?;
    ///
    /// // The nested guest's 9 is the guest's 5, which is the host's PASID.
    /// outer.attach(five, host.handle())?;
    /// inner.attach_below(nine, five)?;
    /// assert_eq!(inner.find(nine)?, host.handle());
    ///
    /// // What the guest detaches its nested guest no longer reaches.
    /// outer.detach(five)?;
    /// assert_eq!(inner.find(nine), Err(Error::NotAttached(nine)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn add_nested(
        &self,
        width: PasidWidth,
        below: &VirtualTable<S>,
    ) -> Result<VirtualTable<S>> {
        self.add(width, below.pool().clone(), Some(below))
    }

    fn add(
        &self,
        width: PasidWidth,
        pool: S,
        below: Option<&VirtualTable<S>>,
    ) -> Result<VirtualTable<S>> {
        if width == PasidWidth::ZERO {
            return Err(Error::NoPasidSupport);
        }
        let table = VirtualTable::new(width, pool, below)?;
        self.take_in(table.clone())?;
        Ok(table)
    }

    /// Takes a table into the map.
    pub(crate) fn take_in(&self, table: VirtualTable<S>) -> Result<()> {
        self.tables.with(|tables| lists::push(tables, table))
    }

    /// Takes a table out of the map, when the guest loses the device. Returns whether it was
    /// in it. What it has attached goes with the last handle.
    ///
    /// Progress: waits for other control calls. Context: may give memory back.
    pub fn remove(&self, table: &VirtualTable<S>) -> bool {
        let removed = self.tables.with(|tables| {
            let index = tables.iter().position(|listed| listed.is_same(table));
            index.and_then(|index| lists::take(tables, index))
        });
        // Dropped here and not under the lock: it may be the last handle.
        removed.is_some()
    }

    /// The tables of the map, in the order in which they were added.
    ///
    /// Progress: waits for other control calls. Context: may allocate memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn tables(&self) -> Result<Vec<VirtualTable<S>>> {
        self.tables.with(|tables| {
            let mut listed = lists::with_room(tables.len())?;
            let mut each = tables.iter();
            each.try_for_each(|table| lists::push(&mut listed, table.clone()))?;
            Ok(listed)
        })
    }
}

impl<S: Pool> Default for AliasMap<S> {
    fn default() -> AliasMap<S> {
        AliasMap::new()
    }
}

impl<S: Pool> fmt::Debug for AliasMap<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.tables.with(|tables| tables.len());
        f.debug_struct("AliasMap").field("tables", &count).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
