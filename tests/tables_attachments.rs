// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaching PASIDs, and what a page fault finds.

mod common;

use common::sets::{KINDS, both, exhausted, global, group, local, set, table, take};
use common::{pasid, range};
use pasid::{
    Attach, Attached, Error, IoasidSet, PasidRange, Pool, Scope, Space, SpaceKind, Table,
    TableConfig,
};
use std::sync::Arc;

const FIVE: u32 = 5;

/// A set of each kind and scope, with a table of its own.
fn each(check: impl Fn(&Space, &Table, &IoasidSet)) {
    for kind in KINDS {
        for reach in 0..3 {
            let space = Space::new(kind);
            let one = table(&space, 16);
            one.preload(range(0, 255)).unwrap();
            let scope = match (kind, reach) {
                (SpaceKind::Global, 1..) | (SpaceKind::Tables, 0) => continue,
                (_, 0) => Scope::Global,
                (_, 1) => Scope::Local(&one),
                _ => Scope::Group(std::slice::from_ref(&one)),
            };
            check(&space, &one, &set(&space, scope));
        }
    }
}

fn fault(table: &Table, number: u32) -> Result<u64, Error> {
    table.fault_get(pasid(number)).map(|fault| fault.word())
}

fn attached(table: &Table) -> Vec<(u32, u64)> {
    let listed = table.attachments(range(0, 0xf_ffff));
    listed
        .map(|Attached { pasid, word, .. }| (pasid.get(), word))
        .collect()
}

#[test]
fn an_attachment_is_seen_from_commit_to_detach() {
    each(|_, table, set| {
        let not_attached = Err(Error::NotAttached(pasid(FIVE)));
        assert_eq!(fault(table, FIVE), Err(Error::NotFound(pasid(FIVE))));
        let owned = take(set, FIVE).unwrap();
        assert_eq!(fault(table, FIVE), not_attached);
        let attaching = table.attach(&owned, 0xD0).unwrap();
        assert_eq!(fault(table, FIVE), not_attached);
        assert_eq!(attached(table), []);
        assert_eq!(attaching.pasid(), pasid(FIVE));
        let attachment = attaching.commit().unwrap();
        assert_eq!(fault(table, FIVE), Ok(0xD0));
        assert_eq!((attachment.pasid(), attachment.word()), (pasid(FIVE), 0xD0));
        assert_eq!(attached(table), [(FIVE, 0xD0)]);
        attachment.detach();
        assert_eq!(fault(table, FIVE), not_attached);
        assert_eq!(attached(table), []);
        drop(owned);
        assert_eq!(fault(table, FIVE), Err(Error::NotFound(pasid(FIVE))));
    });
}

#[test]
fn what_is_not_committed_is_backed_out_when_dropped() {
    each(|_, table, set| {
        let owned = take(set, FIVE).unwrap();
        for _ in 0..50 {
            drop(table.attach(&owned, 1).unwrap());
            assert_eq!(fault(table, FIVE), Err(Error::NotAttached(pasid(FIVE))));
        }
        // It held a reference, and holds none now.
        let attaching = table.attach(&owned, 2).unwrap();
        drop(owned);
        assert_eq!(take(set, FIVE).err(), exhausted(FIVE));
        drop(attaching);
        assert!(take(set, FIVE).is_ok());
    });
}

#[test]
fn a_pasid_is_attached_once_to_a_table() {
    each(|_, table, set| {
        let owned = take(set, FIVE).unwrap();
        let reference = owned.get().unwrap();
        let already = Some(Error::AlreadyAttached(pasid(FIVE)));
        let attaching = table.attach(&owned, 1).unwrap();
        assert_eq!(table.attach(&owned, 2).err(), already);
        let attachment = attaching.commit().unwrap();
        assert_eq!(table.attach(&reference, 2).err(), already);
        assert_eq!(fault(table, FIVE), Ok(1));
        // Also while a fault on a former one is not answered.
        let open = table.fault_get(pasid(FIVE)).unwrap();
        attachment.detach();
        assert_eq!(table.attach(&owned, 2).err(), already);
        assert_eq!(fault(table, FIVE), Err(Error::NotAttached(pasid(FIVE))));
        assert_eq!(open.word(), 1);
        drop(open);
        let again = table.attach(&reference, 2).unwrap().commit().unwrap();
        assert_eq!(fault(table, FIVE), Ok(2));
        // Nothing is left over of the attempts.
        drop((again, reference, owned));
        assert!(take(set, FIVE).is_ok());
    });
}

