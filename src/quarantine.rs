// SPDX-License-Identifier: MIT OR Apache-2.0
//! Quarantine: PASIDs of one id space that ended and await a flush.
//!
//! ```text
//! ended --wait--> waiting --take_waiting--> of one batch --give back--> free
//!                    ^                            |
//!                    +-------- wait_again --------+
//! ```
//!
//! A PASID that waits keeps its allocation bit, and what else it was taken with. Each leaf
//! has a bit for each of its PASIDs that waits, and each node one for each of its leaves
//! in which something may.
//!
//! # Protocol
//! Whoever ends an allocation brings the slot to *waiting*, sets the PASID's bit, then looks
//! at the leaf's bit and sets it if it is clear. Whoever takes a batch takes the leaves'
//! bits of a node, then the words of each of these leaves, by exchange for zero. In the
//! total order of sequentially consistent operations, a look that found the leaf's bit set
//! comes before it was taken, and so the PASID's bit before its word was; or it found the
//! bit clear, and set it again. So what waits is found by the next batch that begins after.
//!
//! A batch is linked through the slots of what it took, which belong to who took it: the
//! word of the lowest slot of each group of 32 has the others of the group, and the next
//! group.
//!
//! ```text
//!  63    62     52 51         32 31           0
//! +-----+--------+--------------+--------------+
//! | next|   0    |  next group  |   PASIDs     |   the word of a group's lowest slot
//! +-----+--------+--------------+--------------+
//! ```
//!
//! # Invariants
//! * **W1** A PASID that waits is in one place: its bit is set, or it is in one batch. Each
//!   is left for the other by who has it alone: by exchange out of the word, or by the
//!   batch's holder.
//! * **W2** A batch begins when all of it is taken. What it has was ended before that, so
//!   an invalidation that begins after it covers all of it.
//! * **W3** A count of batches that are over advances after all of the batch was given or
//!   put back, and before it ceases to count as in flight. While it is being given back, it
//!   counts as being completed too. So if nothing waits after a scan, no batch is being
//!   completed, and none was over since before it, nothing waited while it ran. A batch
//!   that was put back counts too: else its PASIDs could be in the batch when their bits
//!   are looked at, and have bits again when the batch is looked for.

use crate::bitmap::{ALL, LEAF_PASIDS, LEAF_WORDS, WORD_BITS, mask};
use crate::pasid::Pasid;
use crate::radix::{LEAVES, Leaf, NODES, Node, Place, Tree};
use crate::search::{Request, lowest};
use crate::slot::Slot;
use crate::sync::{AtomicU32, Mutation, Ordering, order_store_before_load, planted, unless};

mod counts;
#[cfg(loom)]
mod mutants;

pub use counts::FlushStatistics;
pub(crate) use counts::Quarantine;

const NEXT_SHIFT: u32 = 32;
const NEXT: u64 = 1 << 63;

/// Up to 32 PASIDs of one batch: those of one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    /// The PASID at bit 0 of the word.
    base: u32,
    pub(crate) bits: u32,
    next: Option<u32>,
}

impl Group {
    /// The PASIDs, in ascending order.
    pub(crate) fn pasids(mut self) -> impl Iterator<Item = Pasid> {
        core::iter::from_fn(move || self.take_lowest())
    }

    /// The same group without those that are not in `bits`.
    pub(crate) fn only(self, bits: u32) -> Group {
        Group {
            bits: self.bits & bits,
            ..self
        }
    }

    fn first(mut self) -> Option<Pasid> {
        self.take_lowest()
    }

    /// Takes the lowest PASID out.
    pub(crate) fn take_lowest(&mut self) -> Option<Pasid> {
        let bit = lowest(u64::from(self.bits))?;
        self.bits &= self.bits - 1;
        Some(Pasid::from_index(self.base + bit))
    }

    pub(crate) fn count(self) -> u32 {
        self.bits.count_ones()
    }

    /// Where the word is.
    pub(crate) fn place(self) -> Place {
        Place::of(self.base)
    }

    fn word(self) -> u32 {
        self.base % LEAF_PASIDS / WORD_BITS
    }
}

/// What one flush took: a list through the slots of what it has.
///
/// Whoever has it owns the slots. It is given back group by group, or put back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    first: Option<u32>,
    pub(crate) count: u32,
}

impl Batch {
    pub(crate) const EMPTY: Batch = Batch {
        first: None,
        count: 0,
    };
}

