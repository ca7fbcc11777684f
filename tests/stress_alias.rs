// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real threads attach, detach, look up, revoke and free behind the numbers of two guests,
//! one in the other. What a look-up gives is its owner's as long as it is held.

mod common;

use common::sets::both;
use common::{pasid, range, width};
use pasid::{AliasMap, Error, Handle, IoasidSet, Owned, Pool, Ref, Scope, SetConfig, VirtualTable};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const THREADS: u64 = 4;
const STEPS: u32 = 150_000;
/// So few that the threads meet.
const HOSTS: usize = 5;
const NUMBERS: u32 = 3;

type Set<'a> = &'a IoasidSet;

/// What all threads see.
struct Shared<'a> {
    set: Set<'a>,
    tables: [VirtualTable<Set<'a>>; 2],
    /// Whose each host PASID is, written by each owner before anybody is told.
    owners: [AtomicU64; HOSTS + 1],
    /// The handles that were allocated last.
    handles: [AtomicU64; HOSTS + 1],
    /// Which allocation of each PASID was freed last: its word.
    freed: [AtomicU64; HOSTS + 1],
}

impl Shared<'_> {
    /// Looks more than once: it stays its owner's.
    fn check(&self, held: &Ref<Set<'_>>) {
        let word = held.word();
        for _ in 0..3 {
            // Relaxed: any other owner's word is wrong, whenever it is seen.
            let owner = self.owners[held.pasid().get() as usize].load(Ordering::Relaxed);
            assert_eq!(owner, word, "a PASID has another owner while it is held");
            std::hint::spin_loop();
        }
    }
}

const NAMES: [&str; KINDS] = [
    "allocated",
    "freed",
    "attached",
    "attached below",
    "detached",
    "found",
    "revoked",
    "being freed",
    "already attached",
    "not attached",
    "stale",
];
const KINDS: usize = 11;

struct Worker<'a> {
    shared: &'a Shared<'a>,
    owned: Vec<Owned<Set<'a>>>,
    held: Vec<Ref<Set<'a>>>,
    random: fastrand::Rng,
    next_word: u64,
    met: [u64; KINDS],
}

impl<'a> Worker<'a> {
    fn met(&mut self, kind: usize) {
        self.met[kind] += 1;
    }

    /// Counts the refusals that there may be.
    fn refused(&mut self, error: Error) {
        match error {
            Error::BeingFreed(_) => self.met(7),
            Error::AlreadyAttached(_) => self.met(8),
            Error::NotAttached(_) => self.met(9),
            Error::Stale(_) => self.met(10),
            error => panic!("{error}"),
        }
    }

    fn alloc(&mut self) {
        let shared = self.shared;
        self.next_word += THREADS;
        if let Ok(owned) = shared.set.alloc(shared.set.range(), self.next_word) {
            let at = owned.pasid().get() as usize;
            // Relaxed: whoever holds a reference was told after this, by the table.
            shared.owners[at].store(self.next_word, Ordering::Relaxed);
            // Release: pairs with the acquire of who attaches.
            shared.handles[at].store(owned.handle().to_raw(), Ordering::Release);
            self.owned.push(owned);
            self.met(0);
        }
    }

    fn free(&mut self) {
        if self.owned.is_empty() {
            return;
        }
        let owned = self
            .owned
            .swap_remove(self.random.usize(..self.owned.len()));
        let (at, word) = (owned.pasid().get() as usize, owned.word());
        let last = owned.get();
        drop(owned);
        // Release: pairs with the acquire of who looks up. The reference keeps the next
        // owner from being here already.
        self.shared.freed[at].store(word, Ordering::Release);
        drop(last);
        self.met(1);
    }

    fn attach(&mut self, table: &VirtualTable<Set<'a>>, number: u32) {
        let at = self.random.usize(1..=HOSTS);
        // Acquire: pairs with the release of who allocated.
        let raw = self.shared.handles[at].load(Ordering::Acquire);
        let Ok(handle) = Handle::from_raw(raw) else {
            return;
        };
        match table.attach(pasid(number), handle) {
            Ok(()) => self.met(2),
            Err(error) => self.refused(error),
        }
    }

    fn find(&mut self, table: &VirtualTable<Set<'a>>, number: u32) {
        // Acquire: pairs with the release of who freed.
        let freed: Vec<u64> = (0..=HOSTS)
            .map(|at| self.shared.freed[at].load(Ordering::Acquire))
            .collect();
        match table.find_and_get(pasid(number)) {
            Ok(held) => {
                let at = held.pasid().get() as usize;
                assert_ne!(freed[at], held.word(), "a look-up found what was freed");
                self.shared.check(&held);
                self.held.push(held);
                self.met(5);
            }
            Err(Error::Stale(of)) => panic!("a look-up said that {of} is stale"),
            Err(error) => self.refused(error),
        }
        match table.find(pasid(number)) {
            Ok(_) => {}
            Err(Error::Stale(of)) => panic!("a look-up said that {of} is stale"),
            Err(error) => self.refused(error),
        }
    }

    fn step(&mut self) {
        let shared = self.shared;
        let (level, number) = (self.random.usize(..2), self.random.u32(..NUMBERS));
        let table = &shared.tables[level];
        match self.random.u32(..12) {
            0 | 1 => self.alloc(),
            2 => self.free(),
            3 | 4 => self.attach(table, number),
            5 => {
                let below = pasid(self.random.u32(..NUMBERS));
                match shared.tables[1].attach_below(pasid(number), below) {
                    Ok(()) => self.met(3),
                    Err(error) => self.refused(error),
                }
            }
            6 => match table.detach(pasid(number)) {
                Ok(_) => self.met(4),
                Err(error) => self.refused(error),
            },
            7 if self.random.u32(..16) == 0 => {
                if let Some(owned) = self.owned.last() {
                    shared.set.revoke(owned.handle()).unwrap();
                    self.met(6);
                }
            }
            8 => {
                for held in self.held.drain(..) {
                    shared.check(&held);
                }
            }
            _ => self.find(table, number),
        }
    }
}

#[test]
fn what_a_look_up_gives_is_its_owners_as_long_as_it_is_held() {
    let space = both();
    let config = SetConfig::new(Scope::Global).range(range(1, HOSTS as u32));
    let set = space.add_set(config).unwrap();
    let map = AliasMap::new();
    let outer = map.add_table(width(8), &set).unwrap();
    let inner = map.add_nested(width(8), &outer).unwrap();
    for table in [&outer, &inner] {
        table.preload(width(8).range()).unwrap();
    }
    let zero = || std::array::from_fn(|_| AtomicU64::new(0));
    let shared = Shared {
        set: &set,
        tables: [outer, inner],
        owners: zero(),
        handles: zero(),
        freed: zero(),
    };
    let mut met = [0; KINDS];
    thread::scope(|scope| {
        let shared = &shared;
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut worker = Worker {
                        shared,
                        owned: Vec::new(),
                        held: Vec::new(),
                        random: fastrand::Rng::with_seed(thread),
                        next_word: THREADS + thread,
                        met: [0; KINDS],
                    };
                    (0..STEPS).for_each(|_| worker.step());
                    worker.met
                })
            })
            .collect();
        for worker in workers {
            let counts = worker.join().expect("a worker that fails ends the test");
            for (all, of_one) in met.iter_mut().zip(counts) {
                *all += of_one;
            }
        }
    });
    for (name, count) in NAMES.iter().zip(met) {
        println!("{name}: {count}");
        assert!(count > 0, "nothing was {name}");
    }
    drop((shared, map));
    let statistics = set.statistics();
    assert_eq!((statistics.live, statistics.freeing), (0, 0));
}
