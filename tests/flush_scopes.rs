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

#[test]
fn what_is_closed_and_waits_is_flushed_by_who_kept_no_handle() {
    let space = Space::with_capacity(SpaceKind::Both, 10);
    let own = table(&space, 20);
    let driver = space.add_set(after_flush(&own).quota(5)).unwrap();
    drop(take(&driver, 5).unwrap());
    own.close();
    drop((driver, own));
    let users = space.add_set(SetConfig::new(Scope::Global).quota(5));
    let users = users.unwrap();
    assert_eq!(take(&users, 5).err(), exhausted(5));
    // Looking changes nothing.
    for _ in 0..2 {
        assert_eq!(space.tables().unwrap().len(), 0);
        assert_eq!(space.closing_sets().unwrap().len(), 1);
        assert_eq!(space.closing_tables().unwrap().len(), 1);
        assert_eq!(space.capacity_left(), Some(0));
    }
    let closed = space.closing_tables().unwrap();
    assert!(closed[0].is_closing());
    assert_eq!((&closed[0]).flush(|_| Ok::<(), ()>(())), Ok(1));
    assert!(take(&users, 5).is_ok());
    // The set is gone, and the table with its last handle.
    assert_eq!(space.capacity_left(), Some(5));
    assert!(space.closing_sets().unwrap().is_empty());
    assert!(space.closing_tables().unwrap()[0].is_same(&closed[0]));
    drop(closed);
    assert!(space.closing_tables().unwrap().is_empty());
}

#[test]
fn a_closed_set_that_waits_is_listed_by_its_payload() {
    let space = Space::new(SpaceKind::Both);
    let tables = [table(&space, 20), table(&space, 20)];
    let config = SetConfig::new(Scope::Group(&tables)).reuse(Reuse::AfterFlush);
    let typed = space.add_set_of::<()>(config.clone().token(1)).unwrap();
    let words = space.add_set(config.token(2)).unwrap();
    drop(typed.alloc(range(5, 5), ()).unwrap());
    drop(take(&words, 6).unwrap());
    assert!(space.closing_sets().unwrap().is_empty());
    assert!(space.closing_sets_of::<()>().unwrap().is_empty());
    typed.close();
    words.close();
    drop((typed, words));
    assert!(space.sets().unwrap().is_empty());
    let listed = space.closing_sets().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].token(), flush(&listed[0])), (Some(2), 1));
    drop(listed);
    assert!(space.closing_sets().unwrap().is_empty());
    let beside = space.add_set(SetConfig::new(Scope::Global)).unwrap();
    assert_eq!(take(&beside, 5).err(), exhausted(5));
    let listed = space.closing_sets_of::<()>().unwrap();
    assert_eq!((listed.len(), listed[0].token()), (1, Some(1)));
    assert_eq!((&listed[0]).flush(|_| Ok::<(), ()>(())), Ok(1));
    drop(listed);
    assert!(space.closing_sets_of::<()>().unwrap().is_empty());
    assert!(take(&beside, 5).is_ok());
}
