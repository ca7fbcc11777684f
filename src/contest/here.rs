// SPDX-License-Identifier: MIT OR Apache-2.0
//! The usual case of a contest: one tree with claims, in few instructions.

use super::Contest;
use crate::bitmap::{ALL, LEAF_PASIDS, Seen, WORD_BITS};
use crate::claims::{ClaimLeaf, ClaimSpot, Claims, Side, hidden_leaves};
use crate::pasid::Pasid;
use crate::radix::{NODE_PASIDS, Node, Part, Place, Spot, Tree};
use crate::search::{Request, Taken, lowest};
use crate::sync::{Event, Mutation, Ordering, met, planted};

/// What came of one step of [`Contest::take_here`].
pub(crate) enum Step<'a> {
    Taken(Taken<'a>),
    /// Something may be found from this value on, which is one of the request.
    GoOn(u32),
    /// The search by marks and hints has something to do.
    Stop,
}

/// The lowest value of a leaf that is neither held nor hidden.
#[derive(Clone, Copy)]
struct Lowest {
    word: u32,
    seen: Seen,
    bit: u32,
}

/// Where a value that is held will be given back.
#[derive(Clone, Copy)]
pub(crate) struct Hold<'a> {
    spot: Spot<'a>,
    claim: Option<ClaimSpot<'a>>,
}

