// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cells: one PASID for one address space, or for one device's DMA.

mod common;

use common::sets::{
    KINDS, Recorder, Told, any, both, exhausted, global, group, live, local, put, set, table, take,
};
use common::{handle, pasid, range, width};
use pasid::{
    Attach, Error, Flush, Handle, IdSpace, IoasidSet, PasidCell, PasidRange, Pool, Reuse, Scope,
    SetConfig, Space, SpaceKind,
};
use std::sync::Arc;

type Cell<'a> = PasidCell<&'a IoasidSet>;

/// Both kinds of cell.
const CELLS: [fn(&IoasidSet) -> Cell<'_>; 2] = [
    |set| PasidCell::new(set),
    |set| PasidCell::until_last_unbind(set),
];

/// A set of each scope in each kind of space, with and without a quota, and both kinds of
/// cell on it. In the end nothing may be live.
fn each(check: impl Fn(&IoasidSet, Cell<'_>)) {
    for kind in KINDS {
        for reach in 0..3 {
            let space = Space::new(kind);
            let tables = [table(&space, 20), table(&space, 20)];
            let scope = match (kind, reach) {
                (SpaceKind::Global, 1..) | (SpaceKind::Tables, 0) => continue,
                (_, 0) => Scope::Global,
                (_, 1) => Scope::Local(&tables[0]),
                _ => Scope::Group(&tables),
            };
            for config in [SetConfig::new(scope), SetConfig::new(scope).quota(2)] {
                for cell in CELLS {
                    let set = space.add_set(config.clone()).unwrap();
                    check(&set, cell(&set));
                    assert_eq!(live(&set), [], "{kind:?} {reach}");
                    assert_eq!(set.quota().map_or(0, |quota| quota.used), 0);
                    set.close();
                }
            }
        }
    }
}

fn all() -> PasidRange {
    range(0, 0xf_ffff)
}

#[test]
fn all_who_bind_get_one_pasid() {
    each(|set, cell| {
        assert_eq!(cell.find(), None);
        let one = cell.bind(all(), 7).unwrap();
        let two = cell.bind_in_place(all(), 8).unwrap();
        let three = one.try_clone().unwrap();
        assert_eq!(one.handle(), two.handle());
        assert_eq!((one.word(), three.word()), (7, 7));
        assert_eq!(cell.find(), Some(one.handle()));
        assert_eq!(live(set), [1]);
        assert!(!cell.is_retired() && cell.pool().is_same(set));
        assert!(format!("{cell:?}").contains("PasidCell"));
        // Whoever else allocates gets another one.
        assert_eq!(any(set).unwrap().pasid().get(), 2);
        drop((one, two));
        assert_eq!(cell.find(), Some(three.handle()));
    });
}

#[test]
fn the_pasid_stays_until_the_cell_is_retired() {
    let space = both();
    let set = global(&space);
    let cell = PasidCell::new(&set);
    let first = cell.bind(all(), 0).unwrap().handle();
    assert_eq!((cell.find(), set.count_live(all())), (Some(first), 1));
    let again = cell.bind(all(), 0).unwrap();
    assert_eq!(again.handle(), first);
    cell.retire();
    cell.retire();
    assert!(cell.is_retired());
    assert_eq!(cell.find(), None);
    assert_eq!(cell.bind(all(), 0).err(), Some(Error::CellRetired));
    // Bindings keep the number from others; nobody gets a new reference.
    assert_eq!(set.get(first).err(), Some(Error::BeingFreed(first.pasid())));
    assert_eq!(take(&set, 1).err(), exhausted(1));
    drop(again);
    assert_eq!(take(&set, 1).unwrap().handle().pasid(), first.pasid());
}

#[test]
fn the_pasid_goes_with_the_last_binding_where_the_cell_is_made_so() {
    let space = both();
    let (set, device) = (global(&space), table(&space, 20));
    device.preload(range(0, 255)).unwrap();
    let cell = PasidCell::until_last_unbind(&set);
    let one = cell.bind(all(), 1).unwrap();
    let two = cell.bind(all(), 2).unwrap();
    let first = one.handle();
    let attached = device.attach(&two, 9).unwrap().commit().unwrap();
    drop((one, two));
    // What is attached holds a reference, and so does a fault on it.
    assert_eq!(cell.bind(all(), 3).unwrap().handle(), first);
    let fault = device.fault_get(first.pasid()).unwrap();
    attached.detach();
    assert_eq!(cell.find(), Some(first));
    drop(fault);
    assert_eq!((cell.find(), live(&set)), (None, vec![]));
    let next = cell.bind(all(), 4).unwrap();
    assert_eq!(next.word(), 4);
    assert_eq!(next.handle().generation(), first.generation() + 1);
    // Retired with a binding, and again by the drop, it takes no reference of others.
    cell.retire();
    let freed = Some(Error::BeingFreed(next.pasid()));
    assert_eq!(set.get(next.handle()).err(), freed);
    drop(cell);
    assert_eq!(take(&set, 1).err(), exhausted(1));
    drop(next);
    assert!(take(&set, 1).is_ok());
}

#[test]
fn a_stale_cell_leaves_the_next_owner_alone() {
    let space = both();
    let set = global(&space);
    let cell = PasidCell::until_last_unbind(&set);
    let first = cell.bind(all(), 0).unwrap().handle();
    let other = set.alloc_at(first.pasid(), 0).unwrap();
    assert_eq!(cell.find(), None);
    assert_eq!(cell.bind(range(1, 1), 0).err(), exhausted(1));
    cell.retire();
    assert!(other.get().is_ok());
    assert_eq!(cell.bind(all(), 0).err(), Some(Error::CellRetired));
}

#[test]
fn what_does_not_fit_the_limits_is_said_and_changes_nothing() {
    each(|set, cell| {
        let bound = cell.bind(range(256, 0xffff), 0).unwrap();
        for limits in [range(1, 255), range(257, 0xf_ffff)] {
            let pasid = bound.pasid();
            let refused = Error::OutsideLimits { pasid, limits };
            assert_eq!(cell.bind(limits, 0).err(), Some(refused));
            assert_eq!(cell.bind_in_place(limits, 0).err(), Some(refused));
            assert_eq!((refused.errno(), refused.code()), (75, 23));
        }
        assert_eq!(cell.find(), Some(bound.handle()));
        assert_eq!(set.count_live(all()), 1);
        let ends = cell.bind(range(256, 256), 0).unwrap();
        assert_eq!(ends.handle(), bound.handle());
        // The references of those who were refused went back.
        drop((bound, ends));
        cell.retire();
        assert_eq!(set.count_live(all()), 0);
    });
    let space = both();
    let set = global(&space);
    let cell = PasidCell::until_last_unbind(&set);
    drop(cell.bind(range(256, 0xffff), 0).unwrap());
    // With the last binding gone, the old number limits nobody.
    let narrow = cell.bind(range(1, 255), 0).unwrap();
    assert_eq!(narrow.pasid().get(), 1);
}

#[test]
fn a_bind_that_cannot_allocate_says_why_and_may_be_repeated() {
    each(|set, cell| {
        let without = cell.bind_in_place(range(20_000, 20_000), 0).err();
        assert_eq!(without, Some(Error::OutOfMemory));
        let other = take(set, 5).unwrap();
        assert_eq!(cell.bind(range(5, 5), 0).err(), exhausted(5));
        let reserved = cell.bind(range(0, 0), 0).err();
        assert!(reserved.is_some(), "{reserved:?}");
        assert_eq!((cell.find(), set.count_live(all())), (None, 1));
        if set.quota().is_some() {
            let more = take(set, 6).unwrap();
            let quota = Some(Error::QuotaExceeded { quota: 2 });
            assert_eq!(cell.bind(all(), 0).err(), quota);
            drop(more);
        }
        assert_eq!(cell.bind(all(), 0).unwrap().pasid().get(), 1);
        drop(other);
    });
    let space = both();
    let narrow = table(&space, 8);
    let set = local(&space, &narrow);
    let cell = PasidCell::new(&set);
    let (pasid, width) = (pasid(256), width(8));
    let beyond = Some(Error::DoesNotFit { pasid, width });
    assert_eq!(cell.bind(range(256, 300), 0).err(), beyond);
    // A set's own limits are within the caller's.
    assert_eq!(cell.bind(all(), 0).unwrap().pasid().get(), 1);
}

#[test]
fn a_revoked_pasid_is_refused_and_goes_its_way() {
    each(|set, cell| {
        let bound = cell.bind(all(), 0).unwrap();
        let first = bound.handle();
        set.revoke(first).unwrap();
        let freed = Some(Error::BeingFreed(first.pasid()));
        assert_eq!((cell.bind(all(), 0).err(), cell.find()), (freed, None));
        drop(bound);
        match cell.bind(all(), 0) {
            // Only now is there another one, so the address space never has two.
            Ok(next) => assert_eq!(next.handle().generation(), first.generation() + 1),
            Err(error) => assert_eq!(Some(error), freed),
        }
        cell.retire();
        assert_eq!(cell.bind(all(), 0).err(), Some(Error::CellRetired));
    });
}

#[test]
fn a_closed_set_binds_nobody_and_its_cells_go_all_the_same() {
    for cell in CELLS {
        let space = both();
        let set = global(&space);
        let (empty, bound) = (cell(&set), cell(&set));
        let binding = bound.bind(all(), 0).unwrap();
        set.close();
        assert_eq!(empty.bind(all(), 0).err(), Some(Error::Closing));
        let freed = Some(Error::BeingFreed(binding.pasid()));
        assert_eq!((bound.bind(all(), 0).err(), bound.find()), (freed, None));
        drop(binding);
        let error = bound.bind(all(), 0).err();
        assert!(error == freed || error == Some(Error::Closing), "{error:?}");
        drop((empty, bound));
        let statistics = set.statistics();
        assert_eq!((statistics.live, statistics.freeing), (0, 0));
    }
}

#[test]
fn a_cell_has_the_pasid_of_a_drivers_dma() {
    let space = both();
    let (one, two) = (table(&space, 16), table(&space, 16));
    let (of_one, of_two) = (local(&space, &one), local(&space, &two));
    let users = global(&space);
    let process = PasidCell::new(&users);
    let bound = process.bind(all(), 0).unwrap();
    // The first part of a driver reserves, the others share; another device may have the
    // same number, and no user has it.
    let cells = [PasidCell::new(&of_one), PasidCell::new(&of_two)];
    let kernel = cells
        .each_ref()
        .map(|cell| cell.bind(one.width().range(), 0).unwrap());
    let copy = cells[0].bind(one.width().range(), 0).unwrap();
    assert_eq!(copy.handle(), kernel[0].handle());
    assert_eq!(kernel[0].pasid(), kernel[1].pasid());
    assert_ne!(kernel[0].pasid(), bound.pasid());
    // A group's, for functions that share a driver.
    let tables = [one, two];
    let both_of = group(&space, &tables);
    let shared = PasidCell::new(&both_of);
    assert!(![kernel[0].pasid(), bound.pasid()].contains(&shared.bind(all(), 0).unwrap().pasid()));
}

#[test]
fn observers_are_told_of_the_pasid_and_not_of_bindings() {
    let space = both();
    let recorder = Recorder::new();
    let config = || SetConfig::new(Scope::Global).observer(recorder.clone());
    let set = space.add_set(config()).unwrap();
    let told = |of: Handle, events: &[fn(Handle) -> Told]| {
        let events: Vec<Told> = events.iter().map(|event| event(of)).collect();
        assert_eq!(recorder.take(), events);
    };
    let allocated: fn(Handle) -> Told = |of| Told::Allocated(of, 3);

    let cell = PasidCell::new(&set);
    let of = cell.bind(all(), 3).unwrap().handle();
    told(of, &[allocated]);
    let late = cell.bind(all(), 4).unwrap();
    told(of, &[]);
    cell.retire();
    told(of, &[Told::Revoked]);
    drop((late, cell));
    told(of, &[Told::Reclaimed]);

    let cell = PasidCell::until_last_unbind(&set);
    let last = cell.bind(all(), 3).unwrap();
    let of = last.handle();
    drop(last);
    told(of, &[allocated, Told::Reclaimed]);
    drop(cell);
    told(of, &[]);
}

#[test]
fn a_freed_number_waits_for_a_flush_and_the_next_binding_gets_another() {
    let space = both();
    let config = SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush);
    let set = space.add_set(config.range(range(1, 2)).quota(2)).unwrap();
    let cell = PasidCell::until_last_unbind(&set);
    assert_eq!(cell.bind(all(), 0).unwrap().pasid().get(), 1);
    assert_eq!(cell.bind(all(), 0).unwrap().pasid().get(), 2);
    let full = cell.bind_in_place(all(), 0).err();
    assert_eq!(full, Some(Error::QuotaExceeded { quota: 2 }));
    space.flush(|_| Ok::<(), Error>(())).unwrap();
    let bound = cell.bind(all(), 0).unwrap();
    assert_eq!(bound.pasid().get(), 1);
    cell.retire();
    drop(bound);
    assert_eq!(set.statistics().waiting, 1);
}

