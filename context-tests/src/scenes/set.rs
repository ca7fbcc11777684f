// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes of the calls that a set alone has.

use super::{By, Kind, Sets, allocate, give_back, is_revoked, release, take, while_full};
use crate::calls::Call;
use crate::hand::{Hand, Manner, OTHER, SUBJECT};
use crate::shadow::each;
use crate::world::Meddling;
use pasid::Error;
use std::sync::atomic::Ordering::Relaxed;

pub fn near(hand: &Hand) {
    for cpu in 0..hand.repeat {
        if let Some(mine) = allocate::<Sets>(hand, By::Cpu(cpu)) {
            release(hand, mine);
        }
    }
}

pub fn near_when_full(hand: &Hand) {
    while_full::<Sets>(hand, By::Cpu(1), || {
        for cpu in 0..hand.repeat {
            if let Some(mine) = allocate::<Sets>(hand, By::Cpu(cpu)) {
                release(hand, mine);
            }
        }
    });
}

/// Of a number that a set of the other kind has: never both.
pub fn alloc_at_of_rival(hand: &Hand) {
    let Some(rival) = hand.place.rival else {
        return;
    };
    let of_rival = hand.of(rival);
    if let Some(theirs) = allocate::<Sets>(&of_rival, By::Range) {
        if hand.set.scope.values & crate::shadow::bit(theirs.number()) != 0 {
            for _ in 0..hand.repeat {
                let ours = allocate::<Sets>(hand, By::Number(theirs.number()));
                holds!(ours.is_none(), "M3: {} is live twice", theirs.number());
            }
        }
        release(&of_rival, theirs);
    }
}

pub fn live(hand: &Hand) {
    let set = hand.set.set();
    let mine = allocate::<Sets>(hand, By::Range);
    for _ in 0..hand.repeat {
        let statistics = hand.call(Call::SetLive, || set.statistics());
        let (live, freeing) = (statistics.live, statistics.freeing);
        let may = mine.is_none() || is_revoked::<Sets>(hand);
        holds!(live > 0 || may, "nothing is live, and one is held");
        let last = each(hand.set.scope.values).count() as u32;
        holds!(
            live + freeing <= last,
            "{live} and {freeing} of {last} are held"
        );
        if let Some(quota) = statistics.quota {
            let (used, limit) = (quota.used, quota.limit);
            holds!(used <= limit, "M8: {used} are used of {limit}");
        }
    }
    if let Some(mine) = mine {
        release(hand, mine);
    }
}

/// Whether it is a set of its own that the hand ends, and not one of the other's.
fn is_kept_apart(hand: &Hand) -> bool {
    hand.who == OTHER && hand.manner == Manner::Gentle
}

pub fn free_all(hand: &Hand) {
    if is_kept_apart(hand) {
        return free_all_of(&hand.aside());
    }
    hand.meddle(Meddling::Revoked);
    free_all_of(hand);
}

fn free_all_of(hand: &Hand) {
    let set = hand.set.set();
    for _ in 0..hand.repeat {
        let mine = allocate::<Sets>(hand, By::Range);
        // Twice: revoking what is revoked is no error.
        hand.call(Call::SetFreeAll, || set.free_all());
        hand.call(Call::SetFreeAll, || set.free_all());
        if let Some(mine) = mine {
            let handle = mine.owned.handle();
            ask!(answer = hand, Call::SetGet, Sets::get(set, handle));
            match answer {
                Err(Error::BeingFreed(_) | Error::Closing) => {}
                other => broken!("get of {handle} after free_all: {other:?}"),
            }
            release(hand, mine);
        }
    }
}

/// Closes a set that the hand keeps for it; once, until somebody opens another.
pub fn close(hand: &Hand) {
    let hand = hand.aside();
    if hand.set.set().is_closing() {
        return;
    }
    let set = hand.set.set();
    let mine = allocate::<Sets>(&hand, By::Range);
    let held = mine
        .as_ref()
        .and_then(|mine| take::<Sets>(&hand, mine.owned.handle(), mine.id));
    hand.place.closed.store(true, Relaxed);
    hand.call(Call::SetClose, || set.close());
    let more = allocate::<Sets>(&hand, By::Range);
    holds!(more.is_none(), "a closed set allocates");
    if let Some(held) = held {
        give_back(&hand, held);
    }
    if let Some(mine) = mine {
        let handle = mine.owned.handle();
        ask!(answer = hand, Call::SetGet, Sets::get(set, handle));
        match answer {
            Err(Error::BeingFreed(_) | Error::Closing) => {}
            other => broken!("get of {handle} in a closed set: {other:?}"),
        }
        release(&hand, mine);
    }
    if hand.who == SUBJECT {
        // Closing twice is no error.
        for _ in 1..hand.repeat {
            hand.call(Call::SetClose, || set.close());
        }
    }
}
