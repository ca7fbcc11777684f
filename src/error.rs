// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one error type of the crate.

use crate::handle::Handle;
use crate::kind::SpaceKind;
use crate::pasid::{Pasid, PasidWidth};
use crate::range::PasidRange;
use crate::requester::RequesterId;

mod text;

/// `core::result::Result` with this crate's [`Error`].
///
/// ```
/// fn first() -> pasid::Result<pasid::Pasid> {
///     pasid::Pasid::new(1)
/// }
/// assert_eq!(first().map(|pasid| pasid.get()), Ok(1));
/// ```
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why a call failed. A call that fails has changed nothing but the memory in use:
/// where it put some in place before it failed, that stays.
///
/// Each failure is a variant of its own and carries the value that caused it.
/// For C there are two numbers: [`errno`](Error::errno), which is Linux's and
/// coarse, and [`code`](Error::code), which is one for each variant.
///
/// # Examples
/// ```
/// use pasid::{Error, Pasid};
///
/// let error = Pasid::new(1 << 20).unwrap_err();
/// assert_eq!(error, Error::InvalidPasid { value: 1 << 20 });
/// assert_eq!(error.errno(), 22);
/// assert_eq!(error.to_string(), "1048576 is not a PASID: it needs more than 20 bits");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The number needs more than 20 bits. `EINVAL`.
    InvalidPasid {
        /// The number that was given.
        value: u32,
    },
    /// The width is above 20 bits. `EINVAL`.
    InvalidWidth {
        /// The width that was given, in bits.
        bits: u32,
    },
    /// The range is empty. `EINVAL`.
    InvalidRange {
        /// The first PASID that was given.
        first: Pasid,
        /// The last PASID that was given, below `first` or used up.
        last: Pasid,
    },
    /// The word is not the raw form of a handle. `EINVAL`.
    InvalidHandle {
        /// The word that was given.
        raw: u64,
    },
    /// No PASID of the request was free at some instant during the call. `ENOSPC`.
    Exhausted {
        /// The range that was searched.
        range: PasidRange,
    },
    /// No PASID of the request was free, but some wait for a flush, or a flush is just giving
    /// back PASIDs of the same id space. `EAGAIN`.
    ///
    /// What waits is looked for in the set's own id space, for a local or group set also among
    /// the global PASIDs, and for a group at its tables. What keeps a number from a global set
    /// because it waits at a table, or from a local set because it waits in a group, is
    /// *exhausted*.
    AwaitingFlush {
        /// The range that was searched.
        range: PasidRange,
    },
    /// The set may have no more PASIDs. `EDQUOT`.
    QuotaExceeded {
        /// The set's quota, in PASIDs.
        quota: u32,
    },
    /// There was no memory; every free PASID of the request lies where none is. `ENOMEM`.
    OutOfMemory,
    /// The PASID is reserved and never handed out. `EPERM`.
    Reserved(Pasid),
    /// The PASID has more bits than the table or space. `EOVERFLOW`.
    DoesNotFit {
        /// The PASID that is too wide.
        pasid: Pasid,
        /// The width that it does not fit.
        width: PasidWidth,
    },
    /// The address space has a PASID already, which the limits of who binds exclude.
    /// `EOVERFLOW`.
    OutsideLimits {
        /// The PASID that the address space has.
        pasid: Pasid,
        /// The limits that were given.
        limits: PasidRange,
    },
    /// The table has no PASID support: its width is 0. `EOPNOTSUPP`.
    NoPasidSupport,
    /// A global set holds the PASID. `EBUSY`.
    HeldGlobally(Pasid),
    /// A local or group set holds the PASID. `EBUSY`.
    HeldLocally(Pasid),
    /// The PASID is attached to that table already. `EBUSY`.
    AlreadyAttached(Pasid),
    /// The PASID is pinned already. `EBUSY`.
    AlreadyPinned(Pasid),
    /// The PASID that was asked for is not free. `EBUSY`.
    InUse(Pasid),
    /// The table is paused around a device reset. `EBUSY`.
    Paused,
    /// The PASID is not allocated. `ENOENT`.
    NotFound(Pasid),
    /// The PASID is not attached to that table. `ENOENT`.
    NotAttached(Pasid),
    /// The PASID was revoked and waits for its last reference. `ESHUTDOWN`.
    BeingFreed(Pasid),
    /// The handle's allocation is over, or it is another space's. `ESTALE`.
    Stale(Handle),
    /// The PASID belongs to another set. `EACCES`.
    WrongSet(Pasid),
    /// The reference count is at its largest value. `EMLINK`.
    TooManyReferences(Handle),
    /// As many faults of the attachment wait for their response as can be counted. `EMLINK`.
    TooManyFaults(Pasid),
    /// The table or set is closing and takes no new calls. `ENODEV`.
    Closing,
    /// The address space is gone: its cell was retired. `ESHUTDOWN`.
    CellRetired,
    /// None of the range is the set's. `EINVAL`.
    OutsideSet {
        /// The range that was asked for.
        range: PasidRange,
    },
    /// The space has no sets of that scope. `EINVAL`.
    WrongKind {
        /// The kind of the space.
        kind: SpaceKind,
    },
    /// The scope names no table, one twice, or one of another space. `EINVAL`.
    InvalidScope,
    /// The set was built without a quota. `EINVAL`.
    NoQuota,
    /// The space has no room for that quota. `EDQUOT`.
    CapacityExceeded {
        /// What is left of the capacity, in PASIDs.
        left: u32,
    },
    /// There are 1,023 sets there already, as many as can be told apart. `ENOSPC`.
    TooManySets,
    /// So many virtual tables lie over one another already. `ENOSPC`.
    TooManyLevels {
        /// The most that may.
        levels: u32,
    },
    /// More than the new quota is in use. `EBUSY`.
    QuotaInUse {
        /// What is in use, in PASIDs.
        used: u32,
    },
    /// Another set has that token. `EBUSY`.
    TokenInUse {
        /// The token that was given.
        token: u64,
    },
    /// The device is one of the table's already. `EBUSY`.
    DeviceJoined(RequesterId),
    /// The device is none of the table's. `ENOENT`.
    DeviceNotJoined(RequesterId),
    /// The answer lies behind the bytes that could be read. `EINVAL`.
    ConfigSpaceTruncated {
        /// How many bytes of the 4096 there are.
        len: usize,
    },
    /// The configuration space reads as all ones: the device is gone. `ENODEV`.
    DeviceGone,
    /// The capability list comes back to an entry it has passed. `EINVAL`.
    CapabilityListLoop {
        /// Offset of the entry that is reached twice, in bytes.
        offset: u16,
    },
    /// The capability list leads to where no capability can be. `EINVAL`.
    CapabilityListBroken {
        /// The bad offset, in bytes.
        offset: u16,
    },
    /// A PASID capability cannot be placed there, or there is one there already. `EINVAL`.
    CapabilityMisplaced {
        /// The offset that cannot be used or is in use, in bytes.
        offset: u16,
    },
}