#[test]
fn an_attachment_holds_the_pasid_and_a_revoked_one_is_being_freed() {
    each(|_, table, set| {
        let owned = take(set, FIVE).unwrap();
        let of = owned.handle();
        let attachment = table.attach(&owned, 1).unwrap().commit().unwrap();
        let open = table.fault_get(pasid(FIVE)).unwrap();
        drop(owned);
        let freeing = Error::BeingFreed(pasid(FIVE));
        assert_eq!(fault(table, FIVE), Err(freeing));
        assert_eq!(set.get(of).err(), Some(freeing));
        assert_eq!(attachment.replace(2).err(), Some(freeing));
        assert_eq!((attachment.word(), open.word()), (1, 1));
        drop(attachment);
        assert_eq!(fault(table, FIVE), Err(freeing));
        assert_eq!(take(set, FIVE).err(), exhausted(FIVE));
        assert_eq!((open.handle(), open.pasid()), (of, pasid(FIVE)));
        drop(open);
        assert_eq!(fault(table, FIVE), Err(Error::NotFound(pasid(FIVE))));
        let next = take(set, FIVE).unwrap();
        let _attachment = table.attach(&next, 1).unwrap().commit().unwrap();
        let of_next = table.fault_get(pasid(FIVE)).unwrap().handle();
        assert!(of_next == next.handle() && of_next != of);
    });
}

#[test]
fn what_is_revoked_is_attached_no_more() {
    each(|_, table, set| {
        let owned = take(set, FIVE).unwrap();
        let begun = table.attach(&owned, 1).unwrap();
        let reference = owned.get().unwrap();
        set.revoke(owned.handle()).unwrap();
        let freeing = Some(Error::BeingFreed(pasid(FIVE)));
        drop(begun);
        assert_eq!(table.attach(&owned, 1).err(), freeing);
        assert_eq!(table.attach(&reference, 1).err(), freeing);
        assert_eq!(fault(table, FIVE).err(), freeing);
        drop((owned, reference));
        assert!(take(set, FIVE).is_ok());
    });
}

#[test]
fn a_pasid_of_a_closing_set_is_being_freed() {
    each(|_, table, set| {
        let (owned, other) = (take(set, FIVE).unwrap(), take(set, 6).unwrap());
        let attachment = table.attach(&owned, 1).unwrap().commit().unwrap();
        set.close();
        assert_eq!(fault(table, FIVE), Err(Error::BeingFreed(pasid(FIVE))));
        assert_eq!(fault(table, 6), Err(Error::BeingFreed(pasid(6))));
        let refused = table.attach(&other, 0).err().unwrap();
        assert!([Error::Closing, Error::BeingFreed(pasid(6))].contains(&refused));
        drop((owned, attachment, other));
        assert_eq!(fault(table, FIVE), Err(Error::NotFound(pasid(FIVE))));
        assert_eq!(set.statistics().freeing, 0);
    });
}

#[test]
fn replace_is_one_step() {
    each(|_, table, set| {
        let owned = take(set, FIVE).unwrap();
        let attachment = table.attach(&owned, 1).unwrap().commit().unwrap();
        let early = table.fault_get(pasid(FIVE)).unwrap();
        assert_eq!(attachment.replace(2), Ok(1));
        assert_eq!(attachment.replace(3), Ok(2));
        assert_eq!((early.word(), attachment.word()), (1, 3));
        assert_eq!(fault(table, FIVE), Ok(3));
        // The word of the attachment is not the owner's.
        assert_eq!(owned.word(), 0);
    });
}

