// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory: the space itself and what it has of the heap.

use pasid::{IdSpace, PasidWidth, Pool};
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
