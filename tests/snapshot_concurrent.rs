// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots of a space in which others work: they say that they are not quiescent, what
//! says that it is restores, and what does not is restored or refused, without a panic.

mod common;

use common::random;
use common::snapshots::{keeps_rules, plain};
use common::{range, width};
use pasid::snapshot::{Numbers, Restore, SpaceSnapshot};
use pasid::{
    Attach, Attachment, Error, Flush, IoasidSet, Owned, Policy, Pool, Ref, Reuse, Scope, SetConfig,
    Space, SpaceKind, Table, TableConfig,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const WORKERS: u64 = 3;
const SNAPSHOTS: u32 = 300;

fn sets(space: &Space, tables: &[Table]) -> Vec<IoasidSet> {
    let configs = [
        SetConfig::new(Scope::Global)
            .range(range(1, 200))
            .reuse(Reuse::AfterFlush),
        SetConfig::new(Scope::Local(&tables[0]))
            .range(range(1, 400))
            .policy(Policy::Next)
            .quota(80),
        SetConfig::new(Scope::Group(tables)).range(range(100, 500)),
    ];
    let added = configs.map(|config| space.add_set(config).expect("memory"));
    added.into()
}

/// What a worker has.
#[derive(Default)]
struct Mine<'a> {
    owned: Vec<Owned<&'a IoasidSet>>,
    held: Vec<Ref<&'a IoasidSet>>,
    attached: Vec<Attachment<&'a Table>>,
}

impl<'a> Mine<'a> {
    fn step(&mut self, random: &mut fastrand::Rng, tables: &'a [Table], sets: &'a [IoasidSet]) {
        let set = &sets[random.usize(..sets.len())];
        let table = &tables[random.usize(..tables.len())];
        let any = random.usize(..1 << 16);
        let some = |length: usize| (length > 0).then(|| any % length);
        let owned = some(self.owned.len());
        match random.u8(..8) {
            0..=2 if self.owned.len() < 40 => self.owned.extend(set.alloc(set.range(), 7)),
            3 => self
                .held
                .extend(owned.and_then(|some| self.owned[some].get().ok())),
            4 => {
                let attaching = owned.map(|some| table.attach(&self.owned[some], 9));
                let attachment = attaching.and_then(|attaching| attaching.ok()?.commit().ok());
                self.attached.extend(attachment);
            }
            5 => drop(some(self.attached.len()).map(|some| self.attached.swap_remove(some))),
            6 => drop(some(self.held.len()).map(|some| self.held.swap_remove(some))),
            _ => drop(owned.map(|some| self.owned.swap_remove(some))),
        }
        if random.u8(..64) == 0 {
            set.flush(|_| Ok::<(), Error>(())).expect("it cannot fail");
        }
    }
}

/// Ends the work, also when a check fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What became of snapshots.
#[derive(Debug, Default)]
struct Seen {
    quiescent: u32,
    restored: u32,
    refused: u32,
}

fn restore(taken: &SpaceSnapshot, seen: &mut Seen) {
    for numbers in [Numbers::Same, Numbers::New] {
        let space = Space::new(SpaceKind::Both);
        let nothing = space.snapshot().expect("memory");
        match Restore::new(taken).numbers(numbers).into_space(&space) {
            Ok(_restored) => {
                keeps_rules(&space.snapshot().expect("memory"));
                seen.restored += 1;
            }
            Err(error) => {
                assert!(!taken.quiescent, "{error}");
                assert_eq!(space.snapshot().expect("memory"), nothing);
                seen.refused += 1;
            }
        }
    }
}

#[test]
fn a_space_in_use_is_not_quiescent_and_one_at_rest_is() {
    let space = Space::new(SpaceKind::Both);
    let tables = [16, 12].map(|bits| {
        let table = space.add_table(TableConfig::new(width(bits)));
        let table = table.expect("memory");
        table.preload(range(0, 511)).expect("memory");
        table
    });
    let sets = sets(&space, &tables);
    let (stop, steps) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut seen = Seen::default();
    std::thread::scope(|scope| {
        let (tables, sets) = (&tables, &sets);
        let (stop, steps) = (&stop, &steps);
        let ends = Stop(stop);
        let workers: Vec<_> = (0..WORKERS)
            .map(|seed| {
                scope.spawn(move || {
                    let mut random = random(seed);
                    let mut mine = Mine::default();
                    while !stop.load(Ordering::Relaxed) {
                        mine.step(&mut random, tables, sets);
                        steps.fetch_add(1, Ordering::Relaxed);
                        // Now and then all rest at the same time.
                        if random.u16(..2_000) == 0 {
                            std::thread::sleep(Duration::from_millis(10));
                        }
                    }
                    mine
                })
            })
            .collect();
        let mut unrest = 0;
        let mut taken = 0;
        // Until enough were taken in the midst of it, and one while all rested.
        while taken < SNAPSHOTS || unrest < SNAPSHOTS / 10 || seen.quiescent == 0 {
            let snapshot = space.snapshot().expect("memory");
            taken += 1;
            seen.quiescent += u32::from(snapshot.quiescent);
            unrest += u32::from(!snapshot.quiescent);
            restore(&snapshot, &mut seen);
        }
        drop(ends);
        let mine: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().expect("no worker fails"))
            .collect();
        println!("{taken} snapshots, {unrest} in the midst of it, {seen:?}");
        println!("{} calls meanwhile", steps.load(Ordering::Relaxed));

        // All stand still, and hold what they hold.
        let at_rest = space.snapshot().expect("memory");
        assert!(at_rest.quiescent);
        assert!(
            sets.iter()
                .all(|set| set.snapshot().expect("memory").quiescent)
        );
        keeps_rules(&at_rest);
        let held: usize = mine.iter().map(|mine| mine.owned.len()).sum();
        let own = at_rest.sets.iter().flat_map(|set| set.entries());
        assert_eq!(own.filter(|entry| entry.own).count(), held);
        let other = Space::new(SpaceKind::Both);
        let restored = Restore::new(&at_rest).into_space(&other);
        let _restored = restored.expect("it was quiescent");
        assert_eq!(plain(other.snapshot().expect("memory")), plain(at_rest));
    });
    assert!(steps.load(Ordering::Relaxed) > 1_000);
}
