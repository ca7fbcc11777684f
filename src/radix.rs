// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lazily grown tree over the leaves: where a PASID's bit and slot are, and
//! the memory of it all.
//!
//! ```text
//! 19        14 13         8 7        5 4        0
//! +-----------+------------+----------+----------+
//! |   node    |    leaf    |   word   |   bit    |   of a PASID
//! +-----------+------------+----------+----------+
//! ```
//!
//! # Protocol
//! * **Growth** A node or leaf is built complete and published by one
//!   compare-exchange; the loser frees its own. Nothing is unlinked beside running
//!   calls, so a pointer once loaded stays good as long as the tree is borrowed.

use crate::bitmap::{self, Bitmap, LEAF_PASIDS, LEAF_WORDS, WORD_BITS};
use crate::link::{Link, boxed};
use crate::memo::Memo;
use crate::pasid::{Pasid, PasidWidth};
use crate::range::PasidRange;
use crate::slot::Slot;
use crate::sync::{AtomicU32, AtomicU64, Ordering, const_unless_loom, identity};
#[cfg(loom)]
use crate::sync::{Mutation, planted};
use heap::borrow::Cow;

#[cfg(loom)]
mod mutants;
mod shrinking;

#[cfg(not(loom))]
pub(crate) const NODE_LEAVES: usize = 64;
#[cfg(not(loom))]
pub(crate) const ROOT_NODES: usize = 64;

// A model runs the same code on a tree small enough to explore.
#[cfg(loom)]
pub(crate) const NODE_LEAVES: usize = 2;
#[cfg(loom)]
pub(crate) const ROOT_NODES: usize = 2;

pub(crate) const LEAVES: u32 = NODE_LEAVES as u32;
pub(crate) const NODES: u32 = ROOT_NODES as u32;
pub(crate) const ALL_LEAVES: u64 = u64::MAX >> (64 - LEAVES);

/// PASIDs of one node.
pub(crate) const NODE_PASIDS: u32 = LEAVES * LEAF_PASIDS;

/// PASIDs that the tree has places for.
const PLACES: u32 = NODES * LEAVES * LEAF_PASIDS;

/// A leaf whose generations would raise the floor above this is not given back:
/// one PASID reused two thousand million times must not bring all others close
/// to their end.
const FLOOR_LAST: u32 = u32::MAX / 2;

const _: () = {
    assert!(NODE_LEAVES.is_power_of_two() && NODE_LEAVES <= 64);
    assert!(ROOT_NODES == NODE_LEAVES, "their marks are alike");
    assert!(cfg!(loom) || PLACES == PasidWidth::MAX.count());
};

/// A search that asks for memory where it is missing, and whose caller says so.
///
/// Whether a search may grow the tree is a parameter of the code, not of the call:
/// a data call must not even contain the calls of the memory allocator.
pub(crate) const MAY_GROW: bool = true;
/// A search that uses the memory that is there.
pub(crate) const IN_PLACE: bool = false;

/// The slots of 256 PASIDs, and which of them await a flush.
pub(crate) struct Leaf {
    slots: [Slot; LEAF_PASIDS as usize],
    pub(crate) waiting: [AtomicU32; LEAF_WORDS],
}

impl Leaf {
    /// Writes to `place` a leaf whose allocations start at generation `floor` and
    /// in which the bits that `held` says are set.
    ///
    /// # Safety
    /// `place` must be valid for writes of a whole Leaf.
    unsafe fn build(place: *mut Leaf, floor: u32, held: impl Fn(u32) -> u32) {
        // SAFETY: `place` is valid for a Leaf, so its field is in bounds.
        let slots = unsafe { &raw mut (*place).slots }.cast::<Slot>();
        let mut held_in_word = 0;
        for position in 0..LEAF_PASIDS {
            if position % WORD_BITS == 0 {
                held_in_word = held(position / WORD_BITS);
            }
            let reserved = held_in_word & 1 << (position % WORD_BITS) != 0;
            // SAFETY: `position` is below the length of the array of slots.
            let slot = unsafe { slots.add(position as usize) };
            // SAFETY: valid for writes, as part of `place`.
            unsafe { slot.write(Slot::new(floor, reserved)) };
        }
        // SAFETY: as for `slots`.
        let waiting = unsafe { &raw mut (*place).waiting }.cast::<AtomicU32>();
        for word in 0..LEAF_WORDS {
            // SAFETY: `word` is below the length of the array.
            let waiting = unsafe { waiting.add(word) };
            // Volatile, so that the compiler does not call `memset`; see `Node::build`.
            // SAFETY: valid for writes, as part of `place`.
            unsafe { waiting.write_volatile(AtomicU32::new(0)) };
        }
    }

