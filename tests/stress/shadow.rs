// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the test itself knows of who holds what, beside the space and without it.
//!
//! Every access here is relaxed: whatever order the checks need must come from
//! the space, and a space that does not give it fails them.

use pasid::Handle;
use std::sync::atomic::{AtomicU64, Ordering};

/// The word of an allocation whose owner has not yet put its own there.
pub const UNSET: u64 = 0;

/// What holders turn the owner's word into, and back.
pub const FLIP: u64 = 1 << 63;

/// The word that the owner of `handle` puts there. No other allocation has it.
pub fn word_of(handle: Handle) -> u64 {
    // An odd multiplier keeps it one to one; the top bit is for FLIP.
    (handle.to_raw().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1) & !FLIP
}

/// Fails if `word` cannot be that of `handle`'s allocation.
#[track_caller]
pub fn check_word(handle: Handle, word: u64) {
    assert!(
        word == UNSET || word & !FLIP == word_of(handle),
        "broken: the word {word:#x} is of another allocation than {handle}"
    );
}

/// One PASID.
#[derive(Default)]
struct Entry {
    /// Generation in the upper half, number of holders in the lower.
    holders: AtomicU64,
    /// One more than the generation of the newest allocation.
    newest: AtomicU64,
}

/// Who holds the PASIDs `0 ..= count - 1`.
pub struct Shadow(Vec<Entry>);

impl Shadow {
    pub fn new(count: u32) -> Shadow {
        Shadow((0..count).map(|_| Entry::default()).collect())
    }

    fn entry(&self, handle: Handle) -> &Entry {
        &self.0[handle.pasid().get() as usize]
    }

    /// An allocation returned `handle`: nobody had it before, nobody else has
    /// the PASID.
    #[track_caller]
    pub fn allocated(&self, handle: Handle) {
        let newest = u64::from(handle.generation()) + 1;
        let before = self.entry(handle).newest.swap(newest, Ordering::Relaxed);
        assert!(before < newest, "broken: {handle} was handed out twice");
        self.acquired(handle);
    }

    /// The caller has got a reference to `handle`'s allocation.
    #[track_caller]
    pub fn acquired(&self, handle: Handle) {
        let generation = u64::from(handle.generation()) << 32;
        let holders = &self.entry(handle).holders;
        let mut now = holders.load(Ordering::Relaxed);
        loop {
            let (other, count) = (now & !u64::from(u32::MAX), now & u64::from(u32::MAX));
            assert!(
                count == 0 || other == generation,
                "broken: {handle} is held, and so is generation {} of its PASID",
                other >> 32
            );
            let next = generation | (count + 1);
            match holders.compare_exchange_weak(now, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(actual) => now = actual,
            }
        }
    }

    /// The caller is about to give back a reference to `handle`'s allocation.
    #[track_caller]
    pub fn releasing(&self, handle: Handle) {
        let before = self.entry(handle).holders.fetch_sub(1, Ordering::Relaxed);
        assert_eq!(
            before >> 32,
            u64::from(handle.generation()),
            "broken: {handle} is over while it is held"
        );
        assert_ne!(before as u32, 0, "broken: {handle} has no holder");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(number: u64, generation: u64) -> Handle {
        Handle::from_raw(generation << 32 | 1 << 20 | number).unwrap()
    }

    #[test]
    fn the_shadow_accepts_an_orderly_life() {
        let shadow = Shadow::new(2);
        for generation in 0..3 {
            let of = handle(1, generation);
            shadow.allocated(of);
            shadow.acquired(of);
            shadow.releasing(of);
            shadow.releasing(of);
            check_word(of, UNSET);
            check_word(of, word_of(of));
            check_word(of, word_of(of) ^ FLIP);
        }
    }

    #[test]
    #[should_panic(expected = "handed out twice")]
    fn the_shadow_notices_one_allocation_handed_out_twice() {
        let shadow = Shadow::new(2);
        shadow.allocated(handle(1, 5));
        shadow.allocated(handle(1, 5));
    }

    #[test]
    #[should_panic(expected = "and so is generation 5")]
    fn the_shadow_notices_a_pasid_allocated_while_it_is_held() {
        let shadow = Shadow::new(2);
        shadow.allocated(handle(1, 5));
        shadow.allocated(handle(1, 6));
    }

    #[test]
    #[should_panic(expected = "has no holder")]
    fn the_shadow_notices_a_reference_given_back_twice() {
        let shadow = Shadow::new(2);
        shadow.allocated(handle(1, 5));
        shadow.releasing(handle(1, 5));
        shadow.releasing(handle(1, 5));
    }

    #[test]
    #[should_panic(expected = "of another allocation")]
    fn the_shadow_notices_the_word_of_an_earlier_allocation() {
        check_word(handle(1, 6), word_of(handle(1, 5)));
    }
}
