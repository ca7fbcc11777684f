// SPDX-License-Identifier: MIT OR Apache-2.0
//! Quarantine and flush, as its users see it.

mod common;

use common::sets::{KINDS, Recorder, Told, any, free, next_numbers, table, take, take_at};
use common::{handle, pasid, range};
use pasid::{
    Attach, Error, Flush, Flusher, IoasidSet, Pool, Reuse, Scope, SetConfig, Space, SpaceKind,
    Table,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

fn scopes<'a>(kind: SpaceKind, tables: &'a [Table]) -> Vec<Scope<'a>> {
    let all = [
        Scope::Global,
        Scope::Local(&tables[0]),
        Scope::Group(tables),
    ];
    match kind {
        SpaceKind::Global => all[..1].to_vec(),
        SpaceKind::Tables => all[1..].to_vec(),
        SpaceKind::Both => all.to_vec(),
    }
}

/// A set of `1 ..= last` whose PASIDs await a flush, for each kind of space and each scope.
fn each(last: u32, config: impl Fn(SetConfig<'_>) -> SetConfig<'_>, check: impl Fn(&IoasidSet)) {
    for kind in KINDS {
        let space = Space::new(kind);
        let tables = [table(&space, 20), table(&space, 20)];
        for scope in scopes(kind, &tables) {
            let plain = SetConfig::new(scope).range(range(1, last));
            let set = space
                .add_set(config(plain.reuse(Reuse::AfterFlush)))
                .unwrap();
            check(&set);
            assert_eq!(set.flush(|_| Ok::<(), ()>(())).map(|_| ()), Ok(()));
            set.close();
        }
    }
}

fn same(config: SetConfig<'_>) -> SetConfig<'_> {
    config
}

fn awaiting(first: u32, last: u32) -> Option<Error> {
    let range = range(first, last);
    Some(Error::AwaitingFlush { range })
}

fn flush(set: &IoasidSet) -> u32 {
    set.flush(|_| Ok::<(), ()>(())).unwrap()
}

#[test]
fn a_freed_pasid_waits_for_a_flush() {
    each(70, same, |set| {
        assert_eq!(set.reuse(), Reuse::AfterFlush);
        let numbers = next_numbers(set, 70);
        assert_eq!(numbers, (1..=70).collect::<Vec<_>>());
        assert_eq!(any(set).err(), awaiting(1, 70));
        assert_eq!(take_at(set, 3).err(), awaiting(3, 3));
        let statistics = set.statistics();
        assert_eq!((statistics.live, statistics.waiting), (0, 70));
        assert_eq!(set.find(pasid(5)), Err(Error::NotFound(pasid(5))));
        let mut seen = Vec::new();
        let flushed = set.flush(|batch| {
            assert_eq!(batch.count(), 70);
            seen.extend(batch.ranges());
            Ok::<(), ()>(())
        });
        assert_eq!(flushed, Ok(70));
        assert_eq!(seen, [range(1, 70)]);
        assert_eq!(next_numbers(set, 70), numbers);
        let flushes = set.flushes();
        assert_eq!(
            (flushes.completed, flushes.returned, flushes.in_flight),
            (1, 70, 0)
        );
    });
}

#[test]
fn what_is_exhausted_without_anything_waiting_says_so() {
    each(3, same, |set| {
        let held: Vec<_> = (0..3).map(|_| any(set).unwrap()).collect();
        let range = range(1, 3);
        assert_eq!(any(set).err(), Some(Error::Exhausted { range }));
        drop(held);
        assert_eq!(any(set).err(), awaiting(1, 3));
        assert_eq!(take_at(set, 1).err(), awaiting(1, 1));
        assert_eq!(flush(set), 3);
        assert!(any(set).is_ok());
    });
}

#[test]
fn a_reference_keeps_a_pasid_out_of_the_batch() {
    each(64, same, |set| {
        let owned = any(set).unwrap();
        let held = owned.get().unwrap();
        drop(owned);
        assert_eq!(flush(set), 0);
        drop(held);
        assert_eq!(flush(set), 1);
    });
}

#[test]
fn what_is_freed_after_the_beginning_waits_for_the_next_flush() {
    each(2, same, |set| {
        let (first, second) = (any(set).unwrap(), any(set).unwrap());
        drop(first);
        let ticket = set.begin_flush();
        drop(second);
        let later = set.begin_flush();
        assert_eq!((ticket.count(), later.count()), (1, 1));
        assert!(ticket.ranges().eq([range(1, 1)]) && later.ranges().eq([range(2, 2)]));
        assert_eq!(any(set).err(), awaiting(1, 2));
        assert_eq!(later.complete(), 1);
        assert_eq!(any(set).unwrap().pasid(), pasid(2));
        assert_eq!(any(set).err(), awaiting(1, 2));
        assert_eq!(ticket.complete(), 1);
        assert_eq!(any(set).unwrap().pasid(), pasid(1));
    });
}

#[test]
fn a_failed_flush_and_a_dropped_ticket_put_the_batch_back() {
    each(100, same, |set| {
        next_numbers(set, 100);
        assert_eq!(set.flush(|_| Err("no answer")), Err("no answer"));
        drop(set.begin_flush());
        let flushes = set.flushes();
        assert_eq!((flushes.completed, flushes.in_flight), (0, 0));
        assert_eq!(any(set).err(), awaiting(1, 100));
        assert_eq!(flush(set), 100);
    });
}

#[test]
fn a_quota_counts_what_waits() {
    each(
        500,
        |config| config.quota(40),
        |set| {
            next_numbers(set, 40);
            assert_eq!(set.quota().unwrap().used, 40);
            assert_eq!(any(set).err(), Some(Error::QuotaExceeded { quota: 40 }));
            let ticket = set.begin_flush();
            assert_eq!(any(set).err(), Some(Error::QuotaExceeded { quota: 40 }));
            assert_eq!(ticket.complete(), 40);
            assert_eq!(set.quota().unwrap().used, 0);
            let held = any(set).unwrap();
            assert_eq!((held.pasid(), set.quota().unwrap().used), (pasid(1), 1));
        },
    );
}

#[test]
fn sets_that_share_an_id_space_get_their_own_credits_back() {
    let space = Space::new(SpaceKind::Both);
    let table = table(&space, 20);
    let config = SetConfig::new(Scope::Local(&table)).reuse(Reuse::AfterFlush);
    let one = space.add_set(config.clone().quota(7)).unwrap();
    let none = space.add_set(config.clone()).unwrap();
    let other = space.add_set(config.quota(9)).unwrap();
    for _ in 0..7 {
        drop((
            any(&one).unwrap(),
            any(&none).unwrap(),
            any(&other).unwrap(),
        ));
    }
    let used = |set: &IoasidSet| set.quota().unwrap().used;
    assert_eq!((used(&one), used(&other)), (7, 7));
    assert_eq!((&table).flush(|_| Ok::<(), ()>(())), Ok(21));
    assert_eq!((used(&one), used(&other)), (0, 0));
}

#[test]
fn the_ranges_on_a_table_are_those_that_were_attached_there() {
    let space = Space::new(SpaceKind::Both);
    let tables = [table(&space, 20), table(&space, 20), table(&space, 20)];
    let config = SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush);
    let users = space.add_set(config).unwrap();
    for table in &tables {
        table.preload(range(0, 299)).unwrap();
    }
    let owned: Vec<_> = (0..99).map(|_| any(&users).unwrap()).collect();
    for owned in &owned {
        let number = owned.pasid().get();
        if (10..20).contains(&number) || number == 40 {
            drop(tables[0].attach(owned, 0).unwrap().commit().unwrap());
        }
        if (15..=70).contains(&number) {
            // Backed out: the hardware entry may have been written all the same.
            drop(tables[1].attach(owned, 0).unwrap());
        }
    }
    drop(owned);
    let mut ticket = space.begin_flush();
    assert!(
        ticket
            .ranges_on(&tables[0])
            .eq([range(10, 19), range(40, 40)])
    );
    assert!(ticket.ranges_on(&tables[1]).eq([range(15, 70)]));
    assert!(!ticket.concerns(&tables[2]) && ticket.concerns(&tables[1]));
    // One table's failure keeps what was attached there, and nothing else.
    assert_eq!(ticket.put_back_on(&tables[0]), 11);
    assert!(
        ticket
            .ranges()
            .eq([range(1, 9), range(20, 39), range(41, 99)])
    );
    assert_eq!(ticket.count(), 88);
    assert_eq!(ticket.put_back_on(&tables[2]), 0);
    assert_eq!(ticket.complete(), 88);
    assert_eq!(take(&users, 15).err(), awaiting(15, 15));
    let again = take(&users, 20).unwrap();
    drop(again);
    let ticket = space.begin_flush();
    assert!(ticket.ranges().eq([range(10, 20), range(40, 40)]));
    // PASID 20 was attached to table 1 in its first life, not in its second.
    assert!(
        ticket
            .ranges_on(&tables[1])
            .eq([range(15, 19), range(40, 40)])
    );
    assert_eq!(ticket.complete(), 12);
}

#[test]
fn what_waits_is_held_for_every_set() {
    let space = Space::new(SpaceKind::Both);
    let tables = [table(&space, 20), table(&space, 20)];
    let users = space
        .add_set(SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush))
        .unwrap();
    let driver = space
        .add_set(SetConfig::new(Scope::Local(&tables[0])).reuse(Reuse::AfterFlush))
        .unwrap();
    drop(take(&users, 9).unwrap());
    drop(take(&driver, 8).unwrap());
    assert_eq!(take(&driver, 9).err(), awaiting(9, 9));
    let nine = range(8, 8);
    assert_eq!(
        take(&users, 8).err(),
        Some(Error::Exhausted { range: nine })
    );
    assert_eq!(tables[0].reserve(pasid(8)), Err(Error::InUse(pasid(8))));
    assert_eq!((&tables[1]).flush(|_| Ok::<(), ()>(())), Ok(0));
    assert_eq!((&tables[0]).flush(|_| Ok::<(), ()>(())), Ok(1));
    assert!(take(&users, 8).is_ok() && take(&driver, 9).is_err());
    assert_eq!((&space).flush(|_| Ok::<(), ()>(())), Ok(2));
    assert!(take(&driver, 9).is_ok());
}

