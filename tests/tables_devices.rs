// SPDX-License-Identifier: MIT OR Apache-2.0
//! Widths of tables, devices that join and leave, pauses, and closing.

mod common;

use common::sets::{KINDS, any, both, exhausted, global, group, live, local, table, take, take_at};
use common::{pasid, range, width};
use pasid::{
    Attach, Error, Policy, Pool, RequesterId, Scope, SetConfig, Space, SpaceKind, TableConfig,
};

const ONE: RequesterId = RequesterId(0x0100);
const TWO: RequesterId = RequesterId(0x0200);
const THREE: RequesterId = RequesterId(0x1_0300);

fn misfit(number: u32, bits: u8) -> Error {
    Error::DoesNotFit {
        pasid: pasid(number),
        width: width(bits),
    }
}

#[test]
fn a_table_without_pasid_support_is_refused_by_name() {
    for kind in KINDS {
        let space = Space::new(kind);
        let added = space.add_table(TableConfig::new(width(0)));
        assert_eq!(added.err(), Some(Error::NoPasidSupport));
        assert!(space.tables().unwrap().is_empty());
    }
}

#[test]
fn every_width_has_its_pasids_and_no_more() {
    for kind in [SpaceKind::Tables, SpaceKind::Both] {
        let space = Space::with_reserved(kind, &[]);
        for bits in 1..=20 {
            let one = table(&space, bits);
            assert_eq!(one.width(), width(bits));
            let drivers = local(&space, &one);
            let last = width(bits).last();
            assert_eq!(drivers.range(), width(bits).range());
            let owned = drivers.alloc(range(last.get(), 0xf_ffff), 0).unwrap();
            assert_eq!(owned.pasid(), last);
            drop(owned);
            if bits < 20 {
                let over = pasid(last.get() + 1);
                assert!(drivers.alloc(over.into(), 0).is_err());
                assert!(drivers.alloc_at(over, 0).is_err());
                assert!(drivers.find(over).is_err() && drivers.get_at(over).is_err());
            }
        }
    }
}

#[test]
fn what_is_too_wide_for_a_set_s_tables_does_not_fit() {
    for kind in [SpaceKind::Tables, SpaceKind::Both] {
        let space = Space::new(kind);
        let tables = [table(&space, 8), table(&space, 12)];
        for set in [local(&space, &tables[0]), group(&space, &tables)] {
            let misfit = Some(misfit(300, 8));
            assert_eq!(set.alloc(range(300, 400), 0).err(), misfit);
            assert_eq!(set.alloc_in_place(range(300, 400), 0).err(), misfit);
            assert_eq!(set.alloc_at(pasid(300), 0).err(), misfit);
            assert_eq!(set.find(pasid(300)).err(), misfit);
            assert_eq!(set.get_at(pasid(300)).err(), misfit);
            assert_eq!(live(&set), [] as [u32; 0]);
        }
    }
}

#[test]
fn a_request_of_which_nothing_but_reserved_values_fits_does_not_fit() {
    let space = both();
    let one = table(&space, 10);
    let reserved = [range(100, 255)];
    for policy in [Policy::Lowest, Policy::Next] {
        let config = SetConfig::new(Scope::Local(&one))
            .reserved(&reserved)
            .policy(policy);
        let drivers = space.add_set(config).unwrap();
        one.join(ONE, width(8)).unwrap();
        assert_eq!(
            drivers.alloc(range(150, 300), 0).err(),
            Some(misfit(256, 8))
        );
        assert_eq!(drivers.alloc(range(99, 300), 0).unwrap().pasid(), pasid(99));
        one.leave(ONE).unwrap();
        assert_eq!(
            drivers.alloc(range(150, 300), 0).unwrap().pasid(),
            pasid(256)
        );
    }
}

