// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a set frees, revokes, and takes back what its PASIDs had.

use super::{Reach, Source, Way};
use crate::alloc::refused_handle;
use crate::claims::Side;
use crate::contest::Hold;
use crate::error::Result;
use crate::grant::Allocate;
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::radix::Tree;
use crate::reuse::Reuse;
use crate::slot::Slot;
use crate::state::{Left, Refusal};
use crate::sync::{Mutation, planted};

impl Source {
    // ---- By the owner ----------------------------------------------------------------

    /// Where a usual claimed set of that side has its PASIDs.
    #[inline(always)]
    fn usual_tree(&self, side: Side) -> Option<&Tree> {
        match side {
            Side::Local => self.table().map(|table| &table.ids.tree),
            Side::Global => Some(&self.shared.globals.tree),
        }
    }

    /// Frees what an owner held, for a usual claimed set of that side.
    #[inline(always)]
    pub(super) fn free_claimed(&self, side: Side, handle: Handle, slot: &Slot) {
        let Some(tree) = self.usual_tree(side) else {
            return;
        };
        let contest = self.claimed_by(side, tree);
        // Before the slot's locked operation, behind which the loads would wait.
        // It cannot be missing, nor the allocation over, while it is owned.
        let Some(hold) = contest.hold(handle.pasid()) else {
            return;
        };
        match slot.free_owned(handle.generation(), self.index, Reuse::Immediate) {
            Ok(Left::Nothing) => contest.give_hold_back(hold),
            Ok(Left::Retired) => self.retire(handle.pasid()),
            // It does not await a flush: the set's PASIDs are reused at once.
            Ok(Left::Held | Left::Waiting | Left::Kept) | Err(_) => {}
        }
    }

    /// The same for a usual set whose PASIDs await a flush.
    #[inline(always)]
    pub(super) fn free_waiting(&self, handle: Handle, slot: &Slot) {
        let freed = slot.free_owned(handle.generation(), self.index, Reuse::AfterFlush);
        match freed {
            Ok(Left::Waiting) => self.ids().tree.wait(handle.pasid()),
            Ok(left) => self.settle(handle.pasid(), left, None),
            Err(_) => {}
        }
    }

    /// The same for every set.
    #[inline(never)]
    pub(super) fn free_unusually(&self, handle: Handle, slot: &Slot) {
        if self.is_observed() {
            // It cannot be refused while the PASID is owned.
            let _ = self.free_slot(handle, slot);
            return;
        }
        #[cfg(loom)]
        self.dispose_early(handle.pasid());
        // Before the slot's locked operation, behind which the loads would wait.
        let hold = self.hold(handle.pasid());
        if let Ok(left) = slot.free_owned(handle.generation(), self.index, self.reuse) {
            if left != Left::Held {
                self.reclaim(handle, left, hold);
            }
        }
    }

    // ---- By raw handle, and by number --------------------------------------------

    pub(crate) fn put(&self, handle: Handle) -> Result<()> {
        let slot = self.slot_of(handle)?;
        let left = slot.put(self.sought(handle), self.reuse);
        self.ended(handle, left.map_err(|why| refused_handle(handle, why))?);
        Ok(())
    }

    pub(crate) fn free(&self, handle: Handle) -> Result<()> {
        let slot = self.slot_of(handle)?;
        let freed = self.free_slot(handle, slot);
        freed.map_err(|why| refused_handle(handle, why))
    }

    /// Frees, and tells the observer of the revocation while the owner's reference is
    /// still held: *revoked* comes before *reclaimed*.
    pub(super) fn free_slot(
        &self,
        handle: Handle,
        slot: &Slot,
    ) -> core::result::Result<(), Refusal> {
        let sought = self.sought(handle);
        if self.is_observed() && slot.revoke(sought)? {
            self.tell_revoked(handle);
        }
        let left = slot.free(sought, self.reuse)?;
        self.ended(handle, left);
        Ok(())
    }

    /// Takes an allocation back of which no hardware can have heard: it awaits no flush. The
    /// owner's reference is given back.
    pub(crate) fn undo(&self, handle: Handle, slot: &Slot) {
        let sought = self.sought(handle);
        if slot.revoke(sought) == Ok(true) {
            self.tell_revoked(handle);
        }
        if let Ok(left) = slot.free(sought, Reuse::Immediate) {
            self.ended(handle, left);
        }
    }

