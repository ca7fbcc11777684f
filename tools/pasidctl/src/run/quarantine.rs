// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the load knows of the PASIDs that await a flush, and the flushes themselves.
//!
//! A PASID waits in the shadow from the moment before its last put until the moment before
//! the flush that has it completes. Nobody may claim it meanwhile, it counts against the
//! quota, and it stands on its side.
//!
//! A flush covers a PASID only if it began after the last put. Flushes are numbered when
//! they have begun, and each PASID that comes to wait is stamped, before the last put, with
//! the number of the last flush so far. A flush that began after the put has a higher number
//! than the stamp; so one that has a PASID with its own stamp or a later one did not.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};

use pasid::{Flush, Flusher, Pasid, Table, Ticket};

use super::driver::Driver;
use super::rules::{Breach, Ledger, Rule};
use super::shadow::Words;

/// What all flushes of the load have come to, and what was seen broken.
#[derive(Debug, Default)]
pub struct Tally {
    /// What was seen broken, by whomever.
    pub ledger: Ledger,
    completed: AtomicU64,
    returned: AtomicU64,
    put_back: AtomicU64,
    checked: AtomicU64,
    /// Batches that were about to be given back, and those that were.
    returning: AtomicU64,
    over: AtomicU64,
}

impl Tally {
    /// How often the rule about flushes was checked.
    pub fn checked(&self) -> u64 {
        Tally::read(&self.checked)
    }

    /// Flushes that completed.
    pub fn completed(&self) -> u64 {
        Tally::read(&self.completed)
    }

    /// PASIDs that they made allocatable.
    pub fn returned(&self) -> u64 {
        Tally::read(&self.returned)
    }

    /// Flushes that failed or were given up, and tables on which one failed.
    pub fn put_back(&self) -> u64 {
        Tally::read(&self.put_back)
    }

    /// A look, for [`Tally::gave_back_since`].
    pub fn look(&self) -> u64 {
        // Acquire: pairs with the release of `end_giving_back`.
        self.over.load(Ordering::Acquire)
    }

    /// Whether a batch was just being given back at some moment since that look. Then an
    /// allocation for which nothing was free may have been told of a flush, though nothing
    /// of its request awaits one.
    pub fn gave_back_since(&self, look: u64) -> bool {
        // Relaxed: whoever was told so acquired what came before the release fence.
        self.returning.load(Ordering::Relaxed) > look
    }

    fn begin_giving_back(&self) {
        // Relaxed: the fence publishes it.
        self.returning.fetch_add(1, Ordering::Relaxed);
        // Release: comes before the allocator's own steps. Pairs with the acquire of whoever
        // sees one of them.
        fence(Ordering::Release);
    }

    fn end_giving_back(&self) {
        // Release: pairs with `look`: who sees the count comes after the steps.
        self.over.fetch_add(1, Ordering::Release);
    }

    fn read(count: &AtomicU64) -> u64 {
        // Relaxed: as in `add`.
        count.load(Ordering::Relaxed)
    }

    fn add(count: &AtomicU64, more: u64) {
        // Relaxed: a count, read after the threads are joined.
        count.fetch_add(more, Ordering::Relaxed);
    }

    fn judge(&self, verdict: Result<(), Breach>) {
        Tally::add(&self.checked, 1);
        if let Err(breach) = verdict {
            self.ledger.enter(breach);
        }
    }
}

/// What awaits a flush of one set, which has an id space's quarantine for itself.
pub struct Quarantine {
    /// How many flushes have begun.
    begun: AtomicU64,
    /// How many had begun before each PASID came to wait.
    stamps: Words,
    tally: Arc<Tally>,
}

/// How a flush ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All is invalidated.
    Complete,
    /// The invalidation failed.
    Fail,
    /// It failed on the set's first table, if it has one.
    FailOnTable,
}

impl Quarantine {
    /// Nothing waits.
    pub fn new(tally: &Arc<Tally>) -> Quarantine {
        Quarantine {
            begun: AtomicU64::new(0),
            stamps: Words::new(),
            tally: tally.clone(),
        }
    }

    /// The last reference to `pasid` is about to be given back.
    pub fn wait(&self, pasid: Pasid) {
        // Relaxed: as all steps of the shadow. Who flushes comes after the put.
        let begun = self.begun.load(Ordering::Relaxed);
        self.stamps.word(pasid).store(begun, Ordering::Relaxed);
    }

