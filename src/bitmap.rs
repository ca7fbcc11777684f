// SPDX-License-Identifier: MIT OR Apache-2.0
//! The allocation bits of one leaf: the truth about who holds a PASID.
//!
//! ```text
//!  63          32 31           0
//! +--------------+--------------+
//! |   version    |     bits     |   one word, LEAF_WORDS of them in a cache line
//! +--------------+--------------+
//! ```
//!
//! | field | meaning |
//! | --- | --- |
//! | bits | bit *i* set: PASID *i* of the word is held, reserved or retired |
//! | version | number of bits given back so far, modulo 2^32 |
//!
//! # Protocol
//! A bit is taken by a compare-exchange that sets it, or by a `fetch_or`: of all who
//! set it, the one that saw it clear owns it. It is given back with one addition of `2^32 - bit`, which clears the
//! bit and advances the version in the same step.
//!
//! # Invariants
//! * **I1** Only the owner of a set bit clears it, and once. So the subtraction
//!   of the bit never borrows, and the version counts exactly the releases.
//! * **I2** While a bit stays set, its slot belongs to whoever set it.
//! * **I3** A word that holds the same version at two instants had no bit given
//!   back in between: a bit that was set at both was set throughout.
//!
//! # The wrap
//! I3 fails if exactly 2^32 bits of one word are given back between two loads of
//! one search, and its sum over the words of a request if as many are given back in
//! all of them together: 4.3 seconds at 10^9 releases a second, while the searching
//! thread stands still. The consequence would be one wrong *exhausted*; no PASID is
//! lost or handed out twice.

#[cfg(loom)]
use crate::sync::planted;
use crate::sync::{AtomicU64, Event, Mutation, Ordering, met, mutated, unless};

#[cfg(loom)]
mod mutants;

/// Allocation bits in one word.
#[cfg(not(loom))]
pub(crate) const WORD_BITS: u32 = 32;
/// Words in one leaf.
#[cfg(not(loom))]
pub(crate) const LEAF_WORDS: usize = 8;

// A model runs the same code on a tree small enough to explore.
#[cfg(loom)]
pub(crate) const WORD_BITS: u32 = 2;
#[cfg(loom)]
pub(crate) const LEAF_WORDS: usize = 2;

/// PASIDs in one leaf.
pub(crate) const LEAF_PASIDS: u32 = WORD_BITS * LEAF_WORDS as u32;

/// Every bit of a word.
pub(crate) const ALL: u32 = if WORD_BITS == 32 {
    u32::MAX
} else {
    (1 << WORD_BITS) - 1
};
const VERSION_SHIFT: u32 = 32;

const _: () = {
    assert!(WORD_BITS <= VERSION_SHIFT, "bits and version share 64 bits");
    assert!(WORD_BITS.is_power_of_two() && LEAF_WORDS.is_power_of_two());
    // The words of a leaf are one cache line.
    assert!(cfg!(loom) || size_of::<Bitmap>() == 64);
};

/// What one load of a word said.
#[derive(Clone, Copy)]
pub(crate) struct Seen(u64);

impl Seen {
    #[inline(always)]
    pub(crate) const fn free(self) -> u32 {
        !(self.0 as u32) & ALL
    }

    #[inline(always)]
    pub(crate) const fn version(self) -> u32 {
        (self.0 >> VERSION_SHIFT) as u32
    }
}

/// The allocation bits of one leaf. Positions are `0 ..= LEAF_PASIDS - 1`.
#[repr(align(64))]
pub(crate) struct Bitmap {
    words: [AtomicU64; LEAF_WORDS],
}

/// The bits `first ..= last` of word `word`, where `first ..= last` are
/// positions in the leaf.
#[inline(always)]
pub(crate) const fn mask(word: u32, first: u32, last: u32) -> u32 {
    let base = word * WORD_BITS;
    let mut mask = ALL;
    if first > base {
        mask &= ALL << (first - base);
    }
    if last < base + (WORD_BITS - 1) {
        mask &= ALL >> (base + (WORD_BITS - 1) - last);
    }
    mask
}

impl Bitmap {
    /// A bitmap in which exactly the bits that `held` says are set, word by word.
    pub(crate) fn new(held: impl Fn(u32) -> u32) -> Bitmap {
        Bitmap {
            words: core::array::from_fn(|word| AtomicU64::new(u64::from(held(word as u32)))),
        }
    }

