// SPDX-License-Identifier: MIT OR Apache-2.0
//! Alias maps in snapshots: taking them along, checking them, and building them again.

use super::checking::run;
use super::error::{Offence, Place, RestoreError};
use super::restored::Restored;
use super::{AliasMapSnapshot, AliasRun, BelowSnapshot, SpaceSnapshot, VirtualTableSnapshot};
use crate::alias::{AliasMap, LEVELS, VirtualTable};
use crate::counted::Counted;
use crate::error::{Error, Result};
use crate::lists;
use crate::pasid::{Pasid, PasidWidth};
use crate::pool::Pool;
use crate::source::Source;
use heap::vec::Vec;

/// Alias maps of whatever pools, for [`Space::snapshot_with`](crate::Space::snapshot_with).
///
/// ```
/// use pasid::{AliasMap, Error, Pasid, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set(SetConfig::new(Scope::Global))?;
/// let guest = AliasMap::new();
/// let table = guest.add_table(PasidWidth::new(8)?, &set)?;
/// let (process, seven) = (set.alloc(set.range(), 0)?, Pasid::new(7)?);
/// table.preload(seven.into())?;
/// table.attach(seven, process.handle())?;
///
/// let taken = space.snapshot_with(&[&guest])?;
/// let entry = taken.aliases[0].tables[0].entries[0];
/// assert_eq!((entry.first, entry.count, entry.host), (seven, 1, process.pasid()));
/// # Ok::<(), Error>(())
/// ```
pub trait Aliasing: sealed::Aliasing {}

impl<S: Pool> Aliasing for AliasMap<S> {}

pub(crate) mod sealed {
    use super::{AliasMap, Look, Pool, Result};

    pub trait Aliasing {
        /// Shows each of the map's tables.
        #[doc(hidden)]
        fn look(&self, show: &mut dyn FnMut(Look) -> Result<()>) -> Result<()>;
    }

    impl<S: Pool> Aliasing for AliasMap<S> {
        fn look(&self, show: &mut dyn FnMut(Look) -> Result<()>) -> Result<()> {
            self.tables()?
                .iter()
                .try_for_each(|table| show(super::look(table)?))
        }
    }
}

/// One scan of a virtual table. The pointers only name things.
#[derive(PartialEq, Eq)]
pub struct Look {
    table: *const (),
    below: Option<*const ()>,
    source: *const (),
    width: PasidWidth,
    entries: Vec<AliasRun>,
}

fn look<S: Pool>(table: &VirtualTable<S>) -> Result<Look> {
    let mut entries: Vec<AliasRun> = Vec::new();
    for alias in table.aliases(PasidWidth::MAX.range()) {
        let one = AliasRun {
            first: alias.guest,
            count: 1,
            host: alias.handle.pasid(),
            below: alias.below,
        };
        match entries.last_mut() {
            Some(last) if last.goes_on_with(&one) => last.count += 1,
            _ => lists::push(&mut entries, one)?,
        }
    }
    Ok(Look {
        table: table.address(),
        below: table.below().map(VirtualTable::address),
        source: core::ptr::from_ref(table.pool().source()).cast(),
        width: table.width(),
        entries,
    })
}

impl AliasRun {
    fn goes_on_with(&self, one: &AliasRun) -> bool {
        let next = |pasid: Pasid| pasid.get() + self.count;
        let below = match (self.below, one.below) {
            (None, None) => true,
            (Some(first), Some(below)) => next(first) == below.get(),
            _ => false,
        };
        below && next(self.first) == one.first.get() && next(self.host) == one.host.get()
    }

    /// The entries of a run that was checked: guest's numbers, host PASIDs, numbers below.
    pub(super) fn each(&self) -> impl Iterator<Item = (Pasid, Pasid, Option<Pasid>)> + use<> {
        let run = *self;
        let at = |first: Pasid, place: u32| Pasid::from_index(first.get().saturating_add(place));
        (0..run.count).map(move |place| {
            let below = run.below.map(|below| at(below, place));
            (at(run.first, place), at(run.host, place), below)
        })
    }
}

/// One scan of alias maps: of each map, and in it of each table. No lock may be held: a
/// table's last handle may go meanwhile.
pub(super) fn look_at(maps: &[&dyn Aliasing]) -> Result<Vec<Vec<Look>>> {
    let mut looks: Vec<Vec<Look>> = lists::with_room(maps.len())?;
    for map in maps {
        let mut tables = Vec::new();
        map.look(&mut |look| lists::push(&mut tables, look))?;
        lists::push(&mut looks, tables)?;
    }
    Ok(looks)
}

