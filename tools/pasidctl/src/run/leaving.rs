// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `--snapshot` leaves behind: the machine when its threads have stopped and nothing
//! has been given back.

use pasid::Attach;
use pasid::snapshot::SpaceSnapshot;

use super::RunError;
use super::worker::Worker;
use super::world::{Tenant, World, lock};

/// Takes a snapshot of the load's space, in which there is one of everything: PASIDs
/// that are live, that were freed while they are attached, and that await a flush; one that
/// is pinned; and a fault that was not answered.
///
/// # Errors
/// Those of [`Space::snapshot`](pasid::Space::snapshot).
pub fn snapshot(worker: &mut Worker<'_>) -> Result<SpaceSnapshot, RunError> {
    let world = worker.world;
    let attached = attached(world);
    let is_attached = |tenant: &Tenant| attached.contains(&tenant.id);
    let leaving = [
        take(world, is_attached),
        take(world, |tenant| {
            tenant.driver.quarantine.is_some() && !is_attached(tenant)
        }),
    ];
    for tenant in leaving.into_iter().flatten() {
        worker.exit(tenant);
    }
    let pinned = world.board.iter().find_map(|cell| {
        let place = lock(cell);
        place.as_ref().and_then(|tenant| tenant.owned.pin().ok())
    });
    let fault = world.entries.iter().flatten().find_map(|cell| {
        let place = lock(cell);
        let entry = place.as_ref()?;
        let table = entry.site.table.clone();
        table.fault_get(entry.attachment.pasid()).ok()
    });
    let snapshot = world.builder.space.snapshot();
    drop((pinned, fault));
    Ok(snapshot?)
}

/// The PASIDs that are attached somewhere.
fn attached(world: &World<'_>) -> Vec<super::id::Id> {
    let cells = world.entries.iter().flatten();
    cells
        .filter_map(|cell| lock(cell).as_ref().map(|entry| entry.id))
        .collect()
}

/// Takes the first such PASID from the board.
fn take(world: &World<'_>, wanted: impl Fn(&Tenant) -> bool) -> Option<Tenant> {
    world.board.iter().find_map(|cell| {
        let mut place = lock(cell);
        place.take_if(|tenant| wanted(tenant))
    })
}
