// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuzz target: `cargo fuzz run ops`.
//!
//! Built without cargo-fuzz it is a program that replays files:
//! `cargo run -p pasid-fuzz --bin ops -- FILE..` prints the operations of each and what the
//! space and the model made of them.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: pasid_fuzz::Input| {
    if let Err(difference) = pasid_fuzz::run(&input, None) {
        panic!("{difference}");
    }
});

#[cfg(not(fuzzing))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use arbitrary::{Arbitrary, Unstructured};

    for path in std::env::args_os().skip(1) {
        let bytes = std::fs::read(&path)?;
        let input = pasid_fuzz::Input::arbitrary_take_rest(Unstructured::new(&bytes))?;
        println!("{}: {input:#?}", path.display());
        let report = pasid_fuzz::run(&input, None)?;
        for ((call, answer), count) in report {
            println!("{count:>6} {call:?}: {answer:?}");
        }
    }
    Ok(())
}
