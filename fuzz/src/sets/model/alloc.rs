// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which PASID an allocation takes, and why none.

use super::{Allocation, Event, LEAF, Model, Reach, does_not_fit, range_of};
use crate::sets::quirk::Quirk;
use pasid::{Error, Handle, Pasid, PasidRange, PasidWidth, Policy, SpaceKind};

/// A request for any PASID of a range.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Where it may lie.
    pub range: PasidRange,
    /// The caller's.
    pub cpu: u32,
    /// Whether memory may be put in place.
    pub may_grow: bool,
}

/// The half that a number is in: its highest bit. 0 and 1 share one.
fn half(number: u32) -> u32 {
    (number | 1).ilog2()
}

impl Model {
    /// The width that limits a local or group set, with the devices of now.
    fn fits_width(&self, set: usize) -> PasidWidth {
        let of = |&table: &usize| match self.is(Quirk::WidthOfDevicesIgnored) {
            true => self.tables[table].built,
            false => self.tables[table].width(),
        };
        match &self.sets[set].reach {
            Reach::Global => PasidWidth::MAX,
            Reach::Local(table) => of(table),
            Reach::Group(members) => members.iter().map(of).min().unwrap_or(PasidWidth::MAX),
        }
    }

    /// What of `range` is the set's.
    pub(crate) fn request(&self, set: usize, range: PasidRange) -> Result<(u32, u32), Error> {
        let (of, width) = (&self.sets[set], self.fits_width(set));
        if range.first() > width.last() {
            return Err(does_not_fit(range.first().get(), width));
        }
        let first = range.first().get().max(of.first());
        let last = range.last().get().min(of.last());
        let numbers = of.pieces.iter().flat_map(|&(begin, end)| begin..=end);
        let mut wanted = numbers.filter(|number| (first..=last).contains(number));
        match wanted.next() {
            None => return Err(Error::OutsideSet { range }),
            Some(lowest) if lowest > width.last().get() => {
                return Err(does_not_fit(lowest, width));
            }
            Some(_) => {}
        }
        Ok((first, last.min(width.last().get())))
    }

    /// Whether the set allocates no more.
    fn is_closed(&self, set: usize) -> bool {
        let member_closed = match &self.sets[set].reach {
            Reach::Group(members) => members.iter().any(|&table| self.tables[table].closing),
            Reach::Global | Reach::Local(_) => false,
        };
        let member_closed = member_closed && !self.is(Quirk::GroupOutlivesItsTable);
        self.sets[set].closing || member_closed
    }

    /// PASIDs that cost the set a credit (M8).
    pub(crate) fn used(&self, set: usize) -> u32 {
        let held = self.sets[set].held.values();
        let free_of_charge = self.is(Quirk::FreeingCostsNothing);
        let held = held.filter(|one| !(free_of_charge && one.revoked)).count();
        let ended = self.sets[set].ended.values();
        let paid = ended.filter(|one| match one.pinned {
            true => !self.is(Quirk::KeptCostsNothing),
            false => !self.is(Quirk::WaitingCostsNothing),
        });
        (held + paid.count()) as u32
    }

    fn take_credit(&mut self, set: usize) -> Result<(), Error> {
        let used = self.used(set);
        let more = u32::from(self.is(Quirk::QuotaOneMore));
        let failures_count = !self.is(Quirk::HighWaterOfSuccesses);
        let Some(quota) = &mut self.sets[set].quota else {
            return Ok(());
        };
        if used >= quota.limit + more {
            let quota = quota.limit;
            return Err(Error::QuotaExceeded { quota });
        }
        if failures_count {
            quota.high_water = quota.high_water.max(used + 1);
        }
        Ok(())
    }

    /// The parts of `first ..= last` in the policy's order, each ascending.
    fn in_order(&self, set: usize, first: u32, last: u32, cpu: u32) -> Vec<(u32, u32)> {
        let set = &self.sets[set];
        let halves = set.policy == Policy::PreserveNarrow && !self.is(Quirk::HalvesForgotten);
        let parts: Vec<(u32, u32)> = if halves {
            let bounds = |half: u32| (if half == 0 { 0 } else { 1 << half }, (2 << half) - 1);
            let parts = (0..20).rev().map(bounds);
            let within = parts.map(|(begin, end): (u32, u32)| (begin.max(first), end.min(last)));
            within.filter(|(first, last)| first <= last).collect()
        } else {
            vec![(first, last)]
        };
        let forgotten = self.is(Quirk::CursorForgotten);
        let mut order = Vec::new();
        for (first, last) in parts {
            let cursor = match set.policy {
                Policy::Next if !forgotten => set.cursors[0],
                Policy::PreserveNarrow if !forgotten => set.cursors[half(last) as usize],
                Policy::Spread if !self.is(Quirk::CpuForgotten) => {
                    first + cpu.wrapping_mul(LEAF) % (last - first + 1)
                }
                _ => first,
            };
            let start = Some(cursor).filter(|cursor| (first..=last).contains(cursor));
            let start = start.unwrap_or(first);
            order.push((start, last));
            if start > first {
                order.push((first, start - 1));
            }
        }
        order
    }