    #[inline(always)]
    pub(crate) fn slot(&self, pasid: Pasid) -> &Slot {
        // The remainder is by a power of two; see `Bitmap::word`.
        &self.slots[pasid.get() as usize % LEAF_PASIDS as usize]
    }

    /// Whether nobody holds a reference, and the generations are low enough to
    /// become everyone's floor.
    fn is_unused(&self) -> bool {
        self.highest_generation() <= FLOOR_LAST
            && self.slots.iter().all(|slot| slot.state().references() == 0)
    }

    fn highest_generation(&self) -> u32 {
        let generations = self.slots.iter().map(|slot| slot.state().generation());
        generations.max().unwrap_or(0)
    }
}

/// The bits of 64 leaves, and the leaves that are there.
///
/// The bits of all leaves are together, apart from the slots: a scan for
/// exhaustion reads 4 KiB for 16,384 PASIDs, and a search needs no leaf to see
/// what is free in it. The bits of a leaf that is missing are those of a new one.
pub(crate) struct Node {
    bits: [Bitmap; NODE_LEAVES],
    /// Bit *i*: leaf *i* is marked full.
    pub(crate) full: AtomicU64,
    /// Bit *i*: in leaf *i* something may await a flush.
    pub(crate) waiting: AtomicU64,
    leaves: [Link<Leaf>; NODE_LEAVES],
}

impl Node {
    /// Writes to `place` a node without leaves in which the bits that `held` says
    /// are set, by leaf and word.
    ///
    /// # Safety
    /// `place` must be valid for writes of a whole Node.
    unsafe fn build(place: *mut Node, held: impl Fn(u32, u32) -> u32) {
        // SAFETY: `place` is valid for a Node, so its field is in bounds.
        let bits = unsafe { &raw mut (*place).bits }.cast::<Bitmap>();
        // SAFETY: as for `bits`.
        let leaves = unsafe { &raw mut (*place).leaves }.cast::<Link<Leaf>>();
        for leaf in 0..LEAVES {
            // SAFETY: `leaf` is below the length of the array of bitmaps.
            let bits = unsafe { bits.add(leaf as usize) };
            // SAFETY: valid for writes, as part of `place`.
            unsafe { bits.write(Bitmap::new(|word| held(leaf, word))) };
            // SAFETY: `leaf` is below the length of the array of links.
            let link = unsafe { leaves.add(leaf as usize) };
            // Volatile, so that the compiler does not call `memset` for what is nothing but
            // zeros: a freestanding program may have none.
            // SAFETY: valid for writes, as part of `place`.
            unsafe { link.write_volatile(Link::vacant()) };
        }
        // SAFETY: as for `bits`.
        let full = unsafe { &raw mut (*place).full };
        // SAFETY: valid for writes, as part of `place`.
        unsafe { full.write(AtomicU64::new(0)) };
        // SAFETY: as for `bits`.
        let waiting = unsafe { &raw mut (*place).waiting };
        // SAFETY: valid for writes, as part of `place`.
        unsafe { waiting.write(AtomicU64::new(0)) };
    }

    /// Whether nothing was free in this part, there or missing, each bit at the moment
    /// it was looked at.
    pub(crate) fn is_held(&self, part: Part) -> bool {
        self.bits(part.leaf).scan(part.first, part.last).is_some()
    }

    /// One scan of all leaves; see [`Bitmap::scan`].
    pub(crate) fn scan(&self) -> Option<u64> {
        self.bits.iter().try_fold(0, |versions, bits| {
            Some(versions + bits.scan(0, LEAF_PASIDS - 1)?)
        })
    }

    #[inline(always)]
    pub(crate) fn bits(&self, leaf: u32) -> &Bitmap {
        &self.bits[leaf as usize % NODE_LEAVES]
    }

    #[inline(always)]
    pub(crate) fn leaf(&self, leaf: u32) -> Option<&Leaf> {
        self.leaves[leaf as usize % NODE_LEAVES].follow()
    }
}

/// Where a PASID is in the tree.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) node: u32,
    pub(crate) leaf: u32,
    pub(crate) position: u32,
}

impl Place {
    #[inline(always)]
    pub(crate) const fn of(number: u32) -> Place {
        Place {
            node: number / LEAF_PASIDS / LEAVES % NODES,
            leaf: number / LEAF_PASIDS % LEAVES,
            position: number % LEAF_PASIDS,
        }
    }
}

/// One PASID's place, with the node that has its bit.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) node: &'a Node,
    pub(crate) place: Place,
}

/// One PASID's spot and slot.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) spot: Spot<'a>,
    pub(crate) slot: &'a Slot,
}

