// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be done to a space with tables and sets, as values. Every value means
//! something: numbers fold into what exists, so that no input of the fuzzer is wasted.

use arbitrary::Arbitrary;
use pasid::{Pasid, PasidRange, PasidWidth, Policy, Reuse, SpaceKind};

/// A whole run.
#[derive(Debug, Clone, Arbitrary)]
pub struct Input {
    /// How the space is built, and what it begins with.
    pub setup: Setup,
    /// What is done to it.
    pub ops: Vec<Op>,
}

/// How the space is built.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Setup {
    /// Its kind.
    pub kind: Kind,
    /// What is reserved from the beginning.
    pub reserved: Reserved,
    /// Its capacity, in steps of 256, if it has one.
    pub capacity: Option<u8>,
    /// Two tables to begin with.
    pub tables: [TableSpec; 2],
    /// A few sets to begin with.
    pub sets: [SetSpec; 4],
}

#[derive(Debug, Clone, Copy, Arbitrary)]
#[expect(missing_docs, reason = "the names are those of the kinds")]
pub enum Kind {
    Global,
    Tables,
    Both,
    /// The same, as it has most to go wrong.
    BothToo,
}

impl Kind {
    /// The kind itself.
    pub fn get(self) -> SpaceKind {
        match self {
            Kind::Global => SpaceKind::Global,
            Kind::Tables => SpaceKind::Tables,
            Kind::Both | Kind::BothToo => SpaceKind::Both,
        }
    }
}

/// Reserved values, of a space, a table or a set.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Reserved {
    /// None.
    Nothing,
    /// 0.
    Zero,
    /// A few here and there, overlapping, and some beyond most widths.
    Scattered,
    /// From the middle of a leaf to the middle of the next.
    Across,
    /// Most of a narrow table.
    Low,
}

const fn range(first: u16, last: u16) -> PasidRange {
    match PasidRange::new(Pasid::from_u16(first), Pasid::from_u16(last)) {
        Ok(range) => range,
        Err(_) => PasidRange::single(Pasid::ZERO),
    }
}

impl Reserved {
    /// The list.
    pub fn list(self) -> &'static [PasidRange] {
        match self {
            Reserved::Nothing => &[],
            Reserved::Zero => const { &[range(0, 0)] },
            Reserved::Scattered => {
                const { &[range(7, 9), range(3, 3), range(8, 12), range(300, 310)] }
            }
            Reserved::Across => const { &[range(200, 299)] },
            Reserved::Low => const { &[range(1, 13)] },
        }
    }
}

/// A table to be added.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct TableSpec {
    /// Its width.
    pub width: Width,
    /// What is reserved on it.
    pub reserved: Reserved,
}

/// Widths of tables and devices: none, few, a leaf, several.
#[derive(Debug, Clone, Copy, Arbitrary)]
#[expect(missing_docs, reason = "the names are the numbers of bits")]
pub enum Width {
    W0,
    W1,
    W3,
    W4,
    W5,
    W6,
    W8,
    W9,
    W10,
    W16,
    W20,
    /// The same again: most tables are wide.
    W20Too,
}

impl Width {
    /// The width itself.
    pub fn get(self) -> PasidWidth {
        let bits = match self {
            Width::W0 => 0,
            Width::W1 => 1,
            Width::W3 => 3,
            Width::W4 => 4,
            Width::W5 => 5,
            Width::W6 => 6,
            Width::W8 => 8,
            Width::W9 => 9,
            Width::W10 => 10,
            Width::W16 => 16,
            Width::W20 | Width::W20Too => 20,
        };
        PasidWidth::new(bits).unwrap_or(PasidWidth::MAX)
    }
}

/// A set to be added.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct SetSpec {
    /// Its scope.
    pub scope: ScopeSpec,
    /// Its range, or all.
    pub range: Option<Range>,
    /// What it does not hand out.
    pub reserved: Reserved,
    /// Its order.
    pub order: Order,
    /// Its quota.
    pub quota: Option<u8>,
    /// One of four tokens, or none.
    pub token: Option<u8>,
    /// Whether somebody is told of its transitions.
    pub observed: bool,
    /// When its PASIDs may be allocated again.
    pub reuse: ReuseSpec,
}

