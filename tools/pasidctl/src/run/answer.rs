// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answers of calls that are refused, to count them.

use pasid::Error;

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Exhausted.
    Exhausted,
    /// Exhausted, but some await a flush.
    AwaitingFlush,
    /// Quota exceeded.
    QuotaExceeded,
    /// Quota in use.
    QuotaInUse,
    /// Held globally.
    HeldGlobally,
    /// Held locally.
    HeldLocally,
    /// In use.
    InUse,
    /// Reserved.
    Reserved,
    /// Does not fit.
    DoesNotFit,
    /// Already attached.
    AlreadyAttached,
    /// Not attached.
    NotAttached,
    /// Not found.
    NotFound,
    /// Being freed.
    BeingFreed,
    /// Stale.
    Stale,
    /// Wrong set.
    WrongSet,
    /// Paused.
    Paused,
    /// Closing.
    Closing,
    /// Outside the set.
    OutsideSet,
    /// No memory in place.
    NoMemory,
    /// Something else.
    Other,
}

/// How many answers there are.
pub const ANSWERS: usize = 20;

impl Answer {
    /// Every answer, in the order in which they are listed.
    pub const ALL: [Answer; ANSWERS] = [
        Answer::Exhausted,
        Answer::AwaitingFlush,
        Answer::QuotaExceeded,
        Answer::QuotaInUse,
        Answer::HeldGlobally,
        Answer::HeldLocally,
        Answer::InUse,
        Answer::Reserved,
        Answer::DoesNotFit,
        Answer::AlreadyAttached,
        Answer::NotAttached,
        Answer::NotFound,
        Answer::BeingFreed,
        Answer::Stale,
        Answer::WrongSet,
        Answer::Paused,
        Answer::Closing,
        Answer::OutsideSet,
        Answer::NoMemory,
        Answer::Other,
    ];

    /// What the error is counted as.
    pub fn of(error: &Error) -> Answer {
        match error {
            Error::Exhausted { .. } => Answer::Exhausted,
            Error::AwaitingFlush { .. } => Answer::AwaitingFlush,
            Error::QuotaExceeded { .. } => Answer::QuotaExceeded,
            Error::QuotaInUse { .. } => Answer::QuotaInUse,
            Error::HeldGlobally(_) => Answer::HeldGlobally,
            Error::HeldLocally(_) => Answer::HeldLocally,
            Error::InUse(_) => Answer::InUse,
            Error::Reserved(_) => Answer::Reserved,
            Error::DoesNotFit { .. } => Answer::DoesNotFit,
            Error::AlreadyAttached(_) => Answer::AlreadyAttached,
            Error::NotAttached(_) => Answer::NotAttached,
            Error::NotFound(_) => Answer::NotFound,
            Error::BeingFreed(_) => Answer::BeingFreed,
            Error::Stale(_) => Answer::Stale,
            Error::WrongSet(_) => Answer::WrongSet,
            Error::Paused => Answer::Paused,
            Error::Closing => Answer::Closing,
            Error::OutsideSet { .. } => Answer::OutsideSet,
            Error::OutOfMemory => Answer::NoMemory,
            _ => Answer::Other,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Answer::Exhausted => "exhausted",
            Answer::AwaitingFlush => "awaiting a flush",
            Answer::QuotaExceeded => "quota exceeded",
            Answer::QuotaInUse => "quota in use",
            Answer::HeldGlobally => "held globally",
            Answer::HeldLocally => "held locally",
            Answer::InUse => "in use",
            Answer::Reserved => "reserved",
            Answer::DoesNotFit => "does not fit",
            Answer::AlreadyAttached => "already attached",
            Answer::NotAttached => "not attached",
            Answer::NotFound => "not found",
            Answer::BeingFreed => "being freed",
            Answer::Stale => "stale",
            Answer::WrongSet => "wrong set",
            Answer::Paused => "paused",
            Answer::Closing => "closing",
            Answer::OutsideSet => "outside the set",
            Answer::NoMemory => "no memory in place",
            Answer::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_indices() {
        for (index, answer) in Answer::ALL.into_iter().enumerate() {
            assert_eq!(answer as usize, index);
        }
        assert_eq!(Answer::of(&Error::Paused).name(), "paused");
    }
}
