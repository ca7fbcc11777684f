// SPDX-License-Identifier: MIT OR Apache-2.0
//! Full marks: one bit a leaf and one bit a node that say that nothing is free
//! below.
//!
//! # Protocol
//! Marks are hints that only the search reads. Whoever marks looks again
//! afterwards; whoever gives a bit back looks at both marks afterwards. A wrong
//! "not full" costs time. A wrong "full" does not outlive the calls that caused it:
//! in the single total order of the sequentially consistent operations, either the
//! marker's second look or the releaser's look at the mark comes last. Exactness
//! does not rest on marks.
//!
//! A search that fails marks what it found full, so a later one steps over it.
//! Taking the last bit marks nothing: one who frees and allocates in turn at the
//! edge of a full leaf would otherwise set and clear its mark each time.

use crate::bitmap::WORD_BITS;
use crate::quarantine::Group;
use crate::radix::{ALL_LEAVES, Node, Part, Spot, Tree};
use crate::sync::{Mutation, Ordering, order_store_before_load, planted};

impl Tree {
    /// Gives back a place, which the caller owns.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn give_back(&self, spot: Spot<'_>) {
        spot.node
            .bits(spot.place.leaf)
            .give_back(spot.place.position);
        self.given_back(spot);
    }

    /// Gives back the places of a group, which the caller owns.
    ///
    /// Wait-free.
    pub(crate) fn give_group_back(&self, group: Group) {
        let place = group.place();
        if let (Some(node), true) = (self.node(place.node), group.count() > 0) {
            node.bits(place.leaf)
                .give_back_bits(place.position / WORD_BITS, group.bits);
            self.given_back(Spot { node, place });
        }
    }

    /// What is owed to marks and to the remembered answer after a bit was given back.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn given_back(&self, Spot { node, place }: Spot<'_>) {
        self.unmark(node, place.node, place.leaf);
        self.memo.forget();
    }

    /// Marks the leaf, and with the last of them the node, if all is held.
    #[cold]
    pub(crate) fn mark_if_full(&self, node: &Node, part: Part) {
        if !node.bits(part.leaf).is_full() {
            return;
        }
        // SeqCst: mark, then look again, against `give_back`, then `unmark`: one of
        // the two sees the other.
        node.full.fetch_or(1 << part.leaf, Ordering::SeqCst);
        order_store_before_load();
        if !node.bits(part.leaf).is_full() && !planted(Mutation::MarkLooksOnce) {
            self.unmark(node, part.node, part.leaf);
            return;
        }
        // SeqCst: as above, one level up: against the clearing of a leaf's mark,
        // then the look at the node's, in `unmark`.
        if node.full.load(Ordering::SeqCst) == ALL_LEAVES {
            // SeqCst: the same pair.
            self.full.fetch_or(1 << part.node, Ordering::SeqCst);
            order_store_before_load();
            // SeqCst: the second look of the pair.
            if node.full.load(Ordering::SeqCst) != ALL_LEAVES {
                // SeqCst: kept with the others; a cleared mark is always safe.
                self.full.fetch_and(!(1 << part.node), Ordering::SeqCst);
            }
        }
    }

    /// Clears the marks over a leaf in which something is free.
    ///
    /// Both marks are looked at every time, not only after a bit that was the
    /// last: a finished release must not hide behind another's unfinished one.
    #[inline(always)]
    fn unmark(&self, node: &Node, node_index: u32, leaf_index: u32) {
        order_store_before_load();
        // SeqCst: pairs with `mark_if_full`: comes after the release of the bit in
        // the total order, so either the mark is seen here or the marker sees the bit.
        let marked = node.full.load(Ordering::SeqCst);
        if marked & 1 << leaf_index != 0 {
            // SeqCst: comes before the look at the node's mark below.
            node.full.fetch_and(!(1 << leaf_index), Ordering::SeqCst);
            order_store_before_load();
        }
        if planted(Mutation::UnmarkStopsEarly) && marked != ALL_LEAVES {
            return;
        }
        // SeqCst: pairs with the marking of the node in `mark_if_full`.
        if self.full.load(Ordering::SeqCst) & 1 << node_index != 0 {
            // SeqCst: kept with the others; a cleared mark is always safe.
            self.full.fetch_and(!(1 << node_index), Ordering::SeqCst);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::pasid::{Pasid, PasidWidth};
    use crate::radix::{IN_PLACE, MAY_GROW, Tree};
    use crate::range::PasidRange;
    use crate::sync::Ordering;
    use core::iter::once;

    /// The first two leaves and the whole second node.
    const RESERVED: &[PasidRange] = &[
        PasidRange::single(Pasid::from_index(0)),
        match PasidRange::new(Pasid::from_index(0), Pasid::from_index(511)) {
            Ok(range) => range,
            Err(_) => panic!("a range begins above its end"),
        },
        match PasidRange::new(Pasid::from_index(0x4000), Pasid::from_index(0x7fff)) {
            Ok(range) => range,
            Err(_) => panic!("a range begins above its end"),
        },
    ];

    #[test]
    fn what_is_all_reserved_is_stepped_over_from_the_second_search_on() {
        let tree = Tree::new(PasidWidth::MAX, RESERVED.into());
        let taken = tree.take_anywhere::<MAY_GROW>(0, 0xf_ffff, once((0, 0xf_ffff)));
        assert_eq!(taken.map(|taken| taken.pasid.get()).ok(), Some(512));
        let node = tree.node(0).unwrap();
        // Relaxed: one thread.
        assert_eq!(node.full.load(Ordering::Relaxed), 0b11);
        assert!(node.leaf(0).is_none() && node.leaf(1).is_none());

        let taken = tree.take_anywhere::<MAY_GROW>(0x4000, 0xf_ffff, once((0x4000, 0xf_ffff)));
        assert_eq!(taken.map(|taken| taken.pasid.get()).ok(), Some(0x8000));
        // Relaxed: one thread.
        assert_eq!(tree.full.load(Ordering::Relaxed), 0b10);
        // The usual path, which builds nothing, finds the place from now on.
        let taken = tree.take_here(0, 0xf_ffff);
        assert_eq!(taken.map(|taken| taken.pasid.get()), Some(513));
        let taken = tree.take_anywhere::<IN_PLACE>(0x4000, 0xf_ffff, once((0x4000, 0xf_ffff)));
        assert_eq!(taken.map(|taken| taken.pasid.get()).ok(), Some(0x8001));
    }
}
