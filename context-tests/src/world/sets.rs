// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sets of a space, each in a place where it can be closed and opened anew.

use super::{NARROW, REQUEST, RESERVED_ON_ONE, Turns};
use crate::shadow::{ALL, Id, Scope, Side, Values, bit};
use pasid::{
    Attachment, Handle, IoasidSet, Observer, Payload, Policy, Reuse, Scope as SetScope, SetConfig,
    Space, Table,
};
use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// One set, and what is known of it.
pub struct SetCell<P: Payload = u64> {
    pub scope: Scope,
    pub kind: SetKind,
    /// What each hand has lent of it.
    pub lent: [Turns<Option<Lent>>; 2],
    place: UnsafeCell<Option<IoasidSet<P>>>,
}

// SAFETY: as for `Turns`: the place is written while no hand holds anything of the set.
unsafe impl<P: Payload> Sync for SetCell<P> {}

/// What one hand has lent: a PASID that it allocated and lets the other hand end, perhaps
/// with an attachment.
pub struct Lent {
    /// The raw form of the owner.
    pub raw: u64,
    pub id: Id,
    pub attachment: Option<(Attachment<&'static Table>, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetKind {
    pub name: &'static str,
    pub side: Side,
    policy: Policy,
    quota: Option<u32>,
    pub reuse: Reuse,
}

const QUOTA: u32 = 4;

const fn set(name: &'static str, side: Side, policy: Policy, quota: Option<u32>) -> SetKind {
    SetKind {
        name,
        side,
        policy,
        quota,
        reuse: Reuse::Immediate,
    }
}

const fn flushed(name: &'static str, side: Side, quota: Option<u32>) -> SetKind {
    SetKind {
        reuse: Reuse::AfterFlush,
        ..set(name, side, Policy::Lowest, quota)
    }
}

const ON_ONE: Side = Side::Tables(&[0]);
const ON_TWO: Side = Side::Tables(&[0, 1]);

/// The sets at whose calls a hand is stopped or interrupted. A quota comes with an
/// observer and another policy: neither takes the shortest way then. The last ones are for
/// spaces of both kinds alone.
pub const FOCUSED: [SetKind; 9] = [
    set("local", ON_ONE, Policy::Lowest, None),
    set("group", ON_TWO, Policy::Lowest, None),
    set("global", Side::Global, Policy::Lowest, None),
    set("local, quota", ON_ONE, Policy::Next, Some(QUOTA)),
    set("group, quota", ON_TWO, Policy::PreserveNarrow, Some(QUOTA)),
    set("global, quota", Side::Global, Policy::Spread, Some(QUOTA)),
    flushed("local, flush", ON_ONE, None),
    flushed("group, quota, flush", ON_TWO, Some(QUOTA)),
    flushed("global, flush", Side::Global, None),
];

/// Sets of other tables, for who fills a space.
pub const OTHERS: [SetKind; 2] = [
    set("other", Side::Tables(&[1]), Policy::Lowest, None),
    set("narrow", Side::Tables(&[2]), Policy::Lowest, None),
];

/// A set with payloads that are no words, on the first table or for all.
pub const fn typed(global: bool) -> SetKind {
    let side = if global { Side::Global } else { ON_ONE };
    set("typed", side, Policy::Lowest, None)
}

/// Is told of a set's transitions, and checks them.
struct Watch {
    used: AtomicU32,
    quota: u32,
}

impl Observer for Watch {
    fn allocated(&self, _: Handle, _: u64) {
        let used = self.used.fetch_add(1, Relaxed) + 1;
        if used > self.quota {
            broken!("M8: {used} are out of a quota of {}", self.quota);
        }
    }

    fn reclaimed(&self, handle: Handle) {
        if self.used.fetch_sub(1, Relaxed) == 0 {
            broken!("{handle} is reclaimed, and none was out");
        }
    }
}

impl<P: Payload> SetCell<P> {
    /// A set with that key; `all` is what global sets may hand out.
    pub fn new(kind: SetKind, key: u8, all: Values) -> SetCell<P> {
        let values = match kind.side {
            Side::Tables(tables) => tables.iter().fold(ALL, |values, &table| match table {
                1 => values & !bit(RESERVED_ON_ONE),
                2 => values & NARROW,
                _ => values,
            }),
            Side::Global => all,
        };
        let waits = kind.reuse == Reuse::AfterFlush;
        SetCell {
            scope: Scope::new(key, kind.side, kind.quota, values).waiting(waits),
            kind,
            lent: [const { Turns::new(None) }; 2],
            place: UnsafeCell::new(None),
        }
    }

    /// The set, for as long as nobody opens another in its place.
    pub fn set(&self) -> &'static IoasidSet<P> {
        // SAFETY: the place is written only while no hand holds anything of the set, and a
        // hand that holds nothing asks again.
        let set: &'static Option<IoasidSet<P>> = unsafe { &*self.place.get() };
        match set {
            Some(set) => set,
            None => broken!("the set {} was never opened", self.kind.name),
        }
    }

    /// Opens a set here, in the place of one that was closed. No hand holds anything of it.
    pub fn open(&self, space: &Space, tables: &[&'static Table]) {
        let tables: Vec<Table> = match self.kind.side {
            Side::Global => Vec::new(),
            Side::Tables(members) => members.iter().map(|&at| tables[at].clone()).collect(),
        };
        let scope = match tables.as_slice() {
            [] => SetScope::Global,
            [table] => SetScope::Local(table),
            several => SetScope::Group(several),
        };
        let mut config = SetConfig::new(scope)
            .range(REQUEST)
            .policy(self.kind.policy)
            .reuse(self.kind.reuse);
        if let Some(quota) = self.kind.quota {
            let used = AtomicU32::new(0);
            config = config
                .quota(quota)
                .observer(Arc::new(Watch { used, quota }));
        }
        let set = match space.add_set_of(config) {
            Ok(set) => set,
            Err(error) => broken!("the set {}: {error}", self.kind.name),
        };
        if let Err(error) = set.preload(REQUEST) {
            broken!("the memory of {}: {error}", self.kind.name);
        }
        // SAFETY: no hand has a reference to what was here, see above.
        unsafe { *self.place.get() = Some(set) };
    }
}