    pub(crate) fn revoke(&self, handle: Handle) -> Result<()> {
        let slot = self.slot_of(handle)?;
        let revoked = self.revoke_slot(handle, slot);
        revoked.map_err(|why| refused_handle(handle, why))
    }

    /// Revokes; an observer is told while a reference is held, for the same reason.
    pub(super) fn revoke_slot(
        &self,
        handle: Handle,
        slot: &Slot,
    ) -> core::result::Result<(), Refusal> {
        let sought = self.sought(handle);
        let hold = self.is_observed() && !planted(Mutation::RevokedToldLate);
        let held = hold && slot.get(sought).is_ok();
        let revoked = slot.revoke(sought);
        if revoked == Ok(true) {
            self.tell_revoked(handle);
        }
        if held {
            self.put_held(handle, slot);
        }
        revoked.map(|_| ())
    }

    /// Gives back the reference of an attachment to the allocation in `slot`.
    pub(crate) fn put_slot(&self, pasid: Pasid, slot: &Slot) {
        let generation = slot.state().generation();
        self.put_held(self.handle(pasid, generation), slot);
    }

    // ---- Reclaiming ------------------------------------------------------------

    /// Where `pasid`, which is held, will be given back. A group's is in several places.
    #[inline(always)]
    fn hold(&self, pasid: Pasid) -> Option<Hold<'_>> {
        match self.way {
            Way::Plain => self.plain().hold(pasid),
            Way::Claimed => self.claimed().hold(pasid),
            Way::Group => None,
        }
    }

    /// Goes on after a reference was given back.
    #[inline(always)]
    pub(super) fn ended(&self, handle: Handle, left: Left) {
        if left != Left::Held {
            self.reclaim(handle, left, self.hold(handle.pasid()));
        }
    }

    #[inline(always)]
    fn reclaim(&self, handle: Handle, left: Left, hold: Option<Hold<'_>>) {
        let pinned = planted(Mutation::ReclaimedToldPinned);
        let all_the_same = pinned || planted(Mutation::PayloadRetiredPinned);
        if left == Left::Kept && !all_the_same {
            // For whoever takes the pin away, who may be at it already.
            return;
        }
        let late = planted(Mutation::ReclaimedToldLate);
        if !late {
            self.tell_reclaimed(handle);
        }
        self.settle(handle.pasid(), left, hold);
        if late {
            self.tell_reclaimed(handle);
        }
    }

    /// Goes on with a PASID whose allocation is over.
    #[inline(always)]
    fn settle(&self, pasid: Pasid, left: Left, hold: Option<Hold<'_>>) {
        // Before anybody else may have the PASID, and with it the word.
        let leftover = self.leftover(pasid, left);
        self.hand_on(pasid, left, hold);
        self.dispose(pasid, leftover);
    }

    #[inline(always)]
    fn hand_on(&self, pasid: Pasid, left: Left, hold: Option<Hold<'_>>) {
        match left {
            // There is nothing to go on with.
            Left::Held | Left::Kept => return,
            // Whoever completes the flush gives it back, and its credit.
            Left::Waiting => return self.ids().tree.wait(pasid),
            Left::Retired => self.retire(pasid),
            Left::Nothing => match (hold, self.way) {
                (Some(hold), Way::Plain) => self.plain().give_hold_back(hold),
                (Some(hold), _) => self.claimed().give_hold_back(hold),
                (None, _) => self.give_back_of_group(pasid),
            },
        }
        self.give_credit_back();
    }

    /// Takes away the pin of the allocation `handle`, and goes on as after a last put if
    /// that came before.
    pub(super) fn take_pin_away(&self, handle: Handle, slot: &Slot) {
        self.ended(handle, slot.unpin(handle.generation(), self.reuse));
    }

    #[inline(never)]
    fn give_back_of_group(&self, pasid: Pasid) {
        // The places of other sets cannot be missing where a reference was held.
        debug_assert!(self.way == Way::Group);
        if let Reach::Group { members, own } = &self.reach {
            self.grouped(members, own).give_back(pasid);
        }
    }

    /// Gives back what a PASID out of generations had, but for the bit over its slot.
    #[cold]
    fn retire(&self, pasid: Pasid) {
        if self.reuse == Reuse::AfterFlush {
            // No flush comes for it, so nobody else may have the number.
            return;
        }
        match &self.reach {
            Reach::Group { members, own } => self.grouped(members, own).give_shared_back(pasid),
            Reach::Global | Reach::Local(_) => self.claimed().give_claim_back(pasid),
        }
    }
}
