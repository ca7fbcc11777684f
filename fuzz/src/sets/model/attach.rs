// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attachments and faults of one table.

use super::{Entry, LEAF, Model, Reach, Stage, does_not_fit};
use crate::sets::quirk::Quirk;
use pasid::{Error, Handle, Pasid, PasidRange, SpaceKind};

impl Model {
    /// Whether the table takes an attachment now.
    fn admit(&self, table: usize, pasid: Pasid) -> Result<(), Error> {
        let of = &self.tables[table];
        if of.closing {
            return Err(Error::Closing);
        }
        if of.paused && !self.is(Quirk::PauseForgotten) {
            return Err(Error::Paused);
        }
        if pasid > of.width().last() {
            return Err(does_not_fit(pasid.get(), of.width()));
        }
        Ok(())
    }

    /// `attach` of what a holder of `set` holds.
    pub fn attach(
        &mut self,
        table: usize,
        (set, handle): (usize, Handle),
        word: u64,
    ) -> Result<(), Error> {
        let (pasid, number) = (handle.pasid(), handle.pasid().get());
        self.admit(table, pasid)?;
        if !self.reaches(&self.sets[set].reach, table) {
            return Err(Error::WrongSet(pasid));
        }
        if !self.tables[table].memory.contains(&(number / LEAF)) {
            return Err(Error::OutOfMemory);
        }
        self.get(set, handle)?;
        if self.tables[table].entries.contains_key(&number) {
            self.put(set, handle)?;
            return Err(Error::AlreadyAttached(pasid));
        }
        if self.is(Quirk::AttachmentHoldsNothing) {
            self.put(set, handle)?;
        }
        if !self.is(Quirk::BackedOutIsNotInvalidated) {
            self.note_attached(set, table, number);
        }
        let of = &mut self.tables[table];
        let entry = Entry {
            set,
            handle,
            word,
            stage: Stage::Reserved,
            faults: 0,
            pauses: of.pauses,
        };
        of.entries.insert(number, entry);
        Ok(())
    }

    /// Ends the entry if nothing is left of it.
    fn end_entry(&mut self, table: usize, number: u32) {
        let uncounted = self.is(Quirk::FaultsUncounted);
        let entries = &mut self.tables[table].entries;
        let ended = entries.get(&number).is_some_and(|entry| {
            entry.stage == Stage::Draining && (entry.faults == 0 || uncounted)
        });
        let ended = ended.then(|| entries.remove(&number)).flatten();
        if let Some(entry) = ended {
            // It held one; without it the allocation is over already.
            let _ = self.put(entry.set, entry.handle);
        }
    }

    /// `commit`, or why not; then the entry is given back.
    pub fn commit(&mut self, table: usize, pasid: Pasid) -> Result<(), Error> {
        let admitted = self.admit(table, pasid);
        let heals = self.is(Quirk::ResumeHeals);
        let of = &mut self.tables[table];
        let pauses = of.pauses;
        let entry = of.entries.get_mut(&pasid.get());
        let entry = entry.ok_or(Error::NotAttached(pasid))?;
        let refused = admitted
            .err()
            .or_else(|| (entry.pauses != pauses && !heals).then_some(Error::Paused));
        match refused {
            None => {
                entry.stage = Stage::Attached;
                let set = entry.set;
                self.note_attached(set, table, pasid.get());
                Ok(())
            }
            Some(why) => {
                self.detach(table, pasid);
                Err(why)
            }
        }
    }

    /// `detach`, or the drop of a reservation.
    pub fn detach(&mut self, table: usize, pasid: Pasid) {
        if let Some(entry) = self.tables[table].entries.get_mut(&pasid.get()) {
            entry.stage = Stage::Draining;
        }
        self.end_entry(table, pasid.get());
    }

    /// Whether the PASID of an entry gives out references.
    fn is_live(&self, entry: &Entry) -> bool {
        let one = self.sets[entry.set].held.get(&entry.handle.pasid().get());
        one.is_some_and(|one| one.handle == entry.handle && !one.revoked)
    }