#[test]
fn a_group_has_the_least_of_its_tables() {
    for kind in [SpaceKind::Tables, SpaceKind::Both] {
        let space = Space::new(kind);
        let tables = [table(&space, 16), table(&space, 3), table(&space, 20)];
        let grouped = group(&space, &tables);
        assert_eq!(grouped.range(), range(0, 7));
        let owned: Vec<_> = std::iter::from_fn(|| any(&grouped).ok()).collect();
        assert_eq!(owned.len(), 7);
        let range = range(0, 7);
        assert_eq!(any(&grouped).err(), Some(Error::Exhausted { range }));
        assert_eq!(any(&local(&space, &tables[0])).unwrap().pasid(), pasid(8));
    }
}

#[test]
fn a_narrow_table_never_caps_global_sets() {
    for kind in [SpaceKind::Global, SpaceKind::Both] {
        let space = Space::new(kind);
        let narrow = table(&space, 1);
        let users = global(&space);
        assert_eq!(users.range(), width(20).range());
        let high = take(&users, 0xf_ffff).unwrap();
        // Whether it fits is asked when it is attached, and changes nothing.
        let low = take(&users, 1).unwrap();
        narrow.preload(range(0, 1)).unwrap();
        let attempt = (&narrow).attach(&high, 0);
        assert_eq!(attempt.err(), Some(misfit(0xf_ffff, 1)));
        assert_eq!(
            (&narrow).fault_get(high.pasid()).err(),
            Some(misfit(0xf_ffff, 1))
        );
        assert_eq!(narrow.attachments(range(0, 0xf_ffff)).count(), 0);
        let of = high.handle();
        drop(high);
        assert_eq!(users.get(of).err(), Some(Error::Stale(of)));
        assert!((&narrow).attach(&low, 0).unwrap().commit().is_ok());
        assert_eq!(narrow.preload(range(0, 2)), Err(misfit(2, 1)));
    }
}

#[test]
fn a_set_that_begins_beyond_its_tables_is_refused() {
    let space = both();
    let one = table(&space, 8);
    let config = SetConfig::new(Scope::Local(&one)).range(range(256, 300));
    assert_eq!(space.add_set(config).err(), Some(misfit(256, 8)));
    let config = SetConfig::new(Scope::Local(&one)).range(range(255, 300));
    let last = space.add_set(config).unwrap();
    assert_eq!(last.range(), range(255, 255));
    assert_eq!(space.sets().unwrap().len(), 1);
}

#[test]
fn devices_join_and_leave_and_the_table_has_the_least_of_their_widths() {
    let space = both();
    let one = table(&space, 16);
    let drivers = local(&space, &one);
    one.join(ONE, width(20)).unwrap();
    assert_eq!(one.width(), width(16));
    one.join(TWO, width(8)).unwrap();
    assert_eq!(one.width(), width(8));
    assert_eq!(one.join(TWO, width(20)), Err(Error::DeviceJoined(TWO)));
    assert_eq!(one.width(), width(8));
    one.join(THREE, width(12)).unwrap();
    assert_eq!(one.width(), width(8));
    assert_eq!(drivers.alloc_at(pasid(256), 0).err(), Some(misfit(256, 8)));
    assert_eq!(
        drivers.alloc(range(256, 300), 0).err(),
        Some(misfit(256, 8))
    );
    assert_eq!(
        drivers.alloc(range(255, 300), 0).unwrap().pasid(),
        pasid(255)
    );
    let _last = take(&drivers, 255).unwrap();
    let range = range(255, 300);
    assert!(matches!(
        drivers.alloc(range, 0).err(),
        Some(Error::Exhausted { .. })
    ));
    one.leave(TWO).unwrap();
    assert_eq!(one.leave(TWO), Err(Error::DeviceNotJoined(TWO)));
    assert_eq!(one.width(), width(12));
    assert_eq!(drivers.alloc(range, 0).unwrap().pasid(), pasid(256));
    one.leave(THREE).unwrap();
    one.leave(ONE).unwrap();
    assert_eq!(one.width(), width(16));
}

