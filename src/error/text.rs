// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an error says of itself.

use super::Error;
use core::fmt;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::InvalidPasid { value } => {
                write!(f, "{value} is not a PASID: it needs more than 20 bits")
            }
            Error::InvalidWidth { bits } => {
                write!(f, "a width of {bits} bits is reserved: there are up to 20")
            }
            Error::InvalidRange { first, last } => write!(f, "the range {first}..={last} is empty"),
            Error::InvalidHandle { raw } => write!(f, "{raw:#018x} is not a handle"),
            Error::Exhausted { range } => write!(f, "no PASID of {range} is free"),
            Error::AwaitingFlush { range } => {
                write!(f, "no PASID of {range} is free, but some wait for a flush")
            }
            Error::QuotaExceeded { quota } => write!(f, "the set's quota of {quota} is used up"),
            Error::OutOfMemory => f.write_str("out of memory"),
            Error::Reserved(pasid) => write!(f, "PASID {pasid} is reserved"),
            Error::DoesNotFit { pasid, width } => {
                write!(f, "PASID {pasid} does not fit a width of {width}")
            }
            Error::OutsideLimits { pasid, limits } => {
                write!(f, "the bound PASID {pasid} is not within {limits}")
            }
            Error::NoPasidSupport => f.write_str("the table has no PASID support"),
            Error::HeldGlobally(pasid) => write!(f, "PASID {pasid} is held by a global set"),
            Error::HeldLocally(pasid) => write!(f, "PASID {pasid} is held by a local or group set"),
            Error::AlreadyPinned(pasid) => write!(f, "PASID {pasid} is pinned already"),
            Error::AlreadyAttached(pasid) => write!(f, "PASID {pasid} is attached already"),
            Error::InUse(pasid) => write!(f, "PASID {pasid} is in use"),
            Error::Paused => f.write_str("the table is paused"),
            Error::NotFound(pasid) => write!(f, "PASID {pasid} is not allocated"),
            Error::NotAttached(pasid) => write!(f, "PASID {pasid} is not attached"),
            Error::BeingFreed(pasid) => write!(f, "PASID {pasid} is being freed"),
            Error::Stale(handle) => write!(f, "handle {handle} is stale"),
            Error::WrongSet(pasid) => write!(f, "PASID {pasid} belongs to another set"),
            Error::TooManyReferences(handle) => {
                write!(
                    f,
                    "handle {handle} has as many references as can be counted"
                )
            }
            Error::TooManyFaults(pasid) => {
                write!(f, "PASID {pasid} has as many faults as can be counted")
            }
            Error::Closing => f.write_str("the table or set is closing"),
            Error::CellRetired => f.write_str("the address space is gone"),
            Error::OutsideSet { range } => write!(f, "the set has no PASID of {range}"),
            Error::WrongKind { kind } => write!(f, "the space is for {kind}"),
            Error::InvalidScope => f.write_str("the scope is not one of tables of this space"),
            Error::NoQuota => f.write_str("the set has no quota"),
            Error::CapacityExceeded { left } => {
                write!(f, "the space's capacity has {left} PASIDs left")
            }
            Error::TooManySets => f.write_str("there are as many sets as can be told apart"),
            Error::TooManyLevels { levels } => {
                write!(f, "{levels} virtual tables lie over one another already")
            }
            Error::QuotaInUse { used } => write!(f, "{used} PASIDs of the quota are in use"),
            Error::TokenInUse { token } => write!(f, "token {token:#x} names another set"),
            Error::DeviceJoined(id) => write!(f, "device {id} has joined the table already"),
            Error::DeviceNotJoined(id) => write!(f, "device {id} has not joined the table"),
            Error::ConfigSpaceTruncated { .. }
            | Error::DeviceGone
            | Error::CapabilityListLoop { .. }
            | Error::CapabilityListBroken { .. }
            | Error::CapabilityMisplaced { .. } => self.say_of_hardware(f),
        }
    }
}

impl Error {
    fn say_of_hardware(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::ConfigSpaceTruncated { len } => {
                write!(f, "the configuration space ends after {len} of 4096 bytes")
            }
            Error::DeviceGone => {
                f.write_str("the configuration space reads as all ones: the device is gone")
            }
            Error::CapabilityListLoop { offset } => {
                write!(
                    f,
                    "the capability list loops: it comes back to offset {offset:#05x}"
                )
            }
            Error::CapabilityListBroken { offset } => {
                write!(
                    f,
                    "the capability list is broken: nothing can be at offset {offset:#05x}"
                )
            }
            Error::CapabilityMisplaced { offset } => {
                write!(f, "offset {offset:#05x} has no room for a PASID capability")
            }
            _ => Ok(()),
        }
    }
}
