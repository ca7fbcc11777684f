// SPDX-License-Identifier: MIT OR Apache-2.0
//! The usual case of a contest: one tree with claims, in few instructions.
//!
//! # Speed
//! Each locked operation waits for all instructions before it, and a load waits for a locked
//! operation on the same word that is under way. So a call takes as long as its locked
//! operations, and what lies between the last of one call and the first of the next counts
//! most: instructions, and the way from the word of bits to the exchange of its bit.

use super::{Contest, words};
use crate::bitmap::{ALL, Bitmap, LEAF_PASIDS, LEAF_WORDS, Seen, WORD_BITS};
use crate::claims::{ClaimLeaf, ClaimSpot, Side, hidden_leaves};
use crate::pasid::Pasid;
use crate::radix::{LEAVES, NODE_PASIDS, Place, Spot, Tree};
use crate::search::{Taken, lowest, open_from};
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

impl Lowest {
    #[inline(always)]
    const fn position(self) -> u32 {
        self.word * WORD_BITS + self.bit
    }
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
        // The order is argued for at the head of `contest.rs`.
        let claim_first = planted(Mutation::GlobalClaimGivenBackFirst);
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

    /// What lies behind `last` is not cut off on the way down: it costs less to compare what
    /// is found with it.
    #[inline(always)]
    fn step(&self, from: u32, last: u32) -> Option<Step<'a>> {
        let tree = self.slots;
        let claims = self.claims?;
        let go_on = |next| (next <= last).then_some(Step::GoOn(next));
        // Relaxed: a hint, of which nothing is concluded.
        let marked = tree.full.load(Ordering::Relaxed) | claims.hidden_nodes(self.side);
        let node_index = lowest(open_from(marked, from / NODE_PASIDS))?;
        let (node, claim_node) = (tree.node(node_index)?, claims.node(node_index)?);
        let base = node_index * NODE_PASIDS;
        let first = from.max(base);
        // Relaxed: as above.
        let marked = node.full.load(Ordering::Relaxed) | hidden_leaves(claim_node, self.side);
        let Some(leaf_index) = lowest(open_from(marked, first / LEAF_PASIDS % LEAVES)) else {
            return go_on(base + NODE_PASIDS);
        };
        let (leaf, claim_leaf) = (node.leaf(leaf_index)?, claim_node.leaf(leaf_index)?);
        let base = base + leaf_index * LEAF_PASIDS;
        let words = Words {
            bits: node.bits(leaf_index),
            claims: claim_leaf,
        };
        let lowest = match words.lowest(first.saturating_sub(base), self.side) {
            Ok(lowest) => lowest,
            // The leaf may be full, and wants its mark.
            Err(0) => return None,
            Err(_) if words.bits.is_full() => return None,
            Err(_) => return go_on(base + LEAF_PASIDS),
        };
        let number = base + lowest.position();
        if number > last {
            return None;
        }
        let pasid = Pasid::from_index(number);
        let slot = leaf.slot(pasid);
        match self.side {
            Side::Local if self.take_bit_first(words, pasid, lowest)? => {}
            Side::Global if self.take_claim_first(words, pasid, lowest)? => {}
            _ => return Some(Step::GoOn(from)),
        }
        Some(Step::Taken(Taken { pasid, slot }))
    }

    /// Looks at the claim before it takes the bit, so that a value of the other side costs
    /// no bit given back in vain. `false` if another thread changed the word at hand.
    #[inline(always)]
    fn take_bit_first(&self, words: Words<'_>, pasid: Pasid, lowest: Lowest) -> Option<bool> {
        let Lowest { word, seen, bit } = lowest;
        let claim = words.claims.look(lowest.position());
        if claim.bars(Side::Local) {
            return None;
        }
        if words.bits.take_of(word, seen, bit).is_err() {
            return Some(false);
        }
        met(Event::HalfTaken);
        let entered = words
            .claims
            .enter_from(lowest.position(), claim, Side::Local);
        if entered.is_err() && !planted(Mutation::LocalClaimsFirstNotChecked) {
            self.give_bit_back(pasid);
            return None;
        }
        Some(true)
    }

    #[inline(always)]
    fn take_claim_first(&self, words: Words<'_>, pasid: Pasid, lowest: Lowest) -> Option<bool> {
        let Lowest { word, seen, bit } = lowest;
        words.claims.enter(lowest.position(), Side::Global).ok()?;
        // By exchange first, which is faster where no other thread is about.
        if words.bits.take_of(word, seen, bit).is_ok() || words.bits.take(lowest.position()) {
            return Some(true);
        }
        self.give_claim_back(pasid);
        None
    }

    /// Backs out of a bit whose claim was refused.
    #[cold]
    fn give_bit_back(&self, pasid: Pasid) {
        met(Event::BackedOut);
        words::give_bit_back(self.slots, Place::of(pasid.get()));
    }
}

/// The words of one leaf that decide.
#[derive(Clone, Copy)]
struct Words<'a> {
    bits: &'a Bitmap,
    claims: &'a ClaimLeaf,
}

impl Words<'_> {
    /// The lowest value from `first` on that is neither held nor hidden from the side, or
    /// all hints that were met.
    #[inline(always)]
    fn lowest(self, first: u32, side: Side) -> Result<Lowest, u32> {
        let (mut word, mut wanted) = (first / WORD_BITS, ALL << (first % WORD_BITS) & ALL);
        let mut hinted = 0;
        loop {
            let hidden = self.claims.hidden(word, side);
            hinted |= hidden;
            let seen = self.bits.peek(word);
            let free = seen.free() & (wanted & !hidden);
            if free != 0 {
                let bit = free.trailing_zeros();
                return Ok(Lowest { word, seen, bit });
            }
            word += 1;
            if word == LEAF_WORDS as u32 {
                return Err(hinted);
            }
            wanted = ALL;
        }
    }
}
