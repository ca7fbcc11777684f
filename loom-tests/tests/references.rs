// SPDX-License-Identifier: MIT OR Apache-2.0
//! References beside each other: a PASID stays with its holders until the last of
//! them gives it back, comes free exactly once then, and its next owner sees what
//! all of them wrote.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Held, Model, beside, pasid, three_beside};
use pasid::model::Mutation;
use pasid::{Error, Handle, IdSpace, Pool, Ref};
use std::sync::Arc;

type Reference = Ref<Arc<IdSpace>>;

/// A space in which 0 is allocated with the word 7, and 1, which stands in the same
/// word of bits, is held for ever.
fn owned_beside_neighbour() -> (Arc<IdSpace>, Held) {
    let space = loom_tests::space(1, &[]);
    let neighbour = space.clone().alloc_at(pasid(1), 1).unwrap();
    let _ = neighbour.into_raw();
    let owned = space.clone().alloc_at(pasid(0), 7).unwrap();
    (space, owned)
}

/// Fails unless 0 is free, and its neighbour still held: a bit that is given back
/// twice takes the neighbour's with it.
fn assert_free_once(space: &Arc<IdSpace>) {
    let owned = space.clone().alloc_at(pasid(0), 9);
    assert!(owned.is_ok(), "a PASID is lost");
    let neighbour = space.clone().alloc_at(pasid(1), 9);
    assert!(neighbour.is_err(), "a PASID was given back twice");
}

const LOST: &str = "a PASID is lost";

/// Fails if 0, of which somebody holds a reference, can be allocated.
fn assert_held(space: &Arc<IdSpace>) {
    let owned = space.clone().alloc_in_place(pasid(0).into(), 9);
    assert!(owned.is_err(), "a PASID was handed out that is referenced");
}

const HANDED_OUT: &str = "a PASID was handed out that is referenced";

fn put_by_drop(_: &IdSpace, reference: Reference) {
    drop(reference);
}

fn put_by_handle(space: &IdSpace, reference: Reference) {
    let handle = Handle::from_raw(reference.into_raw()).unwrap();
    // SAFETY: the reference that `into_raw` gave up.
    let put = unsafe { space.put(handle) };
    assert_eq!(put, Ok(()), "a reference cannot be given back");
}

// ---- free ----------------------------------------------------------------------

/// An owner and a revoker end an allocation of which a third holds a reference.
fn free_against_revoke() {
    let (space, owned) = owned_beside_neighbour();
    let (handle, third) = (owned.handle(), owned.get().unwrap());
    let revoker = space.clone();
    let ((), revoked) = beside(move || drop(owned), move || revoker.revoke(handle));
    assert_eq!(revoked, Ok(()));
    assert_held(&space);
    assert_eq!(third.word(), 7);
    drop(third);
    assert_free_once(&space);
}

#[test]
fn a_reference_survives_free_and_revoke() {
    let model = Model::new("free | revoke", 29, free_against_revoke);
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
}

/// Two free what is owned in raw form, while a third holds a reference.
fn free_against_free() {
    let (space, owned) = owned_beside_neighbour();
    let third = owned.get().unwrap();
    let handle = Handle::from_raw(owned.into_raw()).unwrap();
    let (one, two) = (space.clone(), space.clone());
    let freed = beside(
        // SAFETY: the allocation is owned in raw form; who is second frees one that
        // is without its own reference.
        move || unsafe { one.free(handle) },
        // SAFETY: as above.
        move || unsafe { two.free(handle) },
    );
    assert_eq!(freed, (Ok(()), Ok(())));
    assert_held(&space);
    assert_eq!(third.word(), 7);
    drop(third);
    assert_free_once(&space);
}

#[test]
fn two_frees_give_back_one_reference() {
    let model = Model::new("free | free", 22, free_against_free);
    model.check();
    model.canary(Mutation::FreeJudgesEarly, HANDED_OUT);
}

// ---- get -----------------------------------------------------------------------

/// One asks for a reference while the last is given back: it holds the PASID, or
/// is refused.
fn get_against_last(give_up: fn(Held)) {
    let (space, owned) = owned_beside_neighbour();
    let handle = owned.handle();
    let getter = space.clone();
    beside(
        move || match getter.clone().get(handle) {
            Ok(reference) => {
                assert_held(&getter);
                assert_eq!(reference.word(), 7);
            }
            Err(error) => assert!(
                error == Error::Stale(handle) || error == Error::BeingFreed(pasid(0)),
                "{error}"
            ),
        },
        move || give_up(owned),
    );
    assert_free_once(&space);
}

#[test]
fn a_get_beside_the_last_put_holds_or_is_refused() {
    let model = Model::new("get | last put", 71, || {
        get_against_last(|owned| drop(owned.into_ref()));
    });
    model.check();
    model.canary(Mutation::GetFromNothing, LOST);
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
}

#[test]
fn a_get_beside_a_free_holds_or_is_refused() {
    let model = Model::new("get | free", 27, || get_against_last(drop));
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
}

