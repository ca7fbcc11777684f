// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of the data calls.

use crate::hand::Hand;
use crate::scenes::{Ids, Nothings, Sets, Statics, alias, cell, flush, looking, pool, set, table};
use crate::shadow::COUNT;
use crate::world::flushes_at;

/// A scene in which a call is made.
pub type Scene = fn(&Hand);

/// What a call is made on, and so where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// An id space, of which there is one.
    Ids,
    /// A set, or a table with its PASIDs: at every place.
    Sets,
    /// What waits for a flush: where something does.
    Flushes,
}

/// One line of the table.
pub struct Row {
    pub of: Of,
    /// The names of the entry points in `xtask/freestanding` for which it stands. Where
    /// there are several, the scenes make the call in each of these ways.
    pub names: &'static [&'static str],
    /// How many PASIDs, with their credits, who is stopped in the middle of the call may
    /// keep from the others. What a call gives out or takes away is somebody's the whole
    /// time, though the others cannot know whose.
    pub withholds: u32,
    /// Each makes the call, once as the first of its kind, and gives everything back.
    pub scenes: &'static [Scene],
}

macro_rules! calls {
    ($($call:ident $of:ident [$($name:literal),+] $withholds:tt [$($scene:expr),+ $(,)?];)+) => {
        /// A data call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Call {
            $($call),+
        }

        /// All there are, in the order of [`ROWS`].
        pub const CALLS: &[Call] = &[$(Call::$call),+];

        /// What there is to know of each.
        pub static ROWS: &[Row] = &[
            $(Row {
                of: Of::$of,
                names: &[$($name),+],
                withholds: $withholds,
                scenes: &[$($scene),+],
            }),+
        ];
    };
}

/// A flush that is under way withholds its batch.
const BATCH: u32 = COUNT as u32;

