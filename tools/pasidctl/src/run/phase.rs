// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a table or set is on its way out, and whether a table is paused: written by
//! whoever does it before and after the call, and read by those who judge an answer.

use std::sync::atomic::{AtomicU64, Ordering};

/// A step on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nobody has closed it.
    Open,
    /// Somebody is about to.
    Closing,
    /// The call that closes has returned.
    Closed,
}

/// The way out of a table or set.
#[derive(Debug, Default)]
pub struct Phase(AtomicU64);

impl Phase {
    /// How far it is.
    pub fn see(&self) -> Step {
        // Acquire: pairs with `set`: who sees *closed* calls after the call that closed,
        // and who was told so by the allocator looks here afterwards and sees *closing*.
        match self.0.load(Ordering::Acquire) {
            0 => Step::Open,
            1 => Step::Closing,
            _ => Step::Closed,
        }
    }

    /// It comes to `step`.
    pub fn set(&self, step: Step) {
        // Release: pairs with `see`.
        self.0.store(step as u64, Ordering::Release);
    }
}

/// The pauses of a table, four steps each: running, about to be paused, paused, about to
/// be resumed.
#[derive(Debug, Default)]
pub struct Pauses(AtomicU64);

/// What can be said of a table's being paused, of two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// It was running all the time between.
    No,
    /// It was paused all the time between.
    Yes,
    /// It was both, or that is not known.
    Perhaps,
}

impl Pauses {
    /// A look.
    pub fn see(&self) -> u64 {
        // Acquire: as in `Phase::see`.
        self.0.load(Ordering::Acquire)
    }

    /// The next step. One thread at a time makes them.
    pub fn step(&self) {
        // Release: pairs with `see`.
        self.0.fetch_add(1, Ordering::Release);
    }

    /// What was the case since an earlier look.
    pub fn since(&self, earlier: u64) -> Paused {
        match (self.see() == earlier, earlier % 4) {
            (true, 0) => Paused::No,
            (true, 2) => Paused::Yes,
            _ => Paused::Perhaps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_certain_between_its_calls() {
        let pauses = Pauses::default();
        let mut seen = Vec::new();
        for _ in 0..5 {
            let look = pauses.see();
            seen.push(pauses.since(look));
            pauses.step();
            assert_eq!(pauses.since(look), Paused::Perhaps);
        }
        use Paused::{No, Perhaps, Yes};
        assert_eq!(seen, [No, Perhaps, Yes, Perhaps, No]);
        let phase = Phase::default();
        for step in [Step::Open, Step::Closing, Step::Closed] {
            phase.set(step);
            assert_eq!(phase.see(), step);
        }
    }
}
