// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a set may have: its credits, and how many it ever took. Beside it the capacity of
//! a space, out of which sets reserve their quota up front.
//!
//! ```text
//!  63          42 41        21 20         0
//! +--------------+------------+------------+
//! | allocations  |    used    |   limit    |
//! +--------------+------------+------------+
//! ```
//!
//! | field | bits | meaning |
//! | --- | --- | --- |
//! | limit | 21 | the most credits that may be out at once |
//! | used | 21 | credits that are out |
//! | allocations | 22 | credits ever taken, modulo 2^22 |
//!
//! # Invariants
//! * **Q1** `used <= limit`. A credit is taken, and the limit changed, by compare-exchange
//!   of the whole word. So *quota exceeded* means that at one instant `used` was `limit`.
//! * **Q2** A credit that is out belongs to one caller, who gives it back once, by one
//!   subtraction. So `used` does not borrow from its neighbour.
//! * **Q3** `rounds` is how often the lower 21 bits of `allocations` came round, or one
//!   less: see below.
//!
//! # The number of allocations
//! Counting them in a word of their own would cost a second locked operation. They are
//! counted in the word that is exchanged anyway, and once in 2^21 allocations the lower
//! 21 bits come round; that round is counted in `rounds`. The upper bit of the field is
//! the last bit of the number of rounds, so whoever reads both words sees whether the
//! count of the last round is still missing. It cannot be two that are missing: who is
//! about to make a round counts the one before first, unless that is done. All do so by
//! compare-exchange from the number that they saw, so a round is counted once.
//!
//! A reader takes `rounds`, the word, and `rounds` again. Where both are equal, the word
//! is of that round or of the next, and its upper bit says of which. So the sum is exact
//! at the moment when the word was read, also beside running calls.
//!
//! # The wrap
//! Q3 fails if a thread stands between its load and its exchange for a multiple of 2^22
//! allocations, finds the same word again, makes a round with it, and the round before is
//! not counted just then. At one allocation in 10 ns that is 42 ms, to be met to the
//! allocation. The consequence would be a statistic that is wrong by 2^22.

#[cfg(loom)]
use crate::sync::planted;
use crate::sync::{AtomicU32, AtomicU64, Mutation, Ordering, const_unless_loom, mutated, unless};

#[cfg(loom)]
mod mutants;

const FIELD_BITS: u32 = 21;
const FIELD: u64 = (1 << FIELD_BITS) - 1;
const USED_SHIFT: u32 = FIELD_BITS;
/// Bits of the allocations below their upper one. The models meet rounds with fewer.
const COUNT_BITS: u32 = if cfg!(loom) { 2 } else { FIELD_BITS };
const COUNT: u64 = (1 << COUNT_BITS) - 1;
/// The upper bit of the allocations: the last bit of the number of rounds.
const ROUND_SHIFT: u32 = u64::BITS - 1;
const ALLOCATIONS_SHIFT: u32 = ROUND_SHIFT - COUNT_BITS;

/// One credit more in use.
const USED: u64 = 1 << USED_SHIFT;
/// One allocation more.
const ALLOCATION: u64 = 1 << ALLOCATIONS_SHIFT;

/// The highest limit. No set reaches it, since its scope has 2^20 PASIDs at most.
pub(crate) const LIMIT_LAST: u32 = FIELD as u32;

const _: () = assert!(
    cfg!(loom) || ALLOCATIONS_SHIFT == 2 * FIELD_BITS,
    "no field is wider"
);

/// One value of the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Credits(u64);

impl Credits {
    const fn limit(self) -> u32 {
        (self.0 & FIELD) as u32
    }

    const fn used(self) -> u32 {
        (self.0 >> USED_SHIFT & FIELD) as u32
    }

    /// Allocations since the last round.
    const fn allocations(self) -> u64 {
        self.0 >> ALLOCATIONS_SHIFT & COUNT
    }

    /// The last bit of the number of rounds.
    const fn round(self) -> u64 {
        self.0 >> ROUND_SHIFT
    }

