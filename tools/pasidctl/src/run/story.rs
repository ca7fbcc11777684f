// SPDX-License-Identifier: MIT OR Apache-2.0
//! What reuse after a flush is for: on each table a device whose page faults wait in a
//! queue, while contexts come and go.
//!
//! A fault in the queue is a number. When it is handled, the number is looked up. If the
//! context that faulted is gone and another has its PASID, that one is given what the fault
//! asks for: another process's memory. The same traffic is run with two sets, of which one
//! reuses PASIDs at once and the other after a flush, which drains the queue.
//!
//! One thread does all of it, in a space of its own, before the load. So with one seed it
//! comes to the same each time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use pasid::{
    Attach, Attachment, Flush, Flusher, IoasidSet, Owned, Pasid, Pool, Result, Reuse, Scope,
    SetConfig, Space, SpaceKind, Table, TableConfig,
};
use serde::Serialize;

use super::plan::{Plan, PlannedTable, range};
use super::rules::{Breach, Ledger, Rule};
use super::world::lock;

/// Steps of all devices together, for each kind of reuse.
const STEPS: usize = 150_000;
/// The most devices.
const DEVICES: usize = 16;
/// The most PASIDs of a set: a flush has all but those in use.
const PASIDS: u32 = 1024;
/// Contexts of a device at a time, at most.
const CONTEXTS: usize = 16;
/// Faults that a device's queue has room for.
const QUEUED: usize = 32;
/// One fault in so many is taken for another context's when that is asked for.
const PLANTED_EVERY: u64 = 64;

/// What the devices came to with one kind of reuse.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// When PASIDs were reused.
    pub reuse: &'static str,
    /// Contexts that were given a PASID.
    pub contexts: u64,
    /// Faults that were handled.
    pub faults: u64,
    /// Those of contexts that were there still.
    pub to_owner: u64,
    /// Those of contexts that were gone, and found nobody.
    pub to_nobody: u64,
    /// Those of contexts that were gone, and found another.
    pub to_wrong_owner: u64,
    /// Flushes.
    pub flushes: u64,
    /// PASIDs that they returned.
    pub flushed: u64,
}

impl Told {
    fn nothing(reuse: &'static str) -> Told {
        Told {
            reuse,
            contexts: 0,
            faults: 0,
            to_owner: 0,
            to_nobody: 0,
            to_wrong_owner: 0,
            flushes: 0,
            flushed: 0,
        }
    }

    /// PASIDs in a flush, on average.
    pub fn pasids_per_flush(&self) -> Option<u64> {
        self.flushed.checked_div(self.flushes)
    }
}

/// The story.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Story {
    /// How many devices it was told of.
    pub devices: usize,
    /// With PASIDs that are reused at once, and after a flush.
    pub told: [Told; 2],
}

impl Story {
    /// Tells it of the machine's devices.
    ///
    /// # Errors
    /// [`OutOfMemory`](pasid::Error::OutOfMemory).
    pub fn tell(plan: &Plan, seed: u64, planted: bool) -> Result<Story> {
        let space = Space::new(SpaceKind::Both);
        let devices = plan.wide.len().min(DEVICES);
        let mut told = ["immediate", "after flush"].map(Told::nothing);
        for &place in plan.wide.iter().take(devices) {
            let table = add_table(&space, &plan.tables[place])?;
            let reuses = [Reuse::Immediate, Reuse::AfterFlush];
            for (told, reuse) in told.iter_mut().zip(reuses) {
                // The same choices with both.
                let rng = Rng::with_seed(seed ^ place as u64);
                let planted = planted && reuse == Reuse::AfterFlush;
                run_device(&space, &table, reuse, rng, STEPS / devices, (told, planted))?;
            }
        }
        Ok(Story { devices, told })
    }

    /// Enters what is wrong with it. Returns how often the rule was checked: once for each
    /// fault after a flush, and once for the other way, which must show that the faults
    /// could have gone wrong.
    pub fn judge(&self, ledger: &Ledger) -> u64 {
        let [immediate, after] = &self.told;
        let breach = |text| ledger.enter(Breach::new(Rule::Drain, text));
        if after.to_wrong_owner > 0 || after.flushes == 0 {
            breach(format!(
                "of {} faults {} reached another context, with reuse after {} flushes",
                after.faults, after.to_wrong_owner, after.flushes
            ));
        }
        if immediate.to_wrong_owner == 0 || immediate.contexts != after.contexts {
            breach(format!(
                "of {} faults of {} contexts none reached another context, with immediate reuse",
                immediate.faults, immediate.contexts
            ));
        }
        after.faults + 1
    }
}

/// A table like the machine's.
fn add_table(space: &Space, planned: &PlannedTable) -> Result<Table> {
    let reserved = planned.reserved.map(Into::into);
    let config = TableConfig::new(planned.width);
    space.add_table(config.reserved(reserved.as_slice()))
}

/// The queue of a device, and who handles its faults.
struct Queue {
    table: Table,
    /// Numbers, and beside each the context, of which the handler knows nothing.
    faults: VecDeque<(Pasid, u64)>,
    handled: u64,
    to_owner: u64,
    to_nobody: u64,
    to_wrong_owner: u64,
    planted: bool,
}

impl Queue {
    /// A context has faulted. If the queue is full, the device waits for the handler.
    fn add(&mut self, pasid: Pasid, context: u64) {
        if self.faults.len() == QUEUED {
            self.handle();
        }
        self.faults.push_back((pasid, context));
    }

