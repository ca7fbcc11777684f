// SPDX-License-Identifier: MIT OR Apache-2.0
//! A global allocator that knows how much of the heap is in use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counting.
pub struct Counting;

static BYTES_IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Bytes of the heap in use: what was given out, rounded up as the system does it,
/// and the word that it keeps beside each block.
pub fn bytes_in_use() -> usize {
    // Relaxed: a statistic, read by the thread that allocated.
    BYTES_IN_USE.load(Ordering::Relaxed)
}

#[cfg(target_os = "linux")]
fn block_bytes(block: *mut u8, _layout: Layout) -> usize {
    if block.is_null() {
        return 0;
    }
    // SAFETY: `block` is not null, and is of the system's allocator, which is the
    // C library's `malloc` or `posix_memalign`.
    size_of::<usize>() + unsafe { libc::malloc_usable_size(block.cast()) }
}

#[cfg(not(target_os = "linux"))]
fn block_bytes(block: *mut u8, layout: Layout) -> usize {
    if block.is_null() { 0 } else { layout.size() }
}

// SAFETY: every call is passed on to the system's allocator unchanged, which keeps
// the contract; the counting touches no block.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises, passed on.
        let block = unsafe { System.alloc(layout) };
        // Relaxed: a statistic, which publishes nothing.
        BYTES_IN_USE.fetch_add(block_bytes(block, layout), Ordering::Relaxed);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // Relaxed: as above.
        BYTES_IN_USE.fetch_sub(block_bytes(block, layout), Ordering::Relaxed);
        // SAFETY: the caller's promises, passed on.
        unsafe { System.dealloc(block, layout) };
    }
}
