// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables and sets that come and go, reservations, quotas and the capacity.

use super::flush::Holder;
use super::{Model, Place, QUOTA_LAST, Quota, Reach, Set, Table, lists};
use crate::sets::quirk::Quirk;
use pasid::{Error, Pasid, PasidRange, PasidWidth, Policy, RequesterId, Reuse, SpaceKind};
use std::collections::{BTreeMap, BTreeSet};

/// What a table is made of.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// Its bits.
    pub width: PasidWidth,
    /// Reserved there.
    pub reserved: Vec<PasidRange>,
}

/// What a set is made of.
#[derive(Debug, Clone)]
pub struct NewSet {
    /// The tables of its scope, or `None` for all. One that is `None` is another space's.
    pub tables: Option<Vec<Option<usize>>>,
    /// Whether it is a group, of however many tables.
    pub group: bool,
    /// Its range.
    pub range: PasidRange,
    /// What it does not hand out.
    pub reserved: Vec<PasidRange>,
    /// Its order.
    pub policy: Policy,
    /// Its quota.
    pub quota: Option<u32>,
    /// Its token.
    pub token: Option<u64>,
    /// When its PASIDs may be allocated again.
    pub reuse: Reuse,
    /// Whether allocations run a flush, and whether that works.
    pub flusher: Option<bool>,
}

impl Model {
    /// Forgets what is closed and referred to by nobody.
    pub fn forget_gone(&mut self) {
        let keeps = self.is(Quirk::CapacityLost);
        for index in 0..self.sets.len() {
            let flushed = self.is_being_flushed(index) || self.has_ticket(Holder::Set(index));
            let waits = !self.sets[index].ended.is_empty() && !self.is(Quirk::GoneWhileWaiting);
            let set = &mut self.sets[index];
            let held = !set.held.is_empty() || waits || flushed;
            if !set.gone && set.closing && !set.handle && !held {
                set.gone = true;
                if self.capacity.is_some() && !keeps {
                    self.shared_out -= share(set);
                }
            }
        }
        for index in 0..self.tables.len() {
            let needed = self.sets.iter().any(|set| {
                !set.gone
                    && match &set.reach {
                        Reach::Global => false,
                        Reach::Local(table) => *table == index,
                        Reach::Group(members) => members.contains(&index),
                    }
            });
            let needed = needed || self.has_ticket(Holder::Table(index));
            let table = &mut self.tables[index];
            if table.closing && !table.handle && table.entries.is_empty() && !needed {
                table.gone = true;
            }
        }
    }

    // ---- Tables ----------------------------------------------------------------

    /// `add_table`: its index.
    pub fn add_table(&mut self, new: NewTable) -> Result<usize, Error> {
        if new.width == PasidWidth::ZERO {
            return Err(Error::NoPasidSupport);
        }
        self.forget_gone();
        let listed = new.reserved.iter();
        let numbers = listed.flat_map(|range| range.first().get()..=range.last().get());
        let mut seen = BTreeSet::new();
        for number in numbers {
            let apart = number > new.width.last().get() || self.space_reserves(number);
            if !apart && seen.insert(number) {
                self.keep_global_sets_off(number)?;
            }
        }
        self.tables.push(Table {
            built: new.width,
            listed: new.reserved,
            added: BTreeSet::new(),
            devices: Vec::new(),
            paused: false,
            pauses: 0,
            closing: false,
            handle: true,
            gone: false,
            entries: BTreeMap::new(),
            memory: BTreeSet::new(),
        });
        Ok(self.tables.len() - 1)
    }

    /// Whether no global set has what a table reserves.
    pub(crate) fn keep_global_sets_off(&mut self, number: u32) -> Result<(), Error> {
        let pasid = Pasid::new(number)?;
        let held = self
            .sets
            .iter()
            .any(|set| set.reach == Reach::Global && set.keeps(number));
        match self.kind {
            SpaceKind::Tables => Ok(()),
            SpaceKind::Both => {
                self.grow_at(Place::Claims, number);
                match held {
                    true => Err(Error::HeldGlobally(pasid)),
                    false => Ok(()),
                }
            }
            SpaceKind::Global => {
                self.grow_at(Place::Globals, number);
                match (held, self.added.contains(&number)) {
                    (true, _) => Err(Error::HeldGlobally(pasid)),
                    (_, true) => Err(Error::Reserved(pasid)),
                    _ => Ok(()),
                }
            }
        }
    }

    /// `join`.
    pub fn join(
        &mut self,
        table: usize,
        device: RequesterId,
        width: PasidWidth,
    ) -> Result<(), Error> {
        let ignored = self.is(Quirk::JoinIgnoresAttachments);
        let of = &mut self.tables[table];
        if of.closing {
            return Err(Error::Closing);
        }
        if of.devices.iter().any(|&(joined, _)| joined == device) {
            return Err(Error::DeviceJoined(device));
        }
        if width < of.width() && width.bits() > 0 && !ignored {
            let mut beyond = of.entries.range(width.last().get() + 1..);
            if let Some((_, entry)) = beyond.next() {
                let pasid = entry.handle.pasid();
                return Err(Error::DoesNotFit { pasid, width });
            }
        }
        of.devices.push((device, width));
        Ok(())
    }

