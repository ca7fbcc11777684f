// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread's flushes and pins.

use crate::counts::Met;
use crate::flusher::{Begun, flush};
use crate::info::{SetCell, TableCell};
use crate::shadow::Id;
use crate::worker::Worker;
use pasid::{Error, Flush, IoasidSet, Pinned, Pool, Space, Table, Ticket};
use std::sync::Arc;

/// A ticket of each kind.
enum AnyTicket<'a> {
    Space(Ticket<&'a Space>),
    Table(Ticket<Arc<Table>>),
    Set(Ticket<Arc<IoasidSet>>),
}

macro_rules! each {
    ($ticket:expr, $name:ident => $call:expr) => {
        match $ticket {
            AnyTicket::Space($name) => $call,
            AnyTicket::Table($name) => $call,
            AnyTicket::Set($name) => $call,
        }
    };
}

pub struct HeldTicket<'a> {
    ticket: AnyTicket<'a>,
    begun: Begun,
}

pub struct HeldPin {
    pin: Pinned<Arc<IoasidSet>>,
    cell: Arc<SetCell>,
    id: Id,
}

impl<'a> Worker<'a> {
    // ---- Flushes -----------------------------------------------------------------------

    /// A flush of some kind.
    pub fn flush(&mut self) {
        let (cell, table) = (self.set(), self.table());
        let space = &self.arena.everything;
        let kind = self.random.u8(..16);
        match kind {
            0..=3 => {
                let fails = kind == 0;
                flush(&*cell.set, space, &cell.info.batches, fails);
            }
            4 => flush(&*table.table, space, &table.shadow.batches, false),
            5 => flush(&self.arena.space, space, &space.batches, false),
            _ => self.begin(kind, &cell, &table),
        }
    }

    fn begin(&mut self, kind: u8, cell: &SetCell, table: &TableCell) {
        let space = &self.arena.everything;
        let (ticket, batches) = match kind % 4 {
            0 => (
                AnyTicket::Space(self.arena.space.begin_flush()),
                &space.batches,
            ),
            1 => (
                AnyTicket::Table(Arc::clone(&table.table).begin_flush()),
                &table.shadow.batches,
            ),
            _ => (
                AnyTicket::Set(Arc::clone(&cell.set).begin_flush()),
                &cell.info.batches,
            ),
        };
        let begun = each!(&ticket, ticket => Begun::new(space, batches, ticket));
        self.tickets.push(HeldTicket { ticket, begun });
        // Few, and not for long: others wait for what they have.
        if self.tickets.len() > 1 + self.random.usize(..2) {
            self.end_flush();
        }
    }

    /// Ends a flush in flight in one of the ways there are.
    pub fn end_flush(&mut self) {
        if self.tickets.is_empty() {
            return;
        }
        let at = self.random.usize(..self.tickets.len());
        let HeldTicket {
            mut ticket,
            mut begun,
        } = self.tickets.swap_remove(at);
        let ending = self.random.u8(..4);
        if ending == 0 && !begun.is_empty() {
            self.counts.add(Met::PutBack);
            begun.ends(false);
            return drop(ticket);
        }
        if ending == 1 {
            let table = self.table();
            let expected =
                each!(&ticket, ticket => begun.put_back_on(ticket.ranges_on(&table.table)));
            let kept = each!(&mut ticket, ticket => ticket.put_back_on(&table.table));
            assert_eq!(kept, expected, "broken: another part was put back");
            if kept > 0 {
                self.counts.add(Met::PutBackOn);
            }
        }
        let expected = begun.ends(true);
        let returned = each!(ticket, ticket => ticket.complete());
        assert_eq!(returned, expected, "broken: another batch was returned");
    }

    /// Flushes what is left of sets that are closed, and lets go of those that are empty.
    pub fn flush_closed(&mut self) {
        for cell in self.arena.take_closed() {
            // An allocation that finds its set closed leaves something too.
            let others = Arc::strong_count(&cell) > 1;
            flush(
                &*cell.set,
                &self.arena.everything,
                &cell.info.batches,
                false,
            );
            let of = cell.set.statistics();
            if others || of.live + of.freeing + of.waiting + of.pinned > 0 {
                self.arena.put_closed_back(cell);
            }
        }
    }

    // ---- Pins --------------------------------------------------------------------------

    pub fn pin(&mut self) {
        let (cell, id, number, pinned) = if self.random.bool() {
            let Some(one) = self.random.choice(&self.owned) else {
                return;
            };
            let pinned = one.owned.pin();
            (Arc::clone(&one.cell), one.id, one.owned.pasid(), pinned)
        } else {
            let Some(one) = self.random.choice(&self.refs) else {
                return;
            };
            let pinned = one.reference.pin();
            (Arc::clone(&one.cell), one.id, one.reference.pasid(), pinned)
        };
        match pinned {
            Ok(pin) => {
                assert_eq!(pin.pasid(), number);
                cell.info.pin(number.get(), id);
                self.pins.push(HeldPin { pin, cell, id });
            }
            Err(Error::AlreadyPinned(named)) if named == number => {
                self.counts.add(Met::AlreadyPinned);
            }
            Err(error) => panic!("broken: {error:?} for a pin of {number}"),
        }
        if self.pins.len() > 2 {
            self.unpin();
        }
    }

    pub fn unpin(&mut self) {
        if self.pins.is_empty() {
            return;
        }
        let at = self.random.usize(..self.pins.len());
        let HeldPin { pin, cell, id } = self.pins.swap_remove(at);
        if let Err(Error::Stale(_)) = (&*cell.set).get(pin.handle()).map(drop) {
            self.counts.add(Met::PinnedAtEnd);
        }
        cell.info.unpin(pin.pasid().get(), id);
        drop(pin);
    }
}
