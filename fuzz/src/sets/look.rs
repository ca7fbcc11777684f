// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listings, the rules that hold at every instant, and the end of a run.

use crate::report::Difference;
use crate::sets::drive::{Outcome, Run};
use crate::sets::flush::flush_all;
use crate::sets::model::Numbers;
use crate::sets::op::Op;
use crate::sets::report::Report;
use pasid::{Error, IoasidSet, Pasid, PasidRange, Statistics, Table};
use std::collections::BTreeMap;
use std::sync::Arc;

fn whole() -> PasidRange {
    PasidRange::new(Pasid::ZERO, Pasid::MAX).unwrap_or(PasidRange::single(Pasid::ZERO))
}

/// The real numbers in the model's form.
fn numbers(of: Statistics) -> Numbers {
    let (quota, failed) = (of.quota, of.failures);
    Numbers {
        tally: (of.live, of.freeing, of.waiting, of.pinned),
        quota: quota.map(|quota| (quota.limit, quota.used, quota.high_water, quota.allocations)),
        failures: [
            failed.exhausted,
            failed.quota,
            failed.out_of_memory,
            failed.in_use,
            failed.misfit,
            failed.closing,
        ],
    }
}

impl Run {
    pub(crate) fn look(&mut self, op: Op) -> Outcome {
        match op {
            Op::List(set, range) => match self.set(set) {
                Some((index, set)) => self.list(index, &set, self.range(range)),
                None => Ok(()),
            },
            Op::ListTable(table, range) => match self.table(table) {
                Some((index, _)) => self.list_table(index, self.range(range)),
                None => Ok(()),
            },
            Op::FindSet(token) => {
                let token = u64::from(token % 4);
                let found = self.space.find_set(token);
                self.model.forget_gone();
                let model = self.model.find_set(token);
                // One whose handle was dropped cannot be told from another.
                let real = found.as_ref().map(|found| {
                    let mut sets = self.sets.iter();
                    sets.position(|set| set.as_ref().is_some_and(|set| set.is_same(found)))
                });
                let model = model.map(|index| self.sets[index].as_ref().map(|_| index));
                self.same(("find_set", token), real, model)
            }
            _ => self.list_space(),
        }
    }

    fn list(&mut self, index: usize, set: &Arc<IoasidSet>, range: PasidRange) -> Outcome {
        let found = set.iter(range).map(|found| (found.handle, found.word));
        let real: Vec<_> = found.collect();
        let model = self.model.live(index, range);
        let count = set.count_live(range) as usize;
        self.same(("count_live", index), count, model.len())?;
        self.same(("iter", index, range), real, model)?;
        let real = numbers(set.statistics());
        // M8, also where the model should be wrong.
        if let Some((limit, used, ..)) = real.quota {
            self.same(
                ("used within the quota", index, used, limit),
                used <= limit,
                true,
            )?;
            let (live, freeing, waiting, kept) = real.tally;
            let counted = live + freeing + waiting + kept;
            self.same(("credits are PASIDs", index), used, counted)?;
        }
        self.same(("statistics", index), real, self.model.numbers(index))?;
        let closing = self.model.set_is_closing(index);
        self.same(("closing", index), set.is_closing(), closing)
    }

    fn list_table(&mut self, index: usize, range: PasidRange) -> Outcome {
        let Some(table) = self.tables[index].clone() else {
            return Ok(());
        };
        let attached = table.attachments(range).map(|one| (one.pasid, one.word));
        let real: Vec<_> = attached.collect();
        self.same(
            ("attachments", index),
            real,
            self.model.attachments(index, range),
        )?;
        let shown = (table.width(), table.is_closing());
        self.same(("table", index), shown, self.model.table(index))
    }

    fn list_space(&mut self) -> Outcome {
        let (open, closing) = (self.space.tables(), self.space.closing_tables());
        let model = self.model.open_tables();
        self.same_tables(open, model)?;
        let model = self.model.closing_tables();
        self.same_tables(closing, model)?;
        let (open, closing) = (self.space.sets(), self.space.closing_sets());
        let model = self.model.open_sets();
        self.same_sets(open, model)?;
        let model = self.model.closing_sets();
        self.same_sets(closing, model)?;
        let (real, model) = (self.space.capacity_left(), self.model.capacity_left());
        self.same("capacity_left", real, model)
    }