impl Tree {
    /// Lets `pasid` wait for a flush, whose slot the caller has brought to *waiting*.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn wait(&self, pasid: Pasid) {
        let place = Place::of(pasid.get());
        // Neither can be missing: it was allocated.
        let Some(node) = self.node(place.node) else {
            return;
        };
        let Some(leaf) = node.leaf(place.leaf) else {
            return;
        };
        let (word, bit) = (
            place.position / WORD_BITS,
            1 << (place.position % WORD_BITS),
        );
        wait_in(node, leaf, place.leaf, word, bit);
    }

    /// Lets the PASIDs of a group, which the caller took, wait for another flush.
    ///
    /// Wait-free.
    pub(crate) fn wait_again(&self, group: Group) {
        let place = group.place();
        let node = self.node(place.node);
        let leaf = node.and_then(|node| Some((node, node.leaf(place.leaf)?)));
        if let (Some((node, leaf)), true) = (leaf, group.bits != 0) {
            wait_in(node, leaf, place.leaf, group.word(), group.bits);
        }
    }

    /// Takes all that waits: the flush begins when this returns (W2).
    ///
    /// Wait-free, bounded by the memory of the tree.
    pub(crate) fn take_waiting(&self) -> Batch {
        let mut batch = Building::default();
        for (index, node) in (0..NODES).filter_map(|index| Some((index, self.node(index)?))) {
            // SeqCst: see the head of this file; a node without any costs no exchange.
            if node.waiting.load(Ordering::SeqCst) == 0 {
                continue;
            }
            // SeqCst: before the words are taken, against `wait_in`.
            let mut leaves = node.waiting.swap(0, Ordering::SeqCst);
            while let Some(leaf_index) = lowest(leaves) {
                leaves &= leaves - 1;
                if let Some(leaf) = node.leaf(leaf_index) {
                    batch.take_from(leaf, (index * LEAVES + leaf_index) * LEAF_PASIDS);
                }
            }
        }
        batch.finish()
    }

    /// Lets a part of each group of a batch wait for another flush, and returns the batch
    /// of the rest, for who has it.
    ///
    /// Wait-free.
    pub(crate) fn split(&self, batch: Batch, leaving: impl Fn(Group) -> Group) -> Batch {
        let mut rest = Building::default();
        // The link to the next group is read before any slot of a group is let go.
        for group in self.groups(batch) {
            let leaving = leaving(group);
            let stays = group.only(!leaving.bits);
            if let Some(entry) = stays.first().and_then(|pasid| self.entry(pasid)) {
                rest.add(stays, entry.slot);
            }
            self.wait_again(leaving);
        }
        rest.finish()
    }

    /// The groups of a batch, in ascending order, for who has it.
    pub(crate) fn groups(&self, batch: Batch) -> Groups<'_> {
        Groups {
            tree: self,
            next: batch.first,
        }
    }

    /// Whether a PASID of `first ..= last` awaits a flush that has not begun, each at the
    /// moment when it is looked at.
    fn any_waits(&self, first: u32, last: u32) -> bool {
        let request = Request::new(first, last);
        let mut nodes = request.nodes();
        while let Some(node_index) = lowest(nodes) {
            nodes &= nodes - 1;
            let Some(node) = self.node(node_index) else {
                continue;
            };
            // SeqCst: before the look for a batch in flight, as `is_in_flight` says.
            let mut leaves = request.leaves(node_index) & node.waiting.load(Ordering::SeqCst);
            while let Some(leaf_index) = lowest(leaves) {
                leaves &= leaves - 1;
                let part = request.part(node_index, leaf_index);
                let waits = |word: u32| {
                    let wanted = mask(word, part.first, part.last);
                    let leaf = node.leaf(leaf_index);
                    // SeqCst: as above.
                    leaf.is_some_and(|leaf| {
                        waiting(leaf, word).load(Ordering::SeqCst) & wanted != 0
                    })
                };
                if (part.first / WORD_BITS..=part.last / WORD_BITS).any(waits) {
                    return true;
                }
            }
        }
        false
    }

    /// Whether a PASID of `first ..= last` awaits a flush, one that has begun included.
    pub(crate) fn any_awaits_flush(&self, quarantine: &Quarantine, first: u32, last: u32) -> bool {
        if self.any_waits(first, last) {
            return true;
        }
        if !quarantine.is_in_flight() {
            return false;
        }
        // What is in a batch has no bit, and its slot says it, until it is given back.
        let mut parts = self.parts(first, last);
        let says_so = parts.any(|part| {
            let node = self.node(part.node);
            let leaf = node.and_then(|node| node.leaf(part.leaf));
            leaf.is_some_and(|leaf| {
                let mut pasids = (part.first..=part.last).map(|position| part.pasid(position));
                pasids.any(|pasid| leaf.slot(pasid).state().awaits_flush())
            })
        });
        // Which PASIDs one has that is being completed, nobody can say any more.
        says_so || quarantine.is_completing()
    }
}

