// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flushes beside everything else: at once or with a ticket that is completed later, by
//! whom the PASIDs belong to, and with invalidations that fail.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use pasid::{Error, Flush, IoasidSet, PasidRange, Result, Ticket};

use super::driver::Driver;
use super::measure::Kind;
use super::quarantine::{End, Quarantine};
use super::rules::{Rule, outcome};
use super::worker::Worker;
use super::world::lock;

/// A flush that is under way.
pub(super) struct Flushing {
    driver: Arc<Driver>,
    ticket: Ticket<Arc<IoasidSet>>,
}

/// What a set has by its own account: live, freeing, waiting and pinned.
fn left(driver: &Driver) -> [u32; 4] {
    let statistics = driver.set.statistics();
    [
        statistics.live,
        statistics.freeing,
        statistics.waiting,
        statistics.pinned,
    ]
}

impl Worker<'_> {
    /// The flush that is under way ends, or another begins.
    pub(super) fn flush_sometimes(&mut self) {
        if self.flushing.is_some() {
            let end = match self.rng.u8(..4) {
                0 => End::Fail,
                _ => End::Complete,
            };
            return self.end_flush(end);
        }
        let driver = self.random_driver();
        let Some(quarantine) = &driver.quarantine else {
            return;
        };
        if self.rng.bool() {
            return self.begin_flush(&driver, quarantine);
        }
        let end = match self.rng.u8(..8) {
            0 => End::Fail,
            1 => End::FailOnTable,
            _ => End::Complete,
        };
        let space = &self.world.builder.space;
        let (set, sites) = (&*driver.set, driver.sites());
        let flush = || match sites {
            [] => quarantine.flush(&driver, space, end),
            [site] => quarantine.flush(&driver, &*site.table, end),
            _ => quarantine.flush(&driver, set, end),
        };
        self.act(flush, Kind::Flush);
    }

    fn begin_flush(&mut self, driver: &Arc<Driver>, quarantine: &Quarantine) {
        let set = driver.set.clone();
        let ticket = self.act(|| set.begin_flush(), Kind::BeginFlush);
        quarantine.check_batch(driver, &ticket);
        self.flushing = Some(Flushing {
            driver: driver.clone(),
            ticket,
        });
    }

    /// Ends the flush that is under way, if there is one.
    pub(super) fn end_flush(&mut self, end: End) {
        let Some(Flushing { driver, ticket }) = self.flushing.take() else {
            return;
        };
        let Some(quarantine) = &driver.quarantine else {
            return;
        };
        if end != End::Complete {
            quarantine.put_back(&ticket);
            return self.act(|| drop(ticket), Kind::EndFlush);
        }
        quarantine.leave_batch(&driver, &ticket);
        let count = ticket.count();
        let returned = self.act(|| ticket.complete(), Kind::EndFlush);
        quarantine.left_batch();
        self.expect(Rule::Flush, returned == count, || {
            format!("a flush of {count} PASIDs returned {returned}")
        });
    }

    /// Flushes what waits of sets that are closed, and forgets those of which nothing is left
    /// and in which nobody can allocate any more.
    pub(super) fn flush_closed(&mut self) {
        let world = self.world;
        let mut closed = std::mem::take(&mut *lock(&world.closed));
        closed.retain(|driver| {
            let last = Arc::strong_count(driver) == 1;
            // Acquire: pairs with the release of all who had it, and gave something back.
            fence(Ordering::Acquire);
            self.flush_all(driver);
            // A fault may hold one of its PASIDs still.
            !last || left(driver) != [0; 4]
        });
        lock(&world.closed).extend(closed);
    }

    /// Flushes all that waits of a set.
    pub(super) fn flush_all(&mut self, driver: &Driver) {
        if let Some(quarantine) = &driver.quarantine {
            let set = &*driver.set;
            let flush = || quarantine.flush(driver, set, End::Complete);
            self.act(flush, Kind::Flush);
        }
    }

    /// Nothing is in the set, by its own account, in any phase.
    pub(super) fn expect_empty(&mut self, driver: &Driver) {
        let (left, number) = (left(driver), driver.number.0);
        self.expect(Rule::Exact, left == [0; 4], || {
            format!(
                "everything has been given back, and set {number} has \
                 (live, freeing, waiting, pinned): {left:?}"
            )
        });
    }

    /// Nothing of a request is free, and some of it waits: that is what must be said.
    pub(super) fn expect_awaiting<T>(&mut self, answer: &Result<T>, range: PasidRange) {
        let awaits = matches!(answer, Err(Error::AwaitingFlush { range: named })
            if range.contains(named.first()) && range.contains(named.last()));
        self.expect(Rule::Flush, awaits, || {
            let answer = outcome(answer);
            format!("alloc in {range}, where nothing is free and some await a flush: {answer}")
        });
    }
}
