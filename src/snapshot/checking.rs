// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a snapshot must be before anything of it is restored: whole, and by the rules.

use super::aliasing;
use super::columns::{Run, Runs};
use super::error::{Offence, Place, RestoreError};
use super::{
    AttachmentRun, PasidRun, PayloadSnapshot, PhaseSnapshot, ScopeSnapshot, SetSnapshot,
    SpaceSnapshot, TableSnapshot, VERSION,
};
use crate::handle::Handle;
use crate::kind::SpaceKind;
use crate::lists;
use crate::pasid::{Pasid, PasidWidth};
use crate::range::PasidRange;
use crate::reuse::Reuse;
use crate::state::REFERENCES_LAST;
use heap::vec::Vec;

type Checked<T = ()> = Result<T, RestoreError>;

/// Checks all but whether there are as many references as attachments and aliases hold.
pub(super) fn check(snapshot: &SpaceSnapshot) -> Checked {
    let whole = |offence| RestoreError::new(Place::Snapshot, offence);
    if snapshot.version != VERSION {
        let found = snapshot.version;
        return Err(whole(Offence::Version { found }));
    }
    in_order(&snapshot.reserved).map_err(whole)?;
    for (index, table) in (0..).zip(&snapshot.tables) {
        check_table(snapshot, index, table)?;
    }
    for (index, set) in (0..).zip(&snapshot.sets) {
        check_set(snapshot, set)
            .map_err(|offence| RestoreError::new(Place::Set(index), offence))?;
        check_pasids(snapshot, index, set)?;
    }
    check_tokens(snapshot)?;
    check_capacity(snapshot).map_err(whole)?;
    check_uniqueness(snapshot)?;
    aliasing::check(snapshot)
}

/// Whether ranges come one after the other, none empty and none overlapping.
fn in_order(ranges: &[PasidRange]) -> Result<(), Offence> {
    let mut pairs = ranges.iter().zip(ranges.iter().skip(1));
    match pairs.all(|(one, next)| one.last() < next.first()) {
        true => Ok(()),
        false => Err(Offence::Disorder),
    }
}

/// The PASIDs of a run, which comes after `after`.
pub(super) fn run(first: Pasid, count: u32, after: Option<Pasid>) -> Result<PasidRange, Offence> {
    if count == 0 || after.is_some_and(|after| first <= after) {
        return Err(Offence::Disorder);
    }
    let last = first.get().checked_add(count - 1);
    let last = last.and_then(|last| Pasid::new(last).ok());
    let range = last.and_then(|last| PasidRange::new(first, last).ok());
    range.ok_or(Offence::Disorder)
}

/// How long a column is, if each of its runs is something.
fn length<R: Run>(column: &[R]) -> Result<u64, Offence> {
    column
        .iter()
        .try_fold(0_u64, |length, run| match run.count() {
            0 => Err(Offence::Columns),
            count => Ok(length.saturating_add(u64::from(count))),
        })
}

// ---- Tables ------------------------------------------------------------------------

fn check_table(snapshot: &SpaceSnapshot, index: u32, table: &TableSnapshot) -> Checked {
    let at_table = |offence| RestoreError::new(Place::Table(index), offence);
    in_order(&table.reserved).map_err(at_table)?;
    if table.width == PasidWidth::ZERO {
        return Err(at_table(Offence::DoesNotFit));
    }
    let out = RestoreError::refused(Place::Table(index));
    let mut devices = lists::with_room(table.devices.len()).map_err(&out)?;
    let mut each = table.devices.iter();
    each.try_for_each(|device| lists::push(&mut devices, device.device))
        .map_err(&out)?;
    if has_twice(&mut devices) {
        return Err(at_table(Offence::Device));
    }
    let width = narrowed(table);
    let mut after = None;
    let mut count = 0;
    for attached in &table.attachments {
        let pasid = attached.first;
        let at = |offence| {
            RestoreError::new(
                Place::Attachment {
                    table: index,
                    pasid,
                },
                offence,
            )
        };
        let range = run(pasid, attached.count, after).map_err(at)?;
        after = Some(range.last());
        count += u64::from(attached.count);
        check_attachment(snapshot, index, attached).map_err(at)?;
        if range.last() > width.last() {
            return Err(at(Offence::DoesNotFit));
        }
    }
    match length(&table.words) {
        Ok(words) if words == count => Ok(()),
        Ok(_) | Err(_) => Err(at_table(Offence::Columns)),
    }
}

