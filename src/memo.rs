// SPDX-License-Identifier: MIT OR Apache-2.0
//! The remembered answer: a range that was found exhausted, until something is given
//! back.
//!
//! ```text
//!  63       42 41      40 39        20 19         0
//! +-----------+----------+------------+------------+
//! |   count   |  stage   |   first    |    last    |
//! +-----------+----------+------------+------------+
//! ```
//!
//! | field | bits | meaning |
//! | --- | --- | --- |
//! | first, last | 20 each | the range, inclusive |
//! | stage | 2 | see [`Stage`] |
//! | count | 22 | how often an answer or a proposal went, modulo 2^22 |
//!
//! # Protocol
//! An answer is *proposed* before the last scan, and *confirmed* by compare-exchange
//! after that scan has found the range full again. Whoever gives a bit back looks here
//! afterwards, and takes away what is there. In the single total order of sequentially
//! consistent operations, a release either comes before the proposal, and then the
//! scan sees it, or its look comes after, and then the proposal or the answer goes
//! before the release returns. With one stage in place of two, an answer would be
//! given out between the proposal and the scan that refutes it.
//!
//! # The wrap
//! A confirmation is for the proposal that it was made for, unless exactly 2^22 answers
//! went between the two, and the last proposal was for the same range. Each of them takes
//! a scan of its own: 0.2 seconds in all, at 50 ns for the shortest. The consequence would
//! be one range said to be exhausted until the next PASID is given back.

use crate::sync::{AtomicU64, Mutation, Ordering, const_unless_loom, fence_totally, planted};

const FIELD: u64 = (1 << 20) - 1;
const FIRST_SHIFT: u32 = 20;
const STAGE_SHIFT: u32 = 40;
const COUNT_SHIFT: u32 = 42;
/// One more in the count.
const FORGOTTEN: u64 = 1 << COUNT_SHIFT;
const RANGE: u64 = (1 << STAGE_SHIFT) - 1;

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Nothing = 0,
    Proposed = 1,
    Confirmed = 2,
}

const fn staged(word: u64, stage: Stage) -> u64 {
    word & !(3 << STAGE_SHIFT) | (stage as u64) << STAGE_SHIFT
}

const fn is(word: u64, stage: Stage) -> bool {
    word >> STAGE_SHIFT & 3 == stage as u64
}

/// At most one remembered answer.
pub(crate) struct Memo(AtomicU64);

/// An answer that waits for its last scan.
pub(crate) struct Proposal(u64);

impl Memo {
    const_unless_loom! {
        /// Nothing is remembered.
        pub(crate) fn new() -> Memo {
            Memo(AtomicU64::new(0))
        }
    }

    /// Whether `first ..= last` is known to be exhausted.
    ///
    /// Wait-free.
    #[inline(always)]
    pub(crate) fn answers(&self, first: u32, last: u32) -> bool {
        // SeqCst: an answer seen here was not yet taken away by a release, so that
        // release had not returned. Its acquire half pairs with `confirm`: who is told
        // so sees what the scan had seen.
        let word = self.0.load(Ordering::SeqCst);
        let (from, to) = (word >> FIRST_SHIFT & FIELD, word & FIELD);
        is(word, Stage::Confirmed) && from <= u64::from(first) && u64::from(last) <= to
    }

    /// Proposes to remember `first ..= last` in the place of what is there, before the
    /// scan that decides. `None` if another thread was faster.
    ///
    /// Wait-free.
    pub(crate) fn propose(&self, first: u32, last: u32) -> Option<Proposal> {
        let range = u64::from(first) << FIRST_SHIFT | u64::from(last);
        // Relaxed: only chooses what to exchange.
        let word = self.0.load(Ordering::Relaxed);
        let mut proposed = staged(word & !RANGE | range, Stage::Proposed);
        // Another thread's proposal is as good: it too is there before the next scan.
        if word != proposed {
            // A proposal or an answer that goes is counted like one that is forgotten.
            if !is(word, Stage::Nothing) {
                proposed = proposed.wrapping_add(FORGOTTEN);
            }
            let stage = match planted(Mutation::RememberAtOnce) {
                true => Stage::Confirmed,
                false => Stage::Proposed,
            };
            let staged = staged(proposed, stage);
            // SeqCst: before the fence in the total order. Failure Relaxed: nothing is
            // concluded.
            self.0
                .compare_exchange(word, staged, Ordering::SeqCst, Ordering::Relaxed)
                .ok()?;
        }
        // Puts the proposal before the loads of the scan that follows, which only
        // acquire. Pairs with `give_back`, then `forget`, which are sequentially
        // consistent operations: one of the two sees the other.
        fence_totally();
        Some(Proposal(proposed))
    }