#[test]
fn each_table_has_attachments_of_its_own() {
    for kind in [SpaceKind::Global, SpaceKind::Both] {
        let space = Space::new(kind);
        let tables: Vec<Table> = (0..3).map(|_| table(&space, 16)).collect();
        tables
            .iter()
            .for_each(|table| _ = table.preload(range(0, 255)).unwrap());
        let users = global(&space);
        let owned = take(&users, FIVE).unwrap();
        let one = (&tables[0]).attach(&owned, 10).unwrap().commit().unwrap();
        let two = (&tables[1]).attach(&owned, 11).unwrap().commit().unwrap();
        let words = [0, 1, 2].map(|index| fault(&tables[index], FIVE));
        assert_eq!(
            words,
            [Ok(10), Ok(11), Err(Error::NotAttached(pasid(FIVE)))]
        );
        drop(owned);
        let freeing = Err(Error::BeingFreed(pasid(FIVE)));
        assert_eq!(
            [0, 1, 2].map(|index| fault(&tables[index], FIVE)),
            [freeing; 3]
        );
        one.detach();
        assert_eq!(take(&users, FIVE).err(), exhausted(FIVE));
        two.detach();
        assert!(take(&users, FIVE).is_ok());
    }
}

#[test]
fn a_set_that_does_not_reach_the_table_is_the_wrong_one() {
    let space = both();
    let tables: Vec<Table> = (0..3).map(|_| table(&space, 16)).collect();
    tables
        .iter()
        .for_each(|table| _ = table.preload(range(0, 255)).unwrap());
    let drivers = local(&space, &tables[0]);
    let grouped = group(&space, &tables[..2]);
    let foreign = global(&both());
    let own = take(&drivers, FIVE).unwrap();
    let shared = take(&grouped, 6).unwrap();
    let stranger = take(&foreign, 7).unwrap();
    assert_eq!(
        (&tables[1]).attach(&own, 0).err(),
        Some(Error::WrongSet(pasid(FIVE)))
    );
    assert_eq!(
        (&tables[2]).attach(&shared, 0).err(),
        Some(Error::WrongSet(pasid(6)))
    );
    assert_eq!(
        (&tables[0]).attach(&stranger, 0).err(),
        Some(Error::WrongSet(pasid(7)))
    );
    // Nothing changed: all of it ends when its owner drops it.
    let one = (&tables[0]).attach(&shared, 1).unwrap().commit().unwrap();
    let two = (&tables[1]).attach(&shared, 2).unwrap().commit().unwrap();
    assert_eq!((fault(&tables[0], 6), fault(&tables[1], 6)), (Ok(1), Ok(2)));
    drop((one, two, own, shared, stranger));
    assert!(take(&drivers, FIVE).is_ok() && take(&grouped, 6).is_ok());
    assert!(take(&foreign, 7).is_ok());
}

#[test]
fn different_owners_of_one_number_are_attached_to_their_own_tables() {
    let space = both();
    let tables = [table(&space, 16), table(&space, 16)];
    tables
        .iter()
        .for_each(|table| _ = table.preload(range(0, 255)).unwrap());
    let sets = [local(&space, &tables[0]), local(&space, &tables[1])];
    let owned = [take(&sets[0], FIVE).unwrap(), take(&sets[1], FIVE).unwrap()];
    let _one = (&tables[0])
        .attach(&owned[0], 100)
        .unwrap()
        .commit()
        .unwrap();
    let two = (&tables[1])
        .attach(&owned[1], 200)
        .unwrap()
        .commit()
        .unwrap();
    assert_eq!(
        (fault(&tables[0], FIVE), fault(&tables[1], FIVE)),
        (Ok(100), Ok(200))
    );
    two.detach();
    let [_stays, goes] = owned;
    drop(goes);
    assert_eq!(fault(&tables[0], FIVE), Ok(100));
    assert_eq!(fault(&tables[1], FIVE), Err(Error::NotFound(pasid(FIVE))));
}

#[test]
fn attaching_needs_memory_that_was_put_there() {
    for kind in KINDS {
        let space = Space::new(kind);
        let one = table(&space, 20);
        let set = match kind {
            SpaceKind::Global => global(&space),
            _ => local(&space, &one),
        };
        let owned = take(&set, 70_000).unwrap();
        assert_eq!((&one).attach(&owned, 0).err(), Some(Error::OutOfMemory));
        assert_eq!(fault(&one, 70_000), Err(Error::NotAttached(pasid(70_000))));
        assert!(one.preload(owned.pasid().into()).unwrap() >= 8_192);
        assert_eq!(one.preload(owned.pasid().into()), Ok(0));
        let attachment = (&one).attach(&owned, 1).unwrap().commit().unwrap();
        assert_eq!(fault(&one, 70_000), Ok(1));
        drop((attachment, owned));
        assert!(take(&set, 70_000).is_ok());
    }
}

