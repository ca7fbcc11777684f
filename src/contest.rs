// SPDX-License-Identifier: MIT OR Apache-2.0
//! The search where more than one word decides: a claim beside the bit, or the bits of
//! several tables.
//!
//! # Protocol
//! A value is free where the bits of all members are clear and its claim admits the side
//! that asks. It is taken word by word:
//!
//! * **Global** The claim, then the bit. The claim is the contest, among the global
//!   attempts too: whoever has it owns the value, and the bit only tells scans and lists.
//!   So an attempt that has the claim does not back out, and of two sides that oppose each
//!   other one goes on. (It does if the bit is held without a claim, as nobody should.)
//! * **Local and group** A look at the claim, then the bits of the members in ascending
//!   order, then the claim. If one is refused, all that were taken are given back in
//!   reverse. Of several groups, the one that holds the highest member at issue goes on.
//! * **A group's own tree** Its bit, by which the set's PASIDs are listed, comes last.
//!
//! [`Contest::give_back`] gives the bits back and then the claim, on both sides. The global
//! side has to: who enters the claim counts on a clear bit. The local side may, because a
//! claim that stands keeps no local attempt away: then an allocation that follows finds the
//! bits without waiting for the claim's locked operation. The slot is dead before, so that
//! nobody finds an allocation whose value is somebody else's.
//!
//! # Exactness
//! As in `search.rs`, over all the words: a value counts as taken if a member's bit is set
//! or its claim does not admit the side. Two equal scans compare the sum of all versions
//! that were looked at: of every member's bits, and of the claims of all requested values,
//! also of those whose bit is set (which words are added up must not depend on what was
//! seen, or the sum is not one that only grows). By I3 of the bitmap and C3 of the claims
//! each word that held a value in the first scan held it until the second.
//!
//! An attempt in flight counts as holding what it has taken, while it lasts.
//!
//! # Progress
//! Lock-free. A search goes round only because another thread took a value, gave one back,
//! or put up memory. No memory is allocated between the first word taken and the last.

use crate::bitmap::{WORD_BITS, mask};
use crate::claims::{ClaimLeaf, Claims, Opposed, Side, hidden_leaves};
use crate::pasid::Pasid;
use crate::radix::{IN_PLACE, Leaf, Part, Place, Tree};
use crate::search::{NoneFree, Request, Scan, Taken, lowest};
use crate::sync::{Event, Mutation, Ordering, met, planted};
use core::ptr;

mod here;
#[cfg(loom)]
mod mutants;
mod words;

pub(crate) use here::{Hold, Step};

/// The trees in which a value must be free, in the order in which their bits are taken.
pub(crate) trait Members {
    fn count(&self) -> usize;
    /// The tree at `index`, if that is below the count.
    fn tree(&self, index: usize) -> Option<&Tree>;
}

impl Members for &Tree {
    #[inline(always)]
    fn count(&self) -> usize {
        1
    }

    #[inline(always)]
    fn tree(&self, index: usize) -> Option<&Tree> {
        (index == 0).then_some(*self)
    }
}

/// Why a value could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contested {
    /// The bit of a member is set: held there, reserved, or beyond its width.
    InUse,
    /// The claim was refused.
    Opposed(Opposed),
    /// It is free, and memory for it is missing.
    OutOfMemory,
}

impl From<Opposed> for Contested {
    fn from(why: Opposed) -> Contested {
        Contested::Opposed(why)
    }
}

/// The memory of one leaf's worth of values, all of it there.
#[derive(Clone, Copy)]
struct Ground<'a> {
    leaf: &'a Leaf,
    claims: Option<&'a ClaimLeaf>,
}

/// One look at a part of a request.
struct Look {
    /// Whether something was free.
    free: bool,
    versions: u64,
}

/// Who searches, and where.
pub(crate) struct Contest<'a, M> {
    pub(crate) members: M,
    /// Where the slots of taken values are: the only member, or a group's own tree.
    pub(crate) slots: &'a Tree,
    pub(crate) claims: Option<&'a Claims>,
    pub(crate) side: Side,
}

impl<'a, M: Members> Contest<'a, M> {
    // ---- What is where --------------------------------------------------------

