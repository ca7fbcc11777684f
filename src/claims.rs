// SPDX-License-Identifier: MIT OR Apache-2.0
//! Claims: which side holds a value, in a space where global PASIDs and those of tables
//! stand beside each other.
//!
//! ```text
//!  63          32   31   30           0
//! +--------------+------+--------------+
//! |   version    |global|    count     |   one word for each value
//! +--------------+------+--------------+
//! ```
//!
//! | field | bits | meaning |
//! | --- | --- | --- |
//! | count | 31 | local and group allocations of the value, attempts included |
//! | global | 1 | a global allocation of the value, or its attempt |
//! | version | 32 | claims given back so far, modulo 2^32 |
//!
//! # Protocol
//! A global claim is entered by one exchange from *none*, a local one by an exchange that
//! adds one where *global* is not set: the contest of the two sides is one step on one
//! word. A claim is given back with one addition, which advances the version in the same
//! step.
//!
//! *Hints* let a search step over what the other side holds. For each side there is one
//! bit a value (*the other side's claim stands here*, or it is reserved for good), one a
//! leaf (all values of it are hinted at), and one a node. A search that failed sets them
//! and looks again; whoever
//! gives a claim back looks at all three afterwards and clears what it finds. The pairs
//! are those of the full marks (`marks.rs`): a wrong hint does not outlive the calls that
//! caused it, and exactness does not rest on hints.
//!
//! # Invariants
//! * **C1** Never *global* and a count above zero at once.
//! * **C2** Who entered a claim gives it back, and once. So the subtraction never borrows.
//! * **C3** A word that holds the same version at two instants had no claim given back in
//!   between: a claim that stood at both stood throughout.
//!
//! # The wrap
//! C3 fails if exactly 2^32 claims of one value are given back between two loads of one
//! search, or as many in all of its request: 4.3 seconds at 10^9 releases a second. The
//! consequence would be one wrong *exhausted*. The count does not wrap: a claim that it
//! has no room for is refused.

use crate::bitmap::{ALL, LEAF_WORDS, WORD_BITS};
use crate::pasid::PasidWidth;
use crate::radix::{Place, held_in_new};
use crate::range::PasidRange;
use crate::sparse::{Build, Node, Sparse};
use crate::sync::{
    AtomicU32, AtomicU64, Mutation, Ordering, const_unless_loom, mutated, planted, unless,
};

mod hints;
#[cfg(loom)]
mod mutants;

const VERSION_SHIFT: u32 = 32;
const RELEASED: u64 = 1 << VERSION_SHIFT;
const GLOBAL: u64 = 1 << 31;
/// The highest count, and the mask of its field.
const COUNT_LAST: u64 = GLOBAL - 1;

const _: () = {
    assert!(
        COUNT_LAST | GLOBAL == RELEASED - 1,
        "the fields fill the word"
    );
    assert!(cfg!(loom) || size_of::<ClaimLeaf>() == 64 + 2048);
};

/// Who asks for a value, or claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The sets of one table, and the groups of several.
    Local = 0,
    /// The global sets.
    Global = 1,
}

impl Side {
    #[inline(always)]
    const fn other(self) -> Side {
        match self {
            Side::Local => Side::Global,
            Side::Global => Side::Local,
        }
    }

    /// One claim of this side in a claim word.
    #[inline(always)]
    const fn one(self) -> u64 {
        match self {
            Side::Local => 1,
            Side::Global => GLOBAL,
        }
    }
}

/// Why a claim was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opposed {
    /// A global allocation holds the value, or an attempt at one.
    HeldGlobally,
    /// Local or group allocations hold the value, or attempts at them.
    HeldLocally,
    /// As many local claims stand as the count has room for.
    TooManyClaims,
}

/// What one load of a claim said.
#[derive(Clone, Copy)]
pub(crate) struct Claim(u64);

impl Claim {
    #[inline(always)]
    const fn is_global(self) -> bool {
        self.0 & GLOBAL != 0
    }

    #[inline(always)]
    const fn count(self) -> u64 {
        self.0 & COUNT_LAST
    }

    /// Whether the other side's claim stands: what is hinted at.
    #[inline(always)]
    const fn stands_against(self, side: Side) -> bool {
        match side {
            Side::Local => self.is_global(),
            Side::Global => self.count() > 0,
        }
    }