impl<'a> Contest<'a, &'a Tree> {
    /// Where `pasid`, which is held, will be given back. To be asked before the slot is
    /// brought to its end: the loads would wait behind the locked operations.
    #[inline(always)]
    pub(crate) fn hold(&self, pasid: Pasid) -> Option<Hold<'a>> {
        let spot = self.slots.spot(pasid)?;
        let claim = match self.claims {
            Some(claims) => Some(claims.spot(spot.place)?),
            None => None,
        };
        Some(Hold { spot, claim })
    }

    /// Gives back what is held, and whose slot is dead: the same as
    /// [`give_back`](Contest::give_back), with the looks at marks and hints after the last
    /// locked operation, which would wait for them.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn give_hold_back(&self, Hold { spot, claim }: Hold<'_>) {
        let bits = spot.node.bits(spot.place.leaf);
        let (Some(claims), Some(claim)) = (self.claims, claim) else {
            self.slots.give_back(spot);
            return;
        };
        let claim_first = self.side == Side::Local || planted(Mutation::GlobalClaimGivenBackFirst);
        let was_last = if claim_first {
            let was_last = claim.leave(self.side);
            bits.give_back(spot.place.position);
            was_last
        } else {
            bits.give_back(spot.place.position);
            claim.leave(self.side)
        };
        self.slots.given_back(spot);
        claims.released(claim, self.side, was_last);
    }

    /// The usual case in few instructions: takes the lowest value of `from ..= last` that
    /// is neither held nor hidden. `None` says nothing.
    ///
    /// It goes on behind a leaf only where both sides have values in it, or some are
    /// reserved, because that is what no mark can say; else the search would be asked each
    /// time. Where there are many such leaves below, each costs a look: two sides that
    /// both take their lowest values mix them.
    ///
    /// Lock-free: it goes round only behind such a leaf, and when another thread changed a
    /// word.
    #[inline(always)]
    pub(crate) fn take_here(&self, mut from: u32, last: u32) -> Option<Taken<'a>> {
        loop {
            match self.take_first(from, last) {
                Step::Taken(taken) => return Some(taken),
                Step::GoOn(next) => from = next,
                Step::Stop => return None,
            }
        }
    }

    /// The first step of [`Contest::take_here`]: in the first leaf that is not marked.
    #[inline(always)]
    pub(crate) fn take_first(&self, from: u32, last: u32) -> Step<'a> {
        self.step(from, last).unwrap_or(Step::Stop)
    }

    #[inline(always)]
    fn step(&self, from: u32, last: u32) -> Option<Step<'a>> {
        let tree = self.slots;
        let claims = self.claims?;
        let request = Request::new(from, last);
        let go_on = |next| (next <= last).then_some(Step::GoOn(next));
        // Relaxed: a hint, of which nothing is concluded.
        let marked = tree.full.load(Ordering::Relaxed) | claims.hidden_nodes(self.side);
        let node_index = lowest(request.nodes() & !marked)?;
        let (node, claim_node) = (tree.node(node_index)?, claims.node(node_index)?);
        // Relaxed: as above.
        let marked = node.full.load(Ordering::Relaxed) | hidden_leaves(claim_node, self.side);
        let Some(leaf_index) = lowest(request.leaves(node_index) & !marked) else {
            return go_on((node_index + 1) * NODE_PASIDS);
        };
        let (leaf, claim_leaf) = (node.leaf(leaf_index)?, claim_node.leaf(leaf_index)?);
        let part = request.part(node_index, leaf_index);
        let lowest = match self.lowest_in(node, claim_leaf, part) {
            Ok(lowest) => lowest,
            // The leaf may be full, and wants its mark.
            Err(0) => return None,
            Err(_) if node.bits(part.leaf).is_full() => return None,
            Err(_) => return go_on(part.pasid(0).get() + LEAF_PASIDS),
        };
        let pasid = part.pasid(lowest.word * WORD_BITS + lowest.bit);
        let slot = leaf.slot(pasid);
        let taken = Taken { pasid, slot };
        match self.side {
            Side::Local if self.take_bit_first(node, claim_leaf, pasid, lowest)? => {}
            Side::Global if self.take_claim_first(node, claims, claim_leaf, pasid, lowest)? => {}
            _ => return Some(Step::GoOn(from)),
        }
        Some(Step::Taken(taken))
    }

    /// The lowest value of the part that is neither held nor hidden, or all hints that it
    /// met.
    #[inline(always)]
    fn lowest_in(&self, node: &Node, claims: &ClaimLeaf, part: Part) -> Result<Lowest, u32> {
        let bits = node.bits(part.leaf);
        let (mut word, mut wanted) = (
            part.first / WORD_BITS,
            ALL << (part.first % WORD_BITS) & ALL,
        );
        let mut hinted = 0;
        loop {
            let hidden = claims.hidden(word, self.side);
            hinted |= hidden;
            // Before the bits, so that what the other side has for itself costs little.
            if hidden != ALL {
                let seen = bits.peek(word);
                let free = seen.free() & wanted & !hidden;
                if free != 0 {
                    let bit = free.trailing_zeros();
                    let in_part = word * WORD_BITS + bit <= part.last;
                    return in_part.then_some(Lowest { word, seen, bit }).ok_or(hinted);
                }
            }
            word += 1;
            if word > part.last / WORD_BITS {
                return Err(hinted);
            }
            wanted = ALL;
        }
    }

    /// Looks at the claim before it takes the bit, so that a value of the other side costs
    /// no bit given back in vain. `false` if another thread changed the word at hand.
    #[inline(always)]
    fn take_bit_first(
        &self,
        node: &Node,
        claims: &ClaimLeaf,
        pasid: Pasid,
        Lowest { word, seen, bit }: Lowest,
    ) -> Option<bool> {
        let place = Place::of(pasid.get());
        let claim = claims.look(place.position);
        claim.admits(Side::Local).ok()?;
        if node.bits(place.leaf).take_of(word, seen, bit).is_err() {
            return Some(false);
        }
        met(Event::HalfTaken);
        let entered = claims.enter_from(place.position, claim, Side::Local);
        if entered.is_err() && !planted(Mutation::LocalClaimsFirstNotChecked) {
            give_bit_back(self.slots, node, pasid);
            return None;
        }
        Some(true)
    }

    #[inline(always)]
    fn take_claim_first(
        &self,
        node: &Node,
        claims: &Claims,
        leaf: &ClaimLeaf,
        pasid: Pasid,
        Lowest { word, seen, bit }: Lowest,
    ) -> Option<bool> {
        let place = Place::of(pasid.get());
        leaf.enter(place.position, Side::Global).ok()?;
        let bits = node.bits(place.leaf);
        // By exchange first, which is faster where no other thread is about.
        if bits.take_of(word, seen, bit).is_ok() || bits.take(place.position) {
            return Some(true);
        }
        claims.release(pasid.get(), Side::Global);
        None
    }
}

/// Backs out of a bit whose claim was refused.
#[cold]
fn give_bit_back(tree: &Tree, node: &Node, pasid: Pasid) {
    met(Event::BackedOut);
    let place = Place::of(pasid.get());
    tree.give_back(Spot { node, place });
}
