// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deliberate faults: the check that passes the other entry points has to fail
//! each of these, or it shows nothing.

use alloc::boxed::Box;

/// An index that the compiler cannot prove to be in bounds.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_canary_panic(table: &[u8; 16], index: usize) -> u8 {
    table[index]
}

/// An allocation.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_canary_allocate(word: u64) -> *mut u64 {
    Box::into_raw(Box::new(word))
}

/// A copy too long for a few instructions, for which the compiler calls a
/// function of its own.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_canary_copy(from: &[u8; 4096], to: &mut [u8; 4096]) {
    *to = *from;
}
