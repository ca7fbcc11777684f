// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking snapshots, while others work.
//!
//! Every number is from one moment or another of the call. Two scans, one after the other,
//! that see the same say that nothing has changed in between, but for what was changed
//! and changed back, which a generation or a cursor tells.

use super::aliasing::{self, Aliasing};
use super::columns::{PasidEntry, push_word};
use super::{
    AttachmentRun, DeviceSnapshot, PayloadSnapshot, PhaseSnapshot, ScopeSnapshot, SetSnapshot,
    SpaceSnapshot, TableSnapshot, VERSION,
};
use crate::attachments::Standing;
use crate::counted::Counted;
use crate::error::{Error, Result};
use crate::listing::Iter;
use crate::lists;
use crate::pasid::Pasid;
use crate::payload::Payload;
use crate::range::PasidRange;
use crate::set::IoasidSet;
use crate::shared::Shared;
use crate::slot::Slot;
use crate::source::{Reach, Source};
use crate::space::Space;
use crate::state::{Sought, State};
use crate::sync::{Mutation, planted};
use crate::table::Table;
use heap::vec::Vec;

impl<P: Payload> IoasidSet<P> {
    /// What the set has. Its tables are numbered from 0 in ascending order, since a set
    /// knows no others; what is attached is told by
    /// [`Space::snapshot`](crate::Space::snapshot) alone. To restore it, see
    /// [`SetSnapshot::alone`].
    ///
    /// Progress: wait-free, bounded by the memory in the set's range. Context: allocates memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn snapshot(&self) -> Result<SetSnapshot> {
        let scope = || {
            Ok(match self.source().reach() {
                Reach::Global => ScopeSnapshot::Global,
                Reach::Local(_) => ScopeSnapshot::Local(0),
                Reach::Group { members, .. } => {
                    let mut tables = lists::with_room(members.len())?;
                    (0..)
                        .zip(members)
                        .try_for_each(|(index, _)| lists::push(&mut tables, index))?;
                    ScopeSnapshot::Group(tables)
                }
            })
        };
        let (first, _) = set(self.source(), scope()?)?;
        let (mut second, settled) = set(self.source(), scope()?)?;
        second.quiescent = settled && first == second;
        Ok(second)
    }
}

impl Space {
    /// What the space, its tables and its sets have, also those that are closed and not
    /// gone.
    ///
    /// Progress: waits for other control calls; data calls go on meanwhile. Context: allocates
    /// memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    ///
    /// ```
    /// use pasid::{Error, Pool, Scope, SetConfig, Space, SpaceKind};
    ///
    /// let space = Space::new(SpaceKind::Global);
    /// let users = space.add_set(SetConfig::new(Scope::Global))?;
    /// let process = users.alloc(users.range(), 0xFEED)?;
    /// let snapshot = space.snapshot()?;
    /// assert!(snapshot.quiescent);
    /// let entry = snapshot.sets[0].entries().next();
    /// assert_eq!(entry.map(|entry| (entry.handle, entry.word)), Some((process.handle(), 0xFEED)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn snapshot(&self) -> Result<SpaceSnapshot> {
        self.snapshot_with(&[])
    }

    /// The same with the alias maps of guests. A map's tables must be over sets of this space,
    /// and what is below a nested table in one of the maps.
    ///
    /// Progress: as [`Space::snapshot`]; waits for control calls of the maps too. Context:
    /// allocates memory.
    ///
    /// # Errors
    /// [`Error::InvalidScope`] for a map that is not as said, [`Error::OutOfMemory`].
    pub fn snapshot_with(&self, maps: &[&dyn Aliasing]) -> Result<SpaceSnapshot> {
        // Around the scans, and not under the lock.
        let before = aliasing::look_at(maps)?;
        let mut taken = self.with_all(|shared, tables, sets| {
            let (first, _) = space(shared, tables, sets)?;
            let (mut second, settled) = space(shared, tables, sets)?;
            second.quiescent = settled && first == second;
            second.aliases = aliasing::take(&before, sets)?;
            Ok(second)
        })?;
        taken.quiescent &= aliasing::look_at(maps)? == before;
        for set in &mut taken.sets {
            set.quiescent = taken.quiescent;
        }
        Ok(taken)
    }
}

