// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names of allocations: the word that each of the load's PASIDs carries.
//!
//! ```text
//!  63      56 55      45 44          0
//! +----------+----------+-------------+
//! | revision |  thread  |   serial    |
//! +----------+----------+-------------+
//! ```
//!
//! A thread numbers the PASIDs that it is given. So whoever looks one up can tell which
//! allocation it met, and from the thread's count whether there was such a one. An
//! attachment's word is that of its PASID with a revision above 0, which counts how often
//! the word was replaced. The serial does not wrap in a thousand years.

use std::fmt;

const SERIAL_BITS: u32 = 45;
const THREAD_BITS: u32 = 11;
const REVISION_SHIFT: u32 = SERIAL_BITS + THREAD_BITS;

/// How much of a name goes into the shadow: the thread and the end of the serial. Names
/// that are told apart wrongly need 2^25 allocations of one thread between them, and only
/// hide a breach.
pub const SHORT_BITS: u32 = THREAD_BITS + SHORT_SERIAL_BITS;
/// How much of the serial.
pub const SHORT_SERIAL_BITS: u32 = 25;

/// Names one allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(u64);

impl Id {
    /// The `serial`th allocation of a thread.
    pub fn new(thread: usize, serial: u64) -> Id {
        let serial = serial & ((1 << SERIAL_BITS) - 1);
        Id((thread as u64) << SERIAL_BITS | serial)
    }

    /// The one that a word names. Any word names one, though there may be no such thread.
    pub fn of_word(word: u64) -> Id {
        Id(word & ((1 << REVISION_SHIFT) - 1))
    }

    /// The owner's word.
    pub fn word(self) -> u64 {
        self.0
    }

    /// An attachment's word.
    pub fn revised(self, revision: u8) -> u64 {
        u64::from(revision) << REVISION_SHIFT | self.0
    }

    /// Whose it is.
    pub fn thread(self) -> usize {
        (self.0 >> SERIAL_BITS) as usize
    }

    /// The how manieth.
    pub fn serial(self) -> u64 {
        self.0 & ((1 << SERIAL_BITS) - 1)
    }

    /// The one that comes after it.
    pub fn next(self) -> Id {
        Id::new(self.thread(), self.serial() + 1)
    }

    /// What the shadow keeps of it.
    pub fn short(self) -> u64 {
        let serial = self.0 & ((1 << SHORT_SERIAL_BITS) - 1);
        (self.thread() as u64) << SHORT_SERIAL_BITS | serial
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "allocation {}.{}", self.thread(), self.serial())
    }
}

#[cfg(test)]
mod tests {
    use super::Id;

    #[test]
    fn a_word_names_its_allocation() {
        let id = Id::new(1024, 7);
        assert_eq!(
            (id.thread(), id.serial(), id.next()),
            (1024, 7, Id::new(1024, 8))
        );
        assert_eq!(Id::of_word(id.revised(255)), id);
        assert_ne!(id.revised(1), id.word());
        assert_ne!(id.short(), Id::new(1023, 7).short());
    }
}
