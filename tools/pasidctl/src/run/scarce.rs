// SPDX-License-Identifier: MIT OR Apache-2.0
//! A second space, of one global set, in which PASIDs are scarce: its range has [`EACH`] of them for
//! each thread, and no thread has more than that.
//!
//! A thread gives one back before it asks for another. So at every instant of its
//! request all threads together hold, or are about to take, at most all but one,
//! and one is free: it may be another one at each instant, but an answer of
//! *exhausted* is wrong. That the free one moves behind the back of a search which
//! looks at one place after the other takes a meeting of threads too rare to count
//! on: an allocator that looks round only once has passed this load. The models of
//! the crate are what checks that; here it is shown that nothing else is lost.
//!
//! Beside that range each thread has one of its own, in which all but one PASID is
//! reserved. Nobody else asks for that one, so whether it is free is known exactly,
//! whatever the other threads do meanwhile.
//!
//! The space also has a PASID whose handle is foreign in the first one.

use pasid::{
    Handle, IoasidSet, Owned, Pasid, PasidRange, Policy, Pool, Result, Scope, SetConfig, Space,
    SpaceKind,
};

/// How many PASIDs a thread has at most.
pub const EACH: usize = 4;
/// One PASID in so many can be allocated; the others are reserved. A search has
/// far to go from one to the next.
const SPREAD: u32 = 64;
/// The PASIDs that are set aside for each thread's own range: that range is the
/// middle half. The outer ones stay free, so that nothing about the range can be
/// learned from its surroundings being full.
const OWN: u32 = 512;
/// The one PASID of a thread's own range that is not reserved, counted from the
/// start of what is set aside: not the first place where a search looks.
const OWN_FREE: u32 = 300;

/// The second space.
#[derive(Debug)]
pub struct Scarce {
    space: Space,
    set: IoasidSet,
    range: PasidRange,
}

/// A range in which one thread alone allocates, and can have one PASID.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// What to ask for.
    pub range: PasidRange,
    /// What there is.
    pub pasid: Pasid,
}

impl Scarce {
    /// A space for so many threads.
    ///
    /// # Errors
    /// [`OutOfMemory`](pasid::Error::OutOfMemory): 13 KiB for each thread and 9 KiB.
    pub fn new(threads: u16) -> Result<Scarce> {
        // So that what is handed out moves along.
        let space = Space::new(SpaceKind::Global);
        let set = space.add_set(SetConfig::new(Scope::Global).policy(Policy::Next))?;
        let first = SPREAD;
        let count = SPREAD * EACH as u32 * u32::from(threads);
        let range = PasidRange::new(Pasid::new(first)?, Pasid::new(first + count - 1)?)?;
        for value in (first..first + count).filter(|value| value % SPREAD != 0) {
            space.reserve(Pasid::new(value)?)?;
        }
        let scarce = Scarce { space, set, range };
        for index in 0..usize::from(threads) {
            let Own { range, pasid } = scarce.own(index)?;
            for value in range.first().get()..=range.last().get() {
                if value != pasid.get() {
                    scarce.space.reserve(Pasid::new(value)?)?;
                }
            }
        }
        Ok(scarce)
    }

    /// What thread `index` has for itself.
    ///
    /// # Errors
    /// [`InvalidPasid`](pasid::Error::InvalidPasid), for an index that is none of
    /// the threads'.
    pub fn own(&self, index: usize) -> Result<Own> {
        let behind = (self.range.last().get() + 1).next_multiple_of(OWN);
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let start = behind.saturating_add(index.saturating_mul(OWN));
        let at = |offset| Pasid::new(start.saturating_add(offset));
        Ok(Own {
            range: PasidRange::new(at(OWN / 4)?, at(OWN / 4 * 3 - 1)?)?,
            pasid: at(OWN_FREE)?,
        })
    }

    /// Allocates a PASID outside of the range.
    ///
    /// # Errors
    /// [`OutOfMemory`](pasid::Error::OutOfMemory).
    pub fn stranger(&self) -> Result<Owned<&IoasidSet>> {
        self.set.alloc(Pasid::MAX.into(), 0)
    }

    /// Allocates one of the scarce ones.
    ///
    /// # Errors
    /// None, for a thread that has fewer than [`EACH`].
    pub fn alloc(&self) -> Result<Owned<&IoasidSet>> {
        self.set.alloc(self.range, 0)
    }

    /// Allocates in a thread's own range.
    ///
    /// # Errors
    /// [`Exhausted`](pasid::Error::Exhausted), if the thread has its PASID.
    pub fn alloc_own(&self, own: Own) -> Result<Owned<&IoasidSet>> {
        self.set.alloc(own.range, 0)
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
            for index in [0, usize::from(threads) - 1] {
                let own = scarce.own(index).unwrap();
                assert!(!own.range.contains(stranger.pasid()));
                assert_eq!(own.range.intersect(range), None);
                for _ in 0..2 {
                    let taken = scarce.alloc_own(own).unwrap();
                    assert_eq!(taken.pasid(), own.pasid);
                    let range = own.range;
                    let refused = scarce.alloc_own(own).err();
                    assert_eq!(refused, Some(Error::Exhausted { range }));
                }
            }
        }
    }
}