    /// `count` more taken, or the limit if they are too many.
    const fn taken(self, count: u32) -> Result<Credits, u32> {
        // Saturating: a canary may have brought it above the limit.
        if count > self.limit().saturating_sub(self.used()) {
            return Err(self.limit());
        }
        // The allocations go on modulo 2^22, at the top of the word.
        let more = (USED + ALLOCATION).wrapping_mul(count as u64);
        Ok(Credits(self.0.wrapping_add(more)))
    }

    /// The same with another limit, or what is used if that is more.
    const fn limited(self, limit: u32) -> Result<Credits, u32> {
        if limit < self.used() {
            return Err(self.used());
        }
        Ok(Credits(self.0 & !FIELD | limit as u64))
    }
}

/// The credits of one set.
pub(crate) struct Quota {
    word: AtomicU64,
    rounds: AtomicU64,
    /// Credits that were taken and not used after all; see [`Quota::withdraw`].
    withdrawn: AtomicU64,
    high: AtomicU32,
}

impl Quota {
    const_unless_loom! {
        /// With all credits of `limit` in hand, or of [`LIMIT_LAST`].
        pub(crate) fn new(limit: u32) -> Quota {
            let limit = if limit > LIMIT_LAST { LIMIT_LAST } else { limit };
            Quota {
                word: AtomicU64::new(limit as u64),
                rounds: AtomicU64::new(0),
                withdrawn: AtomicU64::new(0),
                high: AtomicU32::new(0),
            }
        }
    }

