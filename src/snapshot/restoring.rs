// SPDX-License-Identifier: MIT OR Apache-2.0
//! Restoring a snapshot: all of it, or nothing.
//!
//! # Steps
//! First the snapshot is checked as data. Then everything is built that the space may
//! refuse, in a way that can be undone without a trace: tables and sets, each PASID with its
//! owner's reference alone, and attachments that are reserved and not committed. Last comes
//! what is not refused: references, pins, revocations, quarantine. Committing attachments
//! stands between, since a table may be paused or closed meanwhile.
//!
//! Sets are hidden until all has succeeded: nobody finds them by token or in lists, so nobody
//! can have a reference, and what is undone was never anybody's.

use super::checking::{check, narrowed, numbers, words};
use super::error::{Offence, Place, RestoreError};
use super::restored::{Item, Placed, Restored, RestoredSet, RestoredTable};
use super::{
    AliasMapSnapshot, AliasRun, PayloadSnapshot, PhaseSnapshot, ScopeSnapshot, SetSnapshot,
    SpaceSnapshot, VirtualTableSnapshot,
};
use crate::attach::{Attach, Holder, sealed};
use crate::counted::Counted;
use crate::error::{Error, Result as Answer};
use crate::grant::Allocate;
use crate::handle::Handle;
use crate::lists;
use crate::pasid::Pasid;
use crate::payload::Kind;
use crate::radix::MAY_GROW;
use crate::range::PasidRange;
use crate::set::{Scope, SetConfig};
use crate::slot::Slot;
use crate::source::Source;
use crate::space::Space;
use crate::table::{Table, TableConfig};
use heap::vec::Vec;

type Done<T = ()> = Result<T, RestoreError>;

/// Changes the configuration of a set that is being restored; see [`Restore::configure`].
pub type Configure<'a> = dyn for<'c> Fn(usize, SetConfig<'c>) -> SetConfig<'c> + 'a;

/// Which numbers the PASIDs have after they were restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Numbers {
    /// The same as before.
    #[default]
    Same,
    /// New ones, by the policies of the sets and such that fit the tables to which each is
    /// attached, where the old ones may be in use: for guests,
    /// which know their aliases and not these. What was in quarantine is left out, since no
    /// device here can remember its number, and so are cursors.
    New,
}

/// Restores a snapshot into a space, which may be occupied.
///
/// ```
/// use pasid::snapshot::Restore;
/// use pasid::{Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let before = Space::new(SpaceKind::Global);
/// let guest = before.add_set(SetConfig::new(Scope::Global).token(7))?;
/// let process = guest.alloc(guest.range(), 0xFEED)?;
/// let snapshot = before.snapshot()?;
///
/// // On another host.
/// let space = Space::new(SpaceKind::Global);
/// let mut restored = Restore::new(&snapshot).into_space(&space)?;
/// let guest = restored.set::<u64>(0).expect("a set of words");
/// let claimed = restored.claim(&guest, process.handle())?;
/// assert_eq!((claimed.pasid(), claimed.word()), (process.pasid(), 0xFEED));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[must_use = "nothing is restored until it is said where"]
#[derive(Clone, Copy)]
pub struct Restore<'a> {
    snapshot: &'a SpaceSnapshot,
    numbers: Numbers,
    tables: &'a [(usize, &'a Table)],
    configure: Option<&'a Configure<'a>>,
}

impl<'a> Restore<'a> {
    /// Restores all of `snapshot`, with the same numbers, onto tables that are added.
    pub const fn new(snapshot: &'a SpaceSnapshot) -> Restore<'a> {
        Restore {
            snapshot,
            numbers: Numbers::Same,
            tables: &[],
            configure: None,
        }
    }

    /// With these numbers.
    pub const fn numbers(mut self, numbers: Numbers) -> Restore<'a> {
        self.numbers = numbers;
        self
    }

