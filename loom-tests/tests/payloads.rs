// SPDX-License-Identifier: MIT OR Apache-2.0
//! Payloads that are dropped, with crossbeam-epoch itself under the model checker.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Model, beside, pasid};
use pasid::model::{Mutation, Participant};
use pasid::{
    Flush, Guard, IoasidSet, Owned, PasidWidth, Pool, Reuse, Scope, SetConfig, Space, SpaceKind,
    TableConfig,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// Keeps the memory of payloads: a canary looks at one that was dropped.
struct Keeping;

#[global_allocator]
static KEEPING: Keeping = Keeping;

// SAFETY: the system's allocator, which gets some of its memory not back.
unsafe impl GlobalAlloc for Keeping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, word for word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if layout != Layout::new::<Load>() {
            // SAFETY: as above.
            unsafe { System.dealloc(place, layout) }
        }
    }
}

/// A payload that knows whether it was dropped. Aligned like nothing else here.
#[repr(align(256))]
struct Load {
    value: AtomicU64,
    /// Never dropped, since a canary may drop the payload twice.
    dropped: ManuallyDrop<Arc<AtomicU64>>,
}

const DROPPED: u64 = u64::MAX;

impl Load {
    /// A payload of `value`, and how often it was dropped.
    fn new(value: u64) -> (Box<Load>, Arc<AtomicU64>) {
        let dropped = Arc::new(AtomicU64::new(0));
        let load = Load {
            value: AtomicU64::new(0),
            dropped: ManuallyDrop::new(dropped.clone()),
        };
        // Relaxed: it is the PASID that must carry it to who looks.
        load.value.store(value, Ordering::Relaxed);
        (Box::new(load), dropped)
    }

    fn look(&self) -> u64 {
        // Relaxed: as above, and the guard must keep the drop away.
        let value = self.value.load(Ordering::Relaxed);
        assert_ne!(value, DROPPED, "a payload was dropped under its reader");
        value
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // Relaxed: as above.
        self.value.store(DROPPED, Ordering::Relaxed);
        // Relaxed: an addition, which reads the newest value.
        let before = self.dropped.fetch_add(1, Ordering::Relaxed);
        assert_eq!(before, 0, "a payload was dropped twice");
    }
}

/// The type of the models' sets.
type Set = Arc<IoasidSet<Box<Load>>>;

fn set() -> (Space, Set) {
    let space = Space::with_reserved(SpaceKind::Tables, &[]);
    let width = PasidWidth::new(1).expect("at most 4 bits");
    let table = space.add_table(TableConfig::new(width)).expect("memory");
    let config = SetConfig::new(Scope::Local(&table));
    let set = space.add_set_of(config).expect("memory");
    set.preload(set.range()).expect("memory for 2 PASIDs");
    (space, Arc::new(set))
}

/// Drops all that can be dropped: so often, because the epoch must get on by two.
fn flush(times: u32) {
    for _ in 0..times {
        Guard::new().flush();
    }
}

/// Runs both on threads of their own that take part in the epochs, as `beside` does, and
/// then drops all that is left.
fn beside_with_epochs<A: 'static, B: 'static>(
    first: impl FnOnce() -> A + 'static,
    second: impl FnOnce() -> B + 'static,
) -> (A, B) {
    let [main, one, other] = Participant::register();
    // Both go on the model's own thread, where it makes no difference to the states.
    let ((one, first), (other, second)) = beside(
        move || {
            let result = one.takes_part(first);
            (one, result)
        },
        move || {
            let result = other.takes_part(second);
            (other, result)
        },
    );
    drop((one, other));
    main.takes_part(|| flush(4));
    (first, second)
}

/// How often each of them was dropped.
fn drops<const COUNT: usize>(of: [Arc<AtomicU64>; COUNT]) -> [u64; COUNT] {
    // Relaxed: the threads are joined.
    of.map(|dropped| dropped.load(Ordering::Relaxed))
}

/// What canaries expect.
const UNDER_READER: &str = "a payload was dropped under its reader";
const TWICE: &str = "a payload was dropped twice";
const NOT_ITS_OWN: &str = "a look-up found another's payload";

/// A set of two PASIDs, and 0 allocated with a payload of 7.
fn allocated() -> (Space, Set, Owned<Set>, Arc<AtomicU64>) {
    let (space, set) = set();
    let (load, dropped) = Load::new(7);
    let owned = set.clone().alloc_at(pasid(0), load).expect("it is free");
    (space, set, owned, dropped)
}

