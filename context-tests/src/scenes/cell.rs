// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes of cells: one PASID for an address space.

use super::{By, Held, Ids, Kind, check_refused, flush, give_back, is_revoked};
use crate::calls::Call;
use crate::hand::Hand;
use crate::shadow::Id;
use crate::world::{Meddling, REQUEST};
use pasid::{Error, PasidCell, Ref, Result};
use std::sync::atomic::Ordering::Relaxed;

/// The call itself; not inlined, as in `kinds.rs`.
#[inline(never)]
fn bind_it<K: Kind>(cell: &PasidCell<K::Pool>, payload: K::Payload) -> Result<Ref<K::Pool>> {
    cell.bind_in_place(REQUEST, payload)
}

/// Binds, and enters the binding. The word is another's where somebody else has bound.
fn bind_to<K: Kind>(hand: &Hand, cell: &PasidCell<K::Pool>) -> Result<Held<K>> {
    let payload = K::payload(K::new_id(hand).word());
    ask!(answer = hand, Call::CellBind, bind_it::<K>(cell, payload));
    let reference = answer?;
    let id = K::id_of(hand, reference.pasid(), reference.word());
    K::shadow(hand).enter(K::scope(hand), reference.pasid().get(), id);
    Ok(Held { reference, id })
}

/// A cell that keeps its PASID until it is retired.
pub fn keeping<K: Kind>(hand: &Hand) {
    let cell = PasidCell::new(K::pool(hand));
    let mut kept: Option<(u32, Id)> = None;
    for _ in 0..hand.repeat {
        match bind_to::<K>(hand, &cell) {
            Ok(held) => {
                let bound = (held.number(), held.id);
                if kept.is_none() {
                    // The cell has a reference of its own.
                    K::shadow(hand).enter(K::scope(hand), bound.0, bound.1);
                }
                holds!(*kept.get_or_insert(bound) == bound, "bound to two PASIDs");
                give_back(hand, held);
            }
            Err(Error::BeingFreed(_) | Error::Closing) if is_revoked::<K>(hand) => {}
            Err(error) if kept.is_none() => {
                check_refused::<K>(hand, By::Range, error);
                flush::all(hand);
            }
            Err(error) => broken!("bound, and bind says {error:?}"),
        }
        let found = hand.call(Call::CellFind, || cell.find());
        match (kept, found) {
            (Some((number, _)), Some(found)) => {
                holds!(found.pasid().get() == number, "another than is bound");
            }
            (Some(_), None) => holds!(is_revoked::<K>(hand), "bound, and not found"),
            (None, None) => {}
            (None, Some(found)) => broken!("{found} is found, and nobody has bound"),
        }
    }
    if let Some((number, id)) = kept {
        K::shadow(hand).leave(K::scope(hand), number, id);
    }
    hand.call(Call::CellRetire, || cell.retire());
    let retired = hand.call(Call::CellIsRetired, || cell.is_retired());
    holds!(retired, "a retired cell says that it is not");
    let again = bind_to::<K>(hand, &cell).map(|held| held.number());
    holds!(
        again == Err(Error::CellRetired),
        "retired, and bind says {again:?}"
    );
}

/// Looks at a cell that has bound, if one can be had.
pub fn looking<K: Kind>(hand: &Hand) {
    let cell = PasidCell::new(K::pool(hand));
    let held = bind_to::<K>(hand, &cell).ok();
    for _ in 0..hand.repeat {
        let found = hand.call(Call::CellFind, || cell.find());
        let known = held.as_ref().map(|held| held.reference.handle());
        holds!(
            found == known || is_revoked::<K>(hand),
            "{found:?} is found of {known:?}"
        );
    }
    for _ in 0..hand.repeat {
        let retired = hand.call(Call::CellIsRetired, || cell.is_retired());
        holds!(!retired, "a cell says that it is retired");
    }
    hand.call(Call::CellRetire, || cell.retire());
    match held {
        Some(held) => give_back(hand, held),
        None => flush::all(hand),
    }
}

/// The same of one that is retired, and of that alone.
pub fn asking(hand: &Hand) {
    let cell = PasidCell::new(Ids::pool(hand));
    cell.retire();
    for _ in 0..hand.repeat {
        let retired = hand.call(Call::CellIsRetired, || cell.is_retired());
        holds!(retired, "a retired cell says that it is not");
    }
}

/// Retires again and again, cells that have bound.
pub fn retiring<K: Kind>(hand: &Hand) {
    for _ in 0..hand.repeat {
        let cell = PasidCell::new(K::pool(hand));
        if let Ok(held) = bind_to::<K>(hand, &cell) {
            let retired = hand.call(Call::CellIsRetired, || cell.is_retired());
            holds!(!retired, "a cell says that it is retired");
            // The binding outlives the cell's own reference.
            hand.call(Call::CellRetire, || cell.retire());
            give_back(hand, held);
        } else {
            flush::all(hand);
            hand.call(Call::CellRetire, || cell.retire());
        }
    }
}

/// A cell of both hands, whose PASID goes with the last binding.
pub fn shared(hand: &Hand) {
    let cell = &hand.place.ids.cell;
    for _ in 0..hand.repeat {
        match bind_to::<Ids>(hand, cell) {
            Ok(held) => {
                let again = bind_to::<Ids>(hand, cell);
                if let Ok(again) = again {
                    holds!(
                        again.reference.handle() == held.reference.handle(),
                        "bound to two PASIDs"
                    );
                    give_back(hand, again);
                }
                give_back(hand, held);
            }
            // The other hand may have revoked it, long ago, while this one was binding.
            Err(Error::BeingFreed(_)) => {
                let revoked = hand.place.meddled[Meddling::Revoked as usize].load(Relaxed);
                holds!(revoked > 0, "being freed, and nobody has revoked");
            }
            Err(error) => check_refused::<Ids>(hand, By::Range, error),
        }
    }
}
