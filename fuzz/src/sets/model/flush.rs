// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is over and nobody's yet: quarantine, flushes and pins. M7 is that an allocation
//! takes nothing of it (`Set::keeps`), and M8 that it costs its credit (`Model::used`).

use super::{Allocation, Ended, Event, Model, Place, Reach};
use crate::sets::quirk::Quirk;
use pasid::{Error, Handle, Pasid, PasidRange, Reuse, SpaceKind};
use std::collections::BTreeSet;

/// What a ticket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The space.
    Space,
    /// A table.
    Table(usize),
    /// A set.
    Set(usize),
}

/// A flush that began.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    holder: Holder,
    place: Place,
    /// There was something to take.
    in_flight: bool,
}

/// What a ticket says of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// How many PASIDs.
    pub count: u32,
    /// Which ones.
    pub ranges: Vec<PasidRange>,
}

/// As few ranges as there can be.
fn ranges(numbers: impl Iterator<Item = u32>) -> Vec<PasidRange> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let of = |(first, last): (u32, u32)| {
        let range = PasidRange::new(Pasid::new(first).ok()?, Pasid::new(last).ok()?);
        range.ok()
    };
    ranges.into_iter().filter_map(of).collect()
}

impl Model {
    // ---- The end of an allocation --------------------------------------------------

    /// The last reference is gone.
    pub(crate) fn end(&mut self, set: usize, one: Allocation) {
        let pinned = one.pinned && !self.is(Quirk::PinForgotten);
        if !pinned || self.is(Quirk::ReclaimedDespitePin) {
            self.sets[set].events.push(Event::Reclaimed(one.handle));
        }
        let waits = self.sets[set].reuse == Reuse::AfterFlush && !self.is(Quirk::ReuseAtOnce);
        if pinned || waits {
            let ended = Ended {
                handle: one.handle,
                tables: one.tables,
                pinned,
                ticket: None,
            };
            let number = one.handle.pasid().get();
            self.sets[set].ended.insert(number, ended);
        } else if self.is(Quirk::RangesOnOfEarlierLives) {
            self.sets[set]
                .tables_before
                .insert(one.handle.pasid().get(), one.tables);
        }
    }

    /// A new allocation has been attached nowhere.
    pub(crate) fn tables_before(&self, set: usize, number: u32) -> BTreeSet<usize> {
        let before = self.sets[set].tables_before.get(&number);
        before.cloned().unwrap_or_default()
    }

    /// The PASID was attached to the table, or its entry was reserved there.
    pub(crate) fn note_attached(&mut self, set: usize, table: usize, number: u32) {
        if let Some(one) = self.sets[set].held.get_mut(&number) {
            one.tables.insert(table);
        }
    }

    // ---- Pins ------------------------------------------------------------------------

    /// `pin`, for a holder.
    pub fn pin(&mut self, set: usize, handle: Handle) -> Result<(), Error> {
        let twice = self.is(Quirk::PinnedTwice);
        let one = self.named(set, handle)?;
        if one.pinned && !twice {
            return Err(Error::AlreadyPinned(handle.pasid()));
        }
        one.pinned = true;
        Ok(())
    }

    /// The pin on that allocation is taken away.
    pub fn unpin(&mut self, set: usize, handle: Handle) {
        let number = handle.pasid().get();
        let needs_none = self.is(Quirk::UnpinnedNeedsNoFlush);
        let untold = self.is(Quirk::ReclaimedDespitePin);
        let of = &mut self.sets[set];
        if let Some(one) = of.held.get_mut(&number).filter(|one| one.handle == handle) {
            one.pinned = false;
            return;
        }
        let kept = of.ended.get_mut(&number);
        if let Some(one) = kept.filter(|one| one.handle == handle && one.pinned) {
            one.pinned = false;
            if !untold {
                of.events.push(Event::Reclaimed(handle));
            }
            if of.reuse == Reuse::Immediate || needs_none {
                of.ended.remove(&number);
            }
        }
    }

    // ---- Awaiting ----------------------------------------------------------------------

    /// Whether a PASID of `range` that the set may hand out awaits a flush of which the set
    /// knows: in its own place, in those of a group's tables, or globally.
    pub(crate) fn awaits_flush(&self, set: usize, range: PasidRange) -> bool {
        let of = &self.sets[set];
        let mut places = vec![self.place(set)];
        if let Reach::Group(members) = &of.reach {
            places.extend(members.iter().map(|&table| Place::Table(table)));
        }
        if self.kind == SpaceKind::Both {
            places.push(Place::Globals);
        }
        if of.reach == Reach::Global {
            places.truncate(1);
        }
        let range = range.first().get()..=range.last().get();
        let mut others = (0..self.sets.len()).filter(|&other| places.contains(&self.place(other)));
        !self.is(Quirk::AwaitingIsExhausted)
            && others.any(|other| {
                let mut ended = self.sets[other].ended.range(range.clone());
                ended.any(|(&number, one)| !one.pinned && of.has(number))
            })
    }

    /// The flush that was installed. Whether it returned something.
    pub(crate) fn run_flusher(&mut self, set: usize) -> bool {
        if self.sets[set].flusher != Some(true) || self.is(Quirk::FlusherForgotten) {
            return false;
        }
        let ticket = self.begin_flush(Holder::Set(set));
        self.complete(ticket) > 0
    }