    /// The same as [`Claim::admits`], in one comparison for the scans: *global* is above
    /// every count.
    #[inline(always)]
    pub(crate) const fn bars(self, side: Side) -> bool {
        let least = match side {
            Side::Local => COUNT_LAST,
            Side::Global => 1,
        };
        self.0 & (RELEASED - 1) >= least
    }

    /// Whether `side` could claim the value.
    ///
    /// A global claim also keeps other global attempts away: the claim is where they
    /// meet, the bit only follows it.
    #[inline(always)]
    pub(crate) const fn admits(self, side: Side) -> Result<(), Opposed> {
        if self.is_global() {
            return Err(Opposed::HeldGlobally);
        }
        match (side, self.count()) {
            (Side::Local, COUNT_LAST) => Err(Opposed::TooManyClaims),
            (Side::Local, _) | (Side::Global, 0) => Ok(()),
            (Side::Global, _) => Err(Opposed::HeldLocally),
        }
    }
}

/// The claims of 256 values, and the hints at them.
#[repr(align(64))]
pub(crate) struct ClaimLeaf {
    /// By side and word.
    hidden: [[AtomicU32; LEAF_WORDS]; 2],
    claims: [[AtomicU64; WORD_BITS as usize]; LEAF_WORDS],
}

impl Build for ClaimLeaf {
    // SAFETY: what the caller owes is said in `Build`; a whole value is written.
    unsafe fn build(place: *mut ClaimLeaf) {
        // SAFETY: `place` is valid for a ClaimLeaf, so its field is in bounds.
        let hidden = unsafe { &raw mut (*place).hidden }.cast::<AtomicU32>();
        // SAFETY: as for `hidden`.
        let claims = unsafe { &raw mut (*place).claims }.cast::<AtomicU64>();
        // Volatile, so that the compiler does not call `memset`; see `radix.rs`.
        for index in 0..2 * LEAF_WORDS {
            // SAFETY: `index` is below the number of hints in the nested array.
            let hint = unsafe { hidden.add(index) };
            // SAFETY: valid for writes, as part of `place`.
            unsafe { hint.write_volatile(AtomicU32::new(0)) };
        }
        for index in 0..LEAF_WORDS * WORD_BITS as usize {
            // SAFETY: `index` is below the number of claims in the nested array.
            let claim = unsafe { claims.add(index) };
            // SAFETY: valid for writes, as part of `place`.
            unsafe { claim.write_volatile(AtomicU64::new(0)) };
        }
    }
}

impl ClaimLeaf {
    #[inline(always)]
    fn claim(&self, position: u32) -> &AtomicU64 {
        // The remainders are by powers of two; see `Bitmap::word`.
        &self.claims[(position / WORD_BITS) as usize % LEAF_WORDS][(position % WORD_BITS) as usize]
    }

    #[inline(always)]
    fn hint(&self, word: u32, side: Side) -> &AtomicU32 {
        &self.hidden[side as usize % 2][word as usize % LEAF_WORDS]
    }

    /// The claim at `position`, to judge by or to enter from.
    #[inline(always)]
    pub(crate) fn look(&self, position: u32) -> Claim {
        // Acquire: pairs with the release of `enter_from` and `leave`: who is refused
        // sees what came before the claim that stands.
        Claim(self.claim(position).load(Ordering::Acquire))
    }

    /// Claims the value at `position` for `side`.
    ///
    /// Lock-free: it goes round only when another thread changed the claim.
    #[inline(always)]
    pub(crate) fn enter(&self, position: u32, side: Side) -> Result<(), Opposed> {
        let seen = self.look(position);
        seen.admits(side)?;
        self.enter_from(position, seen, side)
    }

    /// The same, by who has looked and was admitted.
    #[inline(always)]
    pub(crate) fn enter_from(
        &self,
        position: u32,
        mut seen: Claim,
        side: Side,
    ) -> Result<(), Opposed> {
        #[cfg(loom)]
        if planted(Mutation::ClaimInTwoSteps) {
            return self.enter_in_two_steps(position, seen, side);
        }
        loop {
            // AcqRel. Acquire pairs with the release half of `leave`: what the other
            // side's last holder wrote is visible to this one. Release pairs with the
            // acquire of `barred`: a thread that gives x back and then claims y shows the
            // first to whoever sees the second, else two equal scans could miss that one of
            // the two was always free. Failure Acquire: as in `look`.
            match self.claim(position).compare_exchange_weak(
                seen.0,
                seen.0 + side.one(),
                unless(Mutation::ClaimRelaxed, Ordering::AcqRel),
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(()),
                Err(now) => seen = Claim(now),
            }
            seen.admits(side)?;
        }
    }

