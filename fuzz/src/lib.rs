// SPDX-License-Identifier: MIT OR Apache-2.0
//! One space and a plain model of it, side by side.
//!
//! [`Op`] is one call, as a value that a fuzzer or a random generator can make.
//! [`run`] drives a real `IdSpace` and a [`Model`] with the same operations and
//! compares every result, every error and every look-up. The model is ordinary
//! sequential code over ordered maps: it shares nothing with the crate but the
//! words PASID, range, handle and error.
//!
//! * `fuzz_targets/ops.rs` lets cargo-fuzz choose the operations;
//! * `tests/replay.rs` repeats what it has found worth keeping;
//! * `tests/differential.rs` takes a million random operations, and checks that a
//!   model that is wrong in one point is noticed.

mod drive;
mod holder;
mod look;
mod model;
mod op;
mod references;
mod report;

pub use drive::run;
pub use model::{Model, Quirk};
pub use op::{Change, Input, Number, Op, Request, Reserved, Setup, Which, Width};
pub use report::{Answer, Call, Difference, Report};