fn has_twice<T: Ord>(list: &mut [T]) -> bool {
    list.sort_unstable();
    let mut pairs = list.iter().zip(list.iter().skip(1));
    pairs.any(|(one, next)| one == next)
}

/// The width of a table with the devices that have joined it.
pub(super) fn narrowed(table: &TableSnapshot) -> PasidWidth {
    let widths = table.devices.iter().map(|device| device.width);
    let supporting = widths.filter(|&width| width != PasidWidth::ZERO);
    supporting.fold(table.width, |least, width| least.min(width))
}

fn check_attachment(
    snapshot: &SpaceSnapshot,
    table: u32,
    attached: &AttachmentRun,
) -> Result<(), Offence> {
    let index = attached.set;
    let set = snapshot.sets.get(index as usize);
    let set = set.ok_or(Offence::Index { index })?;
    let reaches = match &set.scope {
        ScopeSnapshot::Global => true,
        ScopeSnapshot::Local(own) => *own == table,
        ScopeSnapshot::Group(members) => members.binary_search(&table).is_ok(),
    };
    if !reaches {
        return Err(Offence::Reach);
    }
    let faults = u64::from(attached.faults);
    if faults >= REFERENCES_LAST || (attached.detached && faults == 0) {
        return Err(Offence::References);
    }
    Ok(())
}

// ---- Sets --------------------------------------------------------------------------

/// Checks what the set is, without its PASIDs.
fn check_set(snapshot: &SpaceSnapshot, set: &SetSnapshot) -> Result<(), Offence> {
    if set.version != VERSION {
        let found = set.version;
        return Err(Offence::Version { found });
    }
    let tables = snapshot.tables.len();
    let there = |index: u32| match (index as usize) < tables {
        true => Ok(()),
        false => Err(Offence::Index { index }),
    };
    let only = match &set.scope {
        ScopeSnapshot::Global => SpaceKind::Global,
        ScopeSnapshot::Local(table) => {
            there(*table)?;
            SpaceKind::Tables
        }
        ScopeSnapshot::Group(members) => {
            members.iter().try_for_each(|&member| there(member))?;
            let mut pairs = members.iter().zip(members.iter().skip(1));
            if members.is_empty() || !pairs.all(|(one, next)| one < next) {
                return Err(Offence::Disorder);
            }
            SpaceKind::Tables
        }
    };
    if snapshot.kind != SpaceKind::Both && snapshot.kind != only {
        return Err(Offence::Kind);
    }
    if set.payload == PayloadSnapshot::Value {
        return Err(Offence::Payload);
    }
    // An id space that has never had a PASID has no tag yet.
    let none_yet = set.tag == 0 && set.pasids.is_empty();
    if !none_yet && !Handle::is_tag(set.tag) {
        return Err(Offence::Tag);
    }
    in_order(&set.ranges)?;
    if set.ranges.is_empty() {
        return Err(Offence::Disorder);
    }
    let count = length(&set.pasids)?;
    if length(&set.generations)? != count || length(&set.words)? != count {
        return Err(Offence::Columns);
    }
    match set.quota {
        Some(quota) if count > u64::from(quota) => Err(Offence::Quota),
        _ => Ok(()),
    }
}

fn check_pasids(snapshot: &SpaceSnapshot, index: u32, set: &SetSnapshot) -> Checked {
    let width = width_of(snapshot, &set.scope);
    let mut ranges = set.ranges.as_slice();
    let mut after = None;
    for pasids in &set.pasids {
        let pasid = pasids.first;
        let at = |offence| RestoreError::new(Place::Pasid { set: index, pasid }, offence);
        let range = run(pasid, pasids.count, after).map_err(at)?;
        after = Some(range.last());
        // Both are in ascending order, so what lies below is not looked at again.
        let below = ranges.iter().take_while(|whole| whole.last() < pasid);
        ranges = ranges.get(below.count()..).unwrap_or_default();
        let inside = ranges
            .iter()
            .take_while(|whole| whole.first() <= range.last());
        let inside = inside.filter_map(|whole| whole.intersect(range));
        let inside: u32 = inside.map(|part| part.count()).sum();
        if inside != pasids.count || range.last() > width.last() {
            return Err(at(Offence::OutsideSet));
        }
        check_phase(set, pasids).map_err(at)?;
    }
    Ok(())
}

