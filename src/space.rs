// SPDX-License-Identifier: MIT OR Apache-2.0
//! The space: all tables of one machine, and the global PASIDs that span them.

use crate::alloc::RESERVED_BY_DEFAULT;
use crate::counted::Counted;
use crate::error::{Error, Result};
use crate::kind::SpaceKind;
use crate::link::{Link, boxed};
use crate::lists;
use crate::lock::ControlLock;
use crate::pasid::{Pasid, PasidWidth};
use crate::range::PasidRange;
use crate::set::{IoasidSet, Scope, SetConfig};
use crate::shared::Shared;
use crate::source::{Parts, Reach, Source};
use crate::state::SetIndex;
use crate::sync::{Mutation, const_unless_loom, planted};
use crate::table::{Table, TableConfig};
use core::fmt;
use heap::vec::Vec;

mod meaning;

use meaning::{pieces, reach};

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

/// The tables and sets that are there. What is closed and gone is forgotten by the next
/// control call, so that no data call frees memory while the space is there.
struct Registry {
    tables: Vec<Table>,
    sets: Vec<IoasidSet>,
    tables_made: u64,
}

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

    /// The same space with a capacity: the most PASIDs that all of its sets together may
    /// have. Each set reserves its quota out of it when it is added; one without a quota
    /// reserves as many PASIDs as its range has.
    ///
    /// For a new space: once there is a table or a set it has no effect.
    ///
    /// ```
    /// use pasid::{Error, Scope, SetConfig, Space, SpaceKind};
    ///
    /// let space = Space::new(SpaceKind::Global).with_capacity(100);
    /// let set = space.add_set(SetConfig::new(Scope::Global).quota(60))?;
    /// let more = SetConfig::new(Scope::Global).quota(50);
    /// assert_eq!(space.add_set(more.clone()).err(), Some(Error::CapacityExceeded { left: 40 }));
    /// set.set_quota(50)?;
    /// assert!(space.add_set(more).is_ok());
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub const fn with_capacity(mut self, capacity: u32) -> Space {
        self.capacity = Some(capacity);
        self
    }

    /// Which sets the space is for.
    pub const fn kind(&self) -> SpaceKind {
        self.kind
    }

    // ---- Tables ------------------------------------------------------------------

    /// Adds a table.
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
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn tables(&self) -> Result<Vec<Table>> {
        self.listed(|registry| &registry.tables, |table| !table.is_closing())
    }

    // ---- Sets --------------------------------------------------------------------

    /// Adds a set.
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
        let inner = self.inner()?;
        inner.forget_gone();
        // Outlives the lock: if the set is refused, the observer is dropped here, and may
        // make control calls.
        let _observer = config.observer.clone();
        inner
            .registry
            .with(|registry| registry.add_set(&inner.shared, config))
    }

    /// The open set with that token.
    #[doc(alias = "ioasid_find_mm_set")]
    pub fn find_set(&self, token: u64) -> Option<IoasidSet> {
        let inner = self.inner.follow()?;
        inner.forget_gone();
        inner
            .registry
            .with(|registry| registry.open_set(token).cloned())
    }

    /// The sets that are open, in the order in which they were added.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn sets(&self) -> Result<Vec<IoasidSet>> {
        self.listed(|registry| &registry.sets, |set| !set.is_closing())
    }

    // ---- Reservations, capacity and memory -----------------------------------------

    /// Reserves `pasid` on every table, also on those added later.
    ///
    /// In a space of table sets alone, which has no PASIDs of its own, reserve on each
    /// table, or when the space is built.
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

    /// Takes a reservation of [`Space::reserve`] away.
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
    pub fn capacity_left(&self) -> Option<u32> {
        let Some(inner) = self.inner.follow() else {
            return self.capacity;
        };
        inner.forget_gone();
        let capacity = inner.shared.capacity.as_ref()?;
        let (reserved, total) = capacity.reserved_of();
        Some(total - reserved)
    }

    /// Bytes of memory in use by the space and its tables and sets.
    pub fn memory_bytes(&self) -> usize {
        let Some(inner) = self.inner.follow() else {
            return size_of::<Space>();
        };
        let own = size_of::<Space>() + size_of::<Inner>() + inner.shared.memory_bytes();
        inner.forget_gone();
        inner.registry.with(|registry| {
            let tables = registry.tables.iter().map(Table::memory_bytes);
            let sets = registry.sets.iter().map(|set| set.source().own_bytes());
            own + tables.sum::<usize>() + sets.sum::<usize>()
        })
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

    fn listed<T: Clone>(
        &self,
        of: impl FnOnce(&Registry) -> &Vec<T>,
        open: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>> {
        let mut listed = Vec::new();
        let Some(inner) = self.inner.follow() else {
            return Ok(listed);
        };
        inner.forget_gone();
        inner.registry.with(|registry| {
            let all = of(registry);
            let room = listed.try_reserve_exact(all.len());
            room.map_err(|_| Error::OutOfMemory)?;
            for one in all.iter().filter(|&one| open(one)) {
                lists::push(&mut listed, one.clone())?;
            }
            Ok(listed)
        })
    }
}

impl Inner {
    /// Forgets the sets and tables that are closed and gone. Each is dropped after the
    /// lock is given back, since its observer may be dropped with it.
    fn forget_gone(&self) {
        while let Some(set) = self.registry.with(Registry::take_gone_set) {
            drop(set);
        }
        while let Some(table) = self.registry.with(Registry::take_gone_table) {
            drop(table);
        }
    }
}

impl Registry {
    fn open_set(&self, token: u64) -> Option<&IoasidSet> {
        let mut open = self.sets.iter().filter(|set| !set.is_closing());
        open.find(|set| set.token() == Some(token))
    }

    fn add_set(&mut self, shared: &Counted<Shared>, config: SetConfig<'_>) -> Result<IoasidSet> {
        if let Some(token) = config.token {
            if self.open_set(token).is_some() {
                return Err(Error::TokenInUse { token });
            }
        }
        let reach = reach(shared, config.scope)?;
        let width = match &reach {
            Reach::Global => PasidWidth::MAX,
            Reach::Local(table) => table.ids.width(),
            Reach::Group { own, .. } => own.width(),
        };
        let pieces = pieces(config.range, config.reserved, width)?;
        let index = self.free_index(shared, &reach).ok_or(Error::TooManySets)?;
        self.sets.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        let source = Source::new(
            shared.clone(),
            Parts {
                reach,
                index,
                pieces,
                policy: config.policy,
                token: config.token,
                quota: config.quota,
                observer: config.observer,
            },
        );
        let share = source.share();
        let source = Counted::new(source).ok_or(Error::OutOfMemory)?;
        if let Some(capacity) = &shared.capacity {
            let reserved = capacity.reserve(share);
            reserved.map_err(|left| Error::CapacityExceeded { left })?;
        }
        let set = IoasidSet::of(source);
        if let Scope::Local(table) = config.scope {
            if let Err(error) = table.list_set(set.source()) {
                set.source().return_share();
                return Err(error);
            }
        }
        // There is room since above.
        lists::push(&mut self.sets, set.clone())?;
        Ok(set)
    }

    /// An index that none of the sets has whose PASIDs are in the same slots.
    fn free_index(&self, shared: &Counted<Shared>, reach: &Reach) -> Option<SetIndex> {
        let mut used = [0u64; (SetIndex::LAST as usize + 1) / 64];
        for set in &self.sets {
            let other = set.source();
            let same = match (reach, other.reach()) {
                (Reach::Global, Reach::Global) => other.shared().ptr_eq(shared),
                (Reach::Local(table), Reach::Local(theirs)) => table.ptr_eq(theirs),
                _ => false,
            };
            if same {
                let index = usize::from(other.index().get());
                if let Some(word) = used.get_mut(index / 64) {
                    *word |= 1 << (index % 64);
                }
            }
        }
        used[0] |= 1;
        let mut words = used.iter().enumerate();
        let (place, word) = words.find(|&(_, &word)| word != u64::MAX)?;
        let index = place * 64 + word.trailing_ones() as usize;
        SetIndex::new(index as u16)
    }

    /// Takes out a set that is closed, and that nobody has a handle of, a PASID of, or an
    /// attachment to.
    fn take_gone_set(&mut self) -> Option<IoasidSet> {
        let gone = self.sets.iter().position(|set| {
            let source = set.source();
            // A local set has one reference more, in its table's list.
            let referred = match source.reach() {
                Reach::Local(_) => 2,
                Reach::Global | Reach::Group { .. } => 1,
            };
            let held = source.count() != referred || !source.is_empty();
            source.is_closing() && (!held || planted(Mutation::ForgottenWhileHeld))
        })?;
        let set = lists::take(&mut self.sets, gone)?;
        if let Reach::Local(ids) = set.source().reach() {
            let own = self.tables.iter().find(|table| table.has_ids(ids));
            own.into_iter()
                .for_each(|table| table.unlist_set(set.source()));
        }
        set.source().return_share();
        Some(set)
    }

    /// Takes out a table that is closed, and that nobody has a handle of, an attachment
    /// to, or a set of.
    fn take_gone_table(&mut self) -> Option<Table> {
        let gone = self.tables.iter().position(Table::is_gone)?;
        let table = lists::take(&mut self.tables, gone)?;
        table.take_reservations_back();
        Some(table)
    }
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
