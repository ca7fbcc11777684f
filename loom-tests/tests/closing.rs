// SPDX-License-Identifier: MIT OR Apache-2.0
//! Closing, pausing and narrowing beside calls in flight: what comes late is refused
//! and gives back what it took.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Model, beside, pasid, range};
use pasid::model::Mutation;
use pasid::{
    Attach, Attachment, Error, Handle, IoasidSet, Observer, Owned, PasidWidth, Pool, Ref,
    RequesterId, Result, Scope, SetConfig, Space, SpaceKind, Table, TableConfig,
};
use std::sync::Arc;

mod turn;

use turn::beside_in_turn;

type Tables = Arc<Table>;
type Set = Arc<IoasidSet>;

fn add_table(space: &Space, bits: u8) -> Tables {
    let width = PasidWidth::new(bits).expect("at most 4 bits");
    let table = space.add_table(TableConfig::new(width)).expect("memory");
    table.preload(width.range()).expect("memory");
    Arc::new(table)
}

fn add_set(space: &Space, config: SetConfig<'_>) -> Set {
    let set = space.add_set(config).expect("memory");
    set.preload(set.range()).expect("memory");
    Arc::new(set)
}

fn space_of_tables() -> Space {
    Space::with_reserved(SpaceKind::Tables, &[])
}

/// Fails unless 0 is free for that set.
fn assert_free(set: &Set) {
    let owned = set.clone().alloc_at(pasid(0), 9);
    assert!(owned.is_ok(), "a PASID is lost");
}

const LOST: &str = "a PASID is lost";

// ---- Closing a set, or a table ---------------------------------------------------

/// Looks, when it is told of an allocation, whether the closing has returned by then.
#[derive(Default)]
struct Watch {
    closed: AtomicU64,
    allocated_late: AtomicU64,
}

impl Observer for Watch {
    fn allocated(&self, _: Handle, _: u64) {
        // Acquire: pairs with the release of who closed.
        let closed = self.closed.load(Ordering::Acquire);
        // Relaxed: read after the threads are joined.
        self.allocated_late.store(closed, Ordering::Relaxed);
    }
}

impl Watch {
    /// Says that the closing has returned.
    fn tell_closed(&self) {
        // Release: pairs with the acquire of `allocated`.
        self.closed.store(1, Ordering::Release);
    }

    fn was_late(&self) -> bool {
        // Relaxed: the threads are joined.
        self.allocated_late.load(Ordering::Relaxed) == 1
    }
}

/// Allocates from `set` while another thread closes it by `close`.
fn allocated_beside(
    set: &Set,
    watch: &Arc<Watch>,
    close: impl FnOnce() + 'static,
) -> Result<Owned<Set>> {
    let (asker, closer) = (set.clone(), watch.clone());
    let (owned, ()) = beside_in_turn(
        move || asker.alloc_in_place(pasid(0).into(), 5),
        move || {
            close();
            closer.tell_closed();
        },
    );
    match &owned {
        Ok(_) => assert!(!watch.was_late(), "a closed set has handed out a PASID"),
        Err(error) => assert_eq!(error, &Error::Closing),
    }
    owned
}

/// Fails unless a set that was closed gives out nothing more, also not of `owned`, which
/// it handed out before.
fn assert_closed(set: &Set, owned: &Result<Owned<Set>>) {
    let again = set.clone().alloc_in_place(range(0, 1), 6);
    assert_eq!(again.err(), Some(Error::Closing));
    let live = (set.count_live(range(0, 1)), set.statistics().live);
    assert_eq!(live, (0, 0), "a closed set has given out a reference");
    if let Ok(owned) = owned {
        let reference = set.clone().get(owned.handle());
        assert!(reference.is_err(), "a closed set has given out a reference");
        let reference = set.clone().get_at(pasid(0));
        assert!(reference.is_err(), "a closed set has given out a reference");
    }
}

const GIVEN_OUT: &str = "a closed set has given out a reference";

