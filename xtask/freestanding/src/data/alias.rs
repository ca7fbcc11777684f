// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data calls of a guest's virtual table.

use pasid::{Handle, IoasidSet, Pasid, Ref, VirtualTable};

use crate::status;

type Guest = VirtualTable<&'static IoasidSet>;

/// Attaches a guest's number to a host PASID.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_alias_attach(table: &Guest, guest: u32, handle: u64) -> i32 {
    let attach = |guest| table.attach(guest, Handle::from_raw(handle)?);
    status(Pasid::new(guest).and_then(attach), None)
}

/// Attaches a nested guest's number to one of the table below.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_alias_attach_below(table: &Guest, guest: u32, number: u32) -> i32 {
    let attach = |guest| table.attach_below(guest, Pasid::new(number)?);
    status(Pasid::new(guest).and_then(attach), None)
}

/// Detaches a guest's number.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_alias_detach(table: &Guest, guest: u32, raw: &mut u64) -> i32 {
    let detached = Pasid::new(guest).and_then(|guest| table.detach(guest));
    status(detached.map(Handle::to_raw), Some(raw))
}

/// Detaches all numbers.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_alias_detach_all(table: &Guest) {
    table.detach_all();
}

/// Finds the host PASID of a guest's number.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_alias_find(table: &Guest, guest: u32, raw: &mut u64) -> i32 {
    let found = Pasid::new(guest).and_then(|guest| table.find(guest));
    status(found.map(Handle::to_raw), Some(raw))
}

/// Finds the host PASID of a guest's number and takes a reference.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_alias_find_and_get(table: &Guest, guest: u32, raw: &mut u64) -> i32 {
    let got = Pasid::new(guest).and_then(|guest| table.find_and_get(guest));
    status(got.map(Ref::into_raw), Some(raw))
}

/// The first entry of the table.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_alias_iterate(table: &Guest, guest: &mut u32, raw: &mut u64) -> bool {
    let first = table.aliases(table.width().range()).next();
    first.is_some_and(|alias| {
        (*guest, *raw) = (alias.guest.get(), alias.handle.to_raw());
        true
    })
}
