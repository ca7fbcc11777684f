// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flushes, their tickets, and pins.

use crate::sets::drive::{Held, Outcome, Run};
use crate::sets::model::{Batch, Holder};
use crate::sets::op::{Invalidation, Op, Whose};
use crate::sets::report::Call;
use pasid::{Error, Flush, FlushStatistics, Flusher, IoasidSet, PasidRange, Space, Table, Ticket};
use std::sync::{Arc, OnceLock, Weak};

/// Tickets that are held at once: the oldest goes when one more comes.
const TICKETS_LAST: usize = 6;
/// Pins, likewise.
const PINS_LAST: usize = 8;

/// A flush that a set's allocations run.
pub(crate) struct Installed {
    /// The set's handle is the run's; here it would keep the set from going.
    set: OnceLock<Weak<IoasidSet>>,
    works: bool,
}

impl Installed {
    pub(crate) fn new(works: bool) -> Arc<Installed> {
        let set = OnceLock::new();
        Arc::new(Installed { set, works })
    }

    pub(crate) fn install(&self, set: &Arc<IoasidSet>) {
        // It is installed once.
        let _ = self.set.set(Arc::downgrade(set));
    }
}

impl Flusher for Installed {
    fn flush(&self) {
        if let Some(set) = self.set.get().and_then(Weak::upgrade) {
            // What failed waits on, and the allocation says so.
            let _ = set.flush(|_| self.works.then_some(()).ok_or(()));
        }
    }
}

/// Flushes whatever waits where the PASIDs of `set` do.
pub(crate) fn flush_all(set: &IoasidSet) {
    // It cannot fail.
    let _ = set.flush(|_| Ok::<(), ()>(()));
}

