// SPDX-License-Identifier: MIT OR Apache-2.0
//! Spaces in the states that are measured.

use std::fmt;

use fastrand::Rng;
use pasid::{Error, IdSpace, Owned, Pasid, PasidRange, PasidWidth, Policy, Pool};

/// How many PASIDs a full space has live: all of 20 bits but PASID 0.
pub const FULL_COUNT: u32 = PasidWidth::MAX.count() - 1;

/// The same random choices in every run.
pub fn rng() -> Rng {
    Rng::with_seed(0x5EED)
}

/// An empty space of 20 bits, with memory in place.
///
/// # Panics
/// If there is no memory.
pub fn in_place(policy: Policy) -> IdSpace {
    let space = IdSpace::new(PasidWidth::MAX).with_policy(policy);
    space.preload(space.range()).expect("memory for the space");
    space
}

/// How full a space is.
#[derive(Debug, Clone, Copy)]
pub struct Occupancy {
    /// Free PASIDs.
    pub holes: u32,
    name: &'static str,
}

impl Occupancy {
    /// All but PASID 0 free.
    pub const EMPTY: Occupancy = Occupancy::new(FULL_COUNT, "empty");
    /// Half of the PASIDs live.
    pub const HALF: Occupancy = Occupancy::new(FULL_COUNT / 2, "50 % full");
    /// One PASID in ten free.
    pub const MOST: Occupancy = Occupancy::new(FULL_COUNT / 10, "90 % full");
    /// One PASID in a hundred free.
    pub const NEARLY: Occupancy = Occupancy::new(FULL_COUNT / 100, "99 % full");
    /// One PASID in ten thousand free.
    pub const ALMOST: Occupancy = Occupancy::new(FULL_COUNT / 10_000, "99.99 % full");

    const fn new(holes: u32, name: &'static str) -> Occupancy {
        Occupancy { holes, name }
    }

    /// Whether everything is free.
    pub const fn is_empty(self) -> bool {
        self.holes == FULL_COUNT
    }
}

impl fmt::Display for Occupancy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// Fills all of `range`, in order. The words count from 1, so each owner has
/// another.
pub fn fill(space: &IdSpace, range: PasidRange) -> Vec<Owned<&IdSpace>> {
    let live = (1..).map_while(|word| space.alloc(range, word).ok());
    live.collect()
}

/// Shows that a pair of calls in `range` allocates and frees: a measurement of calls
/// that fail says nothing.
///
/// # Panics
/// If it does not.
pub fn check_pair(space: &IdSpace, range: PasidRange) {
    let word = 0x5EED;
    let owned = space.alloc(range, word).expect("a free PASID");
    let pasid = owned.pasid();
    assert!(range.contains(pasid), "{pasid} is not of {range}");
    assert_eq!(space.find(pasid).map(|found| found.word), Ok(word));
    drop(owned);
    assert_eq!(space.find(pasid), Err(Error::NotFound(pasid)));
}

/// Shows that each of these is found, by number and by handle, with its own word.
///
/// # Panics
/// If one is not.
pub fn check_live(space: &IdSpace, live: &[Owned<&IdSpace>]) {
    for owned in live {
        let found = space.find(owned.pasid()).map(|found| found.word);
        assert_eq!(found, Ok(owned.word()));
        let reference = space.get(owned.handle()).expect("a reference");
        assert_eq!(reference.word(), owned.word());
    }
}

/// Shows that nothing of `range` is free.
///
/// # Panics
/// If something is.
pub fn check_full(space: &IdSpace, range: PasidRange) {
    let answer = space.alloc(range, 0).map(|owned| owned.pasid());
    assert_eq!(answer, Err(Error::Exhausted { range }));
}

/// Allocates until nothing is free, then frees PASIDs at random until `occupancy`
/// is reached. What is left comes in random order.
pub fn occupy(space: &IdSpace, occupancy: Occupancy) -> Vec<Owned<&IdSpace>> {
    if occupancy.is_empty() {
        return Vec::new();
    }
    let mut live = fill(space, space.range());
    rng().shuffle(&mut live);
    live.truncate(live.len().saturating_sub(occupancy.holes as usize));
    live
}

/// The PASIDs `first ..= last`.
///
/// # Panics
/// If that is no range of PASIDs.
pub fn range(first: u32, last: u32) -> PasidRange {
    let pasid = |value| Pasid::new(value).expect("a PASID");
    PasidRange::new(pasid(first), pasid(last)).expect("a range")
}
