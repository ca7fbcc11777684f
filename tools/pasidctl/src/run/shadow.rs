// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the load itself knows of each PASID, kept beside the allocator and independent
//! of it. Each table has a [`Row`] of words, and so have the global sets; and across all
//! tables there are the [`Sides`](super::sides::Sides), which say for each number whether
//! it is global, some table's, or reserved.
//!
//! ```text
//!  63     28 27  20    19     18       17    16         0
//! +---------+------+-------+-------+---------+------------+
//! |   name  | set  | waits | owned | counted | references |
//! +---------+------+-------+-------+---------+------------+
//! ```
//! *references* counts all holders with the owner. *waits* says that the last of them has
//! gone and that a flush is awaited: see `quarantine.rs`.
//!
//! # Protocol
//! The shadow says *held* only while the allocator must say so too: `claim` and `take`
//! come after the call that gave something, `release` and `give` before the one that gives
//! it back, and `flushed` before the flush completes. So each interval in the shadow lies inside the real one, and where two
//! intervals of the shadow exclude each other and overlap, the real ones did. Of two that
//! exclude each other, the second meets the first in the same word.
//!
//! # Why there are no false alarms
//! * **claim against an earlier owner's steps.** These come before its free and puts, and
//!   they before the next allocation of that PASID, because the allocator promises it:
//!   what was written before a free is visible to the next owner.
//! * **take against claim.** A reference may be got to an allocation that is not claimed
//!   yet. Who does so asks the count of the thread first, see `Worker::is_claimed`.
//! * **take against release.** A reference may be entered when the owner, and so all
//!   references that the shadow knows, have gone. The name stays until the next claim, and
//!   there is none while the reference is held.
//! * **flushed against every step.** What a flush has taken was put for the last time before
//!   that, and all steps of its allocation came before their puts.
//!
//! # Orderings
//! The steps are relaxed on purpose. They must not order anything that the allocator ought
//! to order, or they would hide what it forgets: on a machine that reorders, a missing
//! release or acquire shows as a broken rule.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pasid::{Pasid, PasidWidth, Reuse};

use super::id::{Id, SHORT_BITS, SHORT_SERIAL_BITS};
use super::rules::{Breach, Rule};

const REFERENCES_BITS: u32 = 17;
const COUNTED: u64 = 1 << REFERENCES_BITS;
const OWNED: u64 = COUNTED << 1;
const WAITS: u64 = OWNED << 1;
const SET_SHIFT: u32 = REFERENCES_BITS + 3;
const SET_BITS: u32 = 8;
const NAME_SHIFT: u32 = SET_SHIFT + SET_BITS;
const REFERENCES: u64 = COUNTED - 1;
/// No thread has this name.
const RESERVED: u64 = (1 << SHORT_BITS) - 1;

const _: () = assert!(NAME_SHIFT + SHORT_BITS == 64, "the fields fill the word");

/// Words that have memory where they were used.
pub(super) struct Words(Box<[OnceLock<Box<[AtomicU64]>>]>);

const CHUNK: usize = 1024;

impl Words {
    /// All are 0.
    pub(super) fn new() -> Words {
        let chunks = PasidWidth::MAX.count() as usize / CHUNK;
        Words((0..chunks).map(|_| OnceLock::new()).collect())
    }

    #[inline]
    pub(super) fn word(&self, pasid: Pasid) -> &AtomicU64 {
        let index = pasid.get() as usize;
        let chunk =
            self.0[index / CHUNK].get_or_init(|| (0..CHUNK).map(|_| AtomicU64::new(0)).collect());
        &chunk[index % CHUNK]
    }
}

/// A set, as the shadow tells sets apart: those of one table have different numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetNumber(pub u8);

/// Sets with these numbers reach more than one table, and are no driver's of one.
pub const SHARED_FROM: u8 = 200;