    /// Gives back the claim of `side`, which the caller has entered (C2). Returns whether
    /// it was the last that stood against the other side.
    #[inline(always)]
    fn leave(&self, position: u32, side: Side) -> bool {
        let released = match planted(Mutation::ClaimReleaseUncounted) {
            true => 0,
            false => RELEASED,
        };
        // SeqCst. Its release half pairs with the acquire of `enter_from` and of `barred`;
        // its acquire half puts it after the releases of the same claim that it follows.
        // As a sequentially consistent operation it comes before the loads of the hints
        // in `unhide`, against `hide`.
        let ordering = unless(Mutation::ClaimReleaseRelaxed, Ordering::SeqCst);
        let left = released.wrapping_sub(side.one());
        let old = Claim(self.claim(position).fetch_add(left, ordering));
        debug_assert!(
            old.stands_against(side.other()) || mutated(),
            "a claim is given back by who entered it (C2)"
        );
        side == Side::Global || old.count() == 1
    }

    /// The values of a word that a search of `side` need not try.
    #[inline(always)]
    pub(crate) fn hidden(&self, word: u32, side: Side) -> u32 {
        // Relaxed: a hint, of which nothing is concluded.
        self.hint(word, side).load(Ordering::Relaxed)
    }

    /// Hints both sides at values of a word that are neither's.
    fn hint_at_reserved(&self, word: u32, values: u32) {
        for side in [Side::Local, Side::Global] {
            // Relaxed: a hint at what stays held. No claim is given back behind it.
            self.hint(word, side).fetch_or(values, Ordering::Relaxed);
        }
    }

    /// The `wanted` values of a word that `side` cannot claim, and the sum of the versions
    /// of all that are wanted.
    ///
    /// Those of values whose bit is set must be in it: a sum over what happened to be
    /// looked at is not one that only grows.
    #[inline]
    pub(crate) fn barred(&self, word: u32, wanted: u32, side: Side) -> (u32, u64) {
        let (mut barred, mut versions) = (0, 0);
        // All of the word, so that there is no branch; most requests want all of it.
        for (bit, claim) in (0..WORD_BITS).zip(&self.claims[word as usize % LEAF_WORDS]) {
            // Acquire: pairs with the release of `enter_from` and `leave`, as the scan of
            // the bits does.
            let claim = Claim(claim.load(unless(Mutation::ScanRelaxed, Ordering::Acquire)));
            barred |= u32::from(claim.bars(side)) << bit;
            versions += (claim.0 >> VERSION_SHIFT) * u64::from(wanted >> bit & 1);
        }
        if planted(Mutation::ScanForgetsClaims) {
            versions = 0;
        }
        (barred & wanted, versions)
    }

    /// The `wanted` values of a word against which the other side's claim stands.
    fn standing(&self, word: u32, wanted: u32, side: Side) -> u32 {
        (0..WORD_BITS)
            .filter(|bit| wanted & 1 << bit != 0)
            // SeqCst: the second look of the pair between `hide` and `release`.
            .filter(|bit| {
                let claim = self.claim(word * WORD_BITS + bit).load(Ordering::SeqCst);
                Claim(claim).stands_against(side)
            })
            .fold(0, |standing, bit| standing | 1 << bit)
    }

    fn is_hidden(&self, side: Side) -> bool {
        // SeqCst: the load of the store-load pair between the marking of the leaf in
        // `hide` and the clearing of a hint in `unhide`.
        (0..LEAF_WORDS as u32).all(|word| self.hint(word, side).load(Ordering::SeqCst) == ALL)
    }
}

/// One bit for each child of which everything is hidden, by side.
pub(crate) struct Marks([AtomicU64; 2]);

impl Marks {
    const_unless_loom! {
        fn new() -> Marks {
            Marks([AtomicU64::new(0), AtomicU64::new(0)])
        }
    }

    #[inline(always)]
    fn of(&self, side: Side) -> &AtomicU64 {
        &self.0[side as usize % 2]
    }
}

impl Build for Marks {
    // SAFETY: what the caller owes is said in `Build`; a whole value is written.
    unsafe fn build(place: *mut Marks) {
        // SAFETY: `place` is valid for writes of a Marks, as the caller promises.
        unsafe { place.write_volatile(Marks::new()) };
    }
}

