// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes of looking up and listing.

use super::lent::{lend, take_back};
use super::{By, Ids, Kind, allocate, is_revoked, release};
use crate::calls::Call;
use crate::hand::Hand;
use crate::shadow::{bit, each};
use crate::world::{Meddling, REQUEST, pasid};
use pasid::{Error, Found, Pasid};

/// Looks a number up. What is found is what the shadow knows.
pub fn look<K: Kind>(hand: &Hand, number: Pasid) -> Option<Found<K::Payload>> {
    let pool = K::pool(hand);
    ask!(answer = hand, K::CALLS.find, K::find(pool, number));
    match answer {
        Ok(found) => {
            holds!(found.handle.pasid() == number, "another number");
            check_found::<K>(hand, &found);
            Some(found)
        }
        Err(Error::NotFound(_) | Error::BeingFreed(_) | Error::WrongSet(_)) => None,
        Err(Error::Closing) if K::is_closing(hand) => None,
        Err(Error::Reserved(_) | Error::DoesNotFit { .. })
            if K::scope(hand).values & bit(number.get()) == 0 =>
        {
            None
        }
        Err(error) => broken!("find({number}): {error:?}"),
    }
}

/// Whether what a look-up found is the allocation that is held, where one is known: who
/// looks while the other hand was there may have seen an earlier one.
fn check_found<K: Kind>(hand: &Hand, found: &Found<K::Payload>) {
    if hand.was(Meddling::Turned) || hand.was(Meddling::Filled) {
        return;
    }
    let number = found.handle.pasid();
    let holder = K::shadow(hand).holder(K::scope(hand), number.get());
    let its = holder.is_none_or(|holder| holder == K::id_of(hand, number, found.word));
    holds!(its, "{} is found with another's word", found.handle);
}

pub fn find<K: Kind>(hand: &Hand) {
    let Some(mine) = allocate::<K>(hand, By::Range) else {
        return;
    };
    let (pool, number) = (K::pool(hand), mine.owned.pasid());
    for _ in 0..4 * hand.repeat {
        ask!(answer = hand, K::CALLS.find, K::find(pool, number));
        match answer {
            Ok(found) => {
                holds!(found.handle == mine.owned.handle(), "another's handle");
                let id = K::id_of(hand, number, found.word);
                holds!(id == mine.id, "another's word");
            }
            Err(Error::BeingFreed(_) | Error::Closing) if is_revoked::<K>(hand) => {}
            Err(error) => broken!("{number} is owned, and there is {error:?}"),
        }
    }
    release(hand, mine);
}

pub fn find_lent<K: Kind>(hand: &Hand) {
    if let Some((handle, _)) = lend::<K>(hand) {
        for _ in 0..hand.repeat {
            look::<K>(hand, handle.pasid());
        }
        for number in each(crate::shadow::ALL) {
            look::<K>(hand, pasid(number));
        }
        take_back::<K>(hand);
    }
}

pub fn iterate<K: Kind>(hand: &Hand) {
    let Some(mine) = allocate::<K>(hand, By::Range) else {
        return;
    };
    let pool = K::pool(hand);
    for _ in 0..hand.repeat {
        match hand.call(K::CALLS.iterate, || K::first_live(pool)) {
            Some(found) => {
                let after = found.handle.pasid() > mine.owned.pasid();
                holds!(!after || is_revoked::<K>(hand), "a live one is left out");
                check_found::<K>(hand, &found);
            }
            None => holds!(is_revoked::<K>(hand), "nothing is listed"),
        }
    }
    release(hand, mine);
}

pub fn iterate_lent<K: Kind>(hand: &Hand) {
    if lend::<K>(hand).is_some() {
        let pool = K::pool(hand);
        if let Some(found) = hand.call(K::CALLS.iterate, || K::first_live(pool)) {
            check_found::<K>(hand, &found);
        }
        take_back::<K>(hand);
    }
}

pub fn any_live(hand: &Hand) {
    let ids = Ids::pool(hand);
    let mine = allocate::<Ids>(hand, By::Range);
    for _ in 0..hand.repeat {
        let any = hand.call(Call::AnyLive, || ids.any_live(REQUEST));
        let may = mine.is_none() || is_revoked::<Ids>(hand);
        holds!(any || may, "nothing is live, and one is held");
    }
    if let Some(mine) = mine {
        release(hand, mine);
    }
}

pub fn count_live(hand: &Hand) {
    let ids = Ids::pool(hand);
    let mine = allocate::<Ids>(hand, By::Range);
    for _ in 0..hand.repeat {
        let count = hand.call(Call::CountLive, || ids.count_live(REQUEST));
        let may = mine.is_none() || is_revoked::<Ids>(hand);
        holds!(count > 0 || may, "nothing is live, and one is held");
        let all = each(crate::shadow::ALL).count() as u32;
        holds!(count <= all, "{count} of {all} are live");
    }
    if let Some(mine) = mine {
        release(hand, mine);
    }
}