#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    fn new(name: u64, set: SetNumber) -> Entry {
        Entry(name << NAME_SHIFT | u64::from(set.0) << SET_SHIFT | OWNED | COUNTED | 1)
    }

    fn references(self) -> u64 {
        self.0 & REFERENCES
    }

    fn is_owned(self) -> bool {
        self.0 & OWNED != 0
    }

    fn waits(self) -> bool {
        self.0 & WAITS != 0
    }

    fn name(self) -> u64 {
        self.0 >> NAME_SHIFT
    }

    fn set(self) -> SetNumber {
        SetNumber((self.0 >> SET_SHIFT) as u8)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name() == RESERVED && self.references() > 0 {
            return f.write_str("reserved");
        }
        let verb = if self.is_owned() {
            "owned"
        } else if self.waits() {
            "awaiting a flush, last owned"
        } else {
            "last owned"
        };
        let serial = self.name() & ((1 << SHORT_SERIAL_BITS) - 1);
        let (thread, set) = (self.name() >> SHORT_SERIAL_BITS, self.set().0);
        let references = self.references();
        write!(
            f,
            "{verb} by allocation {thread}.{serial} of set {set}, references held: {references}"
        )
    }
}

/// What changes with a reference that goes, or with a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// A set's count goes down: with the last reference or with the flush, once.
    pub counted: bool,
    /// The last reference has gone, and a flush is awaited from now on.
    pub waits: bool,
}

impl Left {
    /// Nothing does.
    pub const NOTHING: Left = Left {
        counted: false,
        waits: false,
    };
}

/// Who holds the PASIDs of one table, or those of the global sets.
pub struct Row(Words);

impl Row {
    /// Nothing is held. 24 KiB, and 8 KiB for each 1024 PASIDs that are used.
    pub fn new() -> Row {
        Row(Words::new())
    }

    /// A set was given `pasid`.
    ///
    /// # Errors
    /// M1, M4, M6 or M7 if it was held, *flush* if it awaits one; the row stays as it was.
    pub fn claim(&self, pasid: Pasid, set: SetNumber, id: Id) -> Result<(), Breach> {
        let claimed = Entry::new(id.short(), set);
        self.enter(pasid, claimed, &format_args!("{id} of set {}", set.0))
    }

    /// `pasid` was reserved.
    ///
    /// # Errors
    /// M4 if it is held, *flush* if it awaits one; the row stays as it was.
    pub fn reserve(&self, pasid: Pasid) -> Result<(), Breach> {
        let reserved = Entry::new(RESERVED, SetNumber(0));
        self.enter(pasid, reserved, &"a reservation")
    }

    /// The reservation is about to be taken away.
    pub fn unreserve(&self, pasid: Pasid) {
        // Relaxed: see the head of this file.
        self.0.word(pasid).store(0, Ordering::Relaxed);
    }

    fn enter(&self, pasid: Pasid, to: Entry, who: &dyn fmt::Display) -> Result<(), Breach> {
        self.step(pasid, Ordering::Release, |entry| {
            if entry.references() == 0 && !entry.waits() {
                return Ok(to);
            }
            let rule = if entry.references() == 0 {
                Rule::Flush
            } else if entry.name() == RESERVED || to.name() == RESERVED {
                Rule::M4
            } else if !entry.is_owned() {
                Rule::M7
            } else if entry.set() != to.set() && entry.set().0.max(to.set().0) < SHARED_FROM {
                Rule::M6
            } else {
                Rule::M1
            };
            let text = format!("PASID {pasid} was given to {who}, but is {entry}");
            Err(Breach::new(rule, text))
        })
        .map(|_| ())
    }

    /// Somebody was given a reference.
    ///
    /// # Errors
    /// M7, if the row knows of a later owner.
    pub fn take(&self, pasid: Pasid, id: Id) -> Result<(), Breach> {
        self.step(pasid, Ordering::Relaxed, |entry| {
            if entry.name() == id.short() {
                Ok(Entry(entry.0 + 1))
            } else {
                Err(reused(pasid, entry, id))
            }
        })
        .map(|_| ())
    }

