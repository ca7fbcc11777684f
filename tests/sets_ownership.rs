// SPDX-License-Identifier: MIT OR Apache-2.0
//! A PASID belongs to the set that it was allocated from, and every call asks.

mod common;

use common::sets::{
    KINDS, any, both, exhausted, free, global, group, listed, live, local, put, table, take,
    take_at,
};
use common::{handle, pasid, range, with_generation, with_pasid};
use pasid::{
    Attach, Error, Handle, IoasidSet, Owned, Pasid, Pool, Ref, Scope, SetConfig, Space, SpaceKind,
    Table,
};
use std::sync::Arc;

/// Two sets whose PASIDs are in the same slots.
fn neighbours(space: &Space) -> [IoasidSet; 2] {
    match space.kind() {
        SpaceKind::Tables => {
            let one = table(space, 20);
            [local(space, &one), local(space, &one)]
        }
        _ => [global(space), global(space)],
    }
}

/// What every call by handle and by number answers.
fn answers(set: &IoasidSet, of: Handle) -> [Option<Error>; 6] {
    let by_number = [set.find(of.pasid()).err(), set.get_at(of.pasid()).err()];
    [
        by_number[0],
        by_number[1],
        set.get(of).err(),
        set.revoke(of).err(),
        put(set, of).err(),
        free(set, of).err(),
    ]
}

#[test]
fn another_set_s_pasid_is_refused_by_every_call_and_stays_as_it_is() {
    for kind in KINDS {
        let space = Space::new(kind);
        let [mine, other] = neighbours(&space);
        let owned = mine.alloc(range(5, 5), 0xAA).unwrap();
        let wrong = Some(Error::WrongSet(pasid(5)));
        let before = listed(&mine);
        assert_eq!(answers(&other, owned.handle()), [wrong; 6]);
        assert_eq!(listed(&mine), before);
        assert_eq!(listed(&other), []);
        other.free_all();
        assert_eq!(listed(&mine), before);
        // While it is being freed as well.
        let held = owned.get().unwrap();
        drop(owned);
        assert_eq!(answers(&other, held.handle()), [wrong; 6]);
        assert_eq!(mine.find(pasid(5)), Err(Error::BeingFreed(pasid(5))));
        drop(held);
        assert!(take(&other, 5).is_ok());
    }
}

#[test]
fn a_handle_that_is_over_is_stale_and_changes_nothing() {
    for kind in KINDS {
        let space = Space::new(kind);
        let [mine, other] = neighbours(&space);
        let over = take(&mine, 5).unwrap().handle();
        let stale = Some(Error::Stale(over));
        for set in [&mine, &other] {
            assert_eq!(answers(set, over)[2..], [stale; 4]);
            let missing = Some(Error::NotFound(pasid(5)));
            assert_eq!(answers(set, over)[..2], [missing; 2]);
        }
        // The number has another owner now.
        let _again = take(&other, 5).unwrap();
        let before = listed(&other);
        assert_eq!(before[0].handle.generation(), over.generation() + 1);
        for set in [&mine, &other] {
            assert_eq!(answers(set, over)[2..], [stale; 4]);
        }
        assert_eq!(listed(&other), before);
        // Handles that never were.
        for forged in [
            with_generation(over, 77),
            with_pasid(over, 6),
            with_pasid(over, 0xf_ffff),
        ] {
            assert_eq!(answers(&mine, forged)[2..], [Some(Error::Stale(forged)); 4]);
        }
        assert_eq!(listed(&other), before);
    }
}

