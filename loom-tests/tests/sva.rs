// SPDX-License-Identifier: MIT OR Apache-2.0
//! Binding to one address space beside each other, beside its last unbinding and its end:
//! one PASID at a time, none that outlives its address space, and none lost.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Model, beside, pasid, range, three_beside};
use pasid::model::Mutation;
use pasid::{
    Error, Flusher, IdSpace, IoasidSet, PasidCell, Pool, Ref, Reuse, Scope, SetConfig, Space,
    SpaceKind,
};
use std::sync::Arc;

type Ids = Arc<IdSpace>;
type Cell = Arc<PasidCell<Ids>>;
type Make = fn(Ids) -> PasidCell<Ids>;
type Binding = Ref<Ids>;

const STAYS: Make = PasidCell::new;
const UNTIL_LAST: Make = PasidCell::until_last_unbind;

/// A space of the PASIDs 0 and 1 with its memory, and a cell on it, which goes on the
/// model's own thread.
fn cell(make: Make) -> (Ids, Cell) {
    let ids = loom_tests::space(1, &[]);
    let cell = Arc::new(make(ids.clone()));
    (ids, cell)
}

fn binder(cell: &Cell) -> impl FnOnce() -> pasid::Result<Binding> + 'static {
    let cell = cell.clone();
    move || cell.bind_in_place(range(0, 1), 7)
}

/// Lets threads run beside each other, of which one that begins after another has ended sees
/// all that it did. So the first iteration shows nothing weak.
#[derive(Clone)]
struct Turns(Arc<AtomicU64>);

impl Turns {
    fn begin() -> Turns {
        Turns(Arc::new(AtomicU64::new(0)))
    }