/// One scan of a set, and whether every word stood still.
fn set(source: &Source, scope: ScopeSnapshot) -> Result<(SetSnapshot, bool)> {
    let payload = match source.kind {
        kind if kind.is::<u64>() => PayloadSnapshot::Word,
        kind if kind.is::<()>() => PayloadSnapshot::Nothing,
        _ => PayloadSnapshot::Value,
    };
    let mut ranges = lists::with_room(source.pieces().len())?;
    lists::push_all(&mut ranges, source.pieces())?;
    let mut cursors = Vec::new();
    for cursor in source.order().cursors() {
        lists::push(&mut cursors, cursor)?;
    }
    let mut taken = SetSnapshot {
        version: VERSION,
        quiescent: false,
        scope,
        ranges,
        policy: source.policy(),
        cursors,
        quota: source.quota().map(|quota| quota.limit()),
        token: source.token,
        reuse: source.reuse(),
        closing: source.is_closing(),
        payload,
        tag: 0,
        pasids: Vec::new(),
        generations: Vec::new(),
        words: Vec::new(),
    };
    let mut settled = true;
    let mut held = Iter::new(source.ids(), source.range(), Sought::ANY);
    while let Some((pasid, slot)) = held.next_held() {
        let Some((state, word)) = look(slot, payload) else {
            settled = false;
            continue;
        };
        if state.is_ending() && !planted(Mutation::EndingNotCounted) {
            // Of whatever set: a call is in the midst of it, also if both scans see that.
            settled = false;
            continue;
        }
        if state.set() == source.index() {
            if let Some(entry) = entry(source, taken.closing, pasid, state, word) {
                taken.push(entry)?;
            }
        }
    }
    // After the scan, so that the first leaf, if there is one in it, has brought the tag.
    taken.tag = source.ids().tree.tag();
    Ok((taken, settled))
}

/// The state of a PASID and the word that belongs to it, if it has one that is written down
/// and stands still meanwhile.
fn look(slot: &Slot, payload: PayloadSnapshot) -> Option<(State, u64)> {
    let state = slot.state();
    if payload != PayloadSnapshot::Word || state.references() == 0 {
        return Some((state, 0));
    }
    let word = slot.word();
    let same = slot.state().generation() == state.generation();
    same.then_some((state, word))
}

fn entry(
    source: &Source,
    closing: bool,
    pasid: Pasid,
    state: State,
    word: u64,
) -> Option<PasidEntry> {
    let (phase, pinned) = if state.is_kept() {
        (PhaseSnapshot::Pinned, true)
    } else if state.awaits_flush() {
        (PhaseSnapshot::Quarantined, false)
    } else if state.references() == 0 {
        // Being allocated, reserved, or out of generations.
        return None;
    } else if state.live().is_ok() && !closing {
        (PhaseSnapshot::Live, state.is_pinned())
    } else {
        (PhaseSnapshot::Freeing, state.is_pinned())
    };
    Some(PasidEntry {
        // A pin is claimed by the name that it was set under.
        handle: source.handle(pasid, state.last_generation()),
        phase,
        pinned,
        own: state.references() > 0 && state.own(),
        references: u32::try_from(state.references()).unwrap_or(u32::MAX),
        word,
    })
}

/// One scan of a space with those tables and sets, and whether every word stood still and
/// nothing was being attached.
fn space(
    shared: &Shared,
    tables: &[Table],
    sets: &[Counted<Source>],
) -> Result<(SpaceSnapshot, bool)> {
    let mut all_tables = lists::with_room(tables.len())?;
    let mut settled = true;
    for one in tables {
        let (taken, of_it) = table(one, sets)?;
        lists::push(&mut all_tables, taken)?;
        settled &= of_it;
    }
    let mut all_sets = lists::with_room(sets.len())?;
    for source in sets {
        let scope = scope(source, tables)?;
        let (taken, of_it) = set(source, scope)?;
        lists::push(&mut all_sets, taken)?;
        // What is being restored may yet be undone.
        settled &= of_it && !source.is_hidden();
    }
    let built = shared.globals.tree.reserved();
    let added = shared.globals.added_reservations();
    let added = added.filter(|&pasid| shared.added_reservation(pasid));
    let taken = SpaceSnapshot {
        version: VERSION,
        quiescent: false,
        kind: shared.kind,
        capacity: shared.capacity.as_ref().map(|of| of.reserved_of().1),
        reserved: together(built, added)?,
        tables: all_tables,
        sets: all_sets,
        aliases: Vec::new(),
    };
    Ok((taken, settled))
}

