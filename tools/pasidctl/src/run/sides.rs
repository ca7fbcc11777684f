// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands on each number across all tables, in the shadow (`shadow.rs`, whose protocol
//! and orderings hold here too).
//!
//! ```text
//!  63    48 47     32 31    16 15     0
//! +--------+---------+--------+--------+
//! | global | drivers | tables | space  |
//! +--------+---------+--------+--------+
//! ```
//! The references that global sets and that drivers' sets gave, where a PASID that awaits a
//! flush counts as one; and the reservations of tables and of the space.

use std::sync::atomic::Ordering;

use pasid::Pasid;

use super::rules::{Breach, Rule};
use super::shadow::Words;

/// What may stand on a number, across all tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A reference to a global set's PASID.
    Global,
    /// A reference to a PASID of a set of some tables.
    Drivers,
    /// A table's reservation.
    Table,
    /// The space's reservation.
    Space,
}

impl Side {
    const fn shift(self) -> u32 {
        match self {
            Side::Global => 48,
            Side::Drivers => 32,
            Side::Table => 16,
            Side::Space => 0,
        }
    }

    fn count(self, word: u64) -> u16 {
        (word >> self.shift()) as u16
    }

    /// What must not stand beside it, and the rule that says so. That a table's
    /// reservation and a driver's PASID are of one table, its row can tell.
    fn excludes(self) -> &'static [(Side, Rule)] {
        match self {
            Side::Global => &[
                (Side::Drivers, Rule::M3),
                (Side::Table, Rule::M4),
                (Side::Space, Rule::M4),
            ],
            Side::Drivers => &[(Side::Global, Rule::M3), (Side::Space, Rule::M4)],
            Side::Table => &[(Side::Global, Rule::M4)],
            Side::Space => &[(Side::Global, Rule::M4), (Side::Drivers, Rule::M4)],
        }
    }
}

/// What stands on each number, across all tables.
pub struct Sides(Words);

impl Sides {
    /// Nothing does.
    pub fn new() -> Sides {
        Sides(Words::new())
    }

    /// One more stands on `pasid`.
    ///
    /// # Errors
    /// M3 or M4 if something stands there that excludes it; nothing is entered then.
    pub fn add(&self, pasid: Pasid, side: Side) -> Result<(), Breach> {
        // Relaxed: see the head of `shadow.rs`; the two meet in one word.
        let word = self.0.word(pasid);
        let before = word.fetch_add(1 << side.shift(), Ordering::Relaxed);
        for &(other, rule) in side.excludes() {
            let count = other.count(before);
            if count > 0 {
                self.sub(pasid, side);
                let text = format!(
                    "PASID {pasid} came to {side:?}, but {other:?} holds it ({count} references)"
                );
                return Err(Breach::new(rule, text));
            }
        }
        Ok(())
    }

    /// One less stands on `pasid`.
    pub fn sub(&self, pasid: Pasid, side: Side) {
        // Relaxed: see the head of `shadow.rs`.
        let word = self.0.word(pasid);
        word.fetch_sub(1 << side.shift(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Pasid = Pasid::from_u16(1);

    fn rule<T>(result: Result<T, Breach>) -> Option<Rule> {
        result.err().map(|breach| breach.rule)
    }

    #[test]
    fn the_sides_exclude_each_other() {
        let sides = Sides::new();
        assert_eq!(rule(sides.add(ONE, Side::Drivers)), None);
        assert_eq!(rule(sides.add(ONE, Side::Drivers)), None);
        assert_eq!(rule(sides.add(ONE, Side::Global)), Some(Rule::M3));
        assert_eq!(rule(sides.add(ONE, Side::Space)), Some(Rule::M4));
        // Of the same table or not: the row knows.
        assert_eq!(rule(sides.add(ONE, Side::Table)), None);
        sides.sub(ONE, Side::Drivers);
        sides.sub(ONE, Side::Drivers);
        assert_eq!(rule(sides.add(ONE, Side::Global)), Some(Rule::M4));
        sides.sub(ONE, Side::Table);
        assert_eq!(rule(sides.add(ONE, Side::Global)), None);
        assert_eq!(rule(sides.add(ONE, Side::Drivers)), Some(Rule::M3));
        assert_eq!(rule(sides.add(ONE, Side::Table)), Some(Rule::M4));
    }
}
