// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots of a full space: how large they are, and how long they take.

use std::hint::black_box;
use std::time::Instant;

use pasid::snapshot::{Restore, SpaceSnapshot};
use pasid::{IoasidSet, Owned, Pool, Scope, SetConfig, Space, SpaceKind};
use pasid_benches::report::{Goal, Report};
use pasid_benches::spaces::FULL_COUNT;

const ROUNDS: usize = 5;
const MS: (&str, f64) = ("ms", 1e6);

pub(crate) fn run(report: &mut Report) {
    let space = Space::new(SpaceKind::Global);
    let set = space.add_set(SetConfig::new(Scope::Global)).expect("a set");
    // Addresses of structures that lie one after the other.
    let word = |place: u32| 0xFFFF_8880_0000_0000 + u64::from(place) * 0x400;
    let mut live: Vec<Owned<&IoasidSet>> = (0..FULL_COUNT)
        .map_while(|place| (&set).alloc(set.range(), word(place)).ok())
        .collect();
    measure(report, &space, "dense", Goal::Final(64.0));

    // Each second one was given back and allocated again, so that generations alternate.
    let again: Vec<_> = live.iter().step_by(2).map(Owned::pasid).collect();
    live.retain(|owned| owned.pasid().get() % 2 == 0);
    for pasid in again {
        live.extend((&set).alloc_at(pasid, word(pasid.get() - 1)));
    }
    measure(report, &space, "alternating generations", Goal::None);
    assert_eq!(live.len(), FULL_COUNT as usize);
}

fn measure(report: &mut Report, space: &Space, what: &str, goal: Goal) {
    let taken = space.snapshot().expect("memory");
    assert_eq!(taken.sets[0].count(), u64::from(FULL_COUNT));
    let kib = |bytes: Vec<u8>| bytes.len() as f64 / 1024.0;
    let json = kib(serde_json::to_vec(&taken).expect("a form"));
    let postcard = kib(postcard::to_allocvec(&taken).expect("a form"));
    let work = |what_of: &str| format!("snapshot of 2^20 PASIDs, {what}: {what_of}");
    report.value(&work("JSON"), "KiB", goal, json);
    report.value(&work("postcard"), "KiB", goal, postcard);
    let taking = times(|| drop(black_box(space.snapshot())));
    report.time(&work("take"), MS, Goal::None, &taking);
    report.time(&work("restore"), MS, Goal::None, &restoring(&taken));
}

fn times(mut work: impl FnMut()) -> Vec<f64> {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_nanos() as f64
    };
    (0..ROUNDS).map(time).collect()
}

/// Into a new space each time; what was restored is dropped after the clock was read.
fn restoring(taken: &SpaceSnapshot) -> Vec<f64> {
    let time = |_| {
        let space = Space::new(SpaceKind::Global);
        let start = Instant::now();
        let restored = Restore::new(taken).into_space(&space).expect("it holds");
        let ns = start.elapsed().as_nanos() as f64;
        drop(restored);
        ns
    };
    (0..ROUNDS).map(time).collect()
}