    /// The group's own tree, where it is none of the members.
    #[inline(always)]
    fn own(&self) -> Option<&'a Tree> {
        let member = (0..self.members.count())
            .filter_map(|index| self.members.tree(index))
            .any(|tree| ptr::eq(tree, self.slots));
        (!member).then_some(self.slots)
    }

    /// Every tree in which a value must be free.
    fn trees(&self) -> impl Iterator<Item = &Tree> {
        let members = (0..self.members.count()).filter_map(|index| self.members.tree(index));
        members.chain(self.own())
    }

    /// What there is to take values of this leaf with, if none of it is missing.
    fn ground(&self, part: Part) -> Option<Ground<'a>> {
        let mut trees = self.trees();
        if !trees.all(|tree| tree.node(part.node).is_some()) {
            return None;
        }
        Some(Ground {
            leaf: self.slots.node(part.node)?.leaf(part.leaf)?,
            claims: match self.claims {
                Some(claims) => Some(claims.node(part.node)?.leaf(part.leaf)?),
                None => None,
            },
        })
    }

    /// The same, with what is missing built. `None` if there is no memory.
    #[cold]
    fn grow(&self, part: Part) -> Option<Ground<'a>> {
        for tree in self.trees() {
            tree.node(part.node).or_else(|| tree.grow_node(part.node))?;
        }
        let (_, leaf) = self.slots.grow(part)?;
        let claims = match self.claims {
            Some(claims) => Some(claims.grow(part.pasid(part.first).get())?),
            None => None,
        };
        Some(Ground { leaf, claims })
    }

    /// Puts memory in place for the values `first ..= last`. Returns whether it could.
    ///
    /// Lock-free.
    pub(crate) fn preload(&self, first: u32, last: u32) -> bool {
        self.slots
            .parts(first, last)
            .all(|part| self.grow(part).is_some())
    }

    /// The values of one word of the part's leaf whose bit is clear in every tree, and the
    /// sum of the versions.
    fn free_bits(&self, part: Part, word: u32) -> (u32, u64) {
        let wanted = mask(word, part.first, part.last);
        self.trees().fold((wanted, 0), |(free, versions), tree| {
            match tree.node(part.node) {
                Some(node) => {
                    let seen = node.bits(part.leaf).look(word);
                    (free & seen.free(), versions + u64::from(seen.version()))
                }
                None => {
                    let held = tree.held_in_new(part.node, part.leaf, word);
                    (free & !held, versions)
                }
            }
        })
    }

    /// One look at all words that decide about the part.
    fn look(&self, part: Part) -> Look {
        let claims = self.claims.and_then(|claims| claims.node(part.node));
        let claims = claims.and_then(|node| node.leaf(part.leaf));
        let mut look = Look {
            free: false,
            versions: 0,
        };
        for word in part.first / WORD_BITS..=part.last / WORD_BITS {
            let (free, versions) = self.free_bits(part, word);
            let wanted = mask(word, part.first, part.last);
            let (barred, releases) =
                claims.map_or((0, 0), |claims| claims.barred(word, wanted, self.side));
            look.free |= free & !barred != 0;
            look.versions += versions + releases;
        }
        look
    }

    // ---- Searching ------------------------------------------------------------

    /// Takes the lowest free value of `first ..= last` that neither marks nor hints step
    /// over, growing what it needs before it takes anything. `None` is a hint.
    ///
    /// The first memory that is refused is the last that one search asks for.
    pub(crate) fn search<const GROW: bool>(&self, first: u32, last: u32) -> Option<Taken<'a>> {
        let request = Request::new(first, last);
        let mut nodes = request.nodes() & !self.closed_nodes();
        while let Some(node_index) = lowest(nodes) {
            nodes &= nodes - 1;
            if !GROW && self.trees().any(|tree| tree.node(node_index).is_none()) {
                continue;
            }
            let mut leaves = request.leaves(node_index) & !self.closed_leaves(node_index);
            while let Some(leaf_index) = lowest(leaves) {
                leaves &= leaves - 1;
                let part = request.part(node_index, leaf_index);
                let ground = match self.ground(part) {
                    // Not for values that others hold: a table must not grow a slot for
                    // each global PASID.
                    None if GROW && self.look(part).free => match self.grow(part) {
                        None => return self.search::<IN_PLACE>(first, last),
                        grown => grown,
                    },
                    there => there,
                };
                if let Some(taken) = self.take_in(ground, part) {
                    return Some(taken);
                }
                for tree in self.trees() {
                    if let Some(node) = tree.node(node_index) {
                        tree.mark_if_full(node, part);
                    }
                }
            }
        }
        None
    }

    /// The nodes in which marks or hints say that nothing is free.
    fn closed_nodes(&self) -> u64 {
        let hidden = self.claims.map(|claims| claims.hidden_nodes(self.side));
        self.trees().fold(hidden.unwrap_or(0), |closed, tree| {
            // Relaxed: a hint, of which nothing is concluded.
            closed | tree.full.load(Ordering::Relaxed)
        })
    }

    /// The leaves of a node in which marks or hints say that nothing is free.
    fn closed_leaves(&self, node: u32) -> u64 {
        let claims = self.claims.and_then(|claims| claims.node(node));
        let hidden = claims.map(|claims| hidden_leaves(claims, self.side));
        let nodes = self.trees().filter_map(|tree| tree.node(node));
        nodes.fold(hidden.unwrap_or(0), |closed, node| {
            // Relaxed: as above.
            closed | node.full.load(Ordering::Relaxed)
        })
    }

    /// Takes the lowest value of the part that is free and not hidden, and hides what it
    /// finds held by the other side. Without ground it only hides.
    fn take_in(&self, ground: Option<Ground<'a>>, part: Part) -> Option<Taken<'a>> {
        let claims = self.claims.and_then(|claims| claims.node(part.node));
        let claims = claims.and_then(|node| node.leaf(part.leaf));
        for word in part.first / WORD_BITS..=part.last / WORD_BITS {
            let hidden = claims.map_or(0, |claims| claims.hidden(word, self.side));
            let mut free = self.free_bits(part, word).0 & !hidden;
            if free == 0 {
                continue;
            }
            if let (Some(claims), Some(_)) = (self.claims, claims) {
                // A look at the lowest alone, where it is not held: the usual case.
                let position = word * WORD_BITS + free.trailing_zeros();
                let place = Place::of(part.pasid(position).get());
                if ground.is_none() || claims.stands_against(place, self.side) {
                    free &= !claims.hide(place, free, self.side);
                }
            }
            let ground = match ground {
                Some(ground) => ground,
                None => continue,
            };
            if let Some(taken) = self.take_one_of(ground, part, word, free) {
                return Some(taken);
            }
        }
        None
    }

    /// Takes the lowest of the `free` values of a word that can be had; tries each once.
    fn take_one_of(
        &self,
        ground: Ground<'a>,
        part: Part,
        word: u32,
        mut free: u32,
    ) -> Option<Taken<'a>> {
        while free != 0 {
            let position = word * WORD_BITS + free.trailing_zeros();
            if let Ok(taken) = self.attempt(ground, part.pasid(position)) {
                return Some(taken);
            }
            free &= free - 1;
        }
        None
    }

    /// Takes a free value wherever it is in the `spans`, each from its first to its last,
    /// or says exactly that there is none.
    pub(crate) fn take_exactly<const GROW: bool>(
        &self,
        spans: impl Iterator<Item = (u32, u32)> + Clone,
    ) -> Result<Taken<'a>, NoneFree> {
        let mut before: Option<Scan> = None;
        let mut may_grow = true;
        loop {
            let scan = match self.scan(spans.clone()) {
                Ok(taken) => return Ok(taken),
                Err(scan) => scan,
            };
            if let (true, Some(part)) = (GROW && may_grow, scan.first_missing) {
                if self.grow(part).is_some() {
                    // The next scan takes from it, or finds that others did.
                    before = None;
                    continue;
                }
                may_grow = false;
            }
            let confirmed = before.as_ref().is_some_and(|before| scan.confirms(before));
            if confirmed || planted(Mutation::ScanOnce) {
                return Err(match scan.missing {
                    0 => NoneFree::Exhausted,
                    _ => NoneFree::OutOfMemory,
                });
            }
            if before.is_some() {
                met(Event::ScanRepeated);
            }
            before = Some(scan);
        }
    }

    /// One scan without regard to marks and hints: takes the first free value that it
    /// meets, or says what it saw.
    fn scan(&self, spans: impl Iterator<Item = (u32, u32)>) -> Result<Taken<'a>, Scan> {
        let mut scan = Scan::new();
        for (first, last) in spans {
            for part in self.slots.parts(first, last) {
                let mut look = self.look(part);
                while look.free {
                    let Some(ground) = self.ground(part) else {
                        // The versions are added all the same: with them, the parts that
                        // are missing and free are the same ones in two equal scans.
                        scan.add_missing(part);
                        break;
                    };
                    if let Some(taken) = self.take_seen_free(ground, part) {
                        return Ok(taken);
                    }
                    // Goes round only when another thread took what was free.
                    look = self.look(part);
                }
                scan.add(look.versions);
            }
        }
        Err(scan)
    }

    /// Takes the lowest value of the part that can be had, hidden or not.
    #[cold]
    fn take_seen_free(&self, ground: Ground<'a>, part: Part) -> Option<Taken<'a>> {
        (part.first / WORD_BITS..=part.last / WORD_BITS).find_map(|word| {
            let (free, _) = self.free_bits(part, word);
            self.take_one_of(ground, part, word, free)
        })
    }

    fn part_of(pasid: Pasid) -> Part {
        let place = Place::of(pasid.get());
        Part {
            node: place.node,
            leaf: place.leaf,
            first: place.position,
            last: place.position,
        }
    }

    /// Takes `pasid` itself, with the memory that is there.
    ///
    /// Lock-free: it goes round only when another thread changed the claim.
    pub(crate) fn take_at(&self, pasid: Pasid) -> Result<Taken<'a>, Contested> {
        let part = Self::part_of(pasid);
        if self.free_bits(part, part.first / WORD_BITS).0 == 0 {
            return Err(Contested::InUse);
        }
        if let Some(ground) = self.ground(part) {
            return self.attempt(ground, pasid);
        }
        // A refusal needs no memory.
        let claims = self.claims.and_then(|claims| claims.leaf_of(pasid.get()));
        if let Some(claims) = claims {
            claims.look(part.first).admits(self.side)?;
        }
        Err(Contested::OutOfMemory)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
