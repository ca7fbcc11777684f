// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock-free, exact allocator for PASIDs (Process Address Space IDs), the
//! numbers of at most 20 bits that name an address space in front of an IOMMU.
//!
//! A [`IdSpace`] hands out the PASIDs of one width. What it hands out is an
//! [`Owned`], which frees on drop; whoever else needs the PASID to stay takes a
//! [`Ref`]. A freed PASID gets no new reference and no new owner until the last
//! reference is gone.
//!
//! ```
//! use pasid::{Error, PasidWidth, IdSpace, Pool};
//! use pasid::limits::PasidCapability;
//!
//! // What the device says: its PASID capability register, 20 bits, privileged mode.
//! let capability = PasidCapability::from_register(0x1404)?;
//! assert_eq!(capability.width, PasidWidth::MAX);
//!
//! // PASID 0 is reserved. A space can be a `static`, and owns no memory until used.
//! static SPACE: IdSpace = IdSpace::new(PasidWidth::MAX);
//!
//! // The driver binds an address space: a PASID with a word of its own.
//! let bound = SPACE.alloc(SPACE.range(), 0xFEED)?;
//! assert_eq!(bound.pasid().get(), 1);
//!
//! // A page fault brings the number alone. The reference keeps the PASID until the
//! // response is sent.
//! let faulting = SPACE.get_at(bound.pasid())?;
//! assert_eq!(faulting.word(), 0xFEED);
//!
//! // The process exits meanwhile: no new reference, and no new owner yet.
//! drop(bound);
//! assert_eq!(SPACE.get_at(faulting.pasid()).err(), Some(Error::BeingFreed(faulting.pasid())));
//! assert_ne!(SPACE.alloc(SPACE.range(), 0)?.pasid(), faulting.pasid());
//!
//! // The last reference goes, and the number is free again.
//! let handle = faulting.handle();
//! drop(faulting);
//! assert_eq!(SPACE.alloc(SPACE.range(), 0)?.pasid(), handle.pasid());
//! assert_eq!(SPACE.get(handle).err(), Some(Error::Stale(handle)));
//! # Ok::<(), Error>(())
//! ```
//!
//! # Which call in which context
//!
//! | calls | progress | memory | context |
//! | --- | --- | --- | --- |
//! | [`find`](IdSpace::find), [`alloc_at`](Pool::alloc_at), [`iter`](IdSpace::iter), [`Ref::try_clone`], dropping a [`Ref`], `word`, `replace` | wait-free | none | any |
//! | [`alloc_in_place`](Pool::alloc_in_place), [`get`](Pool::get), [`get_at`](Pool::get_at), dropping an [`Owned`], [`revoke`](IdSpace::revoke), [`put`](IdSpace::put), [`free`](IdSpace::free) | lock-free | none | any |
//! | [`alloc`](Pool::alloc), [`reserve`](IdSpace::reserve), [`unreserve`](IdSpace::unreserve), [`preload`](IdSpace::preload) | lock-free | may grow | where memory may be allocated |
//! | [`shrink`](IdSpace::shrink), dropping the space | exclusive | gives back | where memory may be freed |
//!
//! "Any" includes an interrupt or signal handler that interrupted the same call.
//! None of these calls locks, waits for another thread, panics, prints, or uses
//! thread-local state. The exception is a handle that holds an `Arc<IdSpace>`: where
//! the last one of a space is dropped, or taken apart by `into_raw`, the space's
//! memory is freed.
//!
//! # Exact answers
//!
//! [`Error::Exhausted`] is returned only if at some instant during the call no
//! PASID of the request was free. A thread that is stopped at any instruction
//! withholds the one PASID that it is working on, and nothing more.
//!
//! # Features
//!
//! * `std` (default): links the standard library. Nothing in the crate needs it yet;
//!   without it the crate is `no_std` with `alloc`.
//! * `serde`: serialises the vocabulary types ([`Pasid`], [`PasidWidth`],
//!   [`PasidRange`], [`Handle`], [`Policy`]), and checks what it reads.
#![no_std]

// The crate has a module of the name `alloc`.
extern crate alloc as heap;
#[cfg(any(feature = "std", loom, test))]
extern crate std;

mod alloc;
mod bitmap;
mod control;
mod error;
mod grant;
mod handle;
pub mod limits;
mod link;
mod listing;
mod marks;
mod memo;
mod owned;
mod pasid;
mod radix;
mod range;
mod search;
mod slot;
mod state;
mod sync;

pub use alloc::{Found, IdSpace, Policy};
pub use error::{Error, Result};
pub use handle::Handle;
pub use listing::Iter;
pub use owned::{Owned, Pool, Ref};
pub use pasid::{Pasid, PasidWidth};
pub use range::PasidRange;

/// What the loom models plant in the code that they run.
#[cfg(loom)]
pub mod model {
    pub use crate::sync::Mutation;
    pub use crate::sync::planting::{order_totally, plant};
}

/// Counters of the races that were met, for the stress test.
#[cfg(pasid_events)]
pub mod events {
    pub use crate::sync::Event;
    pub use crate::sync::events::count;
}

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
