// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread: random steps on sets, each checked against the shadow.

use crate::arena::{Arena, SETS, TABLES, pasid, range};
use crate::counts::{Counts, Met};
use crate::flushing::{HeldPin, HeldTicket};
use crate::info::{SetCell, SetInfo, TableCell};
use crate::shadow::{Id, id_of};
use pasid::{Attachment, Error, Fault, Handle, IoasidSet, Owned, PasidRange, Pool, Ref, Table};
use std::sync::Arc;

pub struct HeldOwned {
    pub owned: Owned<Arc<IoasidSet>>,
    pub cell: Arc<SetCell>,
    pub id: Id,
}

pub struct HeldRef {
    pub reference: Ref<Arc<IoasidSet>>,
    pub cell: Arc<SetCell>,
    pub id: Id,
}

pub struct HeldAttachment {
    pub attachment: Attachment<Arc<Table>>,
    pub table: Arc<TableCell>,
    pub word: u64,
}

pub struct HeldFault {
    pub fault: Fault<Arc<Table>>,
    pub table: Arc<TableCell>,
}

/// One thread's holdings.
pub struct Worker<'a> {
    pub arena: &'a Arena,
    pub random: fastrand::Rng,
    pub thread: u32,
    pub numbers: u32,
    /// As this thread last saw them. It looks again when it is told of a closing: a look
    /// takes a lock, which would give the order that the space has to give.
    pub tables: Vec<Arc<TableCell>>,
    pub sets: Vec<Arc<SetCell>>,
    pub owned: Vec<HeldOwned>,
    pub refs: Vec<HeldRef>,
    pub attachments: Vec<HeldAttachment>,
    pub faults: Vec<HeldFault>,
    pub tickets: Vec<HeldTicket<'a>>,
    pub pins: Vec<HeldPin>,
    held_last: usize,
    pub counts: Counts,
}

