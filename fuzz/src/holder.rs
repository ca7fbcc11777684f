// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run holds, as Rust values or in raw form.

use pasid::{Error, Handle, IdSpace, Owned, Ref};
use std::sync::Arc;

/// Something held, typed or raw.
pub(crate) enum Holder {
    Owned(Owned<Arc<IdSpace>>),
    Ref(Ref<Arc<IdSpace>>),
    RawOwned(Handle),
    RawRef(Handle),
}

impl Holder {
    pub(crate) fn handle(&self) -> Handle {
        match self {
            Holder::Owned(owned) => owned.handle(),
            Holder::Ref(reference) => reference.handle(),
            Holder::RawOwned(handle) | Holder::RawRef(handle) => *handle,
        }
    }

    pub(crate) fn raw(self) -> Holder {
        match self {
            Holder::Owned(owned) => {
                let handle = owned.handle();
                owned.into_raw();
                Holder::RawOwned(handle)
            }
            Holder::Ref(reference) => {
                let handle = reference.handle();
                reference.into_raw();
                Holder::RawRef(handle)
            }
            raw => raw,
        }
    }

    pub(crate) fn typed(self, space: &Arc<IdSpace>) -> Result<Holder, Error> {
        match self {
            Holder::RawOwned(handle) => {
                // SAFETY: the run made it by `raw` of an Owned of this space, and has it once.
                let owned = unsafe { Owned::from_raw(space.clone(), handle.to_raw()) };
                owned.map(Holder::Owned)
            }
            Holder::RawRef(handle) => {
                // SAFETY: the run made it by `raw` of a Ref of this space, and has it once.
                let reference = unsafe { Ref::from_raw(space.clone(), handle.to_raw()) };
                reference.map(Holder::Ref)
            }
            typed => Ok(typed),
        }
    }
}
