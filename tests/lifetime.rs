// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of one PASID: owners, references, revocation, stale handles.

mod common;

use common::{
    alloc, bare, free_raw, handle, owned_from, pasid, put_raw, range, ref_from, refused, snapshot,
};
use pasid::{Error, Handle, IdSpace, Owned, Pasid, PasidWidth, Pool, Ref};
use std::sync::Arc;

/// What looking at a PASID says in each phase, by number and by handle.
#[derive(Debug, PartialEq)]
enum Seen {
    Live,
    BeingFreed,
    Over,
}

#[track_caller]
fn seen(space: &IdSpace, of: Handle) -> Seen {
    let number = of.pasid();
    let by_handle = space.get(of).map(drop);
    let by_number = space.get_at(number).map(|one| one.handle());
    let found = space.find(number).map(|found| found.handle);
    let listed = space.any_live(number.into());
    assert_eq!(by_number, found);
    assert_eq!(listed, found.is_ok());
    match by_handle {
        Ok(()) => {
            assert_eq!(found, Ok(of));
            Seen::Live
        }
        Err(Error::BeingFreed(number)) => {
            assert_eq!(found, Err(Error::BeingFreed(number)));
            Seen::BeingFreed
        }
        Err(Error::Stale(stale)) => {
            assert_eq!(stale, of);
            assert_ne!(found, Ok(of));
            Seen::Over
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn dropping_an_owner_without_references_ends_the_allocation() {
    let space = bare(20);
    let owned = alloc(&space, 0, 9).unwrap();
    let of = owned.handle();
    assert_eq!(seen(&space, of), Seen::Live);
    drop(owned);
    assert_eq!(seen(&space, of), Seen::Over);
    assert_eq!(space.find(of.pasid()), Err(Error::NotFound(of.pasid())));
    let again = alloc(&space, 0, 9).unwrap();
    assert_eq!(again.pasid(), of.pasid());
    assert_ne!(again.handle(), of);
    assert_eq!(seen(&space, of), Seen::Over);
}

#[test]
fn a_freed_pasid_waits_for_its_last_reference() {
    let space = bare(20);
    let owned = alloc(&space, 3, 3).unwrap();
    let of = owned.handle();
    let (one, two) = (owned.get().unwrap(), space.get(of).unwrap());
    drop(owned);
    assert_eq!(seen(&space, of), Seen::BeingFreed);
    // A holder may still hold more of it, look at it and change its word.
    let three = one.try_clone().unwrap();
    assert_eq!(three.replace(5), 0);
    assert_eq!(two.word(), 5);
    drop((one, two));
    assert_eq!(seen(&space, of), Seen::BeingFreed);
    assert_eq!(refused(space.alloc_at(pasid(3), 0)), Error::InUse(pasid(3)));
    drop(three);
    assert_eq!(seen(&space, of), Seen::Over);
    assert_eq!(space.alloc_at(pasid(3), 0).unwrap().word(), 0);
}

#[test]
fn into_ref_counts_plainly_and_nobody_revokes() {
    let space = bare(20);
    let first = alloc(&space, 0, 9).unwrap().into_ref();
    let of = first.handle();
    let second = space.get(of).unwrap();
    drop(first);
    assert_eq!(seen(&space, of), Seen::Live);
    let third = space.get_at(of.pasid()).unwrap();
    drop(second);
    assert_eq!(seen(&space, of), Seen::Live);
    drop(third);
    assert_eq!(seen(&space, of), Seen::Over);
}

#[test]
fn a_revoked_pasid_ends_with_its_owner_and_revoking_twice_is_no_error() {
    let space = bare(20);
    let owned = alloc(&space, 0, 9).unwrap();
    let of = owned.handle();
    for _ in 0..3 {
        assert_eq!(space.revoke(of), Ok(()));
        assert_eq!(seen(&space, of), Seen::BeingFreed);
        assert_eq!(refused(owned.get()), Error::BeingFreed(of.pasid()));
    }
    // The owner still has its own reference, and gives back that one alone.
    assert_eq!(owned.replace(1), 0);
    drop(owned);
    assert_eq!(seen(&space, of), Seen::Over);
    assert_eq!(space.revoke(of), Err(Error::Stale(of)));
}

#[test]
fn the_owner_s_free_after_a_revocation_takes_no_reference_of_others() {
    let space = bare(20);
    let owned = alloc(&space, 0, 9).unwrap();
    let of = owned.handle();
    let (one, two) = (owned.get().unwrap(), owned.get().unwrap());
    space.revoke(of).unwrap();
    drop(owned);
    drop(one);
    assert_eq!(seen(&space, of), Seen::BeingFreed);
    drop(two);
    assert_eq!(seen(&space, of), Seen::Over);
}

#[test]
fn a_raw_free_gives_back_the_own_reference_once() {
    let space = bare(20);
    let owned = alloc(&space, 0, 9).unwrap();
    let reference = owned.get().unwrap();
    let of = handle(owned.into_raw());
    assert_eq!(seen(&space, of), Seen::Live);
    // The first free takes the own reference; the others only revoke again.
    for _ in 0..3 {
        assert_eq!(free_raw(&space, of), Ok(()));
        assert_eq!(seen(&space, of), Seen::BeingFreed);
    }
    assert_eq!(reference.handle(), of);
    drop(reference);
    assert_eq!(seen(&space, of), Seen::Over);
    assert_eq!(free_raw(&space, of), Err(Error::Stale(of)));
}

#[test]
fn a_put_too_many_is_an_error_when_no_reference_is_left() {
    let space = bare(20);
    let owned = alloc(&space, 0, 9).unwrap();
    let of = owned.handle();
    let raw = owned.get().unwrap().into_raw();
    assert_eq!(put_raw(&space, handle(raw)), Ok(()));
    // The owner's own reference is not one that a put gives back.
    let own = owned.into_raw();
    assert_eq!(put_raw(&space, of), Err(Error::Stale(of)));
    assert_eq!(seen(&space, of), Seen::Live);
    let owned = owned_from(&space, own);
    drop(owned);
    assert_eq!(put_raw(&space, of), Err(Error::Stale(of)));
    // In a later allocation of the same PASID just as little.
    let again = alloc(&space, 0, 9).unwrap();
    let _reference = again.get().unwrap();
    assert_eq!(put_raw(&space, of), Err(Error::Stale(of)));
    assert_eq!(seen(&space, again.handle()), Seen::Live);
    // And a put does end what is counted plainly.
    let raw = again.into_ref().into_raw();
    assert_eq!(put_raw(&space, handle(raw)), Ok(()));
    assert_eq!(seen(&space, handle(raw)), Seen::Live);
}

#[test]
fn raw_forms_give_the_same_values_back() {
    let space = bare(20);
    let owned = space.alloc(range(7, 7), 70).unwrap();
    let of = owned.handle();
    let raw = owned.into_raw();
    assert_eq!(raw, of.to_raw());
    assert_eq!(seen(&space, of), Seen::Live);
    let owned = owned_from(&space, raw);
    assert_eq!((owned.handle(), owned.word()), (of, 70));
    let raw = owned.get().unwrap().into_raw();
    let reference = ref_from(&space, raw);
    assert_eq!((reference.handle(), reference.word()), (of, 70));
    drop(owned);
    assert_eq!(seen(&space, of), Seen::BeingFreed);
    drop(reference);
    assert_eq!(seen(&space, of), Seen::Over);
    for raw in [0, 7, u64::from(u32::MAX) << 32] {
        // SAFETY: nothing is made of a word that is no handle.
        let owned = unsafe { Owned::from_raw(&space, raw) };
        assert_eq!(refused(owned), Error::InvalidHandle { raw });
        // SAFETY: as above.
        let reference = unsafe { Ref::from_raw(&space, raw) };
        assert_eq!(refused(reference), Error::InvalidHandle { raw });
    }
}

#[test]
fn a_word_belongs_to_one_allocation_and_is_replaced_by_holders() {
    let space = bare(20);
    let owned = space.alloc(range(1, 1), u64::MAX).unwrap();
    assert_eq!(owned.replace(1), u64::MAX);
    let reference = owned.get().unwrap();
    assert_eq!(reference.replace(2), 1);
    assert_eq!((owned.word(), reference.word()), (2, 2));
    assert_eq!(space.find(pasid(1)).unwrap().word, 2);
    drop((owned, reference));
    assert_eq!(space.alloc(range(1, 1), 3).unwrap().word(), 3);
}

#[test]
fn reserved_pasids_are_data_and_come_and_go() {
    let space = IdSpace::new(PasidWidth::MAX);
    let (zero, five) = (Pasid::ZERO, pasid(5));
    assert_eq!(space.find(zero), Err(Error::Reserved(zero)));
    space.reserve(five).unwrap();
    assert_eq!(refused(space.get_at(five)), Error::Reserved(five));
    assert_eq!(space.reserve(five), Err(Error::Reserved(five)));
    let first: Vec<_> = (0..5)
        .map(|_| alloc(&space, 0, 0xf_ffff).unwrap())
        .collect();
    let numbers: Vec<u32> = first.iter().map(|owned| owned.pasid().get()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 6]);
    // What is live is not reserved, and stays as it was.
    let of = first[0].handle();
    assert_eq!(space.reserve(of.pasid()), Err(Error::InUse(of.pasid())));
    assert_eq!(
        space.unreserve(of.pasid()),
        Err(Error::NotFound(of.pasid()))
    );
    assert_eq!(seen(&space, of), Seen::Live);
    space.unreserve(five).unwrap();
    assert_eq!(space.unreserve(five), Err(Error::NotFound(five)));
    space.unreserve(zero).unwrap();
    assert_eq!(alloc(&space, 0, 0xf_ffff).unwrap().pasid(), zero);
    assert_eq!(alloc(&space, 1, 0xf_ffff).unwrap().pasid(), five);
}

#[test]
fn handles_of_another_space_are_stale() {
    let (here, there) = (bare(20), bare(20));
    let (mine, foreign) = (alloc(&here, 4, 4).unwrap(), alloc(&there, 4, 4).unwrap());
    assert_ne!(mine.handle(), foreign.handle());
    let before = (snapshot(&here), snapshot(&there));
    for (space, other) in [(&here, foreign.handle()), (&there, mine.handle())] {
        let stale = Err(Error::Stale(other));
        assert_eq!(space.get(other).map(drop), stale);
        assert_eq!(space.revoke(other), stale);
        assert_eq!(put_raw(space, other), stale);
        assert_eq!(free_raw(space, other), stale);
    }
    assert_eq!((snapshot(&here), snapshot(&there)), before);
}

#[test]
fn holders_work_over_borrowed_static_and_shared_spaces() {
    fn exercise<S: Pool<Payload = u64> + std::ops::Deref<Target = IdSpace>>(space: S) {
        let request = space.range();
        let owned: Owned<S> = space.clone().alloc(request, 1).unwrap();
        let at: Owned<S> = space.clone().alloc_at(pasid(9), 2).unwrap();
        let in_place: Owned<S> = space.clone().alloc_in_place(request, 3).unwrap();
        let reference: Ref<S> = space.clone().get(owned.handle()).unwrap();
        let numbered: Ref<S> = space.clone().get_at(at.pasid()).unwrap();
        assert_eq!(
            (reference.word(), numbered.word(), in_place.word()),
            (1, 2, 3)
        );
        drop((owned, at, in_place, reference, numbered));
        assert!(!space.any_live(request));
    }
    static SPACE: IdSpace = IdSpace::new(PasidWidth::MAX);
    exercise(&SPACE);
    exercise(&bare(20));
    exercise(Arc::new(bare(20)));
}

#[test]
fn holders_and_handles_cross_threads() {
    fn crosses_threads<T: Send + Sync>(value: T) -> T {
        value
    }
    static SPACE: IdSpace = IdSpace::new(PasidWidth::MAX);
    let shared = crosses_threads(Arc::new(bare(20)));
    let owned = crosses_threads(SPACE.alloc(SPACE.range(), 1).unwrap());
    let reference = crosses_threads(shared.clone().alloc(shared.range(), 2).unwrap().into_ref());
    let handles = crosses_threads((owned.handle(), reference.handle()));
    let words = std::thread::spawn(move || (owned.word(), reference.word()));
    assert_eq!(words.join().unwrap(), (1, 2));
    // The thread dropped both.
    assert_eq!(seen(&SPACE, handles.0), Seen::Over);
    assert_eq!(seen(&shared, handles.1), Seen::Over);
}
