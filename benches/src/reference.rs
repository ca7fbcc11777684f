// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reference operations: the least that any implementation has to do.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

/// A word alone in its pair of cache lines.
#[derive(Default)]
#[repr(align(128))]
pub struct HotWord(AtomicU64);

impl HotWord {
    /// **R**: find a zero bit, compare-exchange it in, AND it out. No lock-free
    /// bitmap allocates and frees with less. The bit stays in a register: through memory,
    /// as an owner goes, the pair would take a quarter longer, and flatter the work.
    #[inline(always)]
    pub fn allocate_and_free(&self) {
        let bit = self.allocate();
        // Release: what an allocator needs to hand its writes to the next owner.
        self.0.fetch_and(!bit, Ordering::Release);
    }

    #[inline(always)]
    fn allocate(&self) -> u64 {
        // Relaxed: only chooses the bit; the exchange decides.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let bit = 1 << (!word).trailing_zeros();
            // Acquire: pairs with the release of whoever had the bit before.
            // Failure Relaxed: as the load above.
            match self.0.compare_exchange_weak(
                word,
                word | bit,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return bit,
                Err(now) => word = now,
            }
        }
    }

    /// **P**: one addition and one subtraction. No counted reference is taken and
    /// given back with less.
    #[inline(always)]
    pub fn count_up_and_down(&self) {
        // Relaxed: a new reference publishes nothing.
        self.0.fetch_add(1, Ordering::Relaxed);
        // Release: what a holder did comes before the count goes down.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// **I**: a plain load from an array by the same index.
#[inline(always)]
pub fn load(array: &[u64], index: usize) {
    black_box(array[index]);
}
