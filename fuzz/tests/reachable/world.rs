// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real space of sixteen values, brought into a state, and back into it.

use crate::model::{Answer, Op, SETS, SPACE_RESERVED, State, TABLE_RESERVED};
use pasid::{
    Error, Flush, IoasidSet, Owned, Pasid, PasidRange, PasidWidth, Pool, Reuse, Scope, SetConfig,
    Space, SpaceKind, TableConfig, Ticket,
};
use std::sync::Arc;

fn pasid(value: u32) -> Pasid {
    Pasid::new(value).expect("16 values")
}

fn range(first: u32, last: u32) -> PasidRange {
    PasidRange::new(pasid(first), pasid(last)).expect("a range")
}

/// The word of an allocation of that set.
fn word(set: usize, value: u32) -> u64 {
    (set as u64) << 32 | u64::from(value)
}

pub struct World {
    // The space stays while its sets do, as it would in a program.
    _space: Space,
    sets: [Arc<IoasidSet>; SETS],
    held: [[Option<Owned<Arc<IoasidSet>>>; 16]; SETS],
    /// The set whose PASIDs await a flush.
    after_flush: Option<usize>,
    /// What was freed there and not flushed.
    ended: u16,
    ticket: Option<Ticket<Arc<IoasidSet>>>,
}

/// The values of a ticket's batch.
fn batch(ticket: &Ticket<Arc<IoasidSet>>) -> u16 {
    let ranges = ticket.ranges();
    let values = ranges.flat_map(|range| range.first().get()..=range.last().get());
    values.fold(0, |all, value| all | 1 << value)
}

/// The values of a mask.
fn values(of: u16) -> impl Iterator<Item = u32> {
    (0..16).filter(move |value| of & 1 << value != 0)
}

impl World {
    pub fn new(quota: Option<u32>, after_flush: Option<usize>) -> Result<World, Error> {
        const RESERVED: &[PasidRange] =
            &[PasidRange::single(Pasid::from_u16(SPACE_RESERVED as u16))];
        let on_table = [PasidRange::single(pasid(TABLE_RESERVED))];
        let space = Space::with_reserved(SpaceKind::Both, RESERVED);
        let narrow = TableConfig::new(PasidWidth::new(4)?);
        let tables = [
            space.add_table(narrow)?,
            space.add_table(narrow.reserved(&on_table))?,
        ];
        let add = |index, scope| {
            let config = SetConfig::new(scope).range(range(0, 15));
            let config = match after_flush == Some(index) {
                true => config.reuse(Reuse::AfterFlush),
                false => config,
            };
            let config = match quota {
                Some(quota) => config.quota(quota),
                None => config,
            };
            let set = space.add_set(config)?;
            set.preload(range(0, 15))?;
            Ok::<_, Error>(Arc::new(set))
        };
        let sets = [
            add(0, Scope::Local(&tables[0]))?,
            add(1, Scope::Local(&tables[1]))?,
            add(2, Scope::Group(&tables))?,
            add(3, Scope::Global)?,
        ];
        Ok(World {
            _space: space,
            sets,
            held: Default::default(),
            after_flush,
            ended: 0,
            ticket: None,
        })
    }

    fn keep(&mut self, set: usize, owned: Result<Owned<Arc<IoasidSet>>, Error>) -> Answer {
        let owned = owned?;
        let value = owned.pasid().get();
        owned.replace(word(set, value));
        self.held[set][value as usize] = Some(owned);
        Ok(Some(value))
    }

    pub fn apply(&mut self, op: Op) -> Answer {
        match op {
            Op::Alloc(set, first, last) => {
                let owned = self.sets[set].clone().alloc(range(first, last), 0);
                self.keep(set, owned)
            }
            Op::InPlace(set) => {
                let owned = self.sets[set].clone().alloc_in_place(range(0, 15), 0);
                self.keep(set, owned)
            }
            Op::AllocAt(set, value) => {
                let owned = self.sets[set].clone().alloc_at(pasid(value), 0);
                self.keep(set, owned)
            }
            Op::GetAt(set, value) => {
                let reference = self.sets[set].clone().get_at(pasid(value))?;
                Ok(Some(reference.pasid().get()))
            }
            Op::Find(set, value) => {
                let found = self.sets[set].find(pasid(value))?;
                assert_eq!(found.word, word(set, value), "the owner's word");
                Ok(Some(found.handle.pasid().get()))
            }
            Op::Revoke(set, value) => {
                let owned = self.held[set][value as usize].as_ref();
                let handle = owned.ok_or(Error::NotFound(pasid(value)))?.handle();
                self.sets[set].revoke(handle).map(|()| None)
            }
            Op::Free(set, value) => {
                let owned = self.held[set][value as usize].take();
                owned.map(drop).ok_or(Error::NotFound(pasid(value)))?;
                if self.after_flush == Some(set) {
                    self.ended |= 1 << value;
                }
                Ok(None)
            }
            Op::Begin => {
                let set = self.after_flush.map(|set| self.sets[set].clone());
                let ticket = self
                    .ticket
                    .insert(set.expect("one that waits").begin_flush());
                Ok(Some(batch(ticket).into()))
            }
            Op::Complete => {
                let ticket = self.ticket.take().expect("one that began");
                self.ended &= !batch(&ticket);
                Ok(Some(ticket.complete()))
            }
            Op::PutBack => {
                self.ticket = None;
                Ok(None)
            }
        }
    }

