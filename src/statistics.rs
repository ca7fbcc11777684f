// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a set can tell of itself.

use crate::error::Error;
use crate::sync::{AtomicU64, Ordering};

/// What a set has, and what was refused.
///
/// Live and freeing PASIDs are counted when this is asked for. Numbers of other calls
/// running at that time are from one moment or another of it.
///
/// ```
/// use pasid::{Error, Pool, Reuse, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let config = SetConfig::new(Scope::Global).quota(2).reuse(Reuse::AfterFlush);
/// let set = space.add_set(config)?;
/// let owned = set.alloc(set.range(), 0)?;
/// drop(set.alloc(set.range(), 0)?);
/// assert!(set.alloc(set.range(), 0).is_err());
///
/// let of = set.statistics();
/// assert_eq!((of.live, of.freeing, of.waiting, of.pinned), (1, 0, 1, 0));
/// let quota = of.quota.expect("it has one");
/// assert_eq!((quota.limit, quota.used, quota.high_water, quota.allocations), (2, 2, 2, 2));
/// assert_eq!(of.failures.quota, 1);
///
/// // Freed, and somebody has a reference.
/// let _reference = owned.into_ref();
/// set.free_all();
/// assert_eq!(set.statistics().freeing, 1);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Statistics {
    /// PASIDs that are live.
    pub live: u32,
    /// PASIDs that were revoked and wait for their last reference, with those whose last
    /// reference is just going.
    pub freeing: u32,
    /// PASIDs whose last reference is gone and that await a flush.
    pub waiting: u32,
    /// PASIDs whose last reference is gone and that are pinned.
    pub pinned: u32,
    /// What is counted where the set has a quota; without one nothing is counted on the
    /// way of an allocation.
    pub quota: Option<QuotaStatistics>,
    /// Allocations that failed.
    pub failures: FailureStatistics,
}

/// What a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct QuotaStatistics {
    /// The quota, in PASIDs.
    pub limit: u32,
    /// PASIDs in use: live, being freed, awaiting a flush, pinned, and those of allocations
    /// in flight.
    pub used: u32,
    /// The most PASIDs that were in use at one time.
    pub high_water: u32,
    /// Allocations so far, with those that were given back because the set was closing.
    pub allocations: u64,
}

/// Allocations that failed, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct FailureStatistics {
    /// Nothing of the request was free, whether or not some awaited a flush.
    pub exhausted: u64,
    /// The quota was used up.
    pub quota: u64,
    /// There was no memory.
    pub out_of_memory: u64,
    /// The PASID that was asked for was in use, held by the other kind of sets, or reserved.
    pub in_use: u64,
    /// The request was not one of the set: outside its range, or too wide for its tables.
    pub misfit: u64,
    /// The set was closing.
    pub closing: u64,
}

const KINDS: usize = 6;

/// Counters of failures, which a failing call alone touches.
pub(crate) struct Failures([AtomicU64; KINDS]);

impl Failures {
    pub(crate) fn new() -> Failures {
        Failures(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Counts a failure.
    pub(crate) fn note(&self, error: &Error) {
        let kind = match error {
            Error::Exhausted { .. } | Error::AwaitingFlush { .. } => 0,
            Error::QuotaExceeded { .. } => 1,
            Error::OutOfMemory => 2,
            Error::InUse(_)
            | Error::HeldGlobally(_)
            | Error::HeldLocally(_)
            | Error::Reserved(_) => 3,
            Error::Closing => 5,
            _ => 4,
        };
        // Relaxed: a statistic, which publishes nothing.
        self.0[kind % KINDS].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> FailureStatistics {
        // Relaxed: as above.
        let of = |kind: usize| self.0[kind % KINDS].load(Ordering::Relaxed);
        FailureStatistics {
            exhausted: of(0),
            quota: of(1),
            out_of_memory: of(2),
            in_use: of(3),
            misfit: of(4),
            closing: of(5),
        }
    }
}
