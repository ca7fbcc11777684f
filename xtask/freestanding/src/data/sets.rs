// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data calls of a set: what its scope is, and of which kind its space, is known when
//! they run, so that each function here stands for all of them.
//!
//! # Safety
//!
//! As in [`data`](super).

use pasid::{Handle, IoasidSet, Owned, Pasid, Pool, Ref};

use crate::{range, status};

/// Allocates in the range `first..=last` with the memory that is there.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_set_alloc_in_place(
    set: &IoasidSet,
    first: u32,
    last: u32,
    word: u64,
    raw: &mut u64,
) -> i32 {
    let owned = range(first, last).and_then(|range| set.alloc_in_place(range, word));
    status(owned.map(Owned::into_raw), Some(raw))
}

/// The same for a caller on CPU `cpu`.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_set_alloc_in_place_near(
    set: &IoasidSet,
    cpu: u32,
    first: u32,
    last: u32,
    word: u64,
    raw: &mut u64,
) -> i32 {
    let owned = range(first, last).and_then(|range| set.alloc_in_place_near(cpu, range, word));
    status(owned.map(Owned::into_raw), Some(raw))
}

/// Allocates this PASID.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_set_alloc_at(
    set: &IoasidSet,
    pasid: u32,
    word: u64,
    raw: &mut u64,
) -> i32 {
    let owned = Pasid::new(pasid).and_then(|pasid| set.alloc_at(pasid, word));
    status(owned.map(Owned::into_raw), Some(raw))
}

/// Takes a reference by handle.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_set_get(set: &IoasidSet, handle: u64, raw: &mut u64) -> i32 {
    let reference = Handle::from_raw(handle).and_then(|handle| set.get(handle));
    status(reference.map(Ref::into_raw), Some(raw))
}

/// Takes a reference by number.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_set_get_at(set: &IoasidSet, pasid: u32, raw: &mut u64) -> i32 {
    let reference = Pasid::new(pasid).and_then(|pasid| set.get_at(pasid));
    status(reference.map(Ref::into_raw), Some(raw))
}

/// Gives one reference back.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_set_put(set: &IoasidSet, handle: u64) -> i32 {
    let put = |handle| {
        // SAFETY: the caller's promise, word for word.
        unsafe { set.put(handle) }
    };
    status(Handle::from_raw(handle).and_then(put), None)
}

/// Revokes the PASID and gives the owner's reference back.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_set_free(set: &IoasidSet, handle: u64) -> i32 {
    let free = |handle| {
        // SAFETY: the caller's promise, word for word.
        unsafe { set.free(handle) }
    };
    status(Handle::from_raw(handle).and_then(free), None)
}

/// Drops an owner, which is `free`.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_set_drop_owned(set: &IoasidSet, handle: u64) -> i32 {
    // SAFETY: the caller's promise, word for word.
    status(unsafe { Owned::from_raw(set, handle) }.map(drop), None)
}

/// Drops a reference, which is `put`.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_set_drop_ref(set: &IoasidSet, handle: u64) -> i32 {
    // SAFETY: the caller's promise, word for word.
    status(unsafe { Ref::from_raw(set, handle) }.map(drop), None)
}

/// Revokes the PASID: no new references.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_set_revoke(set: &IoasidSet, handle: u64) -> i32 {
    let revoked = Handle::from_raw(handle).and_then(|handle| set.revoke(handle));
    status(revoked, None)
}

/// Looks a PASID up and copies the owner's word.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_set_find(
    set: &IoasidSet,
    pasid: u32,
    handle: &mut u64,
    word: &mut u64,
) -> i32 {
    let found = Pasid::new(pasid).and_then(|pasid| set.find(pasid));
    let copied = found.map(|found| {
        *handle = found.handle.to_raw();
        found.word
    });
    status(copied, Some(word))
}

/// One step of an iteration: the first live PASID of the set in `first..=last`.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_set_iterate(
    set: &IoasidSet,
    first: u32,
    last: u32,
    raw: &mut u64,
) -> i32 {
    match range(first, last).map(|range| set.iter(range).next()) {
        Ok(Some(found)) => {
            *raw = found.handle.to_raw();
            1
        }
        Ok(None) => 0,
        Err(error) => -error.errno(),
    }
}

/// How many PASIDs of the set are live.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_set_live(set: &IoasidSet) -> u32 {
    set.statistics().live
}

/// Revokes all of the set's PASIDs.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_set_free_all(set: &IoasidSet) {
    set.free_all();
}

/// Closes the set.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_set_close(set: &IoasidSet) {
    set.close();
}