// Numbers of Linux's generic errno list (include/uapi/asm-generic/errno.h and
// errno-base.h), which x86, Arm and RISC-V share.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const EMLINK: i32 = 31;
const EOVERFLOW: i32 = 75;
const EOPNOTSUPP: i32 = 95;
const ESHUTDOWN: i32 = 108;
const ESTALE: i32 = 116;
const EDQUOT: i32 = 122;

impl Error {
    /// The Linux error number, positive, for every variant.
    ///
    /// Several variants share a number; [`code`](Error::code) tells them
    /// apart. The numbers are those of x86, Arm and RISC-V (Linux's
    /// `asm-generic/errno.h`), on every target.
    ///
    /// ```
    /// use pasid::{Error, Pasid};
    ///
    /// assert_eq!(Error::OutOfMemory.errno(), 12); // ENOMEM
    /// assert_eq!(Error::InUse(Pasid::ZERO).errno(), Error::Paused.errno()); // EBUSY
    /// ```
    #[must_use]
    pub const fn errno(self) -> i32 {
        match self {
            Error::InvalidPasid { .. }
            | Error::InvalidWidth { .. }
            | Error::InvalidRange { .. }
            | Error::InvalidHandle { .. }
            | Error::ConfigSpaceTruncated { .. }
            | Error::CapabilityListLoop { .. }
            | Error::CapabilityListBroken { .. }
            | Error::CapabilityMisplaced { .. }
            | Error::OutsideSet { .. }
            | Error::WrongKind { .. }
            | Error::InvalidScope
            | Error::NoQuota => EINVAL,
            Error::Exhausted { .. } | Error::TooManySets | Error::TooManyLevels { .. } => ENOSPC,
            Error::AwaitingFlush { .. } => EAGAIN,
            Error::QuotaExceeded { .. } | Error::CapacityExceeded { .. } => EDQUOT,
            Error::OutOfMemory => ENOMEM,
            Error::Reserved(_) => EPERM,
            Error::DoesNotFit { .. } | Error::OutsideLimits { .. } => EOVERFLOW,
            Error::NoPasidSupport => EOPNOTSUPP,
            Error::HeldGlobally(_)
            | Error::HeldLocally(_)
            | Error::AlreadyAttached(_)
            | Error::AlreadyPinned(_)
            | Error::InUse(_)
            | Error::QuotaInUse { .. }
            | Error::TokenInUse { .. }
            | Error::DeviceJoined(_)
            | Error::Paused => EBUSY,
            Error::NotFound(_) | Error::NotAttached(_) | Error::DeviceNotJoined(_) => ENOENT,
            Error::BeingFreed(_) | Error::CellRetired => ESHUTDOWN,
            Error::Stale(_) => ESTALE,
            Error::WrongSet(_) => EACCES,
            Error::TooManyReferences(_) | Error::TooManyFaults(_) => EMLINK,
            Error::Closing | Error::DeviceGone => ENODEV,
        }
    }

