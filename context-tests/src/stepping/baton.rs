// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose turn it is, handed from thread to thread, also in a signal handler.

use std::hint::spin_loop;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often a thread looks before it sleeps.
const LOOKS: u32 = 50;

pub struct Baton(AtomicU32);

impl Baton {
    pub const fn new(whose: u32) -> Baton {
        Baton(AtomicU32::new(whose))
    }

    /// Hands over.
    pub fn pass(&self, whose: u32) {
        self.0.store(whose, Ordering::SeqCst);
        // SAFETY: wakes who sleeps on the word.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), libc::FUTEX_WAKE, 1) };
    }

    /// Waits until it is that turn, or for a moment. Returns whether it is.
    pub fn wait(&self, whose: u32) -> bool {
        for _ in 0..LOOKS {
            if self.0.load(Ordering::SeqCst) == whose {
                return true;
            }
            spin_loop();
        }
        let now = self.0.load(Ordering::SeqCst);
        if now != whose {
            let moment = libc::timespec {
                tv_sec: 0,
                tv_nsec: 20_000_000,
            };
            // SAFETY: sleeps on the word while it is what it was, and reads the time from
            // the stack. Who is woken for another reason looks again.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.0.as_ptr(),
                    libc::FUTEX_WAIT,
                    now,
                    &raw const moment,
                    ptr::null::<u32>(),
                    0,
                )
            };
        }
        self.0.load(Ordering::SeqCst) == whose
    }

    pub fn turn(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}
