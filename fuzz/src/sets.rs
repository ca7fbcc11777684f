// SPDX-License-Identifier: MIT OR Apache-2.0
//! A space with tables and sets, and a plain model of it, side by side.
//!
//! As with one id space (the modules beside this one): [`Op`] is one call, [`run`] drives
//! a real `Space` and a [`Model`] and compares every answer, what observers are told, and
//! every few calls all listings and numbers. M7 and M8 are said in `model/flush.rs`. M1 to
//! M3, M6 and M8 are also checked of what
//! the sets say themselves, without the model.

mod control;
mod data;
mod drive;
mod flush;
mod hardware;
mod look;
mod model;
mod op;
mod quirk;
mod report;

pub use drive::run;
pub use model::{Batch, Event, Failures, Holder, Model, NewSet, NewTable, Request};
pub use op::{
    Input, Invalidation, Kind, Number, Op, Order, Range, Reserved, ReuseSpec, ScopeSpec, Seldom,
    SetSpec, Setup, TableSpec, Which, Whose, Width,
};
pub use quirk::Quirk;
pub use report::{Answer, Call, Report};
