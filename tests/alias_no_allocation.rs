// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data calls of a virtual table neither allocate nor free memory.

mod common;

use common::allocator::{Calls, Instrumented, counted, without_allocator};
use common::sets::{both, global};
use common::{pasid, range, width};
use pasid::{AliasMap, Error, IoasidSet, Pool};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Instrumented = Instrumented;

#[test]
fn data_calls_ask_nothing_of_the_allocator() {
    let space = both();
    let users: Arc<IoasidSet> = Arc::new(global(&space));
    let (l1, l2) = (AliasMap::new(), AliasMap::new());
    let outer = l1.add_table(width(16), users.clone()).unwrap();
    let inner = l2.add_nested(width(16), &outer).unwrap();
    let added =
        counted(|| outer.preload(range(0, 255)).unwrap() + inner.preload(range(0, 255)).unwrap());
    // The counter sees what there is to see.
    assert_ne!(added.1, Calls::default());
    for _ in 0..200 {
        let owned = users.clone().alloc(users.range(), 0).unwrap();
        let handle = owned.handle();
        without_allocator("the life of an alias", || {
            outer.attach(pasid(5), handle).unwrap();
            assert!(outer.attach(pasid(5), handle).is_err());
            inner.attach_below(pasid(9), pasid(5)).unwrap();
            inner.attach(pasid(8), handle).unwrap();
            assert_eq!(
                (outer.find(pasid(5)), inner.find(pasid(9))),
                (Ok(handle), Ok(handle))
            );
            drop((outer.find_and_get(pasid(5)), inner.find_and_get(pasid(9))));
            assert_eq!(inner.aliases(range(0, 999)).count(), 2);
            assert_eq!(inner.detach(pasid(9)), Ok(handle));
            // Where no memory was put, none is asked for.
            assert_eq!(outer.attach(pasid(256), handle), Err(Error::OutOfMemory));
            drop(owned);
            assert_eq!(outer.find(pasid(5)), Err(Error::BeingFreed(handle.pasid())));
            inner.detach_all();
            assert_eq!(outer.detach(pasid(5)), Ok(handle));
        });
        assert_eq!(users.statistics().freeing, 0);
    }
}