    /// Somebody is about to give a reference back to a set with that reuse.
    ///
    /// # Errors
    /// M7, if the row knows of a later owner.
    pub fn give(&self, pasid: Pasid, id: Id, reuse: Reuse) -> Result<Left, Breach> {
        self.leave(pasid, id, reuse, 0)
    }

    /// The owner is about to give the PASID up, to a set with that reuse.
    ///
    /// # Errors
    /// M7, as [`Row::give`].
    pub fn release(&self, pasid: Pasid, id: Id, reuse: Reuse) -> Result<Left, Breach> {
        self.leave(pasid, id, reuse, OWNED)
    }

    fn leave(&self, pasid: Pasid, id: Id, reuse: Reuse, clear: u64) -> Result<Left, Breach> {
        let left = |entry: Entry| {
            let fewer = (entry.0 - 1) & !clear;
            Entry(match (entry.references(), reuse) {
                (1, Reuse::AfterFlush) => fewer | WAITS,
                (1, _) => fewer & !COUNTED,
                _ => fewer,
            })
        };
        let before = self.step(pasid, Ordering::Relaxed, |entry| {
            if entry.name() == id.short() && entry.references() > 0 {
                Ok(left(entry))
            } else {
                Err(reused(pasid, entry, id))
            }
        })?;
        let after = left(before);
        Ok(Left {
            counted: (before.0 & !after.0) & COUNTED != 0,
            waits: after.waits() && !before.waits(),
        })
    }

    /// A flush that has taken `pasid` goes on.
    ///
    /// # Errors
    /// *Flush*, if it is held.
    pub fn check_taken(&self, pasid: Pasid) -> Result<(), Breach> {
        // Relaxed: see the head of this file.
        let entry = Entry(self.0.word(pasid).load(Ordering::Relaxed));
        if entry.references() == 0 {
            return Ok(());
        }
        let text = format!("a flush has taken PASID {pasid}, but it is {entry}");
        Err(Breach::new(Rule::Flush, text))
    }

    /// The flush that has taken `pasid` is about to complete. Nothing is left of one that
    /// the row does not know, which was given back before its owner was told.
    ///
    /// # Errors
    /// As [`Row::check_taken`].
    pub fn flushed(&self, pasid: Pasid) -> Result<Left, Breach> {
        self.check_taken(pasid)?;
        let left = |entry: Entry| match entry.waits() {
            true => Entry(entry.0 & !(WAITS | COUNTED)),
            false => entry,
        };
        let before = self.step(pasid, Ordering::Relaxed, |entry| Ok(left(entry)))?;
        Ok(Left {
            counted: (before.0 & !left(before).0) & COUNTED != 0,
            waits: before.waits(),
        })
    }

    /// Whether `pasid` has been claimed again since `id` claimed it; so the allocation of
    /// `id` is over.
    pub fn is_reclaimed(&self, pasid: Pasid, id: Id) -> bool {
        // Acquire: pairs with the release of `claim`. Whoever sees the later claim
        // comes after the end of the earlier allocation, and may demand *stale*.
        Entry(self.0.word(pasid).load(Ordering::Acquire)).name() != id.short()
    }

    /// Goes from one entry to the next, unless `next` sees a breach. Returns the one before.
    #[inline]
    fn step(
        &self,
        pasid: Pasid,
        success: Ordering,
        next: impl Fn(Entry) -> Result<Entry, Breach>,
    ) -> Result<Entry, Breach> {
        let word = self.0.word(pasid);
        // Relaxed, also where the exchange fails: see the head of this file.
        let mut entry = word.load(Ordering::Relaxed);
        loop {
            let to = next(Entry(entry))?;
            match word.compare_exchange_weak(entry, to.0, success, Ordering::Relaxed) {
                Ok(_) => return Ok(Entry(entry)),
                Err(actual) => entry = actual,
            }
        }
    }
}

