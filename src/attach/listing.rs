// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is attached to a table: listing it, and saying why something is not.

use crate::error::Error;
use crate::groups::Had;
use crate::pasid::Pasid;
use crate::range::PasidRange;
use crate::source::does_not_fit;
use crate::state::{Phase, Refusal, Sought, State};
use crate::table::{Table, TableCore};

impl Table {
    /// What is attached within `range`, in ascending order.
    ///
    /// Safe beside everything else: what is attached throughout is listed once.
    ///
    /// Progress: each step is wait-free, bounded by the memory in `range`. Context: any.
    pub fn attachments(&self, range: PasidRange) -> Attachments<'_> {
        Attachments {
            core: self.core(),
            next: Some(range.first().get()),
            last: range.last().get(),
        }
    }
}

/// The attachments of a table within a range; see [`Table::attachments`].
///
/// ```
/// use pasid::{Attach, Attached, Error, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind};
/// use pasid::TableConfig;
///
/// let space = Space::new(SpaceKind::Tables);
/// let table = space.add_table(TableConfig::new(PasidWidth::new(8)?))?;
/// let set = space.add_set(SetConfig::new(Scope::Local(&table)))?;
/// let owned = set.alloc(set.range(), 0)?;
/// let range = set.range();
/// table.preload(range)?;
/// let attachment = table.attach(&owned, 0xD0)?.commit()?;
///
/// // After a reset, all entries are written again.
/// let all: Vec<Attached> = table.attachments(range).collect();
/// assert_eq!(all, [Attached { pasid: owned.pasid(), word: 0xD0 }]);
/// attachment.detach();
/// assert_eq!(table.attachments(range).count(), 0);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct Attachments<'a> {
    core: &'a TableCore,
    next: Option<u32>,
    last: u32,
}

/// One attachment, as a listing saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attached {
    /// The PASID.
    pub pasid: Pasid,
    /// The attachment's word, at that moment.
    pub word: u64,
}

impl Iterator for Attachments<'_> {
    type Item = Attached;

    fn next(&mut self) -> Option<Attached> {
        let first = self.next.take()?;
        let seen = self.core.attachments.first_attached(first, self.last)?;
        self.next = (seen.number < self.last).then_some(seen.number + 1);
        Some(Attached {
            pasid: Pasid::from_index(seen.number),
            word: seen.word,
        })
    }
}

impl core::iter::FusedIterator for Attachments<'_> {}

/// Whether the allocation is over, though its bit is set.
fn is_over(state: State) -> bool {
    state.is(Phase::Retired) || state.is(Phase::Waiting)
}

impl TableCore {
    /// Why no attachment was found: what the table and the global sets say of `pasid`.
    #[cold]
    pub(super) fn why_not_attached(&self, pasid: Pasid, why: Option<Refusal>) -> Error {
        let status = self.table.status.see();
        if status.is_closing() {
            return Error::Closing;
        }
        if pasid > status.last() {
            return does_not_fit(pasid, status.last().get());
        }
        if why == Some(Refusal::TooManyReferences) {
            return Error::TooManyFaults(pasid);
        }
        for ids in [&self.table.ids, &self.shared.globals] {
            let Some(entry) = ids.tree.entry(pasid) else {
                continue;
            };
            match entry.slot.find(Sought::ANY) {
                Ok(_) => return Error::NotAttached(pasid),
                Err(Refusal::BeingFreed) => return Error::BeingFreed(pasid),
                Err(Refusal::Reserved) => return Error::Reserved(pasid),
                Err(_) if is_over(entry.slot.state()) => return Error::NotFound(pasid),
                Err(_) => {}
            }
        }
        if self.table.ids.tree.listed_as_reserved(pasid) {
            return Error::Reserved(pasid);
        }
        if !self.table.ids.tree.is_taken(pasid) {
            return Error::NotFound(pasid);
        }
        // A group's, whose state is not here; or just being taken or given back.
        match self.table.groups.find(pasid) {
            Some(Had::Live) => Error::NotAttached(pasid),
            Some(Had::BeingFreed) => Error::BeingFreed(pasid),
            None => Error::NotFound(pasid),
        }
    }
}