/// A ticket of each kind.
pub(crate) enum AnyTicket {
    Space(Ticket<Arc<Space>>),
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

fn said<F: Flush>(ticket: &Ticket<F>) -> Batch {
    Batch {
        count: ticket.count(),
        ranges: ticket.ranges().collect(),
    }
}

fn said_on<F: Flush>(ticket: &Ticket<F>, table: &Table) -> Batch {
    let ranges: Vec<PasidRange> = ticket.ranges_on(table).collect();
    Batch {
        count: ranges.iter().map(|range| range.count()).sum(),
        ranges,
    }
}

/// What came of a `flush`.
type Flushed = Result<u32, ()>;

/// Flushes in the way that is wanted. Returns what the batch was, and what was put back.
fn flush_with<F: Flush>(
    holder: F,
    invalidation: Invalidation,
    table: Option<&Table>,
) -> (Flushed, Option<Batch>, u32) {
    let (mut batch, mut kept) = (None, 0);
    let flushed = holder.flush(|ticket| {
        batch = Some(said(ticket));
        match (invalidation, table) {
            (Invalidation::Fails, _) => return Err(()),
            (Invalidation::FailsOn(_), Some(table)) => kept = ticket.put_back_on(table),
            _ => {}
        }
        Ok(())
    });
    (flushed, batch, kept)
}

impl Run {
    pub(crate) fn flush_call(&mut self, op: Op) -> Outcome {
        match op {
            Op::BeginFlush(whose) => self.begin_flush(whose),
            Op::Complete(which) => self.end_ticket(which, true),
            Op::DropTicket(which) => self.end_ticket(which, false),
            Op::PutBackOn(which, table) => self.put_back_on(which, table),
            Op::LookAtTicket(which, table) => self.look_at_ticket(which, table),
            Op::Flush(whose, invalidation) => self.flush(whose, invalidation),
            Op::Pin(which) => self.pin(which),
            Op::Unpin(which) => match usize::from(which).checked_rem(self.pins.len()) {
                Some(index) => self.unpin_at(index),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// A call that cannot fail.
    fn done(&mut self, call: Call) -> Outcome {
        self.same_result((call, ()), Ok(()), Ok(()))
    }

    fn whose(&self, whose: Whose) -> Option<Holder> {
        Some(match whose {
            Whose::Space => Holder::Space,
            Whose::Table(which) => Holder::Table(self.table(which)?.0),
            Whose::Set(which) | Whose::SetToo(which) => Holder::Set(self.set(which)?.0),
        })
    }

    // ---- Tickets -----------------------------------------------------------------------

    fn begin_flush(&mut self, whose: Whose) -> Outcome {
        let Some(holder) = self.whose(whose) else {
            return Ok(());
        };
        let ticket = match holder {
            Holder::Space => Some(AnyTicket::Space(self.space.clone().begin_flush())),
            Holder::Table(index) => {
                let table = self.tables[index].clone();
                table.map(|table| AnyTicket::Table(table.begin_flush()))
            }
            Holder::Set(index) => {
                let set = self.sets[index].clone();
                set.map(|set| AnyTicket::Set(set.begin_flush()))
            }
        };
        let Some(ticket) = ticket else {
            return Ok(());
        };
        let number = self.model.begin_flush(holder);
        self.done(Call::BeginFlush)?;
        self.tickets.push((number, ticket));
        self.compare_ticket(self.tickets.len() - 1)?;
        self.compare_flushes(holder)?;
        match self.tickets.len() > TICKETS_LAST {
            true => self.end_ticket_at(0, number.is_multiple_of(2)),
            false => Ok(()),
        }
    }

    fn ticket(&self, which: u16) -> Option<usize> {
        usize::from(which).checked_rem(self.tickets.len())
    }

    fn compare_ticket(&self, index: usize) -> Outcome {
        let (number, ticket) = &self.tickets[index];
        let batch = each!(ticket, ticket => said(ticket));
        let empty = each!(ticket, ticket => ticket.is_empty());
        self.same(("is_empty of ticket", number), empty, batch.count == 0)?;
        self.same(
            ("batch of ticket", number),
            batch,
            self.model.batch(*number, None),
        )
    }

    fn compare_flushes(&self, holder: Holder) -> Outcome {
        let real: Option<FlushStatistics> = match holder {
            Holder::Space => Some(self.space.clone().flushes()),
            Holder::Table(index) => self.tables[index].clone().map(Flush::flushes),
            Holder::Set(index) => self.sets[index].clone().map(Flush::flushes),
        };
        let Some(real) = real else {
            return Ok(());
        };
        let real = (real.in_flight, real.completed, real.returned);
        self.same(("flushes of", holder), real, self.model.flushes(holder))
    }

    fn look_at_ticket(&mut self, which: u16, table: u8) -> Outcome {
        let (Some(at), Some((index, table))) = (self.ticket(which), self.table(table)) else {
            return Ok(());
        };
        self.compare_ticket(at)?;
        let (number, ticket) = &self.tickets[at];
        let on = each!(ticket, ticket => said_on(ticket, &table));
        let concerns = each!(ticket, ticket => ticket.concerns(&table));
        self.same(("concerns", number, index), concerns, on.count > 0)?;
        let model = self.model.batch(*number, Some(index));
        self.same(("ranges_on", number, index), on, model)
    }

    fn put_back_on(&mut self, which: u16, table: u8) -> Outcome {
        let (Some(at), Some((index, table))) = (self.ticket(which), self.table(table)) else {
            return Ok(());
        };
        let (number, ticket) = &mut self.tickets[at];
        let number = *number;
        let real = each!(ticket, ticket => ticket.put_back_on(&table));
        let model = self.model.put_back_on(number, index);
        self.same_result((Call::PutBackOn, (number, index)), Ok(real), Ok(model))?;
        self.compare_ticket(at)
    }

    fn end_ticket(&mut self, which: u16, completes: bool) -> Outcome {
        match self.ticket(which) {
            Some(at) => self.end_ticket_at(at, completes),
            None => Ok(()),
        }
    }

    fn end_ticket_at(&mut self, at: usize, completes: bool) -> Outcome {
        self.compare_ticket(at)?;
        let (number, ticket) = self.tickets.remove(at);
        if !completes {
            drop(ticket);
            self.model.put_back(number, false);
            return self.done(Call::DropTicket);
        }
        let real = each!(ticket, ticket => ticket.complete());
        let model = self.model.complete(number);
        self.same_result((Call::Complete, number), Ok(real), Ok(model))
    }

    // ---- At once -------------------------------------------------------------------------

    fn flush(&mut self, whose: Whose, invalidation: Invalidation) -> Outcome {
        let Some(holder) = self.whose(whose) else {
            return Ok(());
        };
        let failing = match invalidation {
            Invalidation::FailsOn(table) => self.table(table),
            _ => None,
        };
        let table = failing.as_ref().map(|(_, table)| &**table);
        let (real, batch, kept) = match holder {
            Holder::Space => flush_with(self.space.clone(), invalidation, table),
            Holder::Table(index) => match self.tables[index].clone() {
                Some(of) => flush_with(of, invalidation, table),
                None => return Ok(()),
            },
            Holder::Set(index) => match self.sets[index].clone() {
                Some(of) => flush_with(of, invalidation, table),
                None => return Ok(()),
            },
        };
        let number = self.model.begin_flush(holder);
        // Where nothing waits nothing is called.
        let wanted = Some(self.model.batch(number, None)).filter(|batch| batch.count > 0);
        let fails = matches!(invalidation, Invalidation::Fails) && wanted.is_some();
        self.same(("batch of flush", holder), batch, wanted)?;
        if let Some((index, _)) = failing {
            let model = self.model.put_back_on(number, index);
            self.same(("put back on", index), kept, model)?;
        }
        let model = match fails {
            true => {
                self.model.put_back(number, true);
                Err(())
            }
            false => Ok(self.model.complete(number)),
        };
        self.same(("flush", holder), real, model)?;
        self.done(Call::Flush)?;
        self.compare_flushes(holder)
    }

    // ---- Pins ------------------------------------------------------------------------------

    fn pin(&mut self, which: u16) -> Outcome {
        let Some(index) = self.index(which) else {
            return Ok(());
        };
        let (set, ref holder) = self.held[index];
        let real = match holder {
            Held::Owned(owned) => owned.pin(),
            Held::Ref(reference) => reference.pin(),
            Held::RawOwned(..) | Held::RawRef(..) => return Ok(()),
        };
        let handle = holder.handle();
        let got = real.as_ref().map(|pin| (pin.handle(), pin.pasid()));
        let got = got.map_err(|error: &Error| *error);
        let model = self.model.pin(set, handle);
        let model = model.map(|()| (handle, handle.pasid()));
        self.same_result((Call::Pin, (set, handle)), got, model)?;
        if let Ok(pin) = real {
            self.pins.push((set, pin));
        }
        match self.pins.len() > PINS_LAST {
            true => self.unpin_at(0),
            false => Ok(()),
        }
    }

    fn unpin_at(&mut self, index: usize) -> Outcome {
        let (set, pin) = self.pins.remove(index);
        let handle = pin.handle();
        drop(pin);
        self.model.unpin(set, handle);
        self.done(Call::Unpin)?;
        self.find_everywhere(handle.pasid())
    }

    /// Ends all that there is of these, and flushes what can be flushed.
    pub(crate) fn end_flushes(&mut self) -> Outcome {
        while !self.tickets.is_empty() {
            self.end_ticket_at(0, self.tickets.len().is_multiple_of(2))?;
        }
        while !self.pins.is_empty() {
            self.unpin_at(0)?;
        }
        self.flush(Whose::Space, Invalidation::Works)?;
        for which in 0..=u8::MAX {
            let which_one = usize::from(which);
            if which_one < self.tables.iter().flatten().count() {
                self.flush(Whose::Table(which), Invalidation::Works)?;
            }
            if which_one < self.sets.iter().flatten().count() {
                self.flush(Whose::Set(which), Invalidation::Works)?;
            }
        }
        Ok(())
    }
}
