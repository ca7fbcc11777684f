// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real threads on tables and sets, against a shadow of their own: 8 tables, sets of all
//! scopes and policies, attachments and faults, while quotas change, devices join and
//! leave, and tables and sets are closed and added again.
//!
//! Checked at every step: one owner for each PASID and table, none beside a global one,
//! limits and reservations, quotas, references, and that a fault has the word of what is
//! attached. It goes on until each contested outcome was met often enough to count as
//! tested. Built with `--cfg pasid_events`; `cargo xtask stress` runs it. Everything is
//! bounded by a number of operations and nothing by time.
#![cfg(pasid_events)]

mod arena;
mod attaching;
mod counts;
mod devices;
mod flusher;
mod flushing;
mod info;
mod shadow;
mod waiting;
mod worker;

use arena::{Arena, SETS, TABLES, pasid, range};
use counts::{Counts, REQUIRED};
use flusher::flush;
use pasid::events::{Event, count};
use pasid::{Error, Flush, IoasidSet, PasidWidth, Pool, Scope, SetConfig, Space, TableConfig};
use shadow::{Id, Side};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use worker::Worker;

const THREADS: u32 = 4;
/// Steps of each thread in a round, and rounds: at least ten million steps a thread. After
/// the last round an outcome that is still rare counts as not met.
const STEPS: u32 = 100_000;
const ROUNDS: std::ops::RangeInclusive<u32> = 100..=1_000;

/// Each contested outcome must occur this often.
const OCCURRENCES: u64 = 1_000;

/// The highest numbers asked for: few, so that all are contended for, and more than one
/// leaf has.
const LASTS: [u32; 5] = [1, 5, 12, 40, 300];

/// Fails unless every PASID of `1 ..= last` can be had again from `set`, once.
fn check_nothing_is_lost(set: &IoasidSet, last: u32) {
    let request = range(1, last);
    let mut all: Vec<_> = (0..last)
        .map(|_| set.alloc(request, 0).expect("broken: a PASID was lost"))
        .collect();
    let more = set.alloc(request, 0).map(drop);
    assert_eq!(more, Err(Error::Exhausted { range: request }));
    all.sort_by_key(|owned| owned.pasid());
    for (number, owned) in (1..).zip(&all) {
        assert_eq!(owned.pasid().get(), number);
    }
}

/// Flushes all that waits. Nobody holds anything.
fn flush_all(arena: &Arena) {
    let mut cells: Vec<_> = (0..SETS).map(|index| arena.set(index)).collect();
    cells.extend(arena.take_closed());
    for cell in &cells {
        flush(&*cell.set, &arena.everything, &cell.info.batches, false);
    }
    for cell in &cells {
        let of = cell.set.statistics();
        let left = (of.live, of.freeing, of.waiting, of.pinned);
        assert_eq!(left, (0, 0, 0, 0), "something is left");
        assert_eq!((&*cell.set).flushes().in_flight, 0);
    }
}

/// Fails unless the sets are empty, as they say themselves.
fn check_sets_are_empty(arena: &Arena) {
    for cell in (0..SETS).map(|index| arena.set(index)) {
        let statistics = cell.set.statistics();
        assert_eq!(
            (statistics.live, statistics.freeing),
            (0, 0),
            "something is left"
        );
        assert_eq!(cell.set.count_live(cell.set.range()), 0);
        assert_eq!(statistics.quota.is_some(), cell.info.credits.is_some());
        if let Some(quota) = statistics.quota {
            assert_eq!(quota.used, 0, "broken: a credit was lost");
            assert!(
                quota.high_water <= 2 * cell.info.quota,
                "broken: above the quota"
            );
        }
    }
    // On the tables that were there: a bit that was kept is nowhere else.
    for cell in (0..SETS).map(|index| arena.set(index)) {
        for number in (1..=arena.last).map(pasid) {
            if cell.info.side == Side::Table && cell.info.has(number) {
                match (&*cell.set).alloc_at(number, Id::new(cell.info.key, 0, 0).0) {
                    Ok(owned) => drop(owned),
                    Err(Error::Closing) => {}
                    Err(error) => panic!("broken: {number} was lost: {error:?}"),
                }
                flush(&*cell.set, &arena.everything, &cell.info.batches, false);
            }
        }
    }
    for cell in (0..TABLES).map(|index| arena.table(index)) {
        let left = cell.table.attachments(range(0, arena.last)).next();
        assert_eq!(left, None, "something is left attached");
    }
}