    /// `leave`.
    pub fn leave(&mut self, table: usize, device: RequesterId) -> Result<(), Error> {
        let devices = &mut self.tables[table].devices;
        let place = devices.iter().position(|&(joined, _)| joined == device);
        devices.remove(place.ok_or(Error::DeviceNotJoined(device))?);
        Ok(())
    }

    /// `pause`: whether it was running.
    pub fn pause(&mut self, table: usize) -> bool {
        let of = &mut self.tables[table];
        of.pauses += 1;
        !std::mem::replace(&mut of.paused, true)
    }

    /// `resume`: whether it was paused.
    pub fn resume(&mut self, table: usize) -> bool {
        std::mem::replace(&mut self.tables[table].paused, false)
    }

    /// `Table::close`: the sets of this table alone are closed with it.
    pub fn close_table(&mut self, table: usize) {
        self.tables[table].closing = true;
        if self.is(Quirk::TableCloseKeepsSets) {
            return;
        }
        for set in 0..self.sets.len() {
            if self.sets[set].reach == Reach::Local(table) && !self.sets[set].gone {
                self.close_set(set);
            }
        }
    }

    /// What a table shows of itself.
    pub fn table(&self, table: usize) -> (PasidWidth, bool) {
        (self.tables[table].width(), self.tables[table].closing)
    }

    /// The tables that are open.
    pub fn open_tables(&mut self) -> Vec<usize> {
        self.forget_gone();
        let tables = 0..self.tables.len();
        tables
            .filter(|&table| !self.tables[table].closing)
            .collect()
    }

    /// `Space::closing_tables`.
    pub fn closing_tables(&mut self) -> Vec<usize> {
        self.forget_gone();
        let tables = 0..self.tables.len();
        tables
            .filter(|&table| self.tables[table].closing && !self.tables[table].gone)
            .collect()
    }

    // ---- Sets --------------------------------------------------------------------

    fn reach(&self, new: &NewSet) -> Result<Reach, Error> {
        let kind = self.kind;
        let fits = match new.tables {
            None => kind != SpaceKind::Tables,
            Some(_) => kind != SpaceKind::Global,
        };
        if !fits {
            return Err(Error::WrongKind { kind });
        }
        let Some(tables) = &new.tables else {
            return Ok(Reach::Global);
        };
        let mut members = BTreeSet::new();
        let mut twice = tables.is_empty();
        for table in tables {
            let table = table.ok_or(Error::InvalidScope)?;
            if self.tables[table].closing {
                return Err(Error::Closing);
            }
            twice |= !members.insert(table);
        }
        let members: Vec<usize> = members.into_iter().collect();
        match (twice, new.group) {
            (true, _) => Err(Error::InvalidScope),
            (_, true) => Ok(Reach::Group(members)),
            (_, false) => Ok(Reach::Local(members[0])),
        }
    }

    /// `add_set`: its index.
    pub fn add_set(&mut self, new: NewSet) -> Result<usize, Error> {
        self.forget_gone();
        let used = new.token.filter(|&token| self.find_set(token).is_some());
        if let Some(token) = used.filter(|_| !self.is(Quirk::TokenTwice)) {
            return Err(Error::TokenInUse { token });
        }
        let reach = self.reach(&new)?;
        let built = |&table: &usize| self.tables[table].built;
        let width = match &reach {
            Reach::Global => PasidWidth::MAX,
            Reach::Local(table) => built(table),
            Reach::Group(members) => members.iter().map(built).min().unwrap_or(PasidWidth::MAX),
        };
        let reserved = match self.is(Quirk::SetReservationForgotten) {
            true => &[][..],
            false => &new.reserved,
        };
        let pieces = pieces(new.range, reserved, width)?;
        let set = Set {
            reach,
            pieces,
            policy: new.policy,
            token: new.token,
            quota: new.quota.map(|limit| Quota {
                limit: limit.min(QUOTA_LAST),
                high_water: 0,
                allocations: 0,
            }),
            failures: [0; 6],
            cursors: [0; 20],
            held: BTreeMap::new(),
            ended: BTreeMap::new(),
            tables_before: BTreeMap::new(),
            reuse: new.reuse,
            flusher: new.flusher,
            closing: false,
            handle: true,
            gone: false,
            events: Vec::new(),
        };
        self.take_share(share(&set))?;
        self.sets.push(set);
        Ok(self.sets.len() - 1)
    }

