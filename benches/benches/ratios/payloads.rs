// SPDX-License-Identifier: MIT OR Apache-2.0
//! Payloads that are dropped: what their guards and their end cost. An `Arc` that is there
//! already is the payload, so that the heap is asked for what retiring it takes, and not
//! for the payload itself.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use pasid::SpaceKind;
use pasid::{Guard, IoasidSet, Owned, Pasid, PasidWidth, Policy, Pool, Scope, SetConfig};
use pasid_benches::reference::{self, HotWord};
use pasid_benches::report::{Goal, Report};
use pasid_benches::rounds::{Round, compare, time};
use pasid_benches::sets::{Machine, take};
use pasid_benches::spaces::rng;

/// How many are live.
const LIVE_COUNT: u32 = 1000;

type Payload = Arc<u64>;

pub(crate) fn run(criterion: &mut Criterion, report: &mut Report) {
    let machine = Machine::new(SpaceKind::Tables);
    let table = &machine.tables[0];
    let guarded = machine
        .space
        .add_set_of::<Payload>(SetConfig::new(Scope::Local(table)));
    let guarded = guarded.expect("a set");
    guarded
        .preload(guarded.range())
        .expect("memory for the set");
    pair(criterion, report, &guarded);
    let live: Vec<_> = (1..=u64::from(LIVE_COUNT))
        .map(|word| guarded.alloc(guarded.range(), Arc::new(word)))
        .map(|owned| owned.expect("a free PASID"))
        .collect();
    let mut pasids: Vec<Pasid> = live.iter().map(Owned::pasid).collect();
    rng().shuffle(&mut pasids);
    check(&guarded, &live);
    beside_find(criterion, report, &guarded, &pasids);
    beside_load(criterion, report, &guarded, &pasids);
    check(&guarded, &live);
}

/// Shows that each is found, with a payload of its own.
fn check(set: &IoasidSet<Payload>, live: &[Owned<&IoasidSet<Payload>>]) {
    let guard = Guard::new();
    for (word, owned) in (1..).zip(live) {
        let found = set
            .find_guarded(owned.pasid(), &guard)
            .expect("a live PASID");
        assert_eq!((found.handle, *found.payload), (owned.handle(), word));
    }
}

/// A pair of calls against R.
fn pair(criterion: &mut Criterion, report: &mut Report, set: &IoasidSet<Payload>) {
    let (range, hot) = (black_box(set.range()), HotWord::default());
    let payload: Payload = Arc::new(1);
    let owned = set.alloc(range, payload.clone()).expect("a free PASID");
    assert_eq!(*owned.payload(&Guard::new()), 1);
    drop(owned);
    assert_eq!(set.count_live(range), 0);
    let work = "payload: alloc + free, Arc, table space";
    let pairs = compare(
        criterion,
        ("payloads", work),
        Round::SHORT,
        |count| {
            time(|| {
                (0..count).for_each(|_| drop(black_box(set.alloc(range, payload.clone()))));
            })
        },
        |count| time(|| (0..count).for_each(|_| black_box(&hot).allocate_and_free())),
    );
    assert_eq!(set.count_live(range), 0);
    report.ratio(work, "R", Goal::None, &pairs);
}

#[inline(always)]
fn look_up(set: &IoasidSet<Payload>, pasid: Pasid, guard: &Guard) {
    let found = set.find_guarded(pasid, guard);
    black_box(found.map_or(0, |found| *found.payload));
}

/// Look-ups under a guard, against those of a set of words.
fn beside_find(
    criterion: &mut Criterion,
    report: &mut Report,
    set: &IoasidSet<Payload>,
    pasids: &[Pasid],
) {
    let machine = Machine::new(SpaceKind::Tables);
    let words = machine.add_local(Policy::Lowest);
    let live = take(&words, words.range(), LIVE_COUNT);
    assert!(live.iter().all(|owned| pasids.contains(&owned.pasid())));
    for (work, is_one_guard) in [
        ("payload: find_guarded, Arc, 1,000 live", true),
        ("payload: find_guarded, Arc, a guard for each", false),
    ] {
        let (mut next, mut next_word) = (pasids.iter().cycle(), pasids.iter().cycle());
        let mut find = |count: u64| {
            let shared = is_one_guard.then(Guard::new);
            for &pasid in next.by_ref().take(count as usize) {
                match &shared {
                    Some(guard) => look_up(set, pasid, guard),
                    None => look_up(set, pasid, &Guard::new()),
                }
            }
        };
        let mut find_word = |count: u64| {
            for &pasid in next_word.by_ref().take(count as usize) {
                black_box(words.find(pasid).map_or(0, |found| found.word));
            }
        };
        let pairs = compare(
            criterion,
            ("payloads", work),
            Round::SHORT,
            |count| time(|| find(count)),
            |count| time(|| find_word(count)),
        );
        report.ratio(work, "of find", Goal::None, &pairs);
    }
}

/// Look-ups under one guard, against I.
fn beside_load(
    criterion: &mut Criterion,
    report: &mut Report,
    set: &IoasidSet<Payload>,
    pasids: &[Pasid],
) {
    let array = vec![0_u64; PasidWidth::MAX.count() as usize];
    let (mut next, mut reference_next) = (pasids.iter().cycle(), pasids.iter().cycle());
    let mut find = |count: u64| {
        let guard = Guard::new();
        for &pasid in next.by_ref().take(count as usize) {
            look_up(set, pasid, &guard);
        }
    };
    let mut load = |count: u64| {
        for &pasid in reference_next.by_ref().take(count as usize) {
            reference::load(&array, pasid.get() as usize);
        }
    };
    let work = "payload: find_guarded, Arc, beside a load";
    let pairs = compare(
        criterion,
        ("payloads", work),
        Round::SHORT,
        |count| time(|| find(count)),
        |count| time(|| load(count)),
    );
    report.ratio(work, "I", Goal::None, &pairs);
}
