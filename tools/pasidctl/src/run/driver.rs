// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables and sets, each with what the load knows of it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pasid::{IoasidSet, Pasid, PasidRange, Reuse, Table};

use super::id::Id;
use super::phase::{Pauses, Phase, Step};
use super::quarantine::Quarantine;
use super::rules::{Breach, Rule};
use super::shadow::{Left, Row, SetNumber};
use super::sides::{Side, Sides};

/// A table, from when it is added until it is gone.
pub struct Site {
    /// Where in the machine it is. A device that was removed and added again has another
    /// table at the same place.
    pub place: usize,
    /// The table.
    pub table: Arc<Table>,
    /// The last PASID that fits, by the devices' capabilities.
    pub last: Pasid,
    /// Who holds its PASIDs.
    pub row: Row,
    /// What is reserved on this table alone.
    pub reserved: Option<Pasid>,
    /// Its way out.
    pub phase: Phase,
    /// Its pauses.
    pub pauses: Pauses,
    /// Held by who pauses.
    pub pausing: Mutex<()>,
}

/// Where a set's PASIDs count.
pub enum Reach {
    /// On every table.
    Global(Arc<Row>),
    /// On these.
    Tables(Vec<Arc<Site>>),
}

/// A set, and what the load knows of it.
pub struct Driver {
    /// Which one it is, among those of its tables.
    pub number: SetNumber,
    /// The set.
    pub set: Arc<IoasidSet>,
    /// Where its PASIDs count.
    pub reach: Reach,
    /// Across all tables.
    pub sides: Arc<Sides>,
    /// What it may hand out, by its configuration and the capabilities of its devices.
    pub range: PasidRange,
    /// What it may not, within that.
    pub hole: Option<PasidRange>,
    /// Its quota.
    pub quota: Option<Credit>,
    /// What awaits a flush, if its PASIDs do.
    pub quarantine: Option<Quarantine>,
    /// Its way out.
    pub phase: Phase,
}

/// A quota, as the load counts it.
pub struct Credit {
    /// The most that there ever is.
    pub most: u32,
    /// Held by who changes the quota.
    pub changing: Mutex<()>,
    /// The quota, never below the real one, and how often it was changed.
    limit: AtomicU64,
    /// The PASIDs that are held, or await a flush.
    held: AtomicU32,
}

impl Credit {
    /// A quota of `most`.
    pub fn new(most: u32) -> Credit {
        Credit {
            most,
            changing: Mutex::new(()),
            limit: AtomicU64::new(most.into()),
            held: AtomicU32::new(0),
        }
    }

    /// The quota and its version.
    pub fn limit(&self) -> u64 {
        // Acquire: pairs with `set_limit`.
        self.limit.load(Ordering::Acquire)
    }

    /// The quota is at most `limit` now.
    pub fn set_limit(&self, limit: u32) {
        let version = (self.limit() >> 32) + 1;
        // Release: pairs with `limit`: an allocation before the real change looks here
        // before it.
        self.limit
            .store(version << 32 | u64::from(limit), Ordering::Release);
    }

    /// The PASIDs that are held.
    pub fn held(&self) -> u32 {
        // Relaxed: a count.
        self.held.load(Ordering::Relaxed)
    }

    /// One more is held, and the allocation began when the quota was `limit`.
    ///
    /// # Errors
    /// M8, if that is more than the quota, which was the same all the time.
    pub fn add(&self, limit: u64) -> Result<(), Breach> {
        // Relaxed: the steps of all threads are on one word, and the allocator orders
        // each free before the allocation that had its credit.
        let held = self.held.fetch_add(1, Ordering::Relaxed) + 1;
        self.judge(held, limit)
    }

    /// Judges `held` PASIDs against a quota that was `limit` when it began.
    ///
    /// # Errors
    /// M8.
    pub fn judge(&self, held: u32, limit: u64) -> Result<(), Breach> {
        let quota = limit as u32;
        if held > quota && self.limit() == limit {
            let text = format!("{held} PASIDs of a set are held, and its quota is {quota}");
            return Err(Breach::new(Rule::M8, text));
        }
        Ok(())
    }

