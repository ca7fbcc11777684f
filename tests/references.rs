// SPDX-License-Identifier: MIT OR Apache-2.0
//! The most references that one PASID can have: 2^17, and not one more.
//!
//! A program of its own, because it takes every reference there is, one by one.

mod common;

use common::{alloc, bare, pasid, put_raw, refused};
use pasid::{Error, Pool};
use std::mem::forget;

const REFERENCES_LAST: u32 = 1 << 17;

#[test]
fn a_reference_too_many_is_an_error_and_reaches_no_other_field() {
    let space = bare(20);
    let owned = space.alloc(pasid(77).into(), 7).unwrap();
    let neighbour = alloc(&space, 78, 78).unwrap();
    let of = owned.handle();
    let before = common::snapshot(&space);

    // The owner's own reference is one of them.
    let one = owned.get().unwrap();
    let mut held = 2;
    while held < REFERENCES_LAST {
        forget(one.try_clone());
        held += 1;
    }
    let too_many = Error::TooManyReferences(of);
    for _ in 0..1_000 {
        assert_eq!(refused(one.try_clone()), too_many);
        assert_eq!(refused(owned.get()), too_many);
        assert_eq!(refused(space.get(of)), too_many);
        assert_eq!(refused(space.get_at(of.pasid())), too_many);
    }
    // Generation, phase, word and neighbour are as they were.
    assert_eq!(common::snapshot(&space), before);
    assert_eq!(owned.word(), 7);

    // With one given back there is room for exactly one.
    put_raw(&space, of).unwrap();
    let last = space.get_at(of.pasid()).unwrap();
    assert_eq!(refused(one.try_clone()), too_many);
    drop(last);

    // Revoked at the highest count it is revoked, and nothing else: the count is
    // where it was, and comes down one by one.
    space.revoke(of).unwrap();
    assert_eq!(refused(space.get(of)), Error::BeingFreed(of.pasid()));
    let last = one.try_clone().unwrap();
    assert_eq!(refused(one.try_clone()), too_many);
    drop(last);
    drop((owned, one));
    for _ in 0..1_000 {
        put_raw(&space, of).unwrap();
        assert_eq!(space.find(of.pasid()), Err(Error::BeingFreed(of.pasid())));
    }
    assert_eq!(common::snapshot(&space), before[1..]);
    assert_eq!(neighbour.handle(), before[1].handle);
}
