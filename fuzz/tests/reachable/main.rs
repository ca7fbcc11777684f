// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every small state of a space with 16 values and all scopes, breadth first.
//!
//! The states are those of a model that is a few masks of values. The search starts at
//! one of them and goes through all that differ from it in a few places: from the empty
//! space those with a few PASIDs held, from a full one those with a few holes. Where all
//! but five values stay as they are, it goes through all states there are. Each state
//! is brought about in a real space of its own on the shortest path. There every
//! operation is tried, its answer and the state after it are compared, and it is undone.

mod model;
mod world;

use model::{Model, Op, Quirk, State};
use std::collections::HashMap;
use std::thread;
use world::World;

/// A state that was reached, and how.
struct Reached {
    state: State,
    /// The state before it, and the operation; none for the first.
    from: Option<(usize, Op)>,
}

/// How far from its first state a search goes.
#[derive(Clone, Copy)]
enum Bound {
    /// To what differs from it in that many places at most.
    Distance(u32),
    /// To the end, with these values alone; the others stay as they are.
    Values(u16),
}

impl Bound {
    fn admits(self, start: &State, state: &State) -> bool {
        match self {
            Bound::Distance(distance) => state.distance(start) <= distance,
            Bound::Values(values) => state.changed(start) & !values == 0,
        }
    }
}

/// The states within `bound` of `start`, in the order in which they are reached.
fn search(model: &Model, start: State, bound: Bound) -> Vec<Reached> {
    let first = Reached {
        state: start,
        from: None,
    };
    let mut reached = vec![first];
    let mut known = HashMap::from([(start, 0)]);
    let mut next = 0;
    while next < reached.len() {
        let state = reached[next].state;
        for op in model.ops(&state) {
            let (_, after) = model.step(&state, op);
            if bound.admits(&start, &after) && !known.contains_key(&after) {
                known.insert(after, reached.len());
                reached.push(Reached {
                    state: after,
                    from: Some((next, op)),
                });
            }
        }
        next += 1;
    }
    reached
}

/// The operations from nothing to the first state.
fn begin(start: &State) -> Vec<Op> {
    let of = |set: usize| {
        let values = (0..16).filter(move |value| start.held(set) & 1 << value != 0);
        values.map(move |value| Op::AllocAt(set, value))
    };
    (0..model::SETS).flat_map(of).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: impl std::fmt::Debug,
    real: T,
    model: T,
) -> Result<(), String> {
    match real == model {
        true => Ok(()),
        false => Err(format!("{what:?}:\n  real  {real:?}\n  model {model:?}")),
    }
}

/// Tries every operation in one state. Returns how many there were.
fn try_all(model: &Model, reached: &[Reached], index: usize) -> Result<u64, String> {
    let state = reached[index].state;
    let mut path = Vec::new();
    let mut at = index;
    while let Some((before, op)) = reached[at].from {
        path.push(op);
        at = before;
    }
    path.extend(begin(&reached[at].state).into_iter().rev());
    path.reverse();
    let world = World::new(model.quota, model.after_flush);
    let mut world = world.map_err(|error| error.to_string())?;
    for op in &path {
        let done = world.apply(*op);
        done.map_err(|error| format!("{op:?} of {path:?}: {error}"))?;
    }
    same(&path, world.state(), state)?;
    let mut tried = 0;
    for op in model.ops(&state) {
        let (answer, after) = model.step(&state, op);
        let real = world.apply(op);
        same((op, &path), real, answer)?;
        // What an operation changes that should change nothing is seen at the next look,
        // at the latest at the last one.
        if after != state {
            same(("after", op, &path), world.state(), after)?;
            let undone = world.undo(op, &state, &after);
            undone.map_err(|error| format!("undoing {op:?} after {path:?}: {error}"))?;
        }
        tried += 1;
    }
    same(("with all undone", &path), world.state(), state)?;
    Ok(tried)
}

/// Tries every operation in every state. Returns how many states and operations.
fn explore(model: &Model, start: State, bound: Bound) -> Result<(u64, u64), String> {
    let reached = search(model, start, bound);
    let workers = thread::available_parallelism()
        .map_or(2, usize::from)
        .min(8);
    let tried: Result<Vec<u64>, String> = thread::scope(|scope| {
        let reached = &reached;
        let workers: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || {
                    let mine = (worker..reached.len()).step_by(workers);
                    mine.map(|index| try_all(model, reached, index)).sum()
                })
            })
            .collect();
        let ended = workers.into_iter().map(|worker| {
            let panicked = |_| Err("a worker panicked".to_owned());
            worker.join().unwrap_or_else(panicked)
        });
        ended.collect()
    });
    Ok((reached.len() as u64, tried?.iter().sum()))
}

/// A state in which those values are live: in the set local to table 0, in that local to
/// table 1, in the group, and globally.
fn full(live: [u16; 4]) -> State {
    State {
        live,
        ..State::default()
    }
}

const RIGHT: Model = Model {
    quota: None,
    after_flush: None,
    quirk: None,
};

