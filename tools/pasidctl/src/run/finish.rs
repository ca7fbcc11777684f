// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of the load: everything is given back, and then all of it must be
//! there to be handed out again.

use pasid::{Error, Pasid, Pool};

use super::rules::{Rule, outcome};
use super::worker::Worker;

/// Ends all processes and empties all devices, by one thread, when the others are
/// done; then fills the space to see that nothing was lost. None of it is counted or
/// timed for the report; its checks are.
pub fn finish(worker: &mut Worker<'_, '_>) {
    let world = worker.world;
    for slot in 0..world.processes.count() {
        worker.exit(slot);
    }
    for device in &world.devices {
        for entry in 0..device.count() {
            if let Some(reference) = device.swap(entry, None) {
                worker.put(reference);
            }
        }
    }
    let live = world.space.count_live(world.space.range());
    worker.expect(Rule::Exact, live == 0, || {
        format!("{live} PASIDs are live when everything has been given back")
    });
    fill(worker);
}

/// Allocates until the space is exhausted, which must be exactly when all PASIDs
/// but the reserved ones have been handed out; and once more for one of them.
fn fill(worker: &mut Worker<'_, '_>) {
    let (space, plan) = (worker.world.space, worker.world.plan);
    let range = space.range();
    let expected = plan.width.count() as usize - plan.reserved.len();
    // Planted: one is kept back, and so is missing.
    let planted = worker.world.plant == Some(Rule::Exact);
    let kept = planted.then(|| space.alloc(range, 0));
    let mut filled = Vec::with_capacity(expected);
    let end = loop {
        match space.alloc(range, 0) {
            Ok(owned) if filled.len() <= expected => filled.push(owned),
            Ok(_) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let exact = end == Err(Error::Exhausted { range }) && filled.len() == expected;
    worker.expect(Rule::Exact, exact, || {
        let count = filled.len();
        let end = end
            .err()
            .map_or("there are more".to_owned(), |error| error.to_string());
        format!("{expected} PASIDs should be free, and {count} were handed out: {end}")
    });
    if end.is_err() && !filled.is_empty() {
        let freed = filled.swap_remove(filled.len() / 2);
        let pasid = freed.pasid();
        drop(freed);
        refill(worker, pasid);
    }
    drop(kept);
}

/// Allocates in a space where `free` alone is free, and then none.
fn refill(worker: &mut Worker<'_, '_>, free: Pasid) {
    let space = worker.world.space;
    let range = space.range();
    let answer = space.alloc(range, 0);
    let given = answer.as_ref().is_ok_and(|owned| owned.pasid() == free);
    worker.expect(Rule::Exact, given, || {
        let answer = outcome(&answer);
        format!("alloc in a full space, when PASID {free} was given back: {answer}")
    });
    let full = space.alloc(range, 0);
    let refused = full.as_ref().err() == Some(&Error::Exhausted { range });
    worker.expect(Rule::Exact, refused || answer.is_err(), || {
        format!("alloc in a space that is full again: {}", outcome(&full))
    });
}
