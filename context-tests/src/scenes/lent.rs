// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lending: a PASID that one hand allocates and that the other may end and allocate anew
//! while the first is in the middle of a call about it.

use super::{By, Held, Ids, Kind, Mine, Sets, allocate, handle_of, is_revoked, release};
use crate::calls::Call;
use crate::hand::{Hand, Manner, SUBJECT};
use crate::shadow::Id;
use crate::world::{Lent, Meddling};
use pasid::{Handle, Owned, Pasid};
use std::sync::atomic::Ordering::Relaxed;

/// Lends an allocation. `None` if there was none to have.
pub fn lend<K: Kind>(hand: &Hand) -> Option<(Handle, Id)> {
    let Mine { owned, id } = allocate::<K>(hand, By::Range)?;
    let raw = owned.into_raw();
    let lent = Lent {
        raw,
        id,
        attachment: None,
    };
    let before = K::lent(hand)[hand.who].replace(Some(lent));
    holds!(before.is_none(), "the test lends one thing at a time");
    Some((handle_of(raw), id))
}

/// Lends an allocation that is attached. `None` if it could not be.
pub fn lend_attached(hand: &Hand) -> Option<(Pasid, u64)> {
    let (handle, _) = lend::<Sets>(hand)?;
    attach_lent(hand, hand.who);
    let lent = hand.set.lent[hand.who].replace(None)?;
    let attached = lent.attachment.as_ref().map(|(_, word)| *word);
    hand.set.lent[hand.who].replace(Some(lent));
    match attached {
        Some(word) => Some((handle.pasid(), word)),
        None => {
            take_back::<Sets>(hand);
            None
        }
    }
}

/// Attaches what that hand has lent.
fn attach_lent(hand: &Hand, whose: usize) {
    let Some(mut lent) = hand.set.lent[whose].replace(None) else {
        return;
    };
    let mine = own::<Sets>(hand, &lent);
    lent.attachment = super::table::attach_mine(hand, &mine).and_then(|attaching| {
        let attached = super::table::commit_it(hand, attaching)?;
        Some((attached.attachment, attached.word))
    });
    lent.raw = mine.owned.into_raw();
    hand.set.lent[whose].replace(Some(lent));
}

/// The owner that was lent in its raw form.
fn own<K: Kind>(hand: &Hand, lent: &Lent) -> Mine<K> {
    // SAFETY: what was lent is in raw form, and whoever takes it out of its place has it
    // for itself.
    match unsafe { Owned::from_raw(K::pool(hand), lent.raw) } {
        Ok(owned) => Mine { owned, id: lent.id },
        Err(error) => broken!("what was lent is {error}"),
    }
}

/// Takes back what is lent by now, and frees it.
pub fn take_back<K: Kind>(hand: &Hand) {
    let Some(mut lent) = K::lent(hand)[hand.who].replace(None) else {
        holds!(hand.was(Meddling::Turned), "what was lent is gone");
        return;
    };
    if let Some((attachment, word)) = lent.attachment.take() {
        let attached = super::table::Attached { attachment, word };
        super::table::detach_it(hand, attached);
    }
    let mine = own::<K>(hand, &lent);
    release(hand, mine);
}

/// Ends what the other hand has lent, and allocates the same number anew, in the same way.
fn turn<K: Kind>(hand: &Hand) {
    let Some(mut lent) = K::lent(hand)[SUBJECT].replace(None) else {
        return;
    };
    hand.meddle(Meddling::Turned);
    let attachment = lent.attachment.take();
    let attached = attachment.is_some();
    if let Some((attachment, word)) = attachment {
        super::table::detach_it(hand, super::table::Attached { attachment, word });
    }
    let mine = own::<K>(hand, &lent);
    let number = mine.number();
    release(hand, mine);
    // Who is stopped in the middle of a get may hold it now.
    if let Some(Mine { owned, id }) = allocate::<K>(hand, By::Number(number)) {
        let raw = owned.into_raw();
        lent = Lent {
            raw,
            id,
            attachment: None,
        };
        K::lent(hand)[SUBJECT].replace(Some(lent));
        if attached {
            attach_lent(hand, SUBJECT);
        }
    }
}

/// Resumes the table, also if it is the other hand that paused it.
pub fn resume(hand: &Hand) {
    hand.meddle(Meddling::Paused);
    let table = hand.place.table();
    hand.call(Call::TableResume, || table.resume());
}

/// Does to the things of the other hand what the hand's manner says.
pub fn meddle(hand: &Hand) {
    match hand.manner {
        Manner::Gentle => {}
        Manner::Harsh => {
            turn::<Ids>(hand);
            turn::<Sets>(hand);
            hand.meddle(Meddling::Revoked);
            super::pool::revoke_all_live::<Ids>(hand);
            super::pool::revoke_all_live::<Sets>(hand);
            hand.meddle(Meddling::Paused);
            let table = hand.place.table();
            hand.call(Call::TablePause, || table.pause());
            hand.call(Call::TableResume, || table.resume());
        }
        Manner::Closing => {
            let set = hand.set.set();
            hand.place.closed.store(true, Relaxed);
            hand.call(Call::SetClose, || set.close());
        }
    }
}

/// A reference to what is lent, which may have been ended meanwhile.
pub fn check_lent<K: Kind>(hand: &Hand, got: Option<Held<K>>, what: &str) {
    match got {
        Some(held) => super::give_back(hand, held),
        None => holds!(
            hand.was(Meddling::Turned) || is_revoked::<K>(hand),
            "{what} is refused for what is lent and live"
        ),
    }
}
