// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control calls of a space with tables and sets.

use core::mem::MaybeUninit;
use pasid::{
    Error, IoasidSet, Owned, Pasid, PasidCell, PasidWidth, Policy, Pool, Ref, RequesterId, Reuse,
    Scope, SetConfig, Space, SpaceKind, Table, TableConfig,
};

use crate::{range, status};

/// Constant, so it needs no memory and no initialiser that runs.
static SPACES: [Space; 3] = [
    Space::with_capacity(SpaceKind::Global, 1 << 20),
    Space::new(SpaceKind::Tables),
    Space::new(SpaceKind::Both),
];

/// The spaces of this program, one of each kind.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_spaces() -> &'static [Space; 3] {
    &SPACES
}

/// Writes the value of a result where the caller has room for it.
fn place<T>(result: Result<T, Error>, place: &mut MaybeUninit<T>) -> i32 {
    let written = result.map(|value| {
        place.write(value);
    });
    status(written, None)
}

/// Adds a table with one reserved value.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_add_table(
    space: &Space,
    bits: u8,
    reserved: u32,
    to: &mut MaybeUninit<Table>,
) -> i32 {
    let added = PasidWidth::new(bits).and_then(|width| {
        let reserved = [range(reserved, reserved)?];
        space.add_table(TableConfig::new(width).reserved(&reserved))
    });
    place(added, to)
}

/// Adds a set: global with no table, local with one, and else a group.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_add_set(
    space: &Space,
    tables: &[Table; 2],
    count: usize,
    policy: u32,
    token: u64,
    to: &mut MaybeUninit<IoasidSet>,
) -> i32 {
    let [first, _] = tables;
    let scope = match count {
        0 => Scope::Global,
        1 => Scope::Local(first),
        _ => Scope::Group(tables),
    };
    let policy = match policy {
        0 => Policy::Lowest,
        1 => Policy::Next,
        2 => Policy::PreserveNarrow,
        _ => Policy::Spread,
    };
    let config = SetConfig::new(scope).policy(policy).token(token);
    let config = config.reuse(Reuse::AfterFlush);
    place(space.add_set(config.quota(1_000)), to)
}

/// Finds a set by its token.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_find_set(
    space: &Space,
    token: u64,
    to: &mut MaybeUninit<IoasidSet>,
) -> bool {
    let found = space.find_set(token).map(|set| {
        to.write(set);
    });
    found.is_some()
}

/// How many tables and sets are open or not gone.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_space_count(space: &Space) -> usize {
    let tables = space.tables().map_or(0, |tables| tables.len());
    let sets = space.sets().map_or(0, |sets| sets.len());
    let closed = space.closing_tables().map_or(0, |tables| tables.len());
    tables + sets + closed + space.closing_sets().map_or(0, |sets| sets.len())
}

/// Reserves one PASID on every table, and takes that back.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_space_reserve(space: &Space, pasid: u32, on: bool) -> i32 {
    let pasid = Pasid::new(pasid);
    let done = pasid.and_then(|pasid| match on {
        true => space.reserve(pasid),
        false => space.unreserve(pasid),
    });
    status(done, None)
}

/// Reserves one PASID on one table, and takes that back.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_table_reserve(table: &Table, pasid: u32, on: bool) -> i32 {
    let pasid = Pasid::new(pasid);
    let done = pasid.and_then(|pasid| match on {
        true => table.reserve(pasid),
        false => table.unreserve(pasid),
    });
    status(done, None)
}

/// A device joins a table.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_table_join(table: &Table, device: u32, bits: u8) -> i32 {
    let joined = PasidWidth::new(bits).and_then(|width| table.join(RequesterId(device), width));
    status(joined, None)
}

/// A device leaves a table.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_table_leave(table: &Table, device: u32) -> i32 {
    status(table.leave(RequesterId(device)), None)
}

/// Puts memory in place for attachments.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_table_preload(
    table: &Table,
    first: u32,
    last: u32,
    bytes: &mut usize,
) -> i32 {
    let added = range(first, last).and_then(|range| table.preload(range));
    status(added, Some(bytes))
}

/// Closes a table.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_table_close(table: &Table) {
    table.close();
}

/// Allocates from a set and grows its memory where it has to.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_set_alloc(
    set: &IoasidSet,
    cpu: u32,
    first: u32,
    last: u32,
    raw: &mut u64,
) -> i32 {
    let owned = range(first, last).and_then(|range| set.alloc_near(cpu, range, 0));
    status(owned.map(Owned::into_raw), Some(raw))
}

/// Puts memory in place for a set's PASIDs.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_set_preload(
    set: &IoasidSet,
    first: u32,
    last: u32,
    bytes: &mut usize,
) -> i32 {
    let added = range(first, last).and_then(|range| set.preload(range));
    status(added, Some(bytes))
}

/// Changes a set's quota.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_set_quota(set: &IoasidSet, quota: u32) -> i32 {
    status(set.set_quota(quota), None)
}

/// How much memory a space has, and what is left of its capacity.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_space_memory(space: &Space, left: &mut u32) -> usize {
    *left = space.capacity_left().unwrap_or(u32::MAX);
    space.memory_bytes()
}

/// Drops handles of a set and of a table, and a space of its own.
///
/// # Safety
///
/// They are there, and nobody uses them any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_control_space_drop(
    set: *mut IoasidSet,
    table: *mut Table,
    space: *mut Space,
) {
    // SAFETY: the caller's promise, word for word.
    unsafe { set.drop_in_place() };
    // SAFETY: as above.
    unsafe { table.drop_in_place() };
    // SAFETY: as above.
    unsafe { space.drop_in_place() };
}

/// Makes the cell of an address space.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_cell_new(
    set: &'static IoasidSet,
    stays: bool,
    to: &mut MaybeUninit<PasidCell<&'static IoasidSet>>,
) {
    to.write(match stays {
        true => PasidCell::new(set),
        false => PasidCell::until_last_unbind(set),
    });
}

/// Binds within `first..=last`, and grows the tree where it has to.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_control_cell_bind(
    cell: &PasidCell<&'static IoasidSet>,
    first: u32,
    last: u32,
    word: u64,
    raw: &mut u64,
) -> i32 {
    let bound = range(first, last).and_then(|range| cell.bind(range, word));
    status(bound.map(Ref::into_raw), Some(raw))
}
