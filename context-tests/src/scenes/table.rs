// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes of attaching and of the fault path.

use super::lent::{lend, lend_attached, take_back};
use super::{By, Mine, Sets, allocate, allocate_by_turns, any_number, is_revoked, release};
use crate::calls::Call;
use crate::hand::{Hand, OTHER};
use crate::shadow::{FLIP, each};
use crate::world::{Meddling, REQUEST, pasid};
use pasid::{Attach, Attaching, Attachment, Error, Fault, Holder, IoasidSet, Owned, Pasid};
use pasid::{Result, Table};
use std::sync::atomic::Ordering::Relaxed;

type Held = &'static Table;

/// A reserved entry, and its word.
pub struct Reserved {
    attaching: Attaching<Held>,
    word: u64,
}

/// An attachment, which the shadow knows of, and its word.
pub struct Attached {
    pub attachment: Attachment<Held>,
    pub word: u64,
}

/// Whether the table may be paused, or have been.
fn may_be_paused(hand: &Hand) -> bool {
    hand.was(Meddling::Paused) || hand.place.pausing.load(Relaxed) > 0
}

// The calls themselves; none is inlined, see [`Hand::call`].

#[inline(never)]
fn attach_to(table: Held, holder: &impl Holder, word: u64) -> Result<Attaching<Held>> {
    table.attach(holder, word)
}

#[inline(never)]
fn commit_of(attaching: Attaching<Held>) -> Result<Attachment<Held>> {
    attaching.commit()
}

#[inline(never)]
fn replace_in(attachment: &Attachment<Held>, word: u64) -> Result<u64> {
    attachment.replace(word)
}

#[inline(never)]
fn fault_get_at(table: Held, number: Pasid) -> Result<Fault<Held>> {
    table.fault_get(number)
}

#[inline(never)]
fn first_attached(table: Held) -> Option<pasid::Attached> {
    table.attachments(REQUEST).next()
}

/// Attaches what the hand owns, or checks that it may be refused.
pub fn attach_mine(hand: &Hand, mine: &Mine<Sets>) -> Option<Reserved> {
    let word = mine.id.word() ^ hand.place.number() << 1;
    attach_owned(hand, &mine.owned, word)
}

fn attach_owned(hand: &Hand, owned: &Owned<&'static IoasidSet>, word: u64) -> Option<Reserved> {
    let (table, number) = (hand.place.table(), owned.pasid().get());
    let shadow = &hand.place.space.shadow;
    ask!(
        answer = hand,
        Call::TableAttach,
        attach_to(table, owned, word)
    );
    match answer {
        Ok(attaching) => {
            shadow.reserve_entry(hand.place.table, number, word);
            Some(Reserved { attaching, word })
        }
        Err(error) => {
            let may = match error {
                Error::Paused => may_be_paused(hand),
                Error::BeingFreed(_) | Error::Closing => is_revoked::<Sets>(hand),
                // The entry of what the subject is about may be its own a moment longer.
                Error::AlreadyAttached(_) => {
                    hand.who == OTHER
                        || hand.was(Meddling::Turned)
                        || shadow.is_entered(hand.place.table, number)
                }
                _ => false,
            };
            holds!(may, "attach of {number}: {error:?}");
            None
        }
    }
}

/// Commits, or checks that it may be refused.
pub fn commit_it(hand: &Hand, reserved: Reserved) -> Option<Attached> {
    let Reserved { attaching, word } = reserved;
    let number = attaching.pasid().get();
    let shadow = &hand.place.space.shadow;
    // While the shadow still has the reservation: a fault may find it before this returns.
    ask!(answer = hand, Call::TableCommit, commit_of(attaching));
    match answer {
        Ok(attachment) => Some(Attached { attachment, word }),
        Err(error) => {
            shadow.leave_entry(hand.place.table, number, word);
            let may = error == Error::Paused && may_be_paused(hand);
            holds!(may, "commit of {number}: {error:?}");
            None
        }
    }
}

/// Detaches.
pub fn detach_it(hand: &Hand, attached: Attached) {
    let Attached { attachment, word } = attached;
    let number = attachment.pasid().get();
    hand.place
        .space
        .shadow
        .leave_entry(hand.place.table, number, word);
    hand.call(Call::TableDetach, || attachment.detach());
}

/// Backs out.
pub fn back_out_it(hand: &Hand, reserved: Reserved) {
    let Reserved { attaching, word } = reserved;
    let number = attaching.pasid().get();
    hand.place
        .space
        .shadow
        .leave_entry(hand.place.table, number, word);
    hand.call(Call::TableBackOut, || drop(attaching));
}

/// Attaches and commits.
pub fn attached(hand: &Hand, mine: &Mine<Sets>) -> Option<Attached> {
    commit_it(hand, attach_mine(hand, mine)?)
}

/// Gives `then` an allocation, as often as the hand repeats.
fn with_mine(hand: &Hand, then: impl Fn(&Mine<Sets>)) {
    if let Some(mine) = allocate::<Sets>(hand, By::Range) {
        for _ in 0..hand.repeat {
            then(&mine);
        }
        release(hand, mine);
    }
}

