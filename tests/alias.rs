// SPDX-License-Identifier: MIT OR Apache-2.0
//! Alias maps: a guest's numbers, what they stand for, and what is said when they do not.

mod common;

use common::sets::{KINDS, both, exhausted, global, group, local, set, table, take};
use common::{pasid, range, width};
use pasid::{
    Alias, AliasMap, Error, IdSpace, IoasidSet, Pool, Reuse, Scope, SetConfig, Space, SpaceKind,
    VirtualTable,
};
use std::sync::Arc;

type Guests<'a> = VirtualTable<&'a IoasidSet>;

/// The host's number behind the guest's.
fn host<S: Pool>(table: &VirtualTable<S>, guest: u32) -> Result<u32, Error> {
    let found = table.find(pasid(guest)).map(|handle| handle.pasid().get());
    let got = table.find_and_get(pasid(guest));
    assert_eq!(found, got.map(|reference| reference.pasid().get()));
    found
}

fn not_attached(guest: u32) -> Error {
    Error::NotAttached(pasid(guest))
}

/// A table of `bits` bits with memory for 0 ..= 255.
fn virtual_table<S: Pool>(map: &AliasMap<S>, bits: u8, pool: S) -> VirtualTable<S> {
    let table = map.add_table(width(bits), pool).unwrap();
    table.preload(range(0, 255)).unwrap();
    table
}

fn nested<S: Pool>(map: &AliasMap<S>, below: &VirtualTable<S>) -> VirtualTable<S> {
    let table = map.add_nested(width(10), below).unwrap();
    table.preload(range(0, 255)).unwrap();
    table
}

/// A set of each kind and scope.
fn each(check: impl Fn(&IoasidSet)) {
    for kind in KINDS {
        for reach in 0..3 {
            let space = Space::new(kind);
            let one = table(&space, 16);
            let scope = match (kind, reach) {
                (SpaceKind::Global, 1..) | (SpaceKind::Tables, 0) => continue,
                (_, 0) => Scope::Global,
                (_, 1) => Scope::Local(&one),
                _ => Scope::Group(std::slice::from_ref(&one)),
            };
            check(&set(&space, scope));
        }
    }
}

#[test]
fn a_number_stands_for_a_host_pasid_from_attach_to_detach() {
    each(|set| {
        let map = AliasMap::new();
        let guest = virtual_table(&map, 10, set);
        let owned = take(set, 900).unwrap();
        for number in [0, 5, 255] {
            assert_eq!(host(&guest, number), Err(not_attached(number)));
            guest.attach(pasid(number), owned.handle()).unwrap();
            assert_eq!(host(&guest, number), Ok(900));
        }
        let listed: Vec<_> = guest.aliases(range(0, 0xf_ffff)).collect();
        let alias = |number| Alias {
            guest: pasid(number),
            handle: owned.handle(),
            below: None,
        };
        assert_eq!(listed, [0, 5, 255].map(alias));
        assert_eq!(guest.aliases(range(1, 254)).count(), 1);
        assert_eq!(guest.detach(pasid(5)), Ok(owned.handle()));
        assert_eq!(guest.detach(pasid(5)), Err(not_attached(5)));
        assert_eq!(host(&guest, 5), Err(not_attached(5)));
        assert_eq!(host(&guest, 0), Ok(900));
    });
}

#[test]
fn an_entry_holds_the_pasid_and_one_that_is_revoked_says_so() {
    each(|set| {
        let map = AliasMap::new();
        let guest = virtual_table(&map, 10, set);
        let owned = take(set, 900).unwrap();
        guest.attach(pasid(5), owned.handle()).unwrap();
        let before = guest.find_and_get(pasid(5)).unwrap();
        drop(owned);
        let freeing = Err(Error::BeingFreed(pasid(900)));
        assert_eq!(host(&guest, 5), freeing);
        assert_eq!(guest.attach(pasid(6), before.handle()), freeing.map(drop));
        assert_eq!(take(set, 900).err(), exhausted(900));
        // The entry is there until it is detached.
        let over = guest.detach(pasid(5)).unwrap();
        assert_eq!(take(set, 900).err(), exhausted(900));
        drop(before);
        let next = take(set, 900).unwrap();
        assert_ne!(next.handle(), over);
        // A number stands for what it was attached to, not for whoever has the PASID now.
        assert_eq!(guest.attach(pasid(5), over), Err(Error::Stale(over)));
        guest.attach(pasid(5), next.handle()).unwrap();
        assert_eq!(guest.find(pasid(5)), Ok(next.handle()));
    });
}

