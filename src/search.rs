// SPDX-License-Identifier: MIT OR Apache-2.0
//! The search for a free place in the tree, and the exact answer that there is
//! none.
//!
//! # Protocol
//! A search first goes by the full marks, which are hints. If that finds nothing,
//! it scans every word of the request without regard to marks, and takes the
//! first free bit that it meets. *Exhausted* is said after two scans with every
//! bit set in both, equal sums of versions, and equal counts of missing leaves.
//! Versions only grow and missing leaves only become fewer, so equal sums mean
//! that each was equal; then by invariant I3 of the bitmap each bit was set from
//! its first load to its second, and the whole request was full at the moment
//! between the two scans.
//!
//! # Progress
//! Lock-free. A search goes round only because another thread took a bit, gave
//! one back, or put up a leaf.

use crate::bitmap::{LEAF_PASIDS, WORD_BITS};
use crate::pasid::Pasid;
use crate::radix::{LEAVES, Leaf, Part, Place, Tree, span};
use crate::sync::{Event, Mutation, Ordering, met, planted};

/// Why nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoneFree {
    /// At some instant during the call every PASID of the request was held.
    Exhausted,
    /// At some instant during the call every free PASID of the request lay where
    /// no memory is.
    OutOfMemory,
}

/// One scan of a request, in which every bit that is there was set.
struct Scan {
    versions: u64,
    missing: u32,
    first_missing: Option<Part>,
}

impl Scan {
    /// Whether nothing came free and no leaf came up since the scan `before`.
    fn confirms(&self, before: &Scan) -> bool {
        (self.versions, self.missing) == (before.versions, before.missing)
    }
}

/// A taken bit and the leaf that it is in.
pub(crate) struct Taken<'a> {
    pub(crate) pasid: Pasid,
    pub(crate) leaf: &'a Leaf,
}

impl Tree {
    /// Takes the lowest free place of `first ..= last`, counted from `from` and
    /// round: first `from ..= last`, then `first ..= from - 1`.
    ///
    /// Lock-free.
    #[inline(always)]
    pub(crate) fn take<const GROW: bool>(
        &self,
        (first, last): (u32, u32),
        from: u32,
    ) -> Result<Taken<'_>, NoneFree> {
        if let Some(taken) = self.search::<GROW>(from, last) {
            return Ok(taken);
        }
        self.take_round::<GROW>(first, last, from)
    }

    /// The rest of [`Tree::take`], after the search up to the end found nothing.
    #[cold]
    fn take_round<const GROW: bool>(
        &self,
        first: u32,
        last: u32,
        from: u32,
    ) -> Result<Taken<'_>, NoneFree> {
        if from > first {
            if let Some(taken) = self.search::<GROW>(first, from - 1) {
                return Ok(taken);
            }
        }
        self.take_exactly::<GROW>(first, last)
    }

    /// Takes the lowest free place that the marks do not hide. `None` is a hint.
    #[inline(always)]
    fn search<const GROW: bool>(&self, first: u32, last: u32) -> Option<Taken<'_>> {
        let (from, to) = (Place::of(first), Place::of(last));
        // Relaxed: a hint, of which nothing is concluded.
        let mut nodes = span(from.node, to.node) & !self.full.load(Ordering::Relaxed);
        while nodes != 0 {
            let node_index = nodes.trailing_zeros();
            nodes &= nodes - 1;
            let Some(node) = self.node_for::<GROW>(node_index) else {
                continue;
            };
            let first_leaf = if node_index == from.node {
                from.leaf
            } else {
                0
            };
            let last_leaf = if node_index == to.node {
                to.leaf
            } else {
                LEAVES - 1
            };
            // Relaxed: as above.
            let mut leaves = span(first_leaf, last_leaf) & !node.full.load(Ordering::Relaxed);
            while leaves != 0 {
                let leaf_index = leaves.trailing_zeros();
                leaves &= leaves - 1;
                let at_start = node_index == from.node && leaf_index == from.leaf;
                let at_end = node_index == to.node && leaf_index == to.leaf;
                let part = Part {
                    node: node_index,
                    leaf: leaf_index,
                    first: if at_start { from.position } else { 0 },
                    last: if at_end { to.position } else { LEAF_PASIDS - 1 },
                };
                let Some(leaf) = self.leaf_for::<GROW>(node, part) else {
                    continue;
                };
                if let Some(taken) = self.take_in(leaf, part) {
                    return Some(taken);
                }
                self.mark_if_full(node, part, leaf);
            }
        }
        None
    }

    #[inline(always)]
    fn take_in<'a>(&self, leaf: &'a Leaf, part: Part) -> Option<Taken<'a>> {
        let position = leaf.bits.take_lowest(part.first, part.last)?;
        let place = Place {
            node: part.node,
            leaf: part.leaf,
            position,
        };
        Some(Taken {
            pasid: Pasid::from_index(place.number()),
            leaf,
        })
    }

    /// Takes a free place wherever it is, or says exactly that there is none.
    #[cold]
    #[inline(never)]
    fn take_exactly<const GROW: bool>(&self, first: u32, last: u32) -> Result<Taken<'_>, NoneFree> {
        let one_word = first / WORD_BITS == last / WORD_BITS;
        let mut before: Option<Scan> = None;
        loop {
            let scan = match self.scan(first, last) {
                Ok(taken) => return Ok(taken),
                Err(scan) => scan,
            };
            if let (true, Some(part)) = (GROW, scan.first_missing) {
                if let Some(taken) = self.grow(part).and_then(|leaf| self.take_in(leaf, part)) {
                    return Ok(taken);
                }
            }
            // A request within one word needs no second scan: its one load is the
            // instant at which it was full.
            let confirmed = before.as_ref().is_some_and(|before| scan.confirms(before));
            if one_word || confirmed || planted(Mutation::ScanOnce) {
                let missing = scan.missing > 0;
                return Err(if missing {
                    NoneFree::OutOfMemory
                } else {
                    NoneFree::Exhausted
                });
            }
            if before.is_some() {
                met(Event::ScanRepeated);
            }
            before = Some(scan);
        }
    }

    /// One scan without regard to marks: takes the first free bit that it meets,
    /// or says what it saw.
    fn scan(&self, first: u32, last: u32) -> Result<Taken<'_>, Scan> {
        let mut scan = Scan {
            versions: 0,
            missing: 0,
            first_missing: None,
        };
        for part in self.parts(first, last) {
            let Some(leaf) = self.leaf_at(part.node, part.leaf) else {
                if self.has_free(part) {
                    scan.missing += 1;
                    scan.first_missing = scan.first_missing.or(Some(part));
                }
                continue;
            };
            loop {
                if let Some(versions) = leaf.bits.scan(part.first, part.last) {
                    scan.versions = scan.versions.wrapping_add(versions);
                    break;
                }
                // Goes round only when another thread took what was free.
                if let Some(taken) = self.take_in(leaf, part) {
                    return Ok(taken);
                }
            }
        }
        Err(scan)
    }
}
