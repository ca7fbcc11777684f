// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often each outcome was met.

use std::sync::atomic::{AtomicU64, Ordering};

/// An outcome. The first are those that must be met often enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    HeldGlobally,
    HeldLocally,
    QuotaRefused,
    NotAttached,
    Closing,
    /// Two tables have the same PASID at once, as they may.
    Overlap,
    /// A fault was answered, with its word checked.
    Fault,
    BeingFreed,
    AlreadyAttached,
    /// A PASID beyond the width of the table it was to be attached to.
    TooNarrow,
    WrongSet,
    Exhausted,
    /// A table knew of a group's PASID that it is being freed.
    RevokedInGroup,
    /// A device had joined, and nothing could be had beyond its width.
    Narrowed,
    /// A device could not join for what was attached beyond its width.
    JoinRefused,
    /// Nothing was free, and something awaited a flush.
    AwaitingFlush,
    /// A last reference went while a flush of its id space was in flight.
    FreedInFlight,
    /// Two flushes of one id space were in flight at once, each with a batch.
    TwoFlushes,
    /// A ticket was dropped with a batch.
    PutBack,
    /// A part of a batch was put back, for one table.
    PutBackOn,
    /// An invalidation failed.
    FlushFailed,
    /// An allocation ran the flush that was installed.
    FlusherRan,
    /// A PASID that had awaited a flush was handed out again, as late as it may (M7).
    Reused,
    /// The last reference went while the PASID was pinned.
    PinnedAtEnd,
    AlreadyPinned,
    Allocated,
    Attached,
    InUse,
    Reserved,
    NotFound,
    Stale,
    Paused,
    SetClosed,
    TableClosed,
    TableRefused,
    CapacityExceeded,
    QuotaInUse,
}

/// How many of them must be met often enough.
pub const REQUIRED: usize = 25;
const ALL: [Met; 37] = [
    Met::HeldGlobally,
    Met::HeldLocally,
    Met::QuotaRefused,
    Met::NotAttached,
    Met::Closing,
    Met::Overlap,
    Met::Fault,
    Met::BeingFreed,
    Met::AlreadyAttached,
    Met::TooNarrow,
    Met::WrongSet,
    Met::Exhausted,
    Met::RevokedInGroup,
    Met::Narrowed,
    Met::JoinRefused,
    Met::AwaitingFlush,
    Met::FreedInFlight,
    Met::TwoFlushes,
    Met::PutBack,
    Met::PutBackOn,
    Met::FlushFailed,
    Met::FlusherRan,
    Met::Reused,
    Met::PinnedAtEnd,
    Met::AlreadyPinned,
    Met::Allocated,
    Met::Attached,
    Met::InUse,
    Met::Reserved,
    Met::NotFound,
    Met::Stale,
    Met::Paused,
    Met::SetClosed,
    Met::TableClosed,
    Met::TableRefused,
    Met::CapacityExceeded,
    Met::QuotaInUse,
];

pub struct Counts([AtomicU64; ALL.len()]);

impl Default for Counts {
    fn default() -> Counts {
        Counts(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counts {
    pub fn add(&self, met: Met) {
        self.0[met as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn merge(&self, others: &Counts) {
        for (mine, others) in self.0.iter().zip(&others.0) {
            mine.fetch_add(others.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    pub fn each(&self) -> impl Iterator<Item = (Met, u64)> {
        let of = |&met: &Met| (met, self.0[met as usize].load(Ordering::Relaxed));
        ALL.iter().map(of)
    }
}