/// The width that a set's PASIDs must fit.
fn width_of(snapshot: &SpaceSnapshot, scope: &ScopeSnapshot) -> PasidWidth {
    let width = |&table: &u32| {
        let table = snapshot.tables.get(table as usize);
        table.map_or(PasidWidth::ZERO, |table| table.width)
    };
    match scope {
        ScopeSnapshot::Global => PasidWidth::MAX,
        ScopeSnapshot::Local(table) => width(table),
        ScopeSnapshot::Group(members) => {
            let widths = members.iter().map(width);
            widths.min().unwrap_or(PasidWidth::ZERO)
        }
    }
}

fn check_phase(set: &SetSnapshot, run: &PasidRun) -> Result<(), Offence> {
    let possible = match run.phase {
        PhaseSnapshot::Live => run.references > 0 && !set.closing,
        PhaseSnapshot::Freeing => run.references > 0,
        PhaseSnapshot::Quarantined => {
            run.references == 0 && !run.pinned && set.reuse == Reuse::AfterFlush
        }
        PhaseSnapshot::Pinned => run.references == 0 && run.pinned,
    };
    if !possible || (run.own && run.references == 0) {
        return Err(Offence::Phase);
    }
    match u64::from(run.references) > REFERENCES_LAST {
        true => Err(Offence::References),
        false => Ok(()),
    }
}

/// Whether no two open sets have the same token.
fn check_tokens(snapshot: &SpaceSnapshot) -> Checked {
    let mut tokens: Vec<(u64, u32)> = Vec::new();
    for (index, set) in (0..).zip(&snapshot.sets) {
        if let Some(token) = set.token.filter(|_| !set.closing) {
            let pushed = lists::push(&mut tokens, (token, index));
            pushed.map_err(RestoreError::refused(Place::Set(index)))?;
        }
    }
    tokens.sort_unstable();
    let mut pairs = tokens.iter().zip(tokens.iter().skip(1));
    match pairs.find(|(one, next)| one.0 == next.0) {
        Some((_, &(_, index))) => Err(RestoreError::new(Place::Set(index), Offence::Token)),
        None => Ok(()),
    }
}

fn check_capacity(snapshot: &SpaceSnapshot) -> Result<(), Offence> {
    let Some(capacity) = snapshot.capacity else {
        return Ok(());
    };
    let share = |set: &SetSnapshot| match set.quota {
        Some(quota) => u64::from(quota),
        None => set
            .ranges
            .iter()
            .map(|range| u64::from(range.count()))
            .sum(),
    };
    match snapshot.sets.iter().map(share).sum::<u64>() > u64::from(capacity) {
        true => Err(Offence::Quota),
        false => Ok(()),
    }
}

// ---- One owner for each PASID and table ------------------------------------------------

/// What a range of PASIDs is, where it is compared with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// Reserved everywhere.
    Reserved,
    /// Reserved on a table.
    ReservedThere,
    /// Of a global set.
    Global,
    /// Of a set of a table, or of a group.
    There,
}

const CLAIMS: usize = 4;

impl Claim {
    /// What may not be had by both.
    fn offends(self, other: Claim) -> Option<Offence> {
        match (self, other) {
            (Claim::Reserved | Claim::ReservedThere, Claim::Reserved | Claim::ReservedThere) => {
                None
            }
            (Claim::Reserved | Claim::ReservedThere, _)
            | (_, Claim::Reserved | Claim::ReservedThere) => Some(Offence::Reserved),
            _ => Some(Offence::HeldTwice),
        }
    }
}

/// A range, and whose it is.
#[derive(Debug, Clone, Copy)]
struct Holding {
    first: u32,
    last: u32,
    claim: Claim,
    /// Whose; of what is reserved, nobody's.
    set: Option<u32>,
}

