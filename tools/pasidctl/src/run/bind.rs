// SPDX-License-Identifier: MIT OR Apache-2.0
//! PASIDs that come and go: allocations from the sets, and the end of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pasid::{Error, Handle, IoasidSet, Owned, PasidRange, Pool, Ref, Result};

use super::driver::Driver;
use super::id::Id;
use super::measure::Kind;
use super::phase::Step;
use super::plant;
use super::rules::{Rule, outcome};
use super::worker::{GONE, Holding, Worker};
use super::world::{Tenant, try_lock};

impl Worker<'_> {
    /// A PASID is allocated, or one in three that are met is given up.
    pub(super) fn bind_or_exit(&mut self) {
        let slot = self.random_slot();
        let Some(mut place) = try_lock(&self.world.board[slot]) else {
            return;
        };
        match &*place {
            None => *place = self.bind(),
            Some(_) if self.rng.u8(..3) == 0 => {
                // Taken away first: whoever finds it here later knows that it lives.
                let tenant = place.take();
                drop(place);
                if let Some(tenant) = tenant {
                    self.exit(tenant);
                }
            }
            Some(_) => {}
        }
    }

    fn bind(&mut self) -> Option<Tenant> {
        let driver = self.random_driver();
        let request = self.world.builder.plan.request(driver.range, &mut self.rng);
        let closed = driver.is_past(Step::Closed);
        let limit = driver.quota.as_ref().map_or(0, |quota| quota.limit());
        let id = Id::new(self.index, self.serial + 1);
        let answer = self.alloc(&driver, request, id);
        if closed {
            let refused = answer.as_ref().err() == Some(&Error::Closing);
            self.expect(Rule::Closing, refused, || {
                let set = driver.number.0;
                format!("alloc in set {set}, which is closed: {}", outcome(&answer))
            });
        }
        match answer {
            Ok(owned) => {
                self.serial += 1;
                self.enter(&driver, &owned, id, request, limit);
                plant::when_bound(self, &driver, &owned, id);
                // Release: pairs with the acquire in `is_claimed`.
                self.world.claimed[self.index].store(self.serial, Ordering::Release);
                Some(Tenant { id, driver, owned })
            }
            Err(error) => {
                self.check_refusal(&driver, request, error);
                None
            }
        }
    }

    /// Allocates; at times as an interrupt handler would, without growing memory if that
    /// can be, or a number that the caller knows.
    fn alloc(
        &mut self,
        driver: &Driver,
        request: PasidRange,
        id: Id,
    ) -> Result<Owned<Arc<IoasidSet>>> {
        let (set, word, cpu) = (driver.set.clone(), id.word(), self.index as u32);
        let (done, refused) = (Kind::Alloc, Kind::AllocRefused);
        match self.rng.u8(..16) {
            0 => {
                let in_place = || set.clone().alloc_in_place_near(cpu, request, word);
                match self.call(in_place, done, refused) {
                    Err(Error::OutOfMemory) => {}
                    answer => return answer,
                }
            }
            1 => {
                let last = request.last().get().min(driver.range.last().get());
                let number = self.rng.u32(request.first().get()..=last);
                let number = pasid::Pasid::new(number).unwrap_or(request.first());
                // What is outside the set is refused with another error.
                if driver.may_give(request, number) {
                    let at = || set.clone().alloc_at(number, word);
                    match self.call(at, Kind::AllocAt, refused) {
                        Ok(owned) => return Ok(owned),
                        Err(error) => self.check_refusal_at(driver, number, error),
                    }
                }
            }
            _ => {}
        }
        self.call(|| set.alloc_near(cpu, request, word), done, refused)
    }

    /// What a failed allocation must be: the form of the error. Whether *exhausted* was
    /// true is for other checks, and this does not count as one.
    fn check_refusal(&mut self, driver: &Driver, request: PasidRange, error: Error) {
        let possible = match error {
            Error::Exhausted { range } | Error::AwaitingFlush { range } => {
                request.contains(range.first())
            }
            Error::QuotaExceeded { quota } => {
                let most = driver.quota.as_ref().map(|credit| credit.most);
                self.expect(Rule::M8, most.is_some_and(|most| quota <= most), || {
                    format!("a quota of {quota} was exceeded, which no set has")
                });
                return;
            }
            Error::Closing => driver.is_past(Step::Closing),
            _ => false,
        };
        if !possible {
            let set = driver.number.0;
            self.expect(Rule::Exact, false, || {
                format!("alloc in {request} of set {set}: {error}")
            });
        }
    }

    fn check_refusal_at(&mut self, driver: &Driver, number: pasid::Pasid, error: Error) {
        let possible = match error {
            Error::InUse(at) | Error::Reserved(at) => at == number,
            Error::AwaitingFlush { range } => range == number.into(),
            Error::HeldGlobally(at) => at == number && !driver.is_global(),
            Error::HeldLocally(at) => at == number && driver.is_global(),
            Error::QuotaExceeded { .. } => driver.quota.is_some(),
            Error::Closing => driver.is_past(Step::Closing),
            Error::OutOfMemory => true,
            _ => false,
        };
        if !possible {
            let set = driver.number.0;
            self.expect(Rule::Exact, false, || {
                format!("alloc_at of {number} in set {set}: {error}")
            });
        }
    }

    /// Enters what was given in the shadow: most rules in one look.
    fn enter(
        &mut self,
        driver: &Driver,
        owned: &Owned<Arc<IoasidSet>>,
        id: Id,
        request: PasidRange,
        limit: u64,
    ) {
        let pasid = owned.pasid();
        self.highest = self.highest.max(Some(pasid));
        self.expect(Rule::M5, driver.may_give(request, pasid), || {
            let (set, range) = (driver.number.0, driver.range);
            format!("PASID {pasid} was given for {request} in set {set} of {range}")
        });
        for rule in [Rule::M1, Rule::M3, Rule::M4, Rule::M7] {
            self.checked[rule as usize] += 1;
        }
        if driver.sites().len() == 1 {
            self.checked[Rule::M6 as usize] += 1;
        }
        if driver.quota.is_some() {
            self.checked[Rule::M8 as usize] += 1;
        }
        if driver.quarantine.is_some() {
            self.checked[Rule::Flush as usize] += 1;
        }
        if let Err(breach) = driver.claim(pasid, id, limit) {
            self.world.ledger().enter(breach);
        }
    }

    /// Ends a PASID; half of them are revoked before their owner gives them up. Others may
    /// hold references still.
    pub(super) fn exit(&mut self, tenant: Tenant) {
        let Tenant { id, driver, owned } = tenant;
        let (pasid, handle) = (owned.pasid(), owned.handle());
        plant::when_leaving(self, &driver, handle);
        if self.rng.bool() {
            self.kill(&driver, handle);
        }
        let verdict = driver.release(pasid, id);
        self.judge(Rule::M7, verdict);
        self.act(|| drop(owned), Kind::Free);
        let answer = self.get(&driver, handle);
        let errors = [Error::BeingFreed(pasid), Error::Stale(handle)];
        self.expect_refused(handle, answer, &errors);
        let gone = (handle, id, driver);
        if self.gone.len() < GONE {
            self.gone.push(gone);
        } else {
            let index = self.rng.usize(..GONE);
            self.gone[index] = gone;
        }
    }

    /// Revokes a PASID whose owner's reference is still there: from now on it is
    /// *being freed*, exactly.
    fn kill(&mut self, driver: &Driver, handle: Handle) {
        let revoked = self.act(|| driver.set.revoke(handle), Kind::Revoke);
        self.expect(Rule::Stale, revoked.is_ok(), || {
            format!("revoke of {handle}, which is live: {}", outcome(&revoked))
        });
        let answer = self.get(driver, handle);
        self.expect_refused(handle, answer, &[Error::BeingFreed(handle.pasid())]);
    }

    /// A reference by handle, counted and timed.
    pub(super) fn get(&mut self, driver: &Driver, handle: Handle) -> Result<Ref<Arc<IoasidSet>>> {
        let set = &driver.set;
        self.call(|| set.clone().get(handle), Kind::Get, Kind::GetRefused)
    }

    /// The free of `handle` has begun: no reference, and one of these errors.
    pub(super) fn expect_refused(
        &mut self,
        handle: Handle,
        answer: Result<Ref<Arc<IoasidSet>>>,
        errors: &[Error],
    ) {
        let refused = answer.as_ref().is_err_and(|error| errors.contains(error));
        self.expect(Rule::Revoked, refused, || {
            let answer = outcome(&answer);
            format!("get of {handle}, which is being freed: {answer}")
        });
    }

    /// Enters a reference that the allocator has just given.
    pub(super) fn took(&mut self, driver: &Driver, pasid: pasid::Pasid, id: Id) {
        let verdict = driver.take(pasid, id);
        self.judge(Rule::M7, verdict);
    }

    /// Takes a reference off the shadow, before it is given back.
    pub(super) fn gives(&mut self, driver: &Driver, pasid: pasid::Pasid, id: Id) {
        let verdict = driver.give(pasid, id);
        self.judge(Rule::M7, verdict);
    }

    /// Gives a reference back.
    pub(super) fn put(&mut self, holding: Holding) {
        self.gives(&holding.driver, holding.reference.pasid(), holding.id);
        self.act(|| drop(holding.reference), Kind::Put);
    }
}