    /// `replace` of an attachment's word.
    pub fn replace_attached(
        &mut self,
        table: usize,
        pasid: Pasid,
        word: u64,
    ) -> Result<u64, Error> {
        self.admit(table, pasid)?;
        let entry = self.tables[table].entries.get(&pasid.get());
        let entry = entry.ok_or(Error::NotAttached(pasid))?;
        if !self.is_live(entry) {
            return Err(Error::BeingFreed(pasid));
        }
        let before = entry.word;
        let sticks = self.is(Quirk::WordSticks);
        if let Some(entry) = self.tables[table].entries.get_mut(&pasid.get()) {
            entry.word = if sticks { before } else { word };
        }
        Ok(before)
    }

    /// The word of what is attached, for its holder.
    pub fn attached_word(&self, table: usize, pasid: Pasid) -> Result<u64, Error> {
        let entry = self.tables[table].entries.get(&pasid.get());
        entry
            .map(|entry| entry.word)
            .ok_or(Error::NotAttached(pasid))
    }

    /// `fault_get`: the attachment's word.
    pub fn fault_get(&mut self, table: usize, pasid: Pasid) -> Result<u64, Error> {
        let found = self.tables[table].entries.get(&pasid.get());
        let Some(entry) = found.filter(|entry| entry.stage == Stage::Attached) else {
            return Err(self.why_not_attached(table, pasid));
        };
        if self.tables[table].closing {
            return Err(Error::Closing);
        }
        if !self.is_live(entry) && !self.is(Quirk::FaultsOutliveRevocation) {
            return Err(Error::BeingFreed(pasid));
        }
        let of = &mut self.tables[table];
        let entry = of.entries.get_mut(&pasid.get());
        let entry = entry.ok_or(Error::NotAttached(pasid))?;
        entry.faults += 1;
        Ok(entry.word)
    }

    /// What the table says of a PASID that is not attached there.
    fn why_not_attached(&self, table: usize, pasid: Pasid) -> Error {
        let (of, number) = (&self.tables[table], pasid.get());
        if of.closing {
            return Error::Closing;
        }
        if pasid > of.width().last() {
            return does_not_fit(number, of.width());
        }
        let here = Reach::Local(table);
        if let Some(holder) = self.holder(&here, number) {
            let set = &self.sets[holder];
            let unknown = self.is(Quirk::GroupStateUnknown) && matches!(set.reach, Reach::Group(_));
            let Some(one) = set.held.get(&number) else {
                return Error::NotFound(pasid);
            };
            return match one.revoked && !unknown {
                true => Error::BeingFreed(pasid),
                false if self.is(Quirk::NotAttachedIsNotFound) => Error::NotFound(pasid),
                false => Error::NotAttached(pasid),
            };
        }
        // What any table reserves is reserved for all, where there are global sets alone.
        let by_others =
            self.kind == SpaceKind::Global && self.table_reserves(&Reach::Global, number);
        match by_others || self.space_reserves(number) || self.table_reserves(&here, number) {
            true => Error::Reserved(pasid),
            false => Error::NotFound(pasid),
        }
    }

    /// A fault's response is sent.
    pub fn fault_put(&mut self, table: usize, pasid: Pasid) {
        if let Some(entry) = self.tables[table].entries.get_mut(&pasid.get()) {
            entry.faults = entry.faults.saturating_sub(1);
        }
        self.end_entry(table, pasid.get());
    }

    /// What is attached in `range`, ascending.
    pub fn attachments(&self, table: usize, range: PasidRange) -> Vec<(Pasid, u64)> {
        let range = range.first().get()..=range.last().get();
        let entries = self.tables[table].entries.range(range);
        let attached = entries.filter(|(_, entry)| entry.stage == Stage::Attached);
        attached
            .map(|(_, entry)| (entry.handle.pasid(), entry.word))
            .collect()
    }

    /// `Table::preload`: whether there was memory to be put in place.
    pub fn preload_table(&mut self, table: usize, range: PasidRange) -> Result<bool, Error> {
        let of = &mut self.tables[table];
        if range.last() > of.width().last() {
            return Err(does_not_fit(range.last().get(), of.width()));
        }
        let before = of.memory.len();
        let leaves = range.first().get() / LEAF..=range.last().get() / LEAF;
        of.memory.extend(leaves);
        Ok(of.memory.len() > before)
    }
}
