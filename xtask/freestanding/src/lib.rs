// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library's calls as plain functions with C names, in a program that has
//! nothing else.
//!
//! `cargo xtask freestanding` links them and looks at what is left undefined.
//! A panic that the compiler could not exclude refers to
//! [`pasid_panic_reached`], and an allocation to the two hooks; nobody defines
//! these three. [`data`] holds the calls that may reach neither, [`control`]
//! those that may allocate.
//!
//! The functions turn references and results into what C has, and nothing more:
//! whatever they refer to is the library's doing.
#![no_std]

extern crate alloc;

#[cfg(feature = "canary")]
pub mod canary;
pub mod control;
pub mod data;

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

use pasid::{Error, Pasid, PasidRange};

unsafe extern "C" {
    /// Returns zeroed memory, or null where there is none.
    fn pasid_hook_alloc(size: usize, align: usize) -> *mut u8;
    /// Takes memory back, with the size and alignment it was asked for.
    fn pasid_hook_free(memory: *mut u8, size: usize, align: usize);
    /// Stands for every panic. It is a name to find, not a function to call.
    safe fn pasid_panic_reached() -> !;
}

/// All memory comes from the two hooks.
struct Hooks;

#[global_allocator]
static HOOKS: Hooks = Hooks;

// SAFETY: the hooks have the same contract as these methods, and their
// allocation is zeroed, which is more than `alloc` promises.
unsafe impl GlobalAlloc for Hooks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises a size above zero, and a `Layout` has a
        // power of two as its alignment.
        unsafe { pasid_hook_alloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above; the hook's memory is zeroed already.
        unsafe { pasid_hook_alloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that the memory is from `alloc` with this layout.
        unsafe { pasid_hook_free(memory, layout.size(), layout.align()) }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    pasid_panic_reached()
}

/// A result as a kernel's C functions return it: zero, or minus the errno.
fn status<T>(result: Result<T, Error>, out: Option<&mut T>) -> i32 {
    match result {
        Ok(value) => {
            if let Some(out) = out {
                *out = value;
            }
            0
        }
        Err(error) => -error.errno(),
    }
}

/// An inclusive range out of what C has.
fn range(first: u32, last: u32) -> Result<PasidRange, Error> {
    PasidRange::new(Pasid::new(first)?, Pasid::new(last)?)
}