/// The claims of 16,384 values.
pub(crate) type ClaimNode = Node<ClaimLeaf, Marks>;

/// The claims of a space. Without memory until grown; a value without memory is unclaimed.
pub(crate) struct Claims {
    tree: Sparse<ClaimLeaf, Marks>,
    /// What every tree of the space is built with as held.
    reserved: &'static [PasidRange],
}

/// The children of a node that a search of `side` need not try.
#[inline(always)]
pub(crate) fn hidden_leaves(node: &ClaimNode, side: Side) -> u64 {
    // Relaxed: a hint, of which nothing is concluded.
    node.marks.of(side).load(Ordering::Relaxed)
}

impl Claims {
    const_unless_loom! {
        pub(crate) fn new(reserved: &'static [PasidRange]) -> Claims {
            Claims {
                tree: Sparse::new(Marks::new()),
                reserved,
            }
        }
    }

    /// The leaf of the value `number`, built if missing. `None` if there is no memory.
    ///
    /// Lock-free.
    pub(crate) fn grow(&self, number: u32) -> Option<&ClaimLeaf> {
        let leaf = self.tree.grow(number)?;
        let place = Place::of(number);
        for word in 0..LEAF_WORDS as u32 {
            let held = held_in_new(PasidWidth::MAX, self.reserved, place.node, place.leaf, word);
            if held != 0 {
                // For good, and nobody claims it: so that a leaf in which the other side
                // has all the rest can be marked.
                leaf.hint_at_reserved(word, held);
            }
        }
        Some(leaf)
    }

    /// The leaf of the value `number`, if it is there.
    #[inline(always)]
    pub(crate) fn leaf_of(&self, number: u32) -> Option<&ClaimLeaf> {
        self.tree.leaf_of(number)
    }

    #[inline(always)]
    pub(crate) fn node(&self, node: u32) -> Option<&ClaimNode> {
        self.tree.node(node)
    }

    /// Bytes of all nodes and leaves.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.tree.memory_bytes()
    }

    /// The nodes that a search of `side` need not try.
    #[inline(always)]
    pub(crate) fn hidden_nodes(&self, side: Side) -> u64 {
        // Relaxed: a hint, of which nothing is concluded.
        self.tree.marks.of(side).load(Ordering::Relaxed)
    }

    /// Whether the other side's claim stands against `side` at `place`.
    pub(crate) fn stands_against(&self, place: Place, side: Side) -> bool {
        let leaf = self.node(place.node).and_then(|node| node.leaf(place.leaf));
        leaf.is_some_and(|leaf| leaf.look(place.position).stands_against(side))
    }

    /// How many local claims stand on the value `number`.
    pub(crate) fn standing(&self, number: u32) -> u64 {
        let leaf = self.leaf_of(number);
        leaf.map_or(0, |leaf| leaf.look(Place::of(number).position).count())
    }

    /// Where the claim of the value at `place` is, if there is memory for it.
    #[inline(always)]
    pub(crate) fn spot(&self, place: Place) -> Option<ClaimSpot<'_>> {
        let node = self.node(place.node)?;
        let leaf = node.leaf(place.leaf)?;
        Some(ClaimSpot { node, leaf, place })
    }

    /// Gives back the claim of `side` on the value `number`, which the caller has entered.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn release(&self, number: u32, side: Side) {
        let Some(spot) = self.spot(Place::of(number)) else {
            debug_assert!(false, "a claim was entered where there is memory");
            return;
        };
        let was_last = spot.leave(side);
        self.released(spot, side, was_last);
    }

    /// What is owed to the hints after a claim of `side` was given back. One that was not
    /// the last frees nothing for the other side.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn released(&self, spot: ClaimSpot<'_>, side: Side, was_last: bool) {
        let ClaimSpot { node, leaf, place } = spot;
        if was_last {
            let bit = 1 << (place.position % WORD_BITS);
            self.unhide(node, leaf, place, bit, side.other());
        }
    }
}

/// Where one claim is.
#[derive(Clone, Copy)]
pub(crate) struct ClaimSpot<'a> {
    node: &'a ClaimNode,
    leaf: &'a ClaimLeaf,
    place: Place,
}

impl ClaimSpot<'_> {
    /// Gives back the claim of `side`, which the caller has entered. Returns whether it was
    /// the last, which [`Claims::released`] is to be told.
    #[inline(always)]
    pub(crate) fn leave(&self, side: Side) -> bool {
        self.leaf.leave(self.place.position, side)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