#[cold]
fn reused(pasid: Pasid, entry: Entry, id: Id) -> Breach {
    let text = format!("a reference to PASID {pasid} of {id} is held, but it is {entry}");
    Breach::new(Rule::M7, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Pasid = Pasid::from_u16(1);
    const A: SetNumber = SetNumber(1);
    const B: SetNumber = SetNumber(2);
    const GROUP: SetNumber = SetNumber(SHARED_FROM);
    const NOTHING: Left = Left::NOTHING;
    const COUNT: Left = Left {
        counted: true,
        ..NOTHING
    };
    const WAIT: Left = Left {
        waits: true,
        ..NOTHING
    };

    fn rule<T>(result: Result<T, Breach>) -> Option<Rule> {
        result.err().map(|breach| breach.rule)
    }

    #[test]
    fn an_orderly_life_breaks_nothing() {
        let (row, first) = (Row::new(), Id::new(1, 1));
        for id in [first, first.next()] {
            row.claim(ONE, A, id).unwrap();
            row.take(ONE, id).unwrap();
            assert_eq!(row.release(ONE, id, Reuse::Immediate).unwrap(), NOTHING);
            assert_eq!(row.give(ONE, id, Reuse::Immediate).unwrap(), COUNT);
            // A get that began before the free may be entered after it.
            row.take(ONE, id).unwrap();
            let left = row.give(ONE, id, Reuse::Immediate).unwrap();
            assert_eq!(left, NOTHING, "a credit goes back once");
        }
        assert!(row.is_reclaimed(ONE, first) && !row.is_reclaimed(ONE, first.next()));
        row.reserve(ONE).unwrap();
        row.unreserve(ONE);
    }

    #[test]
    fn each_kind_of_double_hand_out_has_its_rule() {
        let (row, id) = (Row::new(), Id::new(1, 1));
        let other = id.next();
        row.claim(ONE, A, id).unwrap();
        assert_eq!(rule(row.claim(ONE, A, other)), Some(Rule::M1));
        assert_eq!(rule(row.claim(ONE, GROUP, other)), Some(Rule::M1));
        assert_eq!(rule(row.claim(ONE, B, other)), Some(Rule::M6));
        assert_eq!(rule(row.reserve(ONE)), Some(Rule::M4));
        row.take(ONE, id).unwrap();
        row.release(ONE, id, Reuse::Immediate).unwrap();
        assert_eq!(rule(row.claim(ONE, B, other)), Some(Rule::M7));
        row.give(ONE, id, Reuse::Immediate).unwrap();
        assert_eq!(rule(row.give(ONE, id, Reuse::Immediate)), Some(Rule::M7));
        row.reserve(ONE).unwrap();
        assert_eq!(rule(row.claim(ONE, A, other)), Some(Rule::M4));
        assert_eq!(rule(row.take(ONE, id)), Some(Rule::M7));
    }

    #[test]
    fn what_waits_is_nobody_s_until_it_is_flushed() {
        let (row, id) = (Row::new(), Id::new(1, 1));
        let other = id.next();
        row.claim(ONE, A, id).unwrap();
        assert_eq!(rule(row.flushed(ONE)), Some(Rule::Flush), "held");
        assert_eq!(row.release(ONE, id, Reuse::AfterFlush).unwrap(), WAIT);
        row.take(ONE, id).unwrap();
        assert_eq!(rule(row.check_taken(ONE)), Some(Rule::Flush), "held");
        assert_eq!(row.give(ONE, id, Reuse::AfterFlush).unwrap(), NOTHING);
        for set in [A, B, GROUP] {
            assert_eq!(rule(row.claim(ONE, set, other)), Some(Rule::Flush));
        }
        assert_eq!(rule(row.reserve(ONE)), Some(Rule::Flush));
        row.check_taken(ONE).unwrap();
        let both = Left {
            counted: true,
            waits: true,
        };
        assert_eq!(row.flushed(ONE).unwrap(), both);
        assert_eq!(row.flushed(ONE).unwrap(), NOTHING);
        row.claim(ONE, B, other).unwrap();
    }
}