impl<'a> Worker<'a> {
    /// A worker that holds at most `held_last` of each.
    pub fn new(arena: &'a Arena, seed: u64, thread: u32, held_last: usize) -> Worker<'a> {
        Worker {
            arena,
            random: fastrand::Rng::with_seed(seed ^ u64::from(thread) << 56),
            thread,
            numbers: 0,
            tables: (0..TABLES).map(|index| arena.table(index)).collect(),
            sets: (0..SETS).map(|index| arena.set(index)).collect(),
            owned: Vec::new(),
            refs: Vec::new(),
            attachments: Vec::new(),
            faults: Vec::new(),
            tickets: Vec::new(),
            pins: Vec::new(),
            held_last,
            counts: Counts::default(),
        }
    }

    /// Takes `steps` random steps and gives everything back.
    pub fn run(mut self, steps: u32) {
        for _ in 0..steps {
            match self.random.u8(..80) {
                0..=12 => self.alloc(),
                13..=15 => self.contend(),
                16..=20 => self.free(),
                21 => self.hand_over(),
                22..=26 => self.get_by_number(),
                27..=31 => self.drop_reference(),
                32..=41 => self.attach(),
                42..=44 => self.detach(),
                45..=46 => self.replace(),
                47..=57 => self.fault(),
                58 => self.check_own(),
                59..=61 => self.check_attached(),
                62 => self.look_around(),
                63 => self.control(),
                64..=71 => self.flush(),
                72..=74 => self.end_flush(),
                75..=77 => self.pin(),
                _ => self.unpin(),
            }
        }
        while !self.faults.is_empty() {
            self.answer_fault();
        }
        while !self.attachments.is_empty() {
            self.detach();
        }
        while !self.owned.is_empty() {
            self.free();
        }
        while !self.refs.is_empty() {
            self.drop_reference();
        }
        while !self.pins.is_empty() {
            self.unpin();
        }
        while !self.tickets.is_empty() {
            self.end_flush();
        }
        self.arena.everything.counts.merge(&self.counts);
    }

    pub fn number(&mut self) -> u32 {
        self.random.u32(1..=self.arena.last)
    }

    pub fn set(&mut self) -> Arc<SetCell> {
        Arc::clone(&self.sets[self.random.usize(..SETS)])
    }

    /// Looks for what came in the place of what is closing, but not each time.
    pub fn met_closing(&mut self) {
        self.counts.add(Met::Closing);
        if self.random.u8(..4) == 0 {
            for (index, table) in self.tables.iter_mut().enumerate() {
                *table = self.arena.table(index);
            }
            for (index, set) in self.sets.iter_mut().enumerate() {
                *set = self.arena.set(index);
            }
        }
    }

    // ---- Allocating ----------------------------------------------------------------

    fn alloc(&mut self) {
        let cell = self.set();
        self.numbers += 1;
        let id = Id::new(cell.info.key, self.thread, self.numbers);
        let set = Arc::clone(&cell.set);
        let number = self.number();
        let mut request = cell.info.range;
        if self.random.u8(..4) == 0 {
            request = range(number.min(cell.info.last()), self.arena.last);
        }
        let (alone, cpu) = (pasid(number), self.thread);
        let result = match self.random.u8(..8) {
            0..=3 => {
                request = alone.into();
                set.alloc_at(alone, id.0)
            }
            4 => set.alloc_in_place(request, id.0),
            5 => set.alloc_near(cpu, request, id.0),
            _ => set.alloc(request, id.0),
        };
        match result {
            Ok(owned) => {
                assert!(
                    request.contains(owned.pasid()),
                    "broken: not in the request"
                );
                assert_eq!(owned.word(), id.0, "broken: not its word");
                cell.info.check_has(owned.pasid());
                cell.info.check_reuse(owned.pasid().get(), id);
                self.counts.add(Met::Allocated);
                if cell.info.enter(owned.pasid().get(), id) {
                    self.counts.add(Met::Overlap);
                }
                self.owned.push(HeldOwned { owned, cell, id });
            }
            Err(error) => self.refused(&cell.info, request, error),
        }
        if self.owned.len() > self.held_last {
            self.free();
        }
    }

    /// One PASID for some sets one after the other, each for a moment.
    fn contend(&mut self) {
        let number = pasid(self.number().min(3));
        for _ in 0..4 {
            let cell = self.set();
            self.numbers += 1;
            let id = Id::new(cell.info.key, self.thread, self.numbers);
            match (&*cell.set).alloc_at(number, id.0) {
                Ok(owned) => {
                    cell.info.check_has(number);
                    cell.info.check_reuse(number.get(), id);
                    cell.info.enter(number.get(), id);
                    self.counts.add(Met::Allocated);
                    cell.info.leave(number.get(), id);
                    drop(owned);
                }
                Err(error) => self.refused(&cell.info, number.into(), error),
            }
        }
    }

    /// Whether an allocation may be refused with that.
    fn refused(&mut self, info: &SetInfo, request: PasidRange, error: Error) {
        use crate::shadow::Side;
        let alone = request.first();
        let met = match error {
            Error::HeldGlobally(named) if named == alone => Met::HeldGlobally,
            Error::HeldLocally(named) if named == alone && info.side == Side::Global => {
                Met::HeldLocally
            }
            Error::InUse(named) if named == alone => Met::InUse,
            Error::Reserved(named) if named == alone => {
                assert!(info.side == Side::Table, "broken: {named} is not reserved");
                Met::Reserved
            }
            // Its tables are too narrow, or were while a device had joined.
            Error::DoesNotFit { pasid, .. } if pasid == alone && !info.fitted(alone) => {
                Met::TooNarrow
            }
            // A device had joined when memory was put in place.
            Error::OutOfMemory if !info.fitted(request.last()) => Met::TooNarrow,
            Error::QuotaExceeded { .. } if info.credits.is_some() => Met::QuotaRefused,
            Error::Exhausted { range } => {
                assert_eq!(range.first(), request.first());
                Met::Exhausted
            }
            Error::AwaitingFlush { range } => {
                assert_eq!(range.first(), request.first());
                Met::AwaitingFlush
            }
            Error::Closing => return self.met_closing(),
            error => panic!("broken: {error:?} for {request}"),
        };
        self.counts.add(met);
    }

    /// Frees a random one of its own, in one of the ways there are.
    pub fn free(&mut self) {
        if self.owned.is_empty() {
            return;
        }
        let at = self.random.usize(..self.owned.len());
        let HeldOwned { owned, cell, id } = self.owned.swap_remove(at);
        let handle = owned.handle();
        cell.info.leave(handle.pasid().get(), id);
        match self.random.u8(..8) {
            0 => {
                let raw = Handle::from_raw(owned.into_raw()).expect("the raw form of a handle");
                // SAFETY: the allocation that `into_raw` gave up.
                unsafe { cell.set.free(raw) }.expect("the owner frees");
            }
            1 => {
                cell.set.revoke(handle).expect("it is held");
                drop(owned);
            }
            _ => drop(owned),
        }
        // It is revoked at the least, and over where nobody else holds it.
        match (&*cell.set).get(handle).map(drop) {
            Err(Error::BeingFreed(_)) => self.counts.add(Met::BeingFreed),
            Err(Error::Stale(_)) => {
                let held = self.refs.iter().any(|one| one.id == id)
                    || self.attachments.iter().any(|one| id_of(one.word) == id);
                assert!(!held, "broken: {handle} is over while it is held");
                self.counts.add(Met::Stale);
            }
            // Another set has it by now.
            Err(Error::WrongSet(_)) => {}
            other => panic!("broken: {other:?} after the free of {handle}"),
        }
    }

    // ---- References ----------------------------------------------------------------

    /// Makes an owner a plain reference, which may be the last one.
    fn hand_over(&mut self) {
        if !self.owned.is_empty() {
            let at = self.random.usize(..self.owned.len());
            let HeldOwned { owned, cell, id } = self.owned.swap_remove(at);
            let reference = owned.into_ref();
            self.keep(HeldRef {
                reference,
                cell,
                id,
            });
        }
    }

    fn get_by_number(&mut self) {
        let cell = self.set();
        let number = pasid(self.number());
        let found = Arc::clone(&cell.set).get_at(number);
        match found {
            Ok(reference) => {
                assert_eq!(reference.pasid(), number);
                let id = Id(reference.word());
                cell.info.enter(number.get(), id);
                self.keep(HeldRef {
                    reference,
                    cell,
                    id,
                });
            }
            Err(Error::NotFound(_)) => self.counts.add(Met::NotFound),
            Err(Error::BeingFreed(_)) => self.counts.add(Met::BeingFreed),
            Err(Error::WrongSet(_)) => self.counts.add(Met::WrongSet),
            Err(Error::Closing) => self.met_closing(),
            Err(error) => assert!(
                matches!(error, Error::Reserved(_) | Error::DoesNotFit { .. }),
                "broken: {error:?} for {number}"
            ),
        }
    }

    /// Keeps a reference that the shadow knows of.
    fn keep(&mut self, held: HeldRef) {
        assert_eq!(
            held.reference.word(),
            held.id.0,
            "broken: another one's word"
        );
        self.refs.push(held);
        if self.refs.len() > self.held_last {
            self.drop_reference();
        }
    }

    fn drop_reference(&mut self) {
        if self.refs.is_empty() {
            return;
        }
        let at = self.random.usize(..self.refs.len());
        let HeldRef {
            reference,
            cell,
            id,
        } = self.refs.swap_remove(at);
        assert_eq!(reference.word(), id.0, "broken: another one's word");
        if self.random.u8(..8) == 0 {
            let clone = reference.try_clone().expect("far from the limit");
            cell.info.enter(clone.pasid().get(), id);
            cell.info.leave(clone.pasid().get(), id);
        }
        cell.info.leave(reference.pasid().get(), id);
        drop(reference);
    }

    /// What this thread holds is there.
    fn check_own(&mut self) {
        if let Some(one) = self.random.choice(&self.owned) {
            let handle = one.owned.handle();
            match one.cell.set.find(handle.pasid()) {
                Ok(found) => {
                    assert_eq!(found.handle, handle, "broken: not the owner's");
                    assert_eq!(found.word, one.id.0, "broken: not the owner's word");
                }
                Err(Error::BeingFreed(_) | Error::Closing) => {}
                Err(error) => panic!("broken: {handle} is owned and {error:?}"),
            }
        }
        if let Some(one) = self.random.choice(&self.refs) {
            let handle = one.reference.handle();
            match (&*one.cell.set).get(handle).map(drop) {
                Ok(()) | Err(Error::BeingFreed(_) | Error::Closing) => {}
                Err(error) => panic!("broken: {handle} is held and {error:?}"),
            }
        }
    }
}