/// Explores, prints how much, and asserts that it was as much as when this was written.
fn covers(name: &str, model: &Model, start: State, bound: Bound, floor: (u64, u64)) {
    match explore(model, start, bound) {
        Err(difference) => panic!("{name}: {difference}"),
        Ok((states, operations)) => {
            println!("{name}: {states} states, {operations} operations");
            assert!(
                states >= floor.0 && operations >= floor.1,
                "{name}: too few"
            );
        }
    }
}

#[test]
fn from_an_empty_space() {
    let floor = (210_171, 45_804_608);
    covers("empty", &RIGHT, State::default(), Bound::Distance(3), floor);
}

#[test]
fn from_full_spaces() {
    let fives = |rest: u32| {
        (1..15)
            .filter(|value| value % 5 == rest)
            .fold(0, |all, value| all | 1 << value)
    };
    let both = fives(2);
    let uniform = (6_583, 1_568_752);
    for (name, live, floor) in [
        ("all global", [0, 0, 0, 0x7ffe], uniform),
        ("all the group's", [0, 0, 0x7ffe, 0], uniform),
        (
            "all local to both",
            [0xfffe, 0x7ffe, 0, 0],
            (30_971, 8_271_056),
        ),
        ("all local to one", [0xfffe, 0, 0, 0], (33_995, 8_268_928)),
        ("half and half", [0, 0, 0x00fe, 0x7f00], uniform),
        (
            "mixed",
            [both | fives(3), both | fives(4), fives(1), fives(0)],
            (19_867, 4_880_632),
        ),
    ] {
        covers(name, &RIGHT, full(live), Bound::Distance(3), floor);
    }
}

/// All there are, and not those near a first one: all others of the 16 are held globally.
#[test]
fn every_state_of_five_values() {
    // One that a table reserves is among them.
    let values = 0b1000_0000_0001_1110;
    let start = full([0, 0, 0, 0x7ffe & !values]);
    // Of four values: free; live or being freed locally (to either table, or to both), in
    // the group, and globally. Of the reserved one: free, live or being freed on table 0.
    let floor = (13 * 13 * 13 * 13 * 3, 20_836_348);
    covers("five values", &RIGHT, start, Bound::Values(values), floor);
}

#[test]
fn with_quotas() {
    for (name, quota, floor) in [
        ("quota of 1", 1, (4_707, 1_016_480)),
        ("quota of 2", 2, (6_219, 1_343_072)),
    ] {
        let model = Model {
            quota: Some(quota),
            ..RIGHT
        };
        covers(name, &model, State::default(), Bound::Distance(2), floor);
    }
}

#[test]
fn a_model_that_is_wrong_is_noticed() {
    for quirk in [
        Quirk::LocalSetsExcludeEachOther,
        Quirk::GlobalIgnoresLocal,
        Quirk::LocalIgnoresGlobal,
        Quirk::GroupHoldsTableZeroAlone,
        Quirk::FreeingIsFree,
        Quirk::TableReservationUnknownToTheGlobalSet,
        Quirk::HighestFirst,
        Quirk::QuotaOneMore,
    ] {
        let model = Model {
            quota: Some(1),
            quirk: Some(quirk),
            ..RIGHT
        };
        match explore(&model, State::default(), Bound::Distance(1)) {
            Ok(_) => panic!("{quirk:?} was not noticed"),
            Err(difference) => println!("{quirk:?}: {difference}"),
        }
    }
}

/// All there are of four values, where the PASIDs of one set await flushes, of which one
/// is in flight at a time. With a fifth there would be twenty times as many.
#[test]
fn every_state_of_four_values_with_a_set_after_flush() {
    // One that a table reserves is among them.
    let values = 0b1000_0000_0000_1110;
    let start = full([0, 0, 0, 0x7ffe & !values]);
    for (name, set, quota, floor) in [
        // Two more for each value that the set can have: waiting, and of the batch; with
        // the other table's three, that is 19, and 5 for the reserved one.
        ("local after flush", 0, None, (19 * 19 * 19 * 5, 8_314_681)),
        (
            "group after flush",
            model::GROUP,
            None,
            (15 * 15 * 15 * 3, 2_452_977),
        ),
        (
            "global after flush",
            model::GLOBAL,
            None,
            (15 * 15 * 15 * 3, 2_452_977),
        ),
        (
            "local after flush, quota of 2",
            0,
            Some(2),
            (12_575, 2_758_898),
        ),
    ] {
        let model = Model {
            after_flush: Some(set),
            quota,
            quirk: None,
        };
        let start = match quota {
            None => start,
            Some(_) => State::default(),
        };
        covers(name, &model, start, Bound::Values(values), floor);
    }
}

#[test]
fn a_model_that_is_wrong_about_flushes_is_noticed() {
    for quirk in [
        Quirk::WaitingIsFree,
        Quirk::BatchIsFree,
        Quirk::DroppedTicketCompletes,
        Quirk::FlushTakesAllThatComes,
        Quirk::AwaitingIsExhausted,
    ] {
        for set in [0, model::GROUP, model::GLOBAL] {
            let model = Model {
                after_flush: Some(set),
                quota: None,
                quirk: Some(quirk),
            };
            match explore(&model, State::default(), Bound::Values(0b110)) {
                Ok(_) => panic!("{quirk:?} was not noticed"),
                Err(difference) => println!("{quirk:?}: {difference}"),
            }
        }
    }
}