// ---- Attaching -------------------------------------------------------------------------

pub fn attach(hand: &Hand) {
    with_mine(hand, |mine| {
        if let Some(reserved) = attach_mine(hand, mine) {
            back_out_it(hand, reserved);
        }
    });
}

pub fn attach_again(hand: &Hand) {
    let Some(mine) = allocate::<Sets>(hand, By::Range) else {
        return;
    };
    if let Some(attached) = attached(hand, &mine) {
        for _ in 0..hand.repeat {
            let again = attach_mine(hand, &mine);
            holds!(again.is_none(), "{} is attached twice", mine.number());
        }
        detach_it(hand, attached);
    }
    release(hand, mine);
}

/// With what is lent: the other hand may revoke and end it meanwhile.
pub fn attach_lent(hand: &Hand) {
    if lend::<Sets>(hand).is_none() {
        return;
    }
    // A reference of the hand's own keeps what it attaches.
    let Some(lent) = hand.set.lent[hand.who].replace(None) else {
        return;
    };
    let handle = super::handle_of(lent.raw);
    let id = lent.id;
    hand.set.lent[hand.who].replace(Some(lent));
    if let Some(held) = super::take::<Sets>(hand, handle, id) {
        let table = hand.place.table();
        let word = id.word() ^ hand.place.number() << 1;
        let reserved = hand.call(Call::TableAttach, || {
            attach_to(table, &held.reference, word)
        });
        match reserved {
            Ok(attaching) => {
                let shadow = &hand.place.space.shadow;
                shadow.reserve_entry(hand.place.table, held.number(), word);
                back_out_it(hand, Reserved { attaching, word });
            }
            Err(error) => {
                let ended = hand.was(Meddling::Turned) || is_revoked::<Sets>(hand);
                let may = ended || error == Error::Paused && may_be_paused(hand);
                holds!(may, "attach of what is lent: {error:?}");
            }
        }
        super::give_back(hand, held);
    }
    take_back::<Sets>(hand);
}

/// The last reference on the PASID is that of the entry.
pub fn back_out_last(hand: &Hand) {
    let number = any_number::<Sets>(hand);
    for turn in 0..hand.repeat {
        if let Some(mine) = allocate_by_turns::<Sets>(hand, turn, number) {
            let reserved = attach_mine(hand, &mine);
            end_under(hand, mine, reserved, back_out_it);
        }
    }
}

/// Frees the PASID, and then gives back what still keeps it.
fn end_under<T>(hand: &Hand, mine: Mine<Sets>, keeps: Option<T>, end: fn(&Hand, T)) {
    let Some(keeps) = keeps else {
        return release(hand, mine);
    };
    // Ended by the last reference: for the shadow it is held until then.
    let (number, id) = (mine.number(), mine.id);
    let shadow = &hand.place.space.shadow;
    shadow.enter(&hand.set.scope, number, id);
    release(hand, mine);
    shadow.leave(&hand.set.scope, number, id);
    end(hand, keeps);
}

pub fn replace(hand: &Hand) {
    let Some(mine) = allocate::<Sets>(hand, By::Range) else {
        return;
    };
    if let Some(attached) = attached(hand, &mine) {
        let mut word = attached.word;
        for _ in 0..2 * hand.repeat {
            let next = word ^ FLIP;
            let attachment = &attached.attachment;
            ask!(
                answer = hand,
                Call::TableReplace,
                replace_in(attachment, next)
            );
            match answer {
                Ok(before) => {
                    holds!(before == word, "replace gave {before:#x}, not {word:#x}");
                    word = next;
                }
                Err(Error::Paused) if may_be_paused(hand) => {}
                Err(Error::BeingFreed(_)) if is_revoked::<Sets>(hand) => {}
                Err(error) => broken!("replace of an attachment's word: {error:?}"),
            }
        }
        detach_it(hand, attached);
    }
    release(hand, mine);
}

pub fn detach(hand: &Hand) {
    with_mine(hand, |mine| {
        if let Some(attached) = attached(hand, mine) {
            detach_it(hand, attached);
        }
    });
}

pub fn detach_last(hand: &Hand) {
    let number = any_number::<Sets>(hand);
    for turn in 0..hand.repeat {
        if let Some(mine) = allocate_by_turns::<Sets>(hand, turn, number) {
            let attached = attached(hand, &mine);
            end_under(hand, mine, attached, detach_it);
        }
    }
}

pub fn detach_under_fault(hand: &Hand) {
    with_mine(hand, |mine| {
        if let Some(attached) = attached(hand, mine) {
            let fault = fault_at(hand, mine.owned.pasid());
            detach_it(hand, attached);
            if let Some(fault) = fault {
                answer(hand, fault);
            }
        }
    });
}

// ---- Faults ----------------------------------------------------------------------------

