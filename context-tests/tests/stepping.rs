// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every data call is stopped after each of its instructions, and others go on.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use context_tests::{is_noticed, step_every_call};

const TEST: &str = "nobody_waits_for_who_is_stopped_in_a_data_call";

#[test]
fn nobody_waits_for_who_is_stopped_in_a_data_call() {
    step_every_call(TEST);
}

#[test]
fn who_waits_for_a_lock_is_noticed() {
    is_noticed(TEST, "lock", &["waits for who is stopped"]);
}

#[test]
fn a_system_call_is_noticed() {
    is_noticed(TEST, "system", &["makes a system call"]);
}

#[test]
fn a_second_pasid_withheld_is_noticed() {
    is_noticed(TEST, "hoard", &["withholds", "are free"]);
}

#[test]
fn a_pasid_that_is_lost_is_noticed() {
    is_noticed(TEST, "lose", &["withholds", "are free"]);
}