#[test]
fn a_handle_of_other_tables_is_stale() {
    let space = both();
    let tables = [table(&space, 20), table(&space, 20)];
    let sets = [
        local(&space, &tables[0]),
        local(&space, &tables[1]),
        global(&space),
        global(&both()),
    ];
    // Five is live in two of them, and each has memory there.
    let one = take(&sets[0], 5).unwrap();
    let two = take(&sets[1], 5).unwrap();
    let three = take(&sets[2], 6).unwrap();
    let four = take(&sets[3], 5).unwrap();
    let handles = [one.handle(), two.handle(), three.handle(), four.handle()];
    for (mine, set) in sets.iter().enumerate() {
        let before = listed(set);
        for (whose, &foreign) in handles.iter().enumerate() {
            if whose != mine {
                let stale = Some(Error::Stale(foreign));
                assert_eq!(answers(set, foreign)[2..], [stale; 4], "{mine} {whose}");
            }
        }
        assert_eq!(listed(set), before);
    }
}

#[test]
fn a_group_s_pasids_are_its_own() {
    let space = both();
    let tables = [table(&space, 20), table(&space, 20)];
    let groups = [group(&space, &tables), group(&space, &tables)];
    let owned = take(&groups[0], 5).unwrap();
    let before = listed(&groups[0]);
    let _beside = take(&groups[1], 6).unwrap();
    let answers = answers(&groups[1], owned.handle());
    assert!(answers.iter().all(Option::is_some), "{answers:?}");
    groups[1].free_all();
    assert_eq!(listed(&groups[0]), before);
    assert_eq!(live(&groups[1]), [] as [u32; 0]);
}

#[test]
fn raw_handles_work_with_their_set() {
    for kind in KINDS {
        let space = Space::new(kind);
        let [mine, other] = neighbours(&space);
        let of = handle(take(&mine, 5).unwrap().into_raw());
        let reference = handle(mine.get(of).unwrap().into_raw());
        assert_eq!(reference, of);
        assert_eq!(free(&mine, of), Ok(()));
        // The owner's own reference is gone; the other is there.
        assert_eq!(mine.find(pasid(5)), Err(Error::BeingFreed(pasid(5))));
        assert_eq!(take(&other, 5).err(), exhausted(5));
        assert_eq!(put(&mine, of), Ok(()));
        assert_eq!(put(&mine, of), Err(Error::Stale(of)));
        assert_eq!(free(&mine, of), Err(Error::Stale(of)));
        // Through from_raw.
        let raw = take(&mine, 5).unwrap().into_raw();
        // SAFETY: from `into_raw` above, of the same set, once.
        let owned = unsafe { Owned::from_raw(&mine, raw) }.unwrap();
        let raw = owned.get().unwrap().into_raw();
        // SAFETY: as above.
        let reference = unsafe { Ref::from_raw(&mine, raw) }.unwrap();
        drop(owned);
        assert_eq!(mine.statistics().freeing, 1);
        drop(reference);
        assert_eq!(mine.statistics().freeing, 0);
    }
}

#[test]
fn put_never_takes_the_owner_s_own_reference() {
    for kind in KINDS {
        let space = Space::new(kind);
        let [mine, _] = neighbours(&space);
        let owned = take(&mine, 5).unwrap();
        let of = owned.handle();
        assert_eq!(put(&mine, of), Err(Error::Stale(of)));
        assert_eq!(mine.find(pasid(5)).unwrap().handle, of);
    }
}

#[test]
fn revoking_is_once_and_the_owner_s_drop_takes_its_own_reference() {
    for kind in KINDS {
        let space = Space::new(kind);
        let [mine, _] = neighbours(&space);
        let owned = take(&mine, 5).unwrap();
        let of = owned.handle();
        let reference = mine.get(of).unwrap();
        assert_eq!(mine.revoke(of), Ok(()));
        assert_eq!(mine.revoke(of), Ok(()));
        let freeing = Some(Error::BeingFreed(pasid(5)));
        assert_eq!(mine.get(of).err(), freeing);
        assert_eq!(mine.get_at(pasid(5)).err(), freeing);
        assert_eq!(mine.find(pasid(5)).err(), freeing);
        assert_eq!(owned.get().err(), freeing);
        drop(owned);
        assert_eq!(mine.find(pasid(5)).err(), freeing);
        // Who has one may have another.
        let second = reference.try_clone().unwrap();
        drop(reference);
        assert_eq!(take(&mine, 5).err(), exhausted(5));
        drop(second);
        assert!(take(&mine, 5).is_ok());
    }
}

