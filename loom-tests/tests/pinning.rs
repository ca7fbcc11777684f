// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pins beside last puts: a pinned PASID goes to nobody, and once its pin and its last
//! reference are gone it is given back once, whichever goes last.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::flushing::{flush, set_of, take};
use loom_tests::{HeldOf, Model, Set, beside, pasid, space};
use pasid::model::Mutation;
use pasid::{Handle, Observer, Pool, Ref, Reuse};
use std::sync::Arc;

const LOST: &str = "a PASID is lost";
const PINNED: &str = "a PASID was handed out that is pinned";
const UNSEEN: &str = "the next owner does not see what a holder wrote";

/// A set in which 0 is allocated, and 1, which stands in the same word, is held for ever.
fn owned_beside_neighbour(reuse: Reuse) -> (impl Sized, Set, HeldOf) {
    let (space, set) = set_of(1, |config| config.reuse(reuse).quota(3));
    let _ = take(&set, 1).into_raw();
    let owned = take(&set, 0);
    (space, set, owned)
}

fn used(set: &Set) -> u32 {
    set.quota().expect("it has one").used
}

/// Fails unless 0 has come free once, or waits for a flush once, and its neighbour is still
/// held.
fn assert_given_back_once(set: &Set, reuse: Reuse) {
    if reuse == Reuse::AfterFlush {
        assert_eq!(flush(set), [0], "a PASID is lost");
        assert!(flush(set).is_empty(), "a PASID was given back twice");
    }
    let owned = set.clone().alloc_at(pasid(0), 8);
    assert!(owned.is_ok(), "a PASID is lost");
    let neighbour = set.clone().alloc_at(pasid(1), 8);
    assert!(neighbour.is_err(), "a PASID was given back twice");
    assert_eq!(used(set), 2, "a credit is lost");
}

type Put = fn(&Set, Ref<Set>);

fn put(_: &Set, reference: Ref<Set>) {
    drop(reference);
}

fn put_by_handle(set: &Set, reference: Ref<Set>) {
    let handle = Handle::from_raw(reference.into_raw()).expect("a raw form");
    // SAFETY: the reference that `into_raw` gave up.
    let put = unsafe { set.put(handle) };
    assert_eq!(put, Ok(()), "a reference cannot be given back");
}

// ---- Taking the pin away -----------------------------------------------------------

/// A pin goes beside the last reference.
fn unpin_against_last_put(reuse: Reuse, put: Put) {
    let (_space, set, owned) = owned_beside_neighbour(reuse);
    let pin = owned.pin().expect("it is not pinned");
    let last = owned.into_ref();
    let putting = set.clone();
    beside(move || drop(pin), move || put(&putting, last));
    assert_given_back_once(&set, reuse);
}

/// Fails unless the model holds, and notices what loses the PASID between the two.
fn check_end(name: &'static str, recorded: usize, run: fn()) {
    let model = Model::new(name, recorded, run);
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
}

/// The same for an end in two steps: the last reference goes by a subtraction.
fn check_end_of_drop(name: &'static str, recorded: usize, run: fn()) {
    check_end(name, recorded, run);
    Model::new(name, recorded, run).canary(Mutation::PinnedEndBlindly, LOST);
}

#[test]
fn a_pin_that_goes_beside_the_last_put_leaves_the_pasid_to_one_of_them() {
    check_end_of_drop("unpin | last put", 41, || {
        unpin_against_last_put(Reuse::Immediate, put);
    });
    check_end_of_drop("unpin | last put, waiting", 41, || {
        unpin_against_last_put(Reuse::AfterFlush, put);
    });
}

#[test]
fn a_pin_that_goes_beside_a_last_put_by_handle_leaves_the_pasid_to_one_of_them() {
    check_end("unpin | last put by handle", 22, || {
        unpin_against_last_put(Reuse::Immediate, put_by_handle);
    });
    check_end("unpin | last put by handle, waiting", 22, || {
        unpin_against_last_put(Reuse::AfterFlush, put_by_handle);
    });
}

/// A pin goes beside the owner's free.
fn unpin_against_free(reuse: Reuse) {
    let (_space, set, owned) = owned_beside_neighbour(reuse);
    let pin = owned.pin().expect("it is not pinned");
    beside(move || drop(pin), move || drop(owned));
    assert_given_back_once(&set, reuse);
}

#[test]
fn a_pin_that_goes_beside_a_free_leaves_the_pasid_to_one_of_them() {
    check_end("unpin | free", 29, || unpin_against_free(Reuse::Immediate));
    check_end("unpin | free, waiting", 29, || {
        unpin_against_free(Reuse::AfterFlush);
    });
}

/// The same in an id space by itself.
fn unpin_against_free_of_space() {
    let space = space(1, &[]);
    let _ = space
        .clone()
        .alloc_at(pasid(1), 1)
        .expect("it is free")
        .into_raw();
    let owned = space.clone().alloc_at(pasid(0), 7).expect("it is free");
    let pin = owned.pin().expect("it is not pinned");
    let reference = owned.into_ref();
    beside(move || drop(pin), move || drop(reference));
    let owned = space.clone().alloc_at(pasid(0), 8);
    assert!(owned.is_ok(), "a PASID is lost");
    let neighbour = space.alloc_at(pasid(1), 8);
    assert!(neighbour.is_err(), "a PASID was given back twice");
}

#[test]
fn a_pin_that_goes_beside_a_put_of_an_id_space_leaves_the_pasid_to_one_of_them() {
    check_end_of_drop(
        "id space: unpin | last put",
        41,
        unpin_against_free_of_space,
    );
}

// ---- Pinning -------------------------------------------------------------------------

