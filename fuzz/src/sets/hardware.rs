// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attachments and faults.

use crate::sets::drive::{Held, Outcome, Run, Wire};
use crate::sets::op::Op;
use crate::sets::report::Call;
use pasid::{Attach, Attaching, Fault, Pasid, PasidRange, Table};
use std::sync::Arc;

/// The most PASIDs for which memory is put in place at once.
pub(crate) const PRELOAD_LAST: u32 = 1024;

/// The beginning of a range, so that not too much memory is asked for.
pub(crate) fn cut(range: PasidRange) -> PasidRange {
    let last = range
        .last()
        .get()
        .min(range.first().get() + (PRELOAD_LAST - 1));
    let last = Pasid::new(last).unwrap_or(range.last());
    PasidRange::new(range.first(), last).unwrap_or(range)
}

impl Run {
    pub(crate) fn hardware_call(&mut self, op: Op) -> Outcome {
        match op {
            Op::Attach(table, which, word) => self.attach(table, which, word, false),
            Op::AttachWhole(table, which, word, seldom) => {
                if let Some(index) = self.index(which) {
                    let pasid = self.held[index].1.handle().pasid();
                    self.preload_table(table, pasid.into())?;
                }
                self.attach(table, which, word, !seldom.happens())
            }
            Op::Commit(which) => self.commit(which),
            Op::ReplaceAttached(which, word) => self.replace_attached(which, word),
            Op::Detach(which) => match self.wire(which) {
                Some(index) => self.end_wire(index),
                None => Ok(()),
            },
            Op::Fault(table, number) => self.fault(table, self.number(number)),
            Op::FaultAttached(table, which) => match self.wire(which) {
                Some(index) => self.fault(table, self.wires[index].1.pasid()),
                None => Ok(()),
            },
            Op::PreloadTable(table, range) => self.preload_table(table, cut(self.range(range))),
            _ => Ok(()),
        }
    }

    fn wire(&self, which: u16) -> Option<usize> {
        usize::from(which).checked_rem(self.wires.len())
    }

    fn preload_table(&mut self, table: u8, range: PasidRange) -> Outcome {
        let Some((index, table)) = self.table(table) else {
            return Ok(());
        };
        let before = table.memory_bytes();
        let real = table.preload(range);
        let added = table.memory_bytes() - before;
        self.same(("bytes of preload", range), real.unwrap_or(added), added)?;
        let model = self.model.preload_table(index, range);
        let real = real.map(|bytes| bytes > 0);
        self.same_result((Call::PreloadTable, (index, range)), real, model)
    }

    fn attach(&mut self, table: u8, which: u16, word: u64, whole: bool) -> Outcome {
        let (Some((table, real_table)), Some(index)) = (self.table(table), self.index(which))
        else {
            return Ok(());
        };
        let (set, handle) = (self.held[index].0, self.held[index].1.handle());
        let real = match &self.held[index].1 {
            Held::Owned(owned) => real_table.attach(owned, word),
            Held::Ref(reference) => real_table.attach(reference, word),
            Held::RawOwned(..) | Held::RawRef(..) => return Ok(()),
        };
        let model = self.model.attach(table, (set, handle), word);
        let got = real.as_ref().map(|_| ()).map_err(|error| *error);
        self.same_result((Call::Attach, (table, set, handle)), got, model)?;
        if let Ok(attaching) = real {
            self.same("PASID of an attachment", attaching.pasid(), handle.pasid())?;
            self.wires.push((table, Wire::Attaching(attaching)));
            if whole {
                let last = self.wires.len() - 1;
                return self.commit_at(last);
            }
        }
        Ok(())
    }

    fn commit(&mut self, which: u16) -> Outcome {
        let reserved = |wire: &(usize, Wire)| matches!(wire.1, Wire::Attaching(_));
        let count = self.wires.iter().filter(|wire| reserved(wire)).count();
        let Some(nth) = usize::from(which).checked_rem(count) else {
            return Ok(());
        };
        let mut places = (0..self.wires.len()).filter(|&index| reserved(&self.wires[index]));
        match places.nth(nth) {
            Some(index) => self.commit_at(index),
            None => Ok(()),
        }
    }

    fn commit_at(&mut self, index: usize) -> Outcome {
        let (table, wire) = self.wires.swap_remove(index);
        let attaching: Attaching<Arc<Table>> = match wire {
            Wire::Attaching(attaching) => attaching,
            other => {
                self.wires.push((table, other));
                return Ok(());
            }
        };
        let pasid = attaching.pasid();
        let real = attaching.commit();
        let model = self.model.commit(table, pasid);
        let got = real.as_ref().map(|_| ()).map_err(|error| *error);
        self.same_result((Call::Commit, (table, pasid)), got, model)?;
        if let Ok(attachment) = real {
            let word = self.model.attached_word(table, pasid);
            self.same(("word of", pasid), Ok(attachment.word()), word)?;
            self.wires.push((table, Wire::Attachment(attachment)));
        }
        Ok(())
    }

    fn replace_attached(&mut self, which: u16, word: u64) -> Outcome {
        let Some(index) = self.wire(which) else {
            return Ok(());
        };
        let (table, Wire::Attachment(attachment)) = &self.wires[index] else {
            return Ok(());
        };
        let (table, pasid) = (*table, attachment.pasid());
        let (real, after) = (attachment.replace(word), attachment.word());
        let model = self.model.replace_attached(table, pasid, word);
        self.same_result((Call::ReplaceAttached, (table, pasid)), real, model)?;
        let word = self.model.attached_word(table, pasid);
        self.same(("word of", pasid), Ok(after), word)
    }

    fn fault(&mut self, table: u8, pasid: Pasid) -> Outcome {
        let Some((index, table)) = self.table(table) else {
            return Ok(());
        };
        let real = table.fault_get(pasid);
        let got = real.as_ref().map(Fault::word).map_err(|error| *error);
        let model = self.model.fault_get(index, pasid);
        self.same_result((Call::FaultGet, (index, pasid)), got, model)?;
        if let Ok(fault) = real {
            self.wires.push((index, Wire::Fault(fault)));
        }
        Ok(())
    }

    /// Ends what is held of a table.
    pub(crate) fn end_wire(&mut self, index: usize) -> Outcome {
        let (table, wire) = self.wires.swap_remove(index);
        let pasid = wire.pasid();
        match wire {
            Wire::Attaching(attaching) => {
                drop(attaching);
                self.model.detach(table, pasid);
            }
            Wire::Attachment(attachment) => {
                attachment.detach();
                self.model.detach(table, pasid);
            }
            Wire::Fault(fault) => {
                drop(fault);
                self.model.fault_put(table, pasid);
            }
        }
        self.find_everywhere(pasid)
    }
}
