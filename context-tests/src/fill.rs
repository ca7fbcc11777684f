// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything: all calls in all scenes, and then all PASIDs that can be had.
//!
//! What the shadow says is free and cannot be had is missing: who is stopped in the middle
//! of a call withholds it.

use crate::calls::{Call, ROWS};
use crate::hand::{Hand, Manner};
use crate::scenes::{By, Ids, Kind, Mine, Nothings, Sets, Statics};
use crate::scenes::{allocate, flush, lent, release, table};
use crate::shadow::{COUNT, Values, bit, each};
use pasid::Error;
use std::sync::atomic::Ordering::Relaxed;

/// What is nobody's and cannot be had.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    pub pasids: Values,
    /// Entries of the table for attachments.
    pub entries: Values,
    pub credits: u64,
}

impl Missing {
    fn add(&mut self, more: Missing) {
        self.pasids |= more.pasids;
        self.entries |= more.entries;
        self.credits += more.credits;
    }

    /// Fails if it is more than `count` PASIDs, each with its entry and its credit.
    #[track_caller]
    pub fn check(&self, count: u32, call: Option<Call>) {
        let pasids = self.pasids.count_ones();
        let more = pasids > count || self.credits > u64::from(count);
        // An entry is one attachment's the whole time.
        let entries = self.entries.count_ones() > u32::from(call.is_some());
        if more || entries {
            let name = call.map_or("nobody", Call::name);
            broken!("{name} withholds {self:?}, and may withhold {count}");
        }
    }
}

/// Makes every call in every scene, takes all there is, and does to the things of the
/// subject what the hand's manner says. `call` is what the subject is in the middle of.
pub fn complete(hand: &Hand, call: Call) {
    flush::all(hand);
    hand.place.mend_aside(hand.who);
    if hand.manner == Manner::Harsh {
        // Where the subject has paused it, nothing could be attached.
        lent::resume(hand);
    }
    for row in ROWS {
        for &scene in row.scenes {
            hand.play(scene);
        }
    }
    fill(hand).check(call.row().withholds, Some(call));
    lent::meddle(hand);
}

/// Takes all there is, in the id space and in every set of the space, and says what is
/// missing.
pub fn fill(hand: &Hand) -> Missing {
    flush::all(hand);
    let mut missing = fill_one::<Ids>(hand, |_, _| 0);
    for set in &hand.place.space.sets {
        missing.add(fill_one::<Sets>(&hand.of(set), entry_missing));
    }
    missing.add(fill_one::<Statics>(hand, |_, _| 0));
    missing.add(fill_one::<Nothings>(hand, |_, _| 0));
    missing
}

/// The bit of the PASID if its entry cannot be had.
fn entry_missing(hand: &Hand, mine: &Mine<Sets>) -> Values {
    let (place, number) = (hand.place, mine.number());
    let reached = match hand.set.scope.side {
        crate::shadow::Side::Global => true,
        crate::shadow::Side::Tables(tables) => tables.contains(&place.table),
    };
    let known = place.space.shadow.is_entered(place.table, number);
    if !reached || known || place.pausing.load(Relaxed) > 0 {
        return 0;
    }
    match table::attach_mine(hand, mine) {
        Some(reserved) => {
            table::back_out_it(hand, reserved);
            0
        }
        None => bit(number),
    }
}

fn fill_one<K: Kind>(hand: &Hand, entry: fn(&Hand, &Mine<K>) -> Values) -> Missing {
    let (scope, shadow) = (K::scope(hand), K::shadow(hand));
    let mut missing = Missing::default();
    if K::is_closing(hand) {
        let more = allocate::<K>(hand, By::Range);
        holds!(more.is_none(), "a closed set allocates");
        return missing;
    }
    let (free, credits) = (shadow.free(scope), scope.credits_left());
    if credits != Some(0) {
        for number in each(free) {
            match allocate::<K>(hand, By::Number(number)) {
                Some(mine) => {
                    missing.entries |= entry(hand, &mine);
                    release(hand, mine);
                }
                None if matches!(hand.refusal.get(), Error::QuotaExceeded { .. }) => {}
                None => missing.pasids |= bit(number),
            }
        }
    }
    if scope.waits {
        flush::all(hand);
    }
    let there = (free & !missing.pasids).count_ones();
    let most = credits.map_or(there, |left| there.min(left as u32));
    let mut all: [Option<Mine<K>>; COUNT] = [const { None }; COUNT];
    let mut count = 0;
    while let Some(mine) = allocate::<K>(hand, By::Range) {
        match all.get_mut(count as usize) {
            Some(place) => *place = Some(mine),
            None => broken!("more than there is"),
        }
        count += 1;
    }
    hand.meddle(crate::world::Meddling::Filled);
    let lacks_credit = matches!(hand.refusal.get(), Error::QuotaExceeded { .. });
    for mine in all.into_iter().flatten() {
        release(hand, mine);
    }
    if scope.waits {
        flush::all(hand);
    }
    // What the subject is just letting wait may be found by a later flush.
    let late = if scope.waits { hand.may_miss() } else { 0 };
    holds!(count <= most + late, "{count} could be had of {most}");
    if count < most {
        holds!(
            lacks_credit,
            "exhausted: {count} could be had of {most}, each of which could be had alone"
        );
        missing.credits = u64::from(most - count);
    }
    missing
}
