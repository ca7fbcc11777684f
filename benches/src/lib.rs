// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the benchmarks are made of: the operations that the allocator is measured
//! against, the rounds in which both are timed, and the report.
//!
//! A time in nanoseconds says as much about the machine and its other guests as
//! about the code. So a result is a ratio: each round times the work and a reference
//! operation, the same number of times, and the result is the median of the rounds'
//! ratios. Nothing is subtracted, and the loops around the two are alike. A round is
//! short, so that what else the machine does falls between rounds or spoils few.

pub mod heap;
pub mod reference;
pub mod report;
pub mod rounds;
pub mod sets;
pub mod spaces;
