// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules broken on purpose, so that everybody can see the checks fail.
//!
//! The allocator is left as it is. Once in a while the load tells its checks of
//! something that did not happen, or demands what must not be, and the check of
//! that rule, and of no other, has to notice.

use pasid::{Handle, IdSpace, Owned, PasidRange};

use super::process::ProcessId;
use super::rules::Rule;
use super::shadow::Claimant;
use super::worker::Worker;

/// One process in so many is the occasion of a lie.
const EVERY: u32 = 256;

/// The occasion when `id` has been given `owned`, has claimed it, and nobody has
/// been told yet.
pub fn when_bound(
    worker: &mut Worker<'_, '_>,
    owned: &Owned<&IdSpace>,
    id: ProcessId,
    request: PasidRange,
) {
    let Some(rule) = worker.world.plant else {
        return;
    };
    if worker.rng.u32(..EVERY) != 0 {
        return;
    }
    let pasid = owned.pasid();
    match rule {
        // The same PASID is handed out once more.
        Rule::M1 => worker.claim(pasid, id.next()),
        // A reserved one is.
        Rule::M4 => worker.claim(worker.world.plan.reserved[0], id),
        // One above the request is.
        Rule::M5 => worker.check_limits(request.last().get() + 1, request),
        // The owner goes, and the PASID is handed on while a device holds it.
        Rule::M7 => hand_on_while_held(worker, owned, id),
        // A live handle is taken for one whose allocation is over.
        Rule::Stale => worker.expect_stale(owned.handle()),
        // The fault is taken for another process's.
        Rule::Lookup => {
            let word = worker.find(pasid).map(|found| found.word);
            worker.expect(Rule::Lookup, word == Ok(id.next().word()), || {
                format!("find of PASID {pasid} of {} answered for {id}", id.next())
            });
        }
        // See `when_leaving`, and the end of the load.
        Rule::Revoked | Rule::Exact => {}
    }
}

/// The occasion when a process gives up `handle`, which is live still.
pub fn when_leaving(worker: &mut Worker<'_, '_>, handle: Handle) {
    // It is taken for revoked before it is.
    if worker.world.plant == Some(Rule::Revoked) && worker.rng.u32(..EVERY) == 0 {
        let answer = worker.get(handle);
        worker.expect_refused(handle, answer, &[]);
    }
}

fn hand_on_while_held(worker: &mut Worker<'_, '_>, owned: &Owned<&IdSpace>, id: ProcessId) {
    let (pasid, owner) = (owned.pasid(), Claimant::Process(id));
    let shadow = &worker.world.shadow;
    let held = shadow
        .take(pasid, id)
        .and_then(|()| shadow.release(pasid, owner));
    worker.judge(Rule::M7, held);
    worker.claim(pasid, id.next());
    // Then the shadow is as it was.
    let restored = shadow
        .give(pasid, id)
        .and_then(|()| shadow.claim(pasid, owner));
    worker.judge(Rule::M7, restored);
}