#[test]
fn references_end_at_their_maximum_through_a_set() {
    let space = both();
    let one = table(&space, 20);
    one.preload(range(5, 5)).unwrap();
    for set in [
        local(&space, &one),
        group(&space, std::slice::from_ref(&one)),
        global(&space),
    ] {
        let owned = take(&set, 5).unwrap();
        let of = owned.handle();
        let mut references = Vec::new();
        let why = loop {
            match set.get(of) {
                Ok(reference) => references.push(reference),
                Err(why) => break why,
            }
        };
        assert_eq!(why, Error::TooManyReferences(of));
        assert!(references.len() > 100_000);
        let too_many = Some(Error::TooManyReferences(of));
        assert_eq!(set.get_at(pasid(5)).err(), too_many);
        assert_eq!(references[0].try_clone().err(), too_many);
        assert_eq!((&one).attach(&owned, 0).err(), too_many);
        // Nothing was changed: one back, one more.
        references.pop();
        assert!(set.get(of).is_ok());
        drop(references);
        drop(owned);
        assert!(take_at(&set, 5).is_ok());
    }
}

#[test]
fn each_allocation_of_a_number_has_a_generation_of_its_own() {
    for kind in KINDS {
        let space = Space::new(kind);
        let [mine, other] = neighbours(&space);
        let mut before = None;
        for round in 0..100 {
            let set = if round % 3 == 0 { &other } else { &mine };
            let generation = take(set, 5).unwrap().handle().generation();
            assert!(before.is_none_or(|before| generation == before + 1));
            before = Some(generation);
        }
    }
}

#[test]
fn the_words_are_the_owner_s() {
    for kind in KINDS {
        let space = Space::new(kind);
        let [mine, _] = neighbours(&space);
        let owned = mine.alloc(range(5, 5), 0xAA).unwrap();
        let reference = mine.get_at(pasid(5)).unwrap();
        assert_eq!((owned.word(), reference.word()), (0xAA, 0xAA));
        assert_eq!(reference.replace(0xBB), 0xAA);
        assert_eq!(mine.find(pasid(5)).unwrap().word, 0xBB);
        drop(owned);
        assert_eq!(reference.replace(0xCC), 0xBB);
        drop(reference);
        assert_eq!(take(&mine, 5).unwrap().word(), 0);
    }
}

#[test]
fn listing_gives_each_live_pasid_of_the_set_once_in_order() {
    for kind in KINDS {
        let space = Space::new(kind);
        let [mine, other] = neighbours(&space);
        let numbers = [3, 255, 256, 700, 16_384, 0xf_ffff];
        let owned: Vec<_> = numbers
            .iter()
            .rev()
            .map(|&n| mine.alloc(range(n, n), n.into()).unwrap())
            .collect();
        let _others: Vec<_> = [4, 257, 699].iter().map(|&n| take(&other, n)).collect();
        assert_eq!(live(&mine), numbers);
        assert!(
            listed(&mine)
                .iter()
                .all(|found| found.word == u64::from(found.handle.pasid().get()))
        );
        assert_eq!(live(&other), [4, 257, 699]);
        assert_eq!(mine.iter(range(256, 16_383)).count(), 2);
        assert_eq!(mine.count_live(range(256, 16_384)), 3);
        assert_eq!(mine.count_live(range(4, 254)), 0);
        // What is being freed is not live.
        let held = owned[0].get().unwrap();
        drop(owned);
        assert_eq!(live(&mine), [] as [u32; 0]);
        assert_eq!(held.pasid(), pasid(0xf_ffff));
        // What goes while the listing stands is passed over.
        let early = take(&other, 5).unwrap();
        let mut listing = other.iter(range(0, 1_000));
        assert_eq!(listing.next().unwrap().handle.pasid(), pasid(4));
        drop(early);
        let rest: Vec<Pasid> = listing.map(|found| found.handle.pasid()).collect();
        assert_eq!(rest, [pasid(257), pasid(699)]);
    }
}

