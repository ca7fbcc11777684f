// SPDX-License-Identifier: MIT OR Apache-2.0
//! Payloads as a user sees them: each kind comes back, and what is dropped is dropped once,
//! by whichever way its PASID goes.
#![cfg(feature = "epoch")]

mod common;

use common::allocator::{Instrumented, with_memory_for};
use common::{pasid, range};
use pasid::{
    Attach, Error, Flush, Guard, Guarded, IoasidSet, Owned, Payload, Pool, Ref, Reuse, Scope,
    SetConfig, Space, SpaceKind,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[global_allocator]
static MEMORY: Instrumented = Instrumented;

/// How many were created, and how many dropped.
#[derive(Default)]
struct Ledger {
    created: AtomicUsize,
    dropped: AtomicUsize,
}

impl Ledger {
    fn load(self: &Arc<Ledger>, value: u64) -> Load {
        // Relaxed: threads are joined before anybody reads it, here and below.
        self.created.fetch_add(1, Ordering::Relaxed);
        Load {
            value,
            ledger: self.clone(),
        }
    }

    fn alive(&self) -> usize {
        let created = self.created.load(Ordering::Relaxed);
        created - self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until `kept` are alive. What is retired goes when every thread that was
    /// pinned has let go, which those of the other tests do soon.
    fn settle(&self, kept: usize) {
        for _ in 0..1_000_000 {
            assert!(self.alive() >= kept, "a payload was dropped too early");
            if self.alive() == kept {
                return;
            }
            Guard::new().flush();
            thread::yield_now();
        }
        panic!("a payload was not dropped");
    }
}

/// A payload that is counted.
struct Load {
    value: u64,
    ledger: Arc<Ledger>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ledger.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same tests for an `Arc` and for a `Box`.
trait Wrapped: Guarded<Target = Load> {
    fn wrap(load: Load) -> Self;
}

impl Wrapped for Arc<Load> {
    fn wrap(load: Load) -> Arc<Load> {
        Arc::new(load)
    }
}

impl Wrapped for Box<Load> {
    fn wrap(load: Load) -> Box<Load> {
        Box::new(load)
    }
}

/// A table, and a set of each scope that reaches it.
struct World<P: Payload> {
    table: pasid::Table,
    sets: Vec<IoasidSet<P>>,
}

fn world<P: Payload>() -> World<P> {
    let space = common::sets::both();
    let table = common::sets::table(&space, 10);
    let other = common::sets::table(&space, 10);
    let pair = [table.clone(), other];
    let scopes = [Scope::Global, Scope::Local(&table), Scope::Group(&pair)];
    let add = |scope| space.add_set_of(SetConfig::new(scope)).expect("memory");
    let sets = scopes.map(add).into();
    World { table, sets }
}

fn each_way_to_end_drops_once<P: Wrapped>() {
    let ledger = Arc::new(Ledger::default());
    let World { table, sets, .. } = world::<P>();
    let one = pasid(1);
    table.preload(one.into()).expect("memory");
    let load = || P::wrap(ledger.load(1));
    for set in &sets {
        let alloc = || set.alloc(one.into(), load()).expect("it is free");
        // By its owner; by the last reference; disowned.
        drop(alloc());
        let owned = alloc();
        let reference = owned.get().expect("it is live");
        drop(owned);
        ledger.settle(1);
        assert_eq!(reference.payload(&Guard::new()).value, 1);
        drop(reference);
        ledger.settle(0);
        let reference = alloc().into_ref();
        drop(reference.try_clone().expect("few references"));
        ledger.settle(1);
        drop(reference);
        ledger.settle(0);
        // In raw form, by handle and as what it was.
        let handle = common::handle(alloc().into_raw());
        // SAFETY: owned in raw form.
        unsafe { set.free(handle) }.expect("it is live");
        ledger.settle(0);
        let handle = common::handle(alloc().into_ref().into_raw());
        // SAFETY: a reference in raw form.
        unsafe { set.put(handle) }.expect("it is live");
        ledger.settle(0);
        let raw = alloc().into_raw();
        // SAFETY: from `into_raw` of the same type and pool.
        drop(unsafe { Owned::from_raw(set, raw) }.expect("of this set"));
        let raw = alloc().into_ref().into_raw();
        // SAFETY: as above.
        drop(unsafe { Ref::from_raw(set, raw) }.expect("of this set"));
        ledger.settle(0);
        // By an attachment, and by a fault.
        let owned = alloc();
        let attachment = table.attach(&owned, 9).and_then(|entry| entry.commit());
        let attachment = attachment.expect("nothing is attached");
        drop(owned);
        ledger.settle(1);
        attachment.detach();
        ledger.settle(0);
        let owned = alloc();
        let attachment = table.attach(&owned, 9).and_then(|entry| entry.commit());
        let attachment = attachment.expect("nothing is attached");
        let fault = table.fault_get(one).expect("it is attached");
        drop((owned, attachment));
        ledger.settle(1);
        drop(fault);
        ledger.settle(0);
        // Revoked by others.
        let owned = alloc();
        set.revoke(owned.handle()).expect("it is live");
        ledger.settle(1);
        drop(owned);
        ledger.settle(0);
        let owned = alloc();
        set.free_all();
        ledger.settle(1);
        drop(owned);
        ledger.settle(0);
        let owned = alloc();
        set.close();
        ledger.settle(1);
        assert_eq!(owned.payload(&Guard::new()).value, 1);
        drop(owned);
        ledger.settle(0);
        assert_eq!(set.alloc(one.into(), load()).err(), Some(Error::Closing));
        assert_eq!(ledger.alive(), 0);
    }
}

#[test]
fn a_payload_is_dropped_once_by_each_way_to_end() {
    each_way_to_end_drops_once::<Arc<Load>>();
    each_way_to_end_drops_once::<Box<Load>>();
}

fn refusals_drop_at_once<P: Wrapped>() {
    let ledger = Arc::new(Ledger::default());
    let World { sets, .. } = world::<P>();
    let load = || P::wrap(ledger.load(1));
    let [one, zero] = [pasid(1), pasid(0)];
    for set in &sets {
        set.preload(range(1, 3)).expect("memory");
        let kept = set.alloc(one.into(), load()).expect("it is free");
        let range = one.into();
        let exhausted = Some(Error::Exhausted { range });
        assert_eq!(set.alloc(range, load()).err(), exhausted);
        assert_eq!(set.alloc_in_place(range, load()).err(), exhausted);
        assert_eq!(set.alloc_near(3, range, load()).err(), exhausted);
        assert_eq!(set.alloc_in_place_near(3, range, load()).err(), exhausted);
        assert_eq!(set.alloc_at(one, load()).err(), Some(Error::InUse(one)));
        assert_eq!(
            set.alloc_at(zero, load()).err(),
            Some(Error::Reserved(zero))
        );
        let beyond = pasid(1 << 19);
        if let Err(error) = set.alloc(beyond.into(), load()) {
            assert!(matches!(error, Error::DoesNotFit { .. }));
        }
        drop(kept);
        ledger.settle(0);
        // Where no memory is, and where none can be had.
        let far = pasid(900);
        assert_eq!(set.alloc_at(far, load()).err(), Some(Error::OutOfMemory));
        assert_eq!(
            set.alloc_in_place(far.into(), load()).err(),
            Some(Error::OutOfMemory)
        );
        let payload = load();
        let refused = with_memory_for(0, || set.alloc(far.into(), payload).err());
        assert_eq!(refused, Some(Error::OutOfMemory));
        assert_eq!(ledger.alive(), 0, "a refused payload was kept");
    }
}

#[test]
fn a_payload_that_is_refused_is_dropped_at_once() {
    refusals_drop_at_once::<Arc<Load>>();
    refusals_drop_at_once::<Box<Load>>();
}

#[test]
fn a_quota_and_a_policy_refuse_and_give_payloads_alike() {
    let ledger = Arc::new(Ledger::default());
    let space = Space::new(SpaceKind::Global);
    for policy in [
        pasid::Policy::Lowest,
        pasid::Policy::Next,
        pasid::Policy::PreserveNarrow,
        pasid::Policy::Spread,
    ] {
        let config = SetConfig::new(Scope::Global).policy(policy).quota(2);
        let set = space.add_set_of::<Box<Load>>(config).expect("memory");
        let alloc = |value| set.alloc(set.range(), Box::new(ledger.load(value)));
        let two = [alloc(1).expect("free"), alloc(2).expect("free")];
        assert_eq!(alloc(3).err(), Some(Error::QuotaExceeded { quota: 2 }));
        assert_eq!(ledger.alive(), 2);
        drop(two);
        assert_eq!(set.quota().map(|quota| quota.used), Some(0));
        ledger.settle(0);
    }
}

fn quarantine_and_pins_keep_no_payload<P: Wrapped>() {
    let ledger = Arc::new(Ledger::default());
    let space = common::sets::both();
    let table = common::sets::table(&space, 10);
    let pair = [table.clone()];
    for scope in [Scope::Global, Scope::Local(&table), Scope::Group(&pair)] {
        let config = SetConfig::new(scope).reuse(Reuse::AfterFlush).quota(2);
        let set = space.add_set_of::<P>(config).expect("memory");
        let load = || P::wrap(ledger.load(1));
        let owned = set.alloc(set.range(), load()).expect("free");
        let number = owned.pasid();
        drop(owned);
        // It waits for its flush, and carries nothing any more.
        ledger.settle(0);
        let awaiting = set.alloc(number.into(), load()).err();
        let range = number.into();
        assert_eq!(awaiting, Some(Error::AwaitingFlush { range }));
        assert_eq!(ledger.alive(), 0);
        set.flush(|_| Ok::<(), ()>(())).expect("it succeeds");
        let owned = set.alloc(range, load()).expect("it was flushed");
        let pinned = owned.pin().expect("it is not pinned");
        drop(owned);
        drop(pinned);
        ledger.settle(0);
        // Retired, and not twice, when the flush is done.
        set.flush(|_| Ok::<(), ()>(())).expect("it succeeds");
        let owned = set.alloc(range, load()).expect("it was flushed");
        let pinned = owned.pin().expect("it is not pinned");
        drop(pinned);
        drop(owned);
        ledger.settle(0);
    }
}

#[test]
fn a_pasid_that_waits_for_a_flush_has_dropped_its_payload() {
    quarantine_and_pins_keep_no_payload::<Arc<Load>>();
    quarantine_and_pins_keep_no_payload::<Box<Load>>();
}

#[test]
fn what_is_found_under_a_guard_outlives_its_pasid() {
    let ledger = Arc::new(Ledger::default());
    let World { sets, .. } = world::<Box<Load>>();
    let set = &sets[1];
    let owned = set
        .alloc(set.range(), Box::new(ledger.load(5)))
        .expect("free");
    let (number, handle) = (owned.pasid(), owned.handle());
    let guard = Guard::new();
    let found = set.find_guarded(number, &guard).expect("it is live");
    assert_eq!((found.handle, found.payload.value), (handle, 5));
    let listed: Vec<u64> = set
        .iter_guarded(set.range(), &guard)
        .map(|found| found.payload.value)
        .collect();
    assert_eq!(listed, [5]);
    drop(owned);
    let next = set
        .alloc(number.into(), Box::new(ledger.load(6)))
        .expect("free");
    // All that can be dropped is: this thread itself keeps the first.
    thread::scope(|scope| {
        scope.spawn(|| (0..1_000).for_each(|_| Guard::new().flush()));
    });
    assert_eq!((found.payload.value, ledger.alive()), (5, 2));
    assert_eq!(
        set.find_guarded(number, &guard)
            .map(|found| found.payload.value)
            .ok(),
        Some(6)
    );
    drop(guard);
    drop(next);
    assert_eq!(
        set.find_guarded(number, &Guard::new()).err(),
        Some(Error::NotFound(number))
    );
    ledger.settle(0);
}

#[test]
fn what_was_replaced_comes_back_and_is_dropped_once() {
    let ledger = Arc::new(Ledger::default());
    let boxes = world::<Box<Load>>();
    let set = &boxes.sets[0];
    let owned = set
        .alloc(set.range(), Box::new(ledger.load(1)))
        .expect("free");
    let guard = Guard::new();
    let old = owned.replace_guarded(Box::new(ledger.load(2)), &guard);
    assert_eq!((old.value, owned.payload(&guard).value), (1, 2));
    drop(guard);
    ledger.settle(1);
    drop(owned);
    ledger.settle(0);

    let arcs = world::<Arc<Load>>();
    let set = &arcs.sets[0];
    let mine = Arc::new(ledger.load(3));
    let owned = set.alloc(set.range(), mine.clone()).expect("free");
    let reference = owned.get().expect("it is live");
    let old = reference.replace_guarded(Arc::new(ledger.load(4)), &Guard::new());
    assert!(Arc::ptr_eq(&old, &mine));
    drop((mine, owned, reference));
    // The one that came back has a count of its own.
    ledger.settle(1);
    assert_eq!(old.value, 3);
    drop(old);
    ledger.settle(0);
}

#[test]
fn sets_are_found_as_what_they_are() {
    let space = Space::new(SpaceKind::Global);
    let config = |token| SetConfig::new(Scope::Global).token(token);
    let words = space.add_set(config(1)).expect("memory");
    let arcs = space.add_set_of::<Arc<u32>>(config(2)).expect("memory");
    let boxes = space.add_set_of::<Box<u32>>(config(3)).expect("memory");
    let taken = space.add_set_of::<()>(config(2)).err();
    assert_eq!(taken, Some(Error::TokenInUse { token: 2 }));
    assert!(space.find_set(1).is_some_and(|set| set.is_same(&words)));
    assert!(space.find_set_of(2).is_some_and(|set| arcs.is_same(&set)));
    assert!(space.find_set_of(3).is_some_and(|set| boxes.is_same(&set)));
    assert!(space.find_set(2).is_none() && space.find_set_of::<Box<u32>>(2).is_none());
    assert!(space.find_set_of::<Arc<i32>>(2).is_none());
    let count = (
        space.sets().map(|sets| sets.len()),
        space.sets_of::<Arc<u32>>().map(|sets| sets.len()),
        space.sets_of::<Arc<i32>>().map(|sets| sets.len()),
    );
    assert_eq!(count, (Ok(1), Ok(1), Ok(0)));
    // They share PASIDs all the same.
    let one = words.alloc(words.range(), 7).expect("free");
    let two = arcs.alloc(arcs.range(), Arc::new(7)).expect("free");
    assert_ne!(one.pasid(), two.pasid());
    let wrong = Error::WrongSet(one.pasid());
    assert_eq!(
        arcs.find_guarded(one.pasid(), &Guard::new()).err(),
        Some(wrong)
    );
    assert_eq!(words.find(two.pasid()), Err(Error::WrongSet(two.pasid())));
    drop(boxes);
}

#[test]
fn payloads_without_a_size_are_payloads() {
    let World { sets, .. } = world::<Arc<()>>();
    let owned = sets[0].alloc(sets[0].range(), Arc::new(())).expect("free");
    assert_eq!(size_of_val(owned.payload(&Guard::new())), 0);
    let World { sets, .. } = world::<Box<[u64; 0]>>();
    let owned = sets[0].alloc(sets[0].range(), Box::new([])).expect("free");
    assert!(owned.payload(&Guard::new()).is_empty());
}
