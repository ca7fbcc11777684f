// SPDX-License-Identifier: MIT OR Apache-2.0
//! Spaces in the states that are measured.

use std::fmt;

use fastrand::Rng;
use pasid::{Owned, Pasid, PasidRange, PasidWidth, Policy, Space, SpaceRef};

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
pub fn in_place(policy: Policy) -> Space {
    let space = Space::new(PasidWidth::MAX).with_policy(policy);
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
}

impl fmt::Display for Occupancy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// Fills all of `range`, in order.
pub fn fill(space: &Space, range: PasidRange) -> Vec<Owned<&Space>> {
    let live = std::iter::from_fn(|| space.alloc(range, 0).ok());
    live.collect()
}

/// Allocates until nothing is free, then frees PASIDs at random until `occupancy`
/// is reached. What is left comes in random order.
pub fn occupy(space: &Space, occupancy: Occupancy) -> Vec<Owned<&Space>> {
    if occupancy.holes == FULL_COUNT {
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
