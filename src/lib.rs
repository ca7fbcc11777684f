// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock-free, exact allocator for PASIDs.
#![no_std]

// The crate has a module of the name `alloc`.
extern crate alloc as heap;
#[cfg(any(feature = "std", loom, test))]
extern crate std;

mod alloc;
mod bitmap;
mod error;
mod handle;
pub mod limits;
mod link;
mod owned;
mod pasid;
mod radix;
mod range;
mod search;
mod slot;
mod sync;

pub use alloc::{Found, Iter, Policy, Space};
pub use error::{Error, Result};
pub use handle::Handle;
pub use owned::{Owned, Ref, SpaceRef};
pub use pasid::{Pasid, PasidWidth};
pub use range::PasidRange;

/// What the loom models plant in the code that they run.
#[cfg(loom)]
pub mod model {
    pub use crate::sync::Mutation;
    pub use crate::sync::planting::plant;
}

/// Counters of the races that were met, for the stress test.
#[cfg(pasid_events)]
pub mod events {
    pub use crate::sync::Event;
    pub use crate::sync::events::count;
}
