// SPDX-License-Identifier: MIT OR Apache-2.0
//! A table's list of its groups, one step after the other.

use super::*;
use crate::kind::SpaceKind;
use crate::pasid::PasidWidth;
use crate::pool::Pool;
use crate::set::{IoasidSet, Scope, SetConfig};
use crate::source::Reach;
use crate::space::Space;
use crate::table::{Table, TableConfig};
use core::slice;
use std::vec::Vec;

const FIVE: Pasid = Pasid::from_u16(5);

fn group() -> Counted<GroupIds> {
    group_of(PasidWidth::MAX)
}

fn group_of(width: PasidWidth) -> Counted<GroupIds> {
    GroupIds::new(IdSpace::new(width)).expect("memory for a test")
}

fn space_with_group() -> (Space, Table, IoasidSet) {
    let space = Space::new(SpaceKind::Tables);
    let table = space.add_table(TableConfig::new(PasidWidth::MAX));
    let table = table.expect("memory for a test");
    let set = space.add_set(SetConfig::new(Scope::Group(slice::from_ref(&table))));
    let set = set.expect("memory for a test");
    (space, table, set)
}

/// The groups that a reader comes to, by their places in `all`.
fn walk(mut link: &AtomicPtr<Entry>, all: &[Counted<GroupIds>]) -> Vec<usize> {
    let mut met = Vec::new();
    // SAFETY: the caller is a reader.
    while let Some(entry) = unsafe { follow(link) } {
        met.extend(all.iter().position(|group| entry.group.ptr_eq(group)));
        link = &entry.next;
    }
    met
}

#[test]
fn each_group_is_asked_until_one_has_the_pasid() {
    let (groups, all) = (Groups::new(), [group(), group(), group()]);
    assert_eq!(groups.find(FIVE), None);
    all.iter().for_each(|group| assert!(groups.add(group)));
    for group in &all {
        assert_eq!(groups.find(FIVE), None);
        let owned = group.ids.alloc(FIVE.into(), 0).expect("it is free");
        assert_eq!(groups.find(FIVE), Some(Had::Live));
        let reference = owned.get().expect("it is live");
        drop(owned);
        assert_eq!(groups.find(FIVE), Some(Had::BeingFreed));
        drop(reference);
    }
    // In a group that was closed what is live is being freed.
    all.iter().for_each(|group| group.close());
    assert_eq!(groups.find(FIVE), None);
    let _late = all[1].ids.alloc(FIVE.into(), 0).expect("it is free");
    assert_eq!(groups.find(FIVE), Some(Had::BeingFreed));
    all.iter().for_each(|group| groups.remove(group));
    assert_eq!(groups.find(FIVE), None);
}

#[test]
fn a_set_that_is_closed_closes_its_group() {
    let (_space, table, set) = space_with_group();
    let Reach::Group { own, .. } = set.source().reach() else {
        panic!("a group");
    };
    let groups = &table.core().table.groups;
    let _early = own.ids.alloc(FIVE.into(), 0).expect("it is free");
    assert_eq!(groups.find(FIVE), Some(Had::Live));
    set.close();
    // What is published late is revoked by the flag alone.
    let late = own.ids.alloc(own.ids.range(), 0).expect("there are more");
    assert_eq!(groups.find(late.pasid()), Some(Had::BeingFreed));
}

#[test]
fn a_group_has_nothing_beyond_its_width() {
    let (groups, wide) = (Groups::new(), group());
    let narrow = group_of(PasidWidth::new(2).expect("of at most 20 bits"));
    let _owned = wide.ids.alloc(FIVE.into(), 0).expect("it is free");
    // With a leaf in which there are slots for what does not fit.
    let _other = narrow.ids.alloc(narrow.ids.range(), 0).expect("it is free");
    assert!(groups.add(&wide) && groups.add(&narrow));
    assert_eq!(groups.find(FIVE), Some(Had::Live));
    wide.close();
    assert_eq!(groups.find(FIVE), Some(Had::BeingFreed));
    groups.remove(&wide);
    assert_eq!(groups.find(FIVE), None);
    groups.remove(&narrow);
}

#[test]
fn what_is_taken_out_goes_when_nobody_reads() {
    let (groups, group) = (Groups::new(), group());
    let count = || group.count();
    assert!(groups.add(&group));
    groups.remove(&group);
    assert_eq!(count(), 1, "nobody reads");
    assert!(groups.add(&group));
    // One reader interrupted the other.
    let outer = groups.read();
    let inner = groups.read();
    groups.remove(&group);
    groups.forget();
    assert_eq!(count(), 2);
    drop(inner);
    groups.forget();
    assert_eq!(count(), 2);
    drop(outer);
    assert_eq!(count(), 2, "a reader frees nothing");
    groups.forget();
    groups.forget();
    assert_eq!(count(), 1);
    // One that is not there is not taken out.
    groups.remove(&group);
    assert_eq!(count(), 1);
}

#[test]
fn a_control_call_frees_what_a_fault_kept_of_a_group() {
    let (space, table, set) = space_with_group();
    let Reach::Group { own, .. } = set.source().reach() else {
        panic!("a group");
    };
    let group = own.clone();
    let reading = table.core().table.groups.read();
    set.close();
    drop(set);
    for _ in 0..2 {
        assert_eq!(space.find_set(0).map(|set| set.token()), None);
        assert_eq!(group.count(), 2, "the list has it");
    }
    drop(reading);
    assert_eq!(space.find_set(0).map(|set| set.token()), None);
    assert_eq!(group.count(), 1);
}

#[test]
fn a_reader_gets_on_from_what_is_taken_out() {
    let (groups, all) = (Groups::new(), [group(), group(), group(), group()]);
    all.iter().for_each(|group| assert!(groups.add(group)));
    let on_the_last = groups.read();
    // SAFETY: a reader.
    let stands = &unsafe { follow(&groups.first) }.expect("the last").next;
    assert_eq!(walk(&groups.first, &all), [3, 2, 1, 0]);
    for (gone, left) in [(3, &[2, 1, 0][..]), (1, &[2, 0]), (0, &[2])] {
        groups.remove(&all[gone]);
        assert_eq!(walk(&groups.first, &all), left);
        assert_eq!(walk(stands, &all), left);
    }
    assert!(all.iter().all(|group| group.count() == 2));
    drop(on_the_last);
    groups.remove(&all[2]);
    assert!(all.iter().all(|group| group.count() == 1));
}

#[test]
fn what_a_reader_kept_goes_with_the_table() {
    let (groups, all) = (Groups::new(), [group(), group()]);
    all.iter().for_each(|group| assert!(groups.add(group)));
    core::mem::forget(groups.read());
    all.iter().for_each(|group| groups.remove(group));
    assert!(all.iter().all(|group| group.count() == 2));
    drop(groups);
    assert!(all.iter().all(|group| group.count() == 1));
}