/// One of two holders pins and gives its reference back, while the other gives back its
/// own: as long as there is a pin nobody gets the PASID.
fn pin_against_put(reuse: Reuse, put: Put) {
    let (_space, set, owned) = owned_beside_neighbour(reuse);
    let holder = owned.into_ref();
    let other = holder.try_clone().expect("far from the most references");
    let putting = set.clone();
    let (pin, ()) = beside(
        move || {
            let pin = holder.pin().expect("it is not pinned");
            drop(holder);
            pin
        },
        move || put(&putting, other),
    );
    if reuse == Reuse::AfterFlush {
        assert!(
            flush(&set).is_empty(),
            "a PASID was handed out that is pinned"
        );
    }
    let next = set.clone().alloc_at(pasid(0), 8);
    assert!(next.is_err(), "a PASID was handed out that is pinned");
    assert_eq!(used(&set), 2, "a credit is lost");
    drop(pin);
    assert_given_back_once(&set, reuse);
}

#[test]
fn a_pin_set_beside_a_put_keeps_the_pasid() {
    let immediate = || pin_against_put(Reuse::Immediate, put);
    let by_handle = || pin_against_put(Reuse::Immediate, put_by_handle);
    let waiting = || pin_against_put(Reuse::AfterFlush, put);
    for (name, recorded, run, message) in [
        ("pin, put | put", 26, immediate as fn(), PINNED),
        // It is the reference that is lost first.
        ("pin, put | put by handle", 37, by_handle, LOST),
        ("pin, put | put, waiting", 26, waiting, PINNED),
    ] {
        let model = Model::new(name, recorded, run);
        model.check();
        model.canary(Mutation::AdvanceInTwoSteps, message);
    }
}

/// Two pin what both hold: one pin is set.
fn pin_against_pin() {
    let (_space, set, owned) = owned_beside_neighbour(Reuse::Immediate);
    let one = owned.into_ref();
    let two = one.try_clone().expect("far from the most references");
    let (one, two) = beside(move || one.pin(), move || two.pin());
    assert!(one.is_ok() != two.is_ok(), "a PASID is pinned twice");
    drop((one, two));
    assert_given_back_once(&set, Reuse::Immediate);
}

#[test]
fn one_of_two_pins() {
    let model = Model::new("pin, put | pin, put", 52, pin_against_pin);
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, "a PASID is pinned twice");
}

// ---- What the next owner sees ------------------------------------------------------

/// Whoever had the pin writes before it lets go. Who gives back the last reference asks
/// then, and sees it if it gets the PASID.
fn last_put_and_alloc_against_unpin() {
    let (_space, set, owned) = owned_beside_neighbour(Reuse::Immediate);
    let pin = owned.pin().expect("it is not pinned");
    let written = Arc::new(AtomicU64::new(0));
    let note = written.clone();
    beside(
        move || {
            drop(owned.into_ref());
            if set.alloc_in_place(pasid(0).into(), 8).is_ok() {
                // Relaxed: it is the PASID that must carry it to the next owner.
                let seen = written.load(Ordering::Relaxed);
                assert_eq!(seen, 1, "the next owner does not see what a holder wrote");
            }
        },
        move || {
            // Relaxed: as above.
            note.store(1, Ordering::Relaxed);
            drop(pin);
        },
    );
}

#[test]
fn the_next_owner_sees_what_the_pins_holder_wrote() {
    let model = Model::new(
        "last put, alloc | unpin",
        642,
        last_put_and_alloc_against_unpin,
    );
    model.check();
    model.canary(Mutation::UnpinRelaxed, UNSEEN);
}

// ---- Observers ---------------------------------------------------------------------

/// Whether PASID 0 is live for who is told.
#[derive(Default)]
struct Live(AtomicU64);

impl Observer for Live {
    fn allocated(&self, handle: Handle, _: u64) {
        if handle.pasid() == pasid(0) {
            // Relaxed: it is the PASID that must carry what was told to its next owner.
            let live = self.0.load(Ordering::Relaxed);
            assert_eq!(
                live, 0,
                "a PASID was allocated before it was told reclaimed"
            );
            // Relaxed: as above.
            self.0.store(1, Ordering::Relaxed);
        }
    }

    fn reclaimed(&self, _: Handle) {
        // Relaxed: as above.
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A last put of a pinned PASID is told while another takes the pin away, and allocates.
fn observed_put_against_unpin_and_alloc(put: Put) {
    let live = Arc::new(Live::default());
    let (_space, set) = set_of(1, |config| config.observer(live.clone()));
    let owned = take(&set, 0);
    let pin = owned.pin().expect("it is not pinned");
    let (last, putting) = (owned.into_ref(), set.clone());
    let (next, ()) = beside(
        move || {
            drop(pin);
            set.alloc_in_place(pasid(0).into(), 8)
        },
        move || put(&putting, last),
    );
    // Relaxed: the threads are joined.
    let told = live.0.load(Ordering::Relaxed);
    assert_eq!(told, u64::from(next.is_ok()), "a transition was not told");
}

#[test]
fn reclaimed_is_told_before_the_pin_lets_go() {
    for (name, recorded, run) in [
        (
            "observed: unpin, alloc | last put",
            115,
            (|| observed_put_against_unpin_and_alloc(put)) as fn(),
        ),
        ("observed: unpin, alloc | last put by handle", 100, || {
            observed_put_against_unpin_and_alloc(put_by_handle);
        }),
    ] {
        let model = Model::new(name, recorded, run);
        model.check();
        let message = "a PASID was allocated before it was told reclaimed";
        model.canary(Mutation::ReclaimedToldLate, message);
        model.canary(Mutation::ReclaimedToldPinned, "a transition was not told");
    }
}
