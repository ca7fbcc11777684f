// SPDX-License-Identifier: MIT OR Apache-2.0
//! The status of one PASID table: how far its PASIDs go, and whether it takes
//! attachments.
//!
//! ```text
//!  63        32 31    22    21       20    19         0
//! +------------+--------+--------+---------+------------+
//! |   pauses   |   0    | paused | closing |    last    |
//! +------------+--------+--------+---------+------------+
//! ```
//!
//! | field | bits | meaning |
//! | --- | --- | --- |
//! | last | 20 | the last PASID that every joined device has an entry for |
//! | closing | 1 | no new calls; set once |
//! | paused | 1 | no new attachments |
//! | pauses | 32 | how often the table was paused, modulo 2^32 |
//!
//! # Protocol
//! Control calls write, attaching reads. Who attaches reserves the entry first and looks
//! here then; who pauses, closes or narrows writes here first and looks at the entries
//! then. Between its two steps each passes a sequentially consistent fence, so one of the
//! two sees the other.
//!
//! # The wrap
//! An attachment that was reserved before a pause is told apart from one reserved after
//! it by the count of pauses, unless exactly 2^32 pauses lie between its two steps: at
//! 10^9 pauses a second that would take 4.3 seconds; a pause resets a device.

use crate::pasid::Pasid;
use crate::sync::{AtomicU64, Ordering, fence_totally};

const LAST: u64 = (1 << 20) - 1;
const CLOSING: u64 = 1 << 20;
const PAUSED: u64 = 1 << 21;
const PAUSE: u64 = 1 << 32;

/// What one load of the status said.
#[derive(Clone, Copy)]
pub(crate) struct Seen(u64);

impl Seen {
    /// The last PASID that fits, inclusive.
    #[inline(always)]
    pub(crate) const fn last(self) -> Pasid {
        Pasid::from_index((self.0 & LAST) as u32)
    }

    pub(crate) const fn is_closing(self) -> bool {
        self.0 & CLOSING != 0
    }

    pub(crate) const fn is_paused(self) -> bool {
        self.0 & PAUSED != 0
    }

    /// Whether no pause began between the two.
    pub(crate) const fn same_pauses(self, earlier: Seen) -> bool {
        self.0 / PAUSE == earlier.0 / PAUSE
    }
}

/// The status word.
pub(crate) struct Status(AtomicU64);

impl Status {
    pub(crate) fn new(last: Pasid) -> Status {
        Status(AtomicU64::new(u64::from(last.get())))
    }

    /// The status, for who attaches nothing.
    #[inline(always)]
    pub(crate) fn see(&self) -> Seen {
        // Acquire: pairs with the writes below: who is told that the table is closing or
        // wider again sees what came before that.
        Seen(self.0.load(Ordering::Acquire))
    }

    /// The status, for who has just reserved an entry.
    pub(crate) fn see_after_reserving(&self) -> Seen {
        // SeqCst: the load of the pair at the head of this file. The caller has passed
        // `fence_totally` since its reservation.
        Seen(self.0.load(Ordering::SeqCst))
    }

    /// Pauses. Returns whether it was running.
    pub(crate) fn pause(&self) -> bool {
        self.update(|word| (word | PAUSED).wrapping_add(PAUSE)) & PAUSED == 0
    }

    /// Resumes. Returns whether it was paused.
    pub(crate) fn resume(&self) -> bool {
        self.update(|word| word & !PAUSED) & PAUSED != 0
    }

    /// Closes. Returns whether it was open.
    pub(crate) fn close(&self) -> bool {
        self.update(|word| word | CLOSING) & CLOSING == 0
    }

    /// Lets PASIDs go up to `last`. Returns how far they went before.
    pub(crate) fn set_last(&self, last: Pasid) -> Pasid {
        Seen(self.update(|word| word & !LAST | u64::from(last.get()))).last()
    }

    /// Goes round only when another control call changed the word.
    fn update(&self, change: impl Fn(u64) -> u64) -> u64 {
        // Relaxed: only chooses what to exchange.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            // SeqCst: the write of the pair at the head of this file; its release half
            // pairs with `see`. Failure Relaxed: as the load above.
            match self.0.compare_exchange_weak(
                word,
                change(word),
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(before) => {
                    // Puts the write before the caller's look at the entries, which are
                    // not sequentially consistent loads. Pairs with the fence of who
                    // attaches, between its reservation and its look at the status.
                    fence_totally();
                    return before;
                }
                Err(now) => word = now,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_fields_do_not_touch_each_other() {
        let status = Status::new(Pasid::MAX);
        let before = status.see();
        assert!(status.pause());
        assert!(!status.pause());
        let paused = status.see();
        assert!(paused.is_paused() && !paused.is_closing());
        assert!(!paused.same_pauses(before));
        assert!(status.resume());
        assert!(!status.resume());
        assert!(status.see().same_pauses(paused));
        assert_eq!(status.set_last(Pasid::from_u16(7)), Pasid::MAX);
        assert!(status.close());
        assert!(!status.close());
        let after = status.see();
        assert!(after.is_closing() && !after.is_paused() && after.same_pauses(paused));
        assert_eq!(after.last(), Pasid::from_u16(7));
    }
}
