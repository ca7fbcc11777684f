// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data calls of a table: attaching, and the fault path. What a call returns lies
//! where the caller has room for it.
//!
//! # Safety
//!
//! A place that is read holds what the call before wrote there, once.

use core::mem::MaybeUninit;
use pasid::{Attach, Attaching, Attachment, Fault, IoasidSet, Pasid, Ref, Table};

use crate::status;

type Held = &'static Table;

/// Writes the value of a result where the caller has room for it.
fn place<T>(result: Result<T, pasid::Error>, place: &mut MaybeUninit<T>) -> i32 {
    let written = result.map(|value| {
        place.write(value);
    });
    status(written, None)
}

/// Reserves the table's entry for a PASID of which the caller holds a reference.
///
/// # Safety
///
/// The caller holds the reference that the handle stands for, and keeps it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_table_attach(
    table: Held,
    set: &IoasidSet,
    handle: u64,
    word: u64,
    to: &mut MaybeUninit<Attaching<Held>>,
) -> i32 {
    // SAFETY: the caller's promise, and the reference is forgotten again below.
    let reference = unsafe { Ref::from_raw(set, handle) };
    let attaching = reference.and_then(|reference| {
        let attaching = table.attach(&reference, word);
        reference.into_raw();
        attaching
    });
    place(attaching, to)
}

/// Makes an attachment of a reservation.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_table_commit(
    from: &MaybeUninit<Attaching<Held>>,
    to: &mut MaybeUninit<Attachment<Held>>,
) -> i32 {
    // SAFETY: the caller's promise, word for word.
    place(unsafe { from.assume_init_read() }.commit(), to)
}

/// Gives a reservation back.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_table_back_out(from: &MaybeUninit<Attaching<Held>>) {
    // SAFETY: the caller's promise, word for word.
    drop(unsafe { from.assume_init_read() });
}

/// Replaces an attachment's word and returns the old one.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_table_replace(
    attachment: &Attachment<Held>,
    word: u64,
    old: &mut u64,
) -> i32 {
    status(attachment.replace(word), Some(old))
}

/// Ends an attachment.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_table_detach(from: &MaybeUninit<Attachment<Held>>) {
    // SAFETY: the caller's promise, word for word.
    unsafe { from.assume_init_read() }.detach();
}

/// Finds what is attached and takes a counted reference.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_table_fault_get(
    table: Held,
    pasid: u32,
    to: &mut MaybeUninit<Fault<Held>>,
    word: &mut u64,
    handle: &mut u64,
) -> i32 {
    let fault = Pasid::new(pasid).and_then(|pasid| table.fault_get(pasid));
    let fault = fault.inspect(|fault| {
        (*word, *handle) = (fault.word(), fault.handle().to_raw());
    });
    place(fault, to)
}

/// Gives a fault's reference back.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_table_fault_put(from: &MaybeUninit<Fault<Held>>) {
    // SAFETY: the caller's promise, word for word.
    drop(unsafe { from.assume_init_read() });
}

/// The first attachment of the table.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_table_iterate(table: Held, pasid: &mut u32, word: &mut u64) -> bool {
    let first = table.attachments(table.width().range()).next();
    first.is_some_and(|attached| {
        (*pasid, *word) = (attached.pasid.get(), attached.word);
        true
    })
}

/// Lets nothing more be attached.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_table_pause(table: Held) -> bool {
    table.pause()
}

/// Lets attach again.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_table_resume(table: Held) -> bool {
    table.resume()
}
