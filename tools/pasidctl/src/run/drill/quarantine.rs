// SPDX-License-Identifier: MIT OR Apache-2.0
//! One PASID from its free to its reuse, in a set of two tables that has a quarantine for
//! itself: so nobody else flushes it.

use std::sync::Arc;

use pasid::{Attach, Error, Flush, IoasidSet, Pool, Reuse, Scope, SetConfig, Table};

use super::Stage;
use crate::run::measure::Kind;
use crate::run::rules::{Rule, outcome};
use crate::run::worker::Worker;

impl Worker<'_> {
    pub(super) fn reuse_after_a_flush(&mut self, stage: &Stage) -> Option<()> {
        let space = &self.world.builder.space;
        let [first, second, _] = &stage.sites;
        let tables: [Table; 2] = [first, second].map(|site| (*site.table).clone());
        let config = SetConfig::new(Scope::Group(&tables))
            .range(stage.window)
            .reuse(Reuse::AfterFlush);
        let added = self.call(|| space.add_set(config), Kind::Add, Kind::Add);
        self.certain(stage, Rule::Exact, added.is_ok(), || {
            format!("a set could not be added: {}", outcome(&added))
        })?;
        let set = Arc::new(added.ok()?);
        let done = self.wait_and_return(stage, &set);
        // Whatever a device's removal has left.
        let flushed = self.act(|| (&*set).flush(|_| Ok::<(), ()>(())), Kind::Flush);
        self.act(|| set.close(), Kind::Remove);
        self.expect(Rule::Flush, flushed.is_ok(), || {
            "a flush failed whose invalidation did not".to_owned()
        });
        done
    }

    /// It waits: for its own set, and for all others it is held.
    fn waits(&mut self, stage: &Stage, set: &Arc<IoasidSet>, pasid: pasid::Pasid) -> Option<()> {
        let expected = Error::AwaitingFlush {
            range: pasid.into(),
        };
        let at = set.clone();
        let at = || at.alloc_at(pasid, 0);
        let answers = [
            self.ask_set(set, pasid.into(), expected),
            self.call(at, Kind::AllocAt, Kind::AllocRefused),
        ];
        for answer in answers {
            let waits = answer.as_ref().err() == Some(&expected);
            self.certain(stage, Rule::Flush, waits, || {
                format!(
                    "alloc of PASID {pasid}, which awaits a flush: {}",
                    outcome(&answer)
                )
            })?;
        }
        let (in_use, locally) = (Error::InUse(pasid), Error::HeldLocally(pasid));
        self.is_refused(stage, Rule::Flush, &stage.locals[0][0], in_use, pasid)?;
        self.is_refused(stage, Rule::Flush, &stage.locals[1][1], in_use, pasid)?;
        self.is_refused(stage, Rule::M3, &stage.global, locally, pasid)
    }

    fn wait_and_return(&mut self, stage: &Stage, set: &Arc<IoasidSet>) -> Option<()> {
        let pasid = stage.number(self.rng.u32(..4));
        let [site, other, _] = &stage.sites;
        let range = pasid.into();
        let exhausted = Error::Exhausted { range };
        let answer = self.ask_set(set, range, exhausted);
        let given = answer.as_ref().is_ok_and(|owned| owned.pasid() == pasid);
        self.certain(stage, Rule::Exact, given, || {
            let answer = outcome(&answer);
            format!("alloc of PASID {pasid} in a new set, for which it is free: {answer}")
        })?;
        let owned = answer.ok()?;
        let reference = self.referenced(stage, &owned)?;
        let begin = || site.table.clone().attach(&owned, 0);
        let attached = self.call(begin, Kind::Attach, Kind::AttachRefused);
        // From then on its entry may have been written to hardware.
        let was_attached = attached.is_ok();
        let attached = attached.and_then(|attaching| {
            self.call(|| attaching.commit(), Kind::Commit, Kind::AttachRefused)
        });
        // Neither the attachment nor the reference lets it go; so there is nothing to flush.
        self.act(|| drop(owned), Kind::Free);
        self.act(|| drop(attached), Kind::Detach);
        let empty = self.act(|| (&**set).begin_flush(), Kind::BeginFlush);
        let count = empty.count();
        self.act(|| drop(empty), Kind::EndFlush);
        self.certain(stage, Rule::Flush, count == 0, || {
            format!("a flush has taken PASID {pasid}, which is held")
        })?;
        let again = self.ask_set(set, range, exhausted);
        let refused = again.as_ref().err() == Some(&exhausted);
        self.certain(stage, Rule::M7, refused, || {
            format!("alloc of PASID {pasid}, which is held: {}", outcome(&again))
        })?;
        self.act(|| drop(reference), Kind::Put);
        self.waits(stage, set, pasid)?;
        // The invalidation fails; a ticket is dropped.
        let failed = self.act(|| (&**set).flush(|_| Err::<(), ()>(())), Kind::Flush);
        self.act(|| drop((&**set).begin_flush()), Kind::BeginFlush);
        self.certain(stage, Rule::Flush, failed.is_err(), || {
            format!("a flush of PASID {pasid} whose invalidation failed returned {failed:?}")
        })?;
        self.waits(stage, set, pasid)?;
        let ticket = self.act(|| (&**set).begin_flush(), Kind::BeginFlush);
        let (here, there) = (ticket.concerns(&site.table), ticket.concerns(&other.table));
        // Of an attachment that was refused it may say so too, but not of another table.
        let named = ticket.ranges().eq([range]) && (here || !was_attached) && !there;
        self.certain(stage, Rule::Flush, named, || {
            let ranges: Vec<_> = ticket.ranges().collect();
            format!(
                "a flush of PASID {pasid} has {ranges:?}, and concerns the table to which it \
                 was attached ({was_attached}): {here}, another: {there}"
            )
        })?;
        self.waits(stage, set, pasid)?;
        let returned = self.act(|| ticket.complete(), Kind::EndFlush);
        self.certain(stage, Rule::Flush, returned == 1, || {
            format!("a flush of PASID {pasid} returned {returned} PASIDs")
        })?;
        let again = self.gets(stage, Rule::Exact, &stage.global, pasid)?;
        self.act(|| drop(again), Kind::Free);
        Some(())
    }
}