/// The part of a request that lies in one leaf: positions `first ..= last`.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) node: u32,
    pub(crate) leaf: u32,
    pub(crate) first: u32,
    pub(crate) last: u32,
}

impl Part {
    /// The PASID at `position` of the leaf.
    #[inline(always)]
    pub(crate) const fn pasid(self, position: u32) -> Pasid {
        Pasid::from_index((self.node * LEAVES + self.leaf) * LEAF_PASIDS + position)
    }
}

/// The tree of one id space.
pub(crate) struct Tree {
    nodes: [Link<Node>; ROOT_NODES],
    /// Bit *i*: node *i* is marked full.
    pub(crate) full: AtomicU64,
    /// A range known to be exhausted.
    pub(crate) memo: Memo,
    /// What its handles know the space by; 0 until there is a leaf.
    identity: AtomicU32,
    /// The first generation of the slots of leaves built from now on.
    floor: u32,
    width: PasidWidth,
    reserved: Cow<'static, [PasidRange]>,
}

impl Tree {
    const_unless_loom! {
        pub(crate) fn new(width: PasidWidth, reserved: Cow<'static, [PasidRange]>) -> Tree {
            Tree {
                #[cfg(not(loom))]
                nodes: [const { Link::vacant() }; ROOT_NODES],
                #[cfg(loom)]
                nodes: core::array::from_fn(|_| Link::vacant()),
                full: AtomicU64::new(0),
                memo: Memo::new(),
                identity: AtomicU32::new(0),
                floor: 0,
                width,
                reserved,
            }
        }
    }

    pub(crate) const fn width(&self) -> PasidWidth {
        self.width
    }

