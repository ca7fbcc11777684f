// SPDX-License-Identifier: MIT OR Apache-2.0
//! References: taken, turned from one form into another, given back.

use crate::drive::{Outcome, Run};
use crate::holder::Holder;
use crate::op::{Number, Which};
use crate::report::{Call, Difference};
use pasid::{Error, Handle, IdSpace, Pinned, Pool, Ref};
use std::fmt;
use std::sync::Arc;

/// Handles that are kept for later use, over or not.
const PAST_LAST: usize = 256;
/// Pins that are kept: the oldest goes when one more comes.
const PINS_LAST: usize = 40;

impl Run {
    /// Compares a reference with the model's answer, and keeps it.
    fn keep_ref(
        &mut self,
        call: (Call, impl fmt::Debug),
        real: Result<Ref<Arc<IdSpace>>, Error>,
        model: Result<Handle, Error>,
    ) -> Outcome {
        let got = real.as_ref().map(Ref::handle).map_err(|error| *error);
        self.same_result(call, got, model)?;
        match real {
            Ok(reference) => {
                let word = self.model.word(reference.handle());
                self.same(("word of", reference.handle()), Ok(reference.word()), word)?;
                self.keep(Holder::Ref(reference))
            }
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn get(&mut self, which: Which) -> Outcome {
        let Some(handle) = self.which(which)? else {
            return Ok(());
        };
        let real = self.space.clone().get(handle);
        let model = self.model.get(handle).map(|()| handle);
        self.keep_ref((Call::Get, handle), real, model)
    }

    pub(crate) fn get_at(&mut self, number: Number) -> Outcome {
        let pasid = self.number(number);
        let real = self.space.clone().get_at(pasid);
        let model = self.model.get_at(pasid);
        self.keep_ref((Call::GetAt, pasid), real, model)
    }

    pub(crate) fn another(&mut self, which: u16) -> Outcome {
        let Some(index) = self.index(which) else {
            return Ok(());
        };
        let handle = self.held[index].handle();
        match &self.held[index] {
            Holder::Owned(owned) => {
                let real = owned.get();
                let model = self.model.get(handle).map(|()| handle);
                self.keep_ref((Call::OwnedGet, handle), real, model)
            }
            Holder::Ref(reference) => {
                let real = reference.try_clone();
                let model = self.model.clone_held(handle).map(|()| handle);
                self.keep_ref((Call::TryClone, handle), real, model)
            }
            Holder::RawOwned(_) | Holder::RawRef(_) => Ok(()),
        }
    }

    pub(crate) fn replace(&mut self, which: u16, word: u64) -> Outcome {
        let Some(index) = self.index(which) else {
            return Ok(());
        };
        let (before, real) = match &self.held[index] {
            Holder::Owned(owned) => (owned.word(), owned.replace(word)),
            Holder::Ref(reference) => (reference.word(), reference.replace(word)),
            Holder::RawOwned(_) | Holder::RawRef(_) => return Ok(()),
        };
        let handle = self.held[index].handle();
        let model = self.model.word(handle);
        self.same(("word", handle), Ok(before), model)?;
        let model = self.model.replace(handle, word);
        self.same_result((Call::Replace, handle), Ok(real), model)?;
        self.find(handle.pasid())
    }

    fn take(&mut self, index: usize) -> Holder {
        self.held
            .swap_remove_back(index)
            .expect("an index of `held`")
    }

    pub(crate) fn make_ref(&mut self, which: u16) -> Outcome {
        let Some(index) = self.index(which) else {
            return Ok(());
        };
        let holder = match self.take(index) {
            Holder::Owned(owned) => {
                let handle = owned.handle();
                let model = self.model.disown(handle);
                self.same_result((Call::IntoRef, handle), Ok(()), model)?;
                Holder::Ref(owned.into_ref())
            }
            other => other,
        };
        let pasid = holder.handle().pasid();
        self.keep(holder)?;
        self.find(pasid)
    }

    pub(crate) fn turn_raw(&mut self, which: u16) -> Outcome {
        let Some(index) = self.index(which) else {
            return Ok(());
        };
        let holder = match self.take(index) {
            typed @ (Holder::Owned(_) | Holder::Ref(_)) => typed.raw(),
            raw => self.typed(raw)?,
        };
        self.keep(holder)
    }

    pub(crate) fn typed(&mut self, raw: Holder) -> Result<Holder, Difference> {
        let handle = raw.handle();
        let typed = raw.typed(&self.space);
        let got = typed.as_ref().map(Holder::handle).map_err(|error| *error);
        self.same_result((Call::HolderFromRaw, handle), got, Ok(handle))?;
        Ok(typed.unwrap_or(Holder::RawRef(handle)))
    }

    // ---- Pins ----------------------------------------------------------------

    pub(crate) fn pin(&mut self, which: u16) -> Outcome {
        let Some(index) = self.index(which) else {
            return Ok(());
        };
        let real = match &self.held[index] {
            Holder::Owned(owned) => owned.pin(),
            Holder::Ref(reference) => reference.pin(),
            Holder::RawOwned(_) | Holder::RawRef(_) => return Ok(()),
        };
        let handle = self.held[index].handle();
        let got = real.as_ref().map(Pinned::handle).map_err(|error| *error);
        let model = self.model.pin(handle).map(|()| handle);
        self.same_result((Call::Pin, handle), got, model)?;
        self.pins.extend(real);
        match self.pins.len() > PINS_LAST {
            true => self.unpin_at(0),
            false => Ok(()),
        }
    }

    pub(crate) fn unpin_at(&mut self, index: usize) -> Outcome {
        let pin = self.pins.remove(index);
        let handle = pin.handle();
        drop(pin);
        self.model.unpin(handle);
        self.same_result((Call::Unpin, handle), Ok(()), Ok(()))?;
        self.find(handle.pasid())
    }

    // ---- Ends ----------------------------------------------------------------

    fn remember(&mut self, handle: Handle) {
        if self.past.len() == PAST_LAST {
            self.past.pop_front();
        }
        self.past.push_back(handle);
    }

    /// Gives back what is held at `index`, in the way of its kind.
    pub(crate) fn drop_at(&mut self, index: usize) -> Outcome {
        if index >= self.held.len() {
            return Ok(());
        }
        let holder = self.take(index);
        let handle = holder.handle();
        let (call, real, model) = match holder {
            Holder::Owned(owned) => {
                drop(owned);
                (Call::DropOwned, Ok(()), self.model.free(handle))
            }
            Holder::Ref(reference) => {
                drop(reference);
                (Call::DropRef, Ok(()), self.model.put(handle))
            }
            Holder::RawOwned(handle) => {
                // SAFETY: owned in raw form, and given up here.
                let freed = unsafe { self.space.free(handle) };
                (Call::Free, freed, self.model.free(handle))
            }
            Holder::RawRef(handle) => {
                // SAFETY: a reference in raw form, given up here.
                let put = unsafe { self.space.put(handle) };
                (Call::Put, put, self.model.put(handle))
            }
        };
        self.same_result((call, handle), real, model)?;
        self.remember(handle);
        self.find(handle.pasid())
    }

    /// Where the raw holder of that kind and handle is.
    fn raw_holder(&self, wanted: Handle, owner: bool) -> Option<usize> {
        self.held.iter().position(|holder| match holder {
            Holder::RawOwned(handle) => owner && *handle == wanted,
            Holder::RawRef(handle) => !owner && *handle == wanted,
            Holder::Owned(_) | Holder::Ref(_) => false,
        })
    }

    pub(crate) fn put(&mut self, which: Which) -> Outcome {
        let Some(handle) = self.which(which)? else {
            return Ok(());
        };
        if let Some(index) = self.raw_holder(handle, false) {
            return self.drop_at(index);
        }
        // Without a reference in raw form the contract allows it when the
        // allocation is over, and nothing is lost when the owner's own reference
        // is all there is.
        match self.model.references(handle) {
            Some((_, others)) if others > 0 => return Ok(()),
            _ => {}
        }
        // SAFETY: the allocation is over, or there is no reference to give back.
        let real = unsafe { self.space.put(handle) };
        let model = self.model.put(handle);
        self.same_result((Call::Put, handle), real, model)?;
        self.find(handle.pasid())
    }

    pub(crate) fn free(&mut self, which: Which) -> Outcome {
        let Some(handle) = self.which(which)? else {
            return Ok(());
        };
        if let Some(index) = self.raw_holder(handle, true) {
            return self.drop_at(index);
        }
        if self.model.references(handle).is_some_and(|(own, _)| own) {
            return Ok(());
        }
        // SAFETY: the allocation is over or without its own reference.
        let real = unsafe { self.space.free(handle) };
        let model = self.model.free(handle);
        self.same_result((Call::Free, handle), real, model)?;
        self.find(handle.pasid())
    }

    pub(crate) fn revoke(&mut self, which: Which) -> Outcome {
        let Some(handle) = self.which(which)? else {
            return Ok(());
        };
        let (real, model) = (self.space.revoke(handle), self.model.revoke(handle));
        self.same_result((Call::Revoke, handle), real, model)?;
        self.find(handle.pasid())
    }
}