fn waiting(leaf: &Leaf, word: u32) -> &AtomicU32 {
    // The remainder is by a power of two; see `Bitmap::word`.
    &leaf.waiting[word as usize % LEAF_WORDS]
}

#[inline(always)]
fn wait_in(node: &Node, leaf: &Leaf, leaf_index: u32, word: u32, bits: u32) {
    if planted(Mutation::LeafMarkedBeforeWaiting) {
        mark_waiting(node, leaf_index);
    }
    #[cfg(loom)]
    if planted(Mutation::WaitInTwoSteps) {
        mutants::add(waiting(leaf, word), bits);
        return mark_waiting(node, leaf_index);
    }
    // SeqCst: its release half pairs with the acquire of `take_from`: who takes the PASID
    // sees its slot waiting, and all that its holders did. It comes before the look at the
    // leaf's bit, against `take_waiting`.
    waiting(leaf, word).fetch_or(bits, unless(Mutation::WaitRelaxed, Ordering::SeqCst));
    order_store_before_load();
    if !planted(Mutation::LeafMarkedBeforeWaiting) {
        mark_waiting(node, leaf_index);
    }
}

#[inline(always)]
fn mark_waiting(node: &Node, leaf_index: u32) {
    // SeqCst: the second step of the pair that `take_waiting` takes in the other order.
    if node.waiting.load(Ordering::SeqCst) & 1 << leaf_index == 0 {
        // SeqCst: as above; kept with the others.
        node.waiting.fetch_or(1 << leaf_index, Ordering::SeqCst);
    }
}

/// A batch that is just being linked.
#[derive(Default)]
struct Building<'a> {
    first: Option<u32>,
    count: u32,
    /// The last group so far, and the slot that has its link.
    last: Option<(Group, &'a Slot)>,
}

impl<'a> Building<'a> {
    fn take_from(&mut self, leaf: &'a Leaf, base: u32) {
        order_store_before_load();
        for word in 0..LEAF_WORDS as u32 {
            // SeqCst: a look that spares most exchanges. It pairs with `wait_in` like the
            // exchange itself.
            if waiting(leaf, word).load(Ordering::SeqCst) == 0 {
                continue;
            }
            // SeqCst: pairs with `wait_in`, and acquires what came before it there.
            let taking = unless(Mutation::WaitRelaxed, Ordering::SeqCst);
            #[cfg(loom)]
            let seen = mutants::seen(waiting(leaf, word));
            let bits = waiting(leaf, word).swap(0, taking) & ALL;
            #[cfg(loom)]
            let bits = seen.unwrap_or(bits);
            if bits == 0 {
                continue;
            }
            let group = Group {
                base: base + word * WORD_BITS,
                bits,
                next: None,
            };
            if let Some(lowest) = group.first() {
                self.add(group, leaf.slot(lowest));
            }
        }
    }

    /// Adds a group that is not empty; `slot` is that of its lowest PASID.
    fn add(&mut self, group: Group, slot: &'a Slot) {
        let lowest = group.first().map(Pasid::get);
        self.link(lowest);
        self.first = self.first.or(lowest);
        self.count += group.count();
        self.last = Some((group, slot));
    }

    /// Writes the last group's link.
    fn link(&mut self, next: Option<u32>) {
        if let Some((group, slot)) = self.last.take() {
            let next = next.map_or(0, |next| NEXT | u64::from(next) << NEXT_SHIFT);
            slot.set_word(next | u64::from(group.bits));
        }
    }

    fn finish(mut self) -> Batch {
        self.link(None);
        Batch {
            first: self.first,
            count: self.count,
        }
    }
}

/// The groups of a batch; see [`Tree::groups`].
#[derive(Clone)]
pub(crate) struct Groups<'a> {
    tree: &'a Tree,
    next: Option<u32>,
}

impl Iterator for Groups<'_> {
    type Item = Group;

    fn next(&mut self) -> Option<Group> {
        let number = self.next.take()?;
        let word = self.tree.entry(Pasid::from_index(number))?.slot.word();
        let next = (word >> NEXT_SHIFT) as u32 & Pasid::MAX.get();
        self.next = (word & NEXT != 0).then_some(next);
        Some(Group {
            base: number / WORD_BITS * WORD_BITS,
            bits: word as u32,
            next: self.next,
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
