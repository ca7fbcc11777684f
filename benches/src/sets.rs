// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets in the states that are measured.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use pasid::{
    Error, Flush, Flusher, IoasidSet, Owned, PasidRange, PasidWidth, Policy, Pool, Reuse, Scope,
    SetConfig, Space, SpaceKind, Table, TableConfig,
};

use crate::spaces::{FULL_COUNT, Occupancy, rng};

/// A space with two tables.
pub struct Machine {
    /// The space.
    pub space: Space,
    /// Its tables, of 20 bits.
    pub tables: [Table; 2],
}

impl Machine {
    /// Without sets.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn new(kind: SpaceKind) -> Machine {
        let space = Space::new(kind);
        let table = || space.add_table(TableConfig::new(PasidWidth::MAX));
        let tables = [table(), table()].map(|table| table.expect("a table"));
        Machine { space, tables }
    }

    /// Adds a set, with memory in place for all of it.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn add_set(&self, config: SetConfig<'_>) -> IoasidSet {
        let set = self.space.add_set(config).expect("a set");
        set.preload(set.range()).expect("memory for the set");
        set
    }

    /// Adds a set of the first table.
    pub fn add_local(&self, policy: Policy) -> IoasidSet {
        self.add_set(SetConfig::new(Scope::Local(&self.tables[0])).policy(policy))
    }

    /// Adds a global set.
    pub fn add_global(&self, policy: Policy) -> IoasidSet {
        self.add_set(SetConfig::new(Scope::Global).policy(policy))
    }
}

/// Flushes a set when an allocation finds nothing else.
#[derive(Default)]
struct Installed(Mutex<Option<IoasidSet>>);

impl Installed {
    fn install(&self, set: Option<IoasidSet>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = set;
    }
}

impl Flusher for Installed {
    fn flush(&self) {
        if let Some(set) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // What is measured is the allocator, so the invalidation does nothing.
            let flushed: Result<u32, Infallible> = set.flush(|_| Ok(()));
            let _ = flushed;
        }
    }
}

/// A set with a flush on exhaustion, where its PASIDs await one.
pub struct Quarantined {
    set: IoasidSet,
    installed: Arc<Installed>,
}

impl Quarantined {
    /// A set of `machine`, global or of the first table, of `range` if that is given, with
    /// memory in place for all of it.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn new(
        machine: &Machine,
        is_global: bool,
        range: Option<PasidRange>,
        reuse: Reuse,
    ) -> Quarantined {
        let installed = Arc::new(Installed::default());
        let scope = match is_global {
            true => Scope::Global,
            false => Scope::Local(&machine.tables[0]),
        };
        let config = SetConfig::new(scope).reuse(reuse);
        let config = match range {
            Some(range) => config.range(range),
            None => config,
        };
        let set = machine.add_set(config.flusher(installed.clone()));
        installed.install(Some(set.clone()));
        Quarantined { set, installed }
    }

    /// The set.
    pub fn set(&self) -> &IoasidSet {
        &self.set
    }
}

impl Drop for Quarantined {
    fn drop(&mut self) {
        // The set has the flush, and the flush the set.
        self.installed.install(None);
    }
}

/// Allocates `count` PASIDs of `range`, in the order of the set's policy. The words
/// count from 1, so each owner has another.
///
/// # Panics
/// If there are not as many free.
pub fn take(set: &IoasidSet, range: PasidRange, count: u32) -> Vec<Owned<&IoasidSet>> {
    let live = (1..=u64::from(count)).map(|word| set.alloc(range, word));
    live.map(|owned| owned.expect("a free PASID")).collect()
}

/// Allocates until nothing is free, then frees PASIDs at random until `occupancy` is
/// reached: what [`spaces::occupy`](crate::spaces::occupy) does for a set.
pub fn occupy(set: &IoasidSet, occupancy: Occupancy) -> Vec<Owned<&IoasidSet>> {
    if occupancy.is_empty() {
        return Vec::new();
    }
    let mut live = take(set, set.range(), FULL_COUNT);
    rng().shuffle(&mut live);
    live.truncate(live.len().saturating_sub(occupancy.holes as usize));
    live
}

/// Shows that a pair of calls in `range` allocates and frees, and returns what was
/// allocated: a measurement of calls that fail says nothing.
///
/// # Panics
/// If it does not.
pub fn check_pair(set: &IoasidSet, range: PasidRange) -> u32 {
    let word = 0x5EED;
    let owned = set.alloc(range, word).expect("a free PASID");
    let pasid = owned.pasid();
    assert!(range.contains(pasid), "{pasid} is not of {range}");
    assert_eq!(set.find(pasid).map(|found| found.word), Ok(word));
    drop(owned);
    assert_eq!(set.find(pasid), Err(Error::NotFound(pasid)));
    pasid.get()
}

/// Shows that nothing of `range` is free for the set.
///
/// # Panics
/// If something is.
pub fn check_full(set: &IoasidSet, range: PasidRange) {
    let answer = set.alloc(range, 0).map(|owned| owned.pasid());
    assert_eq!(answer, Err(Error::Exhausted { range }));
}
