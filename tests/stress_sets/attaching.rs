// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread's steps on tables, and those that change tables and sets under the others.

use crate::arena::{SETS, TABLES, pasid, range};
use crate::counts::Met;
use crate::info::{SetCell, TableCell};
use crate::shadow::{FLIP, Id, attached_word, id_of};
use crate::worker::{HeldAttachment, HeldFault, Worker};
use pasid::{Attach, Attaching, Error, Pool, Table};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Worker<'_> {
    pub fn table(&mut self) -> Arc<TableCell> {
        Arc::clone(&self.tables[self.random.usize(..TABLES)])
    }

    // ---- Attachments -----------------------------------------------------------------

    pub fn attach(&mut self) {
        self.numbers += 1;
        let by_owner = self.random.bool();
        let (cell, id) = if by_owner {
            let Some(one) = self.random.choice(&self.owned) else {
                return;
            };
            (Arc::clone(&one.cell), one.id)
        } else {
            let Some(one) = self.random.choice(&self.refs) else {
                return;
            };
            (Arc::clone(&one.cell), one.id)
        };
        // One that the set reaches, as a rule.
        let table = match self.random.choice(&cell.tables) {
            Some(table) if self.random.u8(..8) != 0 => Arc::clone(table),
            _ => self.table(),
        };
        let word = attached_word(id, self.numbers);
        let way = Arc::clone(&table.table);
        let begun = match by_owner {
            true => self
                .owned
                .iter()
                .find(|one| one.id == id)
                .map(|one| way.attach(&one.owned, word)),
            false => self
                .refs
                .iter()
                .find(|one| one.id == id)
                .map(|one| way.attach(&one.reference, word)),
        };
        match begun.expect("chosen above") {
            Ok(attaching) => {
                assert!(
                    cell.info.reaches(&table),
                    "broken: attached to another table"
                );
                assert!(
                    attaching.pasid().get() <= table.shadow.last_fit,
                    "broken: it does not fit"
                );
                self.commit(&cell, id, table, attaching, word);
            }
            Err(error) => self.not_attached_for(&cell, &table, error),
        }
        if self.attachments.len() > self.attached_last() {
            self.detach();
        }
    }

    fn attached_last(&self) -> usize {
        2 + self.arena.last as usize / 4
    }

    /// Whether an attachment may be refused with that.
    fn not_attached_for(&mut self, cell: &SetCell, table: &TableCell, error: Error) {
        let met = match error {
            Error::WrongSet(_) => {
                assert!(
                    !cell.info.reaches(table),
                    "broken: its own table refuses it"
                );
                Met::WrongSet
            }
            Error::DoesNotFit { pasid, .. } => {
                assert!(!table.shadow.fitted(pasid.get()), "broken: {pasid} fits");
                Met::TooNarrow
            }
            Error::AlreadyAttached(_) => Met::AlreadyAttached,
            Error::BeingFreed(_) => Met::BeingFreed,
            Error::Paused => Met::Paused,
            Error::Closing => return self.met_closing(),
            error => panic!("broken: {error:?} for an attachment"),
        };
        self.counts.add(met);
    }

    fn commit(
        &mut self,
        cell: &SetCell,
        id: Id,
        table: Arc<TableCell>,
        attaching: Attaching<Arc<Table>>,
        word: u64,
    ) {
        let number = attaching.pasid().get();
        table.shadow.entries.reserved(number, word);
        if self.random.u8(..8) == 0 {
            drop(attaching);
            return;
        }
        match attaching.commit() {
            Ok(attachment) => {
                // The owner's reference, or the caller's, is held, and so is the entry.
                table.shadow.entries.enter(number, word);
                cell.info.enter(number, id);
                self.counts.add(Met::Attached);
                self.post(&table, number);
                self.attachments.push(HeldAttachment {
                    attachment,
                    table,
                    word,
                });
            }
            Err(Error::Paused) => self.counts.add(Met::Paused),
            Err(Error::DoesNotFit { .. }) if !table.shadow.fitted(number) => {
                self.counts.add(Met::TooNarrow);
            }
            Err(Error::Closing) => self.met_closing(),
            Err(error) => panic!("broken: {error:?} for a commitment"),
        }
    }

    fn post(&mut self, table: &Arc<TableCell>, number: u32) {
        let same = |cell: &Arc<TableCell>| Arc::ptr_eq(cell, table);
        if let Some(index) = self.tables.iter().position(same) {
            let place = self.random.choice(&self.arena.board).expect("not empty");
            place.store((index as u32) << 20 | number, Ordering::Relaxed);
        }
    }

    pub fn replace(&mut self) {
        if self.attachments.is_empty() {
            return;
        }
        let at = self.random.usize(..self.attachments.len());
        let one = &mut self.attachments[at];
        assert_eq!(
            one.attachment.word(),
            one.word,
            "broken: not the attachment's word"
        );
        match one.attachment.replace(one.word ^ FLIP) {
            Ok(before) => {
                assert_eq!(before, one.word, "broken: not the attachment's word");
                one.word ^= FLIP;
            }
            Err(Error::BeingFreed(_)) => self.counts.add(Met::BeingFreed),
            Err(Error::Paused) => self.counts.add(Met::Paused),
            // Somebody tries to join, and will be refused.
            Err(Error::DoesNotFit { pasid, .. }) if !one.table.shadow.fitted(pasid.get()) => {
                self.counts.add(Met::TooNarrow);
            }
            Err(Error::Closing) => self.met_closing(),
            Err(error) => panic!("broken: {error:?} for a replacement"),
        }
    }

    pub fn detach(&mut self) {
        if self.attachments.is_empty() {
            return;
        }
        let at = self.random.usize(..self.attachments.len());
        self.detach_at(at);
    }

    fn detach_at(&mut self, at: usize) {
        let HeldAttachment {
            attachment,
            table,
            word,
        } = self.attachments.swap_remove(at);
        assert_eq!(attachment.word(), word, "broken: not the attachment's word");
        let number = attachment.pasid().get();
        table.shadow.entries.leave(number, word);
        self.arena.info_of(id_of(word)).leave(number, id_of(word));
        attachment.detach();
    }

    // ---- Faults ------------------------------------------------------------------------

    pub fn fault(&mut self) {
        let (mut table, mut number) = (self.random.usize(..TABLES), self.number());
        if self.random.u8(..4) != 0 {
            let posted = self.random.choice(&self.arena.board);
            let posted = posted.map_or(1, |place| place.load(Ordering::Relaxed));
            (table, number) = ((posted >> 20) as usize, posted & 0xf_ffff);
        }
        self.fault_at(Arc::clone(&self.tables[table]), number);
        if self.faults.len() > 3 {
            self.answer_fault();
        }
    }

    fn fault_at(&mut self, table: Arc<TableCell>, number: u32) {
        let met = match Arc::clone(&table.table).fault_get(pasid(number)) {
            Ok(fault) => {
                let word = fault.word();
                table.shadow.entries.enter(number, word);
                let (id, info) = (id_of(word), self.arena.info_of(id_of(word)));
                info.enter(number, id);
                assert!(
                    info.reaches(&table),
                    "broken: a fault reaches another table's owner"
                );
                assert_eq!(fault.pasid().get(), number);
                self.faults.push(HeldFault { fault, table });
                Met::Fault
            }
            Err(Error::NotAttached(_)) => Met::NotAttached,
            Err(Error::NotFound(_)) => Met::NotFound,
            Err(Error::BeingFreed(_)) => Met::BeingFreed,
            Err(Error::Reserved(_)) => Met::Reserved,
            Err(Error::DoesNotFit { .. }) if !table.shadow.fitted(number) => Met::TooNarrow,
            Err(Error::Closing) => return self.met_closing(),
            Err(error) => panic!("broken: {error:?} for a fault on {number}"),
        };
        self.counts.add(met);
    }

    pub fn answer_fault(&mut self) {
        if self.faults.is_empty() {
            return;
        }
        let at = self.random.usize(..self.faults.len());
        let HeldFault { fault, table } = self.faults.swap_remove(at);
        let (number, word) = (fault.pasid().get(), fault.word());
        table.shadow.entries.leave(number, word);
        self.arena.info_of(id_of(word)).leave(number, id_of(word));
        drop(fault);
    }

    /// What this thread has attached is found.
    pub fn check_attached(&mut self) {
        if self.attachments.is_empty() {
            return;
        }
        let at = self.random.usize(..self.attachments.len());
        let one = &self.attachments[at];
        let (number, word) = (one.attachment.pasid(), one.word);
        let table = Arc::clone(&one.table.table);
        match table.fault_get(number) {
            Ok(fault) => {
                assert_eq!(fault.word(), word, "broken: another attachment");
                assert_eq!(fault.handle(), one.attachment.handle());
            }
            // It makes room for one that is found.
            Err(Error::BeingFreed(_)) => self.detach_at(at),
            Err(Error::Closing) => self.met_closing(),
            Err(error) => panic!("broken: {number} is attached and {error:?}"),
        }
    }

    // ---- Lists -------------------------------------------------------------------------

    /// Lists show what belongs there, in order.
    pub fn look_around(&mut self) {
        let number = self.number();
        let (cell, table) = (self.set(), self.table());
        let mut next = 0;
        for found in cell.set.iter(range(number, self.arena.last)).take(3) {
            assert_eq!(
                Id(found.word).set(),
                cell.info.key as usize,
                "broken: another set's"
            );
            let seen = found.handle.pasid().get();
            assert!(seen >= next, "broken: the list goes back");
            next = seen + 1;
        }
        let mut next = number;
        for found in table
            .table
            .attachments(range(number, self.arena.last))
            .take(3)
        {
            let seen = found.pasid.get();
            assert!(seen >= next, "broken: the list goes back");
            let info = self.arena.info_of(id_of(found.word));
            assert!(info.reaches(&table), "broken: another table's");
            next = seen + 1;
        }
    }

    // ---- Control calls -------------------------------------------------------------------

    /// Something that happens seldom.
    pub fn control(&mut self) {
        let at = self.random.usize(..SETS);
        match self.random.u8(..128) {
            0..=47 => self.adjust_quota(),
            48..=63 => self.revoke_one(),
            64..=67 => self.sets[at].set.free_all(),
            68..=75 => self.pause(),
            76..=83 => {
                let found = self.arena.space.find_set(at as u64);
                assert!(found.is_none_or(|set| set.token() == Some(at as u64)));
            }
            84..=87 => {
                let statistics = self.sets[at].set.statistics();
                // Each is counted at the moment when it is passed.
                let held = statistics.live + statistics.freeing;
                assert!(held + statistics.waiting + statistics.pinned <= self.arena.last);
                self.arena.space.capacity_left();
            }
            88..=95 => self.arena.replace_set(at),
            96 => self.arena.replace_table(at % TABLES),
            97..=104 => self.join_for_a_moment(),
            105..=112 => self.flush_closed(),
            _ => {}
        }
    }

    fn revoke_one(&mut self) {
        let Some(one) = self.random.choice(&self.owned) else {
            return;
        };
        let (handle, cell) = (one.owned.handle(), Arc::clone(&one.cell));
        one.cell.set.revoke(handle).expect("it is held");
        match (&*one.cell.set).get(handle).map(drop) {
            Err(Error::BeingFreed(_)) => {}
            other => panic!("broken: {other:?} after the revocation of {handle}"),
        }
        // It is being freed wherever it counts, attached there or not.
        for table in &cell.tables {
            match (&*table.table).fault_get(handle.pasid()).map(drop) {
                Err(Error::BeingFreed(_)) if cell.tables.len() > 1 => {
                    self.counts.add(Met::RevokedInGroup);
                }
                Err(Error::BeingFreed(_)) => {}
                Err(Error::Closing) => self.met_closing(),
                Err(Error::DoesNotFit { pasid, .. }) if !table.shadow.fitted(pasid.get()) => {}
                other => panic!("broken: {other:?} for a fault on {handle}, which is revoked"),
            }
        }
    }

    /// Others are refused meanwhile.
    fn pause(&mut self) {
        let table = self.table();
        table.table.pause();
        self.attach();
        self.detach();
        table.table.resume();
    }

    fn adjust_quota(&mut self) {
        let cell = self.set();
        let Some(credits) = &cell.info.credits else {
            let refused = cell.set.set_quota(1);
            return assert_eq!(refused, Err(Error::NoQuota));
        };
        let mut adjusting = cell.adjusting.lock().expect("no thread panicked");
        let (before, limit) = (*adjusting, 1 + self.random.u32(..2 * cell.info.quota));
        // Raised in the shadow first, and lowered afterwards.
        credits.limit(limit.max(before));
        match cell.set.set_quota(limit) {
            Ok(()) => {
                credits.limit(limit);
                *adjusting = limit;
            }
            Err(error) => {
                credits.limit(before);
                match error {
                    Error::QuotaInUse { used } => {
                        assert!(used > limit && limit < before, "broken: {used} of {limit}");
                        self.counts.add(Met::QuotaInUse);
                    }
                    Error::CapacityExceeded { .. } => self.counts.add(Met::CapacityExceeded),
                    Error::Closing => self.met_closing(),
                    error => panic!("broken: {error:?} for a quota"),
                }
            }
        }
    }
}
