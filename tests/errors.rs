// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every error that a space can answer, from every call that can answer it.

mod common;

use common::{alloc, bare, free_raw, handle, pasid, put_raw, range, refused, snapshot, width};
use pasid::{Error, Handle, IdSpace, Owned, Pasid, PasidRange, PasidWidth, Pool, Ref};
use std::collections::BTreeSet;

/// Every call that takes a number or a range, on a PASID that is not live, with
/// its answer.
fn by_number(space: &IdSpace, number: Pasid) -> Vec<(&'static str, Option<Error>)> {
    let only = PasidRange::single(number);
    vec![
        ("alloc", space.alloc(only, 0).err()),
        ("alloc_in_place", space.alloc_in_place(only, 0).err()),
        ("alloc_at", space.alloc_at(number, 0).err()),
        ("get_at", space.get_at(number).err()),
        ("find", space.find(number).err()),
        ("reserve", space.reserve(number).err()),
        ("unreserve", space.unreserve(number).err()),
        ("preload", space.preload(only).err()),
    ]
}

#[test]
fn what_is_above_the_width_does_not_fit_and_changes_nothing() {
    for bits in 1..20 {
        let space = IdSpace::new(width(bits));
        let last = space.range().last();
        let owned = space.alloc(last.into(), 0).unwrap();
        assert_eq!(owned.pasid(), last);
        let before = (snapshot(&space), space.memory_bytes());
        for number in [last.get() + 1, 0xf_ffff] {
            let number = pasid(number);
            let expected = Some(Error::DoesNotFit {
                pasid: number,
                width: width(bits),
            });
            for (call, error) in by_number(&space, number) {
                assert_eq!(error, expected, "{call} at {bits} bits");
            }
            assert!(!space.any_live(number.into()));
        }
        // A range that begins within the width is cut at it, except where memory
        // is to be put in place for all of it.
        let beyond = range(last.get(), 0xf_ffff);
        assert!(matches!(
            refused(space.alloc(beyond, 0)),
            Error::Exhausted { .. }
        ));
        assert!(matches!(
            space.preload(beyond),
            Err(Error::DoesNotFit { .. })
        ));
        assert_eq!(space.count_live(beyond), 1);
        assert_eq!((snapshot(&space), space.memory_bytes()), before);
    }
}

#[test]
fn a_width_of_zero_means_no_pasid_support() {
    let space = bare(0);
    // Whatever the number: it is not for being too large that it is refused.
    for number in [0, 1, 0xf_ffff] {
        for (call, error) in by_number(&space, pasid(number)) {
            assert_eq!(error, Some(Error::NoPasidSupport), "{call} of {number}");
        }
    }
    for request in [PasidWidth::MAX.range(), range(1, 2)] {
        assert_eq!(refused(space.alloc(request, 0)), Error::NoPasidSupport);
    }
    assert!(!space.any_live(PasidWidth::MAX.range()));
    assert_eq!(space.memory_bytes(), size_of::<IdSpace>());
}

#[test]
fn each_call_by_number_has_its_own_answer() {
    let space = IdSpace::new(PasidWidth::MAX);
    let (reserved, free, live, revoked, bare_of_memory) =
        (Pasid::ZERO, pasid(1), pasid(2), pasid(3), pasid(0x8_0000));
    let _live = space.alloc(live.into(), 0).unwrap();
    let revoked_owner = space.alloc(revoked.into(), 0).unwrap();
    space.revoke(revoked_owner.handle()).unwrap();
    let exhausted = |number| {
        Some(Error::Exhausted {
            range: PasidRange::single(number),
        })
    };

    let expected = [
        ("alloc", exhausted(reserved)),
        ("alloc_in_place", exhausted(reserved)),
        ("alloc_at", Some(Error::Reserved(reserved))),
        ("get_at", Some(Error::Reserved(reserved))),
        ("find", Some(Error::Reserved(reserved))),
        ("reserve", Some(Error::Reserved(reserved))),
    ];
    assert_eq!(by_number(&space, reserved)[..6], expected);
    space.reserve(reserved).unwrap();

    let expected = [
        ("alloc", exhausted(live)),
        ("alloc_in_place", exhausted(live)),
        ("alloc_at", Some(Error::InUse(live))),
        ("get_at", None),
        ("find", None),
        ("reserve", Some(Error::InUse(live))),
        ("unreserve", Some(Error::NotFound(live))),
        ("preload", None),
    ];
    assert_eq!(by_number(&space, live), expected);

    let expected = [
        ("alloc", exhausted(revoked)),
        ("alloc_in_place", exhausted(revoked)),
        ("alloc_at", Some(Error::InUse(revoked))),
        ("get_at", Some(Error::BeingFreed(revoked))),
        ("find", Some(Error::BeingFreed(revoked))),
        ("reserve", Some(Error::InUse(revoked))),
        ("unreserve", Some(Error::NotFound(revoked))),
        ("preload", None),
    ];
    assert_eq!(by_number(&space, revoked), expected);

    // Those that succeed give back at once; the reservation goes again.
    let expected = [
        ("alloc", None),
        ("alloc_in_place", None),
        ("alloc_at", None),
        ("get_at", Some(Error::NotFound(free))),
        ("find", Some(Error::NotFound(free))),
        ("reserve", None),
        ("unreserve", None),
        ("preload", None),
    ];
    assert_eq!(by_number(&space, free), expected);

    assert_eq!(
        space.find(bare_of_memory),
        Err(Error::NotFound(bare_of_memory))
    );
    assert_eq!(
        refused(space.get_at(bare_of_memory)),
        Error::NotFound(bare_of_memory)
    );
    assert_eq!(
        refused(space.alloc_at(bare_of_memory, 0)),
        Error::OutOfMemory
    );
    assert_eq!(
        refused(space.alloc_in_place(bare_of_memory.into(), 0)),
        Error::OutOfMemory
    );
}

