// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory: the space itself and what it has of the heap.

use pasid::{IdSpace, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind, TableConfig};
use pasid_benches::heap::bytes_in_use;
use pasid_benches::report::{Goal, Report};
use pasid_benches::spaces::FULL_COUNT;

/// PASIDs live at the height of the burst.
const BURST_COUNT: u32 = 100_000;

pub(crate) fn run(report: &mut Report) {
    let before = bytes_in_use();
    let mut space = IdSpace::new(PasidWidth::MAX);
    let bytes = |heap: usize| (size_of::<IdSpace>() + heap) as f64;
    let empty = bytes(bytes_in_use() - before);
    live(&space, BURST_COUNT);
    space.shrink();
    let shrunk = bytes(bytes_in_use() - before);
    let dense = bytes(live(&space, FULL_COUNT)) / f64::from(FULL_COUNT);

    for (work, goal, bytes) in [
        ("memory of an empty 20-bit space", 1024.0, empty),
        ("memory after a burst and shrink", 2048.0, shrunk),
        ("memory of a live PASID, dense", 18.0, dense),
    ] {
        report.value(work, "bytes", Goal::Final(goal), bytes);
    }
    for (kind, name) in [
        (SpaceKind::Tables, "table space"),
        (SpaceKind::Both, "space for both"),
    ] {
        let work = format!("memory of 1,000 tables, 16 local PASIDs each, {name}");
        let mib = tables(kind) as f64 / f64::from(1 << 20);
        report.value(&work, "MiB", Goal::Final(12.0), mib);
    }
}

/// How much of the heap a space has for 1,000 tables of 20 bits with a set each and 16
/// PASIDs in it.
///
/// The handles and the owners are the caller's, in memory that is there before.
fn tables(kind: SpaceKind) -> usize {
    const TABLES: usize = 1000;
    const EACH: usize = 16;
    let (mut handles, mut live) = (
        Vec::with_capacity(TABLES),
        Vec::with_capacity(TABLES * EACH),
    );
    let before = bytes_in_use();
    let space = Space::new(kind);
    for _ in 0..TABLES {
        let table = space.add_table(TableConfig::new(PasidWidth::MAX));
        let table = table.expect("a table");
        let set = space.add_set(SetConfig::new(Scope::Local(&table)));
        handles.push((table, set.expect("a set")));
    }
    let sets = handles.iter().map(|(_, set)| set);
    for set in sets {
        live.extend((0..EACH as u64).map_while(|word| set.alloc(set.range(), word).ok()));
    }
    let bytes = bytes_in_use() - before + size_of::<Space>();
    assert_eq!(
        (live.len(), live.capacity()),
        (TABLES * EACH, TABLES * EACH)
    );
    assert!(
        live.iter()
            .all(|owned| (1..=16).contains(&owned.pasid().get()))
    );
    bytes
}

/// Allocates `count` PASIDs and frees them; how much of the heap the space had
/// taken by then.
fn live(space: &IdSpace, count: u32) -> usize {
    let mut live = Vec::with_capacity(count as usize);
    let before = bytes_in_use();
    live.extend((0..count).map_while(|_| space.alloc(space.range(), 0).ok()));
    assert_eq!(live.len(), count as usize);
    bytes_in_use() - before
}