#[test]
fn free_all_revokes_what_is_live_and_the_set_goes_on() {
    for kind in KINDS {
        let space = Space::new(kind);
        let [mine, other] = neighbours(&space);
        let owned: Vec<_> = (0..600).map(|_| any(&mine).unwrap()).collect();
        let kept = any(&other).unwrap();
        let held = owned[7].get().unwrap();
        mine.free_all();
        assert_eq!(live(&mine), [] as [u32; 0]);
        assert_eq!(mine.statistics().freeing, 600);
        assert_eq!(other.find(kept.pasid()).unwrap().handle, kept.handle());
        let again = any(&mine).unwrap();
        assert!(again.pasid() > kept.pasid());
        drop(owned);
        assert_eq!(mine.statistics().freeing, 1);
        drop(held);
        assert_eq!((mine.statistics().live, mine.statistics().freeing), (1, 0));
        mine.free_all();
        mine.free_all();
        drop(again);
        assert_eq!(mine.statistics().freeing, 0);
    }
}

#[test]
fn the_holders_keep_what_they_need_in_the_way_of_their_pool() {
    static SPACE: Space = Space::new(SpaceKind::Both);
    fn is_send_and_sync<T: Send + Sync>(value: T) -> T {
        value
    }
    let one = is_send_and_sync(table(&SPACE, 20));
    one.preload(range(0, 255)).unwrap();
    let shared = Arc::new(is_send_and_sync(local(&SPACE, &one)));
    let shared_table: Arc<Table> = Arc::new(one);
    let owned = is_send_and_sync(shared.clone().alloc(shared.range(), 7).unwrap());
    let reference = is_send_and_sync(owned.get().unwrap());
    let attaching = shared_table.clone().attach(&owned, 1).unwrap();
    let attachment = is_send_and_sync(is_send_and_sync(attaching).commit().unwrap());
    let fault = is_send_and_sync(shared_table.clone().fault_get(owned.pasid()).unwrap());
    drop((shared, shared_table));
    // Everything is there for whoever holds it, on another thread.
    let held = std::thread::spawn(move || {
        assert_eq!(fault.word(), 1);
        assert_eq!(fault.pasid(), owned.pasid());
        drop((fault, attachment));
        assert_eq!(reference.word(), 7);
        drop(owned);
        reference
    });
    drop(held.join().unwrap());
    // `&'static` holders.
    static ARENA: std::sync::OnceLock<IoasidSet> = std::sync::OnceLock::new();
    let set: &'static IoasidSet =
        ARENA.get_or_init(|| SPACE.add_set(SetConfig::new(Scope::Global)).unwrap());
    let owned: Owned<&'static IoasidSet> = set.alloc(set.range(), 0).unwrap();
    std::thread::spawn(move || drop(owned)).join().unwrap();
    assert_eq!(set.count_live(set.range()), 0);
}

#[test]
fn a_set_and_a_table_work_on_after_the_space_s_own_handle_is_gone() {
    let space = both();
    let one = table(&space, 20);
    let (drivers, users) = (local(&space, &one), global(&space));
    drop(space);
    let owned = take(&users, 5).unwrap();
    assert_eq!(take(&drivers, 5).err(), exhausted(5));
    one.preload(range(5, 5)).unwrap();
    let attachment = (&one).attach(&owned, 3).unwrap().commit().unwrap();
    assert_eq!((&one).fault_get(pasid(5)).unwrap().word(), 3);
    attachment.detach();
    one.close();
    assert!(drivers.is_closing() && !users.is_closing());
}