fn check_uniqueness(snapshot: &SpaceSnapshot) -> Checked {
    let out = RestoreError::refused(Place::Snapshot);
    let mut all = Vec::new();
    let add = |list: &mut Vec<Holding>, holding| lists::push(list, holding).map_err(&out);
    for range in &snapshot.reserved {
        add(&mut all, reserved(range, Claim::Reserved))?;
    }
    let mut tables: Vec<Vec<Holding>> = lists::with_room(snapshot.tables.len()).map_err(&out)?;
    for table in &snapshot.tables {
        let mut there = Vec::new();
        for range in &table.reserved {
            add(&mut there, reserved(range, Claim::ReservedThere))?;
            add(&mut all, reserved(range, Claim::ReservedThere))?;
        }
        lists::push(&mut tables, there).map_err(&out)?;
    }
    for (number, set) in (0..).zip(&snapshot.sets) {
        let members: &[u32] = match &set.scope {
            ScopeSnapshot::Global => &[],
            ScopeSnapshot::Local(own) => core::slice::from_ref(own),
            ScopeSnapshot::Group(members) => members,
        };
        for &member in members {
            let Some(there) = tables.get_mut(member as usize) else {
                continue;
            };
            for run in &set.pasids {
                add(there, held(run, Claim::There, number))?;
            }
        }
    }
    // On one table nobody shares with anybody.
    for mut there in tables {
        no_overlap(&mut there, Claim::offends)?;
    }
    for (number, set) in (0..).zip(&snapshot.sets) {
        let claim = match set.scope {
            ScopeSnapshot::Global => Claim::Global,
            ScopeSnapshot::Local(_) | ScopeSnapshot::Group(_) => Claim::There,
        };
        for run in &set.pasids {
            add(&mut all, held(run, claim, number))?;
        }
    }
    // Over all tables, sets of different ones may share, and what one table reserves is
    // not reserved on another.
    no_overlap(&mut all, |one, other| match (one, other) {
        (Claim::There, Claim::There | Claim::ReservedThere)
        | (Claim::ReservedThere, Claim::There) => None,
        _ => one.offends(other),
    })
}

fn reserved(range: &PasidRange, claim: Claim) -> Holding {
    Holding {
        first: range.first().get(),
        last: range.last().get(),
        claim,
        set: None,
    }
}

fn held(run: &PasidRun, claim: Claim, set: u32) -> Holding {
    Holding {
        first: run.first.get(),
        // It was checked that the run is one.
        last: run.first.get().saturating_add(run.count.saturating_sub(1)),
        claim,
        set: Some(set),
    }
}

/// Fails if two overlap that offend each other.
fn no_overlap(all: &mut [Holding], offends: impl Fn(Claim, Claim) -> Option<Offence>) -> Checked {
    all.sort_unstable_by_key(|holding| (holding.first, holding.last));
    // Of each kind the one that reaches furthest so far.
    let mut furthest: [Option<Holding>; CLAIMS] = [None; CLAIMS];
    for &holding in all.iter() {
        for before in furthest.iter().flatten() {
            if before.last < holding.first {
                continue;
            }
            if let Some(offence) = offends(before.claim, holding.claim) {
                let pasid = Pasid::from_index(holding.first);
                let set = holding.set.or(before.set);
                let place = set.map_or(Place::Snapshot, |set| Place::Pasid { set, pasid });
                return Err(RestoreError::new(place, offence));
            }
        }
        let place = furthest.get_mut(holding.claim as usize);
        if let Some(place) = place {
            if place.is_none_or(|before| before.last < holding.last) {
                *place = Some(holding);
            }
        }
    }
    Ok(())
}

/// The words of what is attached to a table, in its order.
pub(super) fn words(table: &TableSnapshot) -> impl Iterator<Item = u64> + '_ {
    Runs::new(&table.words).map(|(run, place)| run.at(place))
}

/// The PASIDs of a run of attachments.
pub(super) fn numbers(run: &AttachmentRun) -> impl Iterator<Item = Pasid> + use<> {
    let first = run.first.get();
    // Of one that was not checked those that are PASIDs.
    let end = first.saturating_add(run.count).min(Pasid::MAX.get() + 1);
    (first..end).map(Pasid::from_index)
}
