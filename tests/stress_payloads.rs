// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real threads do everything at once with payloads that are dropped, and none is seen
//! after its drop.
#![cfg(feature = "epoch")]

mod common;

use common::{pasid, range};
use pasid::{
    Attach, Flush, Guard, Guarded, Handle, IoasidSet, Owned, Pool, Reuse, Scope, SetConfig, Table,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const THREADS: u64 = 4;
const STEPS: u32 = 60_000;
/// So few PASIDs that the threads meet.
const LAST: u32 = 12;
const ALIVE: u64 = 0x0A11_0CA7_ED00_0000;
const DROPPED: u64 = 0xDEAD_DEAD_DEAD_DEAD;

/// What all threads count together.
#[derive(Default)]
struct Ledger {
    created: AtomicU64,
    dropped: AtomicU64,
}

/// A payload that scribbles over itself when it is dropped.
struct Load {
    canary: AtomicU64,
    ledger: Arc<Ledger>,
}

impl Load {
    fn new(ledger: &Arc<Ledger>) -> Load {
        // Relaxed: read after the threads are joined, here and below.
        ledger.created.fetch_add(1, Ordering::Relaxed);
        Load {
            canary: AtomicU64::new(ALIVE),
            ledger: ledger.clone(),
        }
    }

    /// Looks more than once: it must stay there.
    fn check(&self) {
        for _ in 0..3 {
            // Relaxed: any value but the first is wrong.
            let canary = self.canary.load(Ordering::Relaxed);
            assert_eq!(canary, ALIVE, "a payload was seen after its drop");
            std::hint::spin_loop();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let before = self.canary.swap(DROPPED, Ordering::Relaxed);
        assert_eq!(before, ALIVE, "a payload was dropped twice");
        self.ledger.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// One thread's part of it.
struct Worker<'a, P: Guarded<Target = Load>> {
    set: &'a IoasidSet<P>,
    table: &'a Table,
    wrap: fn(Load) -> P,
    ledger: &'a Arc<Ledger>,
    owned: Vec<Owned<&'a IoasidSet<P>>>,
    random: fastrand::Rng,
    /// How often each kind of step found something to do.
    done: [u64; KINDS],
}

const KINDS: usize = 9;
const NAMES: [&str; KINDS] = [
    "allocated",
    "freed",
    "found",
    "listed",
    "got",
    "replaced",
    "attached",
    "faulted",
    "flushed",
];

impl<P: Guarded<Target = Load>> Worker<'_, P> {
    fn load(&self) -> P {
        (self.wrap)(Load::new(self.ledger))
    }

    fn number(&mut self) -> pasid::Pasid {
        pasid(self.random.u32(1..=LAST))
    }

    fn step(&mut self) {
        let kind = self.random.usize(..KINDS);
        let number = self.number();
        let done = match kind {
            0 => self.allocate(number),
            1 => self.free(),
            2 => {
                let guard = Guard::new();
                let found = self.set.find_guarded(number, &guard);
                found.map(|found| found.payload.check()).is_ok()
            }
            3 => {
                let guard = Guard::new();
                let all = self.set.iter_guarded(range(1, LAST), &guard);
                let listed: Vec<_> = all.collect();
                listed.iter().for_each(|found| found.payload.check());
                !listed.is_empty()
            }
            4 => self.get(number),
            5 => self.replace(),
            6 => self.attach(),
            7 => match self.table.fault_get(number) {
                // It may give the last reference back.
                Ok(fault) => fault.word() == u64::from(number.get()),
                Err(_) => false,
            },
            _ => self
                .set
                .flush(|_| Ok::<(), ()>(()))
                .is_ok_and(|count| count > 0),
        };
        self.done[kind] += u64::from(done);
    }

    fn allocate(&mut self, number: pasid::Pasid) -> bool {
        let payload = self.load();
        let allocated = match self.random.bool() {
            true => self.set.alloc(range(1, LAST), payload),
            false => self.set.alloc_at(number, payload),
        };
        let Ok(owned) = allocated else {
            return false;
        };
        self.owned.push(owned);
        true
    }

    fn any(&mut self) -> Option<usize> {
        (!self.owned.is_empty()).then(|| self.random.usize(..self.owned.len()))
    }

    fn free(&mut self) -> bool {
        let Some(index) = self.any() else {
            return false;
        };
        let owned = self.owned.swap_remove(index);
        match self.random.u32(..4) {
            0 => drop(owned.into_ref()),
            1 => {
                let raw: Handle = common::handle(owned.into_raw());
                // SAFETY: owned in raw form.
                unsafe { self.set.free(raw) }.expect("it is owned");
            }
            2 => {
                self.set.revoke(owned.handle()).expect("it is owned");
                drop(owned);
            }
            _ => drop(owned),
        }
        true
    }

    fn get(&mut self, number: pasid::Pasid) -> bool {
        let Ok(reference) = self.set.get_at(number) else {
            return false;
        };
        reference.payload(&Guard::new()).check();
        if self.random.bool() {
            let guard = Guard::new();
            let before = reference.payload(&guard);
            reference.replace_guarded(self.load(), &guard);
            before.check();
        }
        true
    }

    fn replace(&mut self) -> bool {
        let Some(index) = self.any() else {
            return false;
        };
        let payload = self.load();
        let guard = Guard::new();
        self.owned[index].replace_guarded(payload, &guard);
        self.owned[index].payload(&guard).check();
        true
    }

    fn attach(&mut self) -> bool {
        let Some(index) = self.any() else {
            return false;
        };
        let word = self.owned[index].pasid().get().into();
        let attaching = self.table.attach(&self.owned[index], word);
        let Ok(attachment) = attaching.and_then(|attaching| attaching.commit()) else {
            return false;
        };
        // The attachment goes last, or a fault that another thread has.
        if self.random.bool() {
            drop(self.owned.swap_remove(index));
        }
        thread::yield_now();
        attachment.detach();
        true
    }
}

fn run<P: Guarded<Target = Load>>(name: &str, reuse: Reuse, wrap: fn(Load) -> P) {
    let ledger = Arc::new(Ledger::default());
    let space = common::sets::both();
    let table = common::sets::table(&space, 10);
    table.preload(range(0, LAST)).expect("memory");
    let config = SetConfig::new(Scope::Local(&table)).range(range(1, LAST));
    let config = config.reuse(reuse);
    let set = space.add_set_of::<P>(config).expect("memory");
    let mut done = [0; KINDS];
    thread::scope(|scope| {
        let threads = (0..THREADS).map(|seed| {
            let mut worker = Worker {
                set: &set,
                table: &table,
                wrap,
                ledger: &ledger,
                owned: Vec::new(),
                random: fastrand::Rng::with_seed(seed),
                done: [0; KINDS],
            };
            scope.spawn(move || {
                (0..STEPS).for_each(|_| worker.step());
                worker.owned.clear();
                worker.done
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            let part = thread.join().expect("a thread kept the rules");
            done.iter_mut()
                .zip(part)
                .for_each(|(sum, more)| *sum += more);
        }
    });
    for (name, done) in NAMES.iter().zip(done) {
        println!("{name} {done}");
        let nothing = *name == "flushed" && reuse == Reuse::Immediate;
        assert!(nothing || done > 500, "{name} hardly ever");
    }
    assert_eq!(set.count_live(set.range()), 0);
    // The other test may keep some from being dropped while it is pinned.
    let created = ledger.created.load(Ordering::Relaxed);
    for _ in 0..1_000_000 {
        if ledger.dropped.load(Ordering::Relaxed) == created {
            println!("{name}: {created} payloads, each dropped once");
            return;
        }
        Guard::new().flush();
        thread::yield_now();
    }
    panic!("a payload was not dropped");
}

#[test]
fn no_payload_is_seen_after_its_drop_behind_an_arc() {
    run("Arc", Reuse::Immediate, Arc::new);
}

#[test]
fn no_payload_is_seen_after_its_drop_in_a_box() {
    run("Box", Reuse::Immediate, Box::new);
}

#[test]
fn no_payload_is_seen_after_its_drop_in_quarantine() {
    run("Box, after a flush", Reuse::AfterFlush, Box::new);
}
