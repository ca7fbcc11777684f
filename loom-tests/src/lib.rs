// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a model is run, and what the models share.
//!
//! [`Model::check`] explores a model and holds it to a floor of iterations.
//! [`Model::canary`] plants a mutation in the code and demands that the model's
//! own assertion fails: a model without a canary is no evidence.
//!
//! Without `--cfg loom` this crate is empty: `cargo xtask loom` sets what is needed.
#![cfg(loom)]

use loom::sync::atomic::AtomicU64;
use pasid::model::{Mutation, order_totally, plant};
use pasid::{
    IdSpace, IoasidSet, Owned, Pasid, PasidRange, PasidWidth, Pool, Scope, SetConfig, Space,
    SpaceKind, Table, TableConfig,
};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Instant;

pub mod flushing;

/// How many preemptions of a thread a model explores, unless
/// `LOOM_MAX_PREEMPTIONS` says otherwise.
const PREEMPTIONS: usize = 2;

/// What an allocation of a model is held by. The `Arc` is the standard library's:
/// it is no part of what is modelled, and every thread is joined before the last
/// of its holders goes.
pub type Held = Owned<Arc<IdSpace>>;

/// One small program on several threads, all of whose interleavings are explored.
#[derive(Clone, Copy)]
pub struct Model {
    name: &'static str,
    recorded: usize,
    run: fn(),
    total_order: bool,
    preemptions: Option<usize>,
}

impl Model {
    /// A model that took `recorded` iterations, at two preemptions unless it says otherwise.
    ///
    /// It runs without what stands for the total order of sequentially consistent
    /// operations, which is less than the language promises.
    pub const fn new(name: &'static str, recorded: usize, run: fn()) -> Model {
        Model {
            name,
            recorded,
            run,
            total_order: false,
            preemptions: None,
        }
    }

    /// The same model with the total order, for what rests on it: the full marks.
    pub const fn with_total_order(self) -> Model {
        Model {
            total_order: true,
            ..self
        }
    }

    /// The same model at so many preemptions, whatever the others have: for long models
    /// that are about the old values which a load may still see, and not about switches.
    pub const fn at_preemptions(self, preemptions: usize) -> Model {
        Model {
            preemptions: Some(preemptions),
            ..self
        }
    }

    /// Explores the model and prints its iterations. Fails if it fails, and if it
    /// took fewer than 90 % of the recorded iterations: a model that loses its
    /// states no longer says anything.
    pub fn check(&self) {
        let begin = Instant::now();
        let (iterations, result) = self.explore(None);
        println!(
            "model {}: {iterations} iterations (recorded {}), {:.1} s",
            self.name,
            self.recorded,
            begin.elapsed().as_secs_f64()
        );
        if let Err(panic) = result {
            resume_unwind(panic);
        }
        assert!(
            iterations * 10 >= self.recorded * 9,
            "{} explored fewer states than recorded",
            self.name
        );
    }

    /// Explores the model with `mutation` planted in the code, and fails unless
    /// the model's own assertion, which says `message`, fails after more than one
    /// iteration.
    pub fn canary(&self, mutation: Mutation, message: &str) {
        let name = self.name;
        let (iterations, result) = quietly(|| self.explore(Some(mutation)));
        let Err(panic) = result else {
            panic!("canary {name}: {mutation:?} was not noticed in {iterations} iterations");
        };
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("something that is no text");
        let said = said.lines().next().unwrap_or_default();
        println!("canary {name}: {mutation:?} noticed in iteration {iterations}: {said}");
        assert!(
            said.contains(message),
            "canary {name} failed, but not by the model's assertion"
        );
        assert!(
            iterations > 1,
            "canary {name} failed at once: it shows nothing about interleavings"
        );
    }

