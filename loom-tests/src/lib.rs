// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a model is run: [`check`] explores it and holds it to a floor of
//! iterations, [`canary`] plants a mutation in the same code and demands that the
//! model's own assertion fails.
//!
//! Without `--cfg loom` this crate is empty: `cargo xtask loom` sets what is needed.
#![cfg(loom)]

use pasid::model::{Mutation, plant};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many preemptions of a thread a model explores, unless
/// `LOOM_MAX_PREEMPTIONS` says otherwise.
const PREEMPTIONS: usize = 2;

fn explore(model: impl Fn() + Sync + Send + 'static) -> (usize, std::thread::Result<()>) {
    let iterations = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&iterations);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    builder.max_branches = 10_000;
    let result = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || {
            // Relaxed: loom runs all threads of a model on one system thread.
            counted.fetch_add(1, Ordering::Relaxed);
            model();
        });
    }));
    // Relaxed: as above.
    (iterations.load(Ordering::Relaxed), result)
}

/// Explores `model` and prints its iterations. Fails if it fails, and if it took
/// fewer than 90 % of `recorded` iterations at two preemptions: a model that
/// loses its states no longer says anything.
pub fn check(name: &str, recorded: usize, model: impl Fn() + Sync + Send + 'static) {
    plant(None);
    let (iterations, result) = explore(model);
    println!("model {name}: {iterations} iterations (recorded {recorded})");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    assert!(
        iterations * 10 >= recorded * 9,
        "{name} explored fewer states than recorded"
    );
}

/// Explores `model` with `mutation` planted in the code, and fails unless the
/// model's own assertion, which says `message`, fails after more than one
/// iteration.
pub fn canary(
    name: &str,
    mutation: Mutation,
    message: &str,
    model: impl Fn() + Sync + Send + 'static,
) {
    plant(Some(mutation));
    let (iterations, result) = explore(model);
    plant(None);
    let Err(panic) = result else {
        panic!("canary {name}: {mutation:?} was not noticed in {iterations} iterations");
    };
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("something that is no text");
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