#[test]
fn a_set_that_closes_revokes_what_is_attached() {
    each(|set| {
        let map = AliasMap::new();
        let guest = virtual_table(&map, 10, set);
        let owned = take(set, 900).unwrap();
        guest.attach(pasid(5), owned.handle()).unwrap();
        set.close();
        assert_eq!(host(&guest, 5), Err(Error::BeingFreed(pasid(900))));
        assert!(guest.attach(pasid(6), owned.handle()).is_err());
    });
}

#[test]
fn a_number_is_attached_once_and_nothing_is_left_of_what_was_refused() {
    each(|set| {
        let map = AliasMap::new();
        let guest = virtual_table(&map, 10, set);
        let (one, two) = (take(set, 1).unwrap(), take(set, 2).unwrap());
        guest.attach(pasid(5), one.handle()).unwrap();
        for _ in 0..50 {
            let again = guest.attach(pasid(5), two.handle());
            assert_eq!(again, Err(Error::AlreadyAttached(pasid(5))));
        }
        assert_eq!(host(&guest, 5), Ok(1));
        drop(two);
        assert!(take(set, 2).is_ok());
    });
}

#[test]
fn the_width_and_the_memory_are_the_tables_own() {
    let space = both();
    let users = global(&space);
    let map = AliasMap::new();
    let guest = map.add_table(width(10), &users).unwrap();
    assert_eq!(guest.width(), width(10));
    let owned = take(&users, 900).unwrap();
    let fits_not = Error::DoesNotFit {
        pasid: pasid(1024),
        width: width(10),
    };
    assert_eq!(guest.attach(pasid(1024), owned.handle()), Err(fits_not));
    assert_eq!(guest.detach(pasid(1024)), Err(fits_not));
    assert_eq!(host(&guest, 1024), Err(fits_not));
    assert_eq!(guest.preload(range(1000, 1024)), Err(fits_not));

    let missing = guest.attach(pasid(1023), owned.handle());
    assert_eq!(missing, Err(Error::OutOfMemory));
    assert_eq!(host(&guest, 1023), Err(not_attached(1023)));
    assert!(guest.preload(range(1023, 1023)).unwrap() >= 2048);
    assert_eq!(guest.preload(range(1023, 1023)), Ok(0));
    guest.attach(pasid(1023), owned.handle()).unwrap();
    // The host's number may have more bits than the guest's.
    let wide = take(&users, 0xf_0000).unwrap();
    guest.attach(pasid(1022), wide.handle()).unwrap();
    assert_eq!(host(&guest, 1022), Ok(0xf_0000));
    let none = map.add_table(width(0), &users).map(drop);
    assert_eq!(none, Err(Error::NoPasidSupport));
}

#[test]
fn only_pasids_of_the_tables_own_pool_are_attached() {
    let space = both();
    let device = table(&space, 16);
    let (users, others, queues) = (global(&space), global(&space), local(&space, &device));
    let grouped = group(&space, std::slice::from_ref(&device));
    let map = AliasMap::new();
    let guest = virtual_table(&map, 10, &users);
    let other = take(&others, 7).unwrap();
    let refused = guest.attach(pasid(5), other.handle());
    assert_eq!(refused, Err(Error::WrongSet(pasid(7))));
    for set in [&queues, &grouped] {
        let owned = take(set, 9).unwrap();
        let foreign = owned.handle();
        let refused = guest.attach(pasid(5), foreign);
        assert_eq!(refused, Err(Error::Stale(foreign)));
    }
    let elsewhere = both();
    let elsewhere = global(&elsewhere);
    let foreign = take(&elsewhere, 7).unwrap();
    let refused = guest.attach(pasid(5), foreign.handle());
    assert_eq!(refused, Err(Error::Stale(foreign.handle())));
    assert_eq!(guest.aliases(range(0, 1023)).count(), 0);
}

#[test]
fn a_number_is_per_table() {
    let space = both();
    let users = global(&space);
    let map = AliasMap::new();
    let (one, two) = (
        virtual_table(&map, 10, &users),
        virtual_table(&map, 8, &users),
    );
    assert!(!one.is_same(&two) && one.is_same(&one.clone()));
    let (a, b) = (take(&users, 1).unwrap(), take(&users, 2).unwrap());
    one.attach(pasid(5), a.handle()).unwrap();
    assert_eq!(host(&two, 5), Err(not_attached(5)));
    two.attach(pasid(5), b.handle()).unwrap();
    assert_eq!((host(&one, 5), host(&two, 5)), (Ok(1), Ok(2)));
    let tables = map.tables().unwrap();
    assert!(tables.len() == 2 && tables[0].is_same(&one) && tables[1].is_same(&two));
}

