// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random operations on spaces with tables and sets and on their models, and models that
//! are wrong in one point each, which must be noticed.

use arbitrary::{Arbitrary, Unstructured};
use pasid_fuzz::Difference;
use pasid_fuzz::sets::Call::{self, *};
use pasid_fuzz::sets::{Input, Op, Quirk, Report, Setup, run};

const OPERATIONS: usize = 1_000_000;
const SEED: u64 = 0x9a51_d003;

/// The errors that each call can answer, all of which the random operations meet.
const ERRORS: [(Call, &str); 38] = [
    (
        Alloc,
        "OutsideSet Exhausted AwaitingFlush QuotaExceeded DoesNotFit Closing",
    ),
    (
        AllocInPlace,
        "OutsideSet Exhausted AwaitingFlush QuotaExceeded OutOfMemory DoesNotFit Closing",
    ),
    (
        AllocAt,
        "OutsideSet QuotaExceeded OutOfMemory Reserved DoesNotFit HeldGlobally HeldLocally \
         InUse AwaitingFlush Closing",
    ),
    (Get, "BeingFreed Stale WrongSet"),
    (GetAt, "Reserved DoesNotFit NotFound BeingFreed WrongSet"),
    (OwnedGet, "BeingFreed"),
    (TryClone, ""),
    (Replace, ""),
    (IntoRef, ""),
    (FromRaw, ""),
    (DropOwned, ""),
    (DropRef, ""),
    (Put, "Stale WrongSet"),
    (Free, "Stale WrongSet"),
    (Revoke, "Stale WrongSet"),
    (Find, "Reserved DoesNotFit NotFound BeingFreed WrongSet"),
    (Preload, "OutsideSet DoesNotFit"),
    (SetQuota, "NoQuota CapacityExceeded QuotaInUse Closing"),
    (
        AddSet,
        "OutsideSet WrongKind InvalidScope CapacityExceeded DoesNotFit TokenInUse Closing",
    ),
    (AddTable, "NoPasidSupport HeldGlobally"),
    (Join, "DoesNotFit DeviceJoined Closing"),
    (Leave, "DeviceNotJoined"),
    (ReserveOn, "Closing Reserved DoesNotFit HeldGlobally InUse"),
    (UnreserveOn, "DoesNotFit NotFound"),
    (Reserve, "WrongKind Reserved HeldGlobally HeldLocally"),
    (Unreserve, "WrongKind NotFound HeldLocally"),
    (PreloadTable, "DoesNotFit"),
    (
        Attach,
        "OutOfMemory DoesNotFit AlreadyAttached Paused BeingFreed WrongSet Closing",
    ),
    (Commit, "Paused Closing"),
    (ReplaceAttached, "Paused BeingFreed Closing"),
    (
        FaultGet,
        "Reserved DoesNotFit NotFound NotAttached BeingFreed Closing",
    ),
    (BeginFlush, ""),
    (Complete, ""),
    (DropTicket, ""),
    (PutBackOn, ""),
    (Flush, ""),
    (Pin, "AlreadyPinned"),
    (Unpin, ""),
];

/// A random run of about `count` operations.
fn input(random: &mut fastrand::Rng, count: usize) -> Input {
    // An operation takes 40 bytes at most.
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(40 * count + 256)
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
        let count = 1 << random.usize(4..=10);
        let input = input(&mut random, count);
        for (outcome, count) in run(&input, quirk)? {
            *report.entry(outcome).or_default() += count;
        }
        done += count;
    }
    Ok(report)
}

#[test]
fn random_operations_do_as_the_model_does() {
    println!("seed {SEED:#x}");
    let report = match differ(SEED, OPERATIONS, None) {
        Ok(report) => report,
        Err(difference) => panic!("{difference}"),
    };
    for ((call, answer), count) in &report {
        println!("{count:>9} {call:?}: {answer:?}");
    }
    for (call, errors) in ERRORS {
        for answer in errors.split_whitespace().chain(["Done"]) {
            let met = report.iter();
            let met = met.filter(|((of, met), _)| *of == call && met.name() == answer);
            let count: u64 = met.map(|(_, count)| count).sum();
            assert!(count >= 10, "{call:?}: {answer} was met {count} times");
        }
        let mut met = report.keys().filter(|(of, _)| *of == call);
        let unlisted = met.find(|(_, answer)| {
            let mut listed = errors.split_whitespace().chain(["Done"]);
            !listed.any(|listed| listed == answer.name())
        });
        assert_eq!(unlisted, None, "an answer that {call:?} should not give");
    }
}

#[test]
fn a_model_that_is_wrong_is_noticed() {
    for quirk in Quirk::ALL {
        match differ(SEED, OPERATIONS, Some(quirk)) {
            Ok(_) => panic!("{quirk:?} was not noticed"),
            Err(difference) => println!("{quirk:?} {difference}"),
        }
    }
}
