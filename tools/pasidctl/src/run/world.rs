// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all threads of the load share.
//!
//! The PASIDs of the load lie on a board, and the attachments on one for each table; one
//! thread puts them there and another takes them away. A place of a board is locked for a
//! moment, and nobody waits for it: who finds it locked does something else. Threads that
//! meet at different places are ordered by nothing but the allocator.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crossbeam_utils::CachePadded;
use pasid::{Attachment, IoasidSet, Owned, Result, Table};

use super::driver::{Driver, Site};
use super::id::Id;
use super::layout::{Builder, Layout};
use super::rules::{Ledger, Rule};
use super::scarce::Second;

/// A PASID of the load.
pub struct Tenant {
    /// Its name.
    pub id: Id,
    /// The set that it is of.
    pub driver: Arc<Driver>,
    /// Its owner's reference.
    pub owned: Owned<Arc<IoasidSet>>,
}

/// An attachment of the load.
pub struct Entry {
    /// The PASID's name.
    pub id: Id,
    /// Where on the board the PASID was.
    pub slot: usize,
    /// The set that it is of.
    pub driver: Arc<Driver>,
    /// The table.
    pub site: Arc<Site>,
    /// The attachment.
    pub attachment: Attachment<Arc<Table>>,
    /// How often its word was replaced, from 1.
    pub revision: u8,
}

/// A place of a board.
pub type Cell<T> = CachePadded<Mutex<Option<T>>>;

/// The space under load and everything around it.
pub struct World<'s> {
    /// The space, the plan, and the shadow of what is global.
    pub builder: Builder,
    /// Another space.
    pub second: Second<'s>,
    /// The rule that is broken on purpose.
    pub plant: Option<Rule>,
    /// The PASIDs.
    pub board: Box<[Cell<Tenant>]>,
    /// The attachments of each table.
    pub entries: Box<[Box<[Cell<Entry>]>]>,
    /// Held by whoever has a window for itself.
    pub windows: Box<[CachePadded<Mutex<()>>]>,
    /// Held by who removes a device.
    pub removing: Mutex<()>,
    /// How many allocations of each thread are in the shadow.
    pub claimed: Box<[CachePadded<AtomicU64>]>,
    /// Sets that were closed, and of whose PASIDs some may await a flush still.
    pub closed: Mutex<Vec<Arc<Driver>>>,
    layout: Mutex<Arc<Layout>>,
    layouts: CachePadded<AtomicU64>,
    stop: AtomicBool,
    progress: Box<[CachePadded<AtomicU64>]>,
}

/// Locks, if nobody else has.
pub fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        // Whoever panicked is reported; the rest goes on.
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Locks, when nobody else has.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cells<T>(count: usize) -> Box<[Cell<T>]> {
    (0..count)
        .map(|_| CachePadded::new(Mutex::new(None)))
        .collect()
}

impl<'s> World<'s> {
    /// A world for so many threads.
    ///
    /// # Errors
    /// Those of [`Builder::layout`].
    pub fn new(
        builder: Builder,
        second: Second<'s>,
        plant: Option<Rule>,
        threads: usize,
    ) -> Result<World<'s>> {
        let layout = builder.layout()?;
        let plan = &builder.plan;
        Ok(World {
            second,
            plant,
            board: cells(plan.slots),
            entries: plan.tables.iter().map(|_| cells(plan.entries)).collect(),
            windows: (0..plan.windows())
                .map(|_| CachePadded::default())
                .collect(),
            removing: Mutex::new(()),
            // One more for who finishes.
            claimed: (0..=threads).map(|_| CachePadded::default()).collect(),
            closed: Mutex::default(),
            layout: Mutex::new(Arc::new(layout)),
            layouts: CachePadded::new(AtomicU64::new(1)),
            stop: AtomicBool::new(false),
            progress: (0..threads).map(|_| CachePadded::default()).collect(),
            builder,
        })
    }

    /// What was seen broken.
    pub fn ledger(&self) -> &Ledger {
        &self.builder.tally.ledger
    }

    /// Which layout it is by now.
    pub fn layouts(&self) -> u64 {
        // Relaxed: who sees an older one meets what is closed, and judges by that.
        self.layouts.load(Ordering::Relaxed)
    }

    /// The layout by now.
    pub fn layout(&self) -> Arc<Layout> {
        lock(&self.layout).clone()
    }

    /// Puts another in its place.
    pub fn set_layout(&self, layout: Layout) {
        *lock(&self.layout) = Arc::new(layout);
        // Relaxed: as in `layouts`; the lock publishes the layout.
        self.layouts.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the threads to stop before their time.
    pub fn stop(&self) {
        // Relaxed: they stop soon; what they leave is read after they are joined.
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the threads are to stop before their time.
    pub fn is_stopped(&self) -> bool {
        // Relaxed: as in `stop`.
        self.stop.load(Ordering::Relaxed)
    }

    /// Thread `index` has made so many calls.
    pub fn set_progress(&self, index: usize, calls: u64) {
        if let Some(progress) = self.progress.get(index) {
            // Relaxed: a count for the display.
            progress.store(calls, Ordering::Relaxed);
        }
    }

    /// How many calls all threads have made, a moment ago.
    pub fn progress(&self) -> u64 {
        let counts = self.progress.iter();
        // Relaxed: as in `set_progress`.
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }
}
