// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is counted of the flushes of one id space: by these counts an allocation knows
//! that it missed nothing (W3 in `quarantine.rs`), and a set that goes away that no flush
//! has a credit of it.

use crate::sync::{AtomicU64, Mutation, Ordering, const_unless_loom, planted};

/// What the flushes of one id space count.
pub(crate) struct Quarantine {
    /// Batches that were begun and not completed or put back.
    in_flight: AtomicU64,
    /// Those of them that are just being given back.
    completing: AtomicU64,
    completed: AtomicU64,
    /// Batches that were put back.
    put_back: AtomicU64,
    /// PASIDs of the completed batches.
    returned: AtomicU64,
}

/// What the flushes of an id space came to, see [`Flush::flushes`](crate::Flush::flushes).
///
/// ```
/// use pasid::{Error, Flush, Pool, Reuse, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set(SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush))?;
/// drop((set.alloc(set.range(), 0)?, set.alloc(set.range(), 0)?));
/// let ticket = space.begin_flush();
/// assert_eq!(space.flushes().in_flight, 1);
/// ticket.complete();
/// let flushes = space.flushes();
/// assert_eq!((flushes.in_flight, flushes.completed, flushes.returned), (0, 1, 2));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct FlushStatistics {
    /// Flushes that began and are not over.
    pub in_flight: u64,
    /// Flushes that completed, empty ones left out.
    pub completed: u64,
    /// PASIDs that they made allocatable again.
    pub returned: u64,
}

impl FlushStatistics {
    pub(crate) const NONE: FlushStatistics = FlushStatistics {
        in_flight: 0,
        completed: 0,
        returned: 0,
    };
}

impl Quarantine {
    const_unless_loom! {
        pub(crate) fn new() -> Quarantine {
            Quarantine {
                in_flight: AtomicU64::new(0),
                completing: AtomicU64::new(0),
                completed: AtomicU64::new(0),
                put_back: AtomicU64::new(0),
                returned: AtomicU64::new(0),
            }
        }
    }

    /// Counts a batch, before anything of it is taken.
    pub(crate) fn begin(&self) {
        // SeqCst: comes before the exchanges of `take_waiting`, which release; see
        // `is_in_flight`.
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes a batch out of the count, which is over or had nothing from the beginning.
    pub(crate) fn end(&self) {
        // Release: pairs with the acquire of `is_in_flight`: who sees no batch in flight
        // sees what became of it.
        self.in_flight.fetch_sub(1, Ordering::Release);
    }

    /// Counts a batch as being completed, before anything of it is given back.
    pub(crate) fn begin_completing(&self) {
        if planted(Mutation::CompletingUncounted) {
            return;
        }
        // Relaxed: whoever sees a slot of the batch without its wait acquires that, and so
        // sees this.
        self.completing.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a completed batch, of which `count` PASIDs were given back.
    pub(crate) fn complete(&self, count: u32) {
        // Relaxed: a statistic, which publishes nothing.
        self.returned.fetch_add(u64::from(count), Ordering::Relaxed);
        let over = match count {
            // All of it was put back before, table by table.
            0 => &self.put_back,
            _ => &self.completed,
        };
        if !planted(Mutation::CompletionUncounted) {
            // Release: pairs with the acquires of `over`: who sees the count sees the bits
            // given back, or the PASIDs waiting again (W3).
            over.fetch_add(1, Ordering::Release);
        }
        // Release: pairs with the acquire of `is_completing`: who does not see the batch
        // there any more sees it counted.
        let completing = u64::from(!planted(Mutation::CompletingUncounted));
        self.completing.fetch_sub(completing, Ordering::Release);
        self.end();
    }

    /// Counts a batch that was put back, after all of it was.
    pub(crate) fn put_back(&self) {
        if !planted(Mutation::PutBackUncounted) {
            // Release: pairs with the acquire of `over`: who sees the count sees the batch
            // waiting again (W3).
            self.put_back.fetch_add(1, Ordering::Release);
        }
        self.end();
    }

    pub(crate) fn completed(&self) -> u64 {
        // Acquire: pairs with `complete`.
        self.completed.load(Ordering::Acquire)
    }

    /// Batches that were completed or put back.
    pub(crate) fn over(&self) -> u64 {
        // Acquire: pairs with `put_back`.
        let put_back = self.put_back.load(Ordering::Acquire);
        put_back.wrapping_add(self.completed())
    }

    /// Whether a batch is just being given back, for who has looked at its slots before.
    pub(super) fn is_completing(&self) -> bool {
        // Acquire: pairs with `complete`.
        self.completing.load(Ordering::Acquire) != 0
    }

    /// Whether a batch is in flight, for who has looked for bits of what waits before.
    pub(crate) fn is_in_flight(&self) -> bool {
        // SeqCst: kept with the looks for bits. A bit that was missed because a batch had
        // taken it was taken after that batch was counted, and who acquired the exchange
        // sees that. Its acquire half pairs with `end`.
        self.in_flight.load(Ordering::SeqCst) != 0
    }

    pub(crate) fn read(&self) -> FlushStatistics {
        // Relaxed: statistics.
        FlushStatistics {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            completed: self.completed.load(Ordering::Relaxed),
            returned: self.returned.load(Ordering::Relaxed),
        }
    }
}
