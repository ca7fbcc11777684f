// SPDX-License-Identifier: MIT OR Apache-2.0
//! Look-ups, memory, and the end of a run: what is compared without changing who
//! holds what.

use crate::drive::{Outcome, Run};
use crate::holder::Holder;
use crate::report::{Call, Difference, Report};
use pasid::{Handle, IdSpace, Owned, Pasid, PasidRange, Pool};
use std::sync::Arc;

/// Most PASIDs for which memory is put in place at once: 64 leaves.
const PRELOAD_LAST: u32 = 16_384;

/// What a leaf may take, in bytes: 16 to 18 for each of its 256 PASIDs.
const LEAF_BYTES_FIRST: usize = 16 * 256;
const LEAF_BYTES_LAST: usize = 18 * 256;
/// The most that a node may take, in bytes, and how many there are.
const NODE_BYTES_LAST: usize = 5 * 1024;
const NODES: usize = 64;

impl Run {
    pub(crate) fn find(&mut self, pasid: Pasid) -> Outcome {
        let real = self
            .space
            .find(pasid)
            .map(|found| (found.handle, found.word));
        let model = self.model.find(pasid);
        self.same_result((Call::Find, pasid), real, model)
    }

    pub(crate) fn list(&mut self, range: PasidRange) -> Outcome {
        let model = self.model.live(range);
        let real: Vec<(Handle, u64)> = self
            .space
            .iter(range)
            .map(|found| (found.handle, found.word))
            .collect();
        let (any, count) = (self.space.any_live(range), self.space.count_live(range));
        self.same(("any_live", range), any, !model.is_empty())?;
        self.same(("count_live", range), count as usize, model.len())?;
        self.same_result((Call::Iter, range), Ok(real), Ok(model))
    }

    pub(crate) fn preload(&mut self, range: PasidRange) -> Outcome {
        let last = range
            .last()
            .get()
            .min(range.first().get() + (PRELOAD_LAST - 1));
        let range = Pasid::new(last)
            .and_then(|last| PasidRange::new(range.first(), last))
            .unwrap_or(range);
        let before = self.space.memory_bytes();
        let real = self.space.preload(range);
        let added = self.space.memory_bytes() - before;
        self.same(("bytes of preload", range), real.unwrap_or(added), added)?;
        let model = self.model.preload(range).map(|leaves| leaves > 0);
        self.same_result((Call::Preload, range), real.map(|bytes| bytes > 0), model)?;
        self.memory()
    }

    /// Whether the space has grown by the model's leaves.
    pub(crate) fn memory(&self) -> Outcome {
        let grown = self.space.memory_bytes() - size_of::<IdSpace>();
        let leaves = self.model.leaves();
        // A node may be there for nothing: a search looked for room in it.
        let (least, most) = (
            leaves * LEAF_BYTES_FIRST,
            leaves * LEAF_BYTES_LAST + NODES * NODE_BYTES_LAST,
        );
        self.same(
            ("memory_bytes", grown, "is between", least, most),
            (least..=most).contains(&grown),
            true,
        )
    }

    pub(crate) fn shrink(&mut self) -> Outcome {
        // Only an exclusive borrow shrinks, so that all holders let go of theirs. A pin has
        // no raw form.
        while !self.pins.is_empty() {
            self.unpin_at(0)?;
        }
        let held: Vec<Holder> = self.held.drain(..).map(Holder::raw).collect();
        let before = self.space.memory_bytes();
        let Some(space) = Arc::get_mut(&mut self.space) else {
            return self.same("the space is shared by nobody", false, true);
        };
        let given_back = space.shrink();
        let after = space.memory_bytes();
        self.same("bytes of shrink", given_back, before - after)?;
        let gone = self.model.shrink();
        let least = gone * LEAF_BYTES_FIRST;
        self.same(
            ("shrink gives back at least", least),
            given_back >= least,
            true,
        )?;
        let nothing_grown = after == size_of::<IdSpace>();
        self.same_result(
            (Call::Shrink, before),
            Ok(nothing_grown),
            Ok(self.model.leaves() == 0),
        )?;
        self.memory()?;
        for holder in held {
            let typed = self.typed(holder)?;
            self.held.push_back(typed);
        }
        self.compare_all()
    }

    /// Everything that is live, as a whole.
    pub(crate) fn compare_all(&mut self) -> Outcome {
        self.list(
            PasidRange::new(Pasid::ZERO, Pasid::MAX).unwrap_or(PasidRange::single(Pasid::MAX)),
        )
    }

    /// Gives everything back and checks that nothing is lost.
    pub(crate) fn finish(mut self) -> Result<Report, Difference> {
        self.compare_all()?;
        while !self.held.is_empty() {
            self.drop_at(0)?;
        }
        while !self.pins.is_empty() {
            self.unpin_at(0)?;
        }
        self.compare_all()?;
        let live = self.space.any_live(self.space.range());
        self.same("something is live at the end", live, false)?;
        // In small spaces all that is free is handed out once more.
        let free = self.model.count_free();
        if free <= 4_096 {
            let all: Vec<Owned<Arc<IdSpace>>> = (0..=free)
                .map_while(|_| self.space.clone().alloc(self.space.range(), 0).ok())
                .collect();
            self.same("how many are free at the end", all.len() as u32, free)?;
        }
        Ok(self.report)
    }
}
