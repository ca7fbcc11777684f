// SPDX-License-Identifier: MIT OR Apache-2.0
//! One attachment from its beginning to its end, and what a fault finds at each step.

use pasid::{Attach, Error};

use super::Stage;
use crate::run::measure::Kind;
use crate::run::phase::Paused;
use crate::run::plant;
use crate::run::rules::{Rule, outcome};
use crate::run::worker::Worker;

impl Worker<'_> {
    pub(super) fn life_of_an_attachment(&mut self, stage: &Stage) -> Option<()> {
        let pasid = stage.number(self.rng.u32(..4));
        let [site, other, _] = &stage.sites;
        let table = &*site.table;
        let owner = if self.rng.bool() {
            &stage.global
        } else {
            &stage.group
        };
        self.faults(stage, site, pasid, Err(Error::NotFound(pasid)))?;
        let owned = self.gets(stage, Rule::Exact, owner, pasid)?;
        self.faults(stage, site, pasid, Err(Error::NotAttached(pasid)))?;

        // Begun and given up; begun, and then written to hardware.
        let word = plant::fault_word(self, 0xA0);
        for commits in [false, true] {
            let pauses = site.pauses.see();
            let begin = || site.table.clone().attach(&owned, 0xA0);
            let attaching = self.call(begin, Kind::Attach, Kind::AttachRefused);
            if attaching.as_ref().err() == Some(&Error::Paused) {
                return self.paused(site.pauses.since(pauses));
            }
            let begun = attaching.is_ok();
            self.certain(stage, Rule::Fault, begun, || {
                format!("attach of PASID {pasid}: {}", outcome(&attaching))
            })?;
            let attaching = attaching.ok()?;
            self.faults(stage, site, pasid, Err(Error::NotAttached(pasid)))?;
            if !commits {
                self.act(|| drop(attaching), Kind::Detach);
                continue;
            }
            let attachment = self.call(|| attaching.commit(), Kind::Commit, Kind::AttachRefused);
            if attachment.as_ref().err() == Some(&Error::Paused) {
                return self.paused(site.pauses.since(pauses));
            }
            let committed = attachment.is_ok();
            self.certain(stage, Rule::Fault, committed, || {
                format!("commit of PASID {pasid}: {}", outcome(&attachment))
            })?;
            let attachment = attachment.ok()?;
            self.faults(stage, site, pasid, Ok(word))?;
            // To a device that never attached it, the PASID leads nowhere.
            self.faults(stage, other, pasid, Err(Error::NotAttached(pasid)))?;
            let second = self.call(
                || table.attach(&owned, 1),
                Kind::Attach,
                Kind::AttachRefused,
            );
            let refused = matches!(second, Err(Error::AlreadyAttached(_) | Error::Paused));
            self.certain(stage, Rule::Fault, refused, || {
                format!(
                    "attach of PASID {pasid} for a second time: {}",
                    outcome(&second)
                )
            })?;
            let listed: Vec<u64> = table
                .attachments(pasid.into())
                .map(|seen| seen.word)
                .collect();
            self.certain(stage, Rule::Fault, listed == [0xA0], || {
                format!("the attachments at PASID {pasid} are {listed:?}")
            })?;
            return self.end_of_an_attachment(stage, owned, attachment);
        }
        None
    }

    fn end_of_an_attachment(
        &mut self,
        stage: &Stage,
        owned: super::Held,
        attachment: pasid::Attachment<std::sync::Arc<pasid::Table>>,
    ) -> Option<()> {
        let (pasid, [site, other, _]) = (owned.pasid(), &stage.sites);
        let replaced = self.call(
            || attachment.replace(0xB0),
            Kind::Replace,
            Kind::AttachRefused,
        );
        let word = if replaced.is_ok() { 0xB0 } else { 0xA0 };
        self.faults(stage, site, pasid, Ok(word))?;
        let table = &*site.table;
        let fault = self.call(|| table.fault_get(pasid), Kind::Fault, Kind::FaultRefused);
        let fault = fault.ok()?;
        let named = (fault.pasid(), fault.word()) == (pasid, word);
        self.certain(stage, Rule::Fault, named, || {
            format!("a fault on PASID {pasid} has {:?}", fault.word())
        })?;
        // The owner goes: the attachment and the fault keep the number.
        let freed = Err(Error::BeingFreed(pasid));
        self.act(|| drop(owned), Kind::Free);
        self.faults(stage, site, pasid, freed)?;
        self.faults(stage, other, pasid, freed)?;
        let again = self.ask(&stage.global, pasid.into());
        self.certain(stage, Rule::M7, again.is_err(), || {
            format!("PASID {pasid} was given out while it is attached")
        })?;
        self.act(|| attachment.detach(), Kind::Detach);
        self.faults(stage, site, pasid, freed)?;
        let again = self.ask(&stage.global, pasid.into());
        self.certain(stage, Rule::M7, again.is_err(), || {
            format!("PASID {pasid} was given out while a fault on it is not answered")
        })?;
        self.act(|| drop(fault), Kind::FaultPut);
        self.faults(stage, site, pasid, Err(Error::NotFound(pasid)))?;
        let again = self.gets(stage, Rule::Exact, &stage.global, pasid)?;
        self.act(|| drop(again), Kind::Free);
        Some(())
    }

    /// *Paused* was the answer.
    fn paused(&mut self, since: Paused) -> Option<()> {
        let perhaps = since != Paused::No;
        self.expect(Rule::Closing, perhaps, || {
            "a table that is running was paused".to_owned()
        });
        perhaps.then_some(())
    }
}
