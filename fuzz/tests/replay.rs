// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replays the corpora of the fuzz targets.

use arbitrary::{Arbitrary, Unstructured};
use pasid_fuzz::{Answer, Input, Report, run, sets};
use std::fs;
use std::path::{Path, PathBuf};

/// In how many ways the calls of the corpus of sets end.
const OUTCOMES: usize = 130;

/// The files of the corpus `name`, in order.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut paths: Vec<_> = fs::read_dir(&corpus)
        .unwrap_or_else(|error| panic!("{}, a part of the project: {error}", corpus.display()))
        .map(|entry| entry.expect("a directory that can be read").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "the corpus is empty");
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("a file that can be read");
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn the_corpus_passes() {
    let (mut operations, mut report) = (0, Report::new());
    let inputs = corpus("ops");
    for (path, bytes) in &inputs {
        let input = Input::arbitrary_take_rest(Unstructured::new(bytes));
        let input = input.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        operations += input.ops.len();
        match run(&input, None) {
            Ok(outcomes) => {
                for (outcome, count) in outcomes {
                    *report.entry(outcome).or_default() += count;
                }
            }
            Err(difference) => panic!("{}: {difference}", path.display()),
        }
    }
    println!(
        "{} inputs, {operations} operations, {} outcomes",
        inputs.len(),
        report.len()
    );
    // Small as it is, it has met what makes the calls differ.
    for wanted in [
        Answer::Done,
        Answer::Exhausted,
        Answer::OutOfMemory,
        Answer::Stale,
        Answer::BeingFreed,
        Answer::AlreadyPinned,
    ] {
        let met = report.keys().any(|(_, answer)| *answer == wanted);
        assert!(met, "no input of the corpus meets {wanted:?}");
    }
}

#[test]
fn the_corpus_of_sets_passes() {
    let (mut operations, mut report) = (0, sets::Report::new());
    let inputs = corpus("sets");
    for (path, bytes) in &inputs {
        let input = sets::Input::arbitrary_take_rest(Unstructured::new(bytes));
        let input = input.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        operations += input.ops.len();
        match sets::run(&input, None) {
            Ok(outcomes) => {
                for (outcome, count) in outcomes {
                    *report.entry(outcome).or_default() += count;
                }
            }
            Err(difference) => panic!("{}: {difference}", path.display()),
        }
    }
    let outcomes = report.len();
    println!(
        "{} inputs, {operations} operations, {outcomes} outcomes",
        inputs.len()
    );
    // As many as there are calls that end in some way: it was chosen to meet them all.
    assert!(outcomes >= OUTCOMES, "{outcomes} outcomes are met");
}
