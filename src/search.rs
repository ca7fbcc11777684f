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
//! The answer is remembered until something is given back; see `memo.rs`.
//!
//! # Progress
//! Lock-free. A search goes round only because another thread took a bit, gave
//! one back, or put up a leaf.

use crate::bitmap::{LEAF_PASIDS, WORD_BITS};
use crate::pasid::Pasid;
use crate::radix::{ALL_LEAVES, IN_PLACE, Leaf, NODE_PASIDS, Node, Part, Tree};
use crate::slot::Slot;
use crate::sync::{Event, Mutation, Ordering, met, planted};
use core::iter;

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
pub(crate) struct Scan {
    versions: u64,
    pub(crate) missing: u32,
    pub(crate) first_missing: Option<Part>,
}

impl Scan {
    /// Of nothing yet.
    pub(crate) const fn new() -> Scan {
        Scan {
            versions: 0,
            missing: 0,
            first_missing: None,
        }
    }

    /// Adds the sum of the versions of what was looked at.
    #[inline(always)]
    pub(crate) fn add(&mut self, versions: u64) {
        self.versions = self.versions.wrapping_add(versions);
    }

    /// Adds a part in which something is free where memory is missing.
    pub(crate) fn add_missing(&mut self, part: Part) {
        self.missing += 1;
        self.first_missing = self.first_missing.or(Some(part));
    }

    /// Whether nothing came free and no leaf came up since the scan `before`.
    pub(crate) fn confirms(&self, before: &Scan) -> bool {
        (self.versions == before.versions || planted(Mutation::ScanForgetsVersions))
            && (self.missing == before.missing || planted(Mutation::ScanForgetsMissing))
    }
}

/// A taken bit's PASID and slot.
pub(crate) struct Taken<'a> {
    pub(crate) pasid: Pasid,
    pub(crate) slot: &'a Slot,
}

/// What a search goes through: the numbers from one to another.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    first: u32,
    last: u32,
}

impl Request {
    #[inline(always)]
    pub(crate) const fn new(first: u32, last: u32) -> Request {
        Request { first, last }
    }

    /// The nodes that it touches, as a word of marks.
    #[inline(always)]
    pub(crate) const fn nodes(self) -> u64 {
        span(self.first / NODE_PASIDS, self.last / NODE_PASIDS)
    }

    /// What it has of `base ..= end`, as distances from `base`. It has something of it.
    #[inline(always)]
    fn within(self, base: u32, end: u32) -> (u32, u32) {
        (self.first.max(base) - base, self.last.min(end) - base)
    }

    /// The leaves that it touches in one of its nodes, as a word of marks.
    #[inline(always)]
    pub(crate) fn leaves(self, node: u32) -> u64 {
        let base = node * NODE_PASIDS;
        let (first, last) = self.within(base, base + (NODE_PASIDS - 1));
        span(first / LEAF_PASIDS, last / LEAF_PASIDS)
    }

    /// The part of it that lies in one of its leaves.
    #[inline(always)]
    pub(crate) fn part(self, node: u32, leaf: u32) -> Part {
        let base = node * NODE_PASIDS + leaf * LEAF_PASIDS;
        let (first, last) = self.within(base, base + (LEAF_PASIDS - 1));
        Part {
            node,
            leaf,
            first,
            last,
        }
    }
}

/// The bits `first ..= last` of a word of marks, for `first <= last <= 63`.
#[inline(always)]
const fn span(first: u32, last: u32) -> u64 {
    (u64::MAX >> (63 - last % 64)) & (u64::MAX << (first % 64))
}

/// What is not marked, from `first` on: the nodes of a tree or the leaves of a node, of which
/// there are as many.
#[inline(always)]
pub(crate) const fn open_from(marks: u64, first: u32) -> u64 {
    !marks & (ALL_LEAVES << (first % 64)) & ALL_LEAVES
}

/// The lowest bit of a word of marks.
#[inline(always)]
pub(crate) const fn lowest(marks: u64) -> Option<u32> {
    if marks == 0 {
        None
    } else {
        Some(marks.trailing_zeros())
    }
}

