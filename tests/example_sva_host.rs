// SPDX-License-Identifier: MIT OR Apache-2.0
//! The story that `examples/sva_host.rs` tells, word for word.

#[path = "../examples/sva_host.rs"]
#[allow(dead_code, reason = "its `main` is for who runs it")]
mod sva_host;

/// Made with `cargo run --example sva_host`, and read before it was kept.
const TOLD: &str = include_str!("examples/sva_host.txt");

#[test]
fn the_story_of_the_host_is_told_as_it_was_read() {
    let mut told = Vec::new();
    sva_host::story(&mut told).unwrap();
    let told = String::from_utf8(told).unwrap();
    for (line, (told, expected)) in told.lines().zip(TOLD.lines()).enumerate() {
        assert_eq!(told, expected, "line {}", line + 1);
    }
    assert_eq!(told, TOLD);
}
