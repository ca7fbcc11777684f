// SPDX-License-Identifier: MIT OR Apache-2.0
//! What waits for a flush is held for every set, on both sides and for groups, until the
//! flush has completed; and whoever gets it then comes after the invalidation.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::flushing::take;
use loom_tests::{Model, Set, beside, pasid, range};
use pasid::model::Mutation;
use pasid::{
    Error, Flush, PasidWidth, Pool, Result, Reuse, Scope, SetConfig, Space, SpaceKind, Table,
    TableConfig,
};
use std::sync::Arc;

const EARLY: &str = "a PASID was handed out before the invalidation";
const EXHAUSTED: &str = "exhausted, while something waits";

/// A space with a table of the PASIDs 0 and 1.
struct World {
    space: Arc<Space>,
    table: Table,
}

impl World {
    fn new(kind: SpaceKind) -> World {
        let space = Space::with_reserved(kind, &[]);
        let width = PasidWidth::new(1).expect("at most 4 bits");
        let table = space.add_table(TableConfig::new(width)).expect("memory");
        World {
            space: Arc::new(space),
            table,
        }
    }

    fn set(&self, scope: Scope<'_>, reuse: Reuse) -> Set {
        let config = SetConfig::new(scope).range(range(0, 1)).reuse(reuse);
        let set = self.space.add_set(config).expect("memory");
        set.preload(set.range()).expect("memory");
        Arc::new(set)
    }

    fn global(&self, reuse: Reuse) -> Set {
        self.set(Scope::Global, reuse)
    }

    fn local(&self, reuse: Reuse) -> Set {
        self.set(Scope::Local(&self.table), reuse)
    }

    fn group(&self, reuse: Reuse) -> Set {
        self.set(Scope::Group(std::slice::from_ref(&self.table)), reuse)
    }
}

type Ask = fn(&Set) -> Result<loom_tests::HeldOf>;

fn by_number(set: &Set) -> Result<loom_tests::HeldOf> {
    set.clone().alloc_at(pasid(0), 8)
}

fn by_search(set: &Set) -> Result<loom_tests::HeldOf> {
    set.clone().alloc_in_place(range(0, 0), 8)
}

/// A set asks for what waits in another while a flush invalidates and completes.
/// `refused` says which errors it may be told.
fn ask_against_flush(from: &Set, to: &Set, ask: Ask, refused: fn(Error) -> bool) {
    drop(take(from, 0));
    let ticket = from.clone().begin_flush();
    let invalidated = Arc::new(AtomicU64::new(0));
    let (seen, asker) = (invalidated.clone(), to.clone());
    beside(
        move || match ask(&asker) {
            Ok(_) => {
                // Relaxed: it is the PASID that must carry it to the next owner.
                let seen = seen.load(Ordering::Relaxed);
                assert_eq!(seen, 1, "a PASID was handed out before the invalidation");
            }
            Err(error) => assert!(refused(error), "exhausted, while something waits"),
        },
        move || {
            // Relaxed: as above.
            invalidated.store(1, Ordering::Relaxed);
            assert_eq!(ticket.complete(), 1);
        },
    );
    for ask in [by_number, by_search] {
        assert!(ask(to).is_ok(), "a PASID is lost");
    }
    assert!(ask(from).is_ok(), "a PASID is lost");
}

fn is_awaiting(error: Error) -> bool {
    error == Error::AwaitingFlush { range: range(0, 0) }
}

/// A group's flush is not known to a table's set.
fn is_any(_: Error) -> bool {
    true
}

fn global_to_local(ask: Ask) {
    let world = World::new(SpaceKind::Both);
    let (from, to) = (
        world.global(Reuse::AfterFlush),
        world.local(Reuse::Immediate),
    );
    ask_against_flush(&from, &to, ask, is_awaiting);
}

#[test]
fn a_waiting_global_pasid_is_no_local_one_before_the_flush_is_complete() {
    let model = Model::new("local alloc | global flush", 1_063, || {
        global_to_local(by_search)
    });
    model.check();
    model.canary(Mutation::ClaimReleaseRelaxed, EARLY);
    model.canary(Mutation::CompletionUncounted, EXHAUSTED);
    model.canary(Mutation::CompletingUncounted, EXHAUSTED);
    let model = Model::new("local alloc_at | global flush", 467, || {
        global_to_local(by_number)
    });
    model.check();
    model.canary(Mutation::CompletionUncounted, EXHAUSTED);
    model.canary(Mutation::NotTriedAgain, EXHAUSTED);
}

/// A global set is not told of what waits at a table.
fn local_to_global(ask: Ask) {
    let world = World::new(SpaceKind::Both);
    let (from, to) = (
        world.local(Reuse::AfterFlush),
        world.global(Reuse::Immediate),
    );
    ask_against_flush(&from, &to, ask, is_any);
}

#[test]
fn a_waiting_local_pasid_is_no_global_one_before_the_flush_is_complete() {
    let model = Model::new("global alloc | local flush", 190, || {
        local_to_global(by_search)
    });
    model.check();
    model.canary(Mutation::ClaimReleaseRelaxed, EARLY);
}

fn group_to_local(ask: Ask) {
    let world = World::new(SpaceKind::Tables);
    let (from, to) = (
        world.group(Reuse::AfterFlush),
        world.local(Reuse::Immediate),
    );
    ask_against_flush(&from, &to, ask, is_any);
}

#[test]
fn a_waiting_pasid_of_a_group_is_no_local_one_before_the_flush_is_complete() {
    let model = Model::new("local alloc | group's flush", 66, || {
        group_to_local(by_search)
    });
    model.check();
    model.canary(Mutation::GiveBackRelaxed, EARLY);
}

fn local_to_group(ask: Ask) {
    let world = World::new(SpaceKind::Tables);
    let (from, to) = (
        world.local(Reuse::AfterFlush),
        world.group(Reuse::Immediate),
    );
    ask_against_flush(&from, &to, ask, is_awaiting);
}

#[test]
fn a_waiting_local_pasid_is_no_groups_before_the_flush_is_complete() {
    let model = Model::new("group's alloc | local flush", 577, || {
        local_to_group(by_search)
    });
    model.check();
    model.canary(Mutation::GiveBackRelaxed, EARLY);
    model.canary(Mutation::CompletionUncounted, EXHAUSTED);
    model.canary(Mutation::CompletingUncounted, EXHAUSTED);
}
