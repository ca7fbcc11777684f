// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of the load: everything is given back, and then all of it must be
//! there to be handed out again.

use std::collections::BTreeSet;
use std::sync::Arc;

use pasid::{Error, IoasidSet, Owned, Pasid, PasidRange, Pool, Result};

use super::driver::Driver;
use super::plan::range;
use super::rules::{Rule, outcome};
use super::worker::Worker;
use super::world::lock;

/// How many numbers are filled, from the lowest.
const FILLED: u32 = 600;

/// Ends everything, by one thread, when the others are done; then fills what there is to
/// see that nothing was lost. None of it is counted or timed for the report; its checks are.
pub fn finish(worker: &mut Worker<'_>) {
    let world = worker.world;
    for cell in world.entries.iter().flatten() {
        let entry = lock(cell).take();
        entry.into_iter().for_each(|entry| worker.detach(entry));
    }
    for cell in &world.board {
        let tenant = lock(cell).take();
        tenant.into_iter().for_each(|tenant| worker.exit(tenant));
    }
    worker.gone.clear();
    let layout = world.layout();
    let mut all: Vec<Arc<Driver>> = layout.globals.to_vec();
    all.push(layout.drill.clone());
    for group in &layout.groups {
        all.extend([group.shared.clone(), group.drill.clone()]);
    }
    for place in &layout.places {
        all.extend(
            place
                .locals
                .iter()
                .chain(place.drills.iter().flatten())
                .cloned(),
        );
    }
    for driver in &all {
        worker.flush_all(driver);
        empty(worker, driver);
    }
    worker.flush_closed();
    let closed = lock(&world.closed).len();
    worker.expect(Rule::Exact, closed == 0, || {
        format!("everything has been given back, and {closed} closed sets are in use")
    });
    // A control call, by which the space forgets what is closed and gone.
    let open = world
        .builder
        .space
        .tables()
        .map_or(0, |tables| tables.len());
    worker.expect(Rule::Exact, open == layout.places.len(), || {
        format!("there are {open} tables instead of {}", layout.places.len())
    });
    // Planted: one is kept back, and so is missing.
    let planted = world.plant == Some(Rule::Exact);
    let kept = planted.then(|| layout.globals[0].set.clone().alloc(low(), 0));
    for place in &layout.places {
        let reserved = [Some(Pasid::ZERO), place.site.reserved];
        let [first, second] = &place.locals;
        fill(worker, first, &reserved, &[second, &layout.globals[0]]);
    }
    for group in &layout.groups {
        let sites = group.shared.sites().iter();
        let mut reserved: Vec<_> = sites.map(|site| site.reserved).collect();
        reserved.push(Some(Pasid::ZERO));
        fill_quota(worker, &group.shared, &reserved);
    }
    let sites = layout.places.iter();
    let mut reserved: Vec<_> = sites.map(|place| place.site.reserved).collect();
    reserved.push(Some(Pasid::ZERO));
    let locals: Vec<&Driver> = layout
        .places
        .iter()
        .map(|place| &*place.locals[0])
        .collect();
    fill(worker, &layout.globals[0], &reserved, &locals);
    drop(kept);
}

fn low() -> PasidRange {
    range(0, FILLED - 1)
}

/// Nothing is in the set, by its own account.
fn empty(worker: &mut Worker<'_>, driver: &Driver) {
    worker.expect_empty(driver);
    if let (Some(credit), Some(quota)) = (&driver.quota, driver.set.quota()) {
        let counts = (quota.used, credit.held());
        let holds = counts == (0, 0) && quota.high_water <= credit.most;
        worker.expect(Rule::M8, holds, || {
            format!("everything has been given back, and of a quota are in use: {counts:?}")
        });
    }
}

type Filled = Vec<Owned<Arc<IoasidSet>>>;

/// Allocates until there is none, or one more than there should be.
fn take_all(driver: &Driver, range: PasidRange, expected: usize) -> (Filled, Result<()>) {
    let mut filled = Vec::with_capacity(expected);
    loop {
        match driver.set.clone().alloc(range, 0) {
            Ok(owned) if filled.len() <= expected => filled.push(owned),
            Ok(_) => return (filled, Ok(())),
            Err(error) => return (filled, Err(error)),
        }
    }
}

