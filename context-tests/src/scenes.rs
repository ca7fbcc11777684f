// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scenes: how each data call is made, and what its answer may be.

use crate::calls::Call;
use crate::hand::{Hand, OTHER};
use crate::shadow::{COUNT, FIRST, Id, bit, each};
use crate::world::{Meddling, REQUEST, pasid};
use pasid::{Error, Handle, Owned, Pool, Ref, Result};

/// Makes a call that may be refused, and keeps the answer where it was written: to move it
/// would take longer than the call.
macro_rules! ask {
    ($answer:ident = $hand:expr, $call:expr, $make:expr) => {
        let mut $answer = $crate::scenes::unasked();
        $hand.call($call, || $answer = $make);
    };
}

pub mod alias;
pub mod cell;
pub mod flush;
mod kinds;
pub mod lent;
pub mod looking;
pub mod pool;
pub mod set;
pub mod table;

pub use kinds::{Ids, Kind, Nothings, Sets, Statics};

/// An allocation that a hand owns, and that the shadow knows of.
pub struct Mine<K: Kind> {
    pub owned: Owned<K::Pool>,
    pub id: Id,
}

/// A reference that a hand holds, likewise.
pub struct Held<K: Kind> {
    pub reference: Ref<K::Pool>,
    pub id: Id,
}

impl<K: Kind> Mine<K> {
    pub fn number(&self) -> u32 {
        self.owned.pasid().get()
    }
}

impl<K: Kind> Held<K> {
    pub fn number(&self) -> u32 {
        self.reference.pasid().get()
    }
}

/// Which call allocates.
#[derive(Clone, Copy)]
pub enum By {
    Range,
    Cpu(u32),
    Number(u32),
}

/// Allocates, or checks that it may be refused. What waits for a flush is flushed.
pub fn allocate<K: Kind>(hand: &Hand, by: By) -> Option<Mine<K>> {
    let mine = try_allocate::<K>(hand, by);
    if mine.is_none() && matches!(hand.refusal.get(), Error::AwaitingFlush { .. }) {
        flush::all(hand);
        return try_allocate::<K>(hand, by);
    }
    mine
}

fn try_allocate<K: Kind>(hand: &Hand, by: By) -> Option<Mine<K>> {
    let pool = K::pool(hand);
    let id = K::new_id(hand);
    let word = id.word();
    let calls = K::CALLS;
    let mut answer = unasked();
    match by {
        By::Range => hand.call(calls.alloc_in_place, || {
            answer = K::alloc_in_place(pool, word);
        }),
        By::Cpu(cpu) => hand.call(Call::SetAllocInPlaceNear, || {
            answer = alloc_in_place_near(pool, cpu, K::payload(word));
        }),
        By::Number(number) => {
            let number = pasid(number);
            hand.call(calls.alloc_at, || answer = K::alloc_at(pool, number, word));
        }
    }
    match answer {
        Ok(owned) => {
            let number = owned.pasid();
            if let By::Number(asked) = by {
                holds!(number.get() == asked, "another PASID than asked for");
            }
            K::shadow(hand).enter(K::scope(hand), number.get(), id);
            holds!(
                K::id_of(hand, number, owned.word()) == id,
                "{number} has another's word"
            );
            hand.refusal.set(Error::OutOfMemory);
            Some(Mine { owned, id })
        }
        Err(error) => {
            hand.refusal.set(error);
            check_refused::<K>(hand, by, error);
            None
        }
    }
}

#[inline(never)]
fn alloc_in_place_near<P: Pool>(pool: P, cpu: u32, payload: P::Payload) -> Result<Owned<P>> {
    pool.alloc_in_place_near(cpu, REQUEST, payload)
}

/// Allocates by one of the calls that there are, in turn. The number is one that may be
/// asked for.
pub fn allocate_by_turns<K: Kind>(hand: &Hand, turn: u32, number: u32) -> Option<Mine<K>> {
    let by = match turn % 3 {
        0 => By::Number(number),
        1 if K::HAS_CPU => By::Cpu(turn),
        _ => By::Range,
    };
    allocate::<K>(hand, by)
}

/// A number that is free, or one that is not if there is none.
pub fn any_number<K: Kind>(hand: &Hand) -> u32 {
    let scope = K::scope(hand);
    let free = K::shadow(hand).free(scope);
    let values = if free == 0 { scope.values } else { free };
    // The last: what the search takes first is another one.
    FIRST + values.checked_ilog2().unwrap_or(0)
}

