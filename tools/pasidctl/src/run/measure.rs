// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the calls cost: counts by kind, and a sample of their times.

use std::time::Instant;

use hdrhistogram::{CreationError, Histogram};

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
    /// An allocation that found none free.
    Exhausted,
    /// The owner's free: the drop of an `Owned`.
    Free,
    /// A revocation ahead of the owner's free.
    Revoke,
    /// A reference by handle.
    Get,
    /// A reference by handle, refused.
    GetRefused,
    /// A reference by number.
    GetAt,
    /// A reference by number, refused.
    GetAtRefused,
    /// One more reference for a holder of one.
    Clone,
    /// A reference given back: the drop of a `Ref`.
    Put,
    /// A look-up that found an owner.
    Find,
    /// A look-up that found none.
    FindNone,
    /// A get, put or free with a handle whose allocation is over, or is another
    /// space's.
    Stale,
    /// A PASID reserved.
    Reserve,
    /// A reservation taken away.
    Unreserve,
}

/// How many kinds there are.
pub const KINDS: usize = 16;

impl Kind {
    /// Every kind, in the order in which they are listed.
    pub const ALL: [Kind; KINDS] = [
        Kind::Alloc,
        Kind::AllocScarce,
        Kind::Exhausted,
        Kind::Free,
        Kind::Revoke,
        Kind::Get,
        Kind::GetRefused,
        Kind::GetAt,
        Kind::GetAtRefused,
        Kind::Clone,
        Kind::Put,
        Kind::Find,
        Kind::FindNone,
        Kind::Stale,
        Kind::Reserve,
        Kind::Unreserve,
    ];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Alloc => "alloc",
            Kind::AllocScarce => "alloc_scarce",
            Kind::Exhausted => "exhausted",
            Kind::Free => "free",
            Kind::Revoke => "revoke",
            Kind::Get => "get",
            Kind::GetRefused => "get_refused",
            Kind::GetAt => "get_at",
            Kind::GetAtRefused => "get_at_refused",
            Kind::Clone => "clone",
            Kind::Put => "put",
            Kind::Find => "find",
            Kind::FindNone => "find_none",
            Kind::Stale => "stale",
            Kind::Reserve => "reserve",
            Kind::Unreserve => "unreserve",
        }
    }

    /// Its name in a table.
    pub fn title(self) -> &'static str {
        match self {
            Kind::AllocScarce => "alloc: the last free one",
            Kind::Exhausted => "alloc: exhausted",
            Kind::GetRefused => "get: being freed or stale",
            Kind::GetAtRefused => "get_at: none there",
            Kind::FindNone => "find: none there",
            Kind::Stale => "get, put, free: stale",
            _ => self.name(),
        }
    }
}

/// One thread's counts and times.
#[derive(Debug)]
pub struct Meter {
    calls: [u64; KINDS],
    times_ns: Vec<Histogram<u64>>,
    until_sample: u32,
}

impl Meter {
    /// Nothing counted. Memory: 28 KiB for each kind, 448 KiB in all.
    ///
    /// # Errors
    /// None, while the bounds above are what they are.
    pub fn new() -> Result<Meter, CreationError> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_NS, DIGITS);
        Ok(Meter {
            calls: [0; KINDS],
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
