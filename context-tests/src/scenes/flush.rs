// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes of flushing.

use super::{By, Sets, allocate, release, table};
use crate::calls::Call;
use crate::hand::{Hand, OTHER};
use crate::shadow::{Side, Values, bit, each};
use crate::world::SetCell;
use pasid::{Flush, FlushStatistics, IoasidSet, PasidRange, Table, Ticket};

/// Flushes all that waits, wherever it is.
pub fn all(hand: &Hand) {
    for set in hand.place.flushed() {
        let of = hand.of(set);
        let ticket = begin_of(&of, set.set());
        complete_it(&of, ticket);
    }
}

// The calls themselves; none is inlined, as in `kinds.rs`.

#[inline(never)]
fn begin<F: Flush>(of: F) -> Ticket<F> {
    of.begin_flush()
}

#[inline(never)]
fn complete<F: Flush>(ticket: Ticket<F>) -> u32 {
    ticket.complete()
}

#[inline(never)]
fn put_back_on<F: Flush>(ticket: &mut Ticket<F>, table: &Table) -> u32 {
    ticket.put_back_on(table)
}

/// What the ranges have, as far as anything of it can be had.
fn values(ranges: impl Iterator<Item = PasidRange>) -> Values {
    let pasids = ranges.flat_map(|range| range.first().get()..=range.last().get());
    pasids.fold(0, |values, pasid| values | bit(pasid))
}

fn begin_of<F: Flush>(hand: &Hand, of: F) -> Ticket<F> {
    let mut ticket = None;
    hand.call(Call::FlushBegin, || ticket = Some(begin(of)));
    match ticket {
        Some(ticket) => ticket,
        None => broken!("no ticket"),
    }
}

/// What the batch has.
fn batch<F: Flush>(hand: &Hand, ticket: &Ticket<F>) -> Values {
    let values = hand.call(Call::FlushRanges, || values(ticket.ranges()));
    let count = hand.call(Call::FlushCount, || ticket.count());
    holds!(
        values.count_ones() == count,
        "a batch of {count} is {values:#b}"
    );
    values
}

/// Completes a flush. What it returns is free from the beginning of the call on.
fn complete_it<F: Flush>(hand: &Hand, ticket: Ticket<F>) {
    let (place, side) = (hand.place, hand.set.scope.side);
    let batch = batch(hand, &ticket);
    for pasid in each(batch) {
        let newest = place.space.shadow.newest(side, pasid);
        let scope = place.space.scope_of(newest.set());
        place.space.shadow.returned(scope, pasid);
    }
    let returned = hand.call(Call::FlushComplete, || complete(ticket));
    let count = batch.count_ones();
    holds!(returned == count, "{returned} of {count} were returned");
}

/// Something that waits, where the hand's set has anything.
fn fill_two(hand: &Hand) {
    for turn in 0..2 {
        if let Some(mine) = allocate::<Sets>(hand, By::Cpu(turn)) {
            release(hand, mine);
        }
    }
}

/// Likewise, and it was attached.
fn fill_attached(hand: &Hand) {
    if let Some(mine) = allocate::<Sets>(hand, By::Range) {
        if let Some(attached) = table::attached(hand, &mine) {
            table::detach_it(hand, attached);
        }
        release(hand, mine);
    }
}

/// Gives a scene the ticket of a flush of the hand's set: by the set, or by what its
/// PASIDs wait at, in turn.
macro_rules! with_ticket {
    ($hand:expr, $turn:expr, |$ticket:ident| $scene:expr) => {
        let (place, set) = ($hand.place, $hand.set.set());
        match ($turn % 2, $hand.set.scope.side) {
            (1, Side::Global) => {
                let $ticket = begin_of($hand, &place.space.space);
                $scene
            }
            (1, Side::Tables(&[table])) => {
                let $ticket = begin_of($hand, place.space.tables[table]);
                $scene
            }
            _ => {
                let $ticket = begin_of($hand, set);
                $scene
            }
        }
    };
}

/// Begins, and completes.
pub fn cycle(hand: &Hand) {
    for turn in 0..hand.repeat {
        fill_two(hand);
        with_ticket!(hand, turn, |ticket| complete_it(hand, ticket));
    }
}

