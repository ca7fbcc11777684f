// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the calls cost: counts by kind, and a sample of their times.

use std::time::Instant;

use hdrhistogram::{CreationError, Histogram};

use super::answer::{ANSWERS, Answer};

/// A thread times one call out of this many.
pub const SAMPLE_EVERY: u32 = 32;

/// The longest time that is told apart from longer ones, in ns: ten seconds.
const LONGEST_NS: u64 = 10_000_000_000;
/// Two digits: up to 255 ns every value has its own bucket.
const DIGITS: u8 = 2;

/// A call, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An allocation that was given a PASID.
    Alloc,
    /// An allocation where hardly any is free, and each elsewhere in the range.
    AllocScarce,
    /// An allocation of one number that was given it.
    AllocAt,
    /// An allocation that was given none.
    AllocRefused,
    /// The owner's free: the drop of an `Owned`.
    Free,
    /// A revocation ahead of the owner's free.
    Revoke,
    /// A reference, by handle or number.
    Get,
    /// A reference, refused.
    GetRefused,
    /// One more reference for a holder of one.
    Clone,
    /// A reference given back: the drop of a `Ref`.
    Put,
    /// A look-up that found an owner.
    Find,
    /// A look-up that found none.
    FindNone,
    /// A get, put or free with a handle whose allocation is over, or is another space's.
    Stale,
    /// An attachment's beginning.
    Attach,
    /// An attachment that came to nothing.
    AttachRefused,
    /// An attachment.
    Commit,
    /// An attachment's word, replaced.
    Replace,
    /// An attachment's end.
    Detach,
    /// A fault that found an attachment.
    Fault,
    /// A fault that found none.
    FaultRefused,
    /// A fault's end.
    FaultPut,
    /// A flush, with the checks of its batch.
    Flush,
    /// A flush's beginning.
    BeginFlush,
    /// Its end: completed, or the batch put back.
    EndFlush,
    /// A table paused or resumed.
    Pause,
    /// A PASID reserved, in the space or on a table.
    Reserve,
    /// A reservation taken away.
    Unreserve,
    /// A table closed.
    Remove,
    /// A table or set added.
    Add,
}

/// How many kinds there are.
pub const KINDS: usize = 29;

impl Kind {
    /// Every kind, in the order in which they are listed.
    pub const ALL: [Kind; KINDS] = [
        Kind::Alloc,
        Kind::AllocScarce,
        Kind::AllocAt,
        Kind::AllocRefused,
        Kind::Free,
        Kind::Revoke,
        Kind::Get,
        Kind::GetRefused,
        Kind::Clone,
        Kind::Put,
        Kind::Find,
        Kind::FindNone,
        Kind::Stale,
        Kind::Attach,
        Kind::AttachRefused,
        Kind::Commit,
        Kind::Replace,
        Kind::Detach,
        Kind::Fault,
        Kind::FaultRefused,
        Kind::FaultPut,
        Kind::Flush,
        Kind::BeginFlush,
        Kind::EndFlush,
        Kind::Pause,
        Kind::Reserve,
        Kind::Unreserve,
        Kind::Remove,
        Kind::Add,
    ];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Alloc => "alloc",
            Kind::AllocScarce => "alloc_scarce",
            Kind::AllocAt => "alloc_at",
            Kind::AllocRefused => "alloc_refused",
            Kind::Free => "free",
            Kind::Revoke => "revoke",
            Kind::Get => "get",
            Kind::GetRefused => "get_refused",
            Kind::Clone => "clone",
            Kind::Put => "put",
            Kind::Find => "find",
            Kind::FindNone => "find_none",
            Kind::Stale => "stale",
            Kind::Attach => "attach",
            Kind::AttachRefused => "attach_refused",
            Kind::Commit => "commit",
            Kind::Replace => "replace",
            Kind::Detach => "detach",
            Kind::Fault => "fault_get",
            Kind::FaultRefused => "fault_refused",
            Kind::FaultPut => "fault_put",
            Kind::Flush => "flush",
            Kind::BeginFlush => "begin_flush",
            Kind::EndFlush => "end_flush",
            Kind::Pause => "pause",
            Kind::Reserve => "reserve",
            Kind::Unreserve => "unreserve",
            Kind::Remove => "remove",
            Kind::Add => "add",
        }
    }

    /// Its name in a table.
    pub fn title(self) -> &'static str {
        match self {
            Kind::AllocScarce => "alloc: the last free one",
            Kind::AllocRefused => "alloc, alloc_at: refused",
            Kind::GetRefused => "get: refused",
            Kind::FindNone => "find: refused",
            Kind::Stale => "get, put, free: stale",
            Kind::AttachRefused => "attach, commit: refused",
            Kind::FaultRefused => "fault_get: refused",
            Kind::FaultPut => "fault: answered",
            Kind::Flush => "flush, with checks",
            Kind::EndFlush => "complete or drop a ticket",
            Kind::Pause => "pause, resume",
            Kind::Remove => "close a table",
            Kind::Add => "add a table or set",
            _ => self.name(),
        }
    }
}