    /// The same as a new one of `limit`, for a caller who is alone with it.
    pub(crate) fn renew(&self, limit: u32) {
        let new = Quota::new(limit);
        for (word, from) in [
            (&self.word, &new.word),
            (&self.rounds, &new.rounds),
            (&self.withdrawn, &new.withdrawn),
        ] {
            // Relaxed: the caller publishes it.
            word.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        // Relaxed: as above.
        self.high.store(0, Ordering::Relaxed);
    }

    /// The word, with everything that was done before it was written.
    #[inline(always)]
    fn credits(&self) -> Credits {
        // Acquire: pairs with the release of `take` and `give_back`: who is refused, or
        // told a number, sees what the takers did before they took, such as giving back
        // another PASID.
        Credits(self.word.load(Ordering::Acquire))
    }

    /// Takes a credit and counts an allocation. `Err` is the limit.
    ///
    /// Lock-free: it goes round only when another thread changed the word.
    #[inline]
    pub(crate) fn take(&self) -> Result<(), u32> {
        self.take_many(1)
    }

    /// Takes `count` credits or none, and counts as many allocations.
    ///
    /// Lock-free, as [`take`](Quota::take).
    #[inline]
    fn take_many(&self, count: u32) -> Result<(), u32> {
        #[cfg(loom)]
        if planted(Mutation::QuotaInTwoSteps) {
            return self.take_in_two_steps(count);
        }
        // AcqRel: acquire pairs with the release of `give_back`: who takes a credit that
        // came back sees the PASID given back before it. Release pairs with the acquire
        // of `credits`: who is refused because of this credit sees what came before it.
        let ordering = unless(Mutation::QuotaRelaxed, Ordering::AcqRel);
        let mut current = self.credits();
        loop {
            let next = current.taken(count)?;
            let round = next.round() != current.round();
            if round {
                self.settle_round_before();
            }
            // Failure Acquire: as in `credits`, since the word is judged again.
            match self.word.compare_exchange_weak(
                current.0,
                next.0,
                ordering,
                unless(Mutation::QuotaRelaxed, Ordering::Acquire),
            ) {
                Ok(_) => {
                    if round {
                        self.settle_round();
                    }
                    self.raise_high(next.used());
                    return Ok(());
                }
                Err(actual) => current = Credits(actual),
            }
        }
    }

    /// Before a round is made, the one before is counted: that is Q3.
    #[cold]
    fn settle_round_before(&self) {
        #[cfg(loom)]
        if planted(Mutation::RoundUnsettled) {
            return;
        }
        self.settle_round();
    }

    /// Counts the last round, unless that is done.
    ///
    /// Wait-free.
    #[cold]
    fn settle_round(&self) {
        // Acquire: pairs with the release below: whoever counted up to here had seen the
        // word after as many rounds, so the word read next is at least as new.
        let rounds = self.rounds.load(Ordering::Acquire);
        if self.credits().round() != rounds & 1 {
            // The word is at least one round further, and by Q3 not more as long as
            // `rounds` is what it was; if it is not, another thread has counted.
            // Release: pairs with the acquire above and in `allocations`. Failure
            // Relaxed: nothing is concluded.
            let _ = self.rounds.compare_exchange(
                rounds,
                rounds.wrapping_add(1),
                Ordering::Release,
                Ordering::Relaxed,
            );
        }
    }

    #[inline(always)]
    fn raise_high(&self, used: u32) {
        // Relaxed: a statistic, which publishes nothing. An old value costs a locked
        // operation that changes nothing; it never hides that the mark is exceeded,
        // since the mark only rises.
        if self.high.load(Ordering::Relaxed) < used {
            // Relaxed: as above.
            self.high.fetch_max(used, Ordering::Relaxed);
        }
    }

    /// Gives a credit back, after everything that it paid for. Returns how many are still
    /// out.
    ///
    /// Wait-free.
    #[inline]
    pub(crate) fn give_back(&self) -> u32 {
        self.give_back_many(1)
    }

    /// Gives `count` credits back. Returns how many are still out.
    ///
    /// Wait-free.
    #[inline]
    fn give_back_many(&self, count: u32) -> u32 {
        // AcqRel: release pairs with the acquire of `take`: what was given back before
        // the credit is visible to who takes it. Acquire pairs with the releases of all
        // others who gave back: who is told that nothing is out any more sees all that
        // they did, and may end the set.
        let ordering = unless(Mutation::QuotaRelaxed, Ordering::AcqRel);
        let less = u64::from(count) << USED_SHIFT;
        let used = Credits(self.word.fetch_sub(less, ordering)).used();
        debug_assert!(used >= count || mutated());
        used.wrapping_sub(count)
    }

    /// Gives back a credit that bought nothing, because the allocation failed: it was no
    /// allocation. Returns how many credits are still out.
    ///
    /// Wait-free.
    pub(crate) fn withdraw(&self) -> u32 {
        // Release: pairs with the acquire in `allocations`: who sees it withdrawn sees it
        // taken.
        self.withdrawn.fetch_add(1, Ordering::Release);
        self.give_back()
    }

    /// Sets the limit to `limit`, or to [`LIMIT_LAST`]. Returns the one before.
    /// `Err` is what is in use, if that is more than the new limit.
    ///
    /// Lock-free: it goes round only when another thread changed the word.
    pub(crate) fn adjust(&self, limit: u32) -> Result<u32, u32> {
        #[cfg(loom)]
        if planted(Mutation::AdjustForgetsUse) {
            return self.adjust_forgetting_use(limit);
        }
        let limit = limit.min(LIMIT_LAST);
        let mut current = self.credits();
        loop {
            let next = current.limited(limit)?;
            // AcqRel: acquire pairs with the release of `give_back`: who takes a part of
            // the limit away sees what the credits paid for given back. Release pairs
            // with the acquire of `take`: who takes a credit out of the new part sees
            // what came before it. Failure Acquire: as in `credits`.
            match self.word.compare_exchange_weak(
                current.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(current.limit()),
                Err(actual) => current = Credits(actual),
            }
        }
    }

    /// Credits that are out. An attempt in flight has one while it lasts.
    ///
    /// Wait-free.
    pub(crate) fn used(&self) -> u32 {
        self.credits().used()
    }

    /// The most credits that may be out.
    ///
    /// Wait-free.
    pub(crate) fn limit(&self) -> u32 {
        self.credits().limit()
    }

    /// The most credits that were ever out at once, attempts that failed included. A
    /// taker raises it before it returns.
    ///
    /// Wait-free.
    pub(crate) fn high_water(&self) -> u32 {
        // Relaxed: a statistic, which publishes nothing.
        self.high.load(Ordering::Relaxed)
    }

    /// How many credits were ever taken and not withdrawn. Beside running calls, an
    /// attempt in flight counts as an allocation, and one that fails meanwhile may.
    ///
    /// Lock-free: it goes round only when 2^21 allocations were made meanwhile.
    pub(crate) fn allocations(&self) -> u64 {
        // Acquire: pairs with the release of `withdraw`: what is subtracted is in what is
        // read next. So the difference is never too small.
        let withdrawn = self.withdrawn.load(Ordering::Acquire);
        // Acquire: pairs with the release of `settle_round`: the word that is read next
        // has made these rounds.
        let mut rounds = self.rounds.load(Ordering::Acquire);
        loop {
            let credits = self.credits();
            // Acquire: as above. The acquire of the word puts this load after it: a word
            // two rounds on was written by one who had seen a later number of rounds.
            let after = self.rounds.load(Ordering::Acquire);
            if after == rounds {
                let missing = (credits.round() ^ rounds) & 1;
                let rounds = rounds.wrapping_add(missing);
                let taken = (rounds << COUNT_BITS).wrapping_add(credits.allocations());
                return taken.wrapping_sub(withdrawn);
            }
            rounds = after;
        }
    }
}

/// What a space has to give to its sets: a total, and what of it is reserved.
///
/// ```text
///  63              32 31               0
/// +------------------+------------------+
/// |     reserved     |      total       |
/// +------------------+------------------+
/// ```
///
/// `reserved <= total`, by compare-exchange of the whole word. It has wider fields than a
/// [`Quota`], because a space has as many PASIDs as all its tables together.
pub(crate) struct Capacity(AtomicU64);

const RESERVED_SHIFT: u32 = 32;

impl Capacity {
    const_unless_loom! {
        /// Nothing of `total` is reserved.
        pub(crate) fn new(total: u32) -> Capacity {
            Capacity(AtomicU64::new(total as u64))
        }
    }