#[test]
fn a_fault_on_what_waits_finds_nothing() {
    for kind in KINDS {
        let space = Space::new(kind);
        let tables = [table(&space, 20), table(&space, 20)];
        for scope in scopes(kind, &tables) {
            let set = space
                .add_set(SetConfig::new(scope).reuse(Reuse::AfterFlush))
                .unwrap();
            let owned = any(&set).unwrap();
            let number = owned.pasid();
            tables[0].preload(number.into()).unwrap();
            let attached = tables[0].attach(&owned, 1).unwrap().commit().unwrap();
            drop(owned);
            let fault = tables[0].fault_get(number).err();
            assert_eq!(fault, Some(Error::BeingFreed(number)));
            assert_eq!(flush(&set), 0);
            drop(attached);
            for _ in 0..2 {
                let fault = tables[0].fault_get(number).err();
                assert_eq!(fault, Some(Error::NotFound(number)), "{kind:?} {scope:?}");
                assert!(flush(&set) <= 1);
            }
        }
    }
}

#[test]
fn a_pin_keeps_a_pasid_from_reuse() {
    each(
        2,
        |config| config.quota(2),
        |set| {
            let owned = any(set).unwrap();
            let (handle, number) = (owned.handle(), owned.pasid());
            let pin = owned.pin().unwrap();
            assert_eq!(owned.pin().err(), Some(Error::AlreadyPinned(number)));
            assert_eq!((pin.pasid(), pin.handle()), (number, handle));
            drop(owned);
            assert_eq!(set.get(handle).err(), Some(Error::Stale(handle)));
            assert_eq!(flush(set), 0);
            assert_eq!(take(set, 1).err(), common::sets::exhausted(1));
            let statistics = set.statistics();
            assert_eq!((statistics.pinned, statistics.waiting), (1, 0));
            assert_eq!(statistics.quota.unwrap().used, 1);
            drop(pin);
            assert_eq!(take(set, 1).err(), awaiting(1, 1));
            assert_eq!(flush(set), 1);
            assert_eq!(set.quota().unwrap().used, 0);
            // Taken away before the end: nothing is left of it.
            let owned = take(set, 1).unwrap();
            drop(owned.pin().unwrap());
            drop(owned);
            assert_eq!(flush(set), 1);
        },
    );
}

