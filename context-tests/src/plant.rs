// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deliberate faults around the data calls: a program with one planted has to fail, or its
//! checks show nothing. `PASID_PLANT=NAME` plants one.

use crate::calls::Call;
use crate::hand::{Hand, SUBJECT};
use crate::world::{REQUEST, Turns};
use pasid::{IoasidSet, Owned, Pool};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Plant {
    Nothing,
    /// Every call holds one lock, and spins for it.
    Lock,
    /// Every call asks the operating system for something.
    System,
    /// Who allocates has a second PASID meanwhile.
    Hoard,
    /// One who frees keeps it.
    Lose,
}

const NAMES: [(&str, Plant); 4] = [
    ("lock", Plant::Lock),
    ("system", Plant::System),
    ("hoard", Plant::Hoard),
    ("lose", Plant::Lose),
];

static PLANTED: AtomicU8 = AtomicU8::new(Plant::Nothing as u8);
static LOCK: AtomicBool = AtomicBool::new(false);
static HOARD: Turns<Option<Owned<&'static IoasidSet>>> = Turns::new(None);

/// Plants what the environment asks for.
pub fn read() {
    let Ok(name) = std::env::var("PASID_PLANT") else {
        return;
    };
    match NAMES.iter().find(|(known, _)| *known == name) {
        Some(&(_, plant)) => PLANTED.store(plant as u8, Ordering::Relaxed),
        None => broken!("nothing of the name {name} can be planted"),
    }
}

/// Whether anything is.
pub fn is_any() -> bool {
    !is(Plant::Nothing)
}

fn is(plant: Plant) -> bool {
    PLANTED.load(Ordering::Relaxed) == plant as u8
}

/// Where a call begins, and where it ends.
#[cold]
#[inline(never)]
pub fn around(hand: &Hand, call: Call, begins: bool) {
    if begins {
        begin(hand, call);
    } else {
        end(hand, call);
    }
}

fn begin(hand: &Hand, call: Call) {
    if is(Plant::Lock) {
        while LOCK.swap(true, Ordering::Acquire) {
            spin_loop();
        }
    }
    if is(Plant::System) {
        // SAFETY: asks for a number.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    let allocates = matches!(call, Call::SetAllocAt | Call::SetAllocInPlace);
    if is(Plant::Hoard) && hand.who == SUBJECT && allocates {
        HOARD.replace(hand.set.set().alloc_in_place(REQUEST, hand.new_word()).ok());
    }
}

fn end(hand: &Hand, call: Call) {
    if is(Plant::Lock) {
        LOCK.store(false, Ordering::Release);
    }
    if is(Plant::Hoard) && hand.who == SUBJECT {
        HOARD.replace(None);
    }
    if is(Plant::Lose) && hand.who == SUBJECT && call == Call::SetFree {
        std::mem::forget(hand.set.set().alloc_in_place(REQUEST, hand.new_word()));
    }
}