/// A fault on whatever is attached there; what it finds, the shadow knows.
fn fault_at(hand: &Hand, number: Pasid) -> Option<Fault<Held>> {
    let table = hand.place.table();
    ask!(
        answer = hand,
        Call::TableFaultGet,
        fault_get_at(table, number)
    );
    match answer {
        Ok(fault) => {
            let shadow = &hand.place.space.shadow;
            shadow.enter_entry(hand.place.table, number.get(), fault.word());
            Some(fault)
        }
        Err(Error::NotAttached(_) | Error::NotFound(_) | Error::BeingFreed(_)) => None,
        Err(error) => broken!("fault_get({number}): {error:?}"),
    }
}

fn answer(hand: &Hand, fault: Fault<Held>) {
    let (number, word) = (fault.pasid().get(), fault.word());
    hand.place
        .space
        .shadow
        .leave_entry(hand.place.table, number, word);
    hand.call(Call::TableFaultPut, || drop(fault));
}

/// Of what the hand has attached: the shadow knows that, and need not know of each fault.
pub fn fault_get(hand: &Hand) {
    let Some(mine) = allocate::<Sets>(hand, By::Range) else {
        return;
    };
    let (table, number) = (hand.place.table(), mine.owned.pasid());
    if let Some(attached) = attached(hand, &mine) {
        for _ in 0..hand.repeat {
            ask!(
                answer = hand,
                Call::TableFaultGet,
                fault_get_at(table, number)
            );
            match answer {
                Ok(fault) => {
                    holds!(fault.word() == attached.word, "another attachment's word");
                    hand.call(Call::TableFaultPut, || drop(fault));
                }
                Err(Error::BeingFreed(_)) if is_revoked::<Sets>(hand) => {}
                Err(error) => broken!("{number} is attached, and there is {error:?}"),
            }
        }
        detach_it(hand, attached);
    }
    release(hand, mine);
}

pub fn fault_get_lent(hand: &Hand) {
    if let Some((number, _)) = lend_attached(hand) {
        for _ in 0..hand.repeat {
            match fault_at(hand, number) {
                Some(fault) => answer(hand, fault),
                None => holds!(
                    hand.was(Meddling::Turned) || is_revoked::<Sets>(hand),
                    "what is lent and attached is not found"
                ),
            }
        }
        take_back::<Sets>(hand);
    }
}

/// Of every number, whatever is there.
pub fn fault_get_free(hand: &Hand) {
    for number in each(crate::shadow::ALL) {
        if let Some(fault) = fault_at(hand, pasid(number)) {
            answer(hand, fault);
        }
    }
}

/// The fault is answered after the detach, and after the PASID was freed.
pub fn fault_put_last(hand: &Hand) {
    let number = any_number::<Sets>(hand);
    for turn in 0..hand.repeat {
        let Some(mine) = allocate_by_turns::<Sets>(hand, turn, number) else {
            return;
        };
        let fault = attached(hand, &mine).and_then(|attached| {
            let fault = fault_at(hand, mine.owned.pasid());
            detach_it(hand, attached);
            fault
        });
        end_under(hand, mine, fault, answer);
    }
}

// ---- Listing and pausing -----------------------------------------------------------------

pub fn iterate(hand: &Hand) {
    let Some(mine) = allocate::<Sets>(hand, By::Range) else {
        return;
    };
    let table = hand.place.table();
    if let Some(attached) = attached(hand, &mine) {
        for _ in 0..hand.repeat {
            let mut first = None;
            hand.call(Call::TableIterate, || first = first_attached(table));
            let there = first.is_some_and(|first| first.pasid <= mine.owned.pasid());
            holds!(there, "what is attached is not listed: {first:?}");
        }
        detach_it(hand, attached);
    }
    release(hand, mine);
}

pub fn iterate_lent(hand: &Hand) {
    if lend_attached(hand).is_some() {
        let table = hand.place.table();
        for _ in 0..hand.repeat {
            let mut first = None;
            hand.call(Call::TableIterate, || first = first_attached(table));
            let there = first.is_some() || hand.was(Meddling::Turned);
            holds!(there, "what is lent and attached is not listed");
        }
        take_back::<Sets>(hand);
    }
}

/// Pauses, finds that nothing can be attached, and resumes.
pub fn pause(hand: &Hand) {
    if hand.who == OTHER && hand.manner == crate::hand::Manner::Gentle {
        // Of a table where the subject has nothing.
        let table = hand.place.space.tables[1];
        hand.call(Call::TablePause, || table.pause());
        hand.call(Call::TableResume, || table.resume());
        return;
    }
    hand.meddle(Meddling::Paused);
    let (table, pausing) = (hand.place.table(), &hand.place.pausing);
    pausing.store(pausing.load(Relaxed) + 1, Relaxed);
    hand.call(Call::TablePause, || table.pause());
    if let Some(mine) = allocate::<Sets>(hand, By::Range) {
        if let Some(reserved) = attach_mine(hand, &mine) {
            // The other hand has resumed it.
            holds!(hand.was(Meddling::Paused), "attached to a paused table");
            back_out_it(hand, reserved);
        }
        release(hand, mine);
    }
    hand.call(Call::TableResume, || table.resume());
    for _ in 1..2 * hand.repeat {
        hand.call(Call::TablePause, || table.pause());
        hand.call(Call::TableResume, || table.resume());
    }
    pausing.store(pausing.load(Relaxed) - 1, Relaxed);
}