#[test]
fn each_call_by_handle_has_its_own_answer() {
    let space = bare(20);
    let all = |of: Handle| {
        [
            space.get(of).map(drop),
            space.revoke(of),
            put_raw(&space, of),
            free_raw(&space, of),
        ]
    };
    let over = alloc(&space, 0, 0).unwrap().handle();
    assert_eq!(all(over), [Err(Error::Stale(over)); 4]);
    // A handle of this space whose PASID has no memory, or is reserved.
    for number in [0x8_0000, 1] {
        space.reserve(pasid(1)).unwrap_or(());
        let made_up = common::with_pasid(over, number);
        assert_eq!(all(made_up), [Err(Error::Stale(made_up)); 4]);
    }
    // Revoked: no new reference, and the rest as it was.
    let owned = alloc(&space, 7, 7).unwrap();
    let reference = owned.get().unwrap();
    let of = owned.handle();
    drop(owned);
    assert_eq!(refused(space.get(of)), Error::BeingFreed(pasid(7)));
    assert_eq!(space.revoke(of), Ok(()));
    assert_eq!(free_raw(&space, of), Ok(()), "revokes again");
    assert_eq!(put_raw(&space, handle(reference.into_raw())), Ok(()));
    assert_eq!(all(of), [Err(Error::Stale(of)); 4]);
}

/// Every variant that a space can answer today; the others belong to sets,
/// tables and the decoding of hardware fields.
#[test]
fn every_error_of_a_space_can_be_met_and_has_an_errno_of_its_own_meaning() {
    let space = IdSpace::new(width(8));
    let none = bare(0);
    let live = alloc(&space, 9, 9).unwrap();
    let stale = alloc(&space, 10, 10).unwrap().handle();
    let revoked = alloc(&space, 11, 11).unwrap();
    space.revoke(revoked.handle()).unwrap();
    let unmapped = bare(20);
    let met = [
        (refused(Pasid::new(1 << 20)), 22),
        (refused(PasidWidth::new(21)), 22),
        (refused(PasidRange::new(pasid(2), pasid(1))), 22),
        (refused(Handle::from_raw(1)), 22),
        (refused(alloc(&space, 9, 9)), 28),
        (refused(unmapped.alloc_at(pasid(1), 0)), 12),
        (refused(space.alloc_at(Pasid::ZERO, 0)), 1),
        (refused(space.alloc_at(pasid(256), 0)), 75),
        (refused(none.alloc_at(Pasid::ZERO, 0)), 95),
        (refused(space.alloc_at(live.pasid(), 0)), 16),
        (refused(space.find(pasid(10))), 2),
        (refused(space.get(revoked.handle())), 108),
        (refused(space.get(stale)), 116),
        // The reference count's own test: tests/references.rs.
        (Error::TooManyReferences(live.handle()), 31),
    ];
    let codes: BTreeSet<u32> = met.iter().map(|(error, _)| error.code()).collect();
    assert_eq!(codes.len(), met.len(), "each is met once");
    for (error, errno) in met {
        assert_eq!(error.errno(), errno, "{error:?}");
    }
}

#[test]
fn an_error_leaves_owners_and_references_alone() {
    fn word<S: Pool<Payload = u64>>(owned: &Owned<S>, reference: &Ref<S>) -> (u64, u64) {
        (owned.word(), reference.word())
    }
    let space = IdSpace::new(width(8));
    let owned = space.alloc(range(5, 5), 55).unwrap();
    let reference = owned.get().unwrap();
    for _ in 0..1_000 {
        assert!(space.alloc(range(5, 5), 1).is_err());
        assert!(space.alloc_in_place(range(5, 5), 1).is_err());
        assert!(space.alloc_at(pasid(5), 1).is_err());
        assert!(space.reserve(pasid(5)).is_err());
        assert!(space.unreserve(pasid(5)).is_err());
    }
    assert_eq!(word(&owned, &reference), (55, 55));
    drop(owned);
    drop(reference);
    assert_eq!(snapshot(&space), []);
    assert!(space.alloc_at(pasid(5), 0).is_ok());
}
