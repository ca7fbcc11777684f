// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes of alias maps: what a guest's numbers stand for.

use super::{By, Held, Ids, Kind, Mine, allocate, give_back, is_revoked, release};
use crate::calls::Call;
use crate::hand::Hand;
use crate::world::{GUEST, pasid};
use pasid::{Error, Handle, IdSpace, Pasid, Ref, Result, VirtualTable};

type Guest = VirtualTable<&'static IdSpace>;

// The calls themselves; none is inlined, as in `kinds.rs`.

#[inline(never)]
fn attach(table: &Guest, guest: Pasid, handle: Handle) -> Result<()> {
    table.attach(guest, handle)
}

#[inline(never)]
fn attach_below(table: &Guest, guest: Pasid, below: Pasid) -> Result<()> {
    table.attach_below(guest, below)
}

#[inline(never)]
fn detach(table: &Guest, guest: Pasid) -> Result<Handle> {
    table.detach(guest)
}

#[inline(never)]
fn find_and_get(table: &Guest, guest: Pasid) -> Result<Ref<&'static IdSpace>> {
    table.find_and_get(guest)
}

/// The hand's own number.
fn number(hand: &Hand) -> Pasid {
    pasid(GUEST.first().get() + hand.who as u32)
}

/// An answer about what the hand has allocated.
fn unless_revoked<T>(hand: &Hand, answer: Result<T>, what: &str) -> Option<T> {
    match answer {
        Ok(value) => Some(value),
        Err(Error::BeingFreed(_)) if is_revoked::<Ids>(hand) => None,
        Err(error) => broken!("{what}: {error:?}"),
    }
}

/// The entry holds a reference.
fn entered(hand: &Hand, mine: &Mine<Ids>) {
    Ids::shadow(hand).enter(Ids::scope(hand), mine.number(), mine.id);
}

/// Attaches what the hand has to its number.
fn attach_it(hand: &Hand, table: &Guest, mine: &Mine<Ids>) -> bool {
    let (guest, handle) = (number(hand), mine.owned.handle());
    let attached = hand.call(Call::AliasAttach, || attach(table, guest, handle));
    let attached = unless_revoked(hand, attached, "attach");
    attached.map(|()| entered(hand, mine)).is_some()
}

/// Detaches it.
fn detach_it(hand: &Hand, table: &Guest, mine: &Mine<Ids>) {
    let guest = number(hand);
    Ids::shadow(hand).leave(Ids::scope(hand), mine.number(), mine.id);
    ask!(answer = hand, Call::AliasDetach, detach(table, guest));
    holds!(answer == Ok(mine.owned.handle()), "detach: {answer:?}");
    let found = hand.call(Call::AliasFind, || table.find(guest));
    holds!(
        found == Err(Error::NotAttached(guest)),
        "detached, and find says {found:?}"
    );
}

pub fn attach_and_detach(hand: &Hand) {
    let table = &hand.place.ids.guest;
    for _ in 0..hand.repeat {
        let Some(mine) = allocate::<Ids>(hand, By::Range) else {
            return;
        };
        if attach_it(hand, table, &mine) {
            detach_it(hand, table, &mine);
        }
        release(hand, mine);
    }
}

/// Gives `then` what is attached.
fn while_attached(hand: &Hand, then: impl Fn(&Guest, &Mine<Ids>)) {
    let table = &hand.place.ids.guest;
    let Some(mine) = allocate::<Ids>(hand, By::Range) else {
        return;
    };
    if attach_it(hand, table, &mine) {
        then(table, &mine);
        detach_it(hand, table, &mine);
    }
    release(hand, mine);
}

pub fn find(hand: &Hand) {
    while_attached(hand, |table, mine| {
        for _ in 0..hand.repeat {
            let found = hand.call(Call::AliasFind, || table.find(number(hand)));
            if let Some(found) = unless_revoked(hand, found, "find") {
                holds!(found == mine.owned.handle(), "another's alias");
            }
        }
    });
}

/// Takes a reference by the alias.
fn get(hand: &Hand, table: &Guest, mine: &Mine<Ids>) {
    let guest = number(hand);
    ask!(
        answer = hand,
        Call::AliasFindAndGet,
        find_and_get(table, guest)
    );
    if let Some(reference) = unless_revoked(hand, answer, "find and get") {
        let id = Ids::id_of(hand, reference.pasid(), reference.word());
        holds!(id == mine.id, "another's alias");
        entered(hand, mine);
        give_back(hand, Held::<Ids> { reference, id });
    }
}

pub fn get_by_alias(hand: &Hand) {
    while_attached(hand, |table, mine| {
        for _ in 0..hand.repeat {
            get(hand, table, mine);
        }
    });
}

pub fn nested(hand: &Hand) {
    let over = &hand.place.ids.nested;
    while_attached(hand, |_, mine| {
        for _ in 0..hand.repeat {
            let guest = number(hand);
            let attached = hand.call(Call::AliasAttachBelow, || attach_below(over, guest, guest));
            if unless_revoked(hand, attached, "attach below").is_some() {
                entered(hand, mine);
                get(hand, over, mine);
                detach_it(hand, over, mine);
            }
        }
    });
}

pub fn iterate(hand: &Hand) {
    while_attached(hand, |table, mine| {
        for _ in 0..hand.repeat {
            let own = number(hand).into();
            let first = hand.call(Call::AliasIterate, || table.aliases(own).next());
            let handle = first.map(|alias| alias.handle);
            holds!(handle == Some(mine.owned.handle()), "listed: {handle:?}");
        }
    });
}

/// Ends all that there is in a table of the hand's own.
pub fn detach_all(hand: &Hand) {
    let table = &hand.place.ids.spare[hand.who];
    for _ in 0..hand.repeat {
        let Some(mine) = allocate::<Ids>(hand, By::Range) else {
            return;
        };
        if attach_it(hand, table, &mine) {
            Ids::shadow(hand).leave(Ids::scope(hand), mine.number(), mine.id);
            hand.call(Call::AliasDetachAll, || table.detach_all());
        }
        release(hand, mine);
    }
}
