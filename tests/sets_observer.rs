// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an observer is told: every transition once, in order, with its generation.

mod common;

use common::sets::{KINDS, Recorder, Told, any, both, free, group, local, put, table, take};
use common::{handle, pasid, range};
use pasid::{
    Attach, Error, Handle, IoasidSet, Observer, Pool, Scope, SetConfig, Space, SpaceKind, Table,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use Told::{Allocated, Reclaimed, Revoked};

/// A set with a recorder in each kind of space and with each scope, with a table that
/// takes its attachments.
fn every_scope(check: impl Fn(&Space, &Table, &IoasidSet, &Recorder)) {
    for kind in KINDS {
        for reach in 0..3 {
            let space = Space::new(kind);
            let one = table(&space, 20);
            one.preload(range(0, 255)).unwrap();
            let scope = match (kind, reach) {
                (SpaceKind::Global, 0) => Scope::Global,
                (SpaceKind::Global, _) | (SpaceKind::Tables, 0) => continue,
                (_, 0) => Scope::Global,
                (_, 1) => Scope::Local(&one),
                _ => Scope::Group(std::slice::from_ref(&one)),
            };
            for quota in [None, Some(7)] {
                let recorder = Recorder::new();
                let mut config = SetConfig::new(scope).observer(recorder.clone());
                if let Some(quota) = quota {
                    config = config.quota(quota);
                }
                let set = space.add_set(config).unwrap();
                check(&space, &one, &set, &recorder);
                assert_eq!(recorder.take(), [], "{kind:?} {reach}");
            }
        }
    }
}

#[test]
fn an_owner_s_drop_revokes_and_reclaims() {
    every_scope(|_, _, set, recorder| {
        let owned = set.alloc(range(5, 5), 0xAB).unwrap();
        let of = owned.handle();
        assert_eq!(recorder.take(), [Allocated(of, 0xAB)]);
        drop(owned);
        assert_eq!(recorder.take(), [Revoked(of), Reclaimed(of)]);
        let owned = set.alloc_at(pasid(5), 0xCD).unwrap();
        let next = owned.handle();
        assert_eq!(next.generation(), of.generation() + 1);
        drop(owned);
        let events = [Allocated(next, 0xCD), Revoked(next), Reclaimed(next)];
        assert_eq!(recorder.take(), events);
    });
}

#[test]
fn a_reference_that_stays_reclaims_later() {
    every_scope(|_, _, set, recorder| {
        let owned = take(set, 5).unwrap();
        let of = owned.handle();
        let references = [set.get(of).unwrap(), set.get_at(pasid(5)).unwrap()];
        assert_eq!(recorder.take(), [Allocated(of, 0)]);
        drop(owned);
        assert_eq!(recorder.take(), [Revoked(of)]);
        let [one, two] = references;
        drop(one);
        assert_eq!(recorder.take(), []);
        drop(two);
        assert_eq!(recorder.take(), [Reclaimed(of)]);
    });
}

#[test]
fn plain_counting_ends_without_a_revocation() {
    every_scope(|_, _, set, recorder| {
        let one = take(set, 5).unwrap().into_ref();
        let of = one.handle();
        let two = one.try_clone().unwrap();
        assert_eq!(recorder.take(), [Allocated(of, 0)]);
        drop(one);
        assert_eq!(recorder.take(), []);
        drop(two);
        assert_eq!(recorder.take(), [Reclaimed(of)]);
    });
}

#[test]
fn a_revocation_by_somebody_else_is_told_once() {
    every_scope(|_, _, set, recorder| {
        let owned = take(set, 5).unwrap();
        let of = owned.handle();
        recorder.take();
        set.revoke(of).unwrap();
        assert_eq!(recorder.take(), [Revoked(of)]);
        set.revoke(of).unwrap();
        set.free_all();
        assert_eq!(recorder.take(), []);
        drop(owned);
        assert_eq!(recorder.take(), [Reclaimed(of)]);
        assert_eq!(set.revoke(of), Err(Error::Stale(of)));
    });
}

#[test]
fn raw_calls_tell_the_same() {
    every_scope(|_, _, set, recorder| {
        let of = handle(take(set, 5).unwrap().into_raw());
        let raw = handle(set.get(of).unwrap().into_raw());
        recorder.take();
        free(set, of).unwrap();
        assert_eq!(recorder.take(), [Revoked(of)]);
        put(set, raw).unwrap();
        assert_eq!(recorder.take(), [Reclaimed(of)]);
        for failing in [free(set, of), put(set, of), set.revoke(of)] {
            assert_eq!(failing, Err(Error::Stale(of)));
        }
    });
}

#[test]
fn free_all_and_close_revoke_each_live_pasid_once_in_order() {
    every_scope(|_, _, set, recorder| {
        let owned = [
            take(set, 5).unwrap(),
            take(set, 300).unwrap(),
            take(set, 6).unwrap(),
        ];
        let [five, far, six] = [0, 1, 2].map(|index| owned[index].handle());
        recorder.take();
        set.revoke(six).unwrap();
        assert_eq!(recorder.take(), [Revoked(six)]);
        set.free_all();
        assert_eq!(recorder.take(), [Revoked(five), Revoked(far)]);
        drop(owned);
        assert_eq!(
            recorder.take(),
            [Reclaimed(five), Reclaimed(far), Reclaimed(six)]
        );
        let owned = [take(set, 5).unwrap(), take(set, 6).unwrap()];
        let [five, six] = [0, 1].map(|index| owned[index].handle());
        recorder.take();
        set.close();
        assert_eq!(recorder.take(), [Revoked(five), Revoked(six)]);
        set.close();
        assert_eq!(any(set).err(), Some(Error::Closing));
        assert_eq!(recorder.take(), []);
        drop(owned);
        assert_eq!(recorder.take(), [Reclaimed(five), Reclaimed(six)]);
    });
}

#[test]
fn an_attachment_that_is_last_reclaims() {
    every_scope(|_, table, set, recorder| {
        let owned = take(set, 5).unwrap();
        let of = owned.handle();
        let attached = table.attach(&owned, 0).unwrap().commit().unwrap();
        let fault = table.fault_get(pasid(5)).unwrap();
        recorder.take();
        drop(owned);
        assert_eq!(recorder.take(), [Revoked(of)]);
        attached.detach();
        assert_eq!(recorder.take(), []);
        drop(fault);
        assert_eq!(recorder.take(), [Reclaimed(of)]);
    });
}

#[test]
fn a_closed_table_tells_the_observers_of_its_sets() {
    let space = both();
    let one = table(&space, 20);
    let recorder = Recorder::new();
    let config = SetConfig::new(Scope::Local(&one)).observer(recorder.clone());
    let set = space.add_set(config).unwrap();
    let owned = take(&set, 5).unwrap();
    let of = owned.handle();
    recorder.take();
    one.close();
    one.close();
    assert_eq!(recorder.take(), [Revoked(of)]);
    drop(owned);
    assert_eq!(recorder.take(), [Reclaimed(of)]);
}

#[test]
fn what_fails_tells_nothing() {
    every_scope(|_, _, set, recorder| {
        let owned = take(set, 5).unwrap();
        recorder.take();
        assert!(take(set, 5).is_err() && set.alloc_at(pasid(5), 0).is_err());
        assert!(set.alloc_at(pasid(0), 0).is_err());
        assert!(set.find(pasid(9)).is_err() && set.get_at(pasid(9)).is_err());
        assert_eq!(recorder.take(), []);
        drop(owned);
        recorder.take();
    });
}

/// What was told, what a look-up found, and why the number could not be allocated.
type Sight = (&'static str, Result<Handle, Error>, Option<Error>);

/// Looks at the set when it is told something.
struct Witness {
    set: OnceLock<IoasidSet>,
    seen: Mutex<Vec<Sight>>,
}

impl Witness {
    fn look(&self, what: &'static str, of: Handle) {
        let set = self.set.get().expect("set before the first allocation");
        let found = set.find(of.pasid()).map(|found| found.handle);
        let again = set.alloc_at(of.pasid(), 0).err();
        self.seen.lock().unwrap().push((what, found, again));
    }
}

impl Observer for Witness {
    fn allocated(&self, handle: Handle, _: u64) {
        self.look("allocated", handle);
    }

    fn revoked(&self, handle: Handle) {
        self.look("revoked", handle);
    }

    fn reclaimed(&self, handle: Handle) {
        self.look("reclaimed", handle);
    }
}

#[test]
fn told_after_publication_and_before_reuse() {
    for reach in 0..3 {
        let space = both();
        let one = table(&space, 20);
        let witness = Arc::new(Witness {
            set: OnceLock::new(),
            seen: Mutex::new(Vec::new()),
        });
        let scope = match reach {
            0 => Scope::Global,
            1 => Scope::Local(&one),
            _ => Scope::Group(std::slice::from_ref(&one)),
        };
        let set = space
            .add_set(SetConfig::new(scope).observer(witness.clone()))
            .unwrap();
        assert!(witness.set.set(set.clone()).is_ok());
        let owned = take(&set, 5).unwrap();
        let of = owned.handle();
        let reference = owned.get().unwrap();
        drop(owned);
        drop(reference);
        let seen = std::mem::take(&mut *witness.seen.lock().unwrap());
        let in_use = Some(Error::InUse(pasid(5)));
        let freeing = Err(Error::BeingFreed(pasid(5)));
        let expected = [
            ("allocated", Ok(of), in_use),
            ("revoked", freeing, in_use),
            ("reclaimed", Err(Error::NotFound(pasid(5))), in_use),
        ];
        assert_eq!(seen, expected);
    }
}

/// Uses the space when it is told of a revocation.
struct Busy {
    space: &'static Space,
    table: Table,
    told: AtomicU32,
}

impl Observer for Busy {
    fn revoked(&self, _: Handle) {
        // Control calls of every kind: nothing is locked meanwhile.
        assert!(self.space.sets().is_ok() && self.space.tables().is_ok());
        let _ = (
            self.space.find_set(1),
            self.space.capacity_left(),
            self.space.memory_bytes(),
        );
        let other = self
            .space
            .add_table(pasid::TableConfig::new(common::width(8)));
        other.unwrap().close();
        self.table.close();
        let _ = self.table.reserve(pasid(200));
        self.told.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn nothing_is_locked_while_an_observer_is_told() {
    static SPACE: Space = Space::new(SpaceKind::Both);
    for by_table in [false, true] {
        let one = table(&SPACE, 20);
        let busy = Arc::new(Busy {
            space: &SPACE,
            table: one.clone(),
            told: AtomicU32::new(0),
        });
        let config = SetConfig::new(Scope::Local(&one)).observer(busy.clone());
        let set = SPACE.add_set(config).unwrap();
        let owned = [take(&set, 5).unwrap(), take(&set, 6).unwrap()];
        if by_table {
            one.close();
        } else {
            set.close();
        }
        drop(owned);
        assert_eq!(busy.told.load(Ordering::Relaxed), 2);
    }
}

/// Closes its set when it is told of an allocation.
struct Closer(OnceLock<IoasidSet>, Recorder);

impl Observer for Closer {
    fn allocated(&self, handle: Handle, word: u64) {
        self.1.allocated(handle, word);
        self.0.get().expect("the set").close();
    }

    fn revoked(&self, handle: Handle) {
        self.1.revoked(handle);
    }

    fn reclaimed(&self, handle: Handle) {
        self.1.reclaimed(handle);
    }
}

#[test]
fn an_allocation_during_which_the_set_closes_gives_everything_back() {
    for by_number in [false, true] {
        let space = Space::with_capacity(SpaceKind::Both, 10);
        let closer = Arc::new(Closer(OnceLock::new(), Recorder::default()));
        let config = SetConfig::new(Scope::Global)
            .quota(4)
            .observer(closer.clone());
        let set = space.add_set(config).unwrap();
        assert!(closer.0.set(set.clone()).is_ok());
        set.preload(range(5, 5)).unwrap();
        let attempt = match by_number {
            true => set.alloc_at(pasid(5), 1),
            false => set.alloc(range(5, 5), 1),
        };
        assert_eq!(attempt.err(), Some(Error::Closing));
        let told = closer.1.take();
        let [Allocated(of, 1), Revoked(revoked), Reclaimed(reclaimed)] = told[..] else {
            panic!("{told:?}");
        };
        assert_eq!((of, of), (revoked, reclaimed));
        let statistics = set.statistics();
        assert_eq!((statistics.live, statistics.freeing), (0, 0));
        assert_eq!(statistics.quota.unwrap().used, 0);
        let users = space
            .add_set(SetConfig::new(Scope::Global).quota(1))
            .unwrap();
        assert!(take(&users, 5).is_ok());
    }
}

#[test]
fn an_observer_goes_with_its_set() {
    let space = both();
    let one = table(&space, 20);
    let recorder = Recorder::new();
    for set in [
        space.add_set(SetConfig::new(Scope::Global).observer(recorder.clone())),
        space.add_set(SetConfig::new(Scope::Local(&one)).observer(recorder.clone())),
    ] {
        let set = set.unwrap();
        assert!(Arc::strong_count(&recorder) > 1);
        set.close();
    }
    let _ = space.sets();
    assert_eq!(Arc::strong_count(&recorder), 1);
    // It is not kept by what was refused either.
    let refused = space.add_set(SetConfig::new(Scope::Group(&[])).observer(recorder.clone()));
    assert_eq!(refused.err(), Some(Error::InvalidScope));
    assert_eq!(Arc::strong_count(&recorder), 1);
    let _ = (
        local(&space, &one),
        group(&space, std::slice::from_ref(&one)),
    );
}
