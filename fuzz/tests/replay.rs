// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replays the fuzz target's corpus.

use arbitrary::{Arbitrary, Unstructured};
use pasid_fuzz::{Answer, Input, Report, run};
use std::fs;
use std::path::Path;

#[test]
fn the_corpus_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/ops");
    let mut paths: Vec<_> = fs::read_dir(&corpus)
        .expect("fuzz/corpus/ops is part of the project")
        .map(|entry| entry.expect("a directory that can be read").path())
        .collect();
    paths.sort();
    let (mut operations, mut report) = (0, Report::new());
    for path in &paths {
        let bytes = fs::read(path).expect("a file that can be read");
        let input = Input::arbitrary_take_rest(Unstructured::new(&bytes));
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
        paths.len(),
        report.len()
    );
    assert!(!paths.is_empty(), "the corpus is empty");
    // Small as it is, it has met what makes the calls differ.
    for wanted in [
        Answer::Done,
        Answer::Exhausted,
        Answer::OutOfMemory,
        Answer::Stale,
        Answer::BeingFreed,
    ] {
        let met = report.keys().any(|(_, answer)| *answer == wanted);
        assert!(met, "no input of the corpus meets {wanted:?}");
    }
}
