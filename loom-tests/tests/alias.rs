// SPDX-License-Identifier: MIT OR Apache-2.0
//! Alias maps: what a look-up gives is what the entry held, live, and the host PASID is
//! nobody else's as long as an entry or a look-up holds it.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Model, beside, pasid, three_beside};
use pasid::model::Mutation;
use pasid::{Error, Pool};
use std::sync::Arc;

mod guests;

use guests::{alloc, assert_all_free, assert_held, assert_of, guest, nested};

// ---- find_and_get beside free and detach -----------------------------------------

/// One looks up while the owner frees, the entry is detached, and the next owner
/// allocates: the look-up has the first one's, which is then not free, or says why not.
fn find_against_free_and_detach() {
    let (_machine, _map, set, table) = guest();
    let owned = alloc(&set, 0);
    let handle = owned.handle();
    table.attach(pasid(3), handle).expect("nothing is attached");
    let freed = Arc::new(AtomicU64::new(0));
    let (finder, says, frees, next) = (table.clone(), freed.clone(), table.clone(), set.clone());
    let (got, owner) = beside(
        move || {
            // Acquire: pairs with the release of who frees.
            let before = freed.load(Ordering::Acquire);
            let got = finder.find_and_get(pasid(3));
            assert!(
                got.is_err() || before == 0,
                "a look-up found what was freed"
            );
            got
        },
        move || {
            drop(owned);
            says.store(1, Ordering::Release);
            assert_eq!(frees.detach(pasid(3)), Ok(handle));
            next.alloc_at(pasid(0), 6)
        },
    );
    assert_of(&got, handle);
    if got.is_ok() {
        assert_held(&set, 0);
        assert!(owner.is_err(), "two have the PASID");
    }
    drop((got, owner));
    assert_all_free(&set);
}

#[test]
fn a_look_up_beside_free_and_detach_has_what_was_attached_or_says_why_not() {
    let model = Model::new(
        "find_and_get | free, detach, alloc",
        436,
        find_against_free_and_detach,
    );
    model.check();
    model.canary(Mutation::AliasAskedOnce, "a look-up said");
    model.canary(Mutation::AliasPutFirst, "a look-up said");
}

/// One attaches what it has just allocated while another looks it up: nothing, or the
/// whole of it, with what was written before.
fn find_against_attach() {
    let (_machine, _map, set, table) = guest();
    let written = Arc::new(AtomicU64::new(0));
    let (finder, entry, allocates) = (table.clone(), written.clone(), set.clone());
    let (_, owned) = beside(
        move || {
            let got = finder.find_and_get(pasid(3));
            match &got {
                Err(error) => assert_eq!(*error, Error::NotAttached(pasid(3)), "a look-up said"),
                Ok(reference) => {
                    assert_eq!(reference.word(), 5);
                    // Relaxed: it is the entry that must have carried it here.
                    assert_eq!(
                        entry.load(Ordering::Relaxed),
                        1,
                        "seen before it was written"
                    );
                }
            }
        },
        move || {
            let owned = alloc(&allocates, 0);
            // Relaxed: as above.
            written.store(1, Ordering::Relaxed);
            table.attach(pasid(3), owned.handle()).expect("it is live");
            table.detach(pasid(3)).expect("it is attached");
            owned
        },
    );
    drop(owned);
    assert_all_free(&set);
}

#[test]
fn a_look_up_beside_attach_finds_nothing_or_all_of_it() {
    let model = Model::new(
        "find_and_get | alloc, attach, detach",
        82,
        find_against_attach,
    );
    model.check();
    model.canary(Mutation::AliasEnteredRelaxed, "a look-up said");
}

// ---- attach -----------------------------------------------------------------------

/// One attaches while the owner frees: the entry holds the PASID, or the attach is
/// refused.
fn attach_against_free() {
    let (_machine, _map, set, table) = guest();
    let owned = alloc(&set, 0);
    let handle = owned.handle();
    let attaches = table.clone();
    let (attached, ()) = beside(
        move || attaches.attach(pasid(3), handle),
        move || drop(owned),
    );
    match attached {
        Ok(()) => {
            let found = table.find(pasid(3));
            assert_eq!(
                found,
                Err(Error::BeingFreed(pasid(0))),
                "an entry holds nothing"
            );
            assert_held(&set, 0);
            assert_eq!(table.detach(pasid(3)), Ok(handle));
        }
        Err(error) => {
            let refusals = [Error::BeingFreed(pasid(0)), Error::Stale(handle)];
            assert!(refusals.contains(&error), "{error}");
        }
    }
    assert_all_free(&set);
}

#[test]
fn an_entry_holds_its_pasid_beside_a_free() {
    let model = Model::new("attach | free", 22, attach_against_free);
    model.check();
    model.canary(Mutation::AliasEnteredUncounted, "an entry holds nothing");
}