    fn take_share(&mut self, share: u32) -> Result<(), Error> {
        let Some(capacity) = self.capacity else {
            return Ok(());
        };
        let left = capacity - self.shared_out;
        if share > left {
            return Err(Error::CapacityExceeded { left });
        }
        self.shared_out += share;
        Ok(())
    }

    /// `find_set`.
    pub fn find_set(&self, token: u64) -> Option<usize> {
        let mut sets = self.sets.iter();
        sets.position(|set| !set.closing && set.token == Some(token))
    }

    /// The sets that are open.
    pub fn open_sets(&mut self) -> Vec<usize> {
        self.forget_gone();
        let sets = 0..self.sets.len();
        sets.filter(|&set| !self.sets[set].closing).collect()
    }

    /// `Space::closing_sets`.
    pub fn closing_sets(&mut self) -> Vec<usize> {
        self.forget_gone();
        let sets = 0..self.sets.len();
        sets.filter(|&set| self.sets[set].closing && !self.sets[set].gone)
            .collect()
    }

    /// `IoasidSet::close`.
    pub fn close_set(&mut self, set: usize) {
        self.sets[set].closing = true;
        if !self.is(Quirk::CloseRevokesNothing) {
            self.free_all(set);
        }
    }

    /// Whether the set was closed.
    pub fn set_is_closing(&self, set: usize) -> bool {
        self.sets[set].closing
    }

    /// The first and the last that the set may hand out.
    pub fn set_range(&self, set: usize) -> (u32, u32) {
        (self.sets[set].first(), self.sets[set].last())
    }

    /// Nobody has a handle of the set any more, beside its holders.
    pub fn drop_set(&mut self, set: usize) {
        self.sets[set].handle = false;
    }

    /// The same of a table.
    pub fn drop_table(&mut self, table: usize) {
        self.tables[table].handle = false;
    }

    /// `set_quota`.
    pub fn set_quota(&mut self, set: usize, limit: u32) -> Result<(), Error> {
        let used = self.used(set);
        let of = &self.sets[set];
        let before = of.quota.as_ref().ok_or(Error::NoQuota)?.limit;
        if of.closing {
            return Err(Error::Closing);
        }
        let limit = limit.min(QUOTA_LAST);
        if limit > before {
            self.take_share(limit - before)?;
        } else if limit < used {
            return Err(Error::QuotaInUse { used });
        } else if self.capacity.is_some() {
            self.shared_out -= before - limit;
        }
        if let Some(quota) = &mut self.sets[set].quota {
            quota.limit = limit;
        }
        Ok(())
    }

    /// `capacity_left`.
    pub fn capacity_left(&mut self) -> Option<u32> {
        self.forget_gone();
        self.capacity.map(|capacity| capacity - self.shared_out)
    }

    /// The capacity, with nothing taken out of it.
    pub fn whole_capacity(&self) -> Option<u32> {
        self.capacity
    }

    /// The tables of a set, or `None` for all.
    pub fn scope_of(&self, set: usize) -> Option<Vec<usize>> {
        match &self.sets[set].reach {
            Reach::Global => None,
            Reach::Local(table) => Some(vec![*table]),
            Reach::Group(members) => Some(members.clone()),
        }
    }

    /// `IoasidSet::preload`: whether there was memory to be put in place.
    pub fn preload(&mut self, set: usize, range: PasidRange) -> Result<bool, Error> {
        let (first, last) = self.request(set, range)?;
        let leaves = first / super::LEAF..=last / super::LEAF;
        Ok(leaves.fold(false, |grown, leaf| {
            self.grow(set, leaf * super::LEAF) | grown
        }))
    }
}

/// What a set keeps of the capacity.
fn share(set: &Set) -> u32 {
    let counts = set.pieces.iter().map(|&(first, last)| last - first + 1);
    set.quota
        .as_ref()
        .map_or_else(|| counts.sum(), |quota| quota.limit)
}

/// `range` within `width` without what is reserved.
fn pieces(
    range: PasidRange,
    reserved: &[PasidRange],
    width: PasidWidth,
) -> Result<Vec<(u32, u32)>, Error> {
    let pasid = range.first();
    if pasid > width.last() {
        return Err(Error::DoesNotFit { pasid, width });
    }
    let last = range.last().min(width.last()).get();
    // The ends of what is reserved are all the places at which a piece can begin or end.
    let mut cuts = vec![pasid.get(), last + 1];
    for held in reserved {
        cuts.extend([held.first().get(), held.last().get() + 1]);
    }
    cuts.retain(|&cut| (pasid.get()..=last + 1).contains(&cut));
    cuts.sort_unstable();
    cuts.dedup();
    let between = cuts.windows(2).map(|two| (two[0], two[1] - 1));
    let free: Vec<(u32, u32)> = between
        .filter(|&(first, _)| !lists(reserved, first))
        .collect();
    match free.is_empty() {
        true => Err(Error::OutsideSet { range }),
        false => Ok(free),
    }
}
