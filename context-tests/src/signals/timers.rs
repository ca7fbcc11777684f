// SPDX-License-Identifier: MIT OR Apache-2.0
//! POSIX timers that send their signal to one thread, over and over.
//!
//! Several, one after the other: whoever is delivered is armed again while the next is
//! waiting already, which costs the kernel less than one alone.

use super::watch::GAP;
use libc::{c_int, c_void, itimerspec, sigevent, siginfo_t, timer_t, timespec};
use std::cell::Cell;
use std::mem::zeroed;
use std::ptr;

/// How many timers there are.
const COUNT: usize = 8;
/// The least and the most between two signals, in nanoseconds.
const GAP_LEAST: i64 = 500;
const GAP_MOST: i64 = 1_000_000;

pub type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// The timers of one thread.
pub struct Timers {
    timers: [Cell<timer_t>; COUNT],
    /// Nanoseconds between two signals.
    gap: Cell<i64>,
    /// Counts what the thread runs.
    watch: Cell<timer_t>,
}

/// Which signal a timer sends.
#[derive(Clone, Copy)]
pub enum Sends {
    /// The one whose handler makes the calls.
    Interruption,
    /// The one whose handler looks whether the other gets on.
    Look,
}

impl Sends {
    fn signal(self) -> c_int {
        libc::SIGRTMIN() + self as c_int
    }
}

/// Has the handler called for that signal.
pub fn install(sends: Sends, handler: Handler) {
    // SAFETY: all zeros is a sigaction.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for.
    let result = unsafe { libc::sigaction(sends.signal(), &raw const action, ptr::null_mut()) };
    holds!(result == 0, "the handler is refused");
}

/// How long this thread has run, in nanoseconds.
pub fn ran() -> i64 {
    let mut ran = spec(0);
    // SAFETY: writes a time to the stack.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut ran) };
    ran.tv_sec * 1_000_000_000 + ran.tv_nsec
}

/// What the timer that sent the signal was given.
///
/// # Safety
/// The signal came from a timer of [`Timers::start`], and `T` is what that was given.
pub unsafe fn sender<T>(info: *mut siginfo_t) -> &'static T {
    // SAFETY: the kernel's own, for the handler that the caller is.
    let info = unsafe { &*info };
    // SAFETY: a timer's signal has a value.
    let value = unsafe { info.si_value() };
    // SAFETY: the caller's promise.
    unsafe { &*value.sival_ptr.cast::<T>() }
}

fn spec(nanoseconds: i64) -> timespec {
    timespec {
        tv_sec: nanoseconds / 1_000_000_000,
        tv_nsec: nanoseconds % 1_000_000_000,
    }
}

/// A timer that sends its signal to this thread, with a pointer to `given`.
fn create<T>(clock: libc::clockid_t, sends: Sends, given: &'static T) -> timer_t {
    // SAFETY: all zeros is a sigevent.
    let mut event: sigevent = unsafe { zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = sends.signal();
    event.sigev_value.sival_ptr = (&raw const *given).cast_mut().cast();
    // SAFETY: asks for a number.
    event.sigev_notify_thread_id = unsafe { libc::gettid() };
    let mut made = ptr::null_mut();
    // SAFETY: both are on the stack.
    let result = unsafe { libc::timer_create(clock, &raw mut event, &raw mut made) };
    holds!(result == 0, "a timer is refused");
    made
}

/// Has a timer of this thread send after `first` nanoseconds, and then each `gap`.
fn set_times(timer: timer_t, gap: i64, first: i64) {
    let times = itimerspec {
        it_interval: spec(gap),
        it_value: spec(first),
    };
    // SAFETY: a timer of this thread, and times on the stack.
    let result = unsafe { libc::timer_settime(timer, 0, &raw const times, ptr::null_mut()) };
    holds!(result == 0, "the times of a timer are refused");
}

impl Timers {
    pub fn new() -> Timers {
        Timers {
            timers: [const { Cell::new(ptr::null_mut()) }; COUNT],
            gap: Cell::new(GAP_MOST),
            watch: Cell::new(ptr::null_mut()),
        }
    }

    /// Has this thread interrupted from now on, with so many nanoseconds between two signals.
    pub fn start<T>(&self, given: &'static T, gap: i64) {
        for timer in &self.timers {
            timer.set(create(libc::CLOCK_MONOTONIC, Sends::Interruption, given));
        }
        let watch = create(libc::CLOCK_THREAD_CPUTIME_ID, Sends::Look, given);
        set_times(watch, GAP, GAP);
        self.watch.set(watch);
        self.arm(gap);
    }

    /// Has the timers send in turn, with so many nanoseconds between two.
    pub fn arm(&self, gap: i64) {
        let gap = gap.clamp(GAP_LEAST, GAP_MOST);
        self.gap.set(gap);
        let mut first = gap;
        for timer in &self.timers {
            set_times(timer.get(), gap * COUNT as i64, first);
            first += gap;
        }
    }

    /// Lets the signals come less often, also out of the handler.
    pub fn slow_down(&self) {
        self.arm(self.gap.get() * 5 / 4);
    }

    pub fn gap(&self) -> i64 {
        self.gap.get()
    }

    /// No signal comes after this.
    pub fn stop(&self) {
        for timer in self.timers.iter().chain([&self.watch]) {
            // SAFETY: a timer of this thread, which is not used again.
            unsafe { libc::timer_delete(timer.get()) };
        }
    }
}