    /// A flush has begun: its number.
    pub fn begin(&self) -> u64 {
        // Relaxed: as in `wait`. The beginning comes after the puts that it covers.
        self.begun.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The flush with that number has taken `pasid`.
    ///
    /// # Errors
    /// *Flush*, if the last put came after its beginning.
    pub fn check_stamp(&self, pasid: Pasid, number: u64) -> Result<(), Breach> {
        // Relaxed: as in `wait`.
        let stamp = self.stamps.word(pasid).load(Ordering::Relaxed);
        if stamp < number {
            return Ok(());
        }
        let text = format!(
            "flush {number} has PASID {pasid}, whose last reference went after flush {stamp} began"
        );
        Err(Breach::new(Rule::Flush, text))
    }

    /// What the PASIDs of a batch must be, whose flush has begun.
    pub fn check_batch<F: Flush>(&self, driver: &Driver, ticket: &Ticket<F>) {
        let number = self.begin();
        for pasid in pasids(ticket) {
            let taken = driver.check_taken(pasid);
            self.tally
                .judge(taken.and_then(|()| self.check_stamp(pasid, number)));
        }
    }

    /// The PASIDs of a batch are about to be allocatable; then comes
    /// [`Quarantine::left_batch`].
    pub fn leave_batch<F: Flush>(&self, driver: &Driver, ticket: &Ticket<F>) {
        for pasid in pasids(ticket) {
            self.tally.judge(driver.flushed(pasid));
        }
        if !ticket.is_empty() {
            Tally::add(&self.tally.completed, 1);
            Tally::add(&self.tally.returned, ticket.count().into());
        }
        self.tally.begin_giving_back();
    }

    /// The PASIDs of the batch are allocatable.
    pub fn left_batch(&self) {
        self.tally.end_giving_back();
    }

    /// A batch is about to go back, to wait for another flush.
    pub fn put_back<F: Flush>(&self, ticket: &Ticket<F>) {
        if !ticket.is_empty() {
            Tally::add(&self.tally.put_back, 1);
        }
    }

    /// Flushes what has the driver's set, and ends as `end` says.
    pub fn flush<F: Flush>(&self, driver: &Driver, of: F, end: End) {
        let mut left = false;
        let flushed = of.flush(|ticket| {
            self.check_batch(driver, ticket);
            if end == End::Fail {
                self.put_back(ticket);
                return Err(());
            }
            if let (End::FailOnTable, Some(site)) = (end, driver.sites().first()) {
                self.put_back_on(ticket, &site.table);
            }
            self.leave_batch(driver, ticket);
            left = true;
            Ok(())
        });
        if left {
            self.left_batch();
        }
        debug_assert!(flushed.is_ok() || end == End::Fail);
    }

    /// Takes out of a batch what was attached to a table. That must be what the ticket said
    /// of the table.
    fn put_back_on<F: Flush>(&self, ticket: &mut Ticket<F>, table: &Table) {
        let (before, named) = (ticket.count(), ticket.ranges_on(table));
        let named = named.map(|range| range.count()).sum::<u32>();
        let left = ticket.put_back_on(table);
        let after = ticket.count();
        let holds = left == named && before - after == left && !ticket.concerns(table);
        self.tally.judge(if holds {
            Ok(())
        } else {
            let text = format!(
                "of a batch of {before} PASIDs {named} were attached to a table, \
                 {left} were put back and {after} stayed"
            );
            Err(Breach::new(Rule::Flush, text))
        });
        if left > 0 {
            Tally::add(&self.tally.put_back, 1);
        }
    }
}

/// Flushes a set when an allocation finds nothing else: installed where it is built, and
/// told of the set when that is there.
#[derive(Default)]
pub struct OnExhaustion(OnceLock<Weak<Driver>>);

impl OnExhaustion {
    /// Flushes that driver's set from now on.
    pub fn serve(&self, driver: &Arc<Driver>) {
        let _ = self.0.set(Arc::downgrade(driver));
    }
}

impl Flusher for OnExhaustion {
    fn flush(&self) {
        let driver = self.0.get().and_then(Weak::upgrade);
        if let Some((driver, quarantine)) = driver
            .as_ref()
            .and_then(|driver| Some((driver, driver.quarantine.as_ref()?)))
        {
            quarantine.flush(driver, &*driver.set, End::Complete);
        }
    }
}

fn pasids<F: Flush>(ticket: &Ticket<F>) -> impl Iterator<Item = Pasid> {
    ticket.ranges().flat_map(|range| {
        let numbers = range.first().get()..=range.last().get();
        numbers.filter_map(|number| Pasid::new(number).ok())
    })
}

#[cfg(test)]
mod tests {
    use super::super::driver::Reach;
    use super::super::id::Id;
    use super::super::phase::Phase;
    use super::super::plan::range;
    use super::super::shadow::{Row, SetNumber};
    use super::super::sides::Sides;
    use super::*;
    use pasid::{Pool, Reuse, Scope, SetConfig, Space, SpaceKind};

