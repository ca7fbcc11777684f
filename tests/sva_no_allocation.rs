// SPDX-License-Identifier: MIT OR Apache-2.0
//! Binding in place, unbinding and retiring ask nothing of the allocator.

mod common;

use common::allocator::{Instrumented, counted, without_allocator};
use common::range;
use common::sets::table;
use pasid::{
    Error, IdSpace, PasidCell, PasidWidth, Pool, Reuse, Scope, SetConfig, Space, SpaceKind,
};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Instrumented = Instrumented;

/// The life of cells on `set`, of which 0 ..= 255 have memory, with and without others.
fn live<S: Pool<Payload = u64>>(set: S) {
    let (within, beyond) = (range(1, 255), range(20_000, 20_000));
    without_allocator("the life of a cell", || {
        for make in [PasidCell::new, PasidCell::until_last_unbind] {
            let cell = make(set.clone());
            let missing = cell.bind_in_place(beyond, 0).err();
            assert_eq!(missing, Some(Error::OutOfMemory));
            let one = cell.bind_in_place(within, 1).unwrap();
            let two = cell.bind_in_place(within, 2).unwrap();
            assert_eq!(cell.find(), Some(two.handle()));
            let outside = cell.bind_in_place(beyond, 0).err();
            assert!(matches!(outside, Some(Error::OutsideLimits { .. })));
            drop((one, two));
            let three = cell.bind_in_place(within, 3).unwrap();
            cell.retire();
            drop(three);
            assert_eq!(
                cell.bind_in_place(within, 0).err(),
                Some(Error::CellRetired)
            );
            assert!(cell.is_retired() && cell.find().is_none());
        }
    });
}

#[test]
fn binding_in_place_asks_nothing_of_the_allocator() {
    let ids = IdSpace::new(PasidWidth::MAX);
    ids.preload(range(0, 255)).unwrap();
    live(&ids);
    let space = Space::new(SpaceKind::Both);
    let tables = [table(&space, 20), table(&space, 20)];
    for scope in [
        Scope::Global,
        Scope::Local(&tables[0]),
        Scope::Group(&tables),
    ] {
        for reuse in [Reuse::Immediate, Reuse::AfterFlush] {
            for quota in [255, 0xf_ffff] {
                let config = SetConfig::new(scope).reuse(reuse).quota(quota);
                let set = Arc::new(space.add_set(config).unwrap());
                set.preload(range(0, 255)).unwrap();
                live(&*set);
                live(set);
            }
        }
    }
}

#[test]
fn binding_may_grow_once() {
    let ids = IdSpace::new(PasidWidth::MAX);
    let cell = PasidCell::new(&ids);
    let (bound, asked) = counted(|| cell.bind(ids.range(), 0));
    assert!(bound.is_ok() && asked.allocated > 0);
    without_allocator("bound already", || cell.bind(ids.range(), 0).is_ok());
}
