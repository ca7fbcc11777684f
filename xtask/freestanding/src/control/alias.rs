// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control calls of a guest's alias map.

use core::mem::MaybeUninit;
use pasid::{AliasMap, IoasidSet, PasidWidth, VirtualTable};

use crate::{range, status};

type Set = &'static IoasidSet;

/// Constant, so it needs no memory and no initialiser that runs.
static MAP: AliasMap<Set> = AliasMap::new();

/// Adds a virtual table, over another if there is one.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_alias_add_table(
    bits: u8,
    set: Set,
    below: Option<&VirtualTable<Set>>,
    to: &mut MaybeUninit<VirtualTable<Set>>,
) -> i32 {
    let added = PasidWidth::new(bits).and_then(|width| match below {
        Some(below) => MAP.add_nested(width, below),
        None => MAP.add_table(width, set),
    });
    let written = added.map(|table| {
        to.write(table);
    });
    status(written, None)
}

/// Puts memory in place for a guest's numbers.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_alias_preload(
    table: &VirtualTable<Set>,
    first: u32,
    last: u32,
    bytes: &mut usize,
) -> i32 {
    let preloaded = range(first, last).and_then(|range| table.preload(range));
    status(preloaded, Some(bytes))
}

/// Takes a table out of the map.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_alias_remove(table: &VirtualTable<Set>) -> bool {
    MAP.remove(table)
}

/// How many tables the map has.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_alias_count() -> usize {
    MAP.tables().map_or(0, |tables| tables.len())
}

/// Drops a handle of a table.
///
/// # Safety
///
/// The place holds one, which nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_control_alias_drop(from: &MaybeUninit<VirtualTable<Set>>) {
    // SAFETY: the caller's promise, word for word.
    drop(unsafe { from.assume_init_read() });
}