#[cfg(feature = "epoch")]
#[test]
fn a_payload_is_kept_with_the_pasid_or_dropped_once() {
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Counts how many of it were dropped.
    struct Counted(&'static AtomicU32);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    static DROPPED: AtomicU32 = AtomicU32::new(0);
    let dropped = |count: u32| {
        for _ in 0..1_000_000 {
            if DROPPED.load(Ordering::Relaxed) == count {
                return;
            }
            pasid::Guard::new().flush();
            std::thread::yield_now();
        }
        panic!("{} dropped, not {count}", DROPPED.load(Ordering::Relaxed));
    };
    let payload = || Box::new(Counted(&DROPPED));
    let space = both();
    let set = space
        .add_set_of::<Box<Counted>>(SetConfig::new(Scope::Global).quota(1))
        .unwrap();
    let cell = PasidCell::new(&set);
    // Refused: dropped at once.
    assert!(cell.bind_in_place(all(), payload()).is_err());
    dropped(1);
    let bound = cell.bind(all(), payload()).unwrap();
    // Not needed, and then refused.
    drop(cell.bind(all(), payload()).unwrap());
    assert!(cell.bind(range(9, 9), payload()).is_err());
    dropped(3);
    let guard = pasid::Guard::new();
    assert!(core::ptr::eq(bound.payload(&guard).0, &DROPPED));
    drop(guard);
    let other = PasidCell::until_last_unbind(&set);
    assert!(other.bind(all(), payload()).is_err());
    dropped(4);
    drop((cell, bound));
    dropped(5);
    drop(other.bind(all(), payload()).unwrap());
    dropped(6);
}

#[test]
fn plain_payloads_are_those_of_who_bound_first() {
    static NAMES: [&str; 2] = ["compositor", "browser"];
    let space = both();
    let config = SetConfig::new(Scope::Global);
    let set = space.add_set_of::<&'static &str>(config).unwrap();
    let cell = PasidCell::new(&set);
    let bound = cell.bind(all(), &NAMES[0]).unwrap();
    assert_eq!(*cell.bind(all(), &NAMES[1]).unwrap().word(), "compositor");
    assert_eq!(*set.find(bound.pasid()).unwrap().word, "compositor");
    let nothing = space
        .add_set_of::<()>(SetConfig::new(Scope::Global))
        .unwrap();
    assert!(PasidCell::new(&nothing).bind(all(), ()).is_ok());
}

#[test]
fn as_many_bind_as_references_can_be_counted() {
    for cell in CELLS {
        let space = both();
        let set = global(&space);
        let cell = cell(&set);
        let first = cell.bind(all(), 0).unwrap();
        let mut bound = vec![];
        let full = loop {
            match cell.bind(all(), 0) {
                Ok(binding) => bound.push(binding),
                Err(error) => break error,
            }
        };
        assert_eq!(full, Error::TooManyReferences(first.handle()));
        assert!(bound.len() >= (1 << 17) - 2);
        drop(bound.pop());
        assert!(cell.bind(all(), 0).is_ok());
        drop((bound, first, cell));
        assert_eq!(set.count_live(all()), 0);
    }
}

#[test]
fn a_cell_can_be_a_static_and_can_own_its_pool() {
    fn shared<T: Send + Sync>(_: &T) {}

    static IDS: IdSpace = IdSpace::new(pasid::PasidWidth::MAX);
    static CELL: PasidCell<&IdSpace> = PasidCell::new(&IDS);
    let bound = CELL.bind(IDS.range(), 5).unwrap();
    assert_eq!(
        (IDS.find(bound.pasid()).unwrap().word, bound.pasid().get()),
        (5, 1)
    );
    shared(&CELL);

    let space = both();
    let owned = Arc::new(set(&space, Scope::Global));
    let cell = Arc::new(PasidCell::new(owned.clone()));
    let of_other_thread = cell.clone();
    let bound = std::thread::spawn(move || of_other_thread.bind(all(), 6).unwrap());
    let bound = bound.join().unwrap();
    assert_eq!(cell.find(), Some(bound.handle()));
    drop(cell);
    assert!(owned.clone().get_at(bound.pasid()).is_err());
    // Unbinding in raw form, as a caller in C does.
    put(&owned, handle(bound.into_raw())).unwrap();
    assert_eq!(owned.statistics().freeing, 0);
}