const CORRUPTED: &str = "the next owner's count is corrupted";

/// A handle of an allocation that is over is used while the next one begins.
fn stale_get_against_alloc() {
    let space = loom_tests::space(1, &[]);
    let stale = space.clone().alloc_at(pasid(0), 1).unwrap().handle();
    let (getter, owner) = (space.clone(), space.clone());
    let (owned, got) = beside(
        move || owner.alloc_at(pasid(0), 2).expect("it is free"),
        move || getter.get(stale).map(|reference| reference.word()),
    );
    assert_eq!(got, Err(Error::Stale(stale)));
    let reference = owned.get();
    assert!(reference.is_ok(), "the next owner's count is corrupted");
    drop(owned);
    assert_held(&space);
    drop(reference);
    let again = space.alloc_at(pasid(0), 3);
    assert!(again.is_ok(), "the next owner's count is corrupted");
}

#[test]
fn a_stale_get_does_not_touch_the_next_owner() {
    let model = Model::new("stale get | alloc", 13, stale_get_against_alloc);
    model.check();
    model.canary(Mutation::GetByAddition, CORRUPTED);
}

/// One asks by number while an allocation goes and the next one comes: what it
/// gets is one of them, whole.
fn get_at_against_alloc() {
    let space = loom_tests::space(1, &[]);
    let first = space.clone().alloc_at(pasid(0), 1).unwrap();
    let generation = first.handle().generation();
    let (owner, getter) = (space.clone(), space.clone());
    let ((), next) = beside(
        move || {
            let Ok(reference) = getter.clone().get_at(pasid(0)) else {
                return;
            };
            let owner = reference.handle().generation() - generation + 1;
            let word = reference.word();
            assert_eq!(word, owner.into(), "a reference has another owner's word");
            assert_held(&getter);
        },
        move || {
            drop(first);
            owner.alloc_at(pasid(0), 2)
        },
    );
    drop(next);
    assert!(space.alloc_at(pasid(0), 3).is_ok(), "a PASID is lost");
}

#[test]
fn a_get_by_number_sees_one_owner_whole() {
    let model = Model::new("get_at | free, alloc", 145, get_at_against_alloc);
    model.check();
    model.canary(
        Mutation::GoLiveRelaxed,
        "a reference has another owner's word",
    );
}

// ---- put -----------------------------------------------------------------------

const UNSEEN: &str = "the next owner does not see what a holder wrote";

/// Two holders write and give their references back, by `one` and `two`; whoever
/// owns the PASID next sees what both wrote, and it came free once.
fn put_against_put(one: fn(&IdSpace, Reference), two: fn(&IdSpace, Reference)) {
    let (space, owned) = owned_beside_neighbour();
    let notes = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let first = owned.into_ref();
    let second = first.try_clone().unwrap();
    let put = |index: usize, put: fn(&IdSpace, Reference), reference: Reference| {
        let (space, notes) = (space.clone(), notes.clone());
        move || {
            // Relaxed: it is the PASID that must carry it to the next owner.
            notes[index].store(1, Ordering::Relaxed);
            put(&space, reference);
        }
    };
    let (asker, written) = (space.clone(), notes.clone());
    three_beside(put(0, one, first), put(1, two, second), move || {
        let Ok(_next) = asker.alloc_in_place(pasid(0).into(), 8) else {
            return;
        };
        for note in written.iter() {
            // Relaxed: as above.
            let seen = note.load(Ordering::Relaxed);
            assert_eq!(seen, 1, "the next owner does not see what a holder wrote");
        }
    });
    assert_free_once(&space);
}

#[test]
fn two_drops_end_an_allocation_once() {
    let model = Model::new("put | put | alloc", 1_603, || {
        put_against_put(put_by_drop, put_by_drop);
    });
    model.check();
    model.canary(Mutation::PutRelaxed, UNSEEN);
}

#[test]
fn two_puts_by_handle_end_an_allocation_once() {
    let model = Model::new("put by handle | put by handle | alloc", 2_976, || {
        put_against_put(put_by_handle, put_by_handle);
    });
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
}

#[test]
fn a_drop_and_a_put_by_handle_end_an_allocation_once() {
    let model = Model::new("put | put by handle | alloc", 2_754, || {
        put_against_put(put_by_drop, put_by_handle);
    });
    model.check();
    model.canary(Mutation::PutRelaxed, UNSEEN);
}

/// An owner takes and gives back a reference and frees, while another holder gives
/// its own back.
fn owner_against_put() {
    let (space, owned) = owned_beside_neighbour();
    let other = owned.get().unwrap();
    let (one, two) = (space.clone(), space.clone());
    beside(
        move || {
            let reference = owned.get().expect("the owner still holds it");
            drop(owned);
            assert_held(&one);
            drop(reference);
        },
        move || put_by_handle(&two, other),
    );
    assert_free_once(&space);
}

#[test]
fn an_owner_counts_beside_other_holders() {
    let model = Model::new("Owned::get, drop | put", 70, owner_against_put);
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
}