    /// These tables of the snapshot, by their indices, are tables that the space has
    /// already, another one for each. They stay what they are: reservations and devices of the snapshot's
    /// are not applied to them. All others are added.
    pub const fn on_tables(mut self, tables: &'a [(usize, &'a Table)]) -> Restore<'a> {
        self.tables = tables;
        self
    }

    /// Each set, by its index, is added as `configure` says, which is given what the
    /// snapshot says: for observers and flushers, which are not in a snapshot, and for
    /// another quota or token. The range must hold what is restored.
    pub const fn configure(mut self, configure: &'a Configure<'a>) -> Restore<'a> {
        self.configure = Some(configure);
        self
    }

    /// Whether the snapshot is whole and keeps the rules, before it is known where it
    /// goes.
    ///
    /// Context: allocates memory.
    ///
    /// # Errors
    /// The first offence.
    pub fn check(&self) -> Result<(), RestoreError> {
        check(self.snapshot)?;
        Plan::new(self.snapshot, self.tables).map(|_| ())
    }

    /// Restores, and returns what is to be claimed.
    ///
    /// Observers are told of the allocations, and of revocations, as if somebody made these
    /// calls now.
    ///
    /// Progress: waits for other control calls. Context: allocates memory.
    ///
    /// # Errors
    /// The first offence: of the snapshot, as [`Restore::check`], or what the space refuses.
    /// The space is then as it was, but for memory that was put in place and generations that
    /// were used; observers were told of what was undone. Until it has succeeded nobody finds
    /// the sets.
    pub fn into_space(self, space: &Space) -> Result<Restored, RestoreError> {
        self.check_tables()?;
        check(self.snapshot)?;
        let plan = Plan::new(self.snapshot, self.tables)?;
        let mut restored = Restored::new();
        restored.aliases = plan.aliases;
        self.build(space, plan.sets, &mut restored)
            .inspect_err(|_| restored.undo(space))?;
        restored.finish(self.snapshot, self.numbers);
        Ok(restored)
    }

    /// Whether `on_tables` names tables of the snapshot, and each table once.
    fn check_tables(&self) -> Done {
        for (place, &(index, table)) in self.tables.iter().enumerate() {
            let mut before = self.tables.iter().take(place);
            let twice = before.any(|&(other, same)| other == index || same.is_same(table));
            if twice || index >= self.snapshot.tables.len() {
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                let offence = Offence::Index { index };
                return Err(RestoreError::new(Place::Snapshot, offence));
            }
        }
        Ok(())
    }

    // ---- What can be refused -------------------------------------------------------

    fn build(&self, space: &Space, plan: Vec<Vec<Item>>, restored: &mut Restored) -> Done {
        let whole = RestoreError::refused(Place::Snapshot);
        self.reserve(space, restored)?;
        for index in 0..self.snapshot.tables.len() {
            let table = self.table(space, index)?;
            lists::push(&mut restored.tables, table).map_err(&whole)?;
        }
        for (index, items) in (0..).zip(plan) {
            let source = self.add_set(space, index, restored)?;
            let set = RestoredSet { source, items };
            lists::push(&mut restored.sets, set).map_err(&whole)?;
        }
        for (index, set) in (0..).zip(&mut restored.sets) {
            self.allocate(index, set)?;
        }
        for index in 0..self.snapshot.tables.len() {
            self.attach(index, restored)?;
        }
        for (index, table) in (0..).zip(&self.snapshot.tables) {
            self.join(index, table, restored)?;
        }
        restored.commit()
    }

    /// Reserves what the space of the snapshot reserved and this one does not.
    fn reserve(&self, space: &Space, restored: &mut Restored) -> Done {
        let out = RestoreError::refused(Place::Snapshot);
        for range in &self.snapshot.reserved {
            for number in range.first().get()..=range.last().get() {
                let pasid = Pasid::from_index(number);
                if space.reserves(pasid) {
                    continue;
                }
                // First, so that what is reserved is also taken note of.
                restored
                    .reserved
                    .try_reserve(1)
                    .map_err(|_| out(Error::OutOfMemory))?;
                space.reserve(pasid).map_err(&out)?;
                lists::push(&mut restored.reserved, pasid).map_err(&out)?;
            }
        }
        Ok(())
    }

    fn table(&self, space: &Space, index: usize) -> Done<RestoredTable> {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let mapped = self.tables.iter().find(|&&(mapped, _)| mapped == index);
        let (table, added) = match (mapped, self.snapshot.tables.get(index)) {
            (Some(&(_, table)), _) => (table.clone(), false),
            (None, Some(table)) => {
                let config = TableConfig::new(table.width).reserved(&table.reserved);
                let table = space.add_table(config);
                (
                    table.map_err(RestoreError::refused(Place::Table(number)))?,
                    true,
                )
            }
            (None, None) => {
                let offence = Offence::Index { index: number };
                return Err(RestoreError::new(Place::Snapshot, offence));
            }
        };
        Ok(RestoredTable {
            table,
            added,
            placed: Vec::new(),
        })
    }

    fn add_set(&self, space: &Space, index: usize, restored: &Restored) -> Done<Counted<Source>> {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let out = RestoreError::refused(Place::Set(number));
        let Some(set) = self.snapshot.sets.get(index) else {
            let offence = Offence::Index { index: number };
            return Err(RestoreError::new(Place::Snapshot, offence));
        };
        let kind = match set.payload {
            PayloadSnapshot::Nothing => Kind::of::<()>(),
            // Others were refused when the snapshot was checked.
            PayloadSnapshot::Word | PayloadSnapshot::Value => Kind::of::<u64>(),
        };
        let table = |&table: &u32| restored.tables.get(table as usize);
        let mut members = Vec::new();
        let scope = match &set.scope {
            ScopeSnapshot::Global => Scope::Global,
            ScopeSnapshot::Local(index) => match table(index) {
                Some(table) => Scope::Local(&table.table),
                None => return Err(RestoreError::new(Place::Set(number), Offence::Kind)),
            },
            ScopeSnapshot::Group(indices) => {
                for member in indices.iter().filter_map(table) {
                    lists::push(&mut members, member.table.clone()).map_err(&out)?;
                }
                Scope::Group(&members)
            }
        };
        let (range, gaps) = range_of(set).map_err(&out)?;
        let mut config = SetConfig::new(scope)
            .range(range)
            .reserved(&gaps)
            .policy(set.policy)
            .reuse(set.reuse);
        config.quota = set.quota;
        // A token names an open set; that of a closed one may be another's by now.
        config.token = set.token.filter(|_| !set.closing);
        if let Some(configure) = self.configure {
            config = configure(index, config);
        }
        config.hidden = true;
        space.add_source(config, kind).map_err(&out)
    }

    /// Allocates each PASID, with the owner's reference.
    fn allocate(&self, index: u32, set: &mut RestoredSet) -> Done {
        // With new numbers those first that do not fit everywhere.
        let turns: &[fn(&Item) -> bool] = match self.numbers {
            Numbers::Same => &[|_| true],
            Numbers::New => &[
                |item| item.last < Pasid::MAX,
                |item| item.last == Pasid::MAX,
            ],
        };
        let mut leaf = None;
        for turn in turns {
            for item in set.items.iter_mut().filter(|item| turn(item)) {
                let pasid = item.old.pasid();
                let out = RestoreError::refused(Place::Pasid { set: index, pasid });
                self.allocate_one(&set.source, item, &mut leaf)
                    .map_err(out)?;
            }
        }
        Ok(())
    }

    fn allocate_one(&self, source: &Source, item: &mut Item, leaf: &mut Option<u32>) -> Answer<()> {
        let pasid = item.old.pasid();
        let granted = match self.numbers {
            Numbers::Same => {
                // Memory comes by leaves.
                if leaf.replace(pasid.get() / LEAF) != Some(pasid.get() / LEAF) {
                    source.preload(pasid.into())?;
                }
                source.allocate_at(pasid, item.word)?
            }
            Numbers::New if item.phase == PhaseSnapshot::Quarantined => return Ok(()),
            Numbers::New => {
                let fits = PasidRange::new(Pasid::ZERO, item.last)?;
                source.allocate_anywhere::<MAY_GROW>(fits, 0, item.word)?
            }
        };
        if granted.slot.hold_more(item.beside_owner()).is_err() {
            // Others have found it, and taken what there is.
            source.undo(granted.handle, granted.slot);
            return Err(Error::TooManyReferences(granted.handle));
        }
        item.new = Some(granted.handle);
        Ok(())
    }

    /// Reserves the entries of a table's attachments.
    fn attach(&self, index: usize, restored: &mut Restored) -> Done {
        let (Some(taken), Some(table)) = (
            self.snapshot.tables.get(index),
            restored.tables.get_mut(index),
        ) else {
            return Ok(());
        };
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let mut words = words(taken);
        for run in &taken.attachments {
            let set = restored.sets.get(run.set as usize);
            for pasid in numbers(run) {
                let place = Place::Attachment {
                    table: number,
                    pasid,
                };
                let out = RestoreError::refused(place);
                let item = set.and_then(|set| set.item_at(pasid));
                let (Some(set), Some(item), Some(word)) = (set, item, words.next()) else {
                    return Err(RestoreError::new(place, Offence::References));
                };
                let Some(handle) = item.new else {
                    return Err(RestoreError::new(place, Offence::Phase));
                };
                let slot = set.source.slot_of(handle).map_err(&out)?;
                let holder = Built {
                    source: &set.source,
                    handle,
                    slot,
                };
                table.table.preload(handle.pasid().into()).map_err(&out)?;
                table
                    .placed
                    .try_reserve(1)
                    .map_err(|_| out(Error::OutOfMemory))?;
                let attaching = (&table.table).attach(&holder, word).map_err(&out)?;
                let placed = Placed::reserved(pasid, run, attaching.into_parts());
                lists::push(&mut table.placed, placed).map_err(&out)?;
            }
        }
        Ok(())
    }

    /// Lets the devices join a table that was added.
    fn join(&self, index: u32, taken: &super::TableSnapshot, restored: &Restored) -> Done {
        let table = restored.tables.get(index as usize);
        let Some(table) = table.filter(|table| table.added) else {
            return Ok(());
        };
        let out = RestoreError::refused(Place::Table(index));
        taken.devices.iter().try_for_each(|device| {
            let joined = table.table.join(device.device, device.width);
            joined.map_err(&out)
        })
    }
}