/// The scope of a set by the indices of its tables.
fn scope(source: &Source, tables: &[Table]) -> Result<ScopeSnapshot> {
    let index = |ids| {
        let place = tables.iter().position(|table| table.has_ids(ids));
        let place = place.and_then(|place| u32::try_from(place).ok());
        // It cannot be missing: a table goes after its last set.
        place.ok_or(Error::InvalidScope)
    };
    Ok(match source.reach() {
        Reach::Global => ScopeSnapshot::Global,
        Reach::Local(ids) => ScopeSnapshot::Local(index(ids)?),
        Reach::Group { members, .. } => {
            let mut all = lists::with_room(members.len())?;
            for ids in members {
                lists::push(&mut all, index(ids)?)?;
            }
            ScopeSnapshot::Group(all)
        }
    })
}

/// One scan of a table, and whether nothing was being attached.
fn table(table: &Table, sets: &[Counted<Source>]) -> Result<(TableSnapshot, bool)> {
    let core = table.core();
    let ids = &core.table.ids;
    let width = ids.width();
    let built = table.reserved().iter();
    let built = built.filter_map(|range| range.intersect(width.range()));
    let mut own = Vec::new();
    for range in built {
        lists::push(&mut own, range)?;
    }
    let status = core.table.status.see();
    let mut taken = TableSnapshot {
        width,
        reserved: together(&own, ids.added_reservations())?,
        devices: Vec::new(),
        paused: status.is_paused(),
        closing: status.is_closing(),
        attachments: Vec::new(),
        words: Vec::new(),
    };
    table.devices(|device, width| {
        lists::push(&mut taken.devices, DeviceSnapshot { device, width })
    })?;
    let mut settled = true;
    let mut next = Some(0);
    while let Some(first) = next {
        let Some(standing) = core.attachments.first_standing(first, Pasid::MAX.get()) else {
            break;
        };
        next = standing.number.checked_add(1);
        let owner = |set: &Counted<Source>| Some(set.as_ptr()) == standing.owner;
        match sets.iter().position(owner) {
            Some(set) if standing.references > 0 => {
                let set = u32::try_from(set).unwrap_or(u32::MAX);
                attach(&mut taken, &standing, set)?;
            }
            // It is being attached, or has just gone.
            _ => settled = false,
        }
    }
    Ok((taken, settled))
}

/// Adds an attachment above all others.
fn attach(table: &mut TableSnapshot, standing: &Standing<Source>, set: u32) -> Result<()> {
    let faults = standing.references - u64::from(standing.own);
    let run = AttachmentRun {
        first: Pasid::from_index(standing.number),
        count: 1,
        set,
        detached: !standing.own,
        faults: u32::try_from(faults).unwrap_or(u32::MAX),
    };
    match table.attachments.last_mut() {
        Some(last) if last.goes_on_with(&run) => last.count += 1,
        _ => lists::push(&mut table.attachments, run)?,
    }
    push_word(&mut table.words, standing.word)
}

impl AttachmentRun {
    fn goes_on_with(&self, one: &AttachmentRun) -> bool {
        let alike = (self.set, self.detached, self.faults) == (one.set, one.detached, one.faults);
        alike && self.first.get() + self.count == one.first.get()
    }
}

/// Ranges that may overlap, and single PASIDs, as ranges that do not, in ascending order.
fn together(ranges: &[PasidRange], more: impl Iterator<Item = Pasid>) -> Result<Vec<PasidRange>> {
    let mut all = lists::with_room(ranges.len())?;
    lists::push_all(&mut all, ranges)?;
    for pasid in more {
        lists::push(&mut all, PasidRange::single(pasid))?;
    }
    all.sort_unstable_by_key(|range| (range.first(), range.last()));
    let mut merged: Vec<PasidRange> = lists::with_room(all.len())?;
    for range in all {
        match merged.last_mut() {
            Some(last) if range.first().get() <= last.last().get().saturating_add(1) => {
                let end = last.last().max(range.last());
                *last = PasidRange::new(last.first(), end)?;
            }
            _ => lists::push(&mut merged, range)?,
        }
    }
    Ok(merged)
}
