// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every data call is interrupted by a signal, whose handler makes them all.
#![cfg(target_os = "linux")]

use context_tests::{interrupt_every_call, is_noticed};

const TEST: &str = "every_call_may_be_made_in_the_middle_of_every_other";

#[test]
fn every_call_may_be_made_in_the_middle_of_every_other() {
    interrupt_every_call();
}

#[test]
fn who_waits_for_a_lock_is_noticed() {
    is_noticed(TEST, "lock", &["waits for who is interrupted"]);
}

#[test]
fn a_second_pasid_withheld_is_noticed() {
    is_noticed(TEST, "hoard", &["withholds", "are free"]);
}

#[test]
fn a_pasid_that_is_lost_is_noticed() {
    is_noticed(TEST, "lose", &["withholds", "are free"]);
}
