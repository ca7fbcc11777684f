// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all threads of the load share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use pasid::IdSpace;

use super::device::Device;
use super::plan::Plan;
use super::process::Processes;
use super::rules::{Ledger, Rule};
use super::scarce::Second;
use super::shadow::{Claimant, Shadow};

/// The space under load and everything around it.
#[derive(Debug)]
pub struct World<'s> {
    /// The space.
    pub space: &'s IdSpace,
    /// Another space.
    pub second: Second<'s>,
    /// Sizes and ranges.
    pub plan: &'s Plan,
    /// The rule that is broken on purpose.
    pub plant: Option<Rule>,
    /// What the load knows of each PASID.
    pub shadow: Shadow,
    /// Who binds.
    pub processes: Processes<'s>,
    /// Who holds references.
    pub devices: Vec<Device<'s>>,
    /// What was seen broken.
    pub ledger: Ledger,
    stop: AtomicBool,
    progress: Box<[CachePadded<AtomicU64>]>,
}

impl<'s> World<'s> {
    /// A world around `space`, in which the plan's values are reserved already,
    /// for so many threads.
    pub fn new(
        space: &'s IdSpace,
        second: Second<'s>,
        plan: &'s Plan,
        plant: Option<Rule>,
        threads: usize,
    ) -> World<'s> {
        let devices = plan.holders.iter();
        let world = World {
            space,
            second,
            plan,
            plant,
            shadow: Shadow::new(plan.width),
            processes: Processes::new(space, plan.processes),
            devices: devices
                .map(|holder| Device::new(space, holder.width, plan.entries))
                .collect(),
            ledger: Ledger::default(),
            stop: AtomicBool::new(false),
            progress: (0..threads).map(|_| CachePadded::default()).collect(),
        };
        for &pasid in &plan.reserved {
            if let Err(breach) = world.shadow.claim(pasid, Claimant::Reservation) {
                world.ledger.enter(breach);
            }
        }
        world
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