    /// The number of the variant, for C and for logs.
    ///
    /// Never 0, one for each variant, and never given to another one later.
    ///
    /// ```
    /// use pasid::{Error, Pasid};
    ///
    /// assert_eq!(Error::InUse(Pasid::ZERO).code(), 33);
    /// assert_eq!(Error::Paused.code(), 34);
    /// ```
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Error::InvalidPasid { .. } => 1,
            Error::InvalidWidth { .. } => 2,
            Error::InvalidRange { .. } => 3,
            Error::InvalidHandle { .. } => 4,
            Error::Exhausted { .. } => 10,
            Error::AwaitingFlush { .. } => 11,
            Error::QuotaExceeded { .. } => 12,
            Error::OutOfMemory => 13,
            Error::Reserved(_) => 20,
            Error::DoesNotFit { .. } => 21,
            Error::NoPasidSupport => 22,
            Error::OutsideLimits { .. } => 23,
            Error::HeldGlobally(_) => 30,
            Error::HeldLocally(_) => 31,
            Error::AlreadyAttached(_) => 32,
            Error::InUse(_) => 33,
            Error::Paused => 34,
            Error::NotFound(_) => 40,
            Error::NotAttached(_) => 41,
            Error::BeingFreed(_) => 42,
            Error::Stale(_) => 43,
            Error::WrongSet(_) => 44,
            Error::TooManyReferences(_) => 45,
            Error::Closing => 46,
            Error::TooManyFaults(_) => 48,
            Error::CellRetired => 49,
            Error::OutsideSet { .. } => 5,
            Error::WrongKind { .. } => 6,
            Error::InvalidScope => 7,
            Error::NoQuota => 8,
            Error::CapacityExceeded { .. } => 14,
            Error::TooManySets => 15,
            Error::TooManyLevels { .. } => 16,
            Error::QuotaInUse { .. } => 35,
            Error::TokenInUse { .. } => 36,
            Error::DeviceJoined(_) => 37,
            Error::AlreadyPinned(_) => 38,
            Error::DeviceNotJoined(_) => 47,
            Error::ConfigSpaceTruncated { .. } => 60,
            Error::DeviceGone => 61,
            Error::CapabilityListLoop { .. } => 62,
            Error::CapabilityListBroken { .. } => 63,
            Error::CapabilityMisplaced { .. } => 64,
        }
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests;
