// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run has met.

use pasid::Error;
use std::collections::BTreeMap;

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
    FromRaw,
    DropOwned,
    DropRef,
    Put,
    Free,
    Revoke,
    Find,
    Preload,
    SetQuota,
    AddSet,
    AddTable,
    Join,
    Leave,
    ReserveOn,
    UnreserveOn,
    Reserve,
    Unreserve,
    PreloadTable,
    Attach,
    Commit,
    ReplaceAttached,
    FaultGet,
    BeginFlush,
    Complete,
    DropTicket,
    PutBackOn,
    Flush,
    Pin,
    Unpin,
}

/// How a call can end: `None` is well, otherwise the code of the error.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer(Option<(u32, &'static str)>);

macro_rules! names {
    ($error:expr, $($name:ident),*) => {
        match $error {
            $(Error::$name { .. } => stringify!($name),)*
            _ => "unexpected",
        }
    };
}

impl Answer {
    /// It went well.
    pub const DONE: Answer = Answer(None);

    /// What a result is called in the report.
    pub fn of<T>(result: &Result<T, Error>) -> Answer {
        match result {
            Ok(_) => Answer::DONE,
            Err(error) => Answer::error(error),
        }
    }

    /// What an error is called in the report.
    pub fn error(error: &Error) -> Answer {
        let name = names!(
            error,
            Exhausted,
            AwaitingFlush,
            AlreadyPinned,
            QuotaExceeded,
            OutOfMemory,
            Reserved,
            DoesNotFit,
            NoPasidSupport,
            HeldGlobally,
            HeldLocally,
            AlreadyAttached,
            InUse,
            Paused,
            NotFound,
            NotAttached,
            BeingFreed,
            Stale,
            WrongSet,
            Closing,
            OutsideSet,
            WrongKind,
            InvalidScope,
            NoQuota,
            CapacityExceeded,
            QuotaInUse,
            TokenInUse,
            DeviceJoined,
            DeviceNotJoined
        );
        Answer(Some((error.code(), name)))
    }

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        self.0.map_or("Done", |(_, name)| name)
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
