// SPDX-License-Identifier: MIT OR Apache-2.0
//! Models of allocating beside allocating and freeing.
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use loom_tests::{canary, check};
use pasid::model::Mutation;
use pasid::{PasidWidth, Space, SpaceRef};

fn space(bits: u8) -> Arc<Space> {
    Arc::new(Space::new(PasidWidth::new(bits).unwrap()).with_reserved(&[]))
}

/// Two threads allocate: they never get the same PASID.
fn two_allocate() {
    let space = space(1);
    space.preload(space.range()).unwrap();
    let other = space.clone();
    let thread = thread::spawn(move || {
        (&*other)
            .alloc_in_place(other.range(), 1)
            .map(|o| Handle::from_raw(o.into_raw()).unwrap().pasid())
            .ok()
    });
    let mine = space.alloc_in_place(space.range(), 2).unwrap();
    let theirs = thread.join().unwrap().expect("two are free and two ask");
    assert_ne!(mine.pasid(), theirs, "one PASID has two owners");
}
use pasid::Handle;

#[test]
fn two_allocate_two_pasids() {
    check("alloc|alloc", 1, two_allocate);
}

#[test]
fn two_allocate_two_pasids_canary() {
    canary(
        "alloc|alloc",
        Mutation::TakeInTwoSteps,
        "one PASID has two owners",
        two_allocate,
    );
}
