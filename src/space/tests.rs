// SPDX-License-Identifier: MIT OR Apache-2.0
//! What only shows when a PASID is out of generations.

use super::*;
use crate::pool::Pool;
use crate::set::Scope;

const SEVEN: Pasid = Pasid::from_u16(7);

/// A space in which every global PASID has one generation left.
fn nearly_used_up(kind: SpaceKind) -> Space {
    let mut space = Space::with_reserved(kind, &[]);
    space.inner().expect("memory for a test");
    let _ = space.inner.take_if(|inner| {
        let mut shared = Shared::new(kind, &[], None);
        shared.globals.tree = shared.globals.tree.starting_at(u32::MAX);
        inner.shared = Counted::new(shared).expect("memory for a test");
        false
    });
    space
}

fn add_set(space: &Space, scope: Scope<'_>) -> IoasidSet {
    let set = space.add_set(SetConfig::new(scope));
    set.expect("memory for a test")
}

#[test]
fn a_global_pasid_that_is_used_up_is_in_use_for_who_reserves_it() {
    for kind in [SpaceKind::Global, SpaceKind::Both] {
        let space = nearly_used_up(kind);
        let users = add_set(&space, Scope::Global);
        let owned = users.alloc(SEVEN.into(), 0).expect("it is free");
        assert_eq!(space.reserve(SEVEN), Err(Error::HeldGlobally(SEVEN)));
        let reference = owned.get().expect("it is live");
        drop(owned);
        assert_eq!(space.reserve(SEVEN), Err(Error::HeldGlobally(SEVEN)));
        drop(reference);
        // Nobody holds it, and nobody will.
        for _ in 0..2 {
            assert_eq!(space.reserve(SEVEN), Err(Error::InUse(SEVEN)));
        }
        assert_eq!(space.unreserve(SEVEN), Err(Error::NotFound(SEVEN)));
        // A table may have it for itself.
        let table = space.add_table(TableConfig::new(PasidWidth::MAX));
        let table = table.expect("memory for a test");
        assert_eq!(table.reserve(SEVEN), Ok(()));
        assert_eq!(space.reserve(SEVEN), Err(Error::InUse(SEVEN)));
        assert_eq!(table.unreserve(SEVEN), Ok(()));
        assert_eq!(space.reserve(SEVEN), Err(Error::InUse(SEVEN)));
        let eight = Pasid::from_u16(8);
        assert_eq!(space.reserve(eight), Ok(()));
        assert_eq!(space.reserve(eight), Err(Error::Reserved(eight)));
    }
}

#[test]
fn what_is_used_up_globally_is_free_for_a_table_s_own_set() {
    let space = nearly_used_up(SpaceKind::Both);
    let table = space.add_table(TableConfig::new(PasidWidth::MAX));
    let table = table.expect("memory for a test");
    let users = add_set(&space, Scope::Global);
    let drivers = add_set(&space, Scope::Local(&table));
    drop(users.alloc(SEVEN.into(), 0).expect("it is free"));
    assert_eq!(users.alloc_at(SEVEN, 0).err(), Some(Error::InUse(SEVEN)));
    let owned = drivers.alloc(SEVEN.into(), 0);
    assert_eq!(owned.as_ref().map(|owned| owned.pasid()), Ok(SEVEN));
    assert_eq!(space.reserve(SEVEN), Err(Error::InUse(SEVEN)));
}
