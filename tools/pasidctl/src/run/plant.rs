// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules broken on purpose, so that everybody can see the checks fail.
//!
//! The allocator is left as it is. Once in a while what stands between it and the checks
//! reports something that did not happen, as if the rule were broken, and the check of
//! that rule, and of no other, has to notice.

use std::sync::Arc;

use pasid::{Error, Handle, IoasidSet, Owned, Pasid, Result};

use super::driver::Driver;
use super::id::Id;
use super::rules::Rule;
use super::worker::Worker;

/// One PASID in so many is the occasion of a lie.
const EVERY: u32 = 64;
/// Of exact checks, which are few, one in so many.
const EVERY_DRILL: u32 = 4;

fn is_occasion(worker: &mut Worker<'_>, rule: Rule, every: u32) -> bool {
    worker.world.plant == Some(rule) && worker.rng.u32(..every) == 0
}

/// The occasion when a set was given `owned`, and nobody has been told yet.
pub fn when_bound(
    worker: &mut Worker<'_>,
    driver: &Arc<Driver>,
    owned: &Owned<Arc<IoasidSet>>,
    id: Id,
) {
    let Some(rule) = worker.world.plant else {
        return;
    };
    if !is_occasion(worker, rule, EVERY) {
        return;
    }
    let pasid = owned.pasid();
    let claim = |driver: &Driver, pasid| driver.claim(pasid, id.next(), 0).map(|_| ());
    let verdict = match rule {
        // The set hands the same PASID out once more.
        Rule::M1 => claim(driver, pasid),
        // A set on the other side does.
        Rule::M3 => {
            let other = other_side(worker, driver);
            claim(&other, pasid)
        }
        // A reserved PASID is handed out.
        Rule::M4 => claim(driver, Pasid::ZERO),
        // The other driver of the table is given it.
        Rule::M6 => match other_driver(worker, driver) {
            Some(other) => claim(&other, pasid),
            None => Ok(()),
        },
        // One more than the quota is handed out.
        Rule::M8 => match &driver.quota {
            Some(credit) => credit.judge(credit.limit() as u32 + 1, credit.limit()),
            None => Ok(()),
        },
        // The owner goes, and the PASID is handed on while a device holds it.
        Rule::M7 => hand_on_while_held(driver, pasid, id),
        // The owner goes, and the PASID is handed on without a flush.
        Rule::Flush => hand_on_without_a_flush(driver, pasid, id),
        // The PASID is not one of the request.
        Rule::M5 => {
            let (request, range) = (pasid.into(), driver.range);
            let next = Pasid::new(pasid.get() + 1).unwrap_or(Pasid::ZERO);
            let holds = driver.may_give(request, next);
            return worker.expect(rule, holds, || {
                format!("PASID {next} was given for {request} in a set of {range}")
            });
        }
        // A live handle is taken for one whose allocation is over.
        Rule::Stale => return worker.expect_stale(driver, owned.handle()),
        // The PASID is taken for another allocation's.
        Rule::Lookup => {
            let word = driver.set.find(pasid).map(|found| found.word);
            return worker.expect(rule, word == Ok(id.next().word()), || {
                format!("find of PASID {pasid} of {} answered for {id}", id.next())
            });
        }
        // The set is taken for a closed one.
        Rule::Closing => {
            let closing = driver.set.is_closing();
            return worker.expect(rule, closing, || {
                let set = driver.number.0;
                format!("PASID {pasid} was given by set {set}, which is closed")
            });
        }
        // Elsewhere.
        Rule::M2 | Rule::Revoked | Rule::Fault | Rule::Exact | Rule::Drain => Ok(()),
    };
    worker.judge(rule, verdict);
}

/// The occasion when a PASID is given up, which is live still.
pub fn when_leaving(worker: &mut Worker<'_>, driver: &Driver, handle: Handle) {
    // It is taken for revoked before it is.
    if is_occasion(worker, Rule::Revoked, EVERY) {
        let answer = worker.get(driver, handle);
        worker.expect_refused(handle, answer, &[]);
    }
}

/// The occasion when a number that one table has was asked for on another.
pub fn overlap_answer<T>(worker: &mut Worker<'_>, pasid: Pasid, answer: Result<T>) -> Result<T> {
    if is_occasion(worker, Rule::M2, EVERY_DRILL) {
        return Err(Error::HeldLocally(pasid));
    }
    answer
}

/// The occasion when an attachment was given `word`.
pub fn fault_word(worker: &mut Worker<'_>, word: u64) -> u64 {
    if is_occasion(worker, Rule::Fault, EVERY_DRILL) {
        return word + 1;
    }
    word
}

fn other_side(worker: &Worker<'_>, driver: &Driver) -> Arc<Driver> {
    let layout = &worker.layout;
    if driver.is_global() {
        layout.places[0].locals[0].clone()
    } else {
        layout.globals[0].clone()
    }
}

fn other_driver(worker: &Worker<'_>, driver: &Driver) -> Option<Arc<Driver>> {
    let [site] = driver.sites() else { return None };
    let locals = &worker.layout.places[site.place].locals;
    let other = locals.iter().find(|other| other.number != driver.number)?;
    Arc::ptr_eq(&other.sites()[0], site).then(|| other.clone())
}

fn hand_on_while_held(
    driver: &Driver,
    pasid: Pasid,
    id: Id,
) -> std::result::Result<(), super::rules::Breach> {
    let limit = driver.quota.as_ref().map_or(0, |credit| credit.limit());
    driver.take(pasid, id)?;
    driver.release(pasid, id)?;
    let handed_on = driver.claim(pasid, id.next(), limit).map(|_| ());
    // Then the shadow is as it was.
    driver.give(pasid, id)?;
    if driver.quarantine.is_some() {
        driver.flushed(pasid)?;
    }
    driver.claim(pasid, id, limit)?;
    handed_on
}

fn hand_on_without_a_flush(
    driver: &Driver,
    pasid: Pasid,
    id: Id,
) -> std::result::Result<(), super::rules::Breach> {
    if driver.quarantine.is_none() {
        return Ok(());
    }
    let limit = driver.quota.as_ref().map_or(0, |credit| credit.limit());
    driver.release(pasid, id)?;
    let handed_on = driver.claim(pasid, id.next(), limit).map(|_| ());
    // Then the shadow is as it was.
    driver.flushed(pasid)?;
    driver.claim(pasid, id, limit)?;
    handed_on
}