#[test]
fn a_device_without_pasid_support_is_ignored() {
    let space = both();
    let one = table(&space, 16);
    one.join(ONE, width(0)).unwrap();
    assert_eq!(one.width(), width(16));
    one.join(TWO, width(9)).unwrap();
    assert_eq!(one.width(), width(9));
    assert_eq!(one.join(ONE, width(5)), Err(Error::DeviceJoined(ONE)));
    one.leave(TWO).unwrap();
    assert_eq!(one.width(), width(16));
    one.leave(ONE).unwrap();
    assert_eq!(one.width(), width(16));
}

#[test]
fn a_device_that_has_no_entry_for_what_is_attached_is_refused_by_naming_it() {
    let space = both();
    let one = table(&space, 16);
    let (drivers, users) = (local(&space, &one), global(&space));
    one.preload(range(0, 2_000)).unwrap();
    let high = take(&drivers, 1_999).unwrap();
    let low = take(&users, 300).unwrap();
    let unattached = take(&drivers, 50_000).unwrap();
    let _high = (&one).attach(&high, 1).unwrap().commit().unwrap();
    let attached = (&one).attach(&low, 2).unwrap().commit().unwrap();
    for _ in 0..2 {
        assert_eq!(one.join(ONE, width(8)), Err(misfit(300, 8)));
        assert_eq!(one.width(), width(16));
        assert_eq!(one.leave(ONE), Err(Error::DeviceNotJoined(ONE)));
        assert_eq!(one.join(ONE, width(10)), Err(misfit(1_999, 10)));
    }
    // What is allocated and not attached does not count, and stays.
    one.join(TWO, width(11)).unwrap();
    assert_eq!(
        drivers.find(pasid(50_000)).unwrap().handle,
        unattached.handle()
    );
    assert_eq!(
        (&one).attach(&unattached, 0).err(),
        Some(misfit(50_000, 11))
    );
    drop(unattached);
    // A fault that is not answered is attached, and so is what is being attached.
    let fault = (&one).fault_get(pasid(300)).unwrap();
    attached.detach();
    assert_eq!(one.join(ONE, width(8)), Err(misfit(300, 8)));
    drop(fault);
    let begun = (&one).attach(&low, 2).unwrap();
    assert_eq!(one.join(ONE, width(8)), Err(misfit(300, 8)));
    drop(begun);
    assert_eq!(one.join(ONE, width(8)), Err(misfit(1_999, 8)));
}

#[test]
fn a_group_follows_the_widths_of_its_tables() {
    let space = both();
    let tables = [table(&space, 16), table(&space, 16)];
    let grouped = group(&space, &tables);
    let kept = take(&grouped, 300).unwrap();
    tables[1].join(ONE, width(8)).unwrap();
    assert_eq!(grouped.alloc_at(pasid(301), 0).err(), Some(misfit(301, 8)));
    assert_eq!(take(&grouped, 255).unwrap().pasid(), pasid(255));
    assert_eq!(grouped.find(pasid(300)).unwrap().handle, kept.handle());
    tables[1].leave(ONE).unwrap();
    assert!(take(&grouped, 301).is_ok());
}