/// One attaches while another revokes: after both, no look-up gets a reference, and the
/// entry says so.
fn attach_against_revoke() {
    let (_machine, _map, set, table) = guest();
    let owned = alloc(&set, 0);
    let handle = owned.handle();
    let (attaches, revokes) = (table.clone(), set.clone());
    let ((attached, got), ()) = beside(
        move || {
            let attached = attaches.attach(pasid(3), handle);
            (attached, attaches.find_and_get(pasid(3)))
        },
        move || revokes.revoke(handle).expect("it is owned"),
    );
    let freeing = Error::BeingFreed(pasid(0));
    match attached {
        Ok(()) => {
            assert_of(&got, handle);
            assert_eq!(
                table.find(pasid(3)),
                Err(freeing),
                "an entry does not say so"
            );
            drop(got);
            assert_eq!(table.detach(pasid(3)), Ok(handle));
        }
        Err(error) => {
            assert_eq!(error, freeing);
            assert_eq!(got.err(), Some(Error::NotAttached(pasid(3))));
        }
    }
    drop(owned);
    assert_all_free(&set);
}

#[test]
fn an_entry_says_that_its_pasid_was_revoked() {
    let model = Model::new("attach, find_and_get | revoke", 39, attach_against_revoke);
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, "an entry does not say so");
}

/// One looks up while the set closes: once it is closing, the entry says that its PASID was
/// revoked, whether or not that was said to the PASID itself yet.
fn find_against_close() {
    let (_machine, _map, set, table) = guest();
    let owned = alloc(&set, 0);
    let handle = owned.handle();
    table.attach(pasid(3), handle).expect("it is live");
    let (finder, asks, closes) = (table.clone(), set.clone(), set.clone());
    beside(
        move || {
            let closing = asks.is_closing();
            let (found, got) = (finder.find(pasid(3)), finder.find_and_get(pasid(3)));
            let freeing = Error::BeingFreed(pasid(0));
            if closing {
                assert_eq!(found, Err(freeing), "found in a set that is closed");
                assert_eq!(got.err(), Some(freeing), "found in a set that is closed");
            } else {
                assert!(found == Ok(handle) || found == Err(freeing));
                assert_of(&got, handle);
            }
        },
        move || closes.close(),
    );
    assert_eq!(table.find(pasid(3)), Err(Error::BeingFreed(pasid(0))));
    assert_eq!(table.detach(pasid(3)), Ok(handle));
}

#[test]
fn an_entry_says_that_its_set_is_closed() {
    let model = Model::new("find, find_and_get | close", 267, find_against_close);
    model.check();
    model.canary(Mutation::GetForgetsClosing, "found in a set that is closed");
}

/// Two attach one number: one does, and nothing is left of the other.
fn attach_against_attach(over_another: bool) {
    let (_machine, map, set, mut table) = guest();
    if over_another {
        table = nested(&map, &table);
    }
    let owned = [alloc(&set, 0), alloc(&set, 1)];
    let handles = owned.each_ref().map(|owned| owned.handle());
    let attach = |handle| {
        let table = table.clone();
        move || table.attach(pasid(3), handle)
    };
    let attached = beside(attach(handles[0]), attach(handles[1]));
    let taken = Err(Error::AlreadyAttached(pasid(3)));
    let winner = match attached {
        (Ok(()), Ok(())) => panic!("two have the entry"),
        (Ok(()), refused) if refused == taken => handles[0],
        (refused, Ok(())) if refused == taken => handles[1],
        other => panic!("{other:?}"),
    };
    let found = table.find(pasid(3));
    assert_eq!(found, Ok(winner), "the entry of the one who has it is gone");
    drop(owned);
    assert_eq!(table.detach(pasid(3)), Ok(winner));
    assert_all_free(&set);
}

#[test]
fn one_of_two_attaches() {
    let model = Model::new("attach | attach", 20, || attach_against_attach(false));
    model.check();
    model.canary(Mutation::AliasEnteredInTwoSteps, "two have the entry");
    let model = Model::new("attach | attach, nested", 30, || {
        attach_against_attach(true)
    });
    model.check();
    model.canary(Mutation::AliasEnteredInTwoSteps, "two have the entry");
}

// ---- detach -----------------------------------------------------------------------

/// Two detach while one looks up: one of them ends the entry, and its reference is given
/// back once.
fn detach_against_detach_and_find() {
    let (_machine, _map, set, table) = guest();
    let owned = alloc(&set, 0);
    let handle = owned.handle();
    table.attach(pasid(3), handle).expect("nothing is attached");
    let detach = || {
        let table = table.clone();
        move || table.detach(pasid(3)).is_ok()
    };
    let finder = table.clone();
    let (got, one, two) = three_beside(move || finder.find_and_get(pasid(3)), detach(), detach());
    assert!(one != two, "an entry was ended twice, or never");
    assert_of(&got, handle);
    assert_eq!(table.find(pasid(3)), Err(Error::NotAttached(pasid(3))));
    drop(owned);
    if got.is_ok() {
        assert_held(&set, 0);
    }
    drop(got);
    assert_all_free(&set);
}

#[test]
fn one_of_two_detaches() {
    let model = Model::new(
        "find_and_get | detach | detach",
        1332,
        detach_against_detach_and_find,
    );
    model.check();
    model.canary(
        Mutation::AliasLeftInTwoSteps,
        "an entry was ended twice, or never",
    );
}
