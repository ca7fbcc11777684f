// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flushes beside their shadow: what has begun is entered, and leaves before the space is
//! told that it is over.

use crate::counts::Met;
use crate::info::{Everything, SetInfo};
use crate::waiting::Batches;
use pasid::{Flush, Flusher, IoasidSet, PasidRange, Ticket};
use std::sync::{Arc, OnceLock, Weak};

/// The numbers of some ranges.
fn numbers(ranges: impl Iterator<Item = PasidRange>) -> impl Iterator<Item = u32> {
    ranges.flat_map(|range| range.first().get()..=range.last().get())
}

/// The shadow of one ticket.
pub struct Begun {
    space: Arc<Everything>,
    batches: Arc<Batches>,
    begun: u64,
    numbers: Vec<u32>,
}

impl Begun {
    /// The caller has the ticket.
    #[track_caller]
    pub fn new<F: Flush>(
        space: &Arc<Everything>,
        batches: &Arc<Batches>,
        ticket: &Ticket<F>,
    ) -> Begun {
        let begun = space.now();
        let numbers: Vec<u32> = numbers(ticket.ranges()).collect();
        assert_eq!(
            ticket.count() as usize,
            numbers.len(),
            "broken: a wrong count"
        );
        for &number in &numbers {
            batches.take(number);
            if let Some(id) = batches.owner(number) {
                space.info_of(id).check_vacant(number);
            }
        }
        if !numbers.is_empty() && batches.begin() {
            space.counts.add(Met::TwoFlushes);
        }
        Begun {
            space: Arc::clone(space),
            batches: Arc::clone(batches),
            begun,
            numbers,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// A part is about to be put back.
    #[track_caller]
    pub fn put_back_on(&mut self, ranges: impl Iterator<Item = PasidRange>) -> u32 {
        let gone: Vec<u32> = numbers(ranges).collect();
        for &number in &gone {
            assert!(
                self.numbers.contains(&number),
                "broken: {number} is not of the batch"
            );
            self.batches.let_go(number);
        }
        let any = !self.numbers.is_empty();
        self.numbers.retain(|number| !gone.contains(number));
        if any && self.numbers.is_empty() {
            self.batches.end();
        }
        gone.len() as u32
    }

    /// The ticket is about to be completed, or dropped. Returns how many PASIDs it has.
    #[track_caller]
    pub fn ends(self, completes: bool) -> u32 {
        for &number in &self.numbers {
            if completes && let Some(id) = self.batches.owner(number) {
                self.space.info_of(id).returns(number, self.begun);
            }
            self.batches.let_go(number);
        }
        if !self.numbers.is_empty() {
            self.batches.end();
        }
        self.numbers.len() as u32
    }
}

/// Flushes at once, and fails if it is told to.
pub fn flush<F: Flush>(holder: F, space: &Arc<Everything>, batches: &Arc<Batches>, fails: bool) {
    let mut expected = 0;
    let flushed = holder.flush(|ticket| {
        expected = Begun::new(space, batches, ticket).ends(!fails);
        match fails {
            true => Err("no answer"),
            false => Ok(()),
        }
    });
    match flushed {
        Ok(returned) => assert_eq!(returned, expected, "broken: a wrong count"),
        Err(_) => space.counts.add(Met::FlushFailed),
    }
}

/// What a set's allocations run when nothing else is free.
pub struct Installed {
    set: OnceLock<Weak<IoasidSet>>,
    info: Weak<SetInfo>,
}

impl Installed {
    pub fn new(info: &Arc<SetInfo>) -> Arc<Installed> {
        Arc::new(Installed {
            set: OnceLock::new(),
            info: Arc::downgrade(info),
        })
    }

    pub fn install(&self, set: &Arc<IoasidSet>) {
        assert!(self.set.set(Arc::downgrade(set)).is_ok());
    }
}

impl Flusher for Installed {
    fn flush(&self) {
        let set = self.set.get().and_then(Weak::upgrade);
        if let (Some(set), Some(info)) = (set, self.info.upgrade()) {
            info.space.counts.add(Met::FlusherRan);
            flush(&*set, &info.space, &info.batches, false);
        }
    }
}