#[test]
fn the_last_handle_of_a_table_gives_everything_back() {
    each(|set| {
        let map = AliasMap::new();
        let guest = virtual_table(&map, 10, set);
        let owned: Vec<_> = (1..=100).map(|number| take(set, number).unwrap()).collect();
        for (number, owned) in owned.iter().enumerate() {
            guest.attach(pasid(number as u32), owned.handle()).unwrap();
        }
        let kept = guest.find_and_get(pasid(10)).unwrap();
        drop(owned);
        assert_eq!(set.statistics().freeing, 100);
        let second = guest.clone();
        drop(guest);
        // The map has a handle too.
        drop(second);
        assert_eq!(set.statistics().freeing, 100);
        let tables = map.tables().unwrap();
        assert!(map.remove(&tables[0]) && !map.remove(&tables[0]));
        assert_eq!(set.statistics().freeing, 100);
        drop(tables);
        assert_eq!(set.statistics().freeing, 1);
        drop(kept);
        assert_eq!(set.statistics().freeing, 0);
    });
}

#[test]
fn detaching_all_leaves_the_table_to_be_used_again() {
    let space = both();
    let users = global(&space);
    let map = AliasMap::new();
    let guest = virtual_table(&map, 10, &users);
    let owned = take(&users, 1).unwrap();
    for number in 0..256 {
        guest.attach(pasid(number), owned.handle()).unwrap();
    }
    for (first, last) in [(0, 255), (4, 5), (255, 255), (255, 1023)] {
        let listed = guest.aliases(range(first, last));
        let listed: Vec<_> = listed.map(|alias| alias.guest.get()).collect();
        assert_eq!(listed, (first..=last.min(255)).collect::<Vec<_>>());
    }
    guest.detach_all();
    assert_eq!(guest.aliases(range(0, 1023)).count(), 0);
    guest.attach(pasid(0), owned.handle()).unwrap();
    drop((guest, map, owned));
    assert!(take(&users, 1).is_ok());
}

#[test]
fn a_nested_number_stands_for_what_the_one_below_does() {
    each(|set| {
        let (l1, l2) = (AliasMap::new(), AliasMap::new());
        let outer = virtual_table(&l1, 10, set);
        let inner = nested(&l2, &outer);
        assert!(inner.below().unwrap().is_same(&outer) && outer.below().is_none());
        let (one, two) = (take(set, 1).unwrap(), take(set, 2).unwrap());
        let missing = inner.attach_below(pasid(9), pasid(5));
        assert_eq!(missing, Err(not_attached(5)));
        outer.attach(pasid(5), one.handle()).unwrap();
        inner.attach_below(pasid(9), pasid(5)).unwrap();
        assert_eq!(host(&inner, 9), Ok(1));
        let alias = inner.aliases(range(0, 1023)).next().unwrap();
        assert_eq!((alias.handle, alias.below), (one.handle(), Some(pasid(5))));
        // The number below gets another meaning: the nested one does not follow.
        outer.detach(pasid(5)).unwrap();
        assert_eq!(host(&inner, 9), Err(not_attached(9)));
        outer.attach(pasid(5), two.handle()).unwrap();
        assert_eq!(host(&inner, 9), Err(not_attached(9)));
        let again = inner.attach_below(pasid(9), pasid(5));
        assert_eq!(again, Err(Error::AlreadyAttached(pasid(9))));
        assert_eq!(inner.detach(pasid(9)), Ok(one.handle()));
        inner.attach_below(pasid(9), pasid(5)).unwrap();
        assert_eq!(host(&inner, 9), Ok(2));
        // Of its own it may have some too.
        inner.attach(pasid(10), one.handle()).unwrap();
        assert_eq!(host(&inner, 10), Ok(1));
        drop(two);
        assert_eq!(host(&inner, 9), Err(Error::BeingFreed(pasid(2))));
        let freeing = inner.attach_below(pasid(11), pasid(5));
        assert_eq!(freeing, Err(Error::BeingFreed(pasid(2))));
        // Each entry has a reference of its own.
        outer.detach(pasid(5)).unwrap();
        assert_eq!(take(set, 2).err(), exhausted(2));
        inner.detach(pasid(9)).unwrap();
        assert!(take(set, 2).is_ok());
    });
}