#[test]
fn a_pin_works_where_reuse_is_immediate() {
    for kind in KINDS {
        let space = Space::new(kind);
        let tables = [table(&space, 20), table(&space, 20)];
        for scope in scopes(kind, &tables) {
            let set = space.add_set(SetConfig::new(scope).quota(5)).unwrap();
            let owned = take(&set, 4).unwrap();
            let pin = owned.pin().unwrap();
            drop(owned);
            assert_eq!(take(&set, 4).err(), common::sets::exhausted(4));
            assert_eq!(set.quota().unwrap().used, 1);
            drop(pin);
            assert_eq!(set.quota().unwrap().used, 0);
            assert!(take(&set, 4).is_ok());
        }
    }
}

#[test]
fn observers_are_told_reclaimed_when_the_pin_is_gone_too() {
    for reuse in [Reuse::Immediate, Reuse::AfterFlush] {
        let recorder = Recorder::new();
        let space = Space::new(SpaceKind::Global);
        let config = SetConfig::new(Scope::Global).reuse(reuse);
        let set = space.add_set(config.observer(recorder.clone())).unwrap();
        let owned = any(&set).unwrap();
        let handle = owned.handle();
        let pin = owned.pin().unwrap();
        drop(owned);
        let told = [Told::Allocated(handle, 0), Told::Revoked(handle)];
        assert_eq!(recorder.take(), told);
        drop(pin);
        assert_eq!(recorder.take(), [Told::Reclaimed(handle)]);
        flush(&set);
        assert_eq!(recorder.take(), []);
    }
}

