// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data calls of the cell of an address space.

use pasid::{IdSpace, IoasidSet, PasidCell, Ref};

use crate::{range, status};

type Set = &'static IoasidSet;

/// Binds within `first..=last`, with the memory that is there. `pasid_data_set_put` unbinds.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_cell_bind_in_place(
    cell: &PasidCell<Set>,
    first: u32,
    last: u32,
    word: u64,
    raw: &mut u64,
) -> i32 {
    let bound = range(first, last).and_then(|range| cell.bind_in_place(range, word));
    status(bound.map(Ref::into_raw), Some(raw))
}

/// The same for a cell of an id space.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_cell_of_ids_bind_in_place(
    cell: &PasidCell<&'static IdSpace>,
    first: u32,
    last: u32,
    word: u64,
    raw: &mut u64,
) -> i32 {
    let bound = range(first, last).and_then(|range| cell.bind_in_place(range, word));
    status(bound.map(Ref::into_raw), Some(raw))
}

/// The same for payloads that are references.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_cell_static_bind_in_place(
    cell: &PasidCell<&'static IoasidSet<&'static u64>>,
    first: u32,
    last: u32,
    payload: &'static u64,
    raw: &mut u64,
) -> i32 {
    let bound = range(first, last).and_then(|range| cell.bind_in_place(range, payload));
    status(bound.map(Ref::into_raw), Some(raw))
}

/// The PASID that the address space has, or 0.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_cell_find(cell: &PasidCell<Set>) -> u64 {
    cell.find().map_or(0, |handle| handle.to_raw())
}

/// Ends the cell.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_cell_retire(cell: &PasidCell<Set>) {
    cell.retire();
}

/// Whether the cell was ended.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_cell_is_retired(cell: &PasidCell<Set>) -> bool {
    cell.is_retired()
}
