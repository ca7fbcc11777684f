// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes of the calls that an id space and a set have alike.

use super::lent::{check_lent, lend, take_back};
use super::looking;
use super::{By, Held, Kind, Mine, allocate, allocate_by_turns, any_number, give_back};
use super::{handle_of, is_revoked, release, take, while_full};
use crate::calls::Call;
use crate::hand::Hand;
use crate::shadow::{FLIP, Id, bit, each};
use crate::world::{Meddling, pasid};
use pasid::{Error, Handle, Pasid, Pinned, Ref, Result};

// ---- Allocating and freeing ------------------------------------------------------------

pub fn alloc<K: Kind>(hand: &Hand) {
    for _ in 0..hand.repeat {
        if let Some(mine) = allocate::<K>(hand, By::Range) {
            release(hand, mine);
        }
    }
}

pub fn alloc_when_full<K: Kind>(hand: &Hand) {
    while_full::<K>(hand, By::Range, || {
        for _ in 0..hand.repeat {
            // Something may have come free: the other hand gave back what it had.
            if let Some(mine) = allocate::<K>(hand, By::Range) {
                release(hand, mine);
            }
        }
    });
}

pub fn alloc_at<K: Kind>(hand: &Hand) {
    let number = any_number::<K>(hand);
    for _ in 0..hand.repeat {
        if let Some(mine) = allocate::<K>(hand, By::Number(number)) {
            release(hand, mine);
        }
    }
}

pub fn alloc_at_again<K: Kind>(hand: &Hand) {
    let Some(mine) = allocate::<K>(hand, By::Range) else {
        return;
    };
    for _ in 0..hand.repeat {
        let again = allocate::<K>(hand, By::Number(mine.number()));
        holds!(again.is_none(), "M1: {} is allocated twice", mine.number());
    }
    release(hand, mine);
}

pub fn free<K: Kind>(hand: &Hand) {
    let number = any_number::<K>(hand);
    for turn in 0..hand.repeat {
        if let Some(mine) = allocate_by_turns::<K>(hand, turn, number) {
            free_raw(hand, mine);
        }
    }
}

pub fn free_held<K: Kind>(hand: &Hand) {
    with_reference::<K>(hand, |mine, held| {
        free_raw(hand, mine);
        Some(held)
    });
}

fn free_raw<K: Kind>(hand: &Hand, mine: Mine<K>) {
    let Mine { owned, id } = mine;
    let pool = K::pool(hand);
    let handle = handle_of(owned.into_raw());
    K::shadow(hand).leave(K::scope(hand), handle.pasid().get(), id);
    let freed = hand.call(K::CALLS.free, || {
        // SAFETY: the owner, in raw form since above.
        unsafe { K::free(pool, handle) }
    });
    holds!(freed.is_ok(), "{handle} is freed by its owner: {freed:?}");
}

pub fn drop_owned<K: Kind>(hand: &Hand) {
    alloc::<K>(hand);
}

pub fn drop_owned_held<K: Kind>(hand: &Hand) {
    with_reference::<K>(hand, |mine, held| {
        release(hand, mine);
        Some(held)
    });
}

// ---- References --------------------------------------------------------------------------

/// Gives `then` an allocation and a reference to it, and gives back what comes of them.
fn with_reference<K: Kind>(hand: &Hand, then: impl Fn(Mine<K>, Held<K>) -> Option<Held<K>>) {
    for _ in 0..hand.repeat {
        let Some(mine) = allocate::<K>(hand, By::Range) else {
            return;
        };
        match take::<K>(hand, mine.owned.handle(), mine.id) {
            Some(held) => {
                if let Some(held) = then(mine, held) {
                    give_back(hand, held);
                }
            }
            None => release(hand, mine),
        }
    }
}

