// SPDX-License-Identifier: MIT OR Apache-2.0
//! One space and a plain model of it, side by side.
//!
//! [`Op`] is one call, as a value that a fuzzer or a random generator can make.
//! [`run`] drives a real `IdSpace` and a [`Model`] with the same operations and
//! compares every result, every error and every look-up. The model is ordinary
//! sequential code over ordered maps: it shares nothing with the crate but the
//! words PASID, range, handle and error.
//!
//! [`sets`] is the same for a `Space` with tables, sets and attachments.
//!
//! * `fuzz_targets/` lets cargo-fuzz choose the operations;
//! * `tests/replay.rs` repeats what it has found worth keeping;
//! * `tests/differential.rs` and `tests/sets.rs` take many random operations, and check
//!   that a model that is wrong in one point is noticed;
//! * `tests/reachable/` tries every operation in every small state of 16 values.

mod drive;
mod holder;
mod look;
mod model;
mod op;
mod references;
mod report;
pub mod sets;

pub use drive::run;
pub use model::{Model, Quirk};
pub use op::{Change, Input, Number, Op, Request, Reserved, Setup, Which, Width};
pub use report::{Answer, Call, Difference, Report};