    fn both(word: u64) -> (u32, u32) {
        ((word >> RESERVED_SHIFT) as u32, word as u32)
    }

    /// What is reserved, and the total.
    ///
    /// Wait-free.
    pub(crate) fn reserved_of(&self) -> (u32, u32) {
        // Acquire: pairs with the release of `give_back`: who sees a part free sees that
        // the set which had it is gone.
        Capacity::both(self.0.load(Ordering::Acquire))
    }

    /// Reserves `count`. `Err` is what is left, if that is less.
    ///
    /// Lock-free: it goes round only when another thread changed the word.
    pub(crate) fn reserve(&self, count: u32) -> Result<(), u32> {
        self.advance(|reserved, total| {
            let left = total - reserved;
            if count > left {
                return Err(left);
            }
            Ok((reserved + count, total))
        })
    }

    /// Gives back a part that was reserved.
    ///
    /// Wait-free.
    pub(crate) fn give_back(&self, count: u32) {
        let less = u64::from(count) << RESERVED_SHIFT;
        // Release: pairs with the acquire of `advance`: who reserves this part sees that
        // the set which had it is gone.
        let (reserved, _) = Capacity::both(self.0.fetch_sub(less, Ordering::Release));
        debug_assert!(reserved >= count);
    }

    fn advance(&self, step: impl Fn(u32, u32) -> Result<(u32, u32), u32>) -> Result<(), u32> {
        // Acquire: as in `reserved_of`, for who is refused.
        let mut current = self.0.load(Ordering::Acquire);
        loop {
            let (reserved, total) = Capacity::both(current);
            let (reserved, total) = step(reserved, total)?;
            let next = u64::from(reserved) << RESERVED_SHIFT | u64::from(total);
            // AcqRel: acquire as in `reserved_of`; release pairs with it: who is refused
            // sees what came before the reservation. Failure Acquire: as above.
            match self
                .0
                .compare_exchange_weak(current, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok(()),
                Err(actual) => current = actual,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