/// One thread's counts and times.
#[derive(Debug)]
pub struct Meter {
    calls: [u64; KINDS],
    answers: [u64; ANSWERS],
    times_ns: Vec<Histogram<u64>>,
    until_sample: u32,
}

impl Meter {
    /// Nothing counted. Memory: 28 KiB for each kind, 812 KiB in all.
    ///
    /// # Errors
    /// None, while the bounds above are what they are.
    pub fn new() -> Result<Meter, CreationError> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_NS, DIGITS);
        Ok(Meter {
            calls: [0; KINDS],
            answers: [0; ANSWERS],
            times_ns: (0..KINDS).map(|_| histogram()).collect::<Result<_, _>>()?,
            until_sample: 0,
        })
    }

    /// Makes a call, counts it as what `kind` says of its result, and times one
    /// in [`SAMPLE_EVERY`].
    #[inline]
    pub fn time<R>(
        &mut self,
        call: impl FnOnce() -> R,
        kind: impl FnOnce(&R) -> Option<Kind>,
    ) -> R {
        let sampled = self.until_sample == 0;
        let started = sampled.then(Instant::now);
        let result = call();
        let elapsed = started.map(|started| started.elapsed());
        self.until_sample = if sampled {
            SAMPLE_EVERY - 1
        } else {
            self.until_sample - 1
        };
        if let Some(kind) = kind(&result) {
            self.calls[kind as usize] += 1;
            if let Some(elapsed) = elapsed {
                let ns = u64::try_from(elapsed.as_nanos()).unwrap_or(LONGEST_NS);
                self.times_ns[kind as usize].saturating_record(ns);
            }
        }
        result
    }

    /// Counts what a call was refused with.
    #[inline]
    pub fn note<T>(&mut self, answer: &pasid::Result<T>) {
        if let Err(error) = answer {
            self.answers[Answer::of(error) as usize] += 1;
        }
    }

    /// How often that was the answer.
    pub fn answers(&self, answer: Answer) -> u64 {
        self.answers[answer as usize]
    }

    /// How many calls of `kind` there were.
    pub fn calls(&self, kind: Kind) -> u64 {
        self.calls[kind as usize]
    }

    /// How many calls there were.
    pub fn total(&self) -> u64 {
        self.calls.iter().sum()
    }

    /// The sampled times of `kind`, in ns.
    pub fn times_ns(&self, kind: Kind) -> &Histogram<u64> {
        &self.times_ns[kind as usize]
    }

    /// Adds another thread's counts and times.
    pub fn add(&mut self, other: &Meter) {
        for (sum, count) in self.answers.iter_mut().zip(other.answers) {
            *sum += count;
        }
        for kind in Kind::ALL {
            self.calls[kind as usize] += other.calls(kind);
            // The bounds are the same for all, so nothing is out of them.
            let _ = self.times_ns[kind as usize].add(other.times_ns(kind));
        }
    }
}

/// What reading the clock twice costs, in ns: the median of many. Every sampled
/// time contains it.
pub fn clock_ns() -> u64 {
    const READINGS: usize = 10_001;
    let mut readings: Vec<u128> = (0..READINGS)
        .map(|_| Instant::now().elapsed().as_nanos())
        .collect();
    readings.sort_unstable();
    u64::try_from(readings[READINGS / 2]).unwrap_or(LONGEST_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_indices() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn one_call_in_so_many_is_timed() {
        let mut meter = Meter::new().unwrap();
        for _ in 0..=SAMPLE_EVERY {
            meter.time(|| (), |()| Some(Kind::Find));
        }
        meter.time(|| (), |()| None);
        assert_eq!(meter.total(), u64::from(SAMPLE_EVERY) + 1);
        assert_eq!(meter.times_ns(Kind::Find).len(), 2);
        let mut sum = Meter::new().unwrap();
        sum.add(&meter);
        assert_eq!(sum.calls(Kind::Find), meter.calls(Kind::Find));
        assert_eq!(sum.times_ns(Kind::Find).len(), 2);
        assert!(clock_ns() < LONGEST_NS);
    }
}
