// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a set goes: not before its last handle and the last attachment to it, with all
//! that their holders did; and then all that it kept comes back.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Model, beside, pasid, range};
use pasid::model::Mutation;
use pasid::{
    Attach, IoasidSet, Observer, Owned, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind,
    Table, TableConfig,
};
use std::sync::Arc;

mod turn;

use turn::beside_in_turn;

/// A set's observer, which goes with the set: whoever drops it must see what every
/// holder wrote.
struct Witness(Arc<[AtomicU64; 2]>);

impl Observer for Witness {}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for note in self.0.iter() {
            // Relaxed: it is the set's count that must have carried it here.
            let seen = note.load(Ordering::Relaxed);
            assert_eq!(seen, 1, "a set went before its last holder was done");
        }
    }
}

const TOO_EARLY: &str = "a set went before its last holder was done";

fn notes() -> Arc<[AtomicU64; 2]> {
    Arc::new([AtomicU64::new(0), AtomicU64::new(0)])
}

fn write(note: &AtomicU64) {
    // Relaxed: as in `Witness`.
    note.store(1, Ordering::Relaxed);
}

/// The last two handles of a set are dropped, without a space that remembers it.
fn drop_against_drop() {
    let notes = notes();
    let space = Space::with_reserved(SpaceKind::Global, &[]);
    let config = SetConfig::new(Scope::Global).range(range(0, 1));
    let config = config.observer(Arc::new(Witness(notes.clone())));
    let one = space.add_set(config).expect("memory");
    drop(space);
    let two = one.clone();
    let (first, second) = (notes.clone(), notes);
    beside_in_turn(
        move || {
            write(&first[0]);
            drop(one);
        },
        move || {
            let third = two.clone();
            drop(two);
            write(&second[1]);
            drop(third);
        },
    );
}

#[test]
fn a_set_goes_with_its_last_handle() {
    let model = Model::new("drop | clone, drop, drop", 28, drop_against_drop);
    model.check();
    model.canary(Mutation::CountedRelaxed, TOO_EARLY);
}

/// A group, whose slots are its own, with a table, an attachment and a fault.
struct Group {
    space: Space,
    table: Arc<Table>,
    set: IoasidSet,
    owned: Owned<Arc<IoasidSet>>,
}

fn group(notes: &Arc<[AtomicU64; 2]>) -> Group {
    let space = Space::with_capacity_and_reserved(SpaceKind::Tables, 2, &[]);
    let width = PasidWidth::new(1).expect("at most 4 bits");
    let table = space.add_table(TableConfig::new(width)).expect("memory");
    table.preload(range(0, 1)).expect("memory");
    let tables = [table];
    let config = SetConfig::new(Scope::Group(&tables));
    let config = config.observer(Arc::new(Witness(notes.clone())));
    let set = space.add_set(config).expect("memory");
    set.preload(set.range()).expect("memory");
    let owned = Arc::new(set.clone()).alloc_at(pasid(0), 5).expect("free");
    let [table] = tables;
    Group {
        space,
        table: Arc::new(table),
        set,
        owned,
    }
}

/// A closed set's last handle is dropped while the last fault on what is attached of it
/// is answered: it stays with the fault, and then its share of the capacity comes back.
fn forget_against_fault() {
    let notes = notes();
    let Group {
        space,
        table,
        set,
        owned,
    } = group(&notes);
    let attaching = table.clone().attach(&owned, 7).expect("it is free");
    let attachment = attaching.commit().expect("nobody pauses");
    let fault = table.fault_get(pasid(0)).expect("it is attached");
    set.close();
    drop((owned, attachment));
    let space = Arc::new(space);
    let (first, second, asked) = (notes.clone(), notes.clone(), space.clone());
    let ((), left) = beside(
        move || {
            write(&first[0]);
            drop(fault);
        },
        move || {
            write(&second[1]);
            drop(set);
            let left = asked.capacity_left();
            if left == Some(2) {
                // Relaxed: as in `Witness`.
                let seen = second[0].load(Ordering::Relaxed);
                assert_eq!(seen, 1, "a set went before its last holder was done");
            }
            left
        },
    );
    assert!(left == Some(0) || left == Some(2));
    assert_eq!(space.capacity_left(), Some(2), "a set is never forgotten");
}

#[test]
fn a_set_is_forgotten_after_its_last_fault() {
    let model = Model::new("last fault | drop, capacity_left", 45, forget_against_fault);
    model.check();
    model.canary(Mutation::ForgottenWhileHeld, TOO_EARLY);
}

/// A set and a table are added at the same time: both are there.
fn add_against_add() {
    let space = Arc::new(Space::with_reserved(SpaceKind::Both, &[]));
    let width = PasidWidth::new(1).expect("at most 4 bits");
    let (one, two) = (space.clone(), space.clone());
    let (table, set) = beside_in_turn(
        move || one.add_table(TableConfig::new(width)),
        move || two.add_set(SetConfig::new(Scope::Global).token(3)),
    );
    let (table, set) = (table.expect("memory"), set.expect("memory"));
    assert!(space.find_set(3).is_some_and(|found| found.is_same(&set)));
    let tables = space.tables().expect("memory");
    assert!(
        tables.len() == 1 && tables[0].is_same(&table),
        "a table is lost"
    );
}

#[test]
fn tables_and_sets_are_added_one_after_the_other() {
    let model = Model::new("add_table | add_set", 736, add_against_add);
    model.check();
    // It is loom that sees two holders of a lock, in the cell that the lock guards.
    model.canary(Mutation::UnlockRelaxed, "Causality violation");
}
