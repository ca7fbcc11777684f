// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the load itself knows of each PASID, kept beside the allocator and
//! independent of it: one word for each PASID of the width.
//!
//! ```text
//!  63            19   18    17          0
//! +----------------+-------+-------------+
//! |    process     | owned |  references |
//! +----------------+-------+-------------+
//! ```
//!
//! # Protocol
//! The shadow says *held* only while the allocator must say so too:
//!
//! | call of the allocator | step of the shadow |
//! | --- | --- |
//! | `alloc`, `reserve` | [`claim`](Shadow::claim), after it returned |
//! | free (drop of an `Owned`), `unreserve` | [`release`](Shadow::release), before it is called |
//! | `get`, `get_at`, `try_clone` | [`take`](Shadow::take), after it returned |
//! | put (drop of a `Ref`) | [`give`](Shadow::give), before it is called |
//!
//! So each interval in the shadow lies inside the real one, and where two
//! intervals of the shadow exclude each other and overlap, the real ones did.
//!
//! # Why there are no false alarms
//! * **claim against an earlier owner's steps.** The earlier owner's `release`,
//!   and every holder's `give`, come before their free and put in program order.
//!   These come before the next alloc of the same PASID because the allocator
//!   promises it: what was written before a free is visible to the next owner.
//!   So an orderly claim finds the word free of owner and references.
//! * **take against claim.** A process's handle is published after its claim, so
//!   a `get` by handle comes after it. A `get_at` may return a reference to an
//!   allocation that is not claimed yet; then the record of the process says
//!   *binding*, the reference is not entered, and given back without `give`.
//! * **take against release.** A reference may be entered when the owner has
//!   left already. The process's number stays in the word until the next claim,
//!   and there is none while the reference is held; so `take` finds its number.
//! * **give against everything.** Only what was entered is taken off.
//!
//! # Orderings
//! The steps are relaxed on purpose. They must not order anything that the
//! allocator ought to order, or they would hide what it forgets: on a machine
//! that reorders, a missing release or acquire shows as a broken rule.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use pasid::{Pasid, PasidWidth};

use super::process::{PROCESS_BITS, ProcessId};
use super::rules::{Breach, Rule};

/// More than all entries of as many devices as one PCI domain has functions.
const REFERENCES_BITS: u32 = 18;
const OWNED_SHIFT: u32 = REFERENCES_BITS;
const PROCESS_SHIFT: u32 = OWNED_SHIFT + 1;

const REFERENCES: u64 = (1 << REFERENCES_BITS) - 1;
const OWNED: u64 = 1 << OWNED_SHIFT;

const _: () = assert!(
    PROCESS_SHIFT + PROCESS_BITS == 64,
    "the fields fill the word"
);

/// Who claims a PASID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// A process that allocated it.
    Process(ProcessId),
    /// A reservation.
    Reservation,
}

impl Claimant {
    /// No process has this number: it would be the last of the last slot.
    const RESERVATION: u64 = (1 << PROCESS_BITS) - 1;

    fn number(self) -> u64 {
        match self {
            Claimant::Process(id) => id.word(),
            Claimant::Reservation => Claimant::RESERVATION,
        }
    }
}

impl fmt::Display for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claimant::Process(id) => id.fmt(f),
            Claimant::Reservation => f.write_str("a reservation"),
        }
    }
}

/// One value of a shadow word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    fn owned_by(claimant: Claimant) -> Entry {
        Entry(claimant.number() << PROCESS_SHIFT | OWNED)
    }

    fn claimant(self) -> Claimant {
        match self.0 >> PROCESS_SHIFT {
            Claimant::RESERVATION => Claimant::Reservation,
            number => Claimant::Process(ProcessId::of_word(number)),
        }
    }

    fn is_owned(self) -> bool {
        self.0 & OWNED != 0
    }

    fn references(self) -> u64 {
        self.0 & REFERENCES
    }

    fn is_of(self, id: ProcessId) -> bool {
        self.0 >> PROCESS_SHIFT == id.word()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.is_owned() {
            "owned"
        } else {
            "last owned"
        };
        write!(
            f,
            "{verb} by {}, references held: {}",
            self.claimant(),
            self.references()
        )
    }
}

/// The shadow of every PASID of a width.
#[derive(Debug)]
pub struct Shadow {
    words: Box<[AtomicU64]>,
}

impl Shadow {
    /// Nothing is held: 8 bytes for each PASID.
    pub fn new(width: PasidWidth) -> Shadow {
        let words = (0..width.count()).map(|_| AtomicU64::new(0));
        Shadow {
            words: words.collect(),
        }
    }

    /// `claimant` was given `pasid`.
    ///
    /// # Errors
    /// M1, M4 or M7, if it was held already; the shadow stays as it was.
    pub fn claim(&self, pasid: Pasid, claimant: Claimant) -> Result<(), Breach> {
        let claimed = Entry::owned_by(claimant);
        self.step(pasid, Ordering::Release, |entry| {
            if entry.is_owned() || entry.references() > 0 {
                Err(held_already(pasid, entry, claimant))
            } else {
                Ok(claimed)
            }
        })
    }

    /// `claimant` is about to give `pasid` up.
    ///
    /// # Errors
    /// M1, if the shadow has another owner.
    pub fn release(&self, pasid: Pasid, claimant: Claimant) -> Result<(), Breach> {
        self.step(pasid, Ordering::Relaxed, |entry| {
            if entry.is_owned() && entry.claimant() == claimant {
                Ok(Entry(entry.0 & !OWNED))
            } else {
                let text = format!("PASID {pasid} of {claimant} is in the shadow {entry}");
                Err(Breach::new(Rule::M1, text))
            }
        })
    }