    /// Goes back to `state` where the PASIDs of that set await flushes.
    fn restore(&mut self, set: usize, state: &State) -> Result<(), Error> {
        let is_live = |value| self.sets[set].find(pasid(value)).is_ok();
        let wrong = |&value: &u32| {
            let held = self.held[set][value as usize].is_some();
            let live = state.live[set] & 1 << value != 0;
            let wanted = state.held(set) & 1 << value != 0;
            held != wanted || held && is_live(value) != live
        };
        let again: Vec<u32> = (0..16).filter(wrong).collect();
        for &value in &again {
            self.held[set][value as usize] = None;
        }
        self.ticket = None;
        self.sets[set].clone().begin_flush().complete();
        self.ended = 0;
        // In this order, so that the flush takes its batch and nothing else.
        self.end_anew(set, state.batch)?;
        if state.batch != 0 {
            self.apply(Op::Begin)?;
        }
        self.end_anew(set, state.waiting)?;
        for value in again {
            if state.held(set) & 1 << value != 0 {
                self.apply(Op::AllocAt(set, value))?;
            }
            if state.freeing[set] & 1 << value != 0 {
                self.apply(Op::Revoke(set, value))?;
            }
        }
        Ok(())
    }

    /// Allocates and frees the values, which are free.
    fn end_anew(&mut self, set: usize, ended: u16) -> Result<(), Error> {
        for value in values(ended) {
            self.apply(Op::AllocAt(set, value))?;
            self.apply(Op::Free(set, value))?;
        }
        Ok(())
    }

    /// Goes back to `state` after an operation that led to `after`.
    pub fn undo(&mut self, op: Op, state: &State, after: &State) -> Result<(), Error> {
        if let Some(set) = self.after_flush {
            let of = |state: &State| {
                (
                    state.live[set],
                    state.freeing[set],
                    state.waiting,
                    state.batch,
                )
            };
            if of(state) != of(after) {
                return self.restore(set, state);
            }
        }
        for set in 0..SETS {
            let before = (state.live[set], state.freeing[set]);
            let now = (after.live[set], after.freeing[set]);
            if before == now {
                continue;
            }
            match op {
                Op::Free(_, value) | Op::Revoke(_, value) => {
                    self.held[set][value as usize] = None;
                    self.apply(Op::AllocAt(set, value))?;
                    if state.freeing[set] & 1 << value != 0 {
                        self.apply(Op::Revoke(set, value))?;
                    }
                }
                _ => {
                    let more = now.0 & !before.0;
                    self.held[set][more.trailing_zeros() as usize % 16] = None;
                }
            }
        }
        Ok(())
    }

    /// What the sets themselves say of the state.
    pub fn state(&self) -> State {
        let mut state = State::default();
        for (set, of) in self.sets.iter().enumerate() {
            for found in of.iter(range(0, 15)) {
                state.live[set] |= 1 << found.handle.pasid().get();
            }
            // What is held and not live is being freed; the count says whether the set
            // knows of each.
            let held = self.held[set].iter().enumerate();
            for (value, _) in held.filter(|(_, owned)| owned.is_some()) {
                state.freeing[set] |= 1 << value & !state.live[set];
            }
            let tally = of.statistics();
            if tally.freeing != state.freeing[set].count_ones() {
                state.freeing[set] = u16::MAX;
            }
            // Likewise what is over.
            let ended = match self.after_flush == Some(set) {
                true => self.ended,
                false => 0,
            };
            if tally.waiting != ended.count_ones() {
                state.waiting = u16::MAX;
            }
        }
        state.batch = self.ticket.as_ref().map_or(0, batch);
        state.waiting |= self.ended & !state.batch;
        state
    }
}
