// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocations and references.

use crate::report::Difference;
use crate::sets::drive::{Held, Outcome, Run};
use crate::sets::model::Request;
use crate::sets::op::{Op, Which};
use crate::sets::report::Call;
use pasid::{Error, Handle, IoasidSet, Owned, Pasid, PasidRange, Pool, Ref};
use std::fmt;
use std::sync::Arc;

impl Run {
    pub(crate) fn data_call(&mut self, op: Op) -> Outcome {
        match op {
            Op::Alloc(set, range, word) => self.alloc(set, 0, self.range(range), (true, word)),
            Op::AllocMany(set, count) => {
                let range = PasidRange::new(Pasid::ZERO, Pasid::MAX);
                let range = range.unwrap_or(PasidRange::single(Pasid::ZERO));
                (0..=count / 8).try_for_each(|word| self.alloc(set, 0, range, (true, word.into())))
            }
            Op::AllocInPlace(set, range, word) => {
                self.alloc(set, 0, self.range(range), (false, word))
            }
            Op::AllocNear(set, cpu, range, grow) => {
                self.alloc(set, cpu.into(), self.range(range), (grow, 7))
            }
            Op::AllocAt(set, number, word) => self.alloc_at(set, self.number(number), word),
            Op::Get(set, which) => self.get(set, which),
            Op::GetAt(set, number) => self.get_at(set, self.number(number)),
            Op::Another(which) => self.another(which),
            Op::Replace(which, word) => self.replace(which, word),
            Op::IntoRef(which) => self.make_ref(which),
            Op::TurnRaw(which) => self.turn_raw(which),
            Op::Drop(which) => match self.index(which) {
                Some(index) => self.drop_at(index),
                None => Ok(()),
            },
            Op::DropMany(count) => (0..=count / 4).try_for_each(|_| self.drop_at(0)),
            Op::GiveBack(set, which) => self.give_back(set, which),
            Op::Revoke(set, which) => self.revoke(set, which),
            Op::Find(number) => self.find_everywhere(self.number(number)),
            _ => Ok(()),
        }
    }

    // ---- Allocation ----------------------------------------------------------

    fn keep_owned(&mut self, set: usize, owned: Owned<Arc<IoasidSet>>, word: u64) -> Outcome {
        let handle = owned.handle();
        self.same(("word of", handle), owned.word(), word)?;
        let new = self.model.allocated(set, handle, word);
        self.same(("the handle is new", handle), true, new)?;
        self.keep(set, Held::Owned(owned))?;
        self.find_everywhere(handle.pasid())
    }

    fn alloc(
        &mut self,
        set: u8,
        cpu: u32,
        range: PasidRange,
        (may_grow, word): (bool, u64),
    ) -> Outcome {
        let Some((index, set)) = self.set(set) else {
            return Ok(());
        };
        let memory = self.space.memory_bytes();
        let (call, real) = match (may_grow, cpu) {
            (true, 0) => (Call::Alloc, set.alloc(range, word)),
            (true, _) => (Call::Alloc, set.alloc_near(cpu, range, word)),
            (false, 0) => (Call::AllocInPlace, set.alloc_in_place(range, word)),
            (false, _) => (
                Call::AllocInPlace,
                set.alloc_in_place_near(cpu, range, word),
            ),
        };
        // Looking at the memory is a control call, which forgets what is gone.
        self.model.forget_gone();
        if !may_grow {
            self.same("memory", self.space.memory_bytes(), memory)?;
        }
        let request = Request {
            range,
            cpu,
            may_grow,
        };
        let chosen = self.model.alloc(index, request);
        let got = real.as_ref().map(Owned::pasid).map_err(|error| *error);
        self.same_result((call, (index, request)), got, chosen)?;
        match real {
            Ok(owned) => self.keep_owned(index, owned, word),
            Err(_) => Ok(()),
        }
    }

