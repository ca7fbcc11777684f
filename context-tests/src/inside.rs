// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which data call a thread is: what a signal handler on the same thread looks at.
//!
//! Each call of a test passes here, so what is done for every one is little; the rest is
//! asked for by [`Inside::special`].

use crate::calls::{CALLS, Call};
use std::ptr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, compiler_fence};

/// ```text
///  63                       8 7        0
/// +--------------------------+----------+
/// |   calls that were begun  |   call   |
/// +--------------------------+----------+
/// ```
pub struct Inside {
    word: AtomicU64,
    special: AtomicU32,
    /// A bit for each call that was made since somebody forgot them.
    made: AtomicU64,
    /// The call that is to be stepped.
    stepped: AtomicU32,
    /// Where a breakpoint is to be while it runs, and what is there otherwise. Without
    /// one, each of its instructions is stepped.
    breakpoint: AtomicPtr<u8>,
    original: AtomicU8,
}

/// In no call.
const NOTHING: u64 = 0xff;
const ONE: u64 = 1 << 8;

const _: () = assert!(CALLS.len() <= 64, "`made` has a bit for each");

/// What is special: a call is to be stepped, faults are planted, or the calls are listed.
const STEP: u32 = 1;
const PLANT: u32 = 2;
const LIST: u32 = 4;

impl Inside {
    pub fn new() -> Inside {
        let plant = if crate::plant::is_any() { PLANT } else { 0 };
        Inside {
            word: AtomicU64::new(NOTHING),
            special: AtomicU32::new(plant),
            made: AtomicU64::new(0),
            stepped: AtomicU32::new(u32::MAX),
            breakpoint: AtomicPtr::new(ptr::null_mut()),
            original: AtomicU8::new(0),
        }
    }

    /// The same, which lists the calls that are made.
    pub fn listing() -> Inside {
        let inside = Inside::new();
        inside.change_special(|special| special | LIST);
        inside
    }

    fn change_special(&self, change: impl FnOnce(u32) -> u32) {
        let special = self.special.load(Relaxed);
        self.special.store(change(special), Relaxed);
    }

    // ---- Where it is -------------------------------------------------------------------

    /// The call that the thread is in.
    pub fn call(&self) -> Option<Call> {
        Call::at((self.word.load(Relaxed) & NOTHING) as usize)
    }

    /// How many calls the thread has begun.
    pub fn begun(&self) -> u64 {
        self.word.load(Relaxed) / ONE
    }

    /// Makes one call.
    #[inline(always)]
    pub fn make<R>(&self, call: Call, make: impl FnOnce() -> R, special: impl Fn(bool)) -> R {
        let is_special = self.special.load(Relaxed) != 0;
        let begun = (self.word.load(Relaxed) | NOTHING).wrapping_add(1);
        if is_special {
            self.begin_specially(call);
        }
        self.word.store(begun | call as u64, Relaxed);
        // The flag stands before the call begins, for a handler on this thread.
        compiler_fence(SeqCst);
        if is_special {
            special(true);
        }
        let answer = make();
        if is_special {
            special(false);
        }
        // It stands until the call has ended.
        compiler_fence(SeqCst);
        self.word.store(begun | NOTHING, Relaxed);
        if is_special {
            self.end_specially(call);
        }
        answer
    }

    #[cold]
    #[inline(never)]
    fn begin_specially(&self, call: Call) {
        if self.stepped.load(Relaxed) == call as u32 {
            self.begin_step();
        }
    }

    #[cold]
    #[inline(never)]
    fn end_specially(&self, call: Call) {
        if self.stepped.load(Relaxed) == call as u32 {
            trap::clear();
            self.clear_breakpoint();
            self.stepped.store(u32::MAX, Relaxed);
            self.change_special(|special| special & !STEP);
        }
        let made = self.made.load(Relaxed);
        self.made.store(made | 1 << call as u32, Relaxed);
    }

    /// A bit for each call that was made since [`Inside::forget_made`], by who lists them.
    pub fn made(&self) -> u64 {
        self.made.load(Relaxed)
    }

    pub fn forget_made(&self) {
        self.made.store(0, Relaxed);
    }

    // ---- Stepping --------------------------------------------------------------------

    /// Lets the next call of that kind be stepped, once; or stopped at a breakpoint, if there
    /// is one.
    pub fn step(&self, call: Call, breakpoint: *mut u8) {
        self.breakpoint.store(breakpoint, Relaxed);
        if !breakpoint.is_null() {
            // SAFETY: in the text of the program, as whoever steps made sure.
            self.original.store(unsafe { breakpoint.read() }, Relaxed);
        }
        self.stepped.store(call as u32, Relaxed);
        self.change_special(|special| special | STEP);
    }

    /// Whether it was stepped.
    pub fn was_stepped(&self) -> bool {
        self.special.load(Relaxed) & STEP == 0
    }

    fn begin_step(&self) {
        if self.breakpoint() == 0 {
            trap::set();
        } else {
            self.set_breakpoint();
        }
    }

    /// Puts the breakpoint where it is to be.
    pub fn set_breakpoint(&self) {
        let breakpoint = self.breakpoint.load(Relaxed);
        // SAFETY: as in `step`; the text can be written, and nobody else runs it now.
        unsafe { breakpoint.write_volatile(trap::BREAKPOINT) };
    }

    /// Takes the breakpoint away, if there is one.
    pub fn clear_breakpoint(&self) {
        let breakpoint = self.breakpoint.load(Relaxed);
        if !breakpoint.is_null() {
            // SAFETY: as above.
            unsafe { breakpoint.write_volatile(self.original.load(Relaxed)) };
        }
    }

    /// There is no breakpoint any more. It was taken away.
    pub fn forget_breakpoint(&self) {
        self.breakpoint.store(ptr::null_mut(), Relaxed);
    }

    /// Where it is.
    pub fn breakpoint(&self) -> usize {
        self.breakpoint.load(Relaxed) as usize
    }
}

/// The trap flag of x86-64: with it, each instruction ends in a SIGTRAP.
#[cfg(target_arch = "x86_64")]
mod trap {
    use std::arch::asm;

    /// The instruction that raises a trap itself.
    pub const BREAKPOINT: u8 = 0xcc;

    pub fn set() {
        // SAFETY: sets a flag of the processor, for which whoever steps has a handler.
        unsafe { asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq") };
    }

    pub fn clear() {
        // SAFETY: as above.
        unsafe { asm!("pushfq", "and dword ptr [rsp], ~0x100", "popfq") };
    }
}

/// Elsewhere nobody steps.
#[cfg(not(target_arch = "x86_64"))]
mod trap {
    pub const BREAKPOINT: u8 = 0;
    pub fn set() {}
    pub fn clear() {}
}