#[test]
fn tables_lie_over_one_another_up_to_eight() {
    let space = both();
    let users = global(&space);
    let owned = take(&users, 1).unwrap();
    let map = AliasMap::new();
    let mut tables: Vec<Guests<'_>> = vec![virtual_table(&map, 10, &users)];
    tables[0].attach(pasid(0), owned.handle()).unwrap();
    for level in 1..8 {
        let above = nested(&map, &tables[level - 1]);
        above
            .attach_below(pasid(level as u32), pasid(level as u32 - 1))
            .unwrap();
        assert_eq!(host(&above, level as u32), Ok(1));
        tables.push(above);
    }
    let ninth = map.add_nested(width(10), &tables[7]).map(drop);
    assert_eq!(ninth, Err(Error::TooManyLevels { levels: 8 }));
    // Each below 3 still has it, each above does not.
    assert_eq!(tables[3].detach(pasid(3)), Ok(owned.handle()));
    for (level, table) in tables.iter().enumerate() {
        let number = level as u32;
        let expected = if level < 3 {
            Ok(1)
        } else {
            Err(not_attached(number))
        };
        assert_eq!(host(table, number), expected);
    }
    // A table keeps those that it lies over.
    let top = tables.pop().unwrap();
    drop((tables, map));
    assert!(top.below().unwrap().below().is_some());
    drop(owned);
    drop(top);
    assert!(take(&users, 1).is_ok());
}

#[test]
fn a_table_over_none_has_nothing_below() {
    let space = both();
    let users = global(&space);
    let map = AliasMap::new();
    let guest = virtual_table(&map, 10, &users);
    assert_eq!(guest.attach_below(pasid(1), pasid(2)), Err(not_attached(2)));
    let inner = nested(&map, &guest);
    let beyond = inner.attach_below(pasid(1), pasid(1024));
    let fits_not = Error::DoesNotFit {
        pasid: pasid(1024),
        width: width(10),
    };
    assert_eq!(beyond, Err(fits_not));
}

#[test]
fn references_are_counted_to_the_last() {
    let space = both();
    let users = global(&space);
    let map = AliasMap::new();
    let guest = virtual_table(&map, 10, &users);
    let owned = take(&users, 1).unwrap();
    guest.attach(pasid(5), owned.handle()).unwrap();
    let mut references = Vec::new();
    let refused = loop {
        match guest.find_and_get(pasid(5)) {
            Ok(reference) => references.push(reference),
            Err(error) => break error,
        }
    };
    let too_many = Error::TooManyReferences(owned.handle());
    assert_eq!(refused, too_many);
    assert_eq!(guest.attach(pasid(6), owned.handle()), Err(too_many));
    assert_eq!(guest.find(pasid(5)), Ok(owned.handle()));
    references.pop();
    guest.attach(pasid(6), owned.handle()).unwrap();
    drop((references, guest, map, owned));
    assert!(take(&users, 1).is_ok());
}

#[test]
fn what_an_entry_kept_awaits_its_flush_afterwards() {
    let space = both();
    let config = SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush);
    let users = space.add_set(config).unwrap();
    let map = AliasMap::new();
    let guest = virtual_table(&map, 10, &users);
    let owned = take(&users, 1).unwrap();
    guest.attach(pasid(5), owned.handle()).unwrap();
    drop(owned);
    assert_eq!(users.statistics().waiting, 0);
    guest.detach(pasid(5)).unwrap();
    assert_eq!(users.statistics().waiting, 1);
}

#[test]
fn one_id_space_is_a_pool_too_and_a_table_keeps_its_pool() {
    let space = Arc::new(IdSpace::new(width(16)));
    let map = AliasMap::new();
    let guest = virtual_table(&map, 10, space.clone());
    let owned = space.clone().alloc(space.range(), 7).unwrap();
    guest.attach(pasid(5), owned.handle()).unwrap();
    drop((owned, map));
    let weak = Arc::downgrade(&space);
    drop(space);
    assert_eq!(guest.pool().count_live(range(0, 9)), 0);
    assert_eq!(host(&guest, 5), Err(Error::BeingFreed(pasid(1))));
    drop(guest);
    assert!(weak.upgrade().is_none());
}

#[cfg(feature = "epoch")]
#[test]
fn payloads_go_with_the_last_reference_also_an_entrys() {
    use pasid::Guard;
    let space = both();
    let users = space
        .add_set_of::<Arc<String>>(SetConfig::new(Scope::Global))
        .unwrap();
    let map = AliasMap::new();
    let guest = virtual_table(&map, 10, &users);
    let name = Arc::new(String::from("a process"));
    let owned = users.alloc(users.range(), name.clone()).unwrap();
    guest.attach(pasid(5), owned.handle()).unwrap();
    drop(owned);
    let reference = guest.aliases(range(0, 9)).next().unwrap().handle;
    assert_eq!(
        guest.find(pasid(5)),
        Err(Error::BeingFreed(reference.pasid()))
    );
    assert_eq!(Arc::strong_count(&name), 2);
    guest.detach(pasid(5)).unwrap();
    // Dropped once no guard can see it any more.
    while Arc::strong_count(&name) > 1 {
        Guard::new().flush();
    }
}
