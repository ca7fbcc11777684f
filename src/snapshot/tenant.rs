// SPDX-License-Identifier: MIT OR Apache-2.0
//! A part of a snapshot: what one tenant of a machine has.

use super::checking::{numbers, words};
use super::columns::push_word;
use super::{
    AliasMapSnapshot, AliasRun, AttachmentRun, BelowSnapshot, ScopeSnapshot, SetSnapshot,
    SpaceSnapshot, TableSnapshot, VirtualTableSnapshot,
};
use crate::error::{Error, Result};
use crate::kind::SpaceKind;
use crate::lists;
use crate::pasid::PasidWidth;
use heap::vec::Vec;

impl SpaceSnapshot {
    /// The part that has the sets for which `keep` says so, which is given their indices:
    /// what is attached of them, the virtual tables over them, and the tables that all this
    /// is on. The order stays. What the space reserves and its capacity are left out: the
    /// space where a tenant arrives has its own.
    ///
    /// Context: allocates memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn only(&self, mut keep: impl FnMut(usize, &SetSnapshot) -> bool) -> Result<SpaceSnapshot> {
        // What has which index there, of sets and of tables.
        let mut sets: Vec<Option<u32>> = lists::with_room(self.sets.len())?;
        let mut kept = 0;
        for (index, set) in self.sets.iter().enumerate() {
            let number = keep(index, set).then_some(kept);
            kept += u32::from(number.is_some());
            lists::push(&mut sets, number)?;
        }
        let of_set = |set: u32| sets.get(set as usize).copied().flatten();
        let mut tables: Vec<Option<u32>> = lists::with_room(self.tables.len())?;
        let mut kept = 0;
        for (index, table) in (0..).zip(&self.tables) {
            let scoped = |(set, number): (&SetSnapshot, &Option<u32>)| {
                number.is_some() && set.scope.has(index)
            };
            let attached = |run: &AttachmentRun| of_set(run.set).is_some();
            let there =
                self.sets.iter().zip(&sets).any(scoped) || table.attachments.iter().any(attached);
            let number = there.then_some(kept);
            kept += u32::from(there);
            lists::push(&mut tables, number)?;
        }
        let mut part = SpaceSnapshot {
            version: self.version,
            quiescent: self.quiescent,
            kind: self.kind,
            capacity: None,
            reserved: Vec::new(),
            tables: Vec::new(),
            sets: Vec::new(),
            aliases: self.aliases_of(of_set)?,
        };
        let of_table = |table: u32| tables.get(table as usize).copied().flatten();
        for (set, _) in self
            .sets
            .iter()
            .zip(&sets)
            .filter(|(_, number)| number.is_some())
        {
            lists::push(&mut part.sets, set.on(of_table)?)?;
        }
        for (table, _) in self
            .tables
            .iter()
            .zip(&tables)
            .filter(|(_, number)| number.is_some())
        {
            lists::push(&mut part.tables, table.of(of_set)?)?;
        }
        Ok(part)
    }

    /// The alias maps without the tables over other sets.
    fn aliases_of(&self, of_set: impl Fn(u32) -> Option<u32>) -> Result<Vec<AliasMapSnapshot>> {
        let mut maps = lists::with_room(self.aliases.len())?;
        for map in &self.aliases {
            let mut tables = lists::with_room(map.tables.len())?;
            for table in &map.tables {
                if let Some(set) = of_set(table.set) {
                    let mut entries: Vec<AliasRun> = lists::with_room(table.entries.len())?;
                    lists::push_all(&mut entries, &table.entries)?;
                    let below = table.below.map(|below| {
                        let map = self.aliases.get(below.map as usize);
                        let tables = map.map_or(&[][..], |map| &map.tables);
                        // What is below is over the same set, so it is kept. An index of
                        // nothing stays one.
                        let table = match tables.get(..below.table as usize) {
                            Some(before) if before.len() < tables.len() => {
                                let kept =
                                    |table: &&VirtualTableSnapshot| of_set(table.set).is_some();
                                let kept = before.iter().filter(kept).count();
                                u32::try_from(kept).unwrap_or(u32::MAX)
                            }
                            _ => u32::MAX,
                        };
                        BelowSnapshot { table, ..below }
                    });
                    let table = VirtualTableSnapshot {
                        set,
                        below,
                        entries,
                        ..*table
                    };
                    lists::push(&mut tables, table)?;
                }
            }
            lists::push(&mut maps, AliasMapSnapshot { tables })?;
        }
        Ok(maps)
    }
}

impl ScopeSnapshot {
    fn has(&self, table: u32) -> bool {
        match self {
            ScopeSnapshot::Global => false,
            ScopeSnapshot::Local(own) => *own == table,
            ScopeSnapshot::Group(members) => members.contains(&table),
        }
    }
}

