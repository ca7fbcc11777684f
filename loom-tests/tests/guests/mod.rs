// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest of a model, and what its look-ups may say.
#![allow(dead_code, reason = "each model file uses its own part of this")]

use loom_tests::{HeldOf, LOST, Machine, Set, pasid, range};
use pasid::{AliasMap, Error, Handle, PasidWidth, Pool, Ref, SpaceKind, VirtualTable};

pub type Guest = VirtualTable<Set>;
pub type Got = pasid::Result<Ref<Set>>;

/// A set with two PASIDs, and a guest's table with memory for four numbers.
///
/// The machine and the map outlive the threads.
pub fn guest() -> (Machine, AliasMap<Set>, Set, Guest) {
    let machine = Machine::new(SpaceKind::Tables, 1, 1);
    let set = machine.local(0);
    let map = AliasMap::new();
    let table = table(&map, |map, width| map.add_table(width, set.clone()));
    (machine, map, set, table)
}

pub fn table(
    map: &AliasMap<Set>,
    add: impl Fn(&AliasMap<Set>, PasidWidth) -> pasid::Result<Guest>,
) -> Guest {
    let table = add(map, PasidWidth::new(2).expect("2 bits")).expect("memory");
    table.preload(range(0, 3)).expect("memory for 4 numbers");
    table
}

/// A nested guest's table over `below`.
pub fn nested(map: &AliasMap<Set>, below: &Guest) -> Guest {
    table(map, |map, width| map.add_nested(width, below))
}

pub fn alloc(set: &Set, number: u16) -> HeldOf {
    set.clone().alloc_at(pasid(number), 5).expect("it is free")
}

/// Fails if `number`, which somebody holds, can be allocated.
pub fn assert_held(set: &Set, number: u16) {
    let owned = set.clone().alloc_at(pasid(number), 9);
    assert!(owned.is_err(), "a PASID was handed out that is referenced");
}

/// Fails unless each of the set's PASIDs can be had, once.
pub fn assert_all_free(set: &Set) {
    for number in [0, 1] {
        let owned = set.clone().alloc_at(pasid(number), 9);
        assert!(owned.is_ok(), "{LOST}");
        assert_held(set, number);
    }
}

/// Fails unless it is what was attached, or nothing: what a look-up may say where one
/// detaches and frees.
pub fn assert_of(got: &Got, handle: Handle) {
    match got {
        Ok(reference) => {
            assert_eq!(
                reference.handle(),
                handle,
                "a look-up found another owner's"
            );
        }
        Err(Error::NotAttached(number)) => assert_eq!(*number, pasid(3)),
        Err(Error::BeingFreed(number)) => assert_eq!(*number, handle.pasid()),
        Err(error) => panic!("a look-up said: {error}"),
    }
}
