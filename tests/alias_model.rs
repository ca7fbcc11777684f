// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random calls on a host's set and the virtual tables of two guests, one in the other,
//! compared step by step with maps of the standard library.

mod common;

use common::sets::{both, free, global, put};
use common::{pasid, width};
use pasid::{AliasMap, Error, Handle, IoasidSet, Pool, VirtualTable};
use std::collections::{BTreeMap, HashMap};

const STEPS: u32 = 100_000;
const HOSTS: u32 = 6;
const NUMBERS: u32 = 5;
const LEVELS: usize = 3;

/// An allocation as the model has it.
#[derive(Default)]
struct Allocation {
    live: bool,
    references: u32,
}

/// What is plain: every allocation that is not over, and the entries of each table.
#[derive(Default)]
struct Plain {
    allocations: HashMap<Handle, Allocation>,
    tables: [BTreeMap<u32, (Handle, Option<u32>)>; LEVELS],
}

impl Plain {
    /// The handle that stands at `number`, whatever its phase.
    fn resolve(&self, level: usize, number: u32) -> Option<Handle> {
        let &(handle, below) = self.tables[level].get(&number)?;
        match below {
            None => Some(handle),
            Some(below) => (self.resolve(level - 1, below) == Some(handle)).then_some(handle),
        }
    }

    fn find(&self, level: usize, number: u32) -> Result<Handle, Error> {
        let handle = self.resolve(level, number);
        let handle = handle.ok_or(Error::NotAttached(pasid(number)))?;
        self.live(handle).map(|()| handle)
    }

    fn live(&self, handle: Handle) -> Result<(), Error> {
        match self.allocations.get(&handle) {
            None => Err(Error::Stale(handle)),
            Some(allocation) if !allocation.live => Err(Error::BeingFreed(handle.pasid())),
            Some(_) => Ok(()),
        }
    }

    fn enter(
        &mut self,
        level: usize,
        number: u32,
        entry: (Handle, Option<u32>),
    ) -> Result<(), Error> {
        if self.tables[level].contains_key(&number) {
            return Err(Error::AlreadyAttached(pasid(number)));
        }
        self.tables[level].insert(number, entry);
        self.take(entry.0);
        Ok(())
    }

    fn take(&mut self, handle: Handle) {
        self.allocations.get_mut(&handle).unwrap().references += 1;
    }

    fn give_back(&mut self, handle: Handle) {
        let allocation = self.allocations.get_mut(&handle).unwrap();
        allocation.references -= 1;
        if allocation.references == 0 {
            self.allocations.remove(&handle);
        }
    }
}

/// The same of the crate, with what the test holds in raw form.
struct Real<'a> {
    set: &'a IoasidSet,
    tables: Vec<VirtualTable<&'a IoasidSet>>,
    owned: Vec<Handle>,
    held: Vec<Handle>,
    /// Handles that were given out, most of them over.
    known: Vec<Handle>,
}

/// A call of the host on its own set.
fn host_step(
    kind: usize,
    random: &mut fastrand::Rng,
    plain: &mut Plain,
    real: &mut Real<'_>,
) -> bool {
    match kind {
        0 => {
            let of = pasid(random.u32(1..=HOSTS));
            let allocated = real.set.alloc_at(of, 0).map(|owned| owned.into_raw());
            let held = plain.allocations.keys().any(|handle| handle.pasid() == of);
            assert_eq!(allocated.is_err(), held, "{of}");
            if let Ok(raw) = allocated {
                let handle = Handle::from_raw(raw).unwrap();
                let allocation = Allocation {
                    live: true,
                    references: 1,
                };
                assert!(plain.allocations.insert(handle, allocation).is_none());
                real.owned.push(handle);
                real.known.push(handle);
            }
            !held
        }
        1 if !real.owned.is_empty() && random.u32(..6) == 0 => {
            let handle = real.owned.swap_remove(random.usize(..real.owned.len()));
            assert_eq!(free(real.set, handle), Ok(()));
            plain.allocations.get_mut(&handle).unwrap().live = false;
            plain.give_back(handle);
            true
        }
        2 if !real.owned.is_empty() && random.u32(..8) == 0 => {
            let handle = real.owned[random.usize(..real.owned.len())];
            assert_eq!(real.set.revoke(handle), Ok(()));
            plain.allocations.get_mut(&handle).unwrap().live = false;
            true
        }
        3 if !real.held.is_empty() => {
            let handle = real.held.swap_remove(random.usize(..real.held.len()));
            assert_eq!(put(real.set, handle), Ok(()));
            plain.give_back(handle);
            true
        }
        _ => false,
    }
}

