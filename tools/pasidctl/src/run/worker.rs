// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread of the load: the random mix of what happens on a machine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use fastrand::Rng;
use pasid::{Error, Fault, Handle, IoasidSet, Owned, Pasid, Ref, Result, Table};

use super::RunError;
use super::driver::{Driver, Site};
use super::flush::Flushing;
use super::id::Id;
use super::layout::Layout;
use super::measure::{Kind, Meter};
use super::quarantine::End;
use super::rules::{Breach, RULES, Rule, outcome};
use super::scarce::{EACH, Own};
use super::world::World;

/// How many handles of allocations that are over a thread remembers.
pub(super) const GONE: usize = 64;
/// How many references a thread holds.
const HELD: usize = 16;
/// After how many steps a thread says how far it is.
const PROGRESS_EVERY: u32 = 256;

/// A reference that a thread holds.
pub(super) struct Holding {
    pub(super) id: Id,
    pub(super) driver: Arc<Driver>,
    pub(super) reference: Ref<Arc<IoasidSet>>,
}

/// A fault that a thread has not answered yet.
pub(super) struct Faulting {
    pub(super) id: Id,
    pub(super) driver: Arc<Driver>,
    pub(super) fault: Fault<Arc<Table>>,
}

/// A PASID that a thread keeps reserved: on a table, or in the space.
pub(super) struct Reservation {
    pub(super) site: Option<Arc<Site>>,
    pub(super) pasid: Pasid,
}

/// A thread's own state. Nothing of it is shared.
pub struct Worker<'w> {
    pub(super) world: &'w World<'w>,
    pub(super) layout: Arc<Layout>,
    layouts: u64,
    pub(super) rng: Rng,
    pub(super) meter: Meter,
    /// How often each rule was checked.
    pub(super) checked: [u64; RULES],
    /// The highest PASID handed out.
    pub(super) highest: Option<Pasid>,
    /// Handles that are stale, or soon will be.
    pub(super) gone: Vec<(Handle, Id, Arc<Driver>)>,
    pub(super) held: Vec<Holding>,
    /// The fault being handled, until the page response is sent.
    pub(super) faulting: Option<Faulting>,
    pub(super) reservation: Option<Reservation>,
    /// The flush that this thread has begun, until the invalidation is done.
    pub(super) flushing: Option<Flushing>,
    /// How many PASIDs it was given.
    pub(super) serial: u64,
    /// The scarce PASIDs that this thread has.
    pub(super) scarce: Vec<Owned<&'w IoasidSet>>,
    /// A range that nobody else asks for.
    pub(super) own: Own,
    pub(super) index: usize,
}

