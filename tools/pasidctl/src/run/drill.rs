// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exact checks: a thread has a few numbers for itself, on all tables and in all scopes,
//! so that every answer about them is known, whatever the others do beside them.
//!
//! A device that is removed meanwhile ends the check without a judgement.

mod life;
mod overlap;
mod quarantine;
mod quota;

use std::sync::Arc;

use pasid::{Attach, IoasidSet, Owned, Pasid, PasidRange, Pool, Ref, Result};

use super::driver::{Driver, Site};
use super::measure::Kind;
use super::phase::Step;
use super::plan::WINDOW;
use super::rules::{Rule, outcome};
use super::worker::Worker;
use super::world::try_lock;

/// How many checks there are.
const DRILLS: u8 = 5;

/// What a check has for itself, and where.
pub(super) struct Stage {
    /// The numbers.
    window: PasidRange,
    /// Three tables; the first two have a group.
    sites: [Arc<Site>; 3],
    /// Two sets of each of the three tables.
    locals: [[Arc<Driver>; 2]; 3],
    /// The set of the first two tables.
    group: Arc<Driver>,
    /// The global one.
    global: Arc<Driver>,
}

/// A PASID of a check.
type Held = Owned<Arc<IoasidSet>>;

impl Stage {
    fn is_disturbed(&self) -> bool {
        let sites = self.sites.iter();
        self.group.is_past(Step::Closing)
            || sites
                .map(|site| site.phase.see())
                .any(|step| step >= Step::Closing)
    }

    fn number(&self, index: u32) -> Pasid {
        let first = self.window.first().get();
        Pasid::new(first + index % WINDOW).unwrap_or(self.window.first())
    }
}