#[test]
fn attachments_are_listed_in_order_once_each() {
    let space = both();
    let one = table(&space, 20);
    let (drivers, users) = (local(&space, &one), global(&space));
    let numbers = [1, 255, 256, 5_000, 16_384, 0xf_ffff];
    let owned: Vec<_> = numbers
        .iter()
        .enumerate()
        .map(|(index, &number)| take([&drivers, &users][index % 2], number).unwrap())
        .collect();
    let mut attachments = Vec::new();
    for owned in owned.iter().rev() {
        one.preload(owned.pasid().into()).unwrap();
        let word = u64::from(owned.pasid().get()) * 3;
        attachments.push((&one).attach(owned, word).unwrap().commit().unwrap());
    }
    let expected: Vec<(u32, u64)> = numbers.map(|n| (n, u64::from(n) * 3)).to_vec();
    assert_eq!(attached(&one), expected);
    assert_eq!(one.attachments(range(2, 5_000)).count(), 3);
    assert_eq!(one.attachments(range(257, 4_999)).count(), 0);
    assert_eq!(one.attachments(range(0xf_ffff, 0xf_ffff)).count(), 1);
    // Detached and not answered is not attached; reserved is not either.
    let open = (&one).fault_get(pasid(1)).unwrap();
    drop(attachments.pop());
    let begun = (&one).attach(&owned[1], 0);
    assert_eq!(begun.err(), Some(Error::AlreadyAttached(pasid(255))));
    assert_eq!(attached(&one), expected[1..]);
    drop((open, attachments));
    let _begun = (&one).attach(&owned[1], 0).unwrap();
    assert_eq!(attached(&one), []);
}

#[test]
fn faults_end_at_the_maximum_of_references() {
    each(|_, table, set| {
        let owned = take(set, FIVE).unwrap();
        let _attachment = table.attach(&owned, 1).unwrap().commit().unwrap();
        let mut faults = Vec::new();
        let why = loop {
            match table.fault_get(pasid(FIVE)) {
                Ok(fault) => faults.push(fault),
                Err(why) => break why,
            }
        };
        assert_eq!(why, Error::TooManyFaults(pasid(FIVE)));
        assert!(faults.len() > 100_000);
        faults.pop();
        assert_eq!(fault(table, FIVE), Ok(1));
        // They count on the attachment, and not on the PASID.
        assert!(owned.get().is_ok());
    });
}

#[test]
fn a_fault_on_a_reserved_value_says_so() {
    const SEVEN: &[PasidRange] = &[PasidRange::single(pasid::Pasid::from_u16(7))];
    for kind in KINDS {
        let space = Space::new(kind);
        let config = TableConfig::new(common::width(16)).reserved(SEVEN);
        let one = space.add_table(config).unwrap();
        one.reserve(pasid(8)).unwrap();
        let mut reserved = vec![0, 7, 8];
        if kind != SpaceKind::Tables {
            space.reserve(pasid(9)).unwrap();
            reserved.push(9);
        }
        for preload in [false, true] {
            for &number in &reserved {
                let why = fault(&one, number);
                assert_eq!(
                    why,
                    Err(Error::Reserved(pasid(number))),
                    "{kind:?} {preload}"
                );
            }
            assert_eq!(fault(&one, 10), Err(Error::NotFound(pasid(10))));
            one.preload(range(0, 255)).unwrap();
        }
    }
}

#[test]
fn attachments_by_arc_keep_the_table() {
    let space = both();
    let one = Arc::new(table(&space, 16));
    one.preload(range(0, 255)).unwrap();
    let users = Arc::new(global(&space));
    let owned = users.clone().alloc(range(FIVE, FIVE), 0).unwrap();
    let attachment = one.clone().attach(&owned, 4).unwrap().commit().unwrap();
    let fault = one.clone().fault_get(pasid(FIVE)).unwrap();
    one.close();
    users.close();
    drop((one, users, space, owned));
    assert_eq!((attachment.word(), fault.word()), (4, 4));
    std::thread::spawn(move || drop(attachment)).join().unwrap();
    drop(fault);
}