impl<'w> Worker<'w> {
    /// Thread `index`, whose random numbers follow from `seed` and the index.
    ///
    /// # Errors
    /// Those of [`Meter::new`] and of [`Scarce::own`](super::scarce::Scarce::own).
    pub fn new(world: &'w World<'w>, seed: u64, index: usize) -> Result<Worker<'w>, RunError> {
        // An odd constant spreads neighbouring indices over all bits.
        let spread = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Ok(Worker {
            world,
            layouts: world.layouts(),
            layout: world.layout(),
            rng: Rng::with_seed(seed ^ spread),
            meter: Meter::new()?,
            checked: [0; RULES],
            highest: None,
            gone: Vec::with_capacity(GONE),
            held: Vec::with_capacity(HELD),
            faulting: None,
            reservation: None,
            flushing: None,
            serial: 0,
            scarce: Vec::with_capacity(EACH),
            own: world.second.scarce.own(index)?,
            index,
        })
    }

    /// Runs until `deadline`. Each thread looks at the clock itself: among many of
    /// them, whoever started them may not get to run in time. Every thread makes one
    /// round of the exact checks in any case.
    pub fn run(&mut self, deadline: Instant) {
        self.drill_all();
        while Instant::now() < deadline && !self.world.is_stopped() {
            for _ in 0..PROGRESS_EVERY {
                self.step();
            }
            self.world.set_progress(self.index, self.meter.total());
        }
        self.let_go();
    }

    /// Gives back all that the thread itself holds.
    fn let_go(&mut self) {
        self.answer_fault();
        for holding in std::mem::take(&mut self.held) {
            self.put(holding);
        }
        self.unreserve();
        self.end_flush(End::Complete);
        self.scarce.clear();
        self.gone.clear();
    }

    /// One thing that happens, out of ten thousand.
    fn step(&mut self) {
        if self.world.layouts() != self.layouts {
            self.layouts = self.world.layouts();
            self.layout = self.world.layout();
        }
        match self.rng.u32(..10_000) {
            0..2500 => self.bind_or_exit(),
            2500..4000 => self.attach(),
            4000..6000 => self.fault(),
            6000..6600 => self.replace_or_detach(),
            6600..7400 => self.look_up(),
            7400..7750 => self.look_anywhere(),
            7750..7900 => self.flush_sometimes(),
            7900..8500 => self.hold(),
            8500..8900 => self.share(),
            8900..9200 => self.use_stale(),
            9200..9300 => self.look_beyond(),
            9300..9500 => self.reserve_or_not(),
            9500..9600 => self.change_scarce(),
            9600..9650 => self.fill_own(),
            9650..9700 => self.pause(),
            9700..9750 => self.change_quota(),
            9750..9999 => self.drill(),
            _ => self.remove_sometimes(),
        }
    }

    /// Counts a check of `rule`, and enters the breach if there is one.
    #[inline]
    pub(super) fn judge(&mut self, rule: Rule, verdict: Result<(), Breach>) {
        self.checked[rule as usize] += 1;
        if let Err(breach) = verdict {
            self.world.ledger().enter(breach);
        }
    }

    /// Judges a condition; `text` says what is wrong when it does not hold.
    #[inline]
    pub(super) fn expect(&mut self, rule: Rule, holds: bool, text: impl FnOnce() -> String) {
        let verdict = if holds {
            Ok(())
        } else {
            Err(Breach::new(rule, text()))
        };
        self.judge(rule, verdict);
    }

    /// Makes a call, counted and timed as one kind or the other, and its answer too.
    #[inline]
    pub(super) fn call<T>(
        &mut self,
        call: impl FnOnce() -> Result<T>,
        done: Kind,
        refused: Kind,
    ) -> Result<T> {
        let kind = |answer: &Result<T>| Some(if answer.is_ok() { done } else { refused });
        let answer = self.meter.time(call, kind);
        self.meter.note(&answer);
        answer
    }

    /// Makes a call that cannot fail, counted and timed.
    #[inline]
    pub(super) fn act<T>(&mut self, call: impl FnOnce() -> T, kind: Kind) -> T {
        self.meter.time(call, |_| Some(kind))
    }

    pub(super) fn random_slot(&mut self) -> usize {
        self.rng.usize(..self.world.board.len())
    }

    /// Whether the shadow has that allocation, or had it. If not, whoever was given it has
    /// not come so far.
    pub(super) fn is_claimed(&self, id: Id) -> bool {
        let claimed = self.world.claimed.get(id.thread());
        // Acquire: pairs with the release in `bind`.
        claimed.is_some_and(|claimed| claimed.load(Ordering::Acquire) >= id.serial())
    }

    /// A set of the load.
    pub(super) fn random_driver(&mut self) -> Arc<Driver> {
        let layout = &self.layout;
        match self.rng.u8(..8) {
            0..4 => {
                let place = &layout.places[self.rng.usize(..layout.places.len())];
                place.locals[self.rng.usize(..2)].clone()
            }
            4..6 => layout.groups[self.rng.usize(..layout.groups.len())]
                .shared
                .clone(),
            _ => layout.globals[self.rng.usize(..2)].clone(),
        }
    }

    /// A table that a set reaches.
    pub(super) fn random_site(&mut self, driver: &Driver) -> Arc<Site> {
        let sites = driver.sites();
        if sites.is_empty() {
            let places = &self.layout.places;
            return places[self.rng.usize(..places.len())].site.clone();
        }
        sites[self.rng.usize(..sites.len())].clone()
    }

    /// Gives a scarce PASID back and takes one, which must be there.
    fn change_scarce(&mut self) {
        if self.scarce.len() == EACH {
            let owned = self.scarce.swap_remove(self.rng.usize(..EACH));
            self.act(|| drop(owned), Kind::Free);
        }
        let scarce = self.world.second.scarce;
        let answer = self.call(|| scarce.alloc(), Kind::AllocScarce, Kind::AllocRefused);
        self.expect(Rule::Exact, answer.is_ok(), || {
            let answer = outcome(&answer);
            format!("alloc in the second space, where one is free at every instant: {answer}")
        });
        self.scarce.extend(answer);
    }

    /// Takes the one PASID of this thread's own range, where it must be; then there
    /// is none; and when it is given back, there is one again.
    fn fill_own(&mut self) {
        let (scarce, own) = (self.world.second.scarce, self.own);
        for again in ["", " again, after it was given back"] {
            let alloc = || scarce.alloc_own(own);
            let answer = self.call(alloc, Kind::AllocScarce, Kind::AllocRefused);
            let given = answer
                .as_ref()
                .is_ok_and(|owned| owned.pasid() == own.pasid);
            self.expect(Rule::Exact, given, || {
                let (range, pasid, answer) = (own.range, own.pasid, outcome(&answer));
                format!("alloc in {range}, where {pasid} is free{again}: {answer}")
            });
            let second = self.call(alloc, Kind::AllocScarce, Kind::AllocRefused);
            let range = own.range;
            let refused = second.as_ref().err() == Some(&Error::Exhausted { range });
            self.expect(Rule::Exact, refused || answer.is_err(), || {
                let second = outcome(&second);
                format!("alloc in {range}, where none is free: {second}")
            });
            if let Ok(owned) = answer {
                self.act(|| drop(owned), Kind::Free);
            }
        }
    }
}
