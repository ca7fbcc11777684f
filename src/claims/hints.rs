// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upkeep of the hints at claims, and of the marks over them.
//!
//! The protocol is in `claims.rs`. Both levels of marks follow `marks.rs`; the hint word is
//! the third level, and the claims are what is true.

use super::{ClaimLeaf, ClaimNode, Claims, Side};
use crate::bitmap::{ALL, WORD_BITS};
use crate::radix::{ALL_LEAVES, Place};
use crate::sync::{Mutation, Ordering, order_store_before_load, planted};

impl Claims {
    /// Hints at the `wanted` values of the word of `place` against which the other side's
    /// claim stands. Marks the leaf, and with the last of them the node, where everything
    /// is hidden now. Returns the values that are hidden.
    #[cold]
    pub(crate) fn hide(&self, place: Place, wanted: u32, side: Side) -> u32 {
        let node = self.node(place.node);
        let Some((node, leaf)) = node.and_then(|node| Some((node, node.leaf(place.leaf)?))) else {
            return 0;
        };
        let word = place.position / WORD_BITS;
        let standing = leaf.standing(word, wanted, side);
        if standing == 0 {
            return 0;
        }
        // SeqCst: hint, then look again, against `leave`, then `unhide`: one of the two
        // sees the other.
        leaf.hint(word, side).fetch_or(standing, Ordering::SeqCst);
        order_store_before_load();
        let wrong = standing & !leaf.standing(word, standing, side);
        if wrong != 0 && !planted(Mutation::HideLooksOnce) {
            // As who gave the claim back would: a mark may stand over the hint by now.
            self.unhide(node, leaf, place, wrong, side);
            return standing & !wrong;
        }
        if leaf.is_hidden(side) {
            self.mark(node, leaf, place, side);
        }
        standing
    }

    /// Marks a leaf of which everything is hidden, and with the last of them the node.
    fn mark(&self, node: &ClaimNode, leaf: &ClaimLeaf, place: Place, side: Side) {
        let (leaves, nodes) = (node.marks.of(side), self.tree.marks.of(side));
        // SeqCst: mark, then look again, against the clearing of a hint, then the look at
        // the leaf's mark, in `unhide`.
        leaves.fetch_or(1 << place.leaf, Ordering::SeqCst);
        order_store_before_load();
        if !leaf.is_hidden(side) && !planted(Mutation::HideLooksOnce) {
            self.unhide(node, leaf, place, 0, side);
            return;
        }
        // SeqCst: as above, one level up: against the clearing of a leaf's mark, then the
        // look at the node's, in `unhide`.
        if leaves.load(Ordering::SeqCst) == ALL_LEAVES {
            // SeqCst: the same pair.
            nodes.fetch_or(1 << place.node, Ordering::SeqCst);
            order_store_before_load();
            // SeqCst: the second look of the pair.
            let marked = leaves.load(Ordering::SeqCst);
            if marked != ALL_LEAVES && !planted(Mutation::HideLooksOnce) {
                // SeqCst: kept with the others; a cleared mark is always safe.
                nodes.fetch_and(!(1 << place.node), Ordering::SeqCst);
            }
        }
    }

    /// Clears the hints `bits` of the word of `place`, and the marks over them.
    ///
    /// Both marks are looked at every time, not only below a hint that was set: a finished
    /// release must not hide behind another's unfinished one.
    #[inline(always)]
    pub(super) fn unhide(
        &self,
        node: &ClaimNode,
        leaf: &ClaimLeaf,
        place: Place,
        bits: u32,
        side: Side,
    ) {
        order_store_before_load();
        let hint = leaf.hint(place.position / WORD_BITS, side);
        // SeqCst: pairs with `hide`: comes after the release of the claim in the total
        // order, so either the hint is seen here or the second look sees the release.
        let hinted = hint.load(Ordering::SeqCst);
        if hinted & bits != 0 {
            // SeqCst: comes before the look at the leaf's mark below.
            hint.fetch_and(!bits, Ordering::SeqCst);
            order_store_before_load();
        }
        if planted(Mutation::UnhideStopsEarly) && hinted != ALL {
            return;
        }
        let (leaves, nodes) = (node.marks.of(side), self.tree.marks.of(side));
        // SeqCst: pairs with the marking of the leaf in `mark`.
        let marked = leaves.load(Ordering::SeqCst);
        if marked & 1 << place.leaf != 0 {
            // SeqCst: comes before the look at the node's mark below.
            leaves.fetch_and(!(1 << place.leaf), Ordering::SeqCst);
            order_store_before_load();
        }
        if planted(Mutation::UnhideStopsEarly) && marked != ALL_LEAVES {
            return;
        }
        // SeqCst: pairs with the marking of the node in `mark`.
        if nodes.load(Ordering::SeqCst) & 1 << place.node != 0 {
            // SeqCst: kept with the others; a cleared mark is always safe.
            nodes.fetch_and(!(1 << place.node), Ordering::SeqCst);
        }
    }
}