/// PASIDs whose slots lie together.
const LEAF: u32 = crate::bitmap::LEAF_PASIDS;

/// A PASID that was allocated just now, for who attaches it.
struct Built<'a> {
    source: &'a Counted<Source>,
    handle: Handle,
    slot: &'a Slot,
}

impl sealed::Holder for Built<'_> {
    fn held(&self) -> (&Counted<Source>, Handle, &Slot) {
        (self.source, self.handle, self.slot)
    }
}

impl Holder for Built<'_> {}

/// From the first to the last PASID that a set may hand out, and what lies between.
fn range_of(set: &SetSnapshot) -> Answer<(PasidRange, Vec<PasidRange>)> {
    let ends = (set.ranges.first(), set.ranges.last());
    let (Some(first), Some(last)) = ends else {
        return Err(Error::OutOfMemory);
    };
    let mut gaps = lists::with_room(set.ranges.len())?;
    for (one, next) in set.ranges.iter().zip(set.ranges.iter().skip(1)) {
        let (after, before) = (one.last().get() + 1, next.first().get().saturating_sub(1));
        if after <= before {
            let gap = PasidRange::new(Pasid::from_index(after), Pasid::from_index(before))?;
            lists::push(&mut gaps, gap)?;
        }
    }
    Ok((PasidRange::new(first.first(), last.last())?, gaps))
}

