// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls that may allocate or give memory back. They need the allocator's
//! two hooks and nothing else; memory that is not there is an error, no panic.

use pasid::{IdSpace, Owned, Pasid, PasidWidth, Policy, Pool};

use crate::{range, status};

mod alias;
mod sets;

/// Constant, so it needs no memory and no initialiser that runs.
static SPACE: IdSpace = IdSpace::new(PasidWidth::MAX).with_policy(Policy::Next);

/// The one space of this program.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_space() -> &'static IdSpace {
    &SPACE
}

/// Allocates in the range `first..=last` and grows the tree where it has to.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_alloc(
    space: &IdSpace,
    first: u32,
    last: u32,
    word: u64,
    raw: &mut u64,
) -> i32 {
    let owned = range(first, last).and_then(|range| space.alloc(range, word));
    status(owned.map(Owned::into_raw), Some(raw))
}

/// Puts memory in place for `first..=last` and says how many bytes that took.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_preload(
    space: &IdSpace,
    first: u32,
    last: u32,
    bytes: &mut usize,
) -> i32 {
    status(
        range(first, last).and_then(|range| space.preload(range)),
        Some(bytes),
    )
}

/// Gives the memory of empty parts back and says how many bytes that were.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_shrink(space: &mut IdSpace) -> usize {
    space.shrink()
}

/// How much memory the space has.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_memory_bytes(space: &IdSpace) -> usize {
    space.memory_bytes()
}

/// Reserves one PASID.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_reserve(space: &IdSpace, pasid: u32) -> i32 {
    status(
        Pasid::new(pasid).and_then(|pasid| space.reserve(pasid)),
        None,
    )
}

/// Ends the reservation of one PASID.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_unreserve(space: &IdSpace, pasid: u32) -> i32 {
    status(
        Pasid::new(pasid).and_then(|pasid| space.unreserve(pasid)),
        None,
    )
}

/// Ends a space and gives all its memory back.
///
/// # Safety
///
/// The space is valid, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_control_drop(space: *mut IdSpace) {
    // SAFETY: the caller's promise, word for word.
    unsafe { space.drop_in_place() }
}