#[test]
fn a_pause_fences_attach_and_commit() {
    let space = both();
    let one = table(&space, 16);
    let drivers = local(&space, &one);
    one.preload(range(0, 255)).unwrap();
    let (first, second) = (take(&drivers, 5).unwrap(), take(&drivers, 6).unwrap());
    let attached = (&one).attach(&first, 1).unwrap().commit().unwrap();
    let begun = (&one).attach(&second, 2).unwrap();
    assert!(!one.resume());
    assert!(one.pause());
    assert!(!one.pause());
    assert_eq!((&one).attach(&second, 3).err(), Some(Error::Paused));
    assert_eq!(begun.commit().err(), Some(Error::Paused));
    assert_eq!(attached.replace(9).err(), Some(Error::Paused));
    // What is attached stays, faults are answered, and allocating goes on.
    assert_eq!((&one).fault_get(pasid(5)).unwrap().word(), 1);
    assert_eq!(
        (&one).fault_get(pasid(6)).err(),
        Some(Error::NotAttached(pasid(6)))
    );
    assert!(take(&drivers, 7).is_ok());
    assert!(one.resume());
    assert!(!one.resume());
    assert_eq!(attached.replace(9), Ok(1));
    // The refused ones left nothing.
    let begun = (&one).attach(&second, 4).unwrap();
    assert!(one.pause() && one.resume());
    assert_eq!(
        begun.commit().err(),
        Some(Error::Paused),
        "begun before the pause"
    );
    let again = (&one).attach(&second, 5).unwrap().commit().unwrap();
    assert_eq!(again.word(), 5);
    // Detaching is possible in a pause.
    one.pause();
    again.detach();
    attached.detach();
    let numbers = [first, second].map(|owned| owned.pasid());
    assert_eq!(numbers, [pasid(5), pasid(6)]);
    assert!(take(&drivers, 5).is_ok() && take(&drivers, 6).is_ok());
}

#[test]
fn a_closed_table_refuses_every_call_and_lets_its_holders_end() {
    let space = both();
    let one = table(&space, 16);
    let (drivers, users) = (local(&space, &one), global(&space));
    one.preload(range(0, 255)).unwrap();
    let (mine, theirs) = (take(&drivers, 5).unwrap(), take(&users, 6).unwrap());
    let spare = take(&users, 7).unwrap();
    let own = (&one).attach(&mine, 1).unwrap().commit().unwrap();
    let other = (&one).attach(&theirs, 2).unwrap().commit().unwrap();
    let begun = (&one).attach(&spare, 3).unwrap();
    let fault = (&one).fault_get(pasid(6)).unwrap();
    one.pause();
    one.close();
    for number in [5, 6, 7, 8] {
        assert_eq!(
            (&one).fault_get(pasid(number)).err(),
            Some(Error::Closing),
            "{number}"
        );
    }
    assert_eq!((&one).attach(&spare, 0).err(), Some(Error::Closing));
    assert_eq!(begun.commit().err(), Some(Error::Closing));
    assert_eq!(own.replace(9).err(), Some(Error::Closing));
    assert_eq!(one.join(ONE, width(16)), Err(Error::Closing));
    assert_eq!((own.word(), other.word(), fault.word()), (1, 2, 2));
    assert_eq!(users.find(pasid(6)).unwrap().handle, theirs.handle());
    assert_eq!(
        drivers.find(pasid(5)).err(),
        Some(Error::BeingFreed(pasid(5)))
    );
    own.detach();
    drop(theirs);
    other.detach();
    assert_eq!(take(&users, 6).err(), exhausted(6));
    drop(fault);
    assert!(take(&users, 6).is_ok());
    drop(mine);
    assert!(take_at(&users, 5).is_ok());
    drop(spare);
    assert!(take_at(&users, 7).is_ok());
}

#[test]
fn a_table_can_be_closed_from_any_state_and_devices_leave_it_still() {
    let space = both();
    let one = table(&space, 16);
    one.join(ONE, width(8)).unwrap();
    one.close();
    one.close();
    assert!(one.is_closing());
    one.leave(ONE).unwrap();
    assert!(one.is_closing());
    one.pause();
    one.resume();
    assert!(one.is_closing());
    assert!(one.clone().is_same(&one));
    assert_eq!(one.reserve(pasid(9)), Err(Error::Closing));
}

#[test]
fn tables_are_told_apart() {
    let space = both();
    let (one, other) = (table(&space, 16), table(&space, 16));
    assert!(one.is_same(&one.clone()) && !one.is_same(&other));
    assert!(space.tables().unwrap()[1].is_same(&other));
    assert!(format!("{one:?} {space:?}").contains("Table"));
}
