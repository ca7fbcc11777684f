// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registry of a space: its tables and sets, behind the lock of the control calls.

use super::meaning::{pieces, reach};
use crate::counted::Counted;
use crate::error::{Error, Result};
use crate::lists;
use crate::pasid::PasidWidth;
use crate::payload::Kind;
use crate::range::PasidRange;
use crate::reuse::Reuse;
use crate::set::{Scope, SetConfig};
use crate::shared::Shared;
use crate::source::{Parts, Reach, Source};
use crate::state::SetIndex;
use crate::sync::{Mutation, planted};
use crate::table::Table;
use heap::vec::Vec;

/// The tables and sets that are there. What is closed and gone is forgotten by the next
/// control call, so that no data call frees memory while the space is there.
pub(super) struct Registry {
    pub(super) tables: Vec<Table>,
    pub(super) sets: Vec<Counted<Source>>,
    pub(super) tables_made: u64,
}

impl Registry {
    pub(super) fn open_set(&self, token: u64) -> Option<&Counted<Source>> {
        let mut open = self.sets.iter().filter(|set| !set.is_closing());
        open.find(|set| set.token == Some(token))
    }

    pub(super) fn add_set(
        &mut self,
        shared: &Counted<Shared>,
        config: SetConfig<'_>,
        kind: Kind,
    ) -> Result<Counted<Source>> {
        if let Some(token) = config.token {
            if self.open_set(token).is_some() {
                return Err(Error::TokenInUse { token });
            }
        }
        let reach = reach(shared, config.scope)?;
        let width = match &reach {
            Reach::Global => PasidWidth::MAX,
            Reach::Local(table) => table.ids.width(),
            Reach::Group { own, .. } => own.ids.width(),
        };
        let pieces = pieces(config.range, config.reserved, width)?;
        let index = self.free_index(shared, &reach).ok_or(Error::TooManySets)?;
        let scope = config.scope;
        self.enlist(shared, config, kind, (reach, index, pieces))
            .inspect_err(|_| match scope {
                Scope::Global => shared.globals.credits.take_back(index),
                Scope::Local(table) => table.core().table.ids.credits.take_back(index),
                // It went with the group.
                Scope::Group(_) => {}
            })
    }

    /// Builds the set and takes note of it. If that fails, the set's quota is for the
    /// caller to take back.
    fn enlist(
        &mut self,
        shared: &Counted<Shared>,
        config: SetConfig<'_>,
        kind: Kind,
        (reach, index, pieces): (Reach, SetIndex, Vec<PasidRange>),
    ) -> Result<Counted<Source>> {
        self.sets.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        let ids = reach.ids(shared);
        if config.reuse == Reuse::AfterFlush {
            ids.keep_quarantine()?;
        }
        let quota = match config.quota {
            None => None,
            Some(limit) => Some(ids.credits.assign(index, limit).ok_or(Error::OutOfMemory)?),
        };
        let source = Source::new(
            shared.clone(),
            Parts {
                reach,
                index,
                kind,
                pieces,
                policy: config.policy,
                hidden: config.hidden,
                token: config.token,
                quota,
                reuse: config.reuse,
                flusher: config.flusher,
                observer: config.observer,
            },
        );
        let share = source.share();
        let source = Counted::new(source).ok_or(Error::OutOfMemory)?;
        if let Some(capacity) = &shared.capacity {
            let reserved = capacity.reserve(share);
            reserved.map_err(|left| Error::CapacityExceeded { left })?;
        }
        let listed = match config.scope {
            Scope::Local(table) => table.list_set(&source),
            Scope::Global | Scope::Group(_) => source.join_tables(),
        };
        listed.inspect_err(|_| source.return_share())?;
        // There is room since above.
        lists::push(&mut self.sets, source.clone())?;
        Ok(source)
    }

    /// An index that none of the sets has whose PASIDs are in the same slots.
    fn free_index(&self, shared: &Counted<Shared>, reach: &Reach) -> Option<SetIndex> {
        let mut used = [0u64; (SetIndex::LAST as usize + 1) / 64];
        for other in &self.sets {
            let same = match (reach, other.reach()) {
                (Reach::Global, Reach::Global) => other.shared().ptr_eq(shared),
                (Reach::Local(table), Reach::Local(theirs)) => table.ptr_eq(theirs),
                _ => false,
            };
            if same {
                let index = usize::from(other.index().get());
                if let Some(word) = used.get_mut(index / 64) {
                    *word |= 1 << (index % 64);
                }
            }
        }
        used[0] |= 1;
        let mut words = used.iter().enumerate();
        let (place, word) = words.find(|&(_, &word)| word != u64::MAX)?;
        let index = place * 64 + word.trailing_ones() as usize;
        SetIndex::new(index as u16)
    }

    /// Takes out a set that is closed, and that nobody has a handle of, a PASID of, or an
    /// attachment to.
    pub(super) fn take_gone_set(&mut self) -> Option<Counted<Source>> {
        let gone = self.sets.iter().position(|source| {
            // A local set has one reference more, in its table's list.
            let referred = match source.reach() {
                Reach::Local(_) => 2,
                Reach::Global | Reach::Group { .. } => 1,
            };
            let flushed =
                || source.ids().is_being_flushed() && !planted(Mutation::ForgottenWhileFlushed);
            let flushed_first = planted(Mutation::FlushLookedForFirst).then(flushed);
            // In this order: a flush in flight gives its credits back after the PASIDs.
            let held = source.count() != referred
                || !source.is_empty()
                || flushed_first.unwrap_or_else(flushed);
            source.is_closing() && (!held || planted(Mutation::ForgottenWhileHeld))
        })?;
        let set = lists::take(&mut self.sets, gone)?;
        if let Reach::Local(ids) = set.reach() {
            let own = self.tables.iter().find(|table| table.has_ids(ids));
            own.into_iter().for_each(|table| table.unlist_set(&set));
        }
        set.ids().credits.take_back(set.index());
        set.return_share();
        Some(set)
    }

    /// Takes out a table that is closed, and that nobody has a handle of, an attachment
    /// to, or a set of.
    pub(super) fn take_gone_table(&mut self) -> Option<Table> {
        let gone = self.tables.iter().position(Table::is_gone)?;
        let table = lists::take(&mut self.tables, gone)?;
        table.take_reservations_back();
        Some(table)
    }
}