    fn alloc_at(&mut self, set: u8, pasid: Pasid, word: u64) -> Outcome {
        let Some((index, set)) = self.set(set) else {
            return Ok(());
        };
        let real = set.alloc_at(pasid, word);
        let chosen = self.model.alloc_at(index, pasid);
        let got = real.as_ref().map(Owned::pasid).map_err(|error| *error);
        self.same_result((Call::AllocAt, (index, pasid)), got, chosen)?;
        match real {
            Ok(owned) => self.keep_owned(index, owned, word),
            Err(_) => self.find_everywhere(pasid),
        }
    }

    // ---- References ------------------------------------------------------------

    fn keep_ref(
        &mut self,
        set: usize,
        call: (Call, impl fmt::Debug),
        real: Result<Ref<Arc<IoasidSet>>, Error>,
        model: Result<Handle, Error>,
    ) -> Outcome {
        let got = real.as_ref().map(Ref::handle).map_err(|error| *error);
        self.same_result(call, got, model)?;
        match real {
            Ok(reference) => self.keep(set, Held::Ref(reference)),
            Err(_) => Ok(()),
        }
    }

    fn get(&mut self, set: u8, which: Which) -> Outcome {
        let (Some((index, set)), Some(handle)) = (self.set(set), self.which(which)) else {
            return Ok(());
        };
        let real = set.get(handle);
        let model = self.model.get(index, handle).map(|()| handle);
        self.keep_ref(index, (Call::Get, (index, handle)), real, model)
    }

    fn get_at(&mut self, set: u8, pasid: Pasid) -> Outcome {
        let Some((index, set)) = self.set(set) else {
            return Ok(());
        };
        let real = set.get_at(pasid);
        let model = self.model.get_at(index, pasid);
        self.keep_ref(index, (Call::GetAt, (index, pasid)), real, model)
    }

    fn another(&mut self, which: u16) -> Outcome {
        let Some(index) = self.index(which) else {
            return Ok(());
        };
        let (set, ref holder) = self.held[index];
        let handle = holder.handle();
        match holder {
            Held::Owned(owned) => {
                let real = owned.get();
                let model = self.model.get(set, handle).map(|()| handle);
                self.keep_ref(set, (Call::OwnedGet, handle), real, model)
            }
            Held::Ref(reference) => {
                let real = reference.try_clone();
                let model = self.model.clone_held(set, handle).map(|()| handle);
                self.keep_ref(set, (Call::TryClone, handle), real, model)
            }
            Held::RawOwned(..) | Held::RawRef(..) => Ok(()),
        }
    }

    fn replace(&mut self, which: u16, word: u64) -> Outcome {
        let Some(index) = self.index(which) else {
            return Ok(());
        };
        let (set, ref holder) = self.held[index];
        let real = match holder {
            Held::Owned(owned) => owned.replace(word),
            Held::Ref(reference) => reference.replace(word),
            Held::RawOwned(..) | Held::RawRef(..) => return Ok(()),
        };
        let handle = holder.handle();
        let model = self.model.replace(set, handle, word);
        self.same_result((Call::Replace, handle), Ok(real), model)?;
        self.find_everywhere(handle.pasid())
    }

    fn take(&mut self, index: usize) -> (usize, Held) {
        self.held
            .swap_remove_back(index)
            .expect("an index of `held`")
    }

    fn make_ref(&mut self, which: u16) -> Outcome {
        let Some(index) = self.index(which) else {
            return Ok(());
        };
        let (set, holder) = self.take(index);
        let holder = match holder {
            Held::Owned(owned) => {
                let handle = owned.handle();
                let model = self.model.disown(set, handle);
                self.same_result((Call::IntoRef, handle), Ok(()), model)?;
                Held::Ref(owned.into_ref())
            }
            other => other,
        };
        self.keep(set, holder)
    }