/// When PASIDs may be allocated again, and who flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub enum ReuseSpec {
    /// At once.
    Immediate,
    /// At once: half of all sets.
    ImmediateToo,
    /// After a flush, which nobody installed.
    AfterFlush,
    /// After a flush, with one installed, which works or fails.
    Flushed(bool),
}

impl ReuseSpec {
    /// The way of reuse.
    pub fn get(self) -> Reuse {
        match self {
            ReuseSpec::Immediate | ReuseSpec::ImmediateToo => Reuse::Immediate,
            ReuseSpec::AfterFlush | ReuseSpec::Flushed(_) => Reuse::AfterFlush,
        }
    }

    /// Whether there is a flush that an allocation runs, and whether it works.
    pub fn flusher(self) -> Option<bool> {
        match self {
            ReuseSpec::Flushed(works) => Some(works),
            _ => None,
        }
    }
}

/// What is flushed.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Whose {
    /// The global sets.
    Space,
    /// The local sets of a table.
    Table(u8),
    /// Whatever waits where a set's PASIDs do.
    Set(u8),
    /// The same, which is the only way for a group.
    SetToo(u8),
}

/// Which tables a set is for.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum ScopeSpec {
    /// All.
    Global(u8),
    /// One.
    Local(u8),
    /// The same, as driver sets are the most.
    LocalToo(u8),
    /// Two, which may be the same.
    Pair(u8, u8),
    /// Three, which may be the same.
    Three(u8, u8, u8),
    /// Seldom a group of one, of none, or of another space's.
    Odd(u8, Seldom),
}

/// Whether something happens that would end most of a run if it did often.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Seldom(u8);

impl Seldom {
    /// One in eight times.
    pub fn happens(self) -> bool {
        self.0 < 32
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
#[expect(missing_docs, reason = "the names are those of the policies")]
pub enum Order {
    Lowest,
    Next,
    PreserveNarrow,
    Spread,
}

impl Order {
    /// The policy.
    pub fn get(self) -> Policy {
        match self {
            Order::Lowest => Policy::Lowest,
            Order::Next => Policy::Next,
            Order::PreserveNarrow => Policy::PreserveNarrow,
            Order::Spread => Policy::Spread,
        }
    }
}

/// A PASID number, more often a low one than not.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Number {
    /// 0 ..= 15.
    Low(u8),
    /// 0 ..= 255.
    Leaf(u8),
    /// Up to 1023.
    Near(u16),
    /// That of something held now.
    Held(u16),
    /// Near the end of all.
    High(u8),
}

impl Number {
    /// The PASID, where `held` says what is held.
    pub fn get(self, held: impl Fn(u16) -> Option<Pasid>) -> Pasid {
        let number = match self {
            Number::Low(number) => u32::from(number & 15),
            Number::Leaf(number) => number.into(),
            Number::Near(number) => u32::from(number & 1023),
            Number::Held(which) => held(which).map_or(u32::from(which & 31), Pasid::get),
            Number::High(below) => Pasid::MAX.get() - u32::from(below),
        };
        Pasid::new(number).unwrap_or(Pasid::ZERO)
    }
}

/// A range to allocate from or to look at.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Range {
    /// All there is.
    All,
    /// 0 ..= 15.
    Sixteen,
    /// So many from there on.
    Few(Number, u8),
    /// From one to another, whichever is the lower.
    Between(Number, Number),
}

impl Range {
    /// The range, where `held` says what is held.
    pub fn get(self, held: impl Fn(u16) -> Option<Pasid>) -> PasidRange {
        let (a, b) = match self {
            Range::All => (Pasid::ZERO, Pasid::MAX),
            Range::Sixteen => (Pasid::ZERO, Pasid::from_u16(15)),
            Range::Few(first, more) => {
                let first = first.get(held);
                let last = (first.get() + u32::from(more)).min(Pasid::MAX.get());
                (first, Pasid::new(last).unwrap_or(first))
            }
            Range::Between(a, b) => (a.get(&held), b.get(&held)),
        };
        PasidRange::new(a.min(b), a.max(b)).unwrap_or(PasidRange::single(a))
    }
}