    #[inline(always)]
    fn word(&self, word: u32) -> &AtomicU64 {
        // The remainder is by a power of two: it costs nothing where the index is
        // in range, as it always is, and leaves no panic behind.
        &self.words[word as usize % LEAF_WORDS]
    }

    #[inline(always)]
    fn see(&self, word: u32, ordering: Ordering) -> Seen {
        // Ordering: chosen and argued for by the caller.
        Seen(self.word(word).load(ordering))
    }

    /// Takes the bit at `position`. `false` if it was set already.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn take(&self, position: u32) -> bool {
        #[cfg(loom)]
        if planted(Mutation::TakeInTwoSteps) {
            return self.take_in_two_steps(position);
        }
        let word = self.word(position / WORD_BITS);
        let bit = 1u64 << (position % WORD_BITS);
        // AcqRel. Acquire pairs with the release of `give_back`: what the last
        // holder wrote, its slot's dead state included, is visible to this one.
        // Release pairs with the acquire loads of `scan`: a thread that frees x
        // and then takes y shows the free of x to whoever sees y taken, else two
        // equal scans could miss that one of the two was always free.
        let old = word.fetch_or(bit, unless(Mutation::TakeRelaxed, Ordering::AcqRel));
        old & bit == 0
    }

    /// Takes the lowest free bit of `first ..= last`, if there is one.
    ///
    /// `None` is a hint: bits may have been given back behind the search.
    /// Lock-free: it goes round only when another thread changed a word.
    #[inline(always)]
    pub(crate) fn take_lowest(&self, first: u32, last: u32) -> Option<u32> {
        let last_word = last / WORD_BITS;
        let mut word = first / WORD_BITS;
        let mut mask = ALL << (first % WORD_BITS) & ALL;
        loop {
            if word == last_word {
                mask &= ALL >> (WORD_BITS - 1 - last % WORD_BITS);
            }
            if let Some(bit) = self.take_lowest_of(word, mask) {
                return Some(word * WORD_BITS + bit);
            }
            if word == last_word {
                return None;
            }
            word += 1;
            mask = ALL;
        }
    }

    /// Takes the lowest free bit of `mask` in one word.
    ///
    /// By compare-exchange: the word is at hand, and where no other thread is about
    /// it is 3 ns faster than setting a bit by its index and looking at what it was.
    #[inline(always)]
    fn take_lowest_of(&self, word: u32, mask: u32) -> Option<u32> {
        // Relaxed: only chooses which bit to try; the exchange decides.
        let mut seen = self.see(word, Ordering::Relaxed);
        loop {
            let free = seen.free() & mask;
            if free == 0 {
                return None;
            }
            let bit = free.trailing_zeros();
            #[cfg(loom)]
            if planted(Mutation::TakeInTwoSteps) {
                return self
                    .take_in_two_steps(word * WORD_BITS + bit)
                    .then_some(bit);
            }
            // AcqRel: as in `take`. Failure Relaxed: as the load above.
            let taking = unless(Mutation::TakeRelaxed, Ordering::AcqRel);
            let taken = Seen(seen.0 | 1 << bit);
            match self
                .word(word)
                .compare_exchange_weak(seen.0, taken.0, taking, Ordering::Relaxed)
            {
                Ok(_) => return Some(bit),
                Err(now) => {
                    if now & 1 << bit != 0 {
                        met(Event::BitLost);
                    }
                    seen = Seen(now);
                }
            }
        }
    }

    /// One word, to choose a bit of it for [`Bitmap::take_of`].
    #[inline(always)]
    pub(crate) fn peek(&self, word: u32) -> Seen {
        // Relaxed: only chooses which bit to try; the exchange decides.
        self.see(word, Ordering::Relaxed)
    }

    /// Takes bit `bit` of the word that was `seen`, in which it is clear, or says what
    /// the word is now.
    ///
    /// Wait-free. It fails only if another thread changed the word.
    #[inline(always)]
    pub(crate) fn take_of(&self, word: u32, seen: Seen, bit: u32) -> Result<(), Seen> {
        #[cfg(loom)]
        if planted(Mutation::TakeInTwoSteps) {
            let took = self.take_in_two_steps(word * WORD_BITS + bit);
            return took.then_some(()).ok_or(self.peek(word));
        }
        // AcqRel: as in `take`. Failure Relaxed: as in `peek`.
        let taking = unless(Mutation::TakeRelaxed, Ordering::AcqRel);
        let taken = seen.0 | 1 << bit;
        match self
            .word(word)
            .compare_exchange(seen.0, taken, taking, Ordering::Relaxed)
        {
            Ok(_) => Ok(()),
            Err(now) => {
                if now & 1 << bit != 0 {
                    met(Event::BitLost);
                }
                Err(Seen(now))
            }
        }
    }

    /// One word, for a scan over the words of several trees.
    #[inline(always)]
    pub(crate) fn look(&self, word: u32) -> Seen {
        // Acquire: as in `scan`.
        self.see(word, unless(Mutation::ScanRelaxed, Ordering::Acquire))
    }

    /// The sum of the versions that [`Bitmap::scan`] adds up, whatever is free.
    pub(crate) fn versions(&self, first: u32, last: u32) -> u64 {
        (first / WORD_BITS..=last / WORD_BITS)
            .map(|word| u64::from(self.look(word).version()))
            .sum()
    }

    /// Gives back the bit at `position`, which the caller owns (I1).
    ///
    /// Wait-free. The caller looks at the full marks afterwards.
    #[inline(always)]
    pub(crate) fn give_back(&self, position: u32) {
        let bit = 1u64 << (position % WORD_BITS);
        // SeqCst. Its release half pairs with the acquire of `take` (the next
        // owner sees what this one wrote) and of `scan`. Its acquire half puts
        // this release after every release of the same word that it follows, so
        // that three threads passing PASIDs along cannot look full to a fourth.
        // As a sequentially consistent operation it comes before the caller's
        // load of the full marks, against `mark` in the tree.
        let ordering = unless(Mutation::GiveBackRelaxed, Ordering::SeqCst);
        let old = self
            .word(position / WORD_BITS)
            .fetch_add((1 << VERSION_SHIFT) - bit, ordering);
        debug_assert!(
            old & bit != 0 || mutated(),
            "a bit is given back by its owner (I1)"
        );
    }

    /// Gives back the `bits` of one word, all of which the caller owns, in one step. Not
    /// none of them.
    ///
    /// Wait-free. The caller looks at the full marks afterwards.
    pub(crate) fn give_back_bits(&self, word: u32, bits: u32) {
        let more = u64::from(bits.count_ones()) << VERSION_SHIFT;
        // SeqCst: as in `give_back`, for each of them.
        let ordering = unless(Mutation::GiveBackRelaxed, Ordering::SeqCst);
        let old = self
            .word(word)
            .fetch_add(more.wrapping_sub(u64::from(bits)), ordering);
        debug_assert!(
            old as u32 & bits == bits || mutated(),
            "bits are given back by their owner (I1)"
        );
    }

    /// Whether every bit of the leaf was set, each at the moment it was looked at.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        // SeqCst: the load of the store-load pair between `mark` in the tree
        // and `give_back`; see `order_store_before_load`.
        (0..LEAF_WORDS as u32).all(|word| self.see(word, Ordering::SeqCst).free() == 0)
    }

    /// One scan of `first ..= last` for exactness: the sum of the versions of
    /// the words looked at, or `None` if something is free.
    ///
    /// Versions only grow, so two equal sums mean that each version was equal.
    #[inline(always)]
    pub(crate) fn scan(&self, first: u32, last: u32) -> Option<u64> {
        // Acquire: pairs with the release of `take` and `give_back`. What a
        // thread did before it took a bit seen here is seen by the next scan.
        let ordering = unless(Mutation::ScanRelaxed, Ordering::Acquire);
        let (mut held, mut versions) = (u64::MAX, 0);
        if first == 0 && last == LEAF_PASIDS - 1 {
            // The most of a large request, without branches.
            for word in &self.words {
                let seen = Seen(word.load(ordering));
                held &= seen.0;
                versions += u64::from(seen.version());
            }
        } else {
            for word in first / WORD_BITS..=last / WORD_BITS {
                let seen = self.see(word, ordering);
                held &= seen.0 | u64::from(!mask(word, first, last));
                versions += u64::from(seen.version());
            }
        }
        (Seen(held).free() == 0).then_some(versions)
    }

    /// The first set bit of `first ..= last`, if there is one.
    #[inline]
    pub(crate) fn first_set(&self, first: u32, last: u32) -> Option<u32> {
        (first / WORD_BITS..=last / WORD_BITS).find_map(|word| {
            // Acquire: pairs with the release of `give_back`. A set bit is a hint, and
            // the slot's state is what counts; but who is told that nothing is live
            // here knows that it ended, and so sees what came before that.
            let ordering = unless(Mutation::ListRelaxed, Ordering::Acquire);
            let set = !self.see(word, ordering).free() & mask(word, first, last);
            (set != 0).then(|| word * WORD_BITS + set.trailing_zeros())
        })
    }

    /// Whether exactly the bits that `held` says are set, word by word.
    pub(crate) fn equals(&mut self, held: impl Fn(u32) -> u32) -> bool {
        // Relaxed: `&mut self` excludes every other thread.
        (0..LEAF_WORDS as u32)
            .all(|word| !self.see(word, Ordering::Relaxed).free() & ALL == held(word))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn empty() -> Bitmap {
        Bitmap::new(|_| 0)
    }

    #[test]
    fn masks_are_inclusive_on_both_ends() {
        assert_eq!(mask(0, 0, 255), u32::MAX);
        assert_eq!(mask(0, 0, 0), 1);
        assert_eq!(mask(0, 31, 32), 1 << 31);
        assert_eq!(mask(1, 31, 32), 1);
        assert_eq!(mask(7, 255, 255), 1 << 31);
        assert_eq!(mask(3, 97, 126), u32::MAX >> 2 << 2 >> 1 & !1);
    }

    #[test]
    fn takes_the_lowest_free_bit_of_the_range() {
        let bitmap = empty();
        assert_eq!(bitmap.take_lowest(40, 42), Some(40));
        assert_eq!(bitmap.take_lowest(40, 42), Some(41));
        assert_eq!(bitmap.take_lowest(40, 42), Some(42));
        assert_eq!(bitmap.take_lowest(40, 42), None);
        bitmap.give_back(41);
        assert_eq!(bitmap.take_lowest(40, 42), Some(41));
        assert_eq!(bitmap.take_lowest(0, 255), Some(0));
    }

    #[test]
    fn a_release_clears_one_bit_and_advances_the_version_by_one() {
        let bitmap = empty();
        for position in 0..32 {
            assert!(bitmap.take(position));
            assert!(!bitmap.take(position));
        }
        assert_eq!(bitmap.scan(0, 31), Some(0));
        for position in [31, 0, 17] {
            bitmap.give_back(position);
        }
        // Relaxed: one thread.
        let seen = bitmap.see(0, Ordering::Relaxed);
        assert_eq!((seen.free(), seen.version()), (1 << 31 | 1 | 1 << 17, 3));
        assert_eq!(bitmap.scan(0, 31), None);
        assert_eq!(bitmap.scan(1, 16), Some(3));
    }

    #[test]
    fn full_means_every_bit_of_every_word() {
        let bitmap = empty();
        for position in 0..LEAF_PASIDS {
            assert!(!bitmap.is_full());
            assert!(bitmap.take(position));
        }
        assert!(bitmap.is_full());
        for position in 0..LEAF_PASIDS {
            bitmap.give_back(position);
            assert!(!bitmap.is_full());
            assert!(bitmap.take(position));
        }
    }

    #[test]
    fn finds_set_bits_in_order() {
        let mut bitmap = empty();
        assert_eq!(bitmap.first_set(0, 255), None);
        for position in [3, 64, 255] {
            assert!(bitmap.take(position));
        }
        assert_eq!(bitmap.first_set(0, 255), Some(3));
        assert_eq!(bitmap.first_set(4, 255), Some(64));
        assert_eq!(bitmap.first_set(65, 254), None);
        assert_eq!(bitmap.first_set(65, 255), Some(255));
        assert!(bitmap.equals(|word| match word {
            0 => 1 << 3,
            2 => 1,
            7 => 1 << 31,
            _ => 0,
        }));
    }
}
