// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flushes and allocations on real threads, where the answer is known.

mod common;

use common::range;
use common::sets::{any, table};
use pasid::{Error, Flush, IoasidSet, Owned, Pool, Reuse, Scope, SetConfig, Space, SpaceKind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A set of `1 ..= last` whose PASIDs await a flush, of each scope.
fn each(last: u32, check: impl Fn(&IoasidSet)) {
    let space = Space::new(SpaceKind::Both);
    let tables = [table(&space, 20), table(&space, 20)];
    for scope in [
        Scope::Global,
        Scope::Local(&tables[0]),
        Scope::Group(&tables),
    ] {
        let config = SetConfig::new(scope).range(range(1, last));
        let set = space.add_set(config.reuse(Reuse::AfterFlush)).unwrap();
        check(&set);
        set.close();
        assert_eq!(set.flush(|_| Ok::<(), ()>(())).map(|_| ()), Ok(()));
    }
}

/// Lets all PASIDs of the set wait.
fn use_up(set: &IoasidSet, count: u32) {
    let all: Vec<_> = (0..count).map(|_| any(set).unwrap()).collect();
    drop(all);
}

#[test]
fn row_11_two_that_need_all_pasids_of_a_flush_both_succeed_once_it_has_completed() {
    const EACH: u32 = 40;
    const ROUNDS: u32 = 100;
    each(2 * EACH, |set| {
        let waited = AtomicU64::new(0);
        use_up(set, 2 * EACH);
        for _ in 0..ROUNDS {
            let ticket = set.begin_flush();
            assert_eq!(ticket.count(), 2 * EACH);
            let (completed, begin) = (AtomicBool::new(false), Barrier::new(3));
            let need = || {
                let mut owned: Vec<Owned<&IoasidSet>> = Vec::new();
                begin.wait();
                while owned.len() < EACH as usize {
                    // Relaxed would do: what must be seen comes with the flush itself.
                    let was_completed = completed.load(Ordering::Acquire);
                    match any(set) {
                        Ok(one) => owned.push(one),
                        Err(Error::AwaitingFlush { .. }) if !was_completed => {
                            waited.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("{error:?}, completed: {was_completed}"),
                    }
                }
                owned
            };
            std::thread::scope(|scope| {
                let two = [scope.spawn(need), scope.spawn(need)];
                begin.wait();
                // Each is refused a few times, or the answer before the flush is not met.
                let before = waited.load(Ordering::Relaxed);
                let failed = || two.iter().any(|one| one.is_finished());
                while waited.load(Ordering::Relaxed) < before + 4 && !failed() {
                    std::thread::yield_now();
                }
                assert_eq!(ticket.complete(), 2 * EACH);
                completed.store(true, Ordering::Release);
                let owned = two.map(|one| one.join().expect("both succeed"));
                let mut numbers: Vec<u32> = owned
                    .iter()
                    .flatten()
                    .map(|one| one.pasid().get())
                    .collect();
                numbers.sort_unstable();
                assert!(numbers.into_iter().eq(1..=2 * EACH));
            });
        }
        assert!(waited.load(Ordering::Relaxed) >= 4 * u64::from(ROUNDS));
    });
}

/// Says so when it is dropped, also by a failing assertion.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// While flushes begin and are put back nobody is told that what waits all the time is
/// exhausted, or in use.
#[test]
fn what_waits_throughout_is_never_called_exhausted() {
    // Few, so that a flush begins and ends in the middle of an allocation; and many.
    for (last, asked) in [(1, 150_000), (600, 5_000)] {
        never_exhausted(last, asked);
    }
}

fn never_exhausted(last: u32, asked: u32) {
    each(last, |set| {
        use_up(set, last);
        let waits = range(1, last);
        let (done, put_back) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(set.begin_flush());
                    put_back.fetch_add(1, Ordering::Relaxed);
                }
            });
            let _ends = Ends(&done);
            let (mut at, mut done) = (0, 0);
            // However seldom the other thread has its turn.
            while done < asked || put_back.load(Ordering::Relaxed) < 1_000 {
                done += 1;
                let answer = set.alloc(waits, 0).map(drop);
                assert_eq!(answer, Err(Error::AwaitingFlush { range: waits }));
                at = at % last + 1;
                let number = common::pasid(at);
                let answer = set.alloc_at(number, 0).map(drop);
                let range = number.into();
                assert_eq!(answer, Err(Error::AwaitingFlush { range }));
            }
        });
        assert_eq!(set.flush(|_| Ok::<(), ()>(())), Ok(last));
    });
}