/// Flushes one set.
struct Flushes(OnceLock<IoasidSet>, AtomicU32);

impl Flusher for Flushes {
    fn flush(&self) {
        self.1.fetch_add(1, Ordering::Relaxed);
        if let Some(set) = self.0.get() {
            flush(set);
        }
    }
}

#[test]
fn an_installed_flush_runs_when_nothing_else_is_free() {
    for kind in KINDS {
        let space = Space::new(kind);
        let tables = [table(&space, 20), table(&space, 20)];
        for scope in scopes(kind, &tables) {
            let flusher = Arc::new(Flushes(OnceLock::new(), AtomicU32::new(0)));
            let config = SetConfig::new(scope).range(range(1, 1000));
            let config = config.reuse(Reuse::AfterFlush).flusher(flusher.clone());
            let set = space.add_set(config).unwrap();
            // Not installed yet.
            next_numbers(&set, 1000);
            assert_eq!(any(&set).err(), awaiting(1, 1000));
            assert_eq!(set.alloc_in_place(set.range(), 0).err(), awaiting(1, 1000));
            assert_eq!(flusher.1.load(Ordering::Relaxed), 1);
            let _ = flusher.0.set(set.clone());
            for _ in 0..5000 {
                drop(any(&set).unwrap());
            }
            assert_eq!(flusher.1.load(Ordering::Relaxed), 6);
            assert_eq!(set.flushes().completed, 5);
            set.close();
            flush(&set);
        }
    }
}

#[test]
fn an_installed_flush_brings_credits_back() {
    let flusher = Arc::new(Flushes(OnceLock::new(), AtomicU32::new(0)));
    let space = Space::new(SpaceKind::Global);
    let config = SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush);
    let set = space
        .add_set(config.quota(2).flusher(flusher.clone()))
        .unwrap();
    let refused = Some(Error::QuotaExceeded { quota: 2 });
    let held = (any(&set).unwrap(), any(&set).unwrap());
    assert_eq!(any(&set).err(), refused);
    assert_eq!(flusher.1.load(Ordering::Relaxed), 0);
    drop(held);
    // Not installed yet.
    assert_eq!(any(&set).err(), refused);
    let _ = flusher.0.set(set.clone());
    assert_eq!(set.alloc_in_place(set.range(), 0).err(), refused);
    for _ in 0..20 {
        drop(any(&set).unwrap());
    }
    assert_eq!(set.flushes().completed, 10);
}

#[test]
fn a_closed_set_is_gone_after_its_last_flush() {
    let space = Space::with_capacity(SpaceKind::Both, 10);
    let config = SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush);
    let set = space.add_set(config.quota(4)).unwrap();
    drop(any(&set).unwrap());
    set.close();
    drop(set);
    assert_eq!(space.capacity_left(), Some(6));
    let ticket = space.begin_flush();
    assert_eq!(space.capacity_left(), Some(6));
    assert_eq!(ticket.complete(), 1);
    assert_eq!(space.capacity_left(), Some(10));
}

#[test]
fn freeing_by_handle_waits_too() {
    each(9, same, |set| {
        let raw = handle(any(set).unwrap().into_raw());
        assert_eq!(free(set, raw), Ok(()));
        assert_eq!(free(set, raw), Err(Error::Stale(raw)));
        assert_eq!(set.statistics().waiting, 1);
        assert_eq!(flush(set), 1);
    });
}

#[test]
fn a_ticket_holds_what_it_flushes_as_its_maker_does() {
    let space = Arc::new(Space::new(SpaceKind::Global));
    let config = SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush);
    let set = Arc::new(space.add_set(config).unwrap());
    drop(any(&set).unwrap());
    let ticket = set.clone().begin_flush();
    let returned = std::thread::spawn(move || ticket.complete());
    assert_eq!(returned.join().unwrap(), 1);
    assert_eq!(space.clone().begin_flush().count(), 0);
    let never = Space::new(SpaceKind::Both);
    assert!(never.begin_flush().is_empty());
    assert_eq!(never.flushes().completed, 0);
}
