// SPDX-License-Identifier: MIT OR Apache-2.0
//! Restoring: all of a snapshot or nothing, and claiming what it had.

mod common;

use common::sets::{both, global, group, local, set, table, take};
use common::snapshots::plain;
use common::{pasid, range, width};
use pasid::snapshot::{Numbers, Offence, PhaseSnapshot, Place, Restore};
use pasid::{
    AliasMap, Attach, Error, Flush, Handle, Observer, Policy, Pool, RequesterId, Reuse, Scope,
    SetConfig, Space, SpaceKind, TableConfig,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Everything at once; what is held is leaked into raw forms.
fn busy() -> (Space, Vec<u64>) {
    let space = both();
    space.reserve(pasid(3)).expect("it is free");
    let reserved = [range(9, 9)];
    let tables = [
        space.add_table(TableConfig::new(width(20)).reserved(&reserved)),
        space.add_table(TableConfig::new(width(18))),
    ]
    .map(|table| table.expect("memory"));
    tables[1]
        .join(RequesterId(7), width(16))
        .expect("nothing is beyond");
    let users = space.add_set(
        SetConfig::new(Scope::Global)
            .token(7)
            .reuse(Reuse::AfterFlush),
    );
    let users = users.expect("memory");
    let config = SetConfig::new(Scope::Local(&tables[0]))
        .policy(Policy::Next)
        .quota(50);
    let driver = space
        .add_set(config.reserved(&[range(20, 29)]))
        .expect("memory");
    let pair = group(&space, &tables);
    let mut raw = Vec::new();
    // Live, with references and an attachment with faults in flight.
    let process = users.alloc(users.range(), 0xA0).expect("there are some");
    tables.iter().for_each(|table| {
        table.preload(range(0, 255)).expect("memory");
    });
    let attachment = (&tables[0]).attach(&process, 0xD0).expect("free");
    std::mem::forget(attachment.commit().expect("it is open"));
    std::mem::forget((&tables[0]).fault_get(process.pasid()).expect("attached"));
    raw.push(process.get().expect("live").into_raw());
    raw.push(process.into_raw());
    // Without an owner.
    raw.push(
        driver
            .alloc(driver.range(), 0xB0)
            .expect("some")
            .into_ref()
            .into_raw(),
    );
    // Being freed, and pinned.
    let going = driver.alloc(driver.range(), 0xB1).expect("some");
    raw.push(going.get().expect("live").into_raw());
    std::mem::forget(going.pin().expect("no pin"));
    drop(going);
    // Pinned alone.
    let kept = driver.alloc(driver.range(), 0xB2).expect("some");
    std::mem::forget(kept.pin().expect("no pin"));
    drop(kept);
    // In quarantine.
    drop(users.alloc(users.range(), 0).expect("some"));
    drop(users.alloc(users.range(), 0).expect("some"));
    // A group's, attached, and detached while a fault is in flight.
    let shared = pair.alloc(pair.range(), 0xC0).expect("some");
    let attachment = (&tables[1]).attach(&shared, 0xD1).expect("free");
    let attachment = attachment.commit().expect("open");
    std::mem::forget((&tables[1]).fault_get(shared.pasid()).expect("attached"));
    attachment.detach();
    raw.push(shared.into_raw());
    tables[1].pause();
    (space, raw)
}

#[test]
fn a_busy_space_comes_back_as_it_was() {
    let (before, _raw) = busy();
    let taken = before.snapshot().expect("memory");
    assert!(taken.quiescent);
    let phases: Vec<_> = taken
        .sets
        .iter()
        .flat_map(|set| set.entries().map(|of| of.phase))
        .collect();
    use PhaseSnapshot::{Freeing, Live, Pinned, Quarantined};
    assert_eq!(
        phases,
        [Live, Quarantined, Quarantined, Live, Freeing, Pinned, Live]
    );
    let after = both();
    let _restored = Restore::new(&taken).into_space(&after).expect("it holds");
    let again = after.snapshot().expect("memory");
    assert_eq!(plain(again), plain(taken));
}

#[test]
fn everything_is_claimed_once_by_its_old_name() {
    let (before, raw) = busy();
    let taken = before.snapshot().expect("memory");
    let after = both();
    let mut restored = Restore::new(&taken).into_space(&after).expect("it holds");
    let users = restored.set::<u64>(0).expect("words");
    let driver = restored.set::<u64>(1).expect("words");
    let pair = restored.set::<u64>(2).expect("words");
    let old: Vec<_> = raw.iter().map(|&raw| common::handle(raw)).collect();
    let reference = restored.claim_ref(&users, old[0]).expect("it was held");
    let process = restored.claim(&users, old[1]).expect("it was held");
    assert_eq!(
        (reference.handle(), process.word()),
        (process.handle(), 0xA0)
    );
    assert_eq!(
        restored.claim(&users, old[1]).err(),
        Some(Error::Stale(old[1]))
    );
    let lent = restored.claim_ref(&driver, old[2]).expect("it was held");
    assert_eq!(
        restored.claim(&driver, old[2]).err(),
        Some(Error::Stale(old[2]))
    );
    let going = restored.claim_ref(&driver, old[3]).expect("it was held");
    assert_eq!(
        (&driver).get(going.handle()).err(),
        Some(Error::BeingFreed(going.pasid()))
    );
    drop(restored.claim_pin(&driver, old[3]).expect("it was pinned"));
    let shared = restored.claim(&pair, old[4]).expect("it was held");
    assert_eq!(
        restored.claim(&users, old[4]).err(),
        Some(Error::Stale(old[4]))
    );
    let tables = [0, 1].map(|index| restored.table(index).expect("restored").clone());
    let attachment = restored
        .claim_attachment(&tables[0], process.pasid())
        .expect("it stands");
    assert_eq!(attachment.word(), 0xD0);
    let fault = restored
        .claim_fault(&tables[0], process.pasid())
        .expect("in flight");
    assert_eq!(fault.word(), 0xD0);
    let late = restored
        .claim_fault(&tables[1], shared.pasid())
        .expect("in flight");
    assert!(restored.claim_fault(&tables[1], shared.pasid()).is_err());

    // One pin is left.
    let left: Vec<_> = restored.unclaimed().collect();
    assert_eq!(left.len(), 1);
    assert!(left[0].pinned && !left[0].own && left[0].references == 0);
    restored.drop_unclaimed();
    assert_eq!(driver.statistics().pinned, 0);
    drop((reference, lent, going, late, shared, fault, attachment));
    assert_eq!(users.statistics().waiting, 2);
    drop(process);
    assert_eq!(users.statistics().waiting, 3);
    assert_eq!(after.flush(|_| Ok::<(), Error>(())), Ok(3));
    for set in [&users, &driver, &pair] {
        let of = set.statistics();
        assert_eq!((of.live, of.freeing, of.waiting, of.pinned), (0, 0, 0, 0));
    }
    assert_eq!(tables[0].attachments(range(0, 0xfffff)).count(), 0);
}

#[test]
fn a_collision_changes_nothing() {
    let (before, _raw) = busy();
    let taken = before.snapshot().expect("memory");
    let number = taken.sets[2].pasids[0].first;
    // A busy host: on its table somebody has the group's PASID.
    let host = both();
    let device = table(&host, 20);
    let others = local(&host, &device);
    let _other = take(&others, number.get()).expect("it is free");
    let tables: Vec<(usize, &_)> = vec![(0, &device)];
    let as_it_was = host.snapshot().expect("memory");
    let refused = Restore::new(&taken).on_tables(&tables).into_space(&host);
    let error = refused.expect_err("a collision");
    assert_eq!(
        error.place,
        Place::Pasid {
            set: 2,
            pasid: number
        }
    );
    assert_eq!(error.offence, Offence::Refused(Error::InUse(number)));
    assert_eq!(host.snapshot().expect("memory"), as_it_was);
    assert_eq!(others.statistics().waiting, 0);

    // With new numbers it fits.
    let mut restored = Restore::new(&taken)
        .on_tables(&tables)
        .numbers(Numbers::New)
        .into_space(&host)
        .expect("there is room");
    let old = taken.sets[2].entries().next().expect("one").handle;
    let pair = restored.set::<u64>(2).expect("words");
    let shared = restored.claim(&pair, old).expect("it was held");
    assert_ne!(shared.pasid(), number);
    assert_eq!(Some(shared.handle()), restored.handle_of(2, old));
    assert_eq!(shared.word(), 0xC0);
}

#[test]
fn a_set_goes_on_where_it_was() {
    let space = Space::new(SpaceKind::Global);
    let config = SetConfig::new(Scope::Global)
        .policy(Policy::Next)
        .range(range(1, 500));
    let set = space.add_set(config).expect("memory");
    let held: Vec<_> = (0..300)
        .map(|word| (&set).alloc(set.range(), word).expect("room"))
        .collect();
    drop(held.into_iter().step_by(3).collect::<Vec<_>>());
    let taken = space.snapshot().expect("memory");
    let other = Space::new(SpaceKind::Global);
    let restored = Restore::new(&taken).into_space(&other).expect("it holds");
    let again = restored.set::<u64>(0).expect("words");
    for _ in 0..200 {
        let one = (&set).alloc(set.range(), 0).map(|owned| owned.pasid());
        let other = (&again).alloc(again.range(), 0).map(|owned| owned.pasid());
        assert_eq!(one, other);
    }
    let _ = global(&other);
}

#[test]
fn a_guest_moves_into_a_busy_host_with_its_aliases() {
    let host = Space::new(SpaceKind::Both);
    let devices = [table(&host, 20), table(&host, 16)];
    let stays = local(&host, &devices[0]);
    let _stays = take(&stays, 77).expect("free");
    let guest = Arc::new(set(&host, Scope::Local(&devices[1])));
    let (outer, inner) = (AliasMap::new(), AliasMap::new());
    let virtio = outer.add_table(width(8), guest.clone()).expect("memory");
    let nested = inner.add_nested(width(8), &virtio).expect("memory");
    virtio.preload(range(0, 255)).expect("memory");
    nested.preload(range(0, 255)).expect("memory");
    let live = guest.clone().alloc(range(1, 100), 0xA).expect("room");
    let going = guest.clone().alloc(range(1, 100), 0xB).expect("room");
    virtio.attach(pasid(5), live.handle()).expect("no entry");
    virtio.attach(pasid(6), going.handle()).expect("no entry");
    nested.attach_below(pasid(9), pasid(5)).expect("no entry");
    let revoked = going.pasid();
    drop(going);
    devices[1].preload(range(0, 255)).expect("memory");
    let attachment = (&devices[1]).attach(&live, 0xD).expect("free");
    let _attachment = attachment.commit().expect("open");

    // The nested map is named first, and needs the other one.
    let alone = host.snapshot_with(&[&inner]).err();
    assert_eq!(alone, Some(Error::InvalidScope));
    let all = host.snapshot_with(&[&inner, &outer]).expect("memory");
    let part = all.only(|index, _| index == 1).expect("memory");
    assert_eq!((part.sets.len(), part.tables.len()), (1, 1));

    let busy = Space::new(SpaceKind::Both);
    let device = table(&busy, 16);
    let others = local(&busy, &device);
    let _others = take(&others, 1).expect("free");
    let tables = [(0, &device)];
    let restore = Restore::new(&part).on_tables(&tables);
    let refused = restore.into_space(&busy).expect_err("1 is taken");
    let one = pasid(1);
    assert_eq!(refused.place, Place::Pasid { set: 0, pasid: one });
    let restore = restore.numbers(Numbers::New);
    let mut restored = restore.into_space(&busy).expect("room");
    let moved = Arc::new(restored.set::<u64>(0).expect("words"));
    let other = Arc::new(others.clone());
    assert!(restored.alias_maps(|_| Ok(other.clone())).is_err());
    let maps = restored.alias_maps(|_| Ok(moved.clone())).expect("memory");
    let there = |map: usize| maps[map].tables().expect("memory").remove(0);
    let (nested, virtio) = (there(0), there(1));
    let reference = virtio.find_and_get(pasid(5)).expect("live");
    assert_eq!(
        (reference.word(), reference.handle()),
        (0xA, nested.find(pasid(9)).expect("live"))
    );
    assert_eq!(
        Some(reference.handle()),
        restored.handle_of(0, live.handle())
    );
    assert!(matches!(virtio.find(pasid(6)), Err(Error::BeingFreed(now)) if now != revoked));
    // All is given back by its holders alone.
    let owner = restored.claim(moved.clone(), live.handle()).expect("held");
    let attachment = restored.claim_attachment(&device, live.pasid());
    drop(attachment.expect("attached"));
    assert_eq!(restored.unclaimed().count(), 0);
    drop((restored, owner, reference));
    assert_eq!(moved.statistics().freeing, 2);
    drop((maps, nested, virtio));
    assert_eq!(moved.statistics().freeing, 0);
}

#[test]
fn a_table_is_named_once() {
    let (before, _raw) = busy();
    let taken = before.snapshot().expect("memory");
    let host = both();
    let devices = [table(&host, 20), table(&host, 20)];
    for named in [
        [(0, &devices[0]), (0, &devices[1])],
        [(0, &devices[0]), (1, &devices[0])],
        [(0, &devices[0]), (2, &devices[1])],
    ] {
        let refused = Restore::new(&taken).on_tables(&named).into_space(&host);
        let index = u32::try_from(named[1].0).expect("few");
        assert_eq!(
            refused.expect_err("refused").offence,
            Offence::Index { index }
        );
    }
}

#[test]
fn a_set_that_was_taken_alone_is_restored_alone() {
    let (before, raw) = busy();
    let pair = &before.sets().expect("memory")[2];
    let taken = pair.snapshot().expect("memory");
    assert!(taken.quiescent);
    let alone = taken.alone().expect("memory");
    assert_eq!((alone.tables.len(), alone.sets.len()), (2, 1));
    let host = both();
    let _unlike = table(&host, 20);
    let devices = [table(&host, 18), table(&host, 20)];
    let tables = [(0, &devices[1]), (1, &devices[0])];
    let mut restored = Restore::new(&alone)
        .on_tables(&tables)
        .into_space(&host)
        .expect("it holds");
    let set = restored.set::<u64>(0).expect("words");
    // With the reference of the attachment that is not in it.
    let left = restored.unclaimed().next().expect("one");
    assert_eq!((left.own, left.references), (true, 1));
    let shared = restored.claim(&set, common::handle(raw[4])).expect("held");
    assert_eq!(shared.word(), 0xC0);
    for device in &devices {
        let refused = take(&local(&host, device), shared.pasid().get()).map(drop);
        assert!(refused.is_err(), "the group has it on each of its tables");
    }
}

/// Looks for the set whose allocation it is told of.
struct Seeker {
    space: &'static Space,
    found: AtomicU32,
}

impl Observer for Seeker {
    fn allocated(&self, _: Handle, _: u64) {
        let listed = self.space.sets().expect("memory").len();
        let found = u32::from(self.space.find_set(7).is_some());
        self.found
            .fetch_add(found + listed as u32, Ordering::Relaxed);
    }
}

#[test]
fn nobody_finds_a_set_before_all_of_it_is_there() {
    static SPACE: Space = Space::new(SpaceKind::Both);
    let (before, _raw) = busy();
    let taken = before.snapshot().expect("memory");
    let seeker = Arc::new(Seeker {
        space: &SPACE,
        found: AtomicU32::new(0),
    });
    let restore = Restore::new(&taken);
    let restored = restore
        .configure(&|_, config| config.observer(seeker.clone()))
        .into_space(&SPACE)
        .expect("it holds");
    assert_eq!(seeker.found.load(Ordering::Relaxed), 0);
    assert!(SPACE.find_set(7).is_some());
    assert_eq!(SPACE.sets().expect("memory").len(), 3);
    // Two faults: one of what is attached, one of what was detached.
    let faults: Vec<_> = restored
        .unclaimed_faults()
        .map(|(table, _, count)| (table, count))
        .collect();
    assert_eq!(faults, [(0, 1), (1, 1)]);
}

#[test]
fn new_numbers_fit_the_tables_to_which_they_are_attached() {
    let space = both();
    let device = table(&space, 20);
    device
        .join(RequesterId(1), width(8))
        .expect("nothing is beyond");
    device.preload(range(0, 255)).expect("memory");
    let config = SetConfig::new(Scope::Global).policy(Policy::PreserveNarrow);
    let users = space.add_set(config).expect("memory");
    let free = users.alloc(users.range(), 1).expect("room");
    let bound = users.alloc(range(1, 255), 2).expect("room");
    let attachment = (&device)
        .attach(&bound, 3)
        .expect("free")
        .commit()
        .expect("open");
    let taken = space.snapshot().expect("memory");

    let other = both();
    let narrow = table(&other, 6);
    for tables in [&[][..], &[(0, &narrow)]] {
        let restore = Restore::new(&taken).numbers(Numbers::New).on_tables(tables);
        let restored = restore.into_space(&other).expect("there is room");
        let now = |old: Handle| restored.handle_of(0, old).expect("restored").pasid();
        assert!(now(bound.handle()).get() < 256 && now(free.handle()).get() > 255);
        assert!(tables.is_empty() || now(bound.handle()).get() < 64);
    }
    drop(attachment);
}