/// One looks up under a guard while the owner frees.
fn find_against_last_put() {
    let (_space, set, owned, dropped) = allocated();
    let handle = owned.handle();
    beside_with_epochs(
        move || {
            let guard = Guard::new();
            if let Ok(found) = set.find_guarded(pasid(0), &guard) {
                let seen = (found.handle, found.payload.look());
                assert_eq!(seen, (handle, 7), "a look-up found another's payload");
            }
        },
        move || {
            drop(owned);
            flush(3);
        },
    );
    assert_eq!(drops([dropped]), [1], "a payload was not dropped");
}

#[test]
fn a_payload_is_not_dropped_under_its_reader() {
    let model = Model::new("guarded find | free", 7_916, find_against_last_put);
    model.check();
    model.canary(Mutation::PayloadDroppedAtOnce, UNDER_READER);
    model.canary(Mutation::PayloadRetiredEarly, UNDER_READER);
}

/// One looks up under a guard while the owner frees, and allocates the same PASID again.
fn find_against_next_owner() {
    let (_space, set, owned, dropped) = allocated();
    let first = owned.handle();
    let (next, next_dropped) = Load::new(8);
    let (found, again) = (set.clone(), set);
    let ((), next) = beside_with_epochs(
        move || {
            let guard = Guard::new();
            if let Ok(found) = found.find_guarded(pasid(0), &guard) {
                let own = if found.handle == first { 7 } else { 8 };
                let seen = found.payload.look();
                assert_eq!(seen, own, "a look-up found another's payload");
            }
        },
        move || {
            drop(owned);
            again.clone().alloc_at(pasid(0), next).expect("just freed")
        },
    );
    assert_eq!(
        drops([dropped, next_dropped]),
        [1, 0],
        "a payload was not dropped"
    );
    leave(next);
}

#[test]
fn a_look_up_finds_a_payload_of_the_allocation_that_it_names() {
    let model = Model::new("guarded find | free, alloc", 1_090, find_against_next_owner);
    model.check();
    model.canary(Mutation::WordRelaxed, NOT_ITS_OWN);
}

/// One looks up under a guard while a holder puts another payload there.
fn find_against_replace() {
    let (_space, set, owned, dropped) = allocated();
    let ((), (owned, next_dropped)) = beside_with_epochs(
        move || {
            let guard = Guard::new();
            let found = set.find_guarded(pasid(0), &guard).expect("it is live");
            let seen = found.payload.look();
            assert!(seen == 7 || seen == 8, "a look-up found another's payload");
        },
        move || {
            let guard = Guard::new();
            // Behind the guard's fence, so that it is the exchange that publishes it.
            let (next, next_dropped) = Load::new(8);
            owned.replace_guarded(next, &guard);
            drop(guard);
            flush(3);
            (owned, next_dropped)
        },
    );
    assert_eq!(
        drops([dropped, next_dropped]),
        [1, 0],
        "a payload was not dropped"
    );
    leave(owned);
}

/// Frees on the model's own thread.
fn leave(owned: Owned<Set>) {
    let [main] = Participant::register();
    main.takes_part(|| drop(owned));
}

#[test]
fn a_payload_is_not_replaced_under_its_reader() {
    let model = Model::new("guarded find | replace", 6_830, find_against_replace);
    model.check();
    model.canary(Mutation::PayloadDroppedAtOnce, UNDER_READER);
    // The reader does not even see the new one made, which is for loom to notice.
    model.canary(Mutation::WordRelaxed, "Causality violation");
}

/// Two holders put a payload there, each its own.
fn replace_against_replace() {
    let (_space, _set, owned, dropped) = allocated();
    let reference = owned.get().expect("it is live");
    let (eight, eight_dropped) = Load::new(8);
    let (nine, nine_dropped) = Load::new(9);
    let ((one, owned), (other, reference)) = beside_with_epochs(
        move || {
            let old = owned.replace_guarded(eight, &Guard::new()).look();
            (old, owned)
        },
        move || {
            let old = reference.replace_guarded(nine, &Guard::new()).look();
            (old, reference)
        },
    );
    assert!(
        (one, other) == (7, 8) || (one, other) == (9, 7),
        "{one}, {other}"
    );
    let left = u64::from(other == 7);
    let all = [dropped, eight_dropped, nine_dropped];
    assert_eq!(
        drops(all.clone()),
        [1, 1 - left, left],
        "a payload was not dropped"
    );
    let [main] = Participant::register();
    main.takes_part(|| {
        drop((owned, reference));
        flush(4);
    });
    assert_eq!(drops(all), [1, 1, 1], "a payload was not dropped");
}

#[test]
fn each_of_two_that_replace_gets_a_payload_of_its_own() {
    let model = Model::new("replace | replace, payloads", 290, replace_against_replace);
    model.check();
    model.canary(Mutation::ReplaceInTwoSteps, TWICE);
}