/// A set closes while one allocates.
fn close_against_alloc() {
    let space = space_of_tables();
    let table = add_table(&space, 1);
    let watch = Arc::new(Watch::default());
    let config = SetConfig::new(Scope::Local(&table));
    let set = add_set(&space, config.clone().observer(watch.clone()));
    let other = add_set(&space, config);
    let closing = set.clone();
    let owned = allocated_beside(&set, &watch, move || closing.close());
    assert_closed(&set, &owned);
    drop(owned);
    assert_free(&other);
}

#[test]
fn an_allocation_beside_a_closing_is_revoked_or_refused() {
    let model = Model::new("alloc | close", 638, close_against_alloc);
    model.check();
    model.canary(
        Mutation::ClosingNotLookedAtAgain,
        "a closed set has handed out a PASID",
    );
    model.canary(Mutation::GetForgetsClosing, GIVEN_OUT);
}

/// A table closes while one allocates from a set of its own.
fn close_table_against_alloc() {
    let space = space_of_tables();
    let table = add_table(&space, 1);
    let watch = Arc::new(Watch::default());
    let config = SetConfig::new(Scope::Local(&table)).observer(watch.clone());
    let set = add_set(&space, config);
    let owned = allocated_beside(&set, &watch, move || table.close());
    assert!(set.is_closing());
    assert_closed(&set, &owned);
    drop(owned);
    let statistics = set.statistics();
    assert_eq!(
        (statistics.live, statistics.freeing),
        (0, 0),
        "a PASID is lost"
    );
}

#[test]
fn an_allocation_beside_the_closing_of_its_table_is_revoked_or_refused() {
    let model = Model::new("alloc | Table::close", 604, close_table_against_alloc);
    model.check();
    model.canary(
        Mutation::ClosingNotLookedAtAgain,
        "a closed set has handed out a PASID",
    );
    model.canary(Mutation::GetForgetsClosing, GIVEN_OUT);
}

/// A table closes while one allocates from a group of which it is part: the group
/// allocates no more, and what it has stays.
fn close_table_against_group() {
    let space = space_of_tables();
    let table = add_table(&space, 1);
    let other = add_table(&space, 1);
    let watch = Arc::new(Watch::default());
    let tables = [(*table).clone(), (*other).clone()];
    let config = SetConfig::new(Scope::Group(&tables)).observer(watch.clone());
    let group = add_set(&space, config);
    let local = add_set(&space, SetConfig::new(Scope::Local(&other)));
    let owned = allocated_beside(&group, &watch, move || table.close());
    let again = group.clone().alloc_in_place(range(0, 1), 6);
    assert_eq!(again.err(), Some(Error::Closing));
    if let Ok(owned) = owned {
        assert!(owned.get().is_ok());
    }
    assert_free(&local);
}

#[test]
fn an_allocation_beside_the_closing_of_one_of_its_tables_is_whole() {
    let model = Model::new(
        "group's alloc | Table::close",
        64,
        close_table_against_group,
    );
    model.check();
    model.canary(
        Mutation::ClosingNotLookedAtAgain,
        "a closed set has handed out a PASID",
    );
}

/// A set closes while one asks for a reference: one that is given counts, and none is
/// given once the closing has returned.
fn close_against_get() {
    let space = space_of_tables();
    let table = add_table(&space, 1);
    let set = add_set(&space, SetConfig::new(Scope::Local(&table)));
    let other = add_set(&space, SetConfig::new(Scope::Local(&table)));
    let owned = set.clone().alloc_at(pasid(0), 5).expect("it is free");
    let handle = owned.handle();
    let (getter, closing) = (set.clone(), set);
    let (reference, after): (Result<Ref<Set>>, _) = beside(
        move || getter.get(handle),
        move || {
            closing.close();
            closing.get(handle).map(|reference| reference.word())
        },
    );
    assert!(after.is_err(), "a closed set has given out a reference");
    drop(owned);
    match reference {
        Ok(reference) => {
            let next = other.clone().alloc_at(pasid(0), 9);
            assert!(next.is_err(), "a PASID was handed out that is referenced");
            assert_eq!(reference.word(), 5);
        }
        Err(error) => {
            let refusals = [Error::Closing, Error::BeingFreed(pasid(0))];
            assert!(refusals.contains(&error), "{error}");
        }
    }
    assert_free(&other);
}