calls! {
    AllocInPlace Ids ["alloc_in_place"] 1 [pool::alloc::<Ids>, pool::alloc_when_full::<Ids>];
    AllocAt Ids ["alloc_at"] 1 [pool::alloc_at::<Ids>, pool::alloc_at_again::<Ids>];
    Get Ids ["get"] 1 [pool::get::<Ids>, pool::get_lent::<Ids>, pool::get_revoked::<Ids>];
    GetAt Ids ["get_at"] 1 [
        pool::get_at::<Ids>,
        pool::get_at_lent::<Ids>,
        pool::get_at_free::<Ids>,
    ];
    Put Ids ["put"] 1 [pool::put_last::<Ids>, pool::put::<Ids>];
    Free Ids ["free"] 1 [pool::free::<Ids>, pool::free_held::<Ids>];
    Revoke Ids ["revoke"] 1 [pool::revoke::<Ids>, pool::revoke_lent::<Ids>];
    DropOwned Ids ["drop_owned"] 1 [pool::drop_owned::<Ids>, pool::drop_owned_held::<Ids>];
    DropRef Ids ["drop_ref"] 1 [pool::drop_ref::<Ids>, pool::drop_ref_last::<Ids>];
    Find Ids ["find"] 0 [looking::find::<Ids>, looking::find_lent::<Ids>];
    Iterate Ids ["iterate"] 0 [looking::iterate::<Ids>, looking::iterate_lent::<Ids>];
    AnyLive Ids ["any_live"] 0 [looking::any_live];
    CountLive Ids ["count_live"] 0 [looking::count_live];
    IntoRef Sets ["into_ref"] 0 [pool::put_last::<Ids>, pool::put_last::<Sets>];
    Clone Sets ["clone"] 0 [pool::clone::<Ids>, pool::clone::<Sets>];
    Replace Sets ["replace", "static_replace"] 0 [
        pool::replace::<Ids>,
        pool::replace::<Sets>,
        pool::replace::<Statics>,
    ];
    Pin Sets ["pin", "set_pin"] 0 [pool::pin::<Ids>, pool::pin::<Sets>];
    Unpin Sets ["unpin", "set_unpin"] 1 [
        pool::pin::<Ids>,
        pool::pin::<Sets>,
        pool::pin_last::<Ids>,
        pool::pin_last::<Sets>,
    ];
    SetAllocInPlace Sets [
        "set_alloc_in_place",
        "static_alloc_in_place",
        "nothing_alloc_in_place"
    ] 1 [
        pool::alloc::<Sets>,
        pool::alloc_when_full::<Sets>,
        pool::alloc::<Statics>,
        pool::alloc::<Nothings>,
    ];
    SetAllocInPlaceNear Sets ["set_alloc_in_place_near"] 1 [set::near, set::near_when_full];
    SetAllocAt Sets ["set_alloc_at", "static_alloc_at"] 1 [
        pool::alloc_at::<Sets>,
        pool::alloc_at_again::<Sets>,
        set::alloc_at_of_rival,
        pool::alloc_at::<Statics>,
    ];
    SetGet Sets ["set_get"] 1 [pool::get::<Sets>, pool::get_lent::<Sets>, pool::get_revoked::<Sets>];
    SetGetAt Sets ["set_get_at"] 1 [
        pool::get_at::<Sets>,
        pool::get_at_lent::<Sets>,
        pool::get_at_free::<Sets>,
    ];
    SetPut Sets ["set_put"] 1 [pool::put_last::<Sets>, pool::put::<Sets>];
    SetFree Sets ["set_free"] 1 [pool::free::<Sets>, pool::free_held::<Sets>];
    SetRevoke Sets ["set_revoke"] 1 [pool::revoke::<Sets>, pool::revoke_lent::<Sets>];
    SetDropOwned Sets ["set_drop_owned", "static_drop_owned", "nothing_drop_owned"] 1 [
        pool::drop_owned::<Sets>,
        pool::drop_owned_held::<Sets>,
        pool::drop_owned::<Statics>,
        pool::drop_owned::<Nothings>,
    ];
    SetDropRef Sets ["set_drop_ref", "static_drop_ref"] 1 [
        pool::drop_ref::<Sets>,
        pool::drop_ref_last::<Sets>,
        pool::drop_ref::<Statics>,
        pool::drop_ref_last::<Statics>,
    ];
    SetFind Sets ["set_find", "static_find", "nothing_find"] 0 [
        looking::find::<Sets>,
        looking::find_lent::<Sets>,
        looking::find::<Statics>,
        looking::find::<Nothings>,
    ];
    SetIterate Sets ["set_iterate", "static_iterate"] 0 [
        looking::iterate::<Sets>,
        looking::iterate_lent::<Sets>,
        looking::iterate::<Statics>,
    ];
    SetLive Sets ["set_live"] 0 [set::live];
    SetFreeAll Sets ["set_free_all"] 1 [set::free_all];
    SetClose Sets ["set_close"] 1 [set::close];
    TableAttach Sets ["table_attach"] 1 [table::attach, table::attach_again, table::attach_lent];
    TableCommit Sets ["table_commit"] 1 [table::detach];
    TableBackOut Sets ["table_back_out"] 1 [table::attach, table::back_out_last];
    TableReplace Sets ["table_replace"] 0 [table::replace];
    TableDetach Sets ["table_detach"] 1 [
        table::detach,
        table::detach_last,
        table::detach_under_fault,
    ];
    TableFaultGet Sets ["table_fault_get"] 1 [
        table::fault_get,
        table::fault_get_lent,
        table::fault_get_free,
    ];
    TableFaultPut Sets ["table_fault_put"] 1 [table::fault_get, table::fault_put_last];
    TableIterate Sets ["table_iterate"] 0 [table::iterate, table::iterate_lent];
    TablePause Sets ["table_pause"] 0 [table::pause];
    TableResume Sets ["table_resume"] 0 [table::pause];
    FlushBegin Flushes [
        "set_flush_begin",
        "space_flush_begin",
        "table_flush_begin",
        // It is this call, what the caller gives it, and the next one.
        "set_flush"
    ] BATCH [flush::cycle, flush::overlap];
    FlushComplete Flushes [
        "set_flush_complete",
        "space_flush_complete",
        "table_flush_complete"
    ] BATCH [flush::cycle, flush::overlap];
    FlushDrop Flushes ["set_flush_drop", "space_flush_drop", "table_flush_drop"] BATCH [
        flush::put_back,
    ];
    FlushPutBackOn Flushes [
        "set_flush_put_back_on",
        "space_flush_put_back_on",
        "table_flush_put_back_on"
    ] BATCH [flush::put_back_on_table];
    FlushCount Flushes ["set_flush_count", "space_flush_count", "table_flush_count"] 0 [
        flush::look_count,
    ];
    FlushRanges Flushes ["set_flush_range", "space_flush_range", "table_flush_range"] 0 [
        flush::look_ranges,
    ];
    FlushRangesOn Flushes [
        "set_flush_range_on",
        "space_flush_range_on",
        "table_flush_range_on"
    ] 0 [flush::look_on];
    FlushStatistics Flushes ["set_flushes", "space_flushes", "table_flushes"] 0 [
        flush::look_statistics,
    ];
    CellBind Sets [
        "cell_bind_in_place",
        "cell_of_ids_bind_in_place",
        "cell_static_bind_in_place"
    ] 1 [
        cell::keeping::<Sets>,
        cell::keeping::<Ids>,
        cell::keeping::<Statics>,
        cell::shared,
    ];
    CellFind Sets ["cell_find"] 0 [
        cell::looking::<Sets>,
        cell::looking::<Ids>,
        cell::keeping::<Sets>,
    ];
    CellIsRetired Sets ["cell_is_retired"] 0 [cell::asking, cell::looking::<Sets>];
    CellRetire Sets ["cell_retire"] 1 [cell::retiring::<Sets>, cell::retiring::<Ids>];
    AliasAttach Ids ["alias_attach"] 1 [alias::attach_and_detach];
    AliasAttachBelow Ids ["alias_attach_below"] 1 [alias::nested];
    AliasDetach Ids ["alias_detach"] 1 [alias::attach_and_detach];
    AliasDetachAll Ids ["alias_detach_all"] 1 [alias::detach_all];
    AliasFind Ids ["alias_find"] 0 [alias::find];
    AliasFindAndGet Ids ["alias_find_and_get"] 1 [alias::get_by_alias, alias::nested];
    AliasIterate Ids ["alias_iterate"] 0 [alias::iterate];
}

impl Call {
    /// The call at that place of the table, if there is one.
    pub fn at(index: usize) -> Option<Call> {
        CALLS.get(index).copied()
    }

    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Whether it is made at the place of that number.
    pub fn is_at(self, place: usize) -> bool {
        match self.row().of {
            Of::Ids => place == 0,
            Of::Sets => true,
            Of::Flushes => flushes_at(place),
        }
    }

    /// The first of its names.
    pub fn name(self) -> &'static str {
        self.row().names[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list of the check that links every data call.
    const FREESTANDING: &str = include_str!("../../xtask/src/freestanding.rs");

    #[test]
    fn every_data_call_is_in_the_table_once() {
        let list = FREESTANDING.split_once("const DATA_CALLS").expect("a list");
        let (list, _) = list.1.split_once("];").expect("an end of it");
        let listed = list.split('"').skip(1).step_by(2);
        let mut listed: Vec<&str> = listed.collect();
        listed.sort_unstable();
        let names = ROWS.iter().flat_map(|row| row.names);
        let mut names: Vec<&str> = names.copied().collect();
        names.sort_unstable();
        assert_eq!(names, listed);
    }
}