/// Takes a reference beside the owner's and gives it to `then`, as often as the hand
/// repeats. The shadow has the owner, and need not know of more.
#[inline(always)]
fn beside<K: Kind>(
    hand: &Hand,
    call: Call,
    get: impl Fn(&Mine<K>) -> Result<Ref<K::Pool>>,
    then: impl Fn(Ref<K::Pool>),
) {
    let Some(mine) = allocate::<K>(hand, By::Range) else {
        return;
    };
    for _ in 0..hand.repeat {
        ask!(answer = hand, call, get(&mine));
        match answer {
            Ok(reference) => {
                holds!(
                    reference.handle() == mine.owned.handle(),
                    "another's handle"
                );
                let id = K::id_of(hand, reference.pasid(), reference.word());
                holds!(id == mine.id, "another's word");
                then(reference);
            }
            Err(Error::BeingFreed(_) | Error::Closing) if is_revoked::<K>(hand) => {}
            Err(error) => broken!("{:?} is owned, and there is {error:?}", mine.owned),
        }
    }
    release(hand, mine);
}

pub fn get<K: Kind>(hand: &Hand) {
    let pool = K::pool(hand);
    beside::<K>(
        hand,
        K::CALLS.get,
        |mine| K::get(pool, mine.owned.handle()),
        |reference| hand.call(K::CALLS.drop_ref, || drop(reference)),
    );
}

pub fn get_lent<K: Kind>(hand: &Hand) {
    let Some((handle, id)) = lend::<K>(hand) else {
        return;
    };
    let pool = K::pool(hand);
    for _ in 0..hand.repeat {
        ask!(answer = hand, K::CALLS.get, K::get(pool, handle));
        let got = match answer {
            Ok(reference) => Some(entered::<K>(hand, reference, Some(id))),
            Err(Error::Stale(_) | Error::BeingFreed(_) | Error::Closing) => None,
            Err(error) => broken!("get of what is lent: {error:?}"),
        };
        check_lent::<K>(hand, got, "get");
    }
    take_back::<K>(hand);
}

/// A reference that was got by number or handle, entered into the shadow by its word.
fn entered<K: Kind>(hand: &Hand, reference: Ref<K::Pool>, id: Option<Id>) -> Held<K> {
    let found = K::id_of(hand, reference.pasid(), reference.word());
    holds!(id.is_none_or(|id| id == found), "another one's word");
    K::shadow(hand).enter(K::scope(hand), reference.pasid().get(), found);
    Held {
        reference,
        id: found,
    }
}

pub fn get_revoked<K: Kind>(hand: &Hand) {
    let Some(mine) = allocate::<K>(hand, By::Range) else {
        return;
    };
    let (pool, handle) = (K::pool(hand), mine.owned.handle());
    let revoked = hand.call(K::CALLS.revoke, || K::revoke(pool, handle));
    holds!(revoked.is_ok(), "revoke of {handle}: {revoked:?}");
    for _ in 0..hand.repeat {
        ask!(answer = hand, K::CALLS.get, K::get(pool, handle));
        match answer {
            Err(Error::BeingFreed(_)) => {}
            Err(Error::Closing) if K::is_closing(hand) => {}
            other => broken!("get of {handle}, which is revoked: {other:?}"),
        }
    }
    release(hand, mine);
    ask!(answer = hand, K::CALLS.get, K::get(pool, handle));
    match answer {
        Err(Error::Stale(_)) => {}
        other => broken!("get of {handle}, which is over: {other:?}"),
    }
}

/// Takes a reference by number. What is live there may be the other hand's.
fn take_at<K: Kind>(hand: &Hand, number: Pasid) -> Option<Held<K>> {
    let pool = K::pool(hand);
    ask!(answer = hand, K::CALLS.get_at, K::get_at(pool, number));
    match answer {
        Ok(reference) => Some(entered::<K>(hand, reference, None)),
        Err(Error::NotFound(_) | Error::BeingFreed(_) | Error::WrongSet(_)) => None,
        Err(Error::Closing) if K::is_closing(hand) => None,
        Err(Error::Reserved(_) | Error::DoesNotFit { .. })
            if K::scope(hand).values & bit(number.get()) == 0 =>
        {
            None
        }
        Err(error) => broken!("get_at({number}): {error:?}"),
    }
}