    fn taken_by<T>(&self, work: impl FnOnce() -> T + 'static) -> impl FnOnce() -> T + 'static {
        let turns = self.clone();
        move || {
            // Acquire: pairs with the release below. An addition, because it reads the
            // newest value.
            turns.0.fetch_add(0, Ordering::Acquire);
            let result = work();
            // Release: as above.
            turns.0.fetch_add(1, Ordering::Release);
            result
        }
    }
}

/// Fails unless what is bound is the one PASID that is live.
fn assert_one(ids: &Ids, cell: &Cell, bound: &[&Binding]) {
    for binding in bound {
        let same = cell.find() == Some(binding.handle());
        assert!(same, "an address space has two PASIDs");
        assert_eq!(binding.word(), 7);
        let other = ids.clone().alloc_at(binding.pasid(), 9);
        assert!(other.is_err(), "a PASID was handed out that is bound");
    }
    assert_eq!(ids.count_live(range(0, 1)), 1, "a PASID is lost");
}

const HANDED_OUT: &str = "a PASID was handed out that is bound";
const TWO: &str = "an address space has two PASIDs";

/// Fails unless both PASIDs are free.
fn assert_free(ids: &Ids) {
    for number in [0, 1] {
        let owned = ids.clone().alloc_at(pasid(number), 9);
        assert!(owned.is_ok(), "a PASID is lost");
    }
}

const LOST: &str = "a PASID is lost";

// ---- bind | bind -----------------------------------------------------------------

/// Two bind, and nothing was bound before.
fn bind_against_bind(make: Make) {
    let (ids, cell) = cell(make);
    let turns = Turns::begin();
    let (one, two) = beside(turns.taken_by(binder(&cell)), turns.taken_by(binder(&cell)));
    let (one, two) = (one.expect("two are free"), two.expect("two are free"));
    assert_one(&ids, &cell, &[&one, &two]);
    cell.retire();
    drop((one, two));
    assert_free(&ids);
}

#[test]
fn two_that_bind_get_one_pasid_and_the_other_comes_free() {
    let model = Model::new("sva: bind | bind", 90, || bind_against_bind(STAYS));
    model.check();
    model.canary(Mutation::BindInTwoSteps, TWO);
    model.canary(Mutation::BindRelaxed, TWO);
    model.canary(Mutation::BindLoserKeeps, LOST);
    let model = Model::new("sva: bind | bind, until the last", 212, || {
        bind_against_bind(UNTIL_LAST);
    });
    model.check();
    model.canary(Mutation::BindInTwoSteps, TWO);
    model.canary(Mutation::BindRelaxed, TWO);
    model.canary(Mutation::BindLoserKeeps, LOST);
}

// ---- bind | retire ---------------------------------------------------------------

/// The address space ends while somebody binds to it.
fn bind_against_retire(make: Make) {
    let (ids, cell) = cell(make);
    let ending = cell.clone();
    let turns = Turns::begin();
    let (bound, ()) = beside(
        turns.taken_by(binder(&cell)),
        turns.taken_by(move || ending.retire()),
    );
    match bound {
        Ok(binding) => {
            let other = ids.clone().get(binding.handle());
            assert!(other.is_err(), "a PASID outlives its address space");
            let other = ids.clone().alloc_at(binding.pasid(), 9);
            assert!(other.is_err(), "a PASID was handed out that is bound");
        }
        Err(error) => {
            let late = [Error::CellRetired, Error::BeingFreed(pasid(0))];
            assert!(late.contains(&error), "{error}");
        }
    }
    let again = cell.bind_in_place(range(0, 1), 7).err();
    assert!(again == Some(Error::CellRetired), "a retired cell binds");
    assert_free(&ids);
}

const OUTLIVES: &str = "a PASID outlives its address space";

#[test]
fn what_is_bound_beside_the_end_is_revoked_and_not_lost() {
    let model = Model::new("sva: bind | retire", 50, || bind_against_retire(STAYS));
    model.check();
    model.canary(Mutation::RetireInTwoSteps, OUTLIVES);
    let model = Model::new("sva: bind | retire, until the last", 69, || {
        bind_against_retire(UNTIL_LAST);
    });
    model.check();
    model.canary(Mutation::RetireInTwoSteps, OUTLIVES);
}

/// It ends while somebody binds to it, who brings the memory that the PASID is in.
fn growing_bind_against_retire() {
    let ids = loom_tests::empty_space(1, &[]);
    let cell = Arc::new(PasidCell::new(ids.clone()));
    let (binding, ending) = (cell.clone(), cell.clone());
    let turns = Turns::begin();
    let (bound, ()) = beside(
        turns.taken_by(move || binding.bind(range(0, 1), 7)),
        turns.taken_by(move || ending.retire()),
    );
    if let Ok(binding) = &bound {
        let other = ids.clone().get(binding.handle());
        assert!(other.is_err(), "a PASID outlives its address space");
    }
    drop(bound);
    ids.preload(range(0, 1)).expect("memory for 2 PASIDs");
    assert_free(&ids);
}

#[test]
fn what_is_bound_in_new_memory_beside_the_end_is_revoked() {
    let model = Model::new(
        "sva: bind and grow | retire",
        32,
        growing_bind_against_retire,
    );
    model.check();
    model.canary(Mutation::BindRelaxed, OUTLIVES);
}

/// It ends while two bind to it.
fn bind_against_bind_against_retire() {
    let (ids, cell) = cell(STAYS);
    let ending = cell.clone();
    let turns = Turns::begin();
    let (one, two, ()) = three_beside(
        turns.taken_by(binder(&cell)),
        turns.taken_by(binder(&cell)),
        turns.taken_by(move || ending.retire()),
    );
    let bound: Vec<Binding> = [one, two].into_iter().flatten().collect();
    if let [one, two] = &bound[..] {
        assert_eq!(
            one.handle(),
            two.handle(),
            "an address space has two PASIDs"
        );
    }
    for binding in &bound {
        let other = ids.clone().get(binding.handle());
        assert!(other.is_err(), "a PASID outlives its address space");
    }
    drop(bound);
    assert_free(&ids);
}

#[test]
fn what_two_bind_beside_the_end_is_revoked_and_not_lost() {
    let model = Model::new("sva: bind | bind | retire", 1_645, || {
        bind_against_bind_against_retire();
    });
    model.check();
    model.canary(Mutation::RetireInTwoSteps, OUTLIVES);
    model.canary(Mutation::BindLoserKeeps, LOST);
}

// ---- bind | last unbind ------------------------------------------------------------

/// The last binding goes while somebody binds: either it was not the last, or there is a
/// next PASID.
fn bind_against_unbind() {
    let (ids, cell) = cell(UNTIL_LAST);
    let last = binder(&cell)().expect("two are free");
    let (bound, ()) = beside(binder(&cell), move || drop(last));
    let bound = bound.expect("one is free");
    assert_one(&ids, &cell, &[&bound]);
    drop(bound);
    assert_eq!(cell.find(), None);
    assert_free(&ids);
}

#[test]
fn who_binds_beside_the_last_unbinding_holds_what_it_got() {
    let model = Model::new("sva: bind | last unbind", 89, bind_against_unbind);
    model.check();
    model.canary(Mutation::GetFromNothing, HANDED_OUT);
}

/// The same while two bind, who get the same.
fn bind_against_bind_against_unbind() {
    let (ids, cell) = cell(UNTIL_LAST);
    let last = binder(&cell)().expect("two are free");
    let (one, two, _) = three_beside(binder(&cell), binder(&cell), move || drop(last));
    // With two PASIDs each of two finds one free, or the cell bound, but where the third is
    // just being given back.
    let bound: Vec<Binding> = [one, two].into_iter().flatten().collect();
    assert!(!bound.is_empty(), "nobody has bound");
    assert_one(&ids, &cell, &bound.iter().collect::<Vec<_>>());
    drop(bound);
    assert_free(&ids);
}

#[test]
fn two_that_bind_beside_the_last_unbinding_get_one_pasid() {
    let model = Model::new("sva: bind | bind | last unbind", 24_719, || {
        bind_against_bind_against_unbind();
    });
    model.check();
    model.canary(Mutation::BindInTwoSteps, TWO);
    model.canary(Mutation::BindRelaxed, TWO);
}

// ---- Exhaustion --------------------------------------------------------------------

/// Is asked to flush by who found nothing free, does nothing, and notes whether a call that
/// bound had returned by then.
#[derive(Default)]
struct Watch {
    bound: AtomicU64,
    late: AtomicU64,
}

impl Flusher for Watch {
    fn flush(&self) {
        // Acquire: pairs with the release of who has bound.
        if self.bound.load(Ordering::Acquire) == 1 {
            // Relaxed: read after the threads are joined.
            self.late.store(1, Ordering::Relaxed);
        }
    }
}

/// Two bind where one PASID is free, and the other awaits a flush.
fn bind_at_exhaustion(make: fn(Arc<IoasidSet>) -> PasidCell<Arc<IoasidSet>>) {
    let space = Space::with_reserved(SpaceKind::Global, &[]);
    let watch = Arc::new(Watch::default());
    let config = SetConfig::new(Scope::Global).range(range(0, 1));
    let config = config.reuse(Reuse::AfterFlush).flusher(watch.clone());
    let set = Arc::new(space.add_set(config).expect("memory"));
    set.preload(set.range()).expect("memory for 2 PASIDs");
    drop(set.clone().alloc_at(pasid(1), 9));
    let cell = Arc::new(make(set.clone()));
    let bind = || {
        let (cell, watch) = (cell.clone(), watch.clone());
        move || {
            let bound = cell.bind(range(0, 1), 7);
            if bound.is_ok() {
                // Release: pairs with the acquire of `flush`.
                watch.bound.store(1, Ordering::Release);
            }
            bound
        }
    };
    let (one, two) = beside(bind(), bind());
    // Relaxed: the threads are joined.
    let late = watch.late.load(Ordering::Relaxed) == 1;
    match (&one, &two) {
        (Ok(one), Ok(two)) => {
            assert_eq!(
                one.handle(),
                two.handle(),
                "an address space has two PASIDs"
            );
        }
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => {
            let range = range(0, 1);
            assert_eq!(error, &Error::AwaitingFlush { range });
            assert!(
                !late,
                "a bound address space was refused for want of a PASID"
            );
        }
        (Err(_), Err(_)) => panic!("nobody has bound"),
    }
    drop((one, two));
    let (live, found) = (set.count_live(range(0, 1)), cell.find());
    assert_eq!(live, u32::from(found.is_some()), "a PASID is lost");
}

#[test]
fn at_exhaustion_the_loser_looks_again() {
    let message = "a bound address space was refused for want of a PASID";
    let model = Model::new("sva: bind | bind, one PASID", 172, || {
        bind_at_exhaustion(PasidCell::new);
    });
    model.check();
    model.canary(Mutation::BindLooksOnce, message);
    let model = Model::new("sva: bind | bind, one PASID, until the last", 308, || {
        bind_at_exhaustion(PasidCell::until_last_unbind);
    });
    model.check();
    model.canary(Mutation::BindLooksOnce, message);
}