    fn turn_raw(&mut self, which: u16) -> Outcome {
        let Some(index) = self.index(which) else {
            return Ok(());
        };
        let (set, holder) = self.take(index);
        let handle = holder.handle();
        let turned = match holder {
            // The set itself is kept in the place of the holder's hold on it.
            Held::Owned(owned) => match self.sets[set].clone() {
                Some(of) => {
                    owned.into_raw();
                    Ok(Held::RawOwned(of, handle))
                }
                None => Ok(Held::Owned(owned)),
            },
            Held::Ref(reference) => match self.sets[set].clone() {
                Some(of) => {
                    reference.into_raw();
                    Ok(Held::RawRef(of, handle))
                }
                None => Ok(Held::Ref(reference)),
            },
            Held::RawOwned(of, handle) => {
                // SAFETY: made by `into_raw` of an Owned of this set, and had once.
                unsafe { Owned::from_raw(of, handle.to_raw()) }.map(Held::Owned)
            }
            Held::RawRef(of, handle) => {
                // SAFETY: made by `into_raw` of a Ref of this set, and had once.
                unsafe { Ref::from_raw(of, handle.to_raw()) }.map(Held::Ref)
            }
        };
        let got = turned.as_ref().map(Held::handle).map_err(|error| *error);
        self.same_result((Call::FromRaw, handle), got, Ok(handle))?;
        match turned {
            Ok(holder) => self.keep(set, holder),
            Err(_) => Ok(()),
        }
    }

    // ---- Ends ------------------------------------------------------------------

    /// Gives back what is held at `index`, in the way of its kind.
    pub(crate) fn drop_at(&mut self, index: usize) -> Outcome {
        if index >= self.held.len() {
            return Ok(());
        }
        let (set, holder) = self.take(index);
        let handle = holder.handle();
        let (call, real, model) = match holder {
            Held::Owned(owned) => {
                drop(owned);
                (Call::DropOwned, Ok(()), self.model.free(set, handle))
            }
            Held::Ref(reference) => {
                drop(reference);
                (Call::DropRef, Ok(()), self.model.put(set, handle))
            }
            Held::RawOwned(of, handle) => {
                // SAFETY: owned in raw form, and given up here.
                let freed = unsafe { of.free(handle) };
                (Call::Free, freed, self.model.free(set, handle))
            }
            Held::RawRef(of, handle) => {
                // SAFETY: a reference in raw form, given up here.
                let put = unsafe { of.put(handle) };
                (Call::Put, put, self.model.put(set, handle))
            }
        };
        self.same_result((call, handle), real, model)?;
        self.remember(handle);
        self.find_everywhere(handle.pasid())
    }

    /// `put` and `free` through a set that may be the wrong one, where the contract
    /// allows it: of what is over, or held in raw form by another set's holder.
    fn give_back(&mut self, set: u8, which: Which) -> Outcome {
        let (Some((index, set)), Some(handle)) = (self.set(set), self.which(which)) else {
            return Ok(());
        };
        // Of its own set a holder gives back by `drop_at`.
        if self.model.references(index, handle).is_some() {
            return Ok(());
        }
        // SAFETY: no allocation of this set has this handle: it is over, or another
        // set's, which is refused and changes nothing.
        let put = unsafe { set.put(handle) };
        let model = self.model.put(index, handle);
        self.same_result((Call::Put, (index, handle)), put, model)?;
        // SAFETY: as above.
        let freed = unsafe { set.free(handle) };
        let model = self.model.free(index, handle);
        self.same_result((Call::Free, (index, handle)), freed, model)?;
        self.find_everywhere(handle.pasid())
    }

    fn revoke(&mut self, set: u8, which: Which) -> Outcome {
        let (Some((index, set)), Some(handle)) = (self.set(set), self.which(which)) else {
            return Ok(());
        };
        let (real, model) = (set.revoke(handle), self.model.revoke(index, handle));
        self.same_result((Call::Revoke, (index, handle)), real, model)?;
        self.find_everywhere(handle.pasid())
    }

    /// What every set says of `pasid`.
    pub(crate) fn find_everywhere(&mut self, pasid: Pasid) -> Result<(), Difference> {
        for index in 0..self.sets.len() {
            let Some(set) = &self.sets[index] else {
                continue;
            };
            let real = set.find(pasid).map(|found| (found.handle, found.word));
            let model = self.model.find(index, pasid);
            self.same_result((Call::Find, (index, pasid)), real, model)?;
        }
        Ok(())
    }
}
