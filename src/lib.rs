// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock-free, exact allocator for PASIDs.
#![no_std]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod error;
mod handle;
pub mod limits;
mod pasid;
mod range;

pub use error::{Error, Result};
pub use handle::Handle;
pub use pasid::{Pasid, PasidWidth};
pub use range::PasidRange;
