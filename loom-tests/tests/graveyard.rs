// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets whose last reference a fault gives back, when the space is gone: laid aside in the
//! table, and dropped there, once.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Model, beside, pasid, range};
use pasid::model::Mutation;
use pasid::{
    Attach, Fault, Observer, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind, Table,
    TableConfig,
};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// A set's observer, which goes with the set.
struct Witness {
    /// Written by whoever gave the last reference back, before that.
    note: Arc<AtomicU64>,
    dropped: Arc<AtomicUsize>,
}

impl Observer for Witness {}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // Relaxed: it is the list that must have carried it here.
        let seen = self.note.load(Ordering::Relaxed);
        assert_eq!(seen, 1, "a set went before its last holder was done");
        // Relaxed: loom runs all threads of a model on one system thread.
        self.dropped
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The last reference to a set of which nothing else is left: a fault on one of its PASIDs.
struct Last {
    fault: Fault<Arc<Table>>,
    note: Arc<AtomicU64>,
}

impl Last {
    fn of(space: &Space, table: &Arc<Table>, number: u16, dropped: &Arc<AtomicUsize>) -> Last {
        let note = Arc::new(AtomicU64::new(0));
        let config = SetConfig::new(Scope::Global).observer(Arc::new(Witness {
            note: note.clone(),
            dropped: dropped.clone(),
        }));
        let set = space.add_set(config).expect("memory");
        set.preload(range(0, 1)).expect("memory");
        let owned = (&set).alloc_at(pasid(number), 5).expect("free");
        let attaching = table.clone().attach(&owned, 7).expect("it is free");
        let attachment = attaching.commit().expect("nobody pauses");
        let fault = table.clone().fault_get(pasid(number));
        let fault = fault.expect("it is attached");
        drop((attachment, owned));
        Last { fault, note }
    }

    fn give_back(self) {
        // Relaxed: as in `Witness`.
        self.note.store(1, Ordering::Relaxed);
        drop(self.fault);
    }
}

/// A table of a space that is gone, with `numbers` sets that hang by a fault each.
fn table_with(numbers: u16) -> (Arc<Table>, Vec<Last>, Arc<AtomicUsize>) {
    let space = Space::with_reserved(SpaceKind::Global, &[]);
    let width = PasidWidth::new(1).expect("at most 4 bits");
    let table = space.add_table(TableConfig::new(width)).expect("memory");
    table.preload(range(0, 1)).expect("memory");
    let (table, dropped) = (Arc::new(table), Arc::new(AtomicUsize::new(0)));
    let lasts = (0..numbers)
        .map(|number| Last::of(&space, &table, number, &dropped))
        .collect();
    drop(space);
    (table, lasts, dropped)
}

fn count(dropped: &AtomicUsize) -> usize {
    // Relaxed: as in `Witness`.
    dropped.load(std::sync::atomic::Ordering::Relaxed)
}

/// A set is laid aside while the table is closed, which drops what is there.
fn bury_against_close() {
    let (table, mut lasts, dropped) = table_with(1);
    let last = lasts.pop().expect("one");
    let closed = table.clone();
    beside(move || closed.close(), move || last.give_back());
    drop(table);
    assert_eq!(count(&dropped), 1, "a set is lost");
}

#[test]
fn a_set_that_is_laid_aside_goes_with_all_that_was_done_to_it() {
    let model = Model::new("last fault | Table::close", 22, bury_against_close);
    model.check();
    model.canary(
        Mutation::BuryRelaxed,
        "a set went before its last holder was done",
    );
}

/// Two sets are laid aside at the same time.
fn bury_against_bury() {
    let (table, mut lasts, dropped) = table_with(2);
    let (one, two) = (lasts.pop().expect("two"), lasts.pop().expect("one"));
    beside(move || one.give_back(), move || two.give_back());
    assert_eq!(count(&dropped), 0, "a fault frees memory");
    drop(table);
    assert_eq!(count(&dropped), 2, "a set is lost");
}

#[test]
fn two_sets_that_are_laid_aside_both_go() {
    let model = Model::new("last fault | last fault", 36, bury_against_bury);
    model.check();
    model.canary(Mutation::BuryInTwoSteps, "a set is lost");
}
