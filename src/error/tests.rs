// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every error has a number of its own, an errno and a text.

use super::*;
use std::collections::BTreeSet;
use std::string::ToString;
use std::vec::Vec;

/// Every variant with its errno, written down a second time.
fn every_error() -> Vec<(Error, i32)> {
    let (pasid, last) = (Pasid::MAX, Pasid::ZERO);
    let range = PasidWidth::MAX.range();
    let handle = Handle::new(pasid, 1, 2);
    std::vec![
        (Error::InvalidPasid { value: 1 << 20 }, 22),
        (Error::InvalidWidth { bits: 31 }, 22),
        (Error::InvalidRange { first: pasid, last }, 22),
        (Error::InvalidHandle { raw: 0 }, 22),
        (Error::Exhausted { range }, 28),
        (Error::AwaitingFlush { range }, 11),
        (Error::QuotaExceeded { quota: 3 }, 122),
        (Error::OutOfMemory, 12),
        (Error::Reserved(pasid), 1),
        (
            Error::DoesNotFit {
                pasid,
                width: PasidWidth::ZERO
            },
            75
        ),
        (Error::NoPasidSupport, 95),
        (Error::HeldGlobally(pasid), 16),
        (Error::HeldLocally(pasid), 16),
        (Error::AlreadyAttached(pasid), 16),
        (Error::InUse(pasid), 16),
        (Error::Paused, 16),
        (Error::NotFound(pasid), 2),
        (Error::NotAttached(pasid), 2),
        (Error::BeingFreed(pasid), 108),
        (Error::Stale(handle), 116),
        (Error::WrongSet(pasid), 13),
        (Error::TooManyReferences(handle), 31),
        (Error::Closing, 19),
        (Error::OutsideSet { range }, 22),
        (
            Error::WrongKind {
                kind: SpaceKind::Tables
            },
            22
        ),
        (Error::InvalidScope, 22),
        (Error::NoQuota, 22),
        (Error::CapacityExceeded { left: 3 }, 122),
        (Error::TooManySets, 28),
        (Error::QuotaInUse { used: 3 }, 16),
        (Error::TokenInUse { token: 3 }, 16),
        (Error::DeviceJoined(RequesterId(8)), 16),
        (Error::DeviceNotJoined(RequesterId(8)), 2),
        (Error::ConfigSpaceTruncated { len: 64 }, 22),
        (Error::DeviceGone, 19),
        (Error::CapabilityListLoop { offset: 0x100 }, 22),
        (Error::CapabilityListBroken { offset: 0x40 }, 22),
        (Error::CapabilityMisplaced { offset: 0x102 }, 22),
        (Error::TooManyFaults(pasid), 31),
        (Error::AlreadyPinned(pasid), 16),
        (
            Error::OutsideLimits {
                pasid,
                limits: range
            },
            75
        ),
        (Error::CellRetired, 108),
        (Error::TooManyLevels { levels: 8 }, 28),
    ]
}

/// The place in `every_error`. A new variant does not compile until it is
/// written here, which is the reminder to list it there.
fn position(error: Error) -> usize {
    match error {
        Error::InvalidPasid { .. } => 0,
        Error::InvalidWidth { .. } => 1,
        Error::InvalidRange { .. } => 2,
        Error::InvalidHandle { .. } => 3,
        Error::Exhausted { .. } => 4,
        Error::AwaitingFlush { .. } => 5,
        Error::QuotaExceeded { .. } => 6,
        Error::OutOfMemory => 7,
        Error::Reserved(_) => 8,
        Error::DoesNotFit { .. } => 9,
        Error::NoPasidSupport => 10,
        Error::HeldGlobally(_) => 11,
        Error::HeldLocally(_) => 12,
        Error::AlreadyAttached(_) => 13,
        Error::InUse(_) => 14,
        Error::Paused => 15,
        Error::NotFound(_) => 16,
        Error::NotAttached(_) => 17,
        Error::BeingFreed(_) => 18,
        Error::Stale(_) => 19,
        Error::WrongSet(_) => 20,
        Error::TooManyReferences(_) => 21,
        Error::Closing => 22,
        Error::OutsideSet { .. } => 23,
        Error::WrongKind { .. } => 24,
        Error::InvalidScope => 25,
        Error::NoQuota => 26,
        Error::CapacityExceeded { .. } => 27,
        Error::TooManySets => 28,
        Error::QuotaInUse { .. } => 29,
        Error::TokenInUse { .. } => 30,
        Error::DeviceJoined(_) => 31,
        Error::DeviceNotJoined(_) => 32,
        Error::ConfigSpaceTruncated { .. } => 33,
        Error::DeviceGone => 34,
        Error::CapabilityListLoop { .. } => 35,
        Error::CapabilityListBroken { .. } => 36,
        Error::CapabilityMisplaced { .. } => 37,
        Error::TooManyFaults(_) => 38,
        Error::AlreadyPinned(_) => 39,
        Error::OutsideLimits { .. } => 40,
        Error::CellRetired => 41,
        Error::TooManyLevels { .. } => 42,
    }
}

#[test]
fn every_error_has_its_errno() {
    for (index, (error, errno)) in every_error().into_iter().enumerate() {
        assert_eq!(position(error), index, "{error:?}");
        assert_eq!(error.errno(), errno, "{error:?}");
    }
}

#[test]
fn codes_are_unique_and_not_zero() {
    let codes: BTreeSet<u32> = every_error()
        .iter()
        .map(|(error, _)| error.code())
        .collect();
    assert_eq!(codes.len(), every_error().len());
    assert!(!codes.contains(&0));
}

#[test]
fn messages_are_distinct_and_have_no_full_stop() {
    let mut seen = BTreeSet::new();
    for (error, _) in every_error() {
        let message = error.to_string();
        assert!(
            !message.ends_with('.') && !message.contains('\n'),
            "{message}"
        );
        assert!(!message.starts_with(|c: char| c.is_uppercase() && !message.starts_with("PASID")));
        assert!(seen.insert(message), "{error:?}");
    }
}

#[test]
fn an_error_is_small() {
    assert!(size_of::<Error>() <= 16);
}
