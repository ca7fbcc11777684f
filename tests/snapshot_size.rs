// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much room a snapshot of a full space takes: kilobytes where the PASIDs were allocated
//! one after the other. Times are printed; `cargo xtask bench` measures them.
#![cfg(feature = "serde")]

mod common;

use common::random;
use pasid::snapshot::{Restore, SpaceSnapshot};
use pasid::{Owned, Pool, Scope, SetConfig, Space, SpaceKind};
use std::time::Instant;

/// All but PASID 0, which is reserved.
const ALL: u32 = (1 << 20) - 1;

/// Takes a snapshot of the space, restores it, and returns its bytes of JSON and of postcard.
fn sizes(what: &str, space: &Space) -> (usize, usize) {
    let start = Instant::now();
    let taken = space.snapshot().expect("memory");
    let taking = start.elapsed();
    assert!(taken.quiescent && taken.sets[0].count() == u64::from(ALL));
    let json = serde_json::to_vec(&taken).expect("a form");
    let postcard = postcard::to_allocvec(&taken).expect("a form");
    let read: SpaceSnapshot = postcard::from_bytes(&postcard).expect("whole");
    let other = Space::new(SpaceKind::Global);
    let start = Instant::now();
    let mut restored = Restore::new(&read).into_space(&other).expect("it holds");
    let restoring = start.elapsed();
    // What was in the middle is there, with its word.
    let middle = taken.sets[0].entries().nth(1 << 19).expect("it is full");
    let set = restored.set::<u64>(0).expect("words");
    let owned = restored.claim(&set, middle.handle).expect("it was held");
    assert_eq!(
        (owned.pasid(), owned.word()),
        (middle.handle.pasid(), middle.word)
    );
    assert_eq!(set.count_live(set.range()), ALL);
    let (json, postcard) = (json.len(), postcard.len());
    println!(
        "{what}: {json} bytes of JSON, {postcard} of postcard, taken in {taking:?}, restored in {restoring:?}"
    );
    (json, postcard)
}

#[test]
fn a_full_space_takes_kilobytes() {
    let space = Space::new(SpaceKind::Global);
    let set = space
        .add_set(SetConfig::new(Scope::Global))
        .expect("memory");
    // Addresses of structures that lie one after the other.
    let word = |place: u32| 0xFFFF_8880_0000_0000 + u64::from(place) * 0x400;
    let mut owned: Vec<Owned<_>> = (0..ALL)
        .map(|place| (&set).alloc(set.range(), word(place)).expect("room"))
        .collect();
    let (json, postcard) = sizes("one after the other", &space);
    assert!(json <= 1024 && postcard <= 256, "{json}, {postcard}");

    // Half of them were given back and allocated again, anywhere: each such is named by a
    // generation of its own, which takes two bytes where it differs from its neighbour's.
    let mut random = random(0x5153);
    for _ in 0..ALL / 2 {
        drop(owned.swap_remove(random.usize(..owned.len())));
    }
    while owned.len() < ALL as usize {
        let one = (&set).alloc(set.range(), 0).expect("room");
        let place = one.pasid().get() - 1;
        let _ = one.replace(word(place));
        owned.push(one);
    }
    let (json, postcard) = sizes("with random generations", &space);
    assert!(
        postcard <= 2 << 20 && json <= 32 << 20,
        "{json}, {postcard}"
    );
}
