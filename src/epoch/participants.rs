// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who takes part in the epochs of a model.
//!
//! The default collector registers a thread when it first pins, and ends its part when the
//! thread ends. In a model each of these multiplies the states by ten, and shows nothing of
//! this crate; and loom drops a failing model's thread-locals where no atomic can be
//! touched. So a model has a collector of its own. It registers its participants
//! before it begins its threads, each thread takes one over and gives it back at its end,
//! and from there on all is crossbeam-epoch's own code.

use crate::sync::model_thread_local;
use core::cell::Cell;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};
use crossbeam_epoch::{Collector, Guard, LocalHandle};

model_thread_local! {
    /// The handle of the participant that this thread is, if it is one.
    static HERE: Cell<*const LocalHandle> = Cell::new(ptr::null());
}

/// One that takes part: first registered, then taken to a thread.
pub struct Participant {
    handle: ManuallyDrop<LocalHandle>,
}

impl Participant {
    /// So many, of a new collector.
    pub fn register<const COUNT: usize>() -> [Participant; COUNT] {
        let collector = Collector::new();
        [(); COUNT].map(|()| Participant {
            handle: ManuallyDrop::new(collector.register()),
        })
    }

    /// Takes part for this thread while `work` runs.
    pub fn takes_part<T>(&self, work: impl FnOnce() -> T) -> T {
        HERE.with(|here| here.set(&raw const *self.handle));
        let done = work();
        HERE.with(|here| here.set(ptr::null()));
        done
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A model that failed is unwinding, and loom's objects are gone.
            return;
        }
        // SAFETY: dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.handle) };
    }
}

/// Pins the participant that this thread is.
pub(super) fn pin_here() -> Guard {
    let here = HERE.with(Cell::get);
    let here = NonNull::new(here.cast_mut()).expect("a model's threads that pin take part");
    // SAFETY: set by `takes_part`, which borrows the handle as long as it is set.
    unsafe { here.as_ref() }.pin()
}
