// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data calls of a set whose payloads are references, or nothing: what differs from
//! those with words. Payloads that are dropped need the feature `epoch`, and are no part
//! of this.
//!
//! # Safety
//!
//! As in [`data`](super).

use pasid::{Handle, IoasidSet, Owned, Pasid, Pool, Ref};

use crate::{range, status};

/// Allocates in the range `first..=last` with the memory that is there.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_static_alloc_in_place(
    set: &IoasidSet<&'static u64>,
    first: u32,
    last: u32,
    payload: &'static u64,
    raw: &mut u64,
) -> i32 {
    let owned = range(first, last).and_then(|range| set.alloc_in_place(range, payload));
    status(owned.map(Owned::into_raw), Some(raw))
}

/// Allocates this PASID.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_static_alloc_at(
    set: &IoasidSet<&'static u64>,
    pasid: u32,
    payload: &'static u64,
    raw: &mut u64,
) -> i32 {
    let owned = Pasid::new(pasid).and_then(|pasid| set.alloc_at(pasid, payload));
    status(owned.map(Owned::into_raw), Some(raw))
}

/// Looks a PASID up and follows its payload.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_static_find(
    set: &IoasidSet<&'static u64>,
    pasid: u32,
    handle: &mut u64,
    value: &mut u64,
) -> i32 {
    let found = Pasid::new(pasid).and_then(|pasid| set.find(pasid));
    let copied = found.map(|found| {
        *handle = found.handle.to_raw();
        *found.word
    });
    status(copied, Some(value))
}

/// One step of an iteration: the payload of the first live PASID in `first..=last`.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_static_iterate(
    set: &IoasidSet<&'static u64>,
    first: u32,
    last: u32,
    value: &mut u64,
) -> i32 {
    match range(first, last).map(|range| set.iter(range).next()) {
        Ok(Some(found)) => {
            *value = *found.word;
            1
        }
        Ok(None) => 0,
        Err(error) => -error.errno(),
    }
}

/// Takes a reference, replaces the payload, and says what was there before.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_static_replace(
    set: &IoasidSet<&'static u64>,
    handle: u64,
    payload: &'static u64,
    before: &mut u64,
) -> i32 {
    let reference = Handle::from_raw(handle).and_then(|handle| set.get(handle));
    let replaced = reference.map(|reference| *reference.replace(payload));
    status(replaced, Some(before))
}

/// Drops an owner, which is `free`.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_static_drop_owned(
    set: &IoasidSet<&'static u64>,
    handle: u64,
) -> i32 {
    // SAFETY: the caller's promise, word for word.
    status(unsafe { Owned::from_raw(set, handle) }.map(drop), None)
}

/// Drops a reference, which is `put`.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_static_drop_ref(
    set: &IoasidSet<&'static u64>,
    handle: u64,
) -> i32 {
    // SAFETY: the caller's promise, word for word.
    status(unsafe { Ref::from_raw(set, handle) }.map(drop), None)
}

/// Allocates in the range `first..=last` with the memory that is there.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_nothing_alloc_in_place(
    set: &IoasidSet<()>,
    first: u32,
    last: u32,
    raw: &mut u64,
) -> i32 {
    let owned = range(first, last).and_then(|range| set.alloc_in_place(range, ()));
    status(owned.map(Owned::into_raw), Some(raw))
}

/// Looks a PASID up.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_nothing_find(set: &IoasidSet<()>, pasid: u32, raw: &mut u64) -> i32 {
    let found = Pasid::new(pasid).and_then(|pasid| set.find(pasid));
    status(found.map(|found| found.handle.to_raw()), Some(raw))
}

/// Drops an owner, which is `free`.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_nothing_drop_owned(set: &IoasidSet<()>, handle: u64) -> i32 {
    // SAFETY: the caller's promise, word for word.
    status(unsafe { Owned::from_raw(set, handle) }.map(drop), None)
}