/// What was seen of alias maps, over sets of the space.
///
/// # Errors
/// [`Error::InvalidScope`] if a table's pool is not one of the sets, or what is below it is
/// in none of the maps.
pub(super) fn take(looks: &[Vec<Look>], sets: &[Counted<Source>]) -> Result<Vec<AliasMapSnapshot>> {
    let place = |wanted: *const ()| {
        (0..).zip(looks).find_map(|(map, tables)| {
            let table = tables.iter().position(|look| look.table == wanted)?;
            let table = u32::try_from(table).ok()?;
            Some(BelowSnapshot { map, table })
        })
    };
    let set = |source: *const ()| {
        let same = |set: &Counted<Source>| core::ptr::from_ref(&**set).cast() == source;
        let index = sets.iter().position(same);
        index.and_then(|index| u32::try_from(index).ok())
    };
    let mut taken = lists::with_room(looks.len())?;
    for map in looks {
        let mut tables = lists::with_room(map.len())?;
        for look in map {
            let below = match look.below {
                None => None,
                Some(below) => Some(place(below).ok_or(Error::InvalidScope)?),
            };
            let mut entries = lists::with_room(look.entries.len())?;
            lists::push_all(&mut entries, &look.entries)?;
            let table = VirtualTableSnapshot {
                width: look.width,
                set: set(look.source).ok_or(Error::InvalidScope)?,
                below,
                entries,
            };
            lists::push(&mut tables, table)?;
        }
        lists::push(&mut taken, AliasMapSnapshot { tables })?;
    }
    Ok(taken)
}

// ---- Checking --------------------------------------------------------------------------

/// The virtual table at that place.
fn at(snapshot: &SpaceSnapshot, place: BelowSnapshot) -> Option<&VirtualTableSnapshot> {
    let map = snapshot.aliases.get(place.map as usize)?;
    map.tables.get(place.table as usize)
}

/// Checks all but whether the references are there.
pub(super) fn check(snapshot: &SpaceSnapshot) -> core::result::Result<(), RestoreError> {
    for (map, aliases) in (0..).zip(&snapshot.aliases) {
        for (table, taken) in (0..).zip(&aliases.tables) {
            let place = Place::VirtualTable { map, table };
            let below = check_place(snapshot, taken);
            let below = below.map_err(|offence| RestoreError::new(place, offence))?;
            let mut after = None;
            for entries in &taken.entries {
                let number = entries.first;
                let place = Place::Alias { map, table, number };
                let last = check_run(taken, below, entries, after);
                after = Some(last.map_err(|offence| RestoreError::new(place, offence))?);
            }
        }
    }
    Ok(())
}

/// Checks what a virtual table is, and returns the one below it.
fn check_place<'a>(
    snapshot: &'a SpaceSnapshot,
    taken: &VirtualTableSnapshot,
) -> Result<Option<&'a VirtualTableSnapshot>, Offence> {
    if taken.width == PasidWidth::ZERO {
        return Err(Offence::DoesNotFit);
    }
    let index = taken.set;
    if snapshot.sets.get(index as usize).is_none() {
        return Err(Offence::Index { index });
    }
    let Some(place) = taken.below else {
        return Ok(None);
    };
    let index = place.table;
    let below = at(snapshot, place).ok_or(Offence::Index { index })?;
    if below.set != taken.set {
        return Err(Offence::Reach);
    }
    // Down to one that lies over none.
    let mut lowest = below;
    for _ in 2..LEVELS {
        match lowest.below {
            None => break,
            Some(place) => {
                let index = place.table;
                lowest = at(snapshot, place).ok_or(Offence::Index { index })?;
            }
        }
    }
    match lowest.below {
        None => Ok(Some(below)),
        Some(_) => Err(Offence::Disorder),
    }
}

/// Checks a run that comes after `after`, and returns its last number.
fn check_run(
    taken: &VirtualTableSnapshot,
    below: Option<&VirtualTableSnapshot>,
    entries: &AliasRun,
    after: Option<Pasid>,
) -> Result<Pasid, Offence> {
    let numbers = run(entries.first, entries.count, after)?;
    run(entries.host, entries.count, None)?;
    if numbers.last() > taken.width.last() {
        return Err(Offence::DoesNotFit);
    }
    match (entries.below, below) {
        (None, _) => {}
        (Some(_), None) => return Err(Offence::Reach),
        (Some(first), Some(below)) => {
            if run(first, entries.count, None)?.last() > below.width.last() {
                return Err(Offence::DoesNotFit);
            }
        }
    }
    Ok(numbers.last())
}

// ---- Building them again -----------------------------------------------------------------

