// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may have a number beside whom; and that the last free ones are found.

use pasid::Error;

use super::{Held, Stage};
use crate::run::measure::Kind;
use crate::run::plant;
use crate::run::rules::{Rule, outcome};
use crate::run::worker::Worker;

impl Worker<'_> {
    /// One number in every scope, one after the other.
    pub(super) fn overlap(&mut self, stage: &Stage) -> Option<()> {
        let pasid = stage.number(self.rng.u32(..4));
        let [[first, sibling], [second, _], [third, _]] = &stage.locals;
        let (group, global) = (&stage.group, &stage.global);
        let (in_use, locally, globally) = (
            Error::InUse(pasid),
            Error::HeldLocally(pasid),
            Error::HeldGlobally(pasid),
        );
        // On one table; on another one, which has nothing to do with it.
        let one = self.gets(stage, Rule::Exact, first, pasid)?;
        let two = self.ask(second, pasid.into());
        let two = plant::overlap_answer(self, pasid, two);
        let two = self.got(stage, Rule::M2, second, pasid, two)?;
        self.is_refused(stage, Rule::M6, sibling, in_use, pasid)?;
        self.is_refused(stage, Rule::M1, group, in_use, pasid)?;
        self.is_refused(stage, Rule::M3, global, locally, pasid)?;
        // The owner goes, and a reference stays.
        let reference = self.referenced(stage, &one)?;
        self.act(|| drop(one), Kind::Free);
        self.act(|| drop(two), Kind::Free);
        self.is_refused(stage, Rule::M7, first, in_use, pasid)?;
        self.is_refused(stage, Rule::M6, sibling, in_use, pasid)?;
        self.is_refused(stage, Rule::M1, group, in_use, pasid)?;
        self.is_refused(stage, Rule::M3, global, locally, pasid)?;
        self.act(|| drop(reference), Kind::Put);
        // On no table now, and everywhere.
        let everywhere = self.gets(stage, Rule::Exact, global, pasid)?;
        for driver in [first, sibling, second, third, group] {
            self.is_refused(stage, Rule::M3, driver, globally, pasid)?;
        }
        self.is_refused(stage, Rule::M1, global, in_use, pasid)?;
        let reference = self.referenced(stage, &everywhere)?;
        self.act(|| drop(everywhere), Kind::Free);
        self.is_refused(stage, Rule::M3, third, globally, pasid)?;
        self.is_refused(stage, Rule::M7, global, in_use, pasid)?;
        self.act(|| drop(reference), Kind::Put);
        // On two tables; a third one has nothing to do with it.
        let both = self.gets(stage, Rule::Exact, group, pasid)?;
        for driver in [first, sibling, second] {
            self.is_refused(stage, Rule::M1, driver, in_use, pasid)?;
        }
        self.is_refused(stage, Rule::M3, global, locally, pasid)?;
        let beside = self.gets(stage, Rule::M2, third, pasid)?;
        self.act(|| drop(both), Kind::Free);
        self.is_refused(stage, Rule::M3, global, locally, pasid)?;
        self.act(|| drop(beside), Kind::Free);
        let again = self.gets(stage, Rule::Exact, global, pasid)?;
        self.act(|| drop(again), Kind::Free);
        Some(())
    }

    /// All numbers of the window, to the last one, by all who reach the first table.
    pub(super) fn fill_window(&mut self, stage: &Stage) -> Option<()> {
        let [first, sibling] = &stage.locals[0];
        let askers = [first, sibling, &stage.group, &stage.global];
        let range = stage.window;
        let mut held: Vec<Held> = Vec::new();
        for index in 0..range.count() as usize {
            let asker = askers[(index + self.index) % askers.len()];
            let answer = self.ask(asker, range);
            let fresh = answer.as_ref().is_ok_and(|owned| {
                let pasid = owned.pasid();
                range.contains(pasid) && held.iter().all(|other| other.pasid() != pasid)
            });
            self.certain(stage, Rule::Exact, fresh, || {
                format!(
                    "alloc in {range}, where some are free: {}",
                    outcome(&answer)
                )
            })?;
            held.extend(answer);
        }
        for asker in askers {
            let answer = self.ask(asker, range);
            let refused = answer.as_ref().err() == Some(&Error::Exhausted { range });
            self.certain(stage, Rule::Exact, refused, || {
                format!("alloc in {range}, where none is free: {}", outcome(&answer))
            })?;
        }
        for asker in askers {
            let freed = held.swap_remove(self.rng.usize(..held.len()));
            let pasid = freed.pasid();
            self.act(|| drop(freed), Kind::Free);
            let answer = self.ask(asker, range);
            held.push(self.got(stage, Rule::Exact, asker, pasid, answer)?);
        }
        for owned in held {
            self.act(|| drop(owned), Kind::Free);
        }
        Some(())
    }
}