    /// One less is held.
    pub fn sub(&self) {
        // Relaxed: as in `add`.
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Driver {
    /// On which side of the separation it is.
    pub fn side(&self) -> Side {
        match self.reach {
            Reach::Global(_) => Side::Global,
            Reach::Tables(_) => Side::Drivers,
        }
    }

    /// Whether its PASIDs count on every table.
    pub fn is_global(&self) -> bool {
        self.side() == Side::Global
    }

    /// The tables of its own, in ascending order; none if it is global.
    pub fn sites(&self) -> &[Arc<Site>] {
        match &self.reach {
            Reach::Global(_) => &[],
            Reach::Tables(sites) => sites,
        }
    }

    /// The rows of its tables; the first one counts for its quota.
    fn rows(&self) -> impl Iterator<Item = &Row> {
        let global = match &self.reach {
            Reach::Global(row) => Some(&**row),
            Reach::Tables(_) => None,
        };
        let sites = self.sites().iter().map(|site| &site.row);
        global.into_iter().chain(sites)
    }

    /// Whether the set may answer `request` with `pasid`.
    pub fn may_give(&self, request: PasidRange, pasid: Pasid) -> bool {
        let hole = self.hole.is_some_and(|hole| hole.contains(pasid));
        request.contains(pasid) && self.range.contains(pasid) && !hole
    }

    /// Whether it or one of its tables is at least so far on its way out.
    pub fn is_past(&self, step: Step) -> bool {
        let sites = self.sites().iter();
        self.phase.see() >= step || sites.map(|site| site.phase.see()).any(|seen| seen >= step)
    }

    /// The set was given `pasid`, when its quota was `limit`.
    ///
    /// # Errors
    /// Which rule that broke; nothing is entered then.
    pub fn claim(&self, pasid: Pasid, id: Id, limit: u64) -> Result<(), Breach> {
        self.sides.add(pasid, self.side())?;
        for (index, row) in self.rows().enumerate() {
            if let Err(breach) = row.claim(pasid, self.number, id) {
                for row in self.rows().take(index) {
                    let _ = row.release(pasid, id, Reuse::Immediate);
                }
                self.sides.sub(pasid, self.side());
                return Err(breach);
            }
        }
        if let Some(credit) = &self.quota {
            credit.add(limit)?;
        }
        Ok(())
    }

    /// Somebody was given a reference.
    ///
    /// # Errors
    /// M7, or M3.
    pub fn take(&self, pasid: Pasid, id: Id) -> Result<(), Breach> {
        self.sides.add(pasid, self.side())?;
        self.rows().try_for_each(|row| row.take(pasid, id))
    }

    /// Somebody is about to give a reference back.
    ///
    /// # Errors
    /// M7.
    pub fn give(&self, pasid: Pasid, id: Id) -> Result<(), Breach> {
        self.leave(pasid, |row| row.give(pasid, id, self.reuse()))
    }

    /// The owner is about to give its PASID up.
    ///
    /// # Errors
    /// M7.
    pub fn release(&self, pasid: Pasid, id: Id) -> Result<(), Breach> {
        self.leave(pasid, |row| row.release(pasid, id, self.reuse()))
    }

    fn leave(
        &self,
        pasid: Pasid,
        step: impl Fn(&Row) -> Result<Left, Breach>,
    ) -> Result<(), Breach> {
        let left = self.each_row(step)?;
        match &self.quarantine {
            // It stands there until the flush.
            Some(quarantine) if left.waits => quarantine.wait(pasid),
            _ => self.sides.sub(pasid, self.side()),
        }
        Ok(())
    }

    /// Makes a step in every row. What is left is what the first says, which alone counts.
    fn each_row(&self, step: impl Fn(&Row) -> Result<Left, Breach>) -> Result<Left, Breach> {
        let mut first = None;
        for row in self.rows() {
            let left = step(row)?;
            first.get_or_insert(left);
        }
        let left = first.unwrap_or(Left::NOTHING);
        if let (Some(credit), true) = (&self.quota, left.counted) {
            credit.sub();
        }
        Ok(left)
    }

    /// When its PASIDs may be handed out again.
    fn reuse(&self) -> Reuse {
        match self.quarantine {
            Some(_) => Reuse::AfterFlush,
            None => Reuse::Immediate,
        }
    }

    /// A flush has taken `pasid`.
    ///
    /// # Errors
    /// *Flush*, if it is held.
    pub fn check_taken(&self, pasid: Pasid) -> Result<(), Breach> {
        self.rows().try_for_each(|row| row.check_taken(pasid))
    }

    /// The flush that has taken `pasid` is about to complete.
    ///
    /// # Errors
    /// As [`Driver::check_taken`].
    pub fn flushed(&self, pasid: Pasid) -> Result<(), Breach> {
        let left = self.each_row(|row| row.flushed(pasid))?;
        if left.waits {
            self.sides.sub(pasid, self.side());
        }
        Ok(())
    }

    /// Whether `pasid` has been claimed again since `id` claimed it.
    pub fn is_reclaimed(&self, pasid: Pasid, id: Id) -> bool {
        self.rows()
            .next()
            .is_some_and(|row| row.is_reclaimed(pasid, id))
    }
}
