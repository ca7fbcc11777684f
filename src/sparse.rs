// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lazily grown tree of leaves that says nothing of what is in them: the shape of the
//! claims and of a table's attachments.
//!
//! It grows like the tree of the PASIDs (`radix.rs`): a child is built complete and
//! published once, and stays as long as the tree is borrowed.

use crate::bitmap::LEAF_PASIDS;
use crate::link::{Link, boxed};
use crate::radix::{LEAVES, NODE_LEAVES, NODE_PASIDS, ROOT_NODES};
use crate::sync::const_unless_loom;

/// What can be built on the heap, in place.
pub(crate) trait Build {
    /// Writes a new value to `place`.
    ///
    /// # Safety
    /// `place` must be valid for writes of a whole value. The implementation writes one.
    unsafe fn build(place: *mut Self);
}

/// A tree of leaves of type `L` for 256 PASIDs each, with an `M` at the root and in each
/// node.
pub(crate) struct Sparse<L, M> {
    nodes: [Link<Node<L, M>>; ROOT_NODES],
    pub(crate) marks: M,
}

/// The leaves of 16,384 PASIDs.
pub(crate) struct Node<L, M> {
    leaves: [Link<L>; NODE_LEAVES],
    pub(crate) marks: M,
}

impl<L, M: Build> Build for Node<L, M> {
    // SAFETY: what the caller owes is said in `Build`; a whole value is written.
    unsafe fn build(place: *mut Node<L, M>) {
        // SAFETY: `place` is valid for a Node, so its field is in bounds.
        let leaves = unsafe { &raw mut (*place).leaves }.cast::<Link<L>>();
        for leaf in 0..NODE_LEAVES {
            // SAFETY: `leaf` is below the length of the array of links.
            let link = unsafe { leaves.add(leaf) };
            // Volatile, so that the compiler does not call `memset`; see `radix.rs`.
            // SAFETY: valid for writes, as part of `place`.
            unsafe { link.write_volatile(Link::vacant()) };
        }
        // SAFETY: as for `leaves`.
        let marks = unsafe { &raw mut (*place).marks };
        // SAFETY: valid for writes, as part of `place`.
        unsafe { M::build(marks) };
    }
}

impl Build for () {
    // SAFETY: what the caller owes is said in `Build`; a whole value is written.
    unsafe fn build(_place: *mut ()) {}
}

impl<L, M> Node<L, M> {
    #[inline(always)]
    pub(crate) fn leaf(&self, leaf: u32) -> Option<&L> {
        self.leaves[leaf as usize % NODE_LEAVES].follow()
    }
}

impl<L, M> Sparse<L, M> {
    const_unless_loom! {
        /// Without memory.
        pub(crate) fn new(marks: M) -> Sparse<L, M> {
            Sparse {
                #[cfg(not(loom))]
                nodes: [const { Link::vacant() }; ROOT_NODES],
                #[cfg(loom)]
                nodes: core::array::from_fn(|_| Link::vacant()),
                marks,
            }
        }
    }

    #[inline(always)]
    pub(crate) fn node(&self, node: u32) -> Option<&Node<L, M>> {
        self.nodes[node as usize % ROOT_NODES].follow()
    }

    /// The leaf of the PASID `number`, if it is there.
    #[inline(always)]
    pub(crate) fn leaf_of(&self, number: u32) -> Option<&L> {
        let leaf = number / LEAF_PASIDS;
        self.node(leaf / LEAVES)?.leaf(leaf % LEAVES)
    }

    /// What `look` first finds at one of the PASIDs `first ..= last`, in ascending order
    /// of those that there is a leaf for.
    ///
    /// As `look` itself: wait-free if that is.
    pub(crate) fn first_where<R>(
        &self,
        first: u32,
        last: u32,
        look: impl Fn(u32, &L) -> Option<R>,
    ) -> Option<R> {
        // Beyond its last place the tree begins again.
        let last = last.min(NODE_PASIDS * ROOT_NODES as u32 - 1);
        let mut number = first;
        while number <= last {
            // What is missing is passed over whole: a node, or a leaf.
            let end = if self.node(number / NODE_PASIDS).is_none() {
                number | (NODE_PASIDS - 1)
            } else if let Some(leaf) = self.leaf_of(number) {
                if let Some(found) = look(number, leaf) {
                    return Some(found);
                }
                number
            } else {
                number | (LEAF_PASIDS - 1)
            };
            number = end.checked_add(1)?;
        }
        None
    }

    /// Bytes of all nodes and leaves.
    pub(crate) fn memory_bytes(&self) -> usize {
        let nodes = self.nodes.iter().filter_map(Link::follow);
        nodes
            .map(|node| {
                let leaves = node.leaves.iter().filter_map(Link::follow).count();
                size_of::<Node<L, M>>() + leaves * size_of::<L>()
            })
            .sum()
    }
}

impl<L: Build, M: Build> Sparse<L, M> {
    /// The leaf of the PASID `number`, built if missing. `None` if there is no memory.
    ///
    /// Lock-free.
    pub(crate) fn grow(&self, number: u32) -> Option<&L> {
        let leaf = number / LEAF_PASIDS;
        let node_link = &self.nodes[(leaf / LEAVES) as usize % ROOT_NODES];
        let node = grown(node_link)?;
        grown(&node.leaves[(leaf % LEAVES) as usize % NODE_LEAVES])
    }
}

/// The child, built if missing.
fn grown<T: Build>(link: &Link<T>) -> Option<&T> {
    if let Some(child) = link.follow() {
        return Some(child);
    }
    // SAFETY: the place is valid for a T, and `build` writes one.
    let build = |place| unsafe { T::build(place) };
    // SAFETY: as above.
    let new = unsafe { boxed(build) }?;
    Some(link.publish(new))
}
