// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the integration tests share.
#![allow(dead_code, reason = "each test program uses its own part of this")]

pub mod allocator;
pub mod moving;
pub mod sets;
pub mod snapshots;

use pasid::{Error, Found, Handle, IdSpace, Owned, Pasid, PasidRange, PasidWidth, Pool, Ref};

/// The PASID of that number.
pub fn pasid(number: u32) -> Pasid {
    Pasid::new(number).expect("a test names PASIDs of at most 20 bits")
}

/// The PASIDs `first ..= last`.
pub fn range(first: u32, last: u32) -> PasidRange {
    PasidRange::new(pasid(first), pasid(last)).expect("a test names ranges that are not empty")
}

/// The width of that many bits.
pub fn width(bits: u8) -> PasidWidth {
    PasidWidth::new(bits).expect("a test names widths of at most 20 bits")
}

/// A space of `bits` bits in which nothing is reserved, PASID 0 included.
pub fn bare(bits: u8) -> IdSpace {
    IdSpace::with_reserved(width(bits), &[])
}

/// Everything that is live, with its handle and word.
pub fn snapshot(space: &IdSpace) -> Vec<Found> {
    space.iter(space.range()).collect()
}

/// The handle of a raw word that the space itself made.
pub fn handle(raw: u64) -> Handle {
    Handle::from_raw(raw).expect("a raw form that came from a handle")
}

/// The documented bits 20 ..= 31 of a handle: the tag of its space.
pub fn tag(handle: Handle) -> u64 {
    handle.to_raw() >> 20 & 0xfff
}

/// The same handle with another generation.
pub fn with_generation(of: Handle, generation: u32) -> Handle {
    handle(of.to_raw() & u64::from(u32::MAX) | u64::from(generation) << 32)
}

/// The same handle with another PASID.
pub fn with_pasid(of: Handle, number: u32) -> Handle {
    handle(of.to_raw() & !0xf_ffff | u64::from(number))
}

/// Allocates with PASIDs as numbers and without a word.
pub fn alloc(space: &IdSpace, first: u32, last: u32) -> Result<Owned<&IdSpace>, Error> {
    space.alloc(range(first, last), 0)
}

/// Allocates and keeps the raw form: nothing borrows the space.
pub fn alloc_raw(space: &IdSpace, first: u32, last: u32) -> Result<Handle, Error> {
    alloc(space, first, last).map(|owned| handle(owned.into_raw()))
}

/// Frees what `alloc_raw` allocated.
pub fn free_raw(space: &IdSpace, handle: Handle) -> Result<(), Error> {
    // SAFETY: tests pass what `alloc_raw` gave and nothing else owns, or a handle
    // whose allocation is over.
    unsafe { space.free(handle) }
}

/// Gives back a reference that is held in raw form.
pub fn put_raw(space: &IdSpace, handle: Handle) -> Result<(), Error> {
    // SAFETY: tests pass a handle of which they hold a reference in raw form, or
    // one whose allocation is over.
    unsafe { space.put(handle) }
}

/// The owner that `into_raw` took apart.
pub fn owned_from(space: &IdSpace, raw: u64) -> Owned<&IdSpace> {
    // SAFETY: tests pass what `Owned::into_raw` gave for this space, once.
    unsafe { Owned::from_raw(space, raw) }.expect("a raw form that came from an owner")
}

/// The reference that `into_raw` took apart.
pub fn ref_from(space: &IdSpace, raw: u64) -> Ref<&IdSpace> {
    // SAFETY: tests pass what `Ref::into_raw` gave for this space, once.
    unsafe { Ref::from_raw(space, raw) }.expect("a raw form that came from a reference")
}

/// The error of a call that must fail.
pub fn refused<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("the call should have been refused"),
        Err(error) => error,
    }
}

/// A generator whose seed a failing test prints, so that it can be repeated.
pub fn random(seed: u64) -> fastrand::Rng {
    println!("seed {seed:#x}");
    fastrand::Rng::with_seed(seed)
}