    /// Somebody was given a reference to the PASID of `id`.
    ///
    /// # Errors
    /// M7, if the shadow knows of a later owner.
    pub fn take(&self, pasid: Pasid, id: ProcessId) -> Result<(), Breach> {
        self.step(pasid, Ordering::Relaxed, |entry| {
            if entry.is_of(id) && entry.references() < REFERENCES {
                Ok(Entry(entry.0 + 1))
            } else {
                Err(reused(pasid, entry, id))
            }
        })
    }

    /// Somebody is about to give a reference to the PASID of `id` back.
    ///
    /// # Errors
    /// M7, if the shadow knows of a later owner.
    pub fn give(&self, pasid: Pasid, id: ProcessId) -> Result<(), Breach> {
        self.step(pasid, Ordering::Relaxed, |entry| {
            if entry.is_of(id) && entry.references() > 0 {
                Ok(Entry(entry.0 - 1))
            } else {
                Err(reused(pasid, entry, id))
            }
        })
    }

    /// Whether `pasid` has been claimed again since `id` claimed it; so the
    /// allocation of `id` is over.
    pub fn is_reclaimed(&self, pasid: Pasid, id: ProcessId) -> bool {
        // Acquire: pairs with the release of `claim`. Whoever sees the later claim
        // comes after the end of the earlier allocation, and may demand *stale*.
        !Entry(self.word(pasid).load(Ordering::Acquire)).is_of(id)
    }

    fn word(&self, pasid: Pasid) -> &AtomicU64 {
        // A PASID beyond the width has been reported already, as M5.
        &self.words[pasid.get() as usize % self.words.len()]
    }

    /// Goes from one entry to the next, unless `next` sees a breach.
    #[inline]
    fn step(
        &self,
        pasid: Pasid,
        success: Ordering,
        next: impl Fn(Entry) -> Result<Entry, Breach>,
    ) -> Result<(), Breach> {
        let word = self.word(pasid);
        // Relaxed, also where the exchange fails: see the head of this file.
        let mut entry = word.load(Ordering::Relaxed);
        loop {
            let to = next(Entry(entry))?;
            match word.compare_exchange_weak(entry, to.0, success, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(actual) => entry = actual,
            }
        }
    }
}

#[cold]
fn held_already(pasid: Pasid, entry: Entry, newcomer: Claimant) -> Breach {
    let reserved = [entry.claimant(), newcomer].contains(&Claimant::Reservation);
    let rule = match (entry.is_owned(), reserved) {
        (true, true) => Rule::M4,
        (true, false) => Rule::M1,
        (false, _) => Rule::M7,
    };
    Breach::new(
        rule,
        format!("PASID {pasid} was given to {newcomer}, but is {entry}"),
    )
}

#[cold]
fn reused(pasid: Pasid, entry: Entry, id: ProcessId) -> Breach {
    let text = format!("a reference to PASID {pasid} of {id} is held, but it is {entry}");
    Breach::new(Rule::M7, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Pasid = Pasid::from_u16(1);

    fn shadow() -> Shadow {
        Shadow::new(PasidWidth::new(4).unwrap())
    }

    fn rule(result: Result<(), Breach>) -> Option<Rule> {
        result.err().map(|breach| breach.rule)
    }

    #[test]
    fn an_orderly_life_breaks_nothing() {
        let (shadow, first) = (shadow(), ProcessId::of_word(1 << 12));
        for id in [first, first.next()] {
            assert!(
                !shadow.is_reclaimed(ONE, id) || shadow.claim(ONE, Claimant::Process(id)).is_ok()
            );
            shadow.take(ONE, id).unwrap();
            shadow.release(ONE, Claimant::Process(id)).unwrap();
            // A get that began before the free may be entered after it.
            shadow.take(ONE, id).unwrap();
            shadow.give(ONE, id).unwrap();
            shadow.give(ONE, id).unwrap();
        }
        assert!(shadow.is_reclaimed(ONE, first));
        shadow.claim(ONE, Claimant::Reservation).unwrap();
        shadow.release(ONE, Claimant::Reservation).unwrap();
    }

    #[test]
    fn each_kind_of_double_hand_out_has_its_rule() {
        let (shadow, id) = (shadow(), ProcessId::of_word(1 << 12));
        let (owner, other) = (Claimant::Process(id), Claimant::Process(id.next()));
        shadow.claim(ONE, owner).unwrap();
        assert_eq!(rule(shadow.claim(ONE, other)), Some(Rule::M1));
        assert_eq!(
            rule(shadow.claim(ONE, Claimant::Reservation)),
            Some(Rule::M4)
        );
        assert_eq!(rule(shadow.release(ONE, other)), Some(Rule::M1));
        shadow.take(ONE, id).unwrap();
        shadow.release(ONE, owner).unwrap();
        assert_eq!(rule(shadow.claim(ONE, other)), Some(Rule::M7));
        shadow.give(ONE, id).unwrap();
        assert_eq!(rule(shadow.give(ONE, id)), Some(Rule::M7));
        shadow.claim(ONE, Claimant::Reservation).unwrap();
        assert_eq!(rule(shadow.claim(ONE, other)), Some(Rule::M4));
        assert_eq!(rule(shadow.take(ONE, id)), Some(Rule::M7));
    }
}
