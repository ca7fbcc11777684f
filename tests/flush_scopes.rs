// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has been flushed in one id space beside sets that have the same numbers in
//! another: nothing of it is taken for waiting any more.

mod common;

use common::sets::{exhausted, global, group, table, take, take_at};
use common::{pasid, range};
use pasid::{Error, Flush, IoasidSet, Pool, Reuse, Scope, SetConfig, Space, SpaceKind, Table};

fn after_flush<'a>(table: &'a Table) -> SetConfig<'a> {
    SetConfig::new(Scope::Local(table)).reuse(Reuse::AfterFlush)
}

fn flush(set: &IoasidSet) -> u32 {
    set.flush(|_| Ok::<(), ()>(())).unwrap()
}

#[test]
fn what_was_flushed_is_not_counted_while_a_group_has_the_number() {
    let space = Space::new(SpaceKind::Tables);
    let tables = [table(&space, 20), table(&space, 20)];
    let driver = space.add_set(after_flush(&tables[0])).unwrap();
    let both = group(&space, &tables);
    drop(take(&driver, 5).unwrap());
    assert_eq!(driver.statistics().waiting, 1);
    assert_eq!(flush(&driver), 1);
    let held = take(&both, 5).unwrap();
    assert_eq!(driver.statistics().waiting, 0);
    drop(held);
}

#[test]
fn a_closed_set_is_gone_while_a_group_has_its_former_number() {
    let space = Space::with_capacity(SpaceKind::Tables, 10);
    let tables = [table(&space, 20), table(&space, 20)];
    let driver = space.add_set(after_flush(&tables[0]).quota(5)).unwrap();
    let both = space
        .add_set(SetConfig::new(Scope::Group(&tables)).quota(5))
        .unwrap();
    drop(take(&driver, 5).unwrap());
    assert_eq!(flush(&driver), 1);
    let held = take(&both, 5).unwrap();
    driver.close();
    drop(driver);
    assert_eq!(space.capacity_left(), Some(5));
    drop(held);
}

#[test]
fn what_was_flushed_and_is_held_by_another_set_awaits_no_flush() {
    let space = Space::new(SpaceKind::Both);
    let one = table(&space, 20);
    let driver = space.add_set(after_flush(&one)).unwrap();
    let users = global(&space);
    drop(take(&driver, 5).unwrap());
    assert_eq!(flush(&driver), 1);
    let held = take(&users, 5).unwrap();
    drop(take(&driver, 6).unwrap());
    // Also while another flush is in flight.
    let ticket = (&one).begin_flush();
    assert_eq!(ticket.count(), 1);
    let answer = take_at(&driver, 5).err();
    assert_eq!(answer, Some(Error::HeldGlobally(pasid(5))));
    assert_eq!(take(&driver, 5).err(), exhausted(5));
    drop((ticket, held));
}

#[test]
fn what_waits_and_is_not_the_set_s_is_not_awaited() {
    let space = Space::new(SpaceKind::Tables);
    let one = table(&space, 20);
    let driver = space.add_set(after_flush(&one)).unwrap();
    let reserved = [range(5, 5)];
    let config = after_flush(&one).range(range(4, 6)).reserved(&reserved);
    let other = space.add_set(config).unwrap();
    drop(take(&driver, 5).unwrap());
    let _held = [take(&other, 4).unwrap(), take(&other, 6).unwrap()];
    let all = range(4, 6);
    let answer = other.alloc(all, 0).map(drop);
    assert_eq!(answer, Err(Error::Exhausted { range: all }));
}