/// Begins twice: the second finds what the first has left, which is nothing.
pub fn overlap(hand: &Hand) {
    fill_two(hand);
    let set: &'static SetCell = hand.set;
    let one = begin_of(hand, set.set());
    let other = begin_of(hand, set.set());
    let (ones, others) = (batch(hand, &one), batch(hand, &other));
    holds!(
        ones & others == 0,
        "{ones:#b} and {others:#b} are in two flushes"
    );
    complete_it(hand, other);
    complete_it(hand, one);
}

/// Lets the batch wait for another flush.
pub fn put_back(hand: &Hand) {
    fill_two(hand);
    for turn in 0..hand.repeat {
        with_ticket!(hand, turn, |ticket| {
            let before = batch(hand, &ticket);
            hand.call(Call::FlushDrop, || drop(ticket));
            let still = waiting(hand, before);
            // The other hand may have flushed it meanwhile.
            holds!(
                hand.who != OTHER || still == before,
                "{before:#b} do not wait"
            );
        });
    }
}

/// Those of the values that wait.
fn waiting(hand: &Hand, values: Values) -> Values {
    let set: &'static IoasidSet = hand.set.set();
    let ticket = begin_of(hand, set);
    let batch = batch(hand, &ticket);
    hand.call(Call::FlushDrop, || drop(ticket));
    batch & values
}

/// Keeps what was attached.
pub fn put_back_on_table(hand: &Hand) {
    fill_two(hand);
    fill_attached(hand);
    let table = hand.place.table();
    for turn in 0..hand.repeat {
        with_ticket!(hand, turn, |ticket| {
            let mut ticket = ticket;
            let before = batch(hand, &ticket);
            let on = hand.call(Call::FlushRangesOn, || values(ticket.ranges_on(table)));
            let concerns = hand.call(Call::FlushRangesOn, || ticket.concerns(table));
            holds!(on & !before == 0, "{on:#b} on the table of {before:#b}");
            holds!(concerns == (on != 0), "concerned, but for {on:#b}");
            let count = hand.call(Call::FlushPutBackOn, || put_back_on(&mut ticket, table));
            holds!(count == on.count_ones(), "{count} of {on:#b} were put back");
            let left = batch(hand, &ticket);
            holds!(left == before & !on, "{left:#b} are left of {before:#b}");
            hand.call(Call::FlushDrop, || drop(ticket));
        });
    }
}

/// Scenes of looking at a batch, in which most of the time is spent in that one look.
macro_rules! looks {
    ($($(#[$doc:meta])* $name:ident = |$hand:ident, $turn:ident, $ticket:ident| $look:expr;)+) => {
        $(
            $(#[$doc])*
            pub fn $name($hand: &Hand) {
                for $turn in 0..2 {
                    fill_two($hand);
                    fill_attached($hand);
                    with_ticket!($hand, $turn, |$ticket| {
                        for _ in 0..$hand.repeat {
                            $look;
                        }
                        complete_it($hand, $ticket);
                    });
                }
            }
        )+
    };
}

looks! {
    /// How many there are.
    look_count = |hand, _turn, ticket| {
        let count = hand.call(Call::FlushCount, || ticket.count());
        holds!((count == 0) == ticket.is_empty(), "{count} in a batch");
    };
    /// Which, and how many.
    look_ranges = |hand, _turn, ticket| batch(hand, &ticket);
    /// Which of them were on the table.
    look_on = |hand, _turn, ticket| {
        let table = hand.place.table();
        let on = hand.call(Call::FlushRangesOn, || values(ticket.ranges_on(table)));
        holds!(on.count_ones() <= ticket.count(), "{on:#b} on the table");
    };
    /// What the flushes came to.
    look_statistics = |hand, turn, ticket| {
        let flushes = match (turn, hand.set.scope.side) {
            (1, Side::Global) => statistics(hand, &hand.place.space.space),
            (1, Side::Tables(&[table])) => statistics(hand, hand.place.space.tables[table]),
            _ => statistics(hand, hand.set.set()),
        };
        let (begun, is_empty) = (flushes.in_flight, ticket.is_empty());
        holds!(begun > 0 || is_empty, "none is in flight");
    };
}

fn statistics<F: Flush>(hand: &Hand, of: F) -> FlushStatistics {
    hand.call(Call::FlushStatistics, || of.flushes())
}
