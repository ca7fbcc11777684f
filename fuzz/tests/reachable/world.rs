// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real space of sixteen values, brought into a state, and back into it.

use crate::model::{Answer, Op, SETS, SPACE_RESERVED, State, TABLE_RESERVED};
use pasid::{
    Error, IoasidSet, Owned, Pasid, PasidRange, PasidWidth, Pool, Scope, SetConfig, Space,
    SpaceKind, TableConfig,
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
}

impl World {
    pub fn new(quota: Option<u32>) -> Result<World, Error> {
        const RESERVED: &[PasidRange] =
            &[PasidRange::single(Pasid::from_u16(SPACE_RESERVED as u16))];
        let on_table = [PasidRange::single(pasid(TABLE_RESERVED))];
        let space = Space::with_reserved(SpaceKind::Both, RESERVED);
        let narrow = TableConfig::new(PasidWidth::new(4)?);
        let tables = [
            space.add_table(narrow)?,
            space.add_table(narrow.reserved(&on_table))?,
        ];
        let add = |scope| {
            let config = SetConfig::new(scope).range(range(0, 15));
            let config = match quota {
                Some(quota) => config.quota(quota),
                None => config,
            };
            let set = space.add_set(config)?;
            set.preload(range(0, 15))?;
            Ok::<_, Error>(Arc::new(set))
        };
        let sets = [
            add(Scope::Local(&tables[0]))?,
            add(Scope::Local(&tables[1]))?,
            add(Scope::Group(&tables))?,
            add(Scope::Global)?,
        ];
        Ok(World {
            _space: space,
            sets,
            held: Default::default(),
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
                Ok(None)
            }
        }
    }

    /// Goes back to `state` after an operation that led to `after`.
    pub fn undo(&mut self, op: Op, state: &State, after: &State) -> Result<(), Error> {
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
        }
        state
    }
}