pub fn get_at<K: Kind>(hand: &Hand) {
    let pool = K::pool(hand);
    beside::<K>(
        hand,
        K::CALLS.get_at,
        |mine| K::get_at(pool, mine.owned.pasid()),
        |reference| hand.call(K::CALLS.drop_ref, || drop(reference)),
    );
}

pub fn get_at_lent<K: Kind>(hand: &Hand) {
    if let Some((handle, _)) = lend::<K>(hand) {
        for _ in 0..hand.repeat {
            let got = take_at::<K>(hand, handle.pasid());
            check_lent::<K>(hand, got, "get_at");
        }
        take_back::<K>(hand);
    }
}

/// Of every number, whatever is there.
pub fn get_at_free<K: Kind>(hand: &Hand) {
    for number in each(crate::shadow::ALL) {
        if let Some(held) = take_at::<K>(hand, pasid(number)) {
            give_back(hand, held);
        }
    }
}

pub fn put<K: Kind>(hand: &Hand) {
    let pool = K::pool(hand);
    beside::<K>(
        hand,
        K::CALLS.get,
        |mine| K::get(pool, mine.owned.handle()),
        |reference| put_it::<K>(hand, handle_of(reference.into_raw())),
    );
}

pub fn put_last<K: Kind>(hand: &Hand) {
    let number = any_number::<K>(hand);
    for turn in 0..hand.repeat {
        if let Some(mine) = allocate_by_turns::<K>(hand, turn, number) {
            put_raw(hand, disown(hand, mine));
        }
    }
}

fn put_raw<K: Kind>(hand: &Hand, held: Held<K>) {
    let Held { reference, id } = held;
    let handle = handle_of(reference.into_raw());
    K::shadow(hand).leave(K::scope(hand), handle.pasid().get(), id);
    put_it::<K>(hand, handle);
}

/// Gives back a reference that the hand has in raw form.
fn put_it<K: Kind>(hand: &Hand, handle: Handle) {
    let pool = K::pool(hand);
    let put = hand.call(K::CALLS.put, || {
        // SAFETY: the reference that the caller has.
        unsafe { K::put(pool, handle) }
    });
    holds!(put.is_ok(), "{handle} is put by its holder: {put:?}");
}

/// Makes the owner's reference a plain one.
fn disown<K: Kind>(hand: &Hand, mine: Mine<K>) -> Held<K> {
    let Mine { owned, id } = mine;
    let reference = hand.call(Call::IntoRef, || owned.into_ref());
    Held { reference, id }
}

pub fn drop_ref<K: Kind>(hand: &Hand) {
    get::<K>(hand);
}

pub fn drop_ref_last<K: Kind>(hand: &Hand) {
    let number = any_number::<K>(hand);
    for turn in 0..hand.repeat {
        if let Some(mine) = allocate_by_turns::<K>(hand, turn, number) {
            let held = disown(hand, mine);
            give_back(hand, held);
        }
    }
}

pub fn clone<K: Kind>(hand: &Hand) {
    with_reference::<K>(hand, |mine, held| {
        for _ in 0..hand.repeat {
            ask!(answer = hand, Call::Clone, K::try_clone(&held.reference));
            match answer {
                Ok(clone) => {
                    holds!(clone.handle() == held.reference.handle(), "another's");
                    hand.call(K::CALLS.drop_ref, || drop(clone));
                }
                Err(error) => broken!("a clone is refused: {error:?}"),
            }
        }
        release(hand, mine);
        Some(held)
    });
}