    /// Handles the fault that has waited longest. Returns whether there was one.
    fn handle(&mut self) -> bool {
        let Some((pasid, context)) = self.faults.pop_front() else {
            return false;
        };
        self.handled += 1;
        let lie = self.planted && self.handled.is_multiple_of(PLANTED_EVERY);
        match (&self.table).fault_get(pasid) {
            Ok(fault) if fault.word() == context && !lie => self.to_owner += 1,
            Ok(_) => self.to_wrong_owner += 1,
            Err(_) => self.to_nobody += 1,
        }
        true
    }

    fn drain(&mut self) {
        while self.handle() {}
    }
}

/// The flush that an allocation runs when nothing is left but what awaits one. As VT-d has
/// it, the page requests are drained when the device has forgotten its entries.
struct Invalidation {
    queue: Arc<Mutex<Queue>>,
    table: Mutex<Option<Table>>,
}

impl Flusher for Invalidation {
    fn flush(&self) {
        if let Some(table) = &*lock(&self.table) {
            let flushed = table.flush(|_| {
                lock(&self.queue).drain();
                Ok::<(), ()>(())
            });
            debug_assert!(flushed.is_ok());
        }
    }
}

/// A context that runs on a device.
struct Context<'a> {
    word: u64,
    attachment: Attachment<&'a Table>,
    owned: Owned<&'a IoasidSet>,
}

/// Contexts come and go on one device, and fault while they are there.
fn run_device(
    space: &Space,
    table: &Table,
    reuse: Reuse,
    mut rng: Rng,
    steps: usize,
    (told, planted): (&mut Told, bool),
) -> Result<()> {
    let queue = Arc::new(Mutex::new(Queue {
        table: table.clone(),
        faults: VecDeque::with_capacity(QUEUED),
        handled: 0,
        to_owner: 0,
        to_nobody: 0,
        to_wrong_owner: 0,
        planted,
    }));
    let invalidation = Arc::new(Invalidation {
        queue: queue.clone(),
        table: Mutex::new(Some(table.clone())),
    });
    let config = SetConfig::new(Scope::Local(table))
        .range(range(0, table.width().last().get().min(PASIDS - 1)))
        .reuse(reuse)
        .flusher(invalidation.clone());
    let set = space.add_set(config)?;
    table.preload(set.range())?;
    let mut contexts: Vec<Context<'_>> = Vec::with_capacity(CONTEXTS);
    for _ in 0..steps {
        let step = rng.u8(..8);
        match step {
            0..2 if contexts.len() < CONTEXTS => {
                told.contexts += 1;
                let word = told.contexts;
                let owned = set.alloc(set.range(), word)?;
                let attachment = table.attach(&owned, word)?.commit()?;
                contexts.push(Context {
                    word,
                    attachment,
                    owned,
                });
            }
            0..4 if !contexts.is_empty() => {
                let context = contexts.swap_remove(rng.usize(..contexts.len()));
                context.attachment.detach();
                drop(context.owned);
            }
            4..6 if !contexts.is_empty() => {
                let context = &contexts[rng.usize(..contexts.len())];
                lock(&queue).add(context.owned.pasid(), context.word);
            }
            _ => {
                lock(&queue).handle();
            }
        }
    }
    let mut queue = lock(&queue);
    queue.drain();
    told.faults += queue.handled;
    told.to_owner += queue.to_owner;
    told.to_nobody += queue.to_nobody;
    told.to_wrong_owner += queue.to_wrong_owner;
    let flushes = table.flushes();
    told.flushes += flushes.completed;
    told.flushed += flushes.returned;
    // The set has the flush, and the flush the table, which has the set.
    *lock(&invalidation.table) = None;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::builtin;
    use crate::run::options::Order;
    use pasid::PasidWidth;

    #[test]
    fn faults_go_astray_with_immediate_reuse_alone() {
        for bits in [6, 20] {
            let width = PasidWidth::new(bits).unwrap();
            let plan = Plan::new(&builtin().unwrap(), Some(width), Order::Mixed).unwrap();
            for seed in 0..2 {
                let story = Story::tell(&plan, seed, false).unwrap();
                let [immediate, after] = &story.told;
                for told in &story.told {
                    let sum = told.to_owner + told.to_nobody + told.to_wrong_owner;
                    assert_eq!(sum, told.faults);
                    assert!(told.to_owner > 0 && told.to_nobody > 0, "{told:?}");
                }
                assert_eq!(immediate.contexts, after.contexts);
                assert_eq!(immediate.faults, after.faults);
                assert!(immediate.to_wrong_owner > 1000, "{immediate:?}");
                assert_eq!((immediate.flushes, after.to_wrong_owner), (0, 0));
                let least = width.count().min(PASIDS) - CONTEXTS as u32 - 2;
                assert!(after.pasids_per_flush() >= Some(least.into()), "{after:?}");
                let ledger = Ledger::default();
                assert_eq!(story.judge(&ledger), after.faults + 1);
                assert_eq!(ledger.total(), 0);
                assert_eq!(Story::tell(&plan, seed, false).unwrap(), story);
            }
        }
    }

    #[test]
    fn each_way_to_go_wrong_breaks_the_rule() {
        let plan = Plan::new(&builtin().unwrap(), None, Order::Mixed).unwrap();
        let right = Story::tell(&plan, 1, false).unwrap();
        let planted = Story::tell(&plan, 1, true).unwrap();
        let (mut harmless, mut unflushed) = (right.clone(), right.clone());
        harmless.told[0].to_wrong_owner = 0;
        unflushed.told[1].flushes = 0;
        for (story, failed) in [(right, 0), (planted, 1), (harmless, 1), (unflushed, 1)] {
            let ledger = Ledger::default();
            story.judge(&ledger);
            assert_eq!(ledger.failed(Rule::Drain), failed);
            assert_eq!(ledger.total(), failed);
        }
    }
}
