// SPDX-License-Identifier: MIT OR Apache-2.0
//! A second space, in which PASIDs are scarce: its range has [`EACH`] of them for
//! each thread, and no thread has more than that.
//!
//! A thread gives one back before it asks for another. So at every instant of its
//! request all threads together hold, or are about to take, at most all but one,
//! and one is free: it may be another one at each instant, but an answer of
//! *exhausted* is wrong. That is what a search that looks at one place after the
//! other gets wrong when the free one moves behind its back.
//!
//! The space also has a PASID whose handle is foreign in the first one.

use pasid::{Handle, Owned, Pasid, PasidRange, PasidWidth, Policy, Result, Space, SpaceRef};

/// How many PASIDs a thread has at most.
pub const EACH: usize = 4;
/// One PASID in so many can be allocated; the others are reserved. A search has
/// far to go from one to the next.
const SPREAD: u32 = 64;

/// The second space.
#[derive(Debug)]
pub struct Scarce {
    space: Space,
    range: PasidRange,
}

impl Scarce {
    /// A space for so many threads.
    ///
    /// # Errors
    /// [`OutOfMemory`](pasid::Error::OutOfMemory): 4.2 KiB for each thread.
    pub fn new(threads: u16) -> Result<Scarce> {
        // So that what is handed out moves along.
        let space = Space::new(PasidWidth::MAX).with_policy(Policy::Next);
        let first = SPREAD;
        let count = SPREAD * EACH as u32 * u32::from(threads);
        let range = PasidRange::new(Pasid::new(first)?, Pasid::new(first + count - 1)?)?;
        for value in (first..first + count).filter(|value| value % SPREAD != 0) {
            space.reserve(Pasid::new(value)?)?;
        }
        Ok(Scarce { space, range })
    }

    /// Allocates a PASID outside of the range.
    ///
    /// # Errors
    /// [`OutOfMemory`](pasid::Error::OutOfMemory).
    pub fn stranger(&self) -> Result<Owned<&Space>> {
        self.space.alloc(Pasid::MAX.into(), 0)
    }

    /// Allocates one of the scarce ones.
    ///
    /// # Errors
    /// None, for a thread that has fewer than [`EACH`].
    pub fn alloc(&self) -> Result<Owned<&Space>> {
        self.space.alloc(self.range, 0)
    }
}

/// What the threads share of it.
#[derive(Clone, Copy, Debug)]
pub struct Second<'s> {
    /// The space.
    pub scarce: &'s Scarce,
    /// A live handle of it.
    pub foreign: Handle,
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasid::Error;

    #[test]
    fn there_are_so_many_for_each_thread() {
        for threads in [1, 3, 1024] {
            let scarce = Scarce::new(threads).unwrap();
            let stranger = scarce.stranger().unwrap();
            let count = EACH * usize::from(threads);
            let owned: Vec<_> = (0..count).map(|_| scarce.alloc().unwrap()).collect();
            let range = scarce.range;
            assert_eq!(scarce.alloc().err(), Some(Error::Exhausted { range }));
            assert!(!range.contains(stranger.pasid()));
            assert_eq!(owned.len(), count);
        }
    }
}