    fn explore(&self, mutation: Option<Mutation>) -> (usize, std::thread::Result<()>) {
        let iterations = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&iterations);
        let run = self.run;
        let mut builder = loom::model::Builder::new();
        let usual = builder.preemption_bound.or(Some(PREEMPTIONS));
        builder.preemption_bound = self.preemptions.or(usual);
        builder.max_branches = 10_000;
        order_totally(self.total_order);
        plant(mutation);
        let result = catch_unwind(AssertUnwindSafe(|| {
            builder.check(move || {
                // Relaxed: loom runs all threads of a model on one system thread.
                counted.fetch_add(1, Ordering::Relaxed);
                run();
            });
        }));
        plant(None);
        // Relaxed: as above.
        (iterations.load(Ordering::Relaxed), result)
    }
}

std::thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` without the reports of this thread's panics: a canary's is wanted,
/// and one line says so.
fn quietly<R>(work: impl FnOnce() -> R) -> R {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.with(Cell::get) {
                usual(panic);
            }
        }));
    });
    QUIET.with(|quiet| quiet.set(true));
    let result = work();
    QUIET.with(|quiet| quiet.set(false));
    result
}

/// The PASID of that number.
pub const fn pasid(number: u16) -> Pasid {
    Pasid::from_u16(number)
}

/// The PASIDs `first ..= last`.
pub const fn range(first: u16, last: u16) -> PasidRange {
    match PasidRange::new(pasid(first), pasid(last)) {
        Ok(range) => range,
        Err(_) => panic!("a range begins above its end"),
    }
}

/// Runs both on threads of their own, `first` first in the first iteration, and
/// returns what they did.
///
/// Neither is the model's own thread: loom looks for other orders where one thread
/// follows another, and with one of the two already running it would leave out those in
/// which the other begins. A load is first tried with the oldest value that it may see,
/// so a canary that fails at once wants the one who looks to come first.
pub fn beside<A: 'static, B: 'static>(
    first: impl FnOnce() -> A + 'static,
    second: impl FnOnce() -> B + 'static,
) -> (A, B) {
    let first = loom::thread::spawn(first);
    let second = loom::thread::spawn(second);
    (joined(first), joined(second))
}

/// The same for three.
pub fn three_beside<A: 'static, B: 'static, C: 'static>(
    first: impl FnOnce() -> A + 'static,
    second: impl FnOnce() -> B + 'static,
    third: impl FnOnce() -> C + 'static,
) -> (A, B, C) {
    let first = loom::thread::spawn(first);
    let second = loom::thread::spawn(second);
    let third = loom::thread::spawn(third);
    (joined(first), joined(second), joined(third))
}

fn joined<T>(thread: loom::thread::JoinHandle<T>) -> T {
    thread.join().expect("a thread that panics ends its model")
}

/// A space of `2^bits` PASIDs in which `reserved` are reserved, without memory.
///
/// Under loom a word has 2 PASIDs, a leaf 4, a node 8 and the tree 16.
pub fn empty_space(bits: u8, reserved: &'static [PasidRange]) -> Arc<IdSpace> {
    let width = PasidWidth::new(bits).expect("at most 4 bits");
    Arc::new(IdSpace::with_reserved(width, reserved))
}

/// The same, with all memory in place.
pub fn space(bits: u8, reserved: &'static [PasidRange]) -> Arc<IdSpace> {
    let space = empty_space(bits, reserved);
    space.preload(space.range()).expect("memory for 16 PASIDs");
    space
}

/// A set. The `Arc` is the standard library's, as for [`Held`].
pub type Set = Arc<IoasidSet>;

/// What an allocation from a set is held by.
pub type HeldOf = Owned<Set>;

/// The space of one machine, in which nothing is reserved, and its tables.
///
/// It must outlive the threads of its model: what a set refers to goes on the model's
/// own thread.
pub struct Machine {
    space: Arc<Space>,
    tables: Vec<Arc<Table>>,
    range: PasidRange,
    in_place: bool,
}

impl Machine {
    /// `tables` tables of `2^bits` PASIDs, at most 16. Every set that is added has all of
    /// its memory in place.
    pub fn new(kind: SpaceKind, bits: u8, tables: usize) -> Machine {
        let width = PasidWidth::new(bits).expect("at most 4 bits");
        let space = Space::with_reserved(kind, &[]);
        let table = || space.add_table(TableConfig::new(width)).expect("a table");
        Machine {
            tables: (0..tables).map(|_| Arc::new(table())).collect(),
            space: Arc::new(space),
            range: width.range(),
            in_place: true,
        }
    }

    /// The same, whose sets have no memory.
    pub fn empty(kind: SpaceKind, bits: u8, tables: usize) -> Machine {
        let machine = Machine::new(kind, bits, tables);
        Machine {
            in_place: false,
            ..machine
        }
    }

    /// The space itself.
    pub fn space(&self) -> Arc<Space> {
        self.space.clone()
    }

    /// One of the tables.
    pub fn table(&self, table: usize) -> Arc<Table> {
        self.tables[table].clone()
    }

    /// A global set, of as many PASIDs as a table has.
    pub fn global(&self) -> Set {
        self.set(Scope::Global)
    }

    /// A set of one table.
    pub fn local(&self, table: usize) -> Set {
        self.set(Scope::Local(&self.tables[table]))
    }

    /// A set of several tables, named in that order.
    pub fn group(&self, tables: &[usize]) -> Set {
        let tables = tables
            .iter()
            .map(|&table| Table::clone(&self.tables[table]));
        self.set(Scope::Group(&tables.collect::<Vec<_>>()))
    }

    fn set(&self, scope: Scope<'_>) -> Set {
        let config = SetConfig::new(scope).range(self.range);
        let set = self.space.add_set(config).expect("a set");
        if self.in_place {
            set.preload(self.range).expect("memory for 16 PASIDs");
        }
        Arc::new(set)
    }
}

/// How PASID 1 is asked for: by its number, or by a search.
pub type Ask = fn(&Set) -> pasid::Result<HeldOf>;

/// Allocates exactly PASID 1.
pub fn by_number(set: &Set) -> pasid::Result<HeldOf> {
    set.clone().alloc_at(pasid(1), 1)
}

/// Finds PASID 1.
pub fn by_search(set: &Set) -> pasid::Result<HeldOf> {
    set.clone().alloc_in_place(range(1, 1), 1)
}

/// What a canary of [`assert_free`] expects.
pub const LOST: &str = "a PASID is lost";

/// Fails unless each of the sets can have PASID 1, one after the other.
pub fn assert_free(sets: &[Set]) {
    for set in sets {
        assert!(by_number(set).is_ok(), "a PASID is lost");
        assert!(by_search(set).is_ok(), "a PASID is lost");
    }
}

/// What the holders of one PASID do with it, where one of them at a time may have it.
///
/// Every access is relaxed, so that nothing but the PASID orders them.
pub struct Turns {
    /// Odd while somebody is in. All that touch it read the newest value.
    count: AtomicU64,
    written: AtomicU64,
}

/// What a canary of [`Turns`] expects: two are in at once, or one does not see what
/// the other did before it gave the PASID up, which comes to the same.
pub const TOGETHER: &str = "a holder does not come after the last one";

impl Turns {
    /// Nobody has had a turn.
    pub fn begin() -> Arc<Turns> {
        Arc::new(Turns {
            count: AtomicU64::new(0),
            written: AtomicU64::new(0),
        })
    }

    /// Goes in with the PASID that is `held`, reads and writes, goes out, and frees it.
    pub fn take(&self, held: HeldOf) {
        self.enter();
        self.leave(held);
    }

    /// Goes in with a PASID that is just held, reads and writes.
    pub fn enter(&self) {
        // Relaxed: it is the PASID that must order them, here and below.
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        // Relaxed: as above.
        let written = self.written.load(Ordering::Relaxed);
        let after = count.is_multiple_of(2) && written == count / 2;
        assert!(after, "a holder does not come after the last one");
        // Relaxed: as above.
        self.written.store(count / 2 + 1, Ordering::Relaxed);
    }

    /// Goes out, and frees the PASID.
    pub fn leave(&self, held: HeldOf) {
        // Relaxed: as above.
        self.count.fetch_add(1, Ordering::Relaxed);
        drop(held);
    }
}
