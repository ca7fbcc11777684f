// SPDX-License-Identifier: MIT OR Apache-2.0
//! A global allocator that counts, and that can be told to fail.
//!
//! Everything is kept for each thread by itself, so that tests that run side by
//! side do not see each other's memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

/// What one thread asked of the allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calls {
    pub allocated: u64,
    pub freed: u64,
    /// Allocations that were refused, as told.
    pub refused: u64,
    /// Bytes that were allocated and not freed. Below zero on a thread that frees
    /// what others allocated.
    pub live_bytes: i64,
}

thread_local! {
    static CALLS: Cell<Calls> = const {
        Cell::new(Calls { allocated: 0, freed: 0, refused: 0, live_bytes: 0 })
    };
    /// How many more allocations succeed; `None` means all.
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The allocator: `#[global_allocator]` in the test program that wants it.
pub struct Instrumented;

// SAFETY: every call goes to the system's allocator unchanged, or returns null,
// which the trait allows; what is kept beside has no destructor and allocates
// nothing.
unsafe impl GlobalAlloc for Instrumented {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !admitted() {
            count(|calls| calls.refused += 1);
            return std::ptr::null_mut();
        }
        count(|calls| {
            calls.allocated += 1;
            calls.live_bytes += layout.size() as i64;
        });
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(|calls| {
            calls.freed += 1;
            calls.live_bytes -= layout.size() as i64;
        });
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

fn admitted() -> bool {
    LEFT.with(|left| match left.get() {
        Some(0) => false,
        Some(more) => {
            left.set(Some(more - 1));
            true
        }
        None => true,
    })
}

fn count(change: impl FnOnce(&mut Calls)) {
    CALLS.with(|calls| {
        let mut now = calls.get();
        change(&mut now);
        calls.set(now);
    });
}

/// What this thread has asked so far.
pub fn calls() -> Calls {
    CALLS.with(Cell::get)
}

/// Runs `work` and returns its result with what it asked of the allocator.
pub fn counted<T>(work: impl FnOnce() -> T) -> (T, Calls) {
    let before = calls();
    let result = work();
    let after = calls();
    let asked = Calls {
        allocated: after.allocated - before.allocated,
        freed: after.freed - before.freed,
        refused: after.refused - before.refused,
        live_bytes: after.live_bytes - before.live_bytes,
    };
    (result, asked)
}

/// Runs `work`, and asserts that it asked nothing of the allocator.
#[track_caller]
pub fn without_allocator<T>(call: &str, work: impl FnOnce() -> T) -> T {
    let (result, asked) = counted(|| black_box(work()));
    assert_eq!(asked, Calls::default(), "{call}");
    result
}

/// Runs `work` in which only the first `more` allocations of this thread succeed.
///
/// `work` must not panic while there is no memory for the message: it returns
/// what it saw, and the test asserts afterwards.
pub fn with_memory_for<T>(more: u64, work: impl FnOnce() -> T) -> T {
    LEFT.with(|left| left.set(Some(more)));
    let result = work();
    LEFT.with(|left| left.set(None));
    result
}
