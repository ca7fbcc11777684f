// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run has met, and where a space and its model disagree.

use pasid::Error;
use std::collections::BTreeMap;
use std::fmt;

/// How often each call ended in each way.
pub type Report = BTreeMap<(Call, Answer), u64>;

/// The calls that a run makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the calls")]
pub enum Call {
    Alloc,
    AllocInPlace,
    AllocAt,
    Get,
    GetAt,
    OwnedGet,
    TryClone,
    Replace,
    IntoRef,
    HandleFromRaw,
    HolderFromRaw,
    DropOwned,
    DropRef,
    Put,
    Free,
    Revoke,
    Find,
    Iter,
    Reserve,
    Unreserve,
    Preload,
    Shrink,
    Pin,
    Unpin,
}

/// How a call can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the errors")]
pub enum Answer {
    Done,
    Exhausted,
    OutOfMemory,
    Reserved,
    DoesNotFit,
    NoPasidSupport,
    InUse,
    NotFound,
    BeingFreed,
    Stale,
    AlreadyPinned,
    InvalidHandle,
    /// An error that no run should meet.
    Unexpected,
}

impl Answer {
    /// What a result is called in the report.
    pub fn of<T>(result: &Result<T, Error>) -> Answer {
        match result {
            Ok(_) => Answer::Done,
            Err(Error::Exhausted { .. }) => Answer::Exhausted,
            Err(Error::OutOfMemory) => Answer::OutOfMemory,
            Err(Error::Reserved(_)) => Answer::Reserved,
            Err(Error::DoesNotFit { .. }) => Answer::DoesNotFit,
            Err(Error::NoPasidSupport) => Answer::NoPasidSupport,
            Err(Error::InUse(_)) => Answer::InUse,
            Err(Error::NotFound(_)) => Answer::NotFound,
            Err(Error::BeingFreed(_)) => Answer::BeingFreed,
            Err(Error::Stale(_)) => Answer::Stale,
            Err(Error::AlreadyPinned(_)) => Answer::AlreadyPinned,
            Err(Error::InvalidHandle { .. }) => Answer::InvalidHandle,
            Err(_) => Answer::Unexpected,
        }
    }
}

/// Where a space and its model disagree.
#[derive(Debug, Clone)]
pub struct Difference {
    /// How many operations went well before.
    pub after: u64,
    /// The call.
    pub call: String,
    /// What the space said.
    pub space: String,
    /// What the model said.
    pub model: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} operations, {}:", self.after, self.call)?;
        write!(f, "\n  the space says {}", self.space)?;
        write!(f, "\n  the model says {}", self.model)
    }
}

impl std::error::Error for Difference {}
