// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking one value of a contest, word by word in the order of its side, and giving it back.
//!
//! The protocol is that of `contest.rs`; the orderings are those of the words themselves
//! (`bitmap.rs`, `claims.rs`).

use super::{Contest, Contested, Ground, Members};
use crate::claims::Side;
use crate::pasid::Pasid;
use crate::quarantine::Group;
use crate::radix::{Place, Spot, Tree};
use crate::search::Taken;
use crate::sync::{Event, Mutation, met, planted};

impl<'a, M: Members> Contest<'a, M> {
    /// Takes the value, or changes nothing.
    pub(super) fn attempt(&self, ground: Ground<'a>, pasid: Pasid) -> Result<Taken<'a>, Contested> {
        let place = Place::of(pasid.get());
        match (ground.claims, self.side) {
            (None, _) => self.take_members(place)?,
            (Some(claims), Side::Global) => {
                claims.enter(place.position, Side::Global)?;
                if let Err(why) = self.take_members(place) {
                    // Held without a claim: nobody's attempt, so nobody waits for this one.
                    self.give_claim_back(pasid);
                    return Err(why);
                }
            }
            (Some(claims), Side::Local) => {
                let claim = claims.look(place.position);
                claim.admits(Side::Local)?;
                self.take_members(place)?;
                met(Event::HalfTaken);
                let entered = claims.enter_from(place.position, claim, Side::Local);
                if !planted(Mutation::LocalClaimsFirstNotChecked) {
                    entered.inspect_err(|_| self.back_out(place, self.members.count()))?;
                }
            }
        }
        if !self.own().is_none_or(|own| take_bit(own, place)) {
            met(Event::BackedOut);
            self.give_shared_back(pasid);
            return Err(Contested::InUse);
        }
        Ok(Taken {
            pasid,
            slot: ground.leaf.slot(pasid),
        })
    }

    /// Takes the bits of all members in ascending order, or none.
    fn take_members(&self, place: Place) -> Result<(), Contested> {
        for index in 0..self.members.count() {
            if index > 0 {
                met(Event::HalfTaken);
            }
            let tree = self.members.tree(index);
            if !tree.is_some_and(|tree| take_bit(tree, place)) {
                self.back_out(place, index);
                return Err(Contested::InUse);
            }
        }
        Ok(())
    }

    /// Gives back the bits of the first `count` members, of an attempt that failed.
    #[cold]
    fn back_out(&self, place: Place, count: usize) {
        if count > 0 {
            met(Event::BackedOut);
        }
        #[cfg(loom)]
        if planted(Mutation::GroupKeepsBits) {
            return self.back_out_in_part(place, count);
        }
        self.give_members_back(place, count);
    }

    /// Gives back the bits of the first `count` members, in descending order.
    #[inline(always)]
    fn give_members_back(&self, place: Place, count: usize) {
        for tree in (0..count).rev().filter_map(|at| self.members.tree(at)) {
            give_bit_back(tree, place);
        }
    }

    /// Gives back `pasid`, which the caller took and whose slot is dead.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn give_back(&self, pasid: Pasid) {
        #[cfg(loom)]
        if planted(Mutation::GroupOwnBitLast) {
            return self.give_own_back_last(pasid);
        }
        // First: as long as the members' bits are set nobody comes here for it.
        if let Some(own) = self.own() {
            give_bit_back(own, Place::of(pasid.get()));
        }
        self.give_shared_back(pasid);
    }

    /// Gives back the PASIDs of a group, which the caller took and whose slots are dead.
    ///
    /// Wait-free.
    pub(crate) fn give_group_back(&self, group: Group) {
        if self.own().is_some() {
            group.pasids().for_each(|pasid| self.give_back(pasid));
            return;
        }
        // One tree, so that the bits of a word go in one step.
        self.slots.give_group_back(group);
        group.pasids().for_each(|pasid| self.give_claim_back(pasid));
    }

    /// Gives back the bits of the members, and then the claim.
    #[inline(always)]
    pub(crate) fn give_shared_back(&self, pasid: Pasid) {
        let place = Place::of(pasid.get());
        let claim_first = planted(Mutation::GlobalClaimGivenBackFirst);
        if claim_first {
            self.give_claim_back(pasid);
        }
        self.give_members_back(place, self.members.count());
        if !claim_first {
            self.give_claim_back(pasid);
        }
    }

    /// Gives back the claim alone.
    #[inline(always)]
    pub(crate) fn give_claim_back(&self, pasid: Pasid) {
        if let Some(claims) = self.claims {
            claims.release(pasid.get(), self.side);
        }
    }
}

/// Takes the bit of one tree, whose node is there.
#[inline(always)]
pub(super) fn take_bit(tree: &Tree, place: Place) -> bool {
    tree.node(place.node)
        .is_some_and(|node| node.bits(place.leaf).take(place.position))
}

/// Gives back the bit of one tree, with the care of its marks and its remembered answer.
#[inline(always)]
pub(super) fn give_bit_back(tree: &Tree, place: Place) {
    if let Some(node) = tree.node(place.node) {
        tree.give_back(Spot { node, place });
    }
}
