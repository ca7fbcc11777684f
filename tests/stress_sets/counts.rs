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
pub const REQUIRED: usize = 12;
const ALL: [Met; 24] = [
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

#[derive(Default)]
pub struct Counts([AtomicU64; ALL.len()]);

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