    fn same_tables(&self, listed: Result<Vec<Table>, Error>, model: Vec<usize>) -> Outcome {
        let listed = listed.unwrap_or_default();
        self.same("tables", listed.len(), model.len())?;
        for (real, index) in listed.iter().zip(model) {
            let same = self.tables[index].as_ref();
            let same = same.is_none_or(|table| table.is_same(real));
            self.same(("table in its place", index), same, true)?;
        }
        Ok(())
    }

    fn same_sets(&self, listed: Result<Vec<IoasidSet>, Error>, model: Vec<usize>) -> Outcome {
        let listed = listed.unwrap_or_default();
        self.same("sets", listed.len(), model.len())?;
        for (real, index) in listed.iter().zip(model) {
            let same = self.sets[index].as_ref();
            let same = same.is_none_or(|set| set.is_same(real));
            self.same(("set in its place", index), same, true)?;
        }
        Ok(())
    }

    /// What the observers were told since the last time.
    pub(crate) fn compare_events(&mut self) -> Outcome {
        for index in 0..self.logs.len() {
            let model = self.model.told(index);
            let Some(log) = &self.logs[index] else {
                continue;
            };
            let real = log.0.lock().map(|mut events| std::mem::take(&mut *events));
            self.same(("observer", index), real.unwrap_or_default(), model)?;
        }
        Ok(())
    }

    /// M1 to M3 and M6, of what the sets say themselves: without the model.
    fn check_separation(&self) -> Outcome {
        // For each table and value who holds it; at `None`, who holds it globally.
        let mut holders: BTreeMap<(Option<usize>, Pasid), usize> = BTreeMap::new();
        let mut globals = Vec::new();
        for (index, set) in self.sets.iter().enumerate() {
            let Some(set) = set else { continue };
            for found in set.iter(whole()) {
                let pasid = found.handle.pasid();
                let tables = self.model.scope_of(index);
                for table in tables.iter().flatten() {
                    let other = holders.insert((Some(*table), pasid), index);
                    self.same(("held once on a table", table, pasid), other, None)?;
                }
                if tables.is_none() {
                    let other = holders.insert((None, pasid), index);
                    self.same(("held once globally", pasid), other, None)?;
                    globals.push(pasid);
                }
            }
        }
        for pasid in globals {
            for table in 0..self.tables.len() {
                let other = holders.get(&(Some(table), pasid)).copied();
                self.same(("a global PASID on a table", table, pasid), other, None)?;
            }
        }
        Ok(())
    }

    /// Everything, as a whole.
    pub(crate) fn compare_all(&mut self) -> Outcome {
        self.check_separation()?;
        for index in 0..self.sets.len() {
            if let Some(set) = self.sets[index].clone() {
                self.list(index, &set, whole())?;
            }
        }
        for index in 0..self.tables.len() {
            self.list_table(index, whole())?;
        }
        self.list_space()
    }

    /// Gives everything back and checks that nothing is lost.
    pub(crate) fn finish(mut self) -> Result<Report, Difference> {
        self.compare_all()?;
        while !self.wires.is_empty() {
            self.end_wire(0)?;
        }
        while !self.held.is_empty() {
            self.drop_at(0)?;
        }
        self.end_flushes()?;
        self.compare_events()?;
        self.compare_all()?;
        for (index, set) in self.sets.iter().enumerate() {
            let Some(set) = set else { continue };
            let numbers = numbers(set.statistics());
            self.same(("held at the end by", index), numbers.tally, (0, 0, 0, 0))?;
        }
        // With all tables and sets closed and let go, the capacity is whole again.
        for (index, set) in self.sets.iter_mut().enumerate() {
            if let Some(set) = set.take() {
                set.close();
                self.model.close_set(index);
                self.model.drop_set(index);
            }
        }
        for set in &self.space.sets().unwrap_or_default() {
            set.close();
        }
        // Also what waits of sets that nobody kept a handle of.
        for set in &self.space.closing_sets().unwrap_or_default() {
            flush_all(set);
        }
        let left = self.space.capacity_left();
        self.same("capacity at the end", left, self.model.whole_capacity())?;
        for table in &self.space.tables().unwrap_or_default() {
            table.close();
        }
        self.tables.clear();
        let sets = self.space.closing_sets().unwrap_or_default().len();
        let tables = self.space.closing_tables().unwrap_or_default().len();
        self.same("closed and there at the end", (sets, tables), (0, 0))?;
        Ok(self.report)
    }
}
