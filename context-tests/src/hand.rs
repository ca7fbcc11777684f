// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hand: makes data calls, says which one it is in, and knows what the other hand may
//! have done meanwhile.

use crate::calls::Call;
use crate::inside::Inside;
use crate::plant;
use crate::world::{Meddling, Place, SetCell};
use pasid::Error;
use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

/// The hand that is interrupted or stopped, and the one that comes meanwhile.
pub const SUBJECT: usize = 0;
pub const OTHER: usize = 1;

/// What the other hand does to things that are not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Nothing: it looks, and takes what is free.
    Gentle,
    /// Revokes, pauses, and ends what is lent to it.
    Harsh,
    /// Closes the set.
    Closing,
}

/// One of the two hands, at one place.
pub struct Hand {
    pub place: &'static Place,
    /// The set that its calls are for.
    pub set: &'static SetCell,
    pub inside: &'static Inside,
    pub who: usize,
    pub manner: Manner,
    /// How often a short call is made in a scene, so that most of the time is spent in it.
    pub repeat: u32,
    /// How many PASIDs the call may withhold in the middle of which the subject is.
    pub withheld: u32,
    /// Why the last call that was refused was.
    pub refusal: Cell<Error>,
    since: [Cell<u64>; Meddling::COUNT],
}

impl Hand {
    pub fn new(place: &'static Place, inside: &'static Inside, who: usize) -> Hand {
        Hand {
            place,
            set: place.set,
            inside,
            who,
            manner: Manner::Gentle,
            repeat: 1,
            withheld: 1,
            refusal: Cell::new(Error::OutOfMemory),
            since: Default::default(),
        }
    }

    /// The same hand, for another set of the space.
    pub fn of(&self, set: &'static SetCell) -> Hand {
        Hand {
            set,
            refusal: Cell::new(Error::OutOfMemory),
            since: self.since.clone(),
            ..*self
        }
    }

    /// The same hand with the set that it may close.
    pub fn aside(&self) -> Hand {
        self.of(&self.place.asides[self.who])
    }

    /// A word for the set that no allocation had.
    pub fn new_word(&self) -> u64 {
        self.set.scope.id(self.place.number()).word()
    }

    /// Plays one scene of a call.
    pub fn play(&self, scene: fn(&Hand)) {
        for (since, now) in self.since.iter().zip(&self.place.meddled) {
            since.set(now.load(Relaxed));
        }
        scene(self);
    }

    /// Makes one data call: `make` is that call and nothing more.
    #[inline(always)]
    pub fn call<R>(&self, call: Call, make: impl FnOnce() -> R) -> R {
        let special = |begins| plant::around(self, call, begins);
        self.inside.make(call, make, special)
    }

    /// Whether the other hand did that since the scene began. The other hand itself runs
    /// while nobody else does.
    pub fn was(&self, meddling: Meddling) -> bool {
        let now = self.place.meddled[meddling as usize].load(Relaxed);
        self.who == SUBJECT && now != self.since[meddling as usize].get()
    }

    /// The other hand is about to do that.
    pub fn meddle(&self, meddling: Meddling) {
        if self.who == OTHER {
            let count = &self.place.meddled[meddling as usize];
            count.store(count.load(Relaxed) + 1, Relaxed);
        }
    }

    /// How many PASIDs may be missing, as far as this hand can know: the call in the middle
    /// of which the subject is may have one, and the other hand may have had all.
    pub fn may_miss(&self) -> u32 {
        match self.who {
            OTHER => self.withheld,
            _ if self.was(Meddling::Filled) => u32::MAX,
            _ => 0,
        }
    }
}
