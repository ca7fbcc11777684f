// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets whose PASIDs await a flush, and flushes that say what they covered.

use crate::{HeldOf, Set, pasid, range};
use pasid::{Error, Flush, Pool, Reuse, Scope, SetConfig, Space, SpaceKind, Ticket};
use std::sync::Arc;

/// A space, which is to outlive the threads of its model.
pub type Kept = Arc<Space>;

/// A global set of the PASIDs `0 ..= last` with all memory in place.
pub fn set_of(last: u16, config: impl FnOnce(SetConfig<'_>) -> SetConfig<'_>) -> (Kept, Set) {
    let space = Space::with_reserved(SpaceKind::Global, &[]);
    let of_range = SetConfig::new(Scope::Global).range(range(0, last));
    let set = space.add_set(config(of_range)).expect("memory");
    set.preload(set.range()).expect("memory for 16 PASIDs");
    (Arc::new(space), Arc::new(set))
}

/// The same, whose PASIDs await a flush.
pub fn waiting_set(last: u16) -> (Kept, Set) {
    set_of(last, |config| config.reuse(Reuse::AfterFlush))
}

/// Allocates a PASID that is free.
pub fn take(set: &Set, number: u16) -> HeldOf {
    let owned = set.clone().alloc_at(pasid(number), 7);
    owned.expect("it is free")
}

/// The PASIDs of a batch.
pub fn batch(ticket: &Ticket<Set>) -> Vec<u16> {
    let numbers = ticket
        .ranges()
        .flat_map(|range| range.first().get()..=range.last().get());
    numbers.map(|number| number as u16).collect()
}

/// What canaries of [`flush`] expect.
pub const UNCOVERED: &str = "a flush returned what it did not cover";
/// See [`UNCOVERED`].
pub const TWICE: &str = "a PASID is in two batches";

/// Flushes, and returns the PASIDs that were covered.
pub fn flush(set: &Set) -> Vec<u16> {
    let ticket = set.clone().begin_flush();
    let covered = batch(&ticket);
    let returned = ticket.complete() as usize;
    assert!(
        returned <= covered.len(),
        "a flush returned what it did not cover"
    );
    assert_eq!(returned, covered.len(), "a PASID is in two batches");
    covered
}

/// The same, and 2 waits for a flush: the mark of the leaf is set, and nothing waits in the
/// word of 0 and 1.
pub fn marked_set() -> (Kept, Set) {
    let (space, set) = waiting_set(3);
    drop(take(&set, 2));
    (space, set)
}

/// What is said of the PASIDs `first ..= last` while one of them waits.
pub const fn awaiting(first: u16, last: u16) -> Error {
    Error::AwaitingFlush {
        range: range(first, last),
    }
}