/// One takes a reference by number, and looks, while the owner frees.
fn get_against_last_put() {
    let (_space, set, owned, dropped) = allocated();
    beside_with_epochs(
        move || {
            if let Ok(reference) = set.get_at(pasid(0)) {
                let seen = reference.payload(&Guard::new()).look();
                assert_eq!(seen, 7, "a look-up found another's payload");
            }
        },
        move || {
            drop(owned);
            flush(3);
        },
    );
    assert_eq!(drops([dropped]), [1], "a payload was not dropped");
}

#[test]
fn a_reference_keeps_the_payload_or_is_refused() {
    let model = Model::new("get, payload | free", 1_292, get_against_last_put);
    model.check();
    // A reference that is lost is never the last.
    model.canary(Mutation::AdvanceInTwoSteps, "a payload was not dropped");
}

/// One frees while another waits for the same PASID, with a payload of its own.
fn free_against_alloc() {
    let (_space, set, owned, dropped) = allocated();
    let (next, next_dropped) = Load::new(8);
    let (next, ()) = beside_with_epochs(
        move || set.alloc_at(pasid(0), next).ok(),
        move || drop(owned),
    );
    let kept = u64::from(next.is_some());
    let all = [dropped, next_dropped];
    assert_eq!(
        drops(all.clone()),
        [1, 1 - kept],
        "a payload was not dropped"
    );
    let [main] = Participant::register();
    main.takes_part(|| {
        drop(next);
        flush(4);
    });
    assert_eq!(drops(all), [1, 1], "a payload was not dropped");
}

#[test]
fn each_owner_s_payload_is_dropped_once() {
    let model = Model::new("alloc | free, payloads", 40, free_against_alloc);
    model.check();
    model.canary(Mutation::PayloadReadLate, "a payload was not dropped");
}

/// One allocates while the set is closed, and frees what it got.
fn alloc_against_close() {
    let (_space, set) = set();
    let (load, dropped) = Load::new(7);
    let asker = set.clone();
    beside_with_epochs(
        move || drop(asker.alloc_at(pasid(0), load)),
        move || set.close(),
    );
    assert_eq!(drops([dropped]), [1], "a payload was not dropped");
}

#[test]
fn a_closing_set_drops_a_payload_once() {
    let model = Model::new("alloc, free | close, payloads", 535, alloc_against_close);
    model.check();
    model.canary(Mutation::PayloadRefusedLate, TWICE);
}

/// The owner frees while another takes the pin away, and asks for the PASID at once.
fn free_against_unpin() {
    let (_space, set, owned, dropped) = allocated();
    let pinned = owned.pin().expect("it is not pinned");
    let (next, next_dropped) = Load::new(8);
    // The pin goes first in the first iteration, and the free ends the allocation alone.
    let (next, ()) = beside_with_epochs(
        move || {
            drop(pinned);
            set.alloc_at(pasid(0), next).ok()
        },
        move || drop(owned),
    );
    let kept = u64::from(next.is_some());
    let all = [dropped, next_dropped];
    assert_eq!(
        drops(all.clone()),
        [1, 1 - kept],
        "a payload was not dropped"
    );
    let [main] = Participant::register();
    main.takes_part(|| {
        drop(next);
        flush(4);
    });
    assert_eq!(drops(all), [1, 1], "a payload was not dropped");
}

#[test]
fn the_payload_of_a_pinned_pasid_is_dropped_once() {
    let model = Model::new("unpin, alloc | free, payloads", 53, free_against_unpin);
    model.check();
    model.canary(Mutation::PayloadRetiredPinned, TWICE);
    model.canary(Mutation::PayloadReadLate, "a payload was not dropped");
}

/// One looks up while the owner frees, and a flush links what it took through the words. A
/// plain word stands for the payload, which nobody follows.
fn find_against_flush() {
    let space = Space::with_reserved(SpaceKind::Tables, &[]);
    let width = PasidWidth::new(1).expect("at most 4 bits");
    let table = space.add_table(TableConfig::new(width)).expect("memory");
    let config = SetConfig::new(Scope::Local(&table)).reuse(Reuse::AfterFlush);
    let set = Arc::new(space.add_set(config).expect("memory"));
    set.preload(set.range()).expect("memory for 2 PASIDs");
    let owned = set.clone().alloc_at(pasid(0), 7).expect("it is free");
    let finder = set.clone();
    beside(
        move || {
            if let Ok(found) = finder.find(pasid(0)) {
                assert_eq!(found.word, 7, "a look-up found another's payload");
            }
        },
        move || {
            drop(owned);
            assert_eq!(set.flush(|_| Ok::<(), ()>(())), Ok(1));
        },
    );
}

#[test]
fn the_link_of_a_flush_is_not_taken_for_a_payload() {
    let model = Model::new("find | free, flush", 159, find_against_flush);
    model.check();
    model.canary(Mutation::WordRelaxed, NOT_ITS_OWN);
}