impl Restored {
    /// The alias maps of the snapshot, with the entries that they had, in the order in which
    /// they were named when it was taken. They can be had once. `pool` says how a set, by its
    /// index, is to be held: all in the same way, so maps over sets of different payloads go
    /// into snapshots of their own, see [`SpaceSnapshot::only`].
    ///
    /// Progress: waits for nobody. Context: allocates memory.
    ///
    /// ```
    /// use pasid::snapshot::Restore;
    /// use pasid::{AliasMap, Pasid, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind};
    /// use std::sync::Arc;
    ///
    /// let host = Space::new(SpaceKind::Global);
    /// let set = host.add_set(SetConfig::new(Scope::Global))?;
    /// let guest = AliasMap::new();
    /// let device = guest.add_table(PasidWidth::new(8)?, &set)?;
    /// let five = Pasid::new(5)?;
    /// device.preload(five.into())?;
    /// let process = set.alloc(set.range(), 0)?;
    /// device.attach(five, process.handle())?;
    /// let snapshot = host.snapshot_with(&[&guest])?;
    ///
    /// let other = Space::new(SpaceKind::Global);
    /// let mut restored = Restore::new(&snapshot).into_space(&other)?;
    /// let set = Arc::new(restored.set::<u64>(0).expect("a set of words"));
    /// let maps = restored.alias_maps(|_| Ok(set.clone()))?;
    /// let device = &maps[0].tables()?[0];
    /// assert_eq!(device.find(five)?.pasid(), process.pasid());
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::WrongSet`] if a pool is not the set that was restored, what `pool` says, and
    /// [`Error::OutOfMemory`]. Then the entries' references are back, and the maps can be had
    /// by another call.
    pub fn alias_maps<S: Pool>(
        &mut self,
        mut pool: impl FnMut(usize) -> Result<S>,
    ) -> Result<Vec<AliasMap<S>>> {
        let taken = core::mem::take(&mut self.aliases);
        let built = self.build_maps(&taken, &mut pool);
        if built.is_err() {
            self.aliases = taken;
        }
        built
    }

    fn build_maps<S: Pool>(
        &mut self,
        taken: &[AliasMapSnapshot],
        pool: &mut impl FnMut(usize) -> Result<S>,
    ) -> Result<Vec<AliasMap<S>>> {
        let mut maps = lists::with_room(taken.len())?;
        let mut tables: Vec<Vec<Option<VirtualTable<S>>>> = lists::with_room(taken.len())?;
        for map in taken {
            lists::push(&mut maps, AliasMap::new())?;
            let mut none = lists::with_room(map.tables.len())?;
            let mut each = map.tables.iter();
            each.try_for_each(|_| lists::push(&mut none, None))?;
            lists::push(&mut tables, none)?;
        }
        // All that may fail, before references are handed over. What lies over another comes
        // in a later round, and in its place in the map in the end.
        for _ in 0..LEVELS {
            for (map, snapshot) in taken.iter().enumerate() {
                for (index, snapshot) in snapshot.tables.iter().enumerate() {
                    let built = |place: BelowSnapshot| {
                        let tables = tables.get(place.map as usize)?;
                        tables.get(place.table as usize)?.clone()
                    };
                    let below = match snapshot.below.map(built) {
                        None => None,
                        Some(None) => continue,
                        Some(Some(below)) => Some(below),
                    };
                    let place = tables.get_mut(map).and_then(|tables| tables.get_mut(index));
                    if let Some(place @ None) = place {
                        *place = Some(self.build(snapshot, below.as_ref(), pool)?);
                    }
                }
            }
        }
        for (map, tables) in maps.iter().zip(&tables) {
            for table in tables.iter().flatten() {
                map.take_in(table.clone())?;
            }
        }
        for (map, tables) in taken.iter().zip(&tables) {
            for (taken, table) in map.tables.iter().zip(tables) {
                if let Some(table) = table {
                    self.enter(taken, table);
                }
            }
        }
        Ok(maps)
    }

    /// One virtual table, with memory for its entries and without them.
    fn build<S: Pool>(
        &self,
        taken: &VirtualTableSnapshot,
        below: Option<&VirtualTable<S>>,
        pool: &mut impl FnMut(usize) -> Result<S>,
    ) -> Result<VirtualTable<S>> {
        let set = taken.set as usize;
        let pool = match below {
            Some(below) => below.pool().clone(),
            None => pool(set)?,
        };
        let source = core::ptr::from_ref(pool.source()).cast::<Source>();
        let restored = self.sets.get(set);
        if !restored.is_some_and(|set| core::ptr::eq(&*set.source, source)) {
            let first = taken.entries.first().map(|run| run.host);
            return Err(Error::WrongSet(first.unwrap_or(Pasid::ZERO)));
        }
        let table = VirtualTable::new(taken.width, pool, below)?;
        for run in &taken.entries {
            let numbers = run.each();
            let (first, last) = (run.first, numbers.last().map(|(last, ..)| last));
            let range = crate::range::PasidRange::new(first, last.unwrap_or(first))?;
            table.preload(range)?;
        }
        Ok(table)
    }

    /// Hands the entries' references over to a table that has memory for them.
    fn enter<S: Pool>(&mut self, taken: &VirtualTableSnapshot, table: &VirtualTable<S>) {
        let Some(set) = self.sets.get_mut(taken.set as usize) else {
            return;
        };
        for (guest, host, below) in taken.entries.iter().flat_map(AliasRun::each) {
            let Some(item) = super::restored::item_of(&mut set.items, host) else {
                continue;
            };
            if let (Some(handle), Some(left)) = (item.new, item.aliases.checked_sub(1)) {
                if table.take_over(guest, below, handle) {
                    item.aliases = left;
                }
            }
        }
    }
}