    /// Confirms a proposal, after a scan that found the range full, unless something was
    /// given back meanwhile.
    ///
    /// Wait-free.
    pub(crate) fn confirm(&self, Proposal(proposed): Proposal) {
        // Release: pairs with the acquire of `answers`. Failure Relaxed: the answer is
        // forgotten, which is always right.
        let _ = self.0.compare_exchange(
            proposed,
            staged(proposed, Stage::Confirmed),
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// Forgets what is remembered or proposed, after a bit was given back.
    ///
    /// Wait-free: what is there changes at most once, from proposed to confirmed, without
    /// being counted. If the count moves, another thread has forgotten it, or proposed
    /// anew, after the bit was given back, and then its scan sees the bit.
    #[inline(always)]
    pub(crate) fn forget(&self) {
        // SeqCst: comes after the release of the bit in the total order; pairs with
        // `propose`.
        let word = self.0.load(Ordering::SeqCst);
        if !is(word, Stage::Nothing) {
            self.forget_seen(word);
        }
    }

    #[cold]
    fn forget_seen(&self, word: u64) {
        let forgotten = match planted(Mutation::ForgetUncounted) {
            true => staged(word, Stage::Nothing),
            false => staged(word, Stage::Nothing).wrapping_add(FORGOTTEN),
        };
        // Proposed first: what is there goes from proposed to confirmed, never back.
        for stage in [Stage::Proposed, Stage::Confirmed] {
            // SeqCst: taken away before the release returns. Failure SeqCst: as the load
            // in `forget`.
            let _ = self.0.compare_exchange(
                staged(word, stage),
                forgotten,
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_confirmed_and_until_forgotten() {
        let memo = Memo::new();
        let proposal = memo.propose(5, 900).unwrap();
        assert!(!memo.answers(5, 900));
        memo.confirm(proposal);
        for (first, last, known) in [
            (5, 900, true),
            (6, 6, true),
            (4, 900, false),
            (5, 901, false),
        ] {
            assert_eq!(memo.answers(first, last), known, "{first}..={last}");
        }
        memo.forget();
        assert!(!memo.answers(5, 900));
    }

    #[test]
    fn a_proposal_that_was_forgotten_is_not_confirmed() {
        let memo = Memo::new();
        let stale = memo.propose(0, 7).unwrap();
        memo.forget();
        // The same range again: another proposal, which the stale one does not stand for.
        let _fresh = memo.propose(0, 7).unwrap();
        memo.confirm(stale);
        assert!(!memo.answers(0, 7));
    }

    #[test]
    fn one_answer_has_the_place_and_equal_proposals_share_it() {
        let memo = Memo::new();
        let one = memo.propose(0, 7).unwrap();
        let same = memo.propose(0, 7).unwrap();
        memo.confirm(same);
        memo.confirm(one);
        assert!(memo.answers(0, 7));
    }

    #[test]
    fn a_proposal_takes_the_place_of_what_is_there_and_is_told_from_an_equal_one() {
        let memo = Memo::new();
        let left_behind = memo.propose(0, 7).unwrap();
        let other = memo.propose(0, 6).unwrap();
        memo.confirm(other);
        assert!(memo.answers(0, 6));
        let _again = memo.propose(0, 7).unwrap();
        memo.confirm(left_behind);
        assert!(!memo.answers(0, 7));
    }

    #[test]
    fn an_answer_of_another_range_is_not_taken_for_what_was_seen() {
        let memo = Memo::new();
        let first = memo.propose(0, 7).unwrap();
        let _other = memo.propose(1, 8).unwrap();
        // Relaxed: one thread.
        let seen = memo.0.load(Ordering::Relaxed);
        let again = memo.propose(0, 7).unwrap();
        // A release that saw the other range, and comes late.
        memo.forget_seen(seen);
        memo.confirm(first);
        assert!(!memo.answers(0, 7));
        memo.confirm(again);
        assert!(memo.answers(0, 7));
    }

    #[test]
    fn the_widest_range_and_the_wrap_of_the_count_stay_in_their_fields() {
        let memo = Memo::new();
        for _ in 0..(1 << 22) + 1 {
            let proposal = memo.propose(0, 0xF_FFFF).unwrap();
            memo.confirm(proposal);
            assert!(memo.answers(0, 0xF_FFFF));
            memo.forget();
            assert!(!memo.answers(0, 0));
        }
    }
}
