// SPDX-License-Identifier: MIT OR Apache-2.0
//! Giving memory back, which needs the tree for oneself.

use super::{Leaf, NODES, Node, ROOT_NODES, Tree, held_in_new};
use crate::link::Took;
use crate::sync::Ordering;

impl Tree {
    /// Gives back all leaves in which nothing is held but what a new one holds
    /// and the nodes that are empty then. Returns the bytes given back.
    pub(crate) fn shrink(&mut self) -> usize {
        (0..NODES).map(|node| self.shrink_node(node)).sum()
    }

    fn shrink_node(&mut self, node_index: u32) -> usize {
        let (width, reserved) = (self.width, &*self.reserved);
        let link = &mut self.nodes[node_index as usize % ROOT_NODES];
        let (mut leaf_bytes, mut floor) = (0, self.floor);
        let took = link.take_if(|node| {
            let mut kept = 0;
            let leaves = node.leaves.iter_mut().zip(&mut node.bits);
            for (leaf_index, (link, bits)) in (0..).zip(leaves) {
                let held = |word| held_in_new(width, reserved, node_index, leaf_index, word);
                // The bits alone do not tell: where a reservation was taken away,
                // somebody may hold the PASID in its place.
                match link.take_if(|leaf| leaf.is_unused() && bits.equals(held)) {
                    // A group may hold bits where no leaf is.
                    Took::Vacant => kept += u32::from(!bits.equals(held)),
                    Took::Kept => kept += 1,
                    Took::Child(leaf) => {
                        floor = floor.max(leaf.highest_generation());
                        leaf_bytes += size_of::<Leaf>();
                        // Relaxed: `&mut self` excludes every other thread.
                        node.full.fetch_and(!(1 << leaf_index), Ordering::Relaxed);
                    }
                }
            }
            kept == 0
        });
        self.floor = floor;
        if leaf_bytes > 0 {
            // Relaxed: as above.
            self.full.fetch_and(!(1 << node_index), Ordering::Relaxed);
        }
        leaf_bytes
            + if matches!(took, Took::Child(_)) {
                size_of::<Node>()
            } else {
                0
            }
    }
}