    fn driver(space: &Space, tally: &Arc<Tally>) -> Driver {
        let config = SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush);
        Driver {
            number: SetNumber(1),
            set: Arc::new(space.add_set(config).unwrap()),
            reach: Reach::Global(Arc::new(Row::new())),
            sides: Arc::new(Sides::new()),
            range: range(0, 100),
            hole: None,
            quota: None,
            quarantine: Some(Quarantine::new(tally)),
            phase: Phase::default(),
        }
    }

    #[test]
    fn a_flush_covers_what_was_put_before_it_began() {
        let (quarantine, pasid) = (Quarantine::new(&Arc::default()), Pasid::MAX);
        let first = quarantine.begin();
        assert!(quarantine.check_stamp(pasid, first).is_ok());
        quarantine.wait(pasid);
        let breach = quarantine.check_stamp(pasid, first).unwrap_err();
        assert_eq!(breach.rule, Rule::Flush);
        assert!(quarantine.check_stamp(pasid, quarantine.begin()).is_ok());
    }

    #[test]
    fn a_batch_has_what_the_shadow_says_waits() {
        let (space, tally) = (Space::new(SpaceKind::Both), Arc::new(Tally::default()));
        let driver = driver(&space, &tally);
        let quarantine = driver.quarantine.as_ref().unwrap();
        let (set, id) = (&*driver.set, Id::new(0, 1));
        for (serial, [released, early, failed]) in [
            [true, false, false],
            [false, false, true],
            [true, true, true],
        ]
        .into_iter()
        .enumerate()
        {
            let owned = set.alloc(set.range(), 0).unwrap();
            let (pasid, before) = (owned.pasid(), tally.ledger.total());
            driver.claim(pasid, id, 0).unwrap();
            // As if it were put after the flush began, whose number this is.
            let begun = quarantine.begun.load(Ordering::Relaxed);
            if early {
                quarantine.begun.store(begun + 1, Ordering::Relaxed);
            }
            if released {
                driver.release(pasid, id).unwrap();
            }
            quarantine.begun.store(begun, Ordering::Relaxed);
            drop(owned);
            let ticket = set.begin_flush();
            quarantine.check_batch(&driver, &ticket);
            assert_eq!(tally.ledger.total() - before, u64::from(failed), "{serial}");
            if !released {
                driver.release(pasid, id).unwrap();
            }
            drop(ticket);
            // The next one is right in every case.
            quarantine.flush(&driver, set, End::Fail);
            assert!(driver.claim(pasid, id.next(), 0).is_err(), "it waits still");
            quarantine.flush(&driver, set, End::Complete);
            driver.claim(pasid, id.next(), 0).unwrap();
            driver.release(pasid, id.next()).unwrap();
            driver.flushed(pasid).unwrap();
        }
        let counts = (tally.completed(), tally.returned(), tally.put_back());
        assert_eq!(counts, (3, 3, 3));
        assert_eq!(tally.ledger.failed(Rule::Flush), 2);
    }

    #[test]
    fn giving_back_is_seen_while_it_lasts() {
        let tally = Tally::default();
        let before = tally.look();
        assert!(!tally.gave_back_since(before));
        tally.begin_giving_back();
        let during = tally.look();
        assert!(tally.gave_back_since(before) && tally.gave_back_since(during));
        tally.end_giving_back();
        assert!(tally.gave_back_since(during) && !tally.gave_back_since(tally.look()));
    }
}
