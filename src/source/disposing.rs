// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of the payload of an allocation that has ended.
//!
//! The word is read by who goes on with the PASID, before anybody else may have it: before
//! the bit is given back, or the PASID waits for a flush, which links what it takes through
//! the words. Where the PASID is pinned, that is who takes the pin away. The word
//! is retired when all else is done: the payloads that are dropped then, also
//! others', may do as they like, and nothing is withheld from anybody meanwhile. That is
//! late enough (see `epoch.rs`): look-ups have refused since the allocation ended.

use super::Source;
use crate::pasid::Pasid;
use crate::payload::Dispose;
use crate::state::Left;
use crate::sync::{Mutation, planted};

/// A word to be retired, and how.
pub(super) struct Leftover {
    dispose: Dispose,
    word: u64,
}

impl Source {
    /// What an allocation leaves, for who goes on with its PASID.
    #[inline(always)]
    pub(super) fn leftover(&self, pasid: Pasid, left: Left) -> Option<Leftover> {
        match left {
            Left::Kept if planted(Mutation::PayloadRetiredPinned) => self.payload_at(pasid),
            Left::Held | Left::Kept => None,
            Left::Nothing | Left::Waiting | Left::Retired => self.payload_at(pasid),
        }
    }

    #[inline(always)]
    fn payload_at(&self, pasid: Pasid) -> Option<Leftover> {
        let dispose = self.kind.dispose?;
        // It cannot be missing where a reference was held.
        let entry = self.ids().tree.entry(pasid)?;
        Some(Leftover {
            dispose,
            word: entry.slot.word(),
        })
    }

    /// Retires it, if there is something, after all else.
    #[inline(always)]
    pub(super) fn dispose(&self, pasid: Pasid, leftover: Option<Leftover>) {
        let Some(Leftover { dispose, word }) = leftover else {
            return;
        };
        let word = match planted(Mutation::PayloadReadLate) {
            true => self.payload_at(pasid).map_or(word, |left| left.word),
            false => word,
        };
        if planted(Mutation::PayloadRetiredEarly) {
            return;
        }
        // SAFETY: the word of an allocation that this call ended, of the set's own type
        // (D1), and nobody else retires it (D2).
        unsafe { dispose(word) };
    }

    /// Where that is planted, retires a payload that look-ups still find.
    #[cfg(loom)]
    pub(super) fn dispose_early(&self, pasid: Pasid) {
        if !planted(Mutation::PayloadRetiredEarly) {
            return;
        }
        if let Some(Leftover { dispose, word }) = self.payload_at(pasid) {
            // SAFETY: none; a model notices.
            unsafe { dispose(word) };
        }
    }
}

#[cfg(all(test, not(loom), feature = "epoch"))]
mod tests {
    use crate::epoch::Guard;
    use crate::handle::Handle;
    use crate::owned::Owned;
    use crate::pasid::Pasid;
    use crate::pool::Pool;
    use crate::set::{IoasidSet, Scope, SetConfig};
    use crate::{PasidWidth, Reuse, Space, SpaceKind, TableConfig};
    use std::sync::{Arc, Weak};

    /// The owner of `pasid`, as if it had been allocated 2^32 - 1 times before, and what
    /// tells whether its payload is there.
    fn aged(set: &IoasidSet<Arc<u32>>, pasid: Pasid) -> (Owned<&IoasidSet<Arc<u32>>>, Weak<u32>) {
        let payload = Arc::new(7);
        let weak = Arc::downgrade(&payload);
        let raw = set
            .alloc(pasid.into(), payload)
            .expect("it is free")
            .into_raw();
        let handle = Handle::from_raw(raw).expect("a raw form");
        let slot = set
            .source()
            .ids()
            .entry_of(handle)
            .expect("it is live")
            .slot;
        slot.age(u32::MAX);
        let aged = Handle::new(pasid, handle.tag(), u32::MAX);
        // SAFETY: the owner that `into_raw` took apart, by its new name.
        let owned = unsafe { Owned::from_raw(set, aged.to_raw()) };
        (owned.expect("of this set"), weak)
    }

    fn assert_dropped(payload: &Weak<u32>) {
        for _ in 0..1_000_000 {
            if payload.strong_count() == 0 {
                return;
            }
            Guard::new().flush();
            std::thread::yield_now();
        }
        panic!("a payload was not dropped");
    }

    #[test]
    fn the_payload_of_the_last_generation_is_dropped_too() {
        let space = Space::new(SpaceKind::Both);
        let table = || {
            space
                .add_table(TableConfig::new(PasidWidth::MAX))
                .expect("memory")
        };
        let tables = [table(), table()];
        let scopes = [
            Scope::Global,
            Scope::Local(&tables[0]),
            Scope::Group(&tables),
        ];
        for (base, scope) in [10, 20, 30].into_iter().zip(scopes) {
            for (number, reuse) in (base..).zip([Reuse::Immediate, Reuse::AfterFlush]) {
                let config = SetConfig::new(scope).reuse(reuse);
                let set = space.add_set_of(config).expect("memory");
                // As it goes, kept by a pin, and with the pin taken away first.
                for way in 0..3 {
                    let pasid = Pasid::from_u16(number + 3 * way);
                    let (owned, payload) = aged(&set, pasid);
                    let pinned = (way > 0).then(|| owned.pin().expect("it is not pinned"));
                    if way < 2 {
                        drop(owned);
                        drop(pinned);
                    } else {
                        drop(pinned);
                        drop(owned);
                    }
                    assert_dropped(&payload);
                    // Its number is used up.
                    assert!(set.alloc_at(pasid, Arc::new(8)).is_err());
                }
            }
        }
    }
}