    // ---- Flushes -----------------------------------------------------------------------

    fn place_of(&self, holder: Holder) -> Place {
        match holder {
            Holder::Space => Place::Globals,
            Holder::Table(table) => Place::Table(table),
            Holder::Set(set) => self.place(set),
        }
    }

    /// `begin_flush`: the ticket's number.
    pub fn begin_flush(&mut self, holder: Holder) -> usize {
        let (ticket, place) = (self.tickets_made, self.place_of(holder));
        self.tickets_made += 1;
        let (all, share) = (self.is(Quirk::FlushTakesAll), self.is(Quirk::FlushesShare));
        let (pinned, at_once) = (
            self.is(Quirk::FlushTakesPinned),
            self.is(Quirk::FreeWhenBegun),
        );
        let mut in_flight = false;
        for set in 0..self.sets.len() {
            let here = all || self.place(set) == place;
            for one in self.sets[set].ended.values_mut().filter(|_| here) {
                let waits = !one.pinned || pinned;
                if waits && (one.ticket.is_none() || share) {
                    one.ticket = Some(ticket);
                    in_flight = true;
                }
            }
            if at_once {
                let ended = &mut self.sets[set].ended;
                ended.retain(|_, one| one.ticket != Some(ticket));
            }
        }
        let begun = Ticket {
            holder,
            place,
            in_flight,
        };
        self.tickets.insert(ticket, begun);
        ticket
    }

    /// The numbers of a batch, on a table or all, ascending.
    fn batch_on(&self, ticket: usize, table: Option<usize>) -> BTreeSet<u32> {
        let everywhere = self.is(Quirk::RangesOnAll);
        let ended = self.sets.iter().flat_map(|set| &set.ended);
        let batch = ended.filter(|(_, one)| one.ticket == Some(ticket));
        let on = batch
            .filter(|(_, one)| table.is_none_or(|table| everywhere || one.tables.contains(&table)));
        on.map(|(&number, _)| number).collect()
    }

    /// What a ticket says of its batch, or of the part that was on a table.
    pub fn batch(&self, ticket: usize, table: Option<usize>) -> Batch {
        let numbers = self.batch_on(ticket, table);
        Batch {
            count: numbers.len() as u32,
            ranges: ranges(numbers.into_iter()),
        }
    }

    /// `put_back_on`: how many.
    pub fn put_back_on(&mut self, ticket: usize, table: usize) -> u32 {
        let on = match self.is(Quirk::FailureOfOneIsOfAll) {
            true => None,
            false => Some(table),
        };
        let numbers = self.batch_on(ticket, on);
        let ended = self.sets.iter_mut().flat_map(|set| &mut set.ended);
        let batch = ended.filter(|(_, one)| one.ticket == Some(ticket));
        for (_, one) in batch.filter(|(number, _)| numbers.contains(number)) {
            one.ticket = None;
        }
        numbers.len() as u32
    }

    /// `complete`: how many.
    pub fn complete(&mut self, ticket: usize) -> u32 {
        let Some(Ticket { place, .. }) = self.tickets.remove(&ticket) else {
            return 0;
        };
        let earlier = self.is(Quirk::RangesOnOfEarlierLives);
        let mut returned = 0;
        for set in &mut self.sets {
            let before = set.ended.len();
            set.ended.retain(|&number, one| {
                let ends = one.ticket == Some(ticket);
                if ends && earlier {
                    set.tables_before.insert(number, one.tables.clone());
                }
                !ends
            });
            returned += (before - set.ended.len()) as u32;
        }
        if returned > 0 {
            let (completed, all) = self.flushes.entry(place).or_default();
            *completed += 1;
            *all += u64::from(returned);
        }
        returned
    }

    /// A ticket is dropped, or its invalidation failed.
    pub fn put_back(&mut self, ticket: usize, failed: bool) {
        let completes = match failed {
            true => self.is(Quirk::FailedFlushCompletes),
            false => self.is(Quirk::DroppedTicketCompletes),
        };
        if completes {
            self.complete(ticket);
            return;
        }
        self.tickets.remove(&ticket);
        for one in self.sets.iter_mut().flat_map(|set| set.ended.values_mut()) {
            one.ticket = one.ticket.filter(|&of| of != ticket);
        }
    }

    /// Flushes in flight, those completed, and the PASIDs that they returned.
    pub fn flushes(&self, holder: Holder) -> (u64, u64, u64) {
        let place = self.place_of(holder);
        let here = |ticket: &&Ticket| ticket.in_flight && ticket.place == place;
        let (completed, returned) = self.flushes.get(&place).copied().unwrap_or_default();
        let in_flight = self.tickets.values().filter(here).count();
        (in_flight as u64, completed, returned)
    }

    /// Whether a flush is in flight that may have had a PASID of the set.
    pub(crate) fn is_being_flushed(&self, set: usize) -> bool {
        self.flushes(Holder::Set(set)).0 > 0
    }

    /// Whether a ticket holds that.
    pub(crate) fn has_ticket(&self, holder: Holder) -> bool {
        self.tickets.values().any(|ticket| ticket.holder == holder)
    }
}