pub fn replace<K: Kind>(hand: &Hand) {
    let Some(mine) = allocate::<K>(hand, By::Range) else {
        return;
    };
    let mut word = mine.id.word();
    for _ in 0..2 * hand.repeat {
        let (next, was) = (K::payload(word ^ FLIP), K::payload(word));
        let before = hand.call(Call::Replace, || mine.owned.replace(next));
        holds!(before == was, "replace gave {before:?} and not {was:?}");
        word ^= FLIP;
    }
    release(hand, mine);
}

// ---- Pins ------------------------------------------------------------------------------

pub fn pin<K: Kind>(hand: &Hand) {
    let Some(mine) = allocate::<K>(hand, By::Range) else {
        return;
    };
    for _ in 0..hand.repeat {
        if let Some(pinned) = pin_it(hand, &mine) {
            hand.call(Call::Unpin, || drop(pinned));
        }
    }
    release(hand, mine);
}

/// The pin is what keeps the PASID in the end.
pub fn pin_last<K: Kind>(hand: &Hand) {
    let number = any_number::<K>(hand);
    for turn in 0..hand.repeat {
        let Some(mine) = allocate_by_turns::<K>(hand, turn, number) else {
            continue;
        };
        let Some(pinned) = pin_it(hand, &mine) else {
            release(hand, mine);
            continue;
        };
        ask!(again = hand, Call::Pin, K::pin(&mine.owned));
        let twice = matches!(again, Err(Error::AlreadyPinned(_)));
        holds!(twice, "{} is pinned twice: {again:?}", mine.number());
        let (number, id) = (mine.number(), mine.id);
        K::shadow(hand).enter(K::scope(hand), number, id);
        release(hand, mine);
        K::shadow(hand).leave(K::scope(hand), number, id);
        hand.call(Call::Unpin, || drop(pinned));
    }
}

fn pin_it<K: Kind>(hand: &Hand, mine: &Mine<K>) -> Option<Pinned<K::Pool>> {
    ask!(answer = hand, Call::Pin, K::pin(&mine.owned));
    match answer {
        Ok(pinned) => Some(pinned),
        Err(error) => broken!("{:?} is owned, and pin says {error:?}", mine.owned),
    }
}

// ---- Revoking ----------------------------------------------------------------------------

pub fn revoke<K: Kind>(hand: &Hand) {
    let Some(mine) = allocate::<K>(hand, By::Range) else {
        return;
    };
    let (pool, handle) = (K::pool(hand), mine.owned.handle());
    for _ in 0..hand.repeat {
        let revoked = hand.call(K::CALLS.revoke, || K::revoke(pool, handle));
        holds!(revoked.is_ok(), "revoke of {handle}: {revoked:?}");
    }
    let found = hand.call(K::CALLS.find, || K::find(pool, handle.pasid()));
    let over = matches!(found, Err(Error::BeingFreed(_) | Error::Closing));
    holds!(over, "{handle} is revoked, and find says {found:?}");
    release(hand, mine);
}

pub fn revoke_lent<K: Kind>(hand: &Hand) {
    let Some((handle, _)) = lend::<K>(hand) else {
        return;
    };
    let pool = K::pool(hand);
    ask!(answer = hand, K::CALLS.revoke, K::revoke(pool, handle));
    match answer {
        Ok(()) => {}
        Err(Error::Stale(_)) => holds!(hand.was(Meddling::Turned), "{handle} is lent and stale"),
        Err(error) => broken!("revoke of {handle}: {error:?}"),
    }
    take_back::<K>(hand);
}

/// Revokes whatever is live, also what the other hand holds.
pub fn revoke_all_live<K: Kind>(hand: &Hand) {
    let pool = K::pool(hand);
    for number in each(crate::shadow::ALL) {
        if let Some(found) = looking::look::<K>(hand, pasid(number)) {
            let handle = found.handle;
            let revoked = hand.call(K::CALLS.revoke, || K::revoke(pool, handle));
            holds!(revoked.is_ok(), "revoke of {handle}: {revoked:?}");
        }
    }
}