#[test]
fn a_get_beside_a_closing_counts_or_is_refused() {
    let model = Model::new("get | close", 107, close_against_get);
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
}

/// A table closes while a set of it is added: the set closes with it.
fn close_against_add_set() {
    let space = Arc::new(space_of_tables());
    let table = add_table(&space, 1);
    let closing = table.clone();
    let (added, ()) = beside_in_turn(
        move || space.add_set(SetConfig::new(Scope::Local(&table))),
        move || closing.close(),
    );
    match added {
        Ok(set) => assert!(set.is_closing(), "a closed table has an open set"),
        Err(error) => assert_eq!(error, Error::Closing),
    }
}

#[test]
fn a_set_that_is_added_beside_a_closing_closes_too() {
    let model = Model::new("add_set | Table::close", 103, close_against_add_set);
    model.check();
    // It is loom that sees two holders of a lock, in the cell that the lock guards.
    model.canary(Mutation::UnlockRelaxed, "Causality violation");
}

/// A table closes while one attaches a PASID of another set: no fault finds it, and it
/// ends when its holder detaches.
fn close_table_against_attach() {
    let space = Space::with_reserved(SpaceKind::Both, &[]);
    let table = add_table(&space, 1);
    let set = add_set(&space, SetConfig::new(Scope::Global).range(range(0, 1)));
    let owned = set.clone().alloc_at(pasid(0), 5).expect("it is free");
    let (attaching, closing) = (table.clone(), table.clone());
    let ((attached, owned), count) = beside_in_turn(
        move || (attached(&attaching, &owned), owned),
        move || {
            closing.close();
            closing.attachments(range(0, 1)).count()
        },
    );
    let fault = table.fault_get(pasid(0)).map(|fault| fault.word());
    assert_eq!(fault, Err(Error::Closing));
    drop(owned);
    match attached {
        Ok(attachment) => {
            assert_eq!(count, 1, "something was attached after the closing");
            let next = set.clone().alloc_at(pasid(0), 6);
            assert!(next.is_err(), "a PASID was handed out that is referenced");
            drop(attachment);
        }
        Err(error) => assert_eq!(error, Error::Closing),
    }
    assert_free(&set);
}

#[test]
fn nothing_is_attached_after_the_closing_of_its_table() {
    let model = Model::new(
        "attach, commit | Table::close",
        44,
        close_table_against_attach,
    );
    let model = model.with_total_order();
    model.check();
    let message = "something was attached after the closing";
    model.canary(Mutation::StatusNotLookedAtAgain, message);
    model.canary(Mutation::MarkWithoutOrder, message);
}

// ---- Pausing, and devices that join ------------------------------------------------

/// A table of four PASIDs and a set of its own, in which `number` is allocated.
fn table_of_four(number: u16) -> (Space, Tables, Set, Owned<Set>) {
    let space = space_of_tables();
    let table = add_table(&space, 2);
    let set = add_set(&space, SetConfig::new(Scope::Local(&table)));
    let owned = set.clone().alloc_at(pasid(number), 5).expect("it is free");
    (space, table, set, owned)
}

fn attached(table: &Tables, owned: &Owned<Set>) -> Result<Attachment<Tables>> {
    table.clone().attach(owned, 7)?.commit()
}

/// How many PASIDs are attached once `table` is paused.
fn count_paused(table: &Table) -> usize {
    table.pause();
    table.attachments(range(0, 3)).count()
}

const AFTER_PAUSE: &str = "something was attached after a pause";

fn assert_paused(attached: Result<Attachment<Tables>>, count: usize, table: &Table) {
    match attached {
        Ok(_attachment) => assert_eq!(count, 1, "something was attached after a pause"),
        Err(error) => {
            assert_eq!(error, Error::Paused);
            let left = table.attachments(range(0, 3)).count();
            assert_eq!(left, 0, "what was refused stays attached");
        }
    }
}