impl SetSnapshot {
    /// The set as all that there is in a space for sets of its scope: for restoring one that
    /// was taken alone. Its tables get the numbers from 0 on, in ascending order, and as many bits as there
    /// are; [`Restore::on_tables`](super::Restore::on_tables) says which they are. References of attachments and aliases,
    /// which are not in it, are claimed like others.
    ///
    /// Context: allocates memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    ///
    /// ```
    /// use pasid::snapshot::Restore;
    /// use pasid::{PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind, TableConfig};
    ///
    /// let space = Space::new(SpaceKind::Both);
    /// let table = space.add_table(TableConfig::new(PasidWidth::MAX))?;
    /// let set = space.add_set(SetConfig::new(Scope::Local(&table)))?;
    /// let queue = set.alloc(set.range(), 7)?;
    /// let taken = set.snapshot()?.alone()?;
    ///
    /// let other = Space::new(SpaceKind::Both);
    /// let there = other.add_table(TableConfig::new(PasidWidth::MAX))?;
    /// let mut restored = Restore::new(&taken).on_tables(&[(0, &there)]).into_space(&other)?;
    /// let set = restored.set::<u64>(0).expect("a set of words");
    /// assert_eq!(restored.claim(&set, queue.handle())?.word(), 7);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn alone(&self) -> Result<SpaceSnapshot> {
        let (kind, members): (_, &[u32]) = match &self.scope {
            ScopeSnapshot::Global => (SpaceKind::Global, &[]),
            ScopeSnapshot::Local(table) => (SpaceKind::Tables, core::slice::from_ref(table)),
            ScopeSnapshot::Group(members) => (SpaceKind::Tables, members),
        };
        let place = |table| members.iter().position(|&member| member == table);
        let mut sets = lists::with_room(1)?;
        let set = self.on(|table| u32::try_from(place(table)?).ok())?;
        lists::push(&mut sets, set)?;
        let mut tables = lists::with_room(members.len())?;
        for _ in members {
            let table = TableSnapshot {
                width: PasidWidth::MAX,
                reserved: Vec::new(),
                devices: Vec::new(),
                paused: false,
                closing: false,
                attachments: Vec::new(),
                words: Vec::new(),
            };
            lists::push(&mut tables, table)?;
        }
        Ok(SpaceSnapshot {
            version: self.version,
            quiescent: self.quiescent,
            kind,
            capacity: None,
            reserved: Vec::new(),
            tables,
            sets,
            aliases: Vec::new(),
        })
    }

    /// The same with other numbers of tables.
    fn on(&self, number: impl Fn(u32) -> Option<u32>) -> Result<SetSnapshot> {
        let number = |table: &u32| number(*table).ok_or(Error::InvalidScope);
        Ok(SetSnapshot {
            version: self.version,
            quiescent: self.quiescent,
            scope: match &self.scope {
                ScopeSnapshot::Global => ScopeSnapshot::Global,
                ScopeSnapshot::Local(table) => ScopeSnapshot::Local(number(table)?),
                ScopeSnapshot::Group(members) => {
                    let mut all = lists::with_room(members.len())?;
                    let mut each = members.iter().map(number);
                    each.try_for_each(|table| lists::push(&mut all, table?))?;
                    ScopeSnapshot::Group(all)
                }
            },
            ranges: copy(&self.ranges)?,
            cursors: copy(&self.cursors)?,
            pasids: copy(&self.pasids)?,
            generations: copy(&self.generations)?,
            words: copy(&self.words)?,
            ..*self
        })
    }
}

impl TableSnapshot {
    /// The same with what is attached of some sets alone, and with other numbers of these.
    fn of(&self, number: impl Fn(u32) -> Option<u32>) -> Result<TableSnapshot> {
        let mut part = TableSnapshot {
            reserved: copy(&self.reserved)?,
            devices: copy(&self.devices)?,
            attachments: Vec::new(),
            words: Vec::new(),
            ..*self
        };
        let mut all = words(self);
        for run in &self.attachments {
            let number = number(run.set);
            if let Some(set) = number {
                lists::push(&mut part.attachments, AttachmentRun { set, ..*run })?;
            }
            for (_, word) in numbers(run).zip(all.by_ref()) {
                if number.is_some() {
                    push_word(&mut part.words, word)?;
                }
            }
        }
        Ok(part)
    }
}

fn copy<T: Copy>(list: &[T]) -> Result<Vec<T>> {
    let mut copy = lists::with_room(list.len())?;
    lists::push_all(&mut copy, list)?;
    Ok(copy)
}