/// A call on one of the virtual tables.
fn guest_step(
    kind: usize,
    random: &mut fastrand::Rng,
    plain: &mut Plain,
    real: &mut Real<'_>,
) -> bool {
    let (level, number) = (random.usize(..LEVELS), random.u32(..NUMBERS));
    let guest = pasid(number);
    let table = &real.tables[level];
    match kind {
        4 if !real.known.is_empty() => {
            // One that is owned, or was lately.
            let recent = &real.known[real.known.len().saturating_sub(12)..];
            let from = match random.u32(..4) == 0 || real.owned.is_empty() {
                true => recent,
                false => &real.owned[..],
            };
            let handle = from[random.usize(..from.len())];
            let expected = plain
                .live(handle)
                .and_then(|()| plain.enter(level, number, (handle, None)));
            assert_eq!(table.attach(guest, handle), expected);
            expected.is_ok()
        }
        5 => {
            let below = random.u32(..NUMBERS);
            let found = match level {
                0 => Err(Error::NotAttached(pasid(below))),
                _ => plain.find(level - 1, below),
            };
            let expected =
                found.and_then(|handle| plain.enter(level, number, (handle, Some(below))));
            assert_eq!(table.attach_below(guest, pasid(below)), expected);
            expected.is_ok()
        }
        6 => {
            let taken = plain.tables[level].remove(&number);
            let expected = taken.map(|(handle, _)| handle);
            let detached = table.detach(guest);
            assert_eq!(detached, expected.ok_or(Error::NotAttached(guest)));
            if let Some(handle) = expected {
                plain.give_back(handle);
            }
            expected.is_some()
        }
        7 => {
            let got = table.find_and_get(guest);
            let got = got.map(|got| Handle::from_raw(got.into_raw()).unwrap());
            assert_eq!(got, plain.find(level, number));
            if let Ok(handle) = got {
                plain.take(handle);
                real.held.push(handle);
            }
            got.is_ok()
        }
        8 if random.u32(..64) == 0 => {
            table.detach_all();
            for (_, (handle, _)) in std::mem::take(&mut plain.tables[level]) {
                plain.give_back(handle);
            }
            true
        }
        _ => false,
    }
}

/// Which call it was, and whether it did something.
fn step(random: &mut fastrand::Rng, plain: &mut Plain, real: &mut Real<'_>) -> (usize, bool) {
    let kind = random.usize(..KINDS);
    let done = match kind {
        0..4 => host_step(kind, random, plain, real),
        _ => guest_step(kind, random, plain, real),
    };
    (kind, done)
}

const KINDS: usize = 9;

fn compare(plain: &Plain, real: &Real<'_>) {
    for (level, table) in real.tables.iter().enumerate() {
        for number in 0..NUMBERS {
            assert_eq!(table.find(pasid(number)), plain.find(level, number));
        }
        let listed = table.aliases(width(10).range());
        let listed: Vec<_> = listed
            .map(|alias| {
                let below = alias.below.map(|below| below.get());
                (alias.guest.get(), (alias.handle, below))
            })
            .collect();
        let expected: Vec<_> = plain.tables[level].iter().map(|(&n, &e)| (n, e)).collect();
        assert_eq!(listed, expected);
    }
    let statistics = real.set.statistics();
    let live = plain.allocations.values().filter(|a| a.live).count() as u32;
    let freeing = plain.allocations.len() as u32 - live;
    assert_eq!((statistics.live, statistics.freeing), (live, freeing));
}

#[test]
fn random_calls_agree_with_plain_maps() {
    for seed in 0..3 {
        let mut random = fastrand::Rng::with_seed(seed);
        let space = both();
        let set = global(&space);
        set.preload(width(8).range()).unwrap();
        let map = AliasMap::new();
        let mut tables = vec![map.add_table(width(10), &set).unwrap()];
        while tables.len() < LEVELS {
            let above = map.add_nested(width(10), tables.last().unwrap());
            tables.push(above.unwrap());
        }
        for table in &tables {
            table.preload(width(8).range()).unwrap();
        }
        let mut plain = Plain::default();
        let (owned, held, known) = (Vec::new(), Vec::new(), Vec::new());
        let set = &set;
        let mut real = Real {
            set,
            tables,
            owned,
            held,
            known,
        };
        let mut met = [[0_u32; 2]; KINDS];
        for number in 0..STEPS {
            let (kind, done) = step(&mut random, &mut plain, &mut real);
            met[kind][usize::from(done)] += 1;
            if number % 16 == 0 {
                compare(&plain, &real);
            }
        }
        compare(&plain, &real);
        // Each kind of call did something, often.
        assert!(met.iter().all(|[_, done]| *done > 100), "{met:?}");
        for handle in real.held.drain(..) {
            assert_eq!(put(set, handle), Ok(()));
        }
        for handle in real.owned.drain(..) {
            assert_eq!(free(set, handle), Ok(()));
        }
        drop((real, map));
        let statistics = set.statistics();
        assert_eq!((statistics.live, statistics.freeing), (0, 0));
    }
}