/// Which of the handles that the run has seen.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Which {
    /// That of something held now.
    Held(u16),
    /// One whose allocation is over, mostly.
    Past(u16),
    /// That of something held now, of another generation.
    Forged(u16, u8),
}

/// One call. A set or a table is meant by the number that comes first.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Op {
    /// `alloc`.
    Alloc(u8, Range, u64),
    /// `alloc` of whatever the set has, a few times.
    AllocMany(u8, u8),
    /// `alloc_in_place`.
    AllocInPlace(u8, Range, u64),
    /// `alloc_near`, or `alloc_in_place_near`.
    AllocNear(u8, u8, Range, bool),
    /// `alloc_at`.
    AllocAt(u8, Number, u64),
    /// `get`.
    Get(u8, Which),
    /// `get_at`.
    GetAt(u8, Number),
    /// `Owned::get` or `Ref::try_clone`, whichever is held there.
    Another(u16),
    /// `replace`.
    Replace(u16, u64),
    /// `Owned::into_ref`.
    IntoRef(u16),
    /// `into_raw`, or `from_raw` of what is raw.
    TurnRaw(u16),
    /// Drop of an Owned or a Ref, or its raw form's `free` or `put`.
    Drop(u16),
    /// The same for so many of the oldest.
    DropMany(u8),
    /// `free` or `put` of what is raw through some set, its own or not; or `free` and
    /// `put` of what is over.
    GiveBack(u8, Which),
    /// `revoke`.
    Revoke(u8, Which),
    /// `find`, by every set.
    Find(Number),
    /// `iter`, `count_live` and `statistics`.
    List(u8, Range),
    /// `preload` of a set.
    Preload(u8, Range),
    /// `free_all`.
    FreeAll(u8),
    /// `set_quota`.
    SetQuota(u8, u8),
    /// `close` of a set.
    CloseSet(u8, Seldom),
    /// The handle of a set goes.
    DropSet(u8, Seldom),
    /// `add_set`.
    AddSet(SetSpec),
    /// `find_set`.
    FindSet(u8),
    /// `add_table`.
    AddTable(TableSpec),
    /// `join`.
    Join(u8, u8, Width),
    /// `leave`.
    Leave(u8, u8),
    /// `pause`.
    Pause(u8, Seldom),
    /// `resume`.
    Resume(u8),
    /// `close` of a table.
    CloseTable(u8, Seldom),
    /// The handle of a table goes.
    DropTable(u8, Seldom),
    /// `Table::reserve`.
    ReserveOn(u8, Number),
    /// `Table::unreserve`.
    UnreserveOn(u8, Number),
    /// `Space::reserve`.
    Reserve(Number),
    /// `Space::unreserve`.
    Unreserve(Number),
    /// `Table::preload`.
    PreloadTable(u8, Range),
    /// `attach`.
    Attach(u8, u16, u64),
    /// `attach` with memory put in place, and mostly `commit`.
    AttachWhole(u8, u16, u64, Seldom),
    /// `commit`.
    Commit(u16),
    /// `replace` of an attachment.
    ReplaceAttached(u16, u64),
    /// Drop of an Attaching, an Attachment or a Fault.
    Detach(u16),
    /// `fault_get`.
    Fault(u8, Number),
    /// `fault_get` at what is attached somewhere.
    FaultAttached(u8, u16),
    /// `attachments`, `width`, `is_closing`.
    ListTable(u8, Range),
    /// `tables`, `sets`, `capacity_left`.
    ListSpace,
    /// `begin_flush`.
    BeginFlush(Whose),
    /// `complete` of a ticket.
    Complete(u16),
    /// Drop of a ticket.
    DropTicket(u16),
    /// `put_back_on` of a ticket, for a table.
    PutBackOn(u16, u8),
    /// What a ticket says of itself and of a table.
    LookAtTicket(u16, u8),
    /// `flush`, whose invalidation works, fails, or fails on a table.
    Flush(Whose, Invalidation),
    /// `pin` of an Owned or a Ref.
    Pin(u16),
    /// Drop of a pin.
    Unpin(u16),
}

/// How an invalidation ends.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Invalidation {
    /// Well.
    Works,
    /// It fails.
    Fails,
    /// It fails on a table.
    FailsOn(u8),
}
