// SPDX-License-Identifier: MIT OR Apache-2.0
//! What drivers and the system do once in a while: reservations, pauses around a device
//! reset, other quotas, and devices that are removed and added again.

use std::sync::Arc;

use pasid::{Error, Pasid, Pool, Result};

use super::driver::{Driver, Site};
use super::layout::{Group, Layout, Place};
use super::measure::Kind;
use super::phase::Step;
use super::rules::{Breach, Rule, outcome};
use super::sides::Side;
use super::worker::{Reservation, Worker};
use super::world::{lock, try_lock};

/// A table is removed once in so many times that it may be.
const REMOVED_EVERY: u32 = 4;

impl Worker<'_> {
    /// Keeps a PASID reserved for a while, on a table or everywhere.
    pub(super) fn reserve_or_not(&mut self) {
        if self.reservation.is_some() {
            return self.unreserve();
        }
        let world = self.world;
        let pasid = world.builder.plan.reservable(&mut self.rng);
        let site = self.rng.bool().then(|| {
            let place = &self.layout.places[self.rng.usize(..self.layout.places.len())];
            place.site.clone()
        });
        let reserve = || match &site {
            Some(site) => site.table.reserve(pasid),
            None => world.builder.space.reserve(pasid),
        };
        match self.call(reserve, Kind::Reserve, Kind::Reserve) {
            Ok(()) => {
                let verdict = self.enter_reservation(site.as_deref(), pasid);
                self.judge(Rule::M4, verdict);
                self.reservation = Some(Reservation { site, pasid });
            }
            Err(error) => {
                let possible = match error {
                    Error::InUse(at) | Error::Reserved(at) | Error::HeldGlobally(at) => at == pasid,
                    Error::HeldLocally(at) => at == pasid && site.is_none(),
                    Error::Closing => site.is_some_and(|site| site.phase.see() >= Step::Closing),
                    Error::DoesNotFit { .. } => site.is_some_and(|site| pasid > site.last),
                    _ => false,
                };
                self.expect(Rule::M4, possible, || {
                    format!("reserve of PASID {pasid}: {error}")
                });
            }
        }
    }

    fn enter_reservation(&self, site: Option<&Site>, pasid: Pasid) -> Result<(), Breach> {
        let sides = &self.world.builder.sides;
        let Some(site) = site else {
            return sides.add(pasid, Side::Space);
        };
        site.row.reserve(pasid)?;
        sides.add(pasid, Side::Table)
    }

    /// Takes the reservation away, if there is one.
    pub(super) fn unreserve(&mut self) {
        let Some(Reservation { site, pasid }) = self.reservation.take() else {
            return;
        };
        let builder = &self.world.builder;
        match &site {
            Some(site) => {
                builder.sides.sub(pasid, Side::Table);
                site.row.unreserve(pasid);
            }
            None => builder.sides.sub(pasid, Side::Space),
        }
        let unreserve = || match &site {
            Some(site) => site.table.unreserve(pasid),
            None => builder.space.unreserve(pasid),
        };
        let answer = self.call(unreserve, Kind::Unreserve, Kind::Unreserve);
        self.expect(Rule::M4, answer.is_ok(), || {
            let answer = outcome(&answer);
            format!("unreserve of PASID {pasid}, which is reserved: {answer}")
        });
    }

    /// A device is reset: nothing is attached to its table meanwhile.
    pub(super) fn pause(&mut self) {
        let place = &self.layout.places[self.rng.usize(..self.layout.places.len())];
        let site = place.site.clone();
        let Some(_pausing) = try_lock(&site.pausing) else {
            return;
        };
        site.pauses.step();
        let running = self.act(|| site.table.pause(), Kind::Pause);
        site.pauses.step();
        self.attach();
        self.attach();
        site.pauses.step();
        let paused = self.act(|| site.table.resume(), Kind::Pause);
        site.pauses.step();
        self.expect(Rule::Closing, running && paused, || {
            "a table was paused or resumed by nobody".to_owned()
        });
    }

    /// A driver's quota goes down or up.
    pub(super) fn change_quota(&mut self) {
        let driver = self.random_driver();
        let Some(credit) = &driver.quota else {
            return;
        };
        let Some(_changing) = try_lock(&credit.changing) else {
            return;
        };
        let (before, to) = (
            credit.limit() as u32,
            self.rng.u32(credit.most / 2..=credit.most),
        );
        if to > before {
            credit.set_limit(to);
        }
        // What is held all the time is in use; others may come and go.
        let answer = driver.set.set_quota(to);
        self.meter.note(&answer);
        let holds = match answer {
            Ok(()) => true,
            Err(Error::QuotaInUse { used }) => to < used && used <= before,
            Err(Error::Closing) => driver.is_past(Step::Closing),
            Err(_) => false,
        };
        if answer.is_ok() && to < before {
            credit.set_limit(to);
        }
        if answer.is_err() && to > before {
            credit.set_limit(before);
        }
        self.expect(Rule::M8, holds, || {
            format!("a quota of {before} to {to}: {}", outcome(&answer))
        });
    }

    /// A device is removed, at times, and added again at once.
    pub(super) fn remove_sometimes(&mut self) {
        if self.rng.u32(..REMOVED_EVERY) != 0 {
            return;
        }
        let world = self.world;
        let Some(_removing) = try_lock(&world.removing) else {
            return;
        };
        let layout = world.layout();
        let place = self.rng.usize(..layout.places.len());
        self.remove(&layout, place);
        match self.add(&layout, place) {
            Ok(layout) => world.set_layout(layout),
            Err(error) => self.expect(Rule::Exact, false, || {
                format!("a table and its sets could not be added again: {error}")
            }),
        }
        self.sweep();
        self.flush_closed();
    }

    /// Removes a device by surprise.
    fn remove(&mut self, layout: &Layout, place: usize) {
        let Place {
            site,
            locals,
            drills,
        } = &*layout.places[place];
        site.phase.set(Step::Closing);
        if let Some(pasid) = site.reserved {
            self.world.builder.sides.sub(pasid, Side::Table);
            site.row.unreserve(pasid);
        }
        self.act(|| site.table.close(), Kind::Remove);
        site.phase.set(Step::Closed);
        for driver in locals.iter().chain(drills.iter().flatten()) {
            self.expect_closed(driver);
        }
        lock(&self.world.closed).push(locals[1].clone());
        for group in groups_of(layout, place) {
            for driver in [&group.shared, &group.drill] {
                self.expect_closed(driver);
                driver.set.close();
                driver.phase.set(Step::Closed);
            }
            lock(&self.world.closed).push(group.shared.clone());
        }
    }

    /// A set whose table is closed, or one of them, allocates no more.
    fn expect_closed(&mut self, driver: &Driver) {
        let set = driver.set.clone();
        let answer = self.call(
            || set.alloc(driver.range, 0),
            Kind::Alloc,
            Kind::AllocRefused,
        );
        let refused = answer.as_ref().err() == Some(&Error::Closing);
        self.expect(Rule::Closing, refused, || {
            let (set, answer) = (driver.number.0, outcome(&answer));
            format!("alloc in set {set}, one of whose tables is closed: {answer}")
        });
    }

    /// Adds the device again, and all sets that it had.
    fn add(&mut self, layout: &Layout, place: usize) -> Result<Layout> {
        let builder = &self.world.builder;
        let reserved = builder.plan.tables[place].reserved;
        let add = |reserved| builder.site(place, reserved);
        let added = self.call(|| add(reserved), Kind::Add, Kind::Add);
        let (site, verdict) = match added {
            Err(Error::HeldGlobally(named)) => {
                self.expect(Rule::M4, Some(named) == reserved, || {
                    format!("a table that reserves {reserved:?} was refused for PASID {named}")
                });
                self.call(|| add(None), Kind::Add, Kind::Add)?
            }
            added => added?,
        };
        self.judge(Rule::M4, verdict);
        let mut layout = layout.clone();
        layout.places[place] = builder.place(site)?;
        for index in 0..layout.groups.len() {
            if layout.groups[index].members.contains(&place) {
                layout.groups[index] = builder.group(&layout.places, index)?;
            }
        }
        Ok(layout)
    }

    /// Whoever had something on a closed table gives it back.
    pub(super) fn sweep(&mut self) {
        let world = self.world;
        for cell in world.entries.iter().flatten() {
            let mut place = lock(cell);
            if place
                .as_ref()
                .is_some_and(|entry| entry.site.phase.see() == Step::Closed)
            {
                let entry = place.take();
                drop(place);
                entry.into_iter().for_each(|entry| self.detach(entry));
            }
        }
        for cell in &world.board {
            let mut place = lock(cell);
            if place
                .as_ref()
                .is_some_and(|tenant| tenant.driver.is_past(Step::Closed))
            {
                let tenant = place.take();
                drop(place);
                tenant.into_iter().for_each(|tenant| self.exit(tenant));
            }
        }
    }
}

fn groups_of(layout: &Layout, place: usize) -> impl Iterator<Item = &Arc<Group>> {
    let groups = layout.groups.iter();
    groups.filter(move |group| group.members.contains(&place))
}