/// A table is paused while one attaches: what is not attached by then is refused.
fn pause_against_attach() {
    let (_space, table, _set, owned) = table_of_four(0);
    let (attaching, pausing) = (table.clone(), table.clone());
    let (attached, count) = beside_in_turn(
        move || attached(&attaching, &owned),
        move || count_paused(&pausing),
    );
    assert_paused(attached, count, &table);
}

#[test]
fn nothing_is_attached_after_a_pause() {
    let model = Model::new("attach, commit | pause", 44, pause_against_attach).with_total_order();
    model.check();
    model.canary(Mutation::StatusNotLookedAtAgain, AFTER_PAUSE);
    model.canary(Mutation::MarkWithoutOrder, AFTER_PAUSE);
}

/// A table is paused and resumed while an attachment that was begun before is
/// committed.
fn pause_against_commit() {
    let (_space, table, _set, owned) = table_of_four(0);
    let attaching = table.clone().attach(&owned, 7).expect("it is running");
    let pausing = table.clone();
    let (attached, count) = beside_in_turn(
        move || attaching.commit(),
        move || {
            let count = count_paused(&pausing);
            pausing.resume();
            count
        },
    );
    assert_paused(attached, count, &table);
    drop(owned);
}

#[test]
fn nothing_that_was_begun_before_a_pause_is_attached_after_it() {
    let model = Model::new("commit | pause, resume", 37, pause_against_commit).with_total_order();
    model.check();
    model.canary(Mutation::StatusNotLookedAtAgain, AFTER_PAUSE);
    model.canary(Mutation::MarkWithoutOrder, AFTER_PAUSE);
}

/// A device joins that has no entry for the PASID that one attaches.
fn join_against_attach() {
    let (_space, table, _set, owned) = table_of_four(3);
    let narrow = PasidWidth::new(1).expect("at most 4 bits");
    let joining = table.clone();
    let (attached, joined) = beside_in_turn(
        {
            let table = table.clone();
            move || attached(&table, &owned)
        },
        move || joining.join(RequesterId(1), narrow),
    );
    assert!(
        attached.is_err() || joined.is_err(),
        "a device joined that has no entry for an attachment"
    );
    let width = PasidWidth::new(if joined.is_ok() { 1 } else { 2 }).expect("at most 4 bits");
    assert_eq!(table.width(), width);
    let refused = |width| Error::DoesNotFit {
        pasid: pasid(3),
        width,
    };
    if let Err(error) = attached {
        assert_eq!(error, refused(narrow));
    }
    if let Err(error) = joined {
        assert_eq!(error, refused(narrow));
    }
}

/// A device is refused for what has been attached all the time, while one allocates
/// what it would have no entry for: that is not refused.
fn refused_join_against_alloc() {
    let (_space, table, set, owned) = table_of_four(3);
    let _attachment = attached(&table, &owned).expect("it is free");
    let narrow = PasidWidth::new(1).expect("at most 4 bits");
    let (allocated, joined) = beside_in_turn(
        move || set.alloc_in_place(pasid(2).into(), 6),
        move || table.join(RequesterId(1), narrow),
    );
    assert!(joined.is_err());
    assert!(allocated.is_ok(), "a refused device narrows its table");
}

#[test]
fn a_refused_device_changes_nothing() {
    let model = Model::new("alloc | refused join", 12, refused_join_against_alloc);
    model.check();
    model.canary(
        Mutation::JoinNarrowsAtOnce,
        "a refused device narrows its table",
    );
}

#[test]
fn a_device_joins_or_a_pasid_beyond_it_is_attached() {
    let model = Model::new("attach, commit | join", 59, join_against_attach).with_total_order();
    model.check();
    let message = "a device joined that has no entry for an attachment";
    model.canary(Mutation::StatusNotLookedAtAgain, message);
    model.canary(Mutation::MarkWithoutOrder, message);
}