/// Whether an allocation may be refused with that.
fn check_refused<K: Kind>(hand: &Hand, by: By, error: Error) {
    let (scope, shadow) = (K::scope(hand), K::shadow(hand));
    let missing = hand.may_miss();
    let none_free = || shadow.free(scope).count_ones() <= missing;
    let no_credit = || {
        let left = scope.credits_left();
        left.is_some_and(|left| left <= u64::from(missing))
    };
    let is_held = |number| missing > 0 || !shadow.is_free(scope, number);
    let is_not_ours = |number| scope.values & bit(number) == 0;
    let may = match (error, by) {
        (Error::Closing, _) => K::is_closing(hand),
        (Error::Exhausted { .. }, By::Range | By::Cpu(_)) => none_free(),
        (Error::AwaitingFlush { .. }, By::Range | By::Cpu(_)) => none_free(),
        (Error::QuotaExceeded { .. }, _) => no_credit(),
        (Error::AwaitingFlush { range }, By::Number(number)) => {
            range.first().get() == number && is_held(number)
        }
        (
            Error::InUse(named) | Error::HeldGlobally(named) | Error::HeldLocally(named),
            By::Number(number),
        ) => named.get() == number && is_held(number),
        (Error::Reserved(named) | Error::DoesNotFit { pasid: named, .. }, By::Number(number)) => {
            named.get() == number && is_not_ours(number)
        }
        _ => false,
    };
    holds!(
        may,
        "exhausted: {error:?}, where {:#b} are free and {:?} credits are left",
        shadow.free(scope),
        scope.credits_left()
    );
}

/// Frees what a hand owns.
pub fn release<K: Kind>(hand: &Hand, mine: Mine<K>) {
    let Mine { owned, id } = mine;
    K::shadow(hand).leave(K::scope(hand), owned.pasid().get(), id);
    hand.call(K::CALLS.drop_owned, || drop(owned));
}

/// Gives a reference back.
pub fn give_back<K: Kind>(hand: &Hand, held: Held<K>) {
    let Held { reference, id } = held;
    K::shadow(hand).leave(K::scope(hand), reference.pasid().get(), id);
    hand.call(K::CALLS.drop_ref, || drop(reference));
}

/// Whether what a hand holds may be revoked.
pub fn is_revoked<K: Kind>(hand: &Hand) -> bool {
    hand.was(Meddling::Revoked) || K::is_closing(hand)
}

/// Takes a reference to an allocation that the hand holds, unless it was revoked.
pub fn take<K: Kind>(hand: &Hand, handle: Handle, id: Id) -> Option<Held<K>> {
    let pool = K::pool(hand);
    ask!(answer = hand, K::CALLS.get, K::get(pool, handle));
    match answer {
        Ok(reference) => {
            holds!(reference.handle() == handle, "another handle");
            let found = K::id_of(hand, handle.pasid(), reference.word());
            holds!(found == id, "{handle} has another's word");
            K::shadow(hand).enter(K::scope(hand), handle.pasid().get(), id);
            Some(Held { reference, id })
        }
        Err(Error::BeingFreed(_) | Error::Closing) if is_revoked::<K>(hand) => None,
        Err(error) => broken!("{handle} is held, and get says {error:?}"),
    }
}

/// Fills the pool by the other call than `by`, and gives what it took to `then`.
pub fn while_full<K: Kind>(hand: &Hand, by: By, then: impl FnOnce()) {
    let mut all: [Option<Mine<K>>; COUNT] = [const { None }; COUNT];
    for (place, number) in all.iter_mut().zip(each(K::scope(hand).values)) {
        let other = match by {
            By::Number(_) => By::Range,
            By::Range | By::Cpu(_) => By::Number(number),
        };
        // By number only what is free, as far as the hand knows.
        if matches!(by, By::Number(_)) || K::shadow(hand).is_free(K::scope(hand), number) {
            *place = allocate::<K>(hand, other);
        }
    }
    if hand.who == OTHER {
        hand.meddle(Meddling::Filled);
    }
    then();
    for mine in all.into_iter().flatten() {
        release(hand, mine);
    }
}

/// The handle that a raw form stands for.
pub fn handle_of(raw: u64) -> Handle {
    match Handle::from_raw(raw) {
        Ok(handle) => handle,
        Err(error) => broken!("{raw:#x} came from into_raw: {error}"),
    }
}

/// What an answer is before there is one.
#[inline(always)]
pub fn unasked<T>() -> Result<T> {
    Err(Error::Closing)
}
