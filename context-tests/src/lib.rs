// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any context, for real: every data call in the middle of every other.
//!
//! Two *hands* are at work on the same spaces. One of them is inside a data call, interrupted
//! by a signal ([`interrupt_every_call`]) or stopped after any of its instructions
//! ([`step_every_call`]); the other completes data calls meanwhile, all that there are. At no
//! time do both run. So what is known of who holds what needs no atomic step of its own, and
//! is exact but for the one call in the middle of which the first hand is.
//!
//! * `calls.rs` is the table of the data calls. A new one is a line there, and the scenes in
//!   which it is made.
//! * `scenes/` has small plays of one hand: each takes what it needs, makes its call,
//!   checks the answer, and gives everything back.
//! * `hand.rs` makes the calls, and says which one it is in.
//! * `world.rs` is where they are made; `shadow.rs` knows who holds what, without the
//!   allocator.
//! * `fill.rs` takes all there is, and says what is missing.
//! * `report.rs` says what is broken, also in a signal handler.
//! * `plant.rs` breaks something on purpose, to show that it is noticed, and `again.rs` runs
//!   a test with that.
//!
//! It needs Linux, and stepping an x86-64: elsewhere the package is empty.
#![cfg(target_os = "linux")]

#[macro_use]
mod report;

mod again;
mod calls;
mod fill;
mod hand;
mod inside;
mod plant;
mod scenes;
mod shadow;
mod signals;
#[cfg(target_arch = "x86_64")]
mod stepping;
mod world;

pub use again::is_noticed;
pub use signals::interrupt_every_call;
#[cfg(target_arch = "x86_64")]
pub use stepping::step_every_call;
