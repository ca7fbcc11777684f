// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two threads at once.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use criterion::Criterion;
use pasid::{IoasidSet, Policy, Pool, SpaceKind};
use pasid_benches::reference::HotWord;
use pasid_benches::report::{Goal, Report};
use pasid_benches::rounds::{Round, compare, time};
use pasid_benches::sets::{self, Machine};
use pasid_benches::spaces::{check_live, check_pair, in_place, range};

use crate::alloc::alloc_and_free;

pub(crate) fn run(criterion: &mut Criterion, report: &mut Report) {
    disjoint(criterion, report);
    hot(criterion, report);
    words_apart(criterion, report);
    for (work, kind, is_global) in [
        ("spread, two threads, global space", SpaceKind::Global, true),
        ("spread, two threads, table space", SpaceKind::Tables, false),
        ("spread, two threads, local, both", SpaceKind::Both, false),
        ("spread, two threads, global, both", SpaceKind::Both, true),
    ] {
        let machine = Machine::new(kind);
        let set = match is_global {
            true => machine.add_global(Policy::Spread),
            false => machine.add_local(Policy::Spread),
        };
        spread(criterion, report, work, &set);
    }
}

/// Long beside what the threads may start apart.
const ROUND: Round = Round {
    iterations: 1 << 13,
    operations: 1,
};

/// Runs `work` on two threads, which are told apart by 0 and 1 and start together,
/// and returns the mean of what they took.
fn on_two_threads(work: impl Fn(usize) + Sync) -> Duration {
    let waiting = AtomicUsize::new(2);
    let timed = |thread| {
        // AcqRel: nothing but the count is handed over; it orders itself.
        waiting.fetch_sub(1, Ordering::AcqRel);
        // Acquire: as above.
        while waiting.load(Ordering::Acquire) > 0 {
            std::hint::spin_loop();
        }
        time(|| work(thread))
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| timed(1));
        let mine = timed(0);
        other.join().map_or(mine, |other| (mine + other) / 2)
    })
}

/// Each thread has its own half of the space; the reference, a word each. The goal is
/// that of *spread*, which keeps threads apart by itself: see `spread` below. Here halves
/// do, under the policy *lowest*.
fn disjoint(criterion: &mut Criterion, report: &mut Report) {
    let space = in_place(Policy::Lowest);
    let ranges = black_box([range(1, 0x7_FFFF), range(0x8_0000, 0xF_FFFF)]);
    let words = [HotWord::default(), HotWord::default()];
    let work = "alloc + free, two threads, a half each, lowest (goal: of spread)";
    ranges.iter().for_each(|&range| check_pair(&space, range));
    let pairs = compare(
        criterion,
        ("threads", work),
        ROUND,
        |count| {
            on_two_threads(|thread| {
                let range = ranges[thread];
                (0..count).for_each(|word| alloc_and_free(&space, range, word));
            })
        },
        |count| {
            on_two_threads(|thread| {
                let word = &words[thread];
                (0..count).for_each(|_| black_box(word).allocate_and_free());
            })
        },
    );
    ranges.iter().for_each(|&range| check_pair(&space, range));
    report.ratio(work, "R", Goal::Aim(1.35), &pairs);
}

/// Both threads use one PASID; the reference, one word.
fn hot(criterion: &mut Criterion, report: &mut Report) {
    let space = in_place(Policy::Lowest);
    let owned = space.alloc(space.range(), 1).expect("a free PASID");
    check_live(&space, std::slice::from_ref(&owned));
    let (handle, word) = (owned.handle(), HotWord::default());
    let work = "get + put of one PASID, two threads";
    let get_and_put = || drop(black_box(space.get(black_box(handle))));
    let pairs = compare(
        criterion,
        ("threads", work),
        ROUND,
        |count| on_two_threads(|_| (0..count).for_each(|_| get_and_put())),
        |count| on_two_threads(|_| (0..count).for_each(|_| black_box(&word).count_up_and_down())),
    );
    check_live(&space, std::slice::from_ref(&owned));
    report.ratio(work, "P", Goal::Aim(1.3), &pairs);
}

/// What two threads do together, and what one does: on a word each, which is all that the
/// machine gives. If this is far below 2, the processors are not there for this program
/// alone, and the rows that follow are to be read against this one.
fn words_apart(criterion: &mut Criterion, report: &mut Report) {
    let words = [HotWord::default(), HotWord::default()];
    let work = "R, two threads, a word each";
    let pairs_on = |thread: usize, count: u64| {
        let word: &HotWord = &words[thread];
        (0..count).for_each(|_| black_box(word).allocate_and_free());
    };
    let pairs = compare(
        criterion,
        ("threads", work),
        ROUND,
        |count| on_two_threads(|thread| pairs_on(thread, count)),
        |count| time(|| pairs_on(0, count)),
    );
    report.throughput(work, 2, Goal::None, &pairs);
}

/// The same for a set with the policy that keeps the threads apart.
fn spread(criterion: &mut Criterion, report: &mut Report, work: &str, set: &IoasidSet) {
    let range = black_box(set.range());
    let pairs_on = |cpu: usize, count: u64| {
        for word in 0..count {
            drop(black_box(set.alloc_near(cpu as u32, range, word)));
        }
    };
    let check = || {
        // Both at once, and each where its CPU belongs.
        let owned = [0, 1].map(|cpu| set.alloc_near(cpu, range, 0).expect("a free PASID"));
        let leaves = owned.each_ref().map(|owned| owned.pasid().get() / 256);
        assert_eq!(leaves, [0, 1]);
    };
    check();
    sets::check_pair(set, range);
    let pairs = compare(
        criterion,
        ("threads", work),
        ROUND,
        |count| on_two_threads(|thread| pairs_on(thread, count)),
        |count| time(|| pairs_on(0, count)),
    );
    check();
    sets::check_pair(set, range);
    report.throughput(work, 2, Goal::AtLeast(1.9), &pairs);
}
