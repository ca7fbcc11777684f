// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many threads bind, unbind and retire on real threads.

mod common;

use common::range;
use common::sets::table;
use pasid::{
    Error, IoasidSet, Observer, PasidCell, PasidRange, Policy, Ref, Scope, SetConfig, Space,
    SpaceKind,
};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

const THREADS: u64 = 4;
const ROUNDS: u64 = 60;
const STEPS: u32 = 1_500;
const CELLS: usize = 10;
/// Fewer PASIDs than cells, so that they run out.
const LAST: u32 = 7;

/// Knows which PASIDs there are between *allocated* and *reclaimed*.
#[derive(Default)]
struct Balance(AtomicI64);

impl Observer for Balance {
    fn allocated(&self, _: pasid::Handle, _: u64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn reclaimed(&self, _: pasid::Handle) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is held, as the threads note it: what, in the upper half, and by how many.
///
/// Noted after a binding was got and until before it is given up, so what is noted is held.
#[derive(Default)]
struct Held(AtomicU64);

impl Held {
    fn enter(&self, what: u32, complaint: &str) {
        let entered = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                let same = held >> 32 == u64::from(what) || held as u32 == 0;
                same.then_some(u64::from(what) << 32 | (u64::from(held as u32) + 1))
            });
        assert!(entered.is_ok(), "{complaint}: {what} beside {entered:?}");
    }

    fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Place<'a> {
    cell: PasidCell<&'a IoasidSet>,
    /// Which PASID is held by its bindings.
    pasid: Held,
    /// Set once a call that retired it has returned.
    retired: AtomicBool,
    number: u32,
}

/// One round: some cells, and for each PASID of which cell it is.
struct Round<'a> {
    places: Vec<Place<'a>>,
    owners: Vec<Held>,
}

/// How often something came out of it.
#[derive(Default, Clone, Copy, Debug)]
struct Outcomes {
    bound: u64,
    exhausted: u64,
    outside: u64,
    retired: u64,
}

type Binding<'a> = (usize, Ref<&'a IoasidSet>);

impl<'a> Round<'a> {
    fn new(set: &'a IoasidSet) -> Round<'a> {
        let place = |number: usize| Place {
            cell: match number % 2 {
                0 => PasidCell::new(set),
                _ => PasidCell::until_last_unbind(set),
            },
            pasid: Held::default(),
            retired: AtomicBool::new(false),
            number: number as u32,
        };
        Round {
            places: (0..CELLS).map(place).collect(),
            owners: (0..=LAST).map(|_| Held::default()).collect(),
        }
    }

    fn bind(
        &self,
        index: usize,
        limits: PasidRange,
        outcomes: &mut Outcomes,
    ) -> Option<Binding<'a>> {
        let place = &self.places[index];
        let over = place.retired.load(Ordering::Acquire);
        match place.cell.bind_in_place(limits, 0) {
            Ok(binding) => {
                assert!(!over, "a retired cell has bound");
                assert!(limits.contains(binding.pasid()));
                let number = binding.pasid().get();
                place.pasid.enter(number, "an address space has two PASIDs");
                let owner = &self.owners[number as usize];
                owner.enter(place.number, "two address spaces have one PASID");
                outcomes.bound += 1;
                return Some((index, binding));
            }
            Err(Error::Exhausted { .. } | Error::QuotaExceeded { .. }) => outcomes.exhausted += 1,
            Err(Error::OutsideLimits { .. }) => outcomes.outside += 1,
            Err(Error::CellRetired) => outcomes.retired += 1,
            // Revoked by who retires it just now.
            Err(Error::BeingFreed(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
        None
    }

    fn unbind(&self, (index, binding): Binding<'a>) {
        self.owners[binding.pasid().get() as usize].leave();
        self.places[index].pasid.leave();
        drop(binding);
    }

    fn work(&self, seed: u64) -> Outcomes {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut held, mut outcomes) = (Vec::new(), Outcomes::default());
        for _ in 0..STEPS {
            let index = random.usize(..CELLS);
            match random.u32(..1_000) {
                0 => {
                    self.places[index].cell.retire();
                    self.places[index].retired.store(true, Ordering::Release);
                }
                1..=500 => {
                    let limits = range(1, if random.u8(..8) == 0 { 3 } else { LAST });
                    held.extend(self.bind(index, limits, &mut outcomes));
                }
                _ if held.is_empty() => {}
                _ => self.unbind(held.swap_remove(random.usize(..held.len()))),
            }
            // So that the cells until the last unbind come to that.
            while held.len() > 4 {
                self.unbind(held.swap_remove(random.usize(..held.len())));
            }
        }
        held.into_iter().for_each(|binding| self.unbind(binding));
        outcomes
    }
}

fn stress(space: &Space, scope: Scope<'_>, policy: Policy) {
    let balance = Arc::new(Balance::default());
    let config = SetConfig::new(scope).range(range(1, LAST)).policy(policy);
    let observed = config.clone().quota(LAST).observer(balance.clone());
    for config in [config, observed] {
        let set = space.add_set(config).unwrap();
        set.preload(set.range()).unwrap();
        let mut all = Outcomes::default();
        for round in 0..ROUNDS {
            let cells = Round::new(&set);
            let cells = &cells;
            let one = |thread| move || cells.work(round * THREADS + thread);
            thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS)
                    .map(|thread| scope.spawn(one(thread)))
                    .collect();
                for thread in threads {
                    let outcomes = thread.join().unwrap();
                    all.bound += outcomes.bound;
                    all.exhausted += outcomes.exhausted;
                    all.outside += outcomes.outside;
                    all.retired += outcomes.retired;
                }
            });
            // The cells that stay have theirs, if they were not retired, and nobody else.
            for place in &cells.places {
                let stays = place.number % 2 == 0 && !place.cell.is_retired();
                assert!(stays || place.cell.find().is_none());
            }
            let bound = cells.places.iter().filter_map(|place| place.cell.find());
            assert_eq!(set.count_live(set.range()) as usize, bound.count());
        }
        assert_eq!(set.count_live(set.range()), 0, "a PASID is lost");
        let statistics = set.statistics();
        assert_eq!((statistics.live, statistics.freeing), (0, 0));
        assert_eq!(statistics.quota.map_or(0, |quota| quota.used), 0);
        assert_eq!(balance.0.load(Ordering::Relaxed), 0);
        println!("{all:?}");
        let each = [all.bound, all.exhausted, all.outside, all.retired];
        assert!(each.iter().all(|&count| count > 0), "{all:?}");
        set.close();
    }
}