    fn find_free(&self, set: usize, order: &[(u32, u32)], may_grow: bool) -> Option<u32> {
        let of = &self.sets[set];
        let free = |number: &u32| of.has(*number) && self.is_free(&of.reach, *number);
        order.iter().find_map(|&(first, last)| {
            (first / LEAF..=last / LEAF).find_map(|leaf| {
                if !may_grow && !self.has_memory(set, leaf * LEAF) {
                    return None;
                }
                let (begin, end) = (leaf * LEAF, leaf * LEAF + (LEAF - 1));
                (begin.max(first)..=end.min(last)).find(free)
            })
        })
    }

    fn choose(&mut self, set: usize, request: Request) -> Result<Pasid, Error> {
        let (first, last) = self.request(set, request.range)?;
        if self.is_closed(set) {
            return Err(Error::Closing);
        }
        self.take_credit(set)?;
        let order = self.in_order(set, first, last, request.cpu);
        let Some(number) = self.find_free(set, &order, request.may_grow) else {
            // Nothing is free, or nothing where memory is.
            return Err(match self.find_free(set, &order, true) {
                Some(_) => Error::OutOfMemory,
                None => Error::Exhausted {
                    range: range_of(first, last)?,
                },
            });
        };
        let cursor = match self.sets[set].policy {
            Policy::PreserveNarrow => half(number) as usize,
            _ => 0,
        };
        self.sets[set].cursors[cursor] = number + 1;
        self.grow(set, number);
        Pasid::new(number)
    }

    /// Which PASID an allocation takes.
    pub fn alloc(&mut self, set: usize, request: Request) -> Result<Pasid, Error> {
        let mut asked_for_credits = false;
        let chosen = loop {
            let range = match self.choose(set, request) {
                Err(Error::Exhausted { range }) => range,
                Err(error @ Error::QuotaExceeded { .. })
                    if request.may_grow && !asked_for_credits =>
                {
                    asked_for_credits = true;
                    let waits = self.sets[set].ended.values().any(|one| !one.pinned);
                    if waits && self.run_flusher(set) {
                        continue;
                    }
                    break Err(error);
                }
                other => break other,
            };
            if !self.awaits_flush(set, range) {
                break Err(Error::Exhausted { range });
            }
            if !(request.may_grow && self.run_flusher(set)) {
                break Err(Error::AwaitingFlush { range });
            }
        };
        self.note(set, chosen)
    }

    /// Whether `alloc_at` takes `pasid`.
    pub fn alloc_at(&mut self, set: usize, pasid: Pasid) -> Result<Pasid, Error> {
        let allowed = self.judge_at(set, pasid).map(|()| pasid);
        self.note(set, allowed)
    }

    fn judge_at(&mut self, set: usize, pasid: Pasid) -> Result<(), Error> {
        self.request(set, pasid.into())?;
        if self.is_closed(set) {
            return Err(Error::Closing);
        }
        self.take_credit(set)?;
        let reach = self.sets[set].reach.clone();
        if let Some(why) = self.why_not_free(&reach, pasid) {
            let range = pasid.into();
            let reserved = matches!(why, Error::Reserved(_));
            return Err(match !reserved && self.awaits_flush(set, range) {
                true => Error::AwaitingFlush { range },
                false => why,
            });
        }
        match self.has_memory(set, pasid.get()) {
            true => Ok(()),
            false => Err(Error::OutOfMemory),
        }
    }

    /// Who keeps `pasid` from a set of that reach.
    pub(crate) fn why_not_free(&self, reach: &Reach, pasid: Pasid) -> Option<Error> {
        let number = pasid.get();
        let global = *reach == Reach::Global;
        if self.space_reserves(number) {
            return Some(Error::Reserved(pasid));
        }
        if self.table_reserves(reach, number) {
            // Tables stand against a global set as their sets do.
            let by_claim = global && self.kind == SpaceKind::Both;
            return Some(match by_claim {
                true => Error::HeldLocally(pasid),
                false => Error::Reserved(pasid),
            });
        }
        let holder = self.holder(reach, number)?;
        let held_globally = self.sets[holder].reach == Reach::Global;
        Some(match (global, held_globally) {
            (true, false) => Error::HeldLocally(pasid),
            (false, true) => Error::HeldGlobally(pasid),
            _ => Error::InUse(pasid),
        })
    }

    /// Counts a failure.
    fn note(&mut self, set: usize, result: Result<Pasid, Error>) -> Result<Pasid, Error> {
        if let Err(error) = &result {
            let kind = match error {
                Error::Exhausted { .. } | Error::AwaitingFlush { .. } => 0,
                Error::QuotaExceeded { .. } => 1,
                Error::OutOfMemory => 2,
                Error::InUse(_)
                | Error::HeldGlobally(_)
                | Error::HeldLocally(_)
                | Error::Reserved(_) => 3,
                Error::Closing => 5,
                _ => 4,
            };
            self.sets[set].failures[kind] += 1;
        }
        result
    }

    /// Notes an allocation. `false` if the handle has been there before.
    pub fn allocated(&mut self, set: usize, handle: Handle, word: u64) -> bool {
        let tables = self.tables_before(set, handle.pasid().get());
        let allocation = Allocation {
            handle,
            word,
            revoked: false,
            own: true,
            others: 0,
            pinned: false,
            tables,
        };
        let of = &mut self.sets[set];
        of.held.insert(handle.pasid().get(), allocation);
        of.events.push(Event::Allocated(handle, word));
        let used = self.used(set);
        if let Some(quota) = &mut self.sets[set].quota {
            quota.allocations += 1;
            quota.high_water = quota.high_water.max(used);
        }
        self.issued.insert(handle)
    }
}
