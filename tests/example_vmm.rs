// SPDX-License-Identifier: MIT OR Apache-2.0
//! The story that `examples/vmm.rs` tells, word for word.

#[path = "../examples/vmm.rs"]
#[allow(dead_code, reason = "its `main` is for who runs it")]
mod vmm;

/// Made with `cargo run --example vmm`, and read before it was kept.
const TOLD: &str = include_str!("examples/vmm.txt");

#[test]
fn the_story_of_a_guest_that_moves_is_told_as_it_was_read() {
    let mut told = Vec::new();
    vmm::story(&mut told).unwrap();
    let told = String::from_utf8(told).unwrap();
    for (line, (told, expected)) in told.lines().zip(TOLD.lines()).enumerate() {
        assert_eq!(told, expected, "line {}", line + 1);
    }
    assert_eq!(told, TOLD);
}
