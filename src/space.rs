// SPDX-License-Identifier: MIT OR Apache-2.0
//! The space: all tables of one machine, and the global PASIDs that span them.

use crate::counted::Counted;
use crate::error::{Error, Result};
use crate::kind::SpaceKind;
use crate::link::{Link, boxed};
use crate::lists;
use crate::lock::ControlLock;
use crate::pasid::{Pasid, PasidWidth};
use crate::payload::{Kind, Payload};
use crate::range::PasidRange;
use crate::set::{IoasidSet, SetConfig};
use crate::shared::Shared;
use crate::source::Source;
use crate::table::{Table, TableConfig};
use core::fmt;
use heap::vec::Vec;

mod building;
mod meaning;
mod registry;

use registry::Registry;

/// All PASID tables of one machine, or of one virtual machine, and the global PASIDs that
/// span them.
///
/// The space is where tables and sets are added and found. Allocating is done from a
/// set, and no call of a set waits for one of the space. It can be a `static`: it owns no
/// memory before the first table or set.
///
/// What is promised between the sets of one space, at every instant: a PASID of a global
/// set is live in no other set at all; one of a table's or a group's set in no other set
/// that shares a table with it. Sets that share no table may have the same PASID.
///
/// The calls below are *control calls*: they may allocate memory, and wait for each other.
/// They are not for interrupt handlers that may have interrupted one of them.
///
/// ```
/// use pasid::{Error, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind, TableConfig};
///
/// static SPACE: Space = Space::new(SpaceKind::Both);
///
/// let table = SPACE.add_table(TableConfig::new(PasidWidth::MAX))?;
/// let drivers = SPACE.add_set(SetConfig::new(Scope::Local(&table)))?;
/// let users = SPACE.add_set(SetConfig::new(Scope::Global))?;
/// let dma = drivers.alloc(drivers.range(), 0)?;
/// let process = users.alloc(users.range(), 0)?;
/// assert_eq!((dma.pasid().get(), process.pasid().get()), (1, 2));
/// // What there is, for who looks after the machine.
/// assert!(SPACE.kind() == SpaceKind::Both && SPACE.tables()?[0].is_same(&table));
/// assert!(SPACE.sets()?.len() == 2 && SPACE.find_set(7).is_none());
/// assert!(SPACE.capacity_left().is_none() && SPACE.memory_bytes() > 0);
/// let number = pasid::Pasid::new(100)?;
/// SPACE.reserve(number)?;
/// assert_eq!(users.alloc_at(number, 0).err(), Some(Error::Reserved(number)));
/// SPACE.unreserve(number)?;
///
/// // Closed, and not gone before its last PASID and handle.
/// drivers.close();
/// assert_eq!((SPACE.sets()?.len(), SPACE.closing_sets()?.len()), (1, 1));
/// # Ok::<(), Error>(())
/// ```
pub struct Space {
    kind: SpaceKind,
    reserved: &'static [PasidRange],
    capacity: Option<u32>,
    /// Built with the first table or set.
    inner: Link<Inner>,
}

struct Inner {
    shared: Counted<Shared>,
    registry: ControlLock<Registry>,
}

impl Space {
    /// Which sets the space is for.
    ///
    /// Progress: wait-free. Context: any.
    pub const fn kind(&self) -> SpaceKind {
        self.kind
    }

    // ---- Tables ------------------------------------------------------------------

    /// Adds a table.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    ///
    /// # Errors
    /// [`Error::NoPasidSupport`] for a width of 0; [`Error::HeldGlobally`] if a global set
    /// holds a PASID that is reserved on the table, which it names;
    /// [`Error::OutOfMemory`]. Nothing is changed then.
    ///
    /// What [`Space::reserve`] reserved may be among the table's reserved values, and
    /// cannot be taken back while the table is there.
    pub fn add_table(&self, config: TableConfig<'_>) -> Result<Table> {
        if config.width == PasidWidth::ZERO {
            return Err(Error::NoPasidSupport);
        }
        let inner = self.inner()?;
        inner.forget_gone();
        inner.registry.with(|registry| {
            let tables = &mut registry.tables;
            tables.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
            let table = Table::new(&inner.shared, config, registry.tables_made)?;
            registry.tables_made += 1;
            lists::push(tables, table.clone())?;
            Ok(table)
        })
    }

