// SPDX-License-Identifier: MIT OR Apache-2.0
//! The story that `examples/overlapping_drivers.rs` tells, word for word.

#[path = "../examples/overlapping_drivers.rs"]
#[allow(dead_code, reason = "its `main` is for who runs it")]
mod overlapping_drivers;

/// Made with `cargo run --example overlapping_drivers`, and read before it was kept.
const TOLD: &str = include_str!("examples/overlapping_drivers.txt");

#[test]
fn the_story_of_three_drivers_is_told_as_it_was_read() {
    // The last chapter is on threads: it ends the same however they meet.
    for _ in 0..20 {
        let mut told = Vec::new();
        overlapping_drivers::story(&mut told).unwrap();
        let told = String::from_utf8(told).unwrap();
        for (line, (told, expected)) in told.lines().zip(TOLD.lines()).enumerate() {
            assert_eq!(told, expected, "line {}", line + 1);
        }
        assert_eq!(told, TOLD);
    }
}