#[test]
fn cells_beside_each_other_have_one_pasid_each_and_lose_none() {
    let space = Space::new(SpaceKind::Both);
    let tables = [table(&space, 16), table(&space, 8)];
    stress(&space, Scope::Global, Policy::Lowest);
    stress(&space, Scope::Local(&tables[0]), Policy::Next);
    stress(&space, Scope::Group(&tables), Policy::Lowest);
}

#[test]
fn with_one_pasid_left_all_who_bind_share_it() {
    const TIMES: u32 = 2_000;
    let space = Space::new(SpaceKind::Both);
    let config = SetConfig::new(Scope::Global).range(range(1, 1)).quota(1);
    let set = space.add_set(config).unwrap();
    set.preload(set.range()).unwrap();
    let (mut together, mut refused) = (0, 0);
    for time in 0..TIMES {
        let cell = match time % 2 {
            0 => PasidCell::new(&set),
            _ => PasidCell::until_last_unbind(&set),
        };
        let (begin, bound) = (Barrier::new(3), AtomicBool::new(false));
        let bind = || {
            begin.wait();
            let mut early = 0;
            loop {
                let bound_before = bound.load(Ordering::Acquire);
                match cell.bind_in_place(set.range(), 0) {
                    Ok(binding) => {
                        bound.store(true, Ordering::Release);
                        return (binding, early);
                    }
                    // Where the other has it, and has not bound yet.
                    Err(Error::Exhausted { .. } | Error::QuotaExceeded { .. }) => {
                        assert!(!bound_before, "a bound cell was taken for exhausted");
                        early += 1;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        thread::scope(|scope| {
            let threads = [scope.spawn(bind), scope.spawn(bind), scope.spawn(bind)];
            let bindings = threads.map(|thread| thread.join().unwrap());
            let [(one, _), (two, _), (three, _)] = &bindings;
            assert!(one.handle() == two.handle() && two.handle() == three.handle());
            together += 1;
            refused += bindings.iter().map(|(_, early)| early).sum::<u32>();
        });
    }
    println!("{together} times, refused before anybody had bound: {refused}");
    assert_eq!(set.quota().map(|quota| quota.used), Some(0));
}
