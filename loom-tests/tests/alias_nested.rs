// SPDX-License-Identifier: MIT OR Apache-2.0
//! Alias maps of nested guests: what a look-up gives stood on all levels at one instant.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Model, beside, pasid, range};
use pasid::Error;
use pasid::model::Mutation;
use std::sync::Arc;

mod guests;

use guests::{alloc, assert_all_free, assert_held, assert_of, guest, nested};

/// The outer guest detaches and frees while the nested one looks up: once that is done, the
/// nested one finds nothing.
fn nested_find_against_detach_below() {
    let (_machine, map, set, outer) = guest();
    let inner = nested(&map, &outer);
    let owned = alloc(&set, 0);
    let handle = owned.handle();
    outer.attach(pasid(2), handle).expect("nothing is attached");
    inner.attach_below(pasid(3), pasid(2)).expect("it is there");
    let detached = Arc::new(AtomicU64::new(0));
    let (finder, says) = (inner.clone(), detached.clone());
    let (got, ()) = beside(
        move || {
            // Acquire: pairs with the release of who detaches.
            let before = detached.load(Ordering::Acquire);
            let got = finder.find_and_get(pasid(3));
            assert!(
                got.is_err() || before == 0,
                "a nested look-up found what was detached"
            );
            got
        },
        move || {
            outer.detach(pasid(2)).expect("it is attached");
            says.store(1, Ordering::Release);
            drop(owned);
        },
    );
    assert_of(&got, handle);
    assert_held(&set, 0);
    assert_eq!(inner.detach(pasid(3)), Ok(handle));
    if got.is_ok() {
        assert_held(&set, 0);
    }
    drop(got);
    assert_all_free(&set);
}

#[test]
fn a_nested_look_up_finds_nothing_once_it_is_detached_below() {
    let model = Model::new(
        "nested find_and_get | detach below, free",
        131,
        nested_find_against_detach_below,
    );
    model.check();
    model.canary(
        Mutation::AliasBelowNotAsked,
        "a nested look-up found what was detached",
    );
}

/// The nested entry ends before the one below begins to be what it was: at no instant
/// did the number stand for anything.
fn nested_find_against_moving() {
    let (_machine, map, set, outer) = guest();
    let inner = nested(&map, &outer);
    let owned = alloc(&set, 0);
    outer
        .attach(pasid(2), owned.handle())
        .expect("nothing is attached");
    inner.attach_below(pasid(3), pasid(2)).expect("it is there");
    outer.detach(pasid(2)).expect("it is attached");
    let (finder, handle) = (inner.clone(), owned.handle());
    let (found, ()) = beside(
        move || finder.find(pasid(3)),
        move || {
            inner.detach(pasid(3)).expect("it is attached");
            outer.attach(pasid(2), handle).expect("nothing is attached");
            outer.detach(pasid(2)).expect("it is attached");
        },
    );
    assert_eq!(
        found,
        Err(Error::NotAttached(pasid(3))),
        "found at no instant"
    );
    drop(owned);
    assert_all_free(&set);
}

#[test]
fn a_nested_look_up_finds_what_stood_on_all_levels_at_once() {
    let model = Model::new(
        "nested find | detach, attach below",
        97,
        nested_find_against_moving,
    );
    model.check();
    model.canary(Mutation::AliasNotLookedAtAgain, "found at no instant");
}

/// A nested entry is made anew with another number below while one looks up: a look-up never
/// pairs the handle of the one with the number of the other.
fn nested_find_against_attaching_anew() {
    let (_machine, map, set, outer) = guest();
    let inner = nested(&map, &outer);
    let owned = [alloc(&set, 0), alloc(&set, 1)];
    let handles = owned.each_ref().map(|owned| owned.handle());
    for number in [0, 1] {
        let attached = outer.attach(pasid(number), handles[usize::from(number)]);
        attached.expect("nothing is attached");
    }
    inner.attach_below(pasid(3), pasid(0)).expect("it is there");
    let finder = inner.clone();
    let (found, ()) = beside(
        move || (finder.find(pasid(3)), finder.aliases(range(3, 3)).next()),
        move || {
            inner.detach(pasid(3)).expect("it is attached");
            inner.attach_below(pasid(3), pasid(1)).expect("it is there");
            inner.detach(pasid(3)).expect("it is attached");
        },
    );
    let (found, listed) = found;
    match found {
        Ok(handle) => assert!(handles.contains(&handle)),
        Err(error) => assert_eq!(error, Error::NotAttached(pasid(3))),
    }
    if let Some(alias) = listed {
        let below = alias.below.expect("none is direct");
        assert_eq!(
            below,
            alias.handle.pasid(),
            "a handle with another's number"
        );
    }
    drop(owned);
    for number in [0, 1] {
        outer.detach(pasid(number)).expect("it is attached");
    }
    assert_all_free(&set);
}

#[test]
fn a_nested_entry_is_seen_whole() {
    let model = Model::new(
        "nested find, list | detach, attach, detach",
        5102,
        nested_find_against_attaching_anew,
    );
    model.check();
    model.canary(Mutation::AliasReadOnce, "a handle with another's number");
}