/// What is to be restored of each set.
struct Plan {
    sets: Vec<Vec<Item>>,
    /// A copy, which outlives the snapshot.
    aliases: Vec<AliasMapSnapshot>,
}

impl Plan {
    /// Of a snapshot that was checked. Fails if fewer references are held than attachments
    /// hold.
    fn new(snapshot: &SpaceSnapshot, there: &[(usize, &Table)]) -> Done<Plan> {
        let out = RestoreError::refused(Place::Snapshot);
        let mut sets = lists::with_room(snapshot.sets.len()).map_err(&out)?;
        for set in &snapshot.sets {
            let count = usize::try_from(set.count()).unwrap_or(usize::MAX);
            let mut items = lists::with_room(count).map_err(&out)?;
            for entry in set.entries() {
                lists::push(&mut items, Item::of(&entry)).map_err(&out)?;
            }
            lists::push(&mut sets, items).map_err(&out)?;
        }
        let aliases = copy(&snapshot.aliases).map_err(&out)?;
        let mut plan = Plan { sets, aliases };
        for (table, taken) in (0..).zip(&snapshot.tables) {
            let mapped = there.iter().find(|&&(index, _)| index == table as usize);
            let width = mapped.map_or_else(|| narrowed(taken), |(_, table)| table.width());
            for run in &taken.attachments {
                for pasid in numbers(run) {
                    let place = Place::Attachment { table, pasid };
                    let item = plan.take_one(run.set, pasid, place)?;
                    item.last = item.last.min(width.last());
                }
            }
        }
        for (map, aliases) in (0..).zip(&snapshot.aliases) {
            for (table, taken) in (0..).zip(&aliases.tables) {
                for (number, host, _) in taken.entries.iter().flat_map(AliasRun::each) {
                    let place = Place::Alias { map, table, number };
                    plan.take_one(taken.set, host, place)?.aliases += 1;
                }
            }
        }
        Ok(plan)
    }

    /// Takes one of the references of a PASID for what holds one of its own.
    fn take_one(&mut self, set: u32, pasid: Pasid, place: Place) -> Done<&mut Item> {
        let items = self.sets.get_mut(set as usize);
        let item = items.and_then(|items| super::restored::item_of(items, pasid));
        let taken = item.and_then(|item| {
            item.references = item.references.checked_sub(1)?;
            Some(item)
        });
        taken.ok_or(RestoreError::new(place, Offence::References))
    }
}

fn copy(aliases: &[AliasMapSnapshot]) -> Answer<Vec<AliasMapSnapshot>> {
    let mut maps = lists::with_room(aliases.len())?;
    for map in aliases {
        let mut tables = lists::with_room(map.tables.len())?;
        for table in &map.tables {
            let mut entries = lists::with_room(table.entries.len())?;
            lists::push_all(&mut entries, &table.entries)?;
            lists::push(&mut tables, VirtualTableSnapshot { entries, ..*table })?;
        }
        lists::push(&mut maps, AliasMapSnapshot { tables })?;
    }
    Ok(maps)
}