    /// The same tree, whose first allocations have generation `floor`.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn starting_at(mut self, floor: u32) -> Tree {
        self.floor = floor;
        self
    }

    // ---- Look-up -------------------------------------------------------------

    #[inline(always)]
    pub(crate) fn node(&self, node: u32) -> Option<&Node> {
        self.nodes[node as usize % ROOT_NODES].follow()
    }

    /// The spot of `pasid`, if its node is there.
    #[inline(always)]
    pub(crate) fn spot(&self, pasid: Pasid) -> Option<Spot<'_>> {
        let place = Place::of(pasid.get());
        Some(Spot {
            node: self.node(place.node)?,
            place,
        })
    }

    /// The entry of `pasid`, if there is memory for it.
    #[inline(always)]
    pub(crate) fn entry(&self, pasid: Pasid) -> Option<Entry<'_>> {
        let spot = self.spot(pasid)?;
        let slot = spot.node.leaf(spot.place.leaf)?.slot(pasid);
        Some(Entry { spot, slot })
    }

    /// This space's tag in handles: of use to who has seen a slot. 0 before there is one.
    #[inline(always)]
    pub(crate) fn tag(&self) -> u16 {
        // Relaxed: written before the first leaf was published, and the caller
        // acquired one.
        identity::tag(self.identity.load(Ordering::Relaxed))
    }

    /// What the space's own list reserves.
    pub(crate) fn reserved(&self) -> &[PasidRange] {
        &self.reserved
    }

    /// Whether the bit of `pasid` is set.
    pub(crate) fn is_taken(&self, pasid: Pasid) -> bool {
        let place = Place::of(pasid.get());
        let node = self.node(place.node);
        let taken = node.map(|node| {
            let bits = node.bits(place.leaf);
            bits.first_set(place.position, place.position)
        });
        taken.flatten().is_some()
    }

    /// Whether `pasid` is reserved by the space's own list.
    pub(crate) fn listed_as_reserved(&self, pasid: Pasid) -> bool {
        self.reserved.iter().any(|range| range.contains(pasid))
    }

    /// The first place at or after `from`, up to `last`, whose bit is set.
    pub(crate) fn first_held(&self, from: Pasid, last: Pasid) -> Option<(Pasid, &Slot)> {
        self.parts(from.get(), last.get()).find_map(|part| {
            let node = self.node(part.node)?;
            let leaf = node.leaf(part.leaf)?;
            let position = node.bits(part.leaf).first_set(part.first, part.last)?;
            let pasid = part.pasid(position);
            Some((pasid, leaf.slot(pasid)))
        })
    }

    /// The leaves that hold the places `first ..= last`, in order. Where a node
    /// is missing its leaves are named all the same.
    pub(crate) fn parts(&self, first: u32, last: u32) -> impl Iterator<Item = Part> + use<> {
        (first / LEAF_PASIDS..=last / LEAF_PASIDS).map(move |leaf| {
            let base = leaf * LEAF_PASIDS;
            Part {
                node: leaf / LEAVES % NODES,
                leaf: leaf % LEAVES,
                first: first.max(base) - base,
                last: last.min(base + (LEAF_PASIDS - 1)) - base,
            }
        })
    }

    // ---- Memory --------------------------------------------------------------

    /// The bits that a new leaf there would have set.
    pub(crate) fn held_in_new(&self, node: u32, leaf: u32, word: u32) -> u32 {
        held_in_new(self.width, &self.reserved, node, leaf, word)
    }

    /// Whether a new leaf would have something free in this part.
    pub(crate) fn has_free(&self, part: Part) -> bool {
        (part.first / WORD_BITS..=part.last / WORD_BITS).any(|word| {
            let wanted = bitmap::mask(word, part.first, part.last);
            wanted & !self.held_in_new(part.node, part.leaf, word) != 0
        })
    }

    /// The node and leaf of `part`, built if missing. `None` if there is no memory.
    pub(crate) fn grow(&self, part: Part) -> Option<(&Node, &Leaf)> {
        let node = self.node(part.node).or_else(|| self.grow_node(part.node))?;
        let leaf = node.leaf(part.leaf).or_else(|| self.grow_leaf(node, part));
        Some((node, leaf?))
    }

    /// Puts memory in place for `first ..= last`. Returns whether it could.
    pub(crate) fn grow_range(&self, first: Pasid, last: Pasid) -> bool {
        self.parts(first.get(), last.get())
            .all(|part| self.grow(part).is_some())
    }

    /// The node, built if nobody else was first. `None` if there is no memory.
    #[cold]
    pub(crate) fn grow_node(&self, node: u32) -> Option<&Node> {
        let held = |leaf, word| self.held_in_new(node, leaf, word);
        // SAFETY: the place given is valid for a Node.
        let build = |place| unsafe { Node::build(place, held) };
        // SAFETY: `Node::build` writes a whole Node.
        let new = unsafe { boxed(build) }?;
        Some(self.nodes[node as usize % ROOT_NODES].publish(new))
    }

    /// The leaf, built if nobody else was first. `None` if there is no memory.
    #[cold]
    pub(crate) fn grow_leaf<'a>(&self, node: &'a Node, part: Part) -> Option<&'a Leaf> {
        let floor = self.floor.max(identity::first_generation(self.identify()));
        let held = |word| self.held_in_new(part.node, part.leaf, word);
        // SAFETY: the place given is valid for a Leaf.
        let build = |place| unsafe { Leaf::build(place, floor, held) };
        // SAFETY: `Leaf::build` writes a whole Leaf.
        let new = unsafe { boxed(build) }?;
        Some(node.leaves[part.leaf as usize % NODE_LEAVES].publish(new))
    }

    /// The space's identity, given to it before its first leaf is published.
    fn identify(&self) -> u32 {
        // Relaxed: the identity itself is all that is read; it reaches other threads
        // with the release of the leaf's publication.
        let known = self.identity.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let new = identity::next();
        #[cfg(loom)]
        if planted(Mutation::IdentifyBlindly) {
            return self.identify_blindly(new);
        }
        // Relaxed: as above. Failure means that another thread gave one; the leaf
        // published next is published after either.
        let exchanged =
            self.identity
                .compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
        exchanged.map_or_else(|other| other, |_| new)
    }

    /// Bytes of all nodes and leaves.
    pub(crate) fn memory_bytes(&self) -> usize {
        let nodes = (0..NODES).filter_map(|node| self.node(node));
        nodes
            .map(|node| {
                let leaves = node
                    .leaves
                    .iter()
                    .filter(|leaf| leaf.follow().is_some())
                    .count();
                size_of::<Node>() + leaves * size_of::<Leaf>()
            })
            .sum()
    }
}

/// The bits that are held in a new leaf: reserved by the space's list, or beyond
/// its width.
pub(crate) fn held_in_new(
    width: PasidWidth,
    reserved: &[PasidRange],
    node: u32,
    leaf: u32,
    word: u32,
) -> u32 {
    let base = (node * LEAVES + leaf) * LEAF_PASIDS;
    let (start, end) = (
        base + word * WORD_BITS,
        base + word * WORD_BITS + (WORD_BITS - 1),
    );
    let of = |first: u32, last: u32| {
        if first > end || last < start {
            return 0;
        }
        bitmap::mask(word, first.max(start) - base, last.min(end) - base)
    };
    let last = width.last().get();
    let beyond = if last < PLACES - 1 {
        of(last + 1, PLACES - 1)
    } else {
        0
    };
    reserved.iter().fold(beyond, |held, range| {
        held | of(range.first().get(), range.last().get())
    })
}