/// Fails unless the space is as it was when it was new, once all of it is closed.
fn check_space_is_empty(space: &Space, capacity: u32, last: u32) {
    assert_eq!(space.sets().expect("a little memory").len(), 0);
    assert_eq!(space.tables().expect("a little memory").len(), 0);
    let closed = space.closing_sets().expect("a little memory").len();
    assert_eq!(closed, 0, "broken: a closed set is not gone");
    let closed = space.closing_tables().expect("a little memory").len();
    assert_eq!(closed, 0, "broken: a closed table is not gone");
    assert_eq!(
        space.capacity_left(),
        Some(capacity),
        "broken: capacity was lost"
    );
    let quota = last + 1;
    let table = space.add_table(TableConfig::new(PasidWidth::MAX));
    let table = table.expect("a little memory");
    for scope in [
        Scope::Global,
        Scope::Local(&table),
        Scope::Group(std::slice::from_ref(&table)),
        Scope::Global,
    ] {
        let set = space.add_set(SetConfig::new(scope).quota(quota));
        let set = set.expect("a little memory");
        check_nothing_is_lost(&set, last);
        set.close();
        drop(set);
        assert_eq!(space.capacity_left(), Some(capacity));
    }
}

/// One space, until each thread has taken its steps.
fn churn(round: u32, counts: &Counts) {
    let last = LASTS[round as usize % LASTS.len()];
    let arena = Arena::new(last);
    // Together more than there is on a table, and less than there is on all.
    let held_last = (last as usize / 2).clamp(1, 48);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let arena = &arena;
            let seed = u64::from(round);
            scope.spawn(move || Worker::new(arena, seed, thread, held_last).run(STEPS));
        }
    });
    flush_all(&arena);
    counts.merge(&arena.everything.counts);
    check_sets_are_empty(&arena);
    let (capacity, everything) = (arena.capacity, Arc::clone(&arena.everything));
    let space = arena.close();
    check_space_is_empty(&space, capacity, last);
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let observed = &everything.observed;
    assert_eq!(
        of(&observed.dropped),
        of(&observed.made),
        "broken: observers leak"
    );
    assert_eq!(
        of(&observed.reclaimed),
        of(&observed.allocated),
        "broken: told in vain"
    );
    assert!(
        of(&observed.revoked) <= of(&observed.allocated),
        "broken: revoked twice"
    );
}

#[test]
fn sets_keep_every_rule_at_every_step() {
    let counts = Counts::default();
    let mut rounds = 0;
    while rounds < *ROUNDS.end() {
        churn(rounds, &counts);
        rounds += 1;
        let required = counts.each().take(REQUIRED);
        let rarest = required.map(|(_, count)| count).min();
        let rarest = rarest.map(|rarest| rarest.min(count(Event::BackedOut)));
        if rounds >= *ROUNDS.start() && rarest >= Some(OCCURRENCES) {
            break;
        }
    }
    println!("{:<18}{rounds}", "rounds");
    for (met, count) in counts.each() {
        println!("{:<18}{count}", format!("{met:?}"));
    }
    for event in [Event::BackedOut, Event::BitLost, Event::ScanRepeated] {
        println!("{:<18}{}", format!("{event:?}"), count(event));
    }
    for (met, count) in counts.each().take(REQUIRED) {
        assert!(count >= OCCURRENCES, "{met:?} was met {count} times");
    }
    assert!(
        count(Event::BackedOut) >= OCCURRENCES,
        "attempts that backed out"
    );
}