/// Allocates the low numbers until none is left, which must be exactly when all but the
/// reserved ones have been handed out; then none of `others` has one either.
fn fill(worker: &mut Worker<'_>, driver: &Driver, reserved: &[Option<Pasid>], others: &[&Driver]) {
    let Some(range) = driver.range.intersect(low()) else {
        return;
    };
    let mut free: Vec<u32> = (range.first().get()..=range.last().get()).collect();
    free.retain(|&number| reserved.iter().flatten().all(|pasid| pasid.get() != number));
    let expected = free.len();
    let (mut filled, end) = take_all(driver, range, expected);
    let exact = end == Err(Error::Exhausted { range }) && filled.len() == expected;
    worker.expect(Rule::Exact, exact, || {
        let (set, count, end) = (driver.number.0, filled.len(), outcome(&end));
        format!("{expected} PASIDs in {range} of set {set} are free, and it gave {count}: {end}")
    });
    for other in others {
        let mine = filled.iter().map(|owned| owned.pasid());
        let mine: Vec<Pasid> = mine.filter(|&pasid| other.range.contains(pasid)).collect();
        let Some(&pasid) = mine.get(mine.len() / 2) else {
            continue;
        };
        let rule = if other.is_global() == driver.is_global() {
            Rule::M6
        } else {
            Rule::M3
        };
        let answer = other.set.clone().alloc(pasid.into(), 0);
        let range = pasid.into();
        let refused = answer.as_ref().err() == Some(&Error::Exhausted { range });
        worker.expect(rule, refused, || {
            let (one, two, answer) = (driver.number.0, other.number.0, outcome(&answer));
            format!("PASID {pasid} of set {one} was asked for in set {two}: {answer}")
        });
    }
    // One is given back, and is the only one.
    if !filled.is_empty() {
        let pasid = filled.swap_remove(filled.len() / 2).pasid();
        let again = driver.set.clone().alloc(range, 0);
        let given = again.as_ref().is_ok_and(|owned| owned.pasid() == pasid);
        worker.expect(Rule::Exact, given || !exact, || {
            format!(
                "alloc in {range}, where PASID {pasid} alone is free: {}",
                outcome(&again)
            )
        });
    }
}

/// Allocates until the quota is used up, or all that is free, which must be exact.
fn fill_quota(worker: &mut Worker<'_>, driver: &Driver, reserved: &[Option<Pasid>]) {
    let Some(credit) = &driver.quota else { return };
    let (quota, range) = (credit.limit() as u32, driver.range);
    let reserved: BTreeSet<Pasid> = reserved.iter().copied().flatten().collect();
    let kept = reserved
        .iter()
        .filter(|&&pasid| driver.may_give(range, pasid));
    let hole = driver.hole.and_then(|hole| hole.intersect(range));
    let free = range.count() - hole.map_or(0, PasidRange::count) - kept.count() as u32;
    let expected = free.min(quota);
    let (filled, end) = take_all(driver, range, expected as usize);
    let clean = filled
        .iter()
        .all(|owned| !reserved.contains(&owned.pasid()));
    let ended = match end {
        Err(Error::QuotaExceeded { quota: named }) => named == quota && quota <= free,
        Err(Error::Exhausted { .. }) => free < quota,
        _ => false,
    };
    let exact = ended && filled.len() == expected as usize;
    worker.expect(Rule::M8, exact && clean, || {
        let (set, count, end) = (driver.number.0, filled.len(), outcome(&end));
        format!("set {set} with a quota of {quota} gave {count} PASIDs of {free} free: {end}")
    });
    drop(filled);
    if driver.quarantine.is_some() {
        // Now they wait, and their credits with them.
        let answer = driver.set.clone().alloc(range, 0);
        if quota <= free {
            let refused = answer.as_ref().err() == Some(&Error::QuotaExceeded { quota });
            worker.expect(Rule::M8, refused, || {
                let answer = outcome(&answer);
                format!("alloc with a quota of {quota}, all of which awaits a flush: {answer}")
            });
        } else {
            worker.expect_awaiting(&answer, range);
        }
        worker.flush_all(driver);
        worker.expect_empty(driver);
    }
}
