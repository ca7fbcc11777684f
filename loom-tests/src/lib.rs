// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a model is run, and what the models share.
//!
//! [`Model::check`] explores a model and holds it to a floor of iterations.
//! [`Model::canary`] plants a mutation in the code and demands that the model's
//! own assertion fails: a model without a canary is no evidence.
//!
//! Without `--cfg loom` this crate is empty: `cargo xtask loom` sets what is needed.
#![cfg(loom)]

use pasid::model::{Mutation, order_totally, plant};
use pasid::{IdSpace, Owned, Pasid, PasidRange, PasidWidth};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Instant;

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
}

impl Model {
    /// A model that took `recorded` iterations at two preemptions.
    ///
    /// It runs without what stands for the total order of sequentially consistent
    /// operations, which is less than the language promises.
    pub const fn new(name: &'static str, recorded: usize, run: fn()) -> Model {
        Model {
            name,
            recorded,
            run,
            total_order: false,
        }
    }

    /// The same model with the total order, for what rests on it: the full marks.
    pub const fn with_total_order(self) -> Model {
        Model {
            total_order: true,
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
        builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
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
