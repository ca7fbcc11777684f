// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data calls: they reach neither the allocator nor a panic, and need no
//! function of the compiler's either.
//!
//! # Safety
//!
//! Wherever a function takes a raw handle and is unsafe, the caller holds the
//! reference that the handle stands for, which the function takes over.

use pasid::{Handle, IdSpace, Owned, Pasid, Pool, Ref};

use crate::{range, status};

mod alias;
mod flush;
mod payloads;
mod sets;
mod sva;
mod tables;

/// Allocates in the range `first..=last` with the memory that is there.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_alloc_in_place(
    space: &IdSpace,
    first: u32,
    last: u32,
    word: u64,
    raw: &mut u64,
) -> i32 {
    let owned = range(first, last).and_then(|range| space.alloc_in_place(range, word));
    status(owned.map(Owned::into_raw), Some(raw))
}

/// Allocates this PASID.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_alloc_at(
    space: &IdSpace,
    pasid: u32,
    word: u64,
    raw: &mut u64,
) -> i32 {
    let owned = Pasid::new(pasid).and_then(|pasid| space.alloc_at(pasid, word));
    status(owned.map(Owned::into_raw), Some(raw))
}

/// Takes a reference by handle.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_get(space: &IdSpace, handle: u64, raw: &mut u64) -> i32 {
    let reference = Handle::from_raw(handle).and_then(|handle| space.get(handle));
    status(reference.map(Ref::into_raw), Some(raw))
}

/// Takes a reference by number.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_get_at(space: &IdSpace, pasid: u32, raw: &mut u64) -> i32 {
    let reference = Pasid::new(pasid).and_then(|pasid| space.get_at(pasid));
    status(reference.map(Ref::into_raw), Some(raw))
}

/// Gives one reference back.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_put(space: &IdSpace, handle: u64) -> i32 {
    let put = |handle| {
        // SAFETY: the caller's promise, word for word.
        unsafe { space.put(handle) }
    };
    status(Handle::from_raw(handle).and_then(put), None)
}

/// Revokes the PASID and gives the owner's reference back.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_free(space: &IdSpace, handle: u64) -> i32 {
    let free = |handle| {
        // SAFETY: the caller's promise, word for word.
        unsafe { space.free(handle) }
    };
    status(Handle::from_raw(handle).and_then(free), None)
}

/// Revokes the PASID: no new references.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_revoke(space: &IdSpace, handle: u64) -> i32 {
    status(
        Handle::from_raw(handle).and_then(|handle| space.revoke(handle)),
        None,
    )
}

/// Drops an owner, which is `free`.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_drop_owned(space: &IdSpace, handle: u64) -> i32 {
    // SAFETY: the caller's promise, word for word.
    status(unsafe { Owned::from_raw(space, handle) }.map(drop), None)
}

/// Drops a reference, which is `put`.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_drop_ref(space: &IdSpace, handle: u64) -> i32 {
    // SAFETY: the caller's promise, word for word.
    status(unsafe { Ref::from_raw(space, handle) }.map(drop), None)
}

/// Turns an owner into a plain reference.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_into_ref(space: &IdSpace, handle: u64, raw: &mut u64) -> i32 {
    // SAFETY: the caller's promise, word for word.
    let owned = unsafe { Owned::from_raw(space, handle) };
    status(owned.map(|owned| owned.into_ref().into_raw()), Some(raw))
}

/// Clones a reference and keeps both.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_clone(space: &IdSpace, handle: u64, raw: &mut u64) -> i32 {
    // SAFETY: the caller's promise, word for word.
    let reference = unsafe { Ref::from_raw(space, handle) };
    let clone = reference.and_then(|reference| {
        let clone = reference.try_clone();
        reference.into_raw();
        clone
    });
    status(clone.map(Ref::into_raw), Some(raw))
}

/// Replaces the owner's word and returns the old one.
///
/// # Safety
///
/// As the module says, but the caller keeps the reference.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_replace(
    space: &IdSpace,
    handle: u64,
    word: u64,
    old: &mut u64,
) -> i32 {
    // SAFETY: the caller's promise, and the reference is forgotten again below.
    let reference = unsafe { Ref::from_raw(space, handle) };
    let replaced = reference.map(|reference| {
        let old = reference.replace(word);
        reference.into_raw();
        old
    });
    status(replaced, Some(old))
}

/// Looks a PASID up and copies the owner's word.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_find(
    space: &IdSpace,
    pasid: u32,
    handle: &mut u64,
    word: &mut u64,
) -> i32 {
    let found = Pasid::new(pasid).and_then(|pasid| space.find(pasid));
    let copied = found.map(|found| {
        *handle = found.handle.to_raw();
        found.word
    });
    status(copied, Some(word))
}

/// One step of an iteration: the first live PASID in `first..=last`.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_iterate(space: &IdSpace, first: u32, last: u32, raw: &mut u64) -> i32 {
    match range(first, last).map(|range| space.iter(range).next()) {
        Ok(Some(found)) => {
            *raw = found.handle.to_raw();
            1
        }
        Ok(None) => 0,
        Err(error) => -error.errno(),
    }
}

/// Whether any PASID of `first..=last` is live.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_any_live(
    space: &IdSpace,
    first: u32,
    last: u32,
    any: &mut bool,
) -> i32 {
    status(
        range(first, last).map(|range| space.any_live(range)),
        Some(any),
    )
}

/// How many PASIDs of `first..=last` are live.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_count_live(
    space: &IdSpace,
    first: u32,
    last: u32,
    count: &mut u32,
) -> i32 {
    status(
        range(first, last).map(|range| space.count_live(range)),
        Some(count),
    )
}
