// SPDX-License-Identifier: MIT OR Apache-2.0
//! What taking and giving back several words must not be.
//!
//! Only the models have these: a canary plants one, and its model must notice.

use super::words::give_bit_back;
use super::{Contest, Members};
use crate::pasid::Pasid;
use crate::radix::Place;

impl<M: Members> Contest<'_, M> {
    /// Backs out and leaves the first member's bit set, which nobody owns then.
    pub(super) fn back_out_in_part(&self, place: Place, count: usize) {
        for tree in (1..count).rev().filter_map(|at| self.members.tree(at)) {
            give_bit_back(tree, place);
        }
    }

    /// Gives the value to all others while its bit in the group's own tree is still set:
    /// the set's next attempt wins everything else and then finds it held.
    pub(super) fn give_own_back_last(&self, pasid: Pasid) {
        self.give_shared_back(pasid);
        if let Some(own) = self.own() {
            give_bit_back(own, Place::of(pasid.get()));
        }
    }
}