// ---- revoke --------------------------------------------------------------------

/// One revokes while another asks for a reference: one that is given counts, and
/// none is given once the revoker has returned.
fn revoke_against_get() {
    let (space, owned) = owned_beside_neighbour();
    let handle = owned.handle();
    let (revoker, getter) = (space.clone(), space.clone());
    let (after, reference) = beside(
        move || {
            revoker.revoke(handle)?;
            revoker.get(handle).map(|reference| reference.word())
        },
        move || getter.get(handle),
    );
    let refused = Error::BeingFreed(pasid(0));
    assert_eq!(
        after,
        Err(refused),
        "a reference was given after the revoke"
    );
    drop(owned);
    match reference {
        Ok(reference) => {
            assert_held(&space);
            drop(reference);
        }
        Err(error) => assert_eq!(error, refused),
    }
    assert_free_once(&space);
}

#[test]
fn a_get_beside_a_revoke_counts_or_is_refused() {
    let model = Model::new("revoke | get", 23, revoke_against_get);
    model.check();
    model.canary(
        Mutation::AdvanceInTwoSteps,
        "a reference was given after the revoke",
    );
}

/// An owner makes its reference one like any other while another revokes: the
/// reference can be given back as one.
fn disown_against_revoke() {
    let (space, owned) = owned_beside_neighbour();
    let handle = owned.handle();
    let revoker = space.clone();
    let (reference, revoked) = beside(move || owned.into_ref(), move || revoker.revoke(handle));
    assert_eq!(revoked, Ok(()));
    assert_held(&space);
    put_by_handle(&space, reference);
    assert_free_once(&space);
}

#[test]
fn a_disowned_reference_counts_beside_a_revoke() {
    let model = Model::new("into_ref | revoke", 22, disown_against_revoke);
    model.check();
    model.canary(
        Mutation::AdvanceInTwoSteps,
        "a reference cannot be given back",
    );
}

/// An owner makes its reference one like any other while another takes one.
fn disown_against_get() {
    let (space, owned) = owned_beside_neighbour();
    let handle = owned.handle();
    let getter = space.clone();
    let (first, second) = beside(
        move || owned.into_ref(),
        move || getter.get(handle).expect("nobody revokes"),
    );
    put_by_handle(&space, first);
    assert_held(&space);
    put_by_handle(&space, second);
    assert_free_once(&space);
}

#[test]
fn a_disowned_reference_counts_beside_a_get() {
    let model = Model::new("into_ref | get", 22, disown_against_get);
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, HANDED_OUT);
}

/// A holder takes one more reference and gives one back while another revokes.
fn clone_against_revoke() {
    let (space, owned) = owned_beside_neighbour();
    let handle = owned.handle();
    let first = owned.into_ref();
    let revoker = space.clone();
    let (second, revoked) = beside(
        move || first.try_clone().expect("far from the most references"),
        move || revoker.revoke(handle),
    );
    assert_eq!(revoked, Ok(()));
    assert_held(&space);
    drop(second);
    assert_free_once(&space);
}

#[test]
fn a_clone_counts_beside_a_revoke() {
    let model = Model::new("try_clone, put | revoke", 41, clone_against_revoke);
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
}

/// The last reference is given back while another revokes.
fn last_put_against_revoke() {
    let (space, owned) = owned_beside_neighbour();
    let handle = owned.handle();
    let (last, revoker) = (owned.into_ref(), space.clone());
    let ((), revoked) = beside(move || drop(last), move || revoker.revoke(handle));
    assert!(revoked.is_ok() || revoked == Err(Error::Stale(handle)));
    let next = space.clone().alloc_at(pasid(0), 8);
    let next = next.map(|owned| owned.handle().generation());
    let expected = Ok(handle.generation() + 1);
    assert_eq!(next, expected, "a handle names two allocations");
    assert_free_once(&space);
}

#[test]
fn a_revoke_beside_the_last_put_revokes_or_is_refused() {
    let model = Model::new("last put | revoke", 39, last_put_against_revoke);
    model.check();
    model.canary(
        Mutation::AdvanceInTwoSteps,
        "a handle names two allocations",
    );
}

/// One revokes an allocation that ends, while the next one begins.
fn revoke_against_alloc() {
    let (space, owned) = owned_beside_neighbour();
    let handle = owned.handle();
    let (owner, revoker) = (space.clone(), space.clone());
    let (next, _) = beside(
        move || {
            drop(owned);
            owner.alloc_at(pasid(0), 8)
        },
        move || revoker.revoke(handle),
    );
    let next = next.expect("its owner was the last holder");
    assert!(next.get().is_ok(), "a revoke reached the next owner");
}

#[test]
fn a_revoke_does_not_reach_the_next_owner() {
    let model = Model::new("free, alloc | revoke", 40, revoke_against_alloc);
    model.check();
    model.canary(
        Mutation::AdvanceInTwoSteps,
        "a revoke reached the next owner",
    );
}
