// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of sets and tables share.

use super::{range, width};
use pasid::{
    Error, Found, Handle, IoasidSet, Observer, Owned, Pool, Scope, SetConfig, Space, SpaceKind,
    Table, TableConfig,
};
use std::sync::{Arc, Mutex};

/// Every kind of space.
pub const KINDS: [SpaceKind; 3] = [SpaceKind::Global, SpaceKind::Tables, SpaceKind::Both];

/// A space for both kinds of sets, in which PASID 0 is reserved.
pub fn both() -> Space {
    Space::new(SpaceKind::Both)
}

/// A table of that many bits.
pub fn table(space: &Space, bits: u8) -> Table {
    let added = space.add_table(TableConfig::new(width(bits)));
    added.expect("a test's table can be added")
}

/// A set of that scope.
pub fn set(space: &Space, scope: Scope<'_>) -> IoasidSet {
    let added = space.add_set(SetConfig::new(scope));
    added.expect("a test's set can be added")
}

/// A global set.
pub fn global(space: &Space) -> IoasidSet {
    set(space, Scope::Global)
}

/// A set of one table.
pub fn local(space: &Space, table: &Table) -> IoasidSet {
    set(space, Scope::Local(table))
}

/// A set of several tables.
pub fn group(space: &Space, tables: &[Table]) -> IoasidSet {
    set(space, Scope::Group(tables))
}

/// Allocates exactly that number, with memory where it needs some.
pub fn take(set: &IoasidSet, number: u32) -> Result<Owned<&IoasidSet>, Error> {
    set.alloc(range(number, number), 0)
}

/// Allocates exactly that number and names the reason if it cannot.
pub fn take_at(set: &IoasidSet, number: u32) -> Result<Owned<&IoasidSet>, Error> {
    // With a table's width it may have nothing there, and that is for `alloc_at` to say.
    let _ = set.preload(range(number, number));
    set.alloc_at(super::pasid(number), 0)
}

/// Allocates whatever comes first.
pub fn any(set: &IoasidSet) -> Result<Owned<&IoasidSet>, Error> {
    set.alloc(set.range(), 0)
}

/// The numbers of the next `count` allocations, all of which are kept until the end.
pub fn next_numbers(set: &IoasidSet, count: usize) -> Vec<u32> {
    let owned: Vec<_> = (0..count).map(|_| any(set).expect("free ones")).collect();
    owned.iter().map(|owned| owned.pasid().get()).collect()
}

/// The numbers that the set has live.
pub fn live(set: &IoasidSet) -> Vec<u32> {
    let listed = set.iter(range(0, 0xf_ffff));
    listed.map(|found| found.handle.pasid().get()).collect()
}

/// Everything that a set has live.
pub fn listed(set: &IoasidSet) -> Vec<Found> {
    set.iter(range(0, 0xf_ffff)).collect()
}

/// The answer for a request of one number that is not free.
pub fn exhausted(number: u32) -> Option<Error> {
    let range = range(number, number);
    Some(Error::Exhausted { range })
}

/// Frees what is owned in raw form.
pub fn free(set: &IoasidSet, handle: Handle) -> Result<(), Error> {
    // SAFETY: tests pass what they own in raw form, or a handle whose allocation is over
    // or another set's, which is refused.
    unsafe { set.free(handle) }
}

/// Gives back a reference that is held in raw form.
pub fn put(set: &IoasidSet, handle: Handle) -> Result<(), Error> {
    // SAFETY: tests pass a reference that they hold in raw form, or a handle whose
    // allocation is over or another set's, which is refused.
    unsafe { set.put(handle) }
}

/// What an observer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Allocated(Handle, u64),
    Revoked(Handle),
    Reclaimed(Handle),
}

/// Writes down what it is told.
#[derive(Default)]
pub struct Recorder(Mutex<Vec<Told>>);

impl Recorder {
    pub fn new() -> Arc<Recorder> {
        Arc::default()
    }

    /// What it was told since this was asked last.
    pub fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn note(&self, told: Told) {
        self.0.lock().unwrap().push(told);
    }
}

impl Observer for Recorder {
    fn allocated(&self, handle: Handle, word: u64) {
        self.note(Told::Allocated(handle, word));
    }

    fn revoked(&self, handle: Handle) {
        self.note(Told::Revoked(handle));
    }

    fn reclaimed(&self, handle: Handle) {
        self.note(Told::Reclaimed(handle));
    }
}
