// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be done to a space, as values. Every value means something: numbers
//! fold into what exists, so that no input of the fuzzer is wasted.

use arbitrary::Arbitrary;
use pasid::{Pasid, PasidRange, PasidWidth};

/// A whole run.
#[derive(Debug, Clone, Arbitrary)]
pub struct Input {
    /// How the space is built.
    pub setup: Setup,
    /// What is done to it.
    pub ops: Vec<Op>,
}

/// How the space is built.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Setup {
    /// Its width.
    pub width: Width,
    /// Whether its policy is *next*, else *lowest*.
    pub next: bool,
    /// What is reserved from the beginning.
    pub reserved: Reserved,
}

/// Widths at which something is different: none, part of a word, a word, a leaf,
/// several, a node, all.
#[derive(Debug, Clone, Copy, Arbitrary)]
#[expect(missing_docs, reason = "the names are the numbers of bits")]
pub enum Width {
    W0,
    W1,
    W3,
    W5,
    W6,
    W8,
    W9,
    W11,
    W14,
    W15,
    W20,
}

impl Width {
    /// The width itself.
    pub fn get(self) -> PasidWidth {
        let bits = match self {
            Width::W0 => 0,
            Width::W1 => 1,
            Width::W3 => 3,
            Width::W5 => 5,
            Width::W6 => 6,
            Width::W8 => 8,
            Width::W9 => 9,
            Width::W11 => 11,
            Width::W14 => 14,
            Width::W15 => 15,
            Width::W20 => 20,
        };
        PasidWidth::new(bits).unwrap_or(PasidWidth::MAX)
    }
}

/// Reservations that a space is built with.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Reserved {
    /// PASID 0, as by default.
    Default,
    /// None.
    Nothing,
    /// Some of a word, across words, across leaves, across nodes, overlapping, and
    /// the last of all.
    Scattered,
    /// A whole leaf.
    Leaf,
}

const fn range(first: u16, last: u16) -> PasidRange {
    match PasidRange::new(Pasid::from_u16(first), Pasid::from_u16(last)) {
        Ok(range) => range,
        Err(_) => PasidRange::single(Pasid::ZERO),
    }
}

impl Reserved {
    /// The list, or `None` for the default.
    pub fn list(self) -> Option<&'static [PasidRange]> {
        match self {
            Reserved::Default => None,
            Reserved::Nothing => Some(&[]),
            Reserved::Scattered => Some(
                const {
                    &[
                        range(1, 1),
                        range(5, 9),
                        range(7, 12),
                        range(30, 34),
                        range(250, 260),
                        range(16_380, 16_390),
                        PasidRange::single(Pasid::MAX),
                    ]
                },
            ),
            Reserved::Leaf => Some(const { &[range(256, 511)] }),
        }
    }
}

/// A PASID number, more often near an edge than not.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Number {
    /// 0 ..= 255.
    Low(u8),
    /// Up to seven below, or up to eight above, an edge of a word, leaf, node or
    /// of the width.
    Near(u8),
    /// Any of 20 bits.
    Any(u32),
    /// That of something held now.
    Held(u16),
}

const EDGES: [u32; 16] = [
    32, 64, 255, 256, 512, 1_024, 2_048, 4_096, 16_384, 16_640, 32_768, 65_536, 0x8_0000, 0xf_ff00,
    0xf_ffff, 0,
];

impl Number {
    /// The PASID, in a space of `width` in which `held` says what is held.
    pub fn get(self, width: PasidWidth, held: impl Fn(u16) -> Option<Pasid>) -> Pasid {
        let number = match self {
            Number::Low(number) => number.into(),
            Number::Near(which) => {
                let edge = match which >> 4 {
                    15 => width.last().get(),
                    edge => EDGES[usize::from(edge)],
                };
                (edge + u32::from(which & 15)).saturating_sub(7)
            }
            Number::Any(number) => number,
            Number::Held(which) => held(which).map_or(which.into(), Pasid::get),
        };
        Pasid::new(number & Pasid::MAX.get()).unwrap_or(Pasid::ZERO)
    }
}

/// A range to allocate from or to look at.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Request {
    /// All of the width.
    All,
    /// So many from there on.
    Few(Number, u8),
    /// From one to another, whichever is the lower.
    Between(Number, Number),
}

impl Request {
    /// The range, in a space of `width` in which `held` says what is held.
    pub fn get(self, width: PasidWidth, held: impl Fn(u16) -> Option<Pasid>) -> PasidRange {
        let (a, b) = match self {
            Request::All => (Pasid::ZERO, width.last()),
            Request::Few(first, more) => {
                let first = first.get(width, held);
                let last = (first.get() + u32::from(more)).min(Pasid::MAX.get());
                (first, Pasid::new(last).unwrap_or(first))
            }
            Request::Between(a, b) => (a.get(width, &held), b.get(width, &held)),
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
    /// One of another space.
    Foreign(u8),
    /// That of something held now, changed; it may be no handle any more.
    Forged(u16, Change),
}

/// How a handle is forged.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Change {
    /// Another generation, not far away.
    Generation(u8),
    /// Another space's tag.
    Tag(u16),
    /// Without a tag, which makes it none.
    NoTag,
    /// Another PASID.
    Number(u32),
    /// Anything.
    Bits(u64),
}

impl Change {
    /// The raw handle that becomes of `raw`.
    pub fn apply(self, raw: u64) -> u64 {
        const TAG: u64 = 0xfff << 20;
        match self {
            Change::Generation(by) => raw ^ u64::from(by) << 32,
            Change::Tag(tag) => raw & !TAG | (u64::from(tag) << 20 & TAG),
            Change::NoTag => raw & !TAG,
            Change::Number(by) => raw ^ u64::from(by) & 0xf_ffff,
            Change::Bits(bits) => raw ^ bits,
        }
    }
}

/// One call.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Op {
    /// `alloc`.
    Alloc(Request, u64),
    /// `alloc_in_place`.
    AllocInPlace(Request, u64),
    /// `alloc_at`.
    AllocAt(Number, u64),
    /// `alloc`, up to 64 times.
    AllocMany(Request, u8),
    /// `get`.
    Get(Which),
    /// `get_at`.
    GetAt(Number),
    /// `Owned::get` or `Ref::try_clone`, whichever is held there.
    Another(u16),
    /// `word`, then `replace`.
    Replace(u16, u64),
    /// `Owned::into_ref`.
    IntoRef(u16),
    /// `into_raw`, or `from_raw` of what is raw.
    TurnRaw(u16),
    /// Drop of an Owned or a Ref, or its raw form's `free` or `put`.
    Drop(u16),
    /// The same for so many of the oldest.
    DropMany(u8),
    /// `put`, where its contract allows it.
    Put(Which),
    /// `free`, where its contract allows it.
    Free(Which),
    /// `revoke`.
    Revoke(Which),
    /// `find`.
    Find(Number),
    /// `iter`, `any_live` and `count_live`.
    List(Request),
    /// `reserve`.
    Reserve(Number),
    /// `unreserve`.
    Unreserve(Number),
    /// `preload`.
    Preload(Request),
    /// `shrink`.
    Shrink,
    /// `pin` of an Owned or a Ref.
    Pin(u16),
    /// Drop of a pin.
    Unpin(u16),
}