impl Worker<'_> {
    /// One of the checks.
    pub(super) fn drill(&mut self) {
        let which = self.rng.u8(..DRILLS);
        self.drill_one(which);
    }

    /// Each of them.
    pub(super) fn drill_all(&mut self) {
        for which in 0..DRILLS {
            self.drill_one(which);
        }
    }

    fn drill_one(&mut self, which: u8) {
        let world = self.world;
        let window = self.rng.usize(..world.windows.len());
        let Some(_mine) = try_lock(&world.windows[window]) else {
            return;
        };
        let Some(stage) = self.stage(window) else {
            return;
        };
        // The end before its time is that of the check alone.
        let _ = match which {
            0 => self.overlap(&stage),
            1 => self.life_of_an_attachment(&stage),
            2 => self.coming_and_going_driver(&stage),
            3 => self.reuse_after_a_flush(&stage),
            _ => self.fill_window(&stage),
        };
    }

    fn stage(&mut self, window: usize) -> Option<Stage> {
        let (plan, layout) = (&self.world.builder.plan, self.layout.clone());
        let group = &layout.groups[self.rng.usize(..layout.groups.len())];
        let others = plan
            .wide
            .iter()
            .filter(|place| !group.members.contains(place));
        let others: Vec<usize> = others.copied().collect();
        let other = others[self.rng.usize(..others.len())];
        let places = [group.members[0], group.members[1], other].map(|place| &layout.places[place]);
        let [Some(first), Some(second), Some(third)] = places.map(|place| place.drills.clone())
        else {
            return None;
        };
        Some(Stage {
            window: plan.window(window),
            sites: places.map(|place| place.site.clone()),
            locals: [first, second, third],
            group: group.drill.clone(),
            global: layout.drill.clone(),
        })
    }

    /// Judges what is certain unless a device was removed: then the check is over.
    fn certain(
        &mut self,
        stage: &Stage,
        rule: Rule,
        holds: bool,
        text: impl FnOnce() -> String,
    ) -> Option<()> {
        if !holds && stage.is_disturbed() {
            return None;
        }
        self.expect(rule, holds, text);
        holds.then_some(())
    }

    /// Allocates one number, which is free for that set.
    fn gets(&mut self, stage: &Stage, rule: Rule, driver: &Driver, pasid: Pasid) -> Option<Held> {
        let answer = self.ask(driver, pasid.into());
        self.got(stage, rule, driver, pasid, answer)
    }

    fn got(
        &mut self,
        stage: &Stage,
        rule: Rule,
        driver: &Driver,
        pasid: Pasid,
        answer: Result<Held>,
    ) -> Option<Held> {
        let given = answer.as_ref().is_ok_and(|owned| owned.pasid() == pasid);
        self.certain(stage, rule, given, || {
            let (set, answer) = (driver.number.0, outcome(&answer));
            format!("alloc of PASID {pasid} in set {set}, for which it is free: {answer}")
        })?;
        answer.ok()
    }

    fn ask(&mut self, driver: &Driver, range: PasidRange) -> Result<Held> {
        let exhausted = pasid::Error::Exhausted { range };
        self.ask_set(&driver.set, range, exhausted)
    }

    /// Allocates in a set. Nothing of the range awaits a flush: whoever is told so because
    /// one is just giving back something else is taken to be told `instead`.
    fn ask_set(
        &mut self,
        set: &Arc<IoasidSet>,
        range: PasidRange,
        instead: pasid::Error,
    ) -> Result<Held> {
        let (set, cpu) = (set.clone(), self.index as u32);
        let look = self.world.builder.tally.look();
        let alloc = || set.alloc_near(cpu, range, 0);
        let answer = self.call(alloc, Kind::Alloc, Kind::AllocRefused);
        self.unless_giving_back(look, answer, instead)
    }

    /// The same for one number.
    fn ask_at(&mut self, driver: &Driver, pasid: Pasid, instead: pasid::Error) -> Result<Held> {
        let set = driver.set.clone();
        let look = self.world.builder.tally.look();
        let answer = self.call(|| set.alloc_at(pasid, 0), Kind::AllocAt, Kind::AllocRefused);
        self.unless_giving_back(look, answer, instead)
    }

    fn unless_giving_back(
        &self,
        look: u64,
        answer: Result<Held>,
        instead: pasid::Error,
    ) -> Result<Held> {
        let tally = &self.world.builder.tally;
        answer.map_err(|error| match error {
            pasid::Error::AwaitingFlush { .. } if tally.gave_back_since(look) => instead,
            error => error,
        })
    }

    /// Asks for one number, which somebody else has, in both ways; `named` is the error
    /// of who asks for that number alone.
    fn is_refused(
        &mut self,
        stage: &Stage,
        rule: Rule,
        driver: &Driver,
        named: pasid::Error,
        pasid: Pasid,
    ) -> Option<()> {
        let range = pasid.into();
        let expected = [pasid::Error::Exhausted { range }, named];
        let answers = [self.ask(driver, range), self.ask_at(driver, pasid, named)];
        for (answer, expected) in answers.into_iter().zip(expected) {
            let refused = answer.as_ref().err() == Some(&expected);
            self.certain(stage, rule, refused, || {
                let (set, answer) = (driver.number.0, outcome(&answer));
                format!("alloc of PASID {pasid} in set {set}, which others have: {answer}")
            })?;
        }
        Some(())
    }

    /// A reference to what is live.
    fn referenced(&mut self, stage: &Stage, owned: &Held) -> Option<Ref<Arc<IoasidSet>>> {
        let answer = self.call(|| owned.get(), Kind::Get, Kind::GetRefused);
        let (handle, got) = (owned.handle(), answer.is_ok());
        self.certain(stage, Rule::Lookup, got, || {
            format!("get of {handle}, which is live: {}", outcome(&answer))
        })?;
        answer.ok()
    }

    /// A fault on a table must end like this.
    fn faults(
        &mut self,
        stage: &Stage,
        site: &Site,
        pasid: Pasid,
        expected: Result<u64>,
    ) -> Option<()> {
        let table = &*site.table;
        let answer = self.call(|| table.fault_get(pasid), Kind::Fault, Kind::FaultRefused);
        let answer = answer.map(|fault| fault.word());
        self.certain(stage, Rule::Fault, answer == expected, || {
            let shown = |answer: Result<u64>| match answer {
                Ok(word) => format!("it found {word:#x}"),
                Err(error) => error.to_string(),
            };
            let (answer, expected) = (shown(answer), shown(expected));
            format!("fault_get of PASID {pasid}: {answer}, instead of: {expected}")
        })
    }
}
