// SPDX-License-Identifier: MIT OR Apache-2.0
//! A million random operations on spaces and on their models, and models that are
//! wrong in one point each, which must be noticed.

use arbitrary::{Arbitrary, Unstructured};
use pasid_fuzz::Answer::{self, *};
use pasid_fuzz::Call::{self, *};
use pasid_fuzz::{Difference, Input, Op, Quirk, Report, Setup, run};

const OPERATIONS: usize = 1_000_000;
const SEED: u64 = 0x9a51_d000;

/// The errors that each call can answer, all of which a million operations meet.
const ERRORS: [(Call, &[Answer]); 20] = [
    (Alloc, &[Exhausted, DoesNotFit, NoPasidSupport]),
    (
        AllocInPlace,
        &[Exhausted, OutOfMemory, DoesNotFit, NoPasidSupport],
    ),
    (
        AllocAt,
        &[
            InUse,
            Answer::Reserved,
            OutOfMemory,
            DoesNotFit,
            NoPasidSupport,
        ],
    ),
    (Get, &[Stale, BeingFreed]),
    (
        GetAt,
        &[
            NotFound,
            BeingFreed,
            Answer::Reserved,
            DoesNotFit,
            NoPasidSupport,
        ],
    ),
    (OwnedGet, &[BeingFreed]),
    (TryClone, &[]),
    (Replace, &[]),
    (IntoRef, &[]),
    (HandleFromRaw, &[InvalidHandle]),
    (Put, &[Stale]),
    (Free, &[Stale]),
    (Revoke, &[Stale]),
    (
        Find,
        &[
            NotFound,
            BeingFreed,
            Answer::Reserved,
            DoesNotFit,
            NoPasidSupport,
        ],
    ),
    (
        Reserve,
        &[InUse, Answer::Reserved, DoesNotFit, NoPasidSupport],
    ),
    (Unreserve, &[NotFound, DoesNotFit, NoPasidSupport]),
    (Preload, &[DoesNotFit, NoPasidSupport]),
    (Shrink, &[]),
    (Pin, &[AlreadyPinned]),
    (Unpin, &[]),
];

/// A random run of about `count` operations.
fn input(random: &mut fastrand::Rng, count: usize) -> Input {
    // An operation takes 30 bytes at most.
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(30 * count + 64)
        .collect();
    let mut bytes = Unstructured::new(&bytes);
    let setup = Setup::arbitrary(&mut bytes).expect("bytes enough");
    let ops = (0..count)
        .map(|_| Op::arbitrary(&mut bytes).expect("bytes enough"))
        .collect();
    Input { setup, ops }
}

/// Runs random inputs until `operations` have been done.
fn differ(seed: u64, operations: usize, quirk: Option<Quirk>) -> Result<Report, Difference> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut done, mut report) = (0, Report::new());
    while done < operations {
        // Short runs see the beginnings of things, long ones what adds up.
        let count = 1 << random.usize(4..=14);
        let input = input(&mut random, count);
        for (outcome, count) in run(&input, quirk)? {
            *report.entry(outcome).or_default() += count;
        }
        done += count;
    }
    Ok(report)
}

#[test]
fn a_million_random_operations_do_as_the_model_does() {
    println!("seed {SEED:#x}");
    let report = match differ(SEED, OPERATIONS, None) {
        Ok(report) => report,
        Err(difference) => panic!("{difference}"),
    };
    for ((call, answer), count) in &report {
        println!("{count:>9} {call:?}: {answer:?}");
    }
    for (call, errors) in ERRORS {
        let done = (call != HandleFromRaw).then_some(Done);
        for answer in errors.iter().copied().chain(done) {
            let count = report.get(&(call, answer)).copied().unwrap_or(0);
            assert!(count >= 100, "{call:?}: {answer:?} was met {count} times");
        }
    }
    assert!(report.keys().all(|(_, answer)| *answer != Unexpected));
}

#[test]
fn a_model_that_is_wrong_is_noticed() {
    for quirk in [
        Quirk::CursorForgotten,
        Quirk::FreeLost,
        Quirk::FreeAtOnce,
        Quirk::FreeDoesNotRevoke,
        Quirk::RevocationForgotten,
        Quirk::ReservationForgotten,
        Quirk::WordSticks,
        Quirk::MemoryKept,
        Quirk::MemoryEverywhere,
        Quirk::GenerationIgnored,
        Quirk::OneShort,
        Quirk::PinForgotten,
        Quirk::PinSticks,
        Quirk::PinnedTwice,
    ] {
        match differ(SEED, OPERATIONS / 10, Some(quirk)) {
            Ok(_) => panic!("{quirk:?} was not noticed"),
            Err(difference) => println!("{quirk:?} {difference}"),
        }
    }
}