impl Tree {
    /// The usual case in few instructions: takes the lowest free place of the first
    /// leaf of `from ..= last` that is not marked full. `None` says nothing.
    #[inline(always)]
    pub(crate) fn take_here(&self, from: u32, last: u32) -> Option<Taken<'_>> {
        let request = Request::new(from, last);
        // Relaxed: a hint, of which nothing is concluded.
        let node_index = lowest(request.nodes() & !self.full.load(Ordering::Relaxed))?;
        let node = self.node(node_index)?;
        // Relaxed: as above.
        let leaves = request.leaves(node_index) & !node.full.load(Ordering::Relaxed);
        let leaf_index = lowest(leaves)?;
        let leaf = node.leaf(leaf_index)?;
        take_in(node, leaf, request.part(node_index, leaf_index))
    }

    /// Takes a free place of `first ..= last`: the lowest of the first of `spans` that has
    /// one. The spans are parts of the request, in the order of the caller's policy.
    ///
    /// Lock-free.
    #[inline(always)]
    pub(crate) fn take_anywhere<const GROW: bool>(
        &self,
        first: u32,
        last: u32,
        mut spans: impl Iterator<Item = (u32, u32)>,
    ) -> Result<Taken<'_>, NoneFree> {
        if self.memo.answers(first, last) {
            return Err(NoneFree::Exhausted);
        }
        let found = spans.find_map(|(from, to)| self.search::<GROW>(from, to));
        match found {
            Some(taken) => Ok(taken),
            None => self.take_exactly::<GROW>(iter::once((first, last))),
        }
    }

    /// Takes the lowest free place that the marks do not hide. `None` is a hint.
    ///
    /// The first memory that is refused is the last that one search asks for.
    pub(crate) fn search<const GROW: bool>(&self, first: u32, last: u32) -> Option<Taken<'_>> {
        let request = Request::new(first, last);
        // Relaxed: a hint, of which nothing is concluded.
        let mut nodes = request.nodes() & !self.full.load(Ordering::Relaxed);
        while let Some(node_index) = lowest(nodes) {
            nodes &= nodes - 1;
            let node = match self.node(node_index) {
                None if !GROW => continue,
                None => match self.grow_node(node_index) {
                    None => return self.search::<IN_PLACE>(first, last),
                    Some(node) => node,
                },
                Some(node) => node,
            };
            // Relaxed: as above.
            let mut leaves = request.leaves(node_index) & !node.full.load(Ordering::Relaxed);
            while let Some(leaf_index) = lowest(leaves) {
                leaves &= leaves - 1;
                let part = request.part(node_index, leaf_index);
                if let Some(leaf) = node.leaf(leaf_index) {
                    if let Some(taken) = take_in(node, leaf, part) {
                        return Some(taken);
                    }
                } else if GROW && !node.is_held(part) {
                    match self.grow_leaf(node, part) {
                        None => return self.search::<IN_PLACE>(first, last),
                        Some(leaf) => {
                            if let Some(taken) = take_in(node, leaf, part) {
                                return Some(taken);
                            }
                        }
                    }
                }
                // Also where the leaf is missing, since all of it may be reserved.
                self.mark_if_full(node, part);
            }
        }
        None
    }

    /// Whether `first ..= last` is known to be exhausted.
    #[inline(always)]
    pub(crate) fn remembered(&self, first: u32, last: u32) -> bool {
        self.memo.answers(first, last)
    }

    /// Takes a free place wherever it is in the `spans`, each from its first to its last,
    /// or says exactly that there is none.
    ///
    /// An answer is remembered where there is one span: two may have a gap between them.
    pub(crate) fn take_exactly<const GROW: bool>(
        &self,
        spans: impl Iterator<Item = (u32, u32)> + Clone,
    ) -> Result<Taken<'_>, NoneFree> {
        let mut all = spans.clone();
        let only = all.next().filter(|_| all.next().is_none());
        let one_word = only.is_some_and(|(first, last)| first / WORD_BITS == last / WORD_BITS);
        let mut before: Option<Scan> = None;
        let mut proposal = None;
        let mut may_grow = GROW;
        loop {
            let scan = match self.scan(spans.clone()) {
                Ok(taken) => return Ok(taken),
                Err(scan) => scan,
            };
            if let (true, Some(part)) = (may_grow, scan.first_missing) {
                if let Some((node, leaf)) = self.grow(part) {
                    if let Some(taken) = take_in(node, leaf, part) {
                        return Ok(taken);
                    }
                    // The leaf came up, and others took what was free in it.
                    before = None;
                    continue;
                }
                may_grow = false;
            }
            // A request within one word needs no second scan: its one load is the
            // instant at which it was full.
            let confirmed = before.as_ref().is_some_and(|before| scan.confirms(before));
            if one_word || confirmed || planted(Mutation::ScanOnce) {
                if scan.missing > 0 {
                    return Err(NoneFree::OutOfMemory);
                }
                if let Some(proposal) = proposal {
                    self.memo.confirm(proposal);
                }
                return Err(NoneFree::Exhausted);
            }
            if before.is_some() {
                met(Event::ScanRepeated);
            }
            // Where memory is missing, the answer will not be *exhausted*.
            let answer = only.filter(|_| scan.missing == 0);
            if answer.is_some_and(|(first, last)| self.memo.answers(first, last)) {
                // Another thread was faster, and its answer stays as it is.
                return Err(NoneFree::Exhausted);
            }
            before = Some(scan);
            proposal = answer.and_then(|(first, last)| self.memo.propose(first, last));
        }
    }

    /// Whether every bit of `first ..= last` was set at one instant during the call, which
    /// is remembered. It takes nothing: a clear bit may be claimed by another side.
    pub(crate) fn is_full(&self, first: u32, last: u32) -> bool {
        let Some(before) = self.versions_if_full(first, last) else {
            return false;
        };
        let proposal = self.memo.propose(first, last);
        let full = self.versions_if_full(first, last) == Some(before);
        if let (true, Some(proposal)) = (full, proposal) {
            self.memo.confirm(proposal);
        }
        full
    }

    /// The sum of the versions of all words, if every bit was set when it was looked at.
    fn versions_if_full(&self, first: u32, last: u32) -> Option<u64> {
        self.parts(first, last).try_fold(0u64, |versions, part| {
            let more = match self.node(part.node) {
                Some(node) => node.bits(part.leaf).scan(part.first, part.last)?,
                None if self.has_free(part) => return None,
                None => 0,
            };
            Some(versions.wrapping_add(more))
        })
    }

    /// One scan without regard to marks: takes the first free bit that it meets,
    /// or says what it saw.
    fn scan(&self, spans: impl Iterator<Item = (u32, u32)>) -> Result<Taken<'_>, Scan> {
        let mut scan = Scan::new();
        for (first, last) in spans {
            for node_index in first / NODE_PASIDS..=last / NODE_PASIDS {
                let base = node_index * NODE_PASIDS;
                let (first, last) = (first.max(base), last.min(base + (NODE_PASIDS - 1)));
                // Most of a large request, and usually all of it full.
                let whole = if last - first == NODE_PASIDS - 1 {
                    self.node(node_index).and_then(Node::scan)
                } else {
                    None
                };
                if let Some(versions) = whole {
                    scan.add(versions);
                } else if let Some(taken) = self.scan_leaves(first, last, &mut scan) {
                    return Ok(taken);
                }
            }
        }
        Err(scan)
    }

    /// The same, leaf by leaf.
    fn scan_leaves(&self, first: u32, last: u32, scan: &mut Scan) -> Option<Taken<'_>> {
        for part in self.parts(first, last) {
            let seen = self
                .node(part.node)
                .map(|node| (node, node.bits(part.leaf).scan(part.first, part.last)));
            match seen {
                Some((_, Some(versions))) => scan.add(versions),
                Some((node, None)) => {
                    if let Some(taken) = self.take_seen_free(node, part, scan) {
                        return Some(taken);
                    }
                }
                None if self.has_free(part) => scan.add_missing(part),
                None => {}
            }
        }
        None
    }

    /// Takes what a scan saw free in a leaf, or adds the leaf to the scan: as missing,
    /// or as full if others took it all.
    #[cold]
    fn take_seen_free<'a>(&self, node: &'a Node, part: Part, scan: &mut Scan) -> Option<Taken<'a>> {
        let Some(leaf) = node.leaf(part.leaf) else {
            scan.add_missing(part);
            // Only groups take and give back bits where no leaf is. With these versions,
            // the parts that are missing and free are the same ones in two equal scans.
            scan.add(node.bits(part.leaf).versions(part.first, part.last));
            return None;
        };
        loop {
            if let Some(taken) = take_in(node, leaf, part) {
                return Some(taken);
            }
            // Goes round only when another thread took what was free.
            if let Some(versions) = node.bits(part.leaf).scan(part.first, part.last) {
                scan.add(versions);
                return None;
            }
        }
    }
}

/// Takes the lowest free place of the part, if there is one. `None` is a hint.
#[inline(always)]
fn take_in<'a>(node: &Node, leaf: &'a Leaf, part: Part) -> Option<Taken<'a>> {
    let position = node.bits(part.leaf).take_lowest(part.first, part.last)?;
    let pasid = part.pasid(position);
    Some(Taken {
        pasid,
        slot: leaf.slot(pasid),
    })
}