    /// The tables that are open, in the order in which they were added.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn tables(&self) -> Result<Vec<Table>> {
        self.tables_that(false)
    }

    /// The tables that are closed and not gone, in the order in which they were added: a
    /// handle is held, or something is attached, live, or awaits a flush. So it can be
    /// flushed also by whoever kept no handle.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    ///
    /// ```
    /// use pasid::{Error, Flush, PasidWidth, Pool, Reuse, Scope, SetConfig, Space, SpaceKind};
    /// use pasid::TableConfig;
    ///
    /// let space = Space::new(SpaceKind::Tables);
    /// let table = space.add_table(TableConfig::new(PasidWidth::MAX))?;
    /// let config = SetConfig::new(Scope::Local(&table)).reuse(Reuse::AfterFlush);
    /// let drivers = space.add_set(config)?;
    /// drop(drivers.alloc(drivers.range(), 0)?);
    /// table.close();
    /// drop((drivers, table));
    /// for table in &space.closing_tables()? {
    ///     // Nothing to invalidate: the device is gone.
    ///     assert_eq!(table.flush(|_| Ok::<(), Error>(()))?, 1);
    /// }
    /// assert!(space.closing_tables()?.is_empty());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn closing_tables(&self) -> Result<Vec<Table>> {
        self.tables_that(true)
    }

    fn tables_that(&self, are_closing: bool) -> Result<Vec<Table>> {
        let pick = |table: &Table| (table.is_closing() == are_closing).then(|| table.clone());
        self.listed(|registry| &registry.tables, pick)
    }

    // ---- Sets --------------------------------------------------------------------

    /// Adds a set whose PASIDs carry a word.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if the space is not for sets of that scope;
    /// [`Error::InvalidScope`] if a group names no table or one twice, or a table is
    /// another space's; [`Error::Closing`] if a table is; [`Error::OutsideSet`] if the
    /// set reserves all of its range, [`Error::DoesNotFit`] if its range begins beyond the
    /// width of its tables; [`Error::CapacityExceeded`], [`Error::TokenInUse`],
    /// [`Error::TooManySets`], [`Error::OutOfMemory`]. Nothing is changed then.
    #[doc(alias = "ioasid_set_alloc")]
    pub fn add_set(&self, config: SetConfig<'_>) -> Result<IoasidSet> {
        self.add_set_of(config)
    }

    /// Adds a set whose PASIDs carry a payload of that type: see [`Payload`].
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    ///
    /// # Errors
    /// As [`Space::add_set`].
    pub fn add_set_of<P: Payload>(&self, config: SetConfig<'_>) -> Result<IoasidSet<P>> {
        let source = self.add_source(config, Kind::of::<P>())?;
        // SAFETY: built for payloads of this type.
        Ok(unsafe { IoasidSet::of(source) })
    }

    pub(crate) fn add_source(&self, config: SetConfig<'_>, kind: Kind) -> Result<Counted<Source>> {
        let inner = self.inner()?;
        inner.forget_gone();
        // Outlive the lock: if the set is refused, they are dropped here, and may make
        // control calls.
        let _told = (config.observer.clone(), config.flusher.clone());
        inner
            .registry
            .with(|registry| registry.add_set(&inner.shared, config, kind))
    }

    /// The open set with that token, if its PASIDs carry words.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    #[doc(alias = "ioasid_find_mm_set")]
    pub fn find_set(&self, token: u64) -> Option<IoasidSet> {
        self.find_set_of(token)
    }

    /// The open set with that token, if its payloads are of that very type. A token names
    /// one open set, of whatever type.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    ///
    /// ```
    /// use pasid::{Error, Scope, SetConfig, Space, SpaceKind};
    ///
    /// let space = Space::new(SpaceKind::Global);
    /// let set = space.add_set_of::<()>(SetConfig::new(Scope::Global).token(7))?;
    /// assert!(space.find_set_of::<()>(7).is_some_and(|found| found.is_same(&set)));
    /// assert!(space.find_set(7).is_none());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn find_set_of<P: Payload>(&self, token: u64) -> Option<IoasidSet<P>> {
        let inner = self.inner.follow()?;
        inner.forget_gone();
        let find = |registry: &mut Registry| {
            let set = registry.open_set(token)?;
            (!set.is_hidden()).then(|| set.clone())
        };
        typed(inner.registry.with(find)?)
    }

    /// The sets that are open and whose PASIDs carry words, in the order in which they
    /// were added.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn sets(&self) -> Result<Vec<IoasidSet>> {
        self.sets_of()
    }

    /// The sets that are open and whose payloads are of that very type, in the order in
    /// which they were added.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn sets_of<P: Payload>(&self) -> Result<Vec<IoasidSet<P>>> {
        self.sets_that(false)
    }

    /// The sets that are closed and not gone and whose PASIDs carry words, in the order in
    /// which they were added: a handle is held, or something is attached, being freed, or
    /// awaits a flush. So it can be flushed also by whoever kept no handle.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn closing_sets(&self) -> Result<Vec<IoasidSet>> {
        self.closing_sets_of()
    }

    /// As [`Space::closing_sets`], the sets whose payloads are of that very type.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn closing_sets_of<P: Payload>(&self) -> Result<Vec<IoasidSet<P>>> {
        self.sets_that(true)
    }

    fn sets_that<P: Payload>(&self, are_closing: bool) -> Result<Vec<IoasidSet<P>>> {
        let pick = |set: &Counted<Source>| match set.is_closing() == are_closing && !set.is_hidden()
        {
            true => typed(set.clone()),
            false => None,
        };
        self.listed(|registry| &registry.sets, pick)
    }

    // ---- Reservations, capacity and memory -----------------------------------------

    /// Reserves `pasid` on every table, also on those added later.
    ///
    /// In a space of table sets alone, which has no PASIDs of its own, reserve on each
    /// table, or when the space is built.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    ///
    /// # Errors
    /// [`Error::HeldGlobally`], [`Error::HeldLocally`] if a set holds it or a table
    /// reserves it; [`Error::InUse`] if it was used up; [`Error::Reserved`],
    /// [`Error::WrongKind`], [`Error::OutOfMemory`]. Nothing is changed then.
    pub fn reserve(&self, pasid: Pasid) -> Result<()> {
        let inner = self.inner()?;
        inner.forget_gone();
        inner.registry.with(|_| inner.shared.reserve(pasid))
    }

    /// Whether the space itself reserves `pasid`.
    pub(crate) fn reserves(&self, pasid: Pasid) -> bool {
        let built = |range: &PasidRange| range.contains(pasid);
        let added = |shared: &Counted<Shared>| shared.is_reserved_by_space(pasid);
        self.reserved.iter().any(built) || self.shared().is_some_and(added)
    }

    /// Takes a reservation of [`Space::reserve`] away.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, or it came with the space;
    /// [`Error::HeldLocally`] if a table was built since that reserves it too, and rests on
    /// this; [`Error::WrongKind`], [`Error::OutOfMemory`].
    pub fn unreserve(&self, pasid: Pasid) -> Result<()> {
        let inner = self.inner()?;
        inner.forget_gone();
        inner.registry.with(|registry| {
            let listed = || registry.tables.iter().any(|table| table.lists(pasid));
            inner.shared.unreserve(pasid, listed)
        })
    }

    /// What is left of the space's capacity, if it was given one, in PASIDs.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    pub fn capacity_left(&self) -> Option<u32> {
        let Some(inner) = self.inner.follow() else {
            return self.capacity;
        };
        inner.forget_gone();
        let capacity = inner.shared.capacity.as_ref()?;
        let (reserved, total) = capacity.reserved_of();
        Some(total - reserved)
    }

    /// Bytes of memory in use by the space and its tables and sets, without what a fault in
    /// flight keeps of groups that are gone.
    ///
    /// Progress: waits for other control calls. Context: where these may be waited for, and
    /// memory allocated and freed.
    pub fn memory_bytes(&self) -> usize {
        let Some(inner) = self.inner.follow() else {
            return size_of::<Space>();
        };
        let own = size_of::<Space>() + size_of::<Inner>() + inner.shared.memory_bytes();
        inner.forget_gone();
        inner.registry.with(|registry| {
            let tables = registry.tables.iter().map(Table::memory_bytes);
            let sets = registry.sets.iter().map(|set| set.own_bytes());
            own + tables.sum::<usize>() + sets.sum::<usize>()
        })
    }

    /// Shows what the space has: in common, its tables and its sets, all that are not gone.
    pub(crate) fn with_all<T>(
        &self,
        show: impl FnOnce(&Shared, &[Table], &[Counted<Source>]) -> Result<T>,
    ) -> Result<T> {
        let inner = self.inner()?;
        inner.forget_gone();
        inner
            .registry
            .with(|registry| show(&inner.shared, &registry.tables, &registry.sets))
    }

    /// What the tables and sets have in common, once there are any.
    pub(crate) fn shared(&self) -> Option<&Counted<Shared>> {
        self.inner.follow().map(|inner| &inner.shared)
    }

    fn inner(&self) -> Result<&Inner> {
        if let Some(inner) = self.inner.follow() {
            return Ok(inner);
        }
        let shared = Shared::new(self.kind, self.reserved, self.capacity);
        let shared = Counted::new(shared).ok_or(Error::OutOfMemory)?;
        let registry = ControlLock::new(Registry {
            tables: Vec::new(),
            sets: Vec::new(),
            tables_made: 0,
        });
        let build = |place: *mut Inner| {
            // SAFETY: `boxed` gives a place that is valid for writes of an Inner.
            unsafe { place.write(Inner { shared, registry }) };
        };
        // SAFETY: `build` writes a whole Inner.
        let inner = unsafe { boxed(build) }.ok_or(Error::OutOfMemory)?;
        Ok(self.inner.publish(inner))
    }

    /// Those of what is in the registry that `pick` makes something of.
    fn listed<T, U>(
        &self,
        of: impl FnOnce(&Registry) -> &Vec<T>,
        pick: impl Fn(&T) -> Option<U>,
    ) -> Result<Vec<U>> {
        let mut listed = Vec::new();
        let Some(inner) = self.inner.follow() else {
            return Ok(listed);
        };
        inner.forget_gone();
        inner.registry.with(|registry| {
            let all = of(registry);
            let room = listed.try_reserve_exact(all.len());
            room.map_err(|_| Error::OutOfMemory)?;
            for one in all.iter().filter_map(pick) {
                lists::push(&mut listed, one)?;
            }
            Ok(listed)
        })
    }
}

impl Inner {
    /// Forgets the sets and tables that are closed and gone, and what is left of groups
    /// that went while faults looked at them. Each is dropped after the
    /// lock is given back, since its observer may be dropped with it.
    fn forget_gone(&self) {
        while let Some(set) = self.registry.with(Registry::take_gone_set) {
            drop(set);
        }
        while let Some(table) = self.registry.with(Registry::take_gone_table) {
            drop(table);
        }
        let tables = |registry: &mut Registry| {
            registry.tables.iter().for_each(Table::forget_groups);
        };
        self.registry.with(tables);
    }
}

/// The set as one of payloads of a type, if it is.
pub(crate) fn typed<P: Payload>(source: Counted<Source>) -> Option<IoasidSet<P>> {
    // SAFETY: looked at just before.
    (source.kind.is::<P>()).then(|| unsafe { IoasidSet::of(source) })
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space")
            .field("kind", &self.kind)
            .field("reserved", &self.reserved)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
