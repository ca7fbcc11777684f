// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shadow notices each rule that is broken.

use super::*;

const ONE: Side = Side::Tables(&[0]);
const BOTH: Side = Side::Tables(&[0, 1]);

fn scope(key: u8, side: Side) -> Scope {
    Scope::new(key, side, Some(2), ALL)
}

#[test]
fn it_follows_what_is_held() {
    let (shadow, local, group) = (Shadow::default(), scope(1, ONE), scope(2, BOTH));
    let id = local.id(5);
    shadow.enter(&local, FIRST, id);
    shadow.enter(&local, FIRST, id);
    assert_eq!(shadow.holder(&local, FIRST), Some(id));
    assert!(!shadow.is_free(&group, FIRST) && shadow.is_free(&group, FIRST + 1));
    assert_eq!(local.credits_left(), Some(1));
    shadow.leave(&local, FIRST, id);
    assert!(!shadow.is_empty());
    shadow.leave(&local, FIRST, id);
    assert!(shadow.is_empty() && shadow.is_free(&group, FIRST));
    assert_eq!(local.credits_left(), Some(2));
    let global = scope(3, Side::Global);
    shadow.enter(&global, FIRST, global.id(1));
    assert_eq!(shadow.free(&local), ALL & !bit(FIRST));
    shadow.reserve_entry(0, FIRST, 6);
    shadow.enter_entry(0, FIRST, 7);
    shadow.leave_entry(0, FIRST, 6);
    assert!(shadow.is_entered(0, FIRST) && !shadow.is_entered(1, FIRST));
}

#[test]
#[should_panic(expected = "broken: M1")]
fn it_notices_two_owners_on_a_table() {
    let (shadow, local, group) = (Shadow::default(), scope(1, ONE), scope(2, BOTH));
    shadow.enter(&group, FIRST, group.id(1));
    shadow.enter(&local, FIRST, local.id(2));
}

#[test]
#[should_panic(expected = "broken: M1")]
fn it_notices_an_allocation_that_ends_while_it_is_held() {
    let (shadow, local) = (Shadow::default(), scope(1, ONE));
    shadow.enter(&local, FIRST, local.id(1));
    shadow.leave(&local, FIRST, local.id(2));
}

#[test]
#[should_panic(expected = "broken: M3")]
fn it_notices_a_global_one_beside_a_table_s() {
    let (shadow, local, global) = (Shadow::default(), scope(1, ONE), scope(2, Side::Global));
    shadow.enter(&local, FIRST, local.id(1));
    shadow.enter(&global, FIRST, global.id(2));
}

#[test]
#[should_panic(expected = "broken: M4 or M5")]
fn it_notices_what_the_set_may_not_have() {
    let (shadow, narrow) = (Shadow::default(), Scope::new(1, ONE, None, bit(FIRST)));
    shadow.enter(&narrow, FIRST + 1, narrow.id(1));
}

#[test]
#[should_panic(expected = "broken: M4 or M5")]
fn it_notices_what_is_reserved() {
    let (shadow, local) = (Shadow::default(), scope(1, ONE));
    shadow.enter(&local, FIRST - 1, local.id(1));
}

#[test]
#[should_panic(expected = "broken: M8")]
fn it_notices_a_credit_too_many() {
    let (shadow, local) = (Shadow::default(), scope(1, ONE));
    for number in 0..3 {
        shadow.enter(&local, FIRST + number, local.id(u64::from(number)));
    }
}

#[test]
fn what_waits_is_held_and_has_its_credit_until_it_is_returned() {
    let shadow = Shadow::default();
    let (waits, other) = (scope(1, ONE).waiting(true), scope(2, ONE));
    shadow.enter(&waits, FIRST, waits.id(1));
    shadow.leave(&waits, FIRST, waits.id(1));
    assert!(!shadow.is_free(&other, FIRST) && shadow.holder(&waits, FIRST).is_none());
    assert_eq!(waits.credits_left(), Some(1));
    assert_eq!(shadow.newest(ONE, FIRST), waits.id(1));
    shadow.returned(&waits, FIRST);
    assert!(shadow.is_free(&other, FIRST) && shadow.is_empty());
    assert_eq!(waits.credits_left(), Some(2));
}

#[test]
#[should_panic(expected = "broken: M7")]
fn it_notices_what_is_allocated_before_a_flush() {
    let (shadow, waits) = (Shadow::default(), scope(1, ONE).waiting(true));
    shadow.enter(&waits, FIRST, waits.id(1));
    shadow.leave(&waits, FIRST, waits.id(1));
    shadow.enter(&waits, FIRST, waits.id(2));
}

#[test]
#[should_panic(expected = "broken: M7")]
fn it_notices_what_is_flushed_while_it_is_held() {
    let (shadow, waits) = (Shadow::default(), scope(1, ONE).waiting(true));
    shadow.enter(&waits, FIRST, waits.id(1));
    shadow.returned(&waits, FIRST);
}

#[test]
#[should_panic(expected = "broken: M7")]
fn it_notices_the_word_of_an_earlier_attachment() {
    let shadow = Shadow::default();
    shadow.reserve_entry(0, FIRST, 4);
    shadow.enter_entry(0, FIRST, 2);
}
