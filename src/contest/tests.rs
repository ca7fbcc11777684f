// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contests of tables, groups and global sets.

use super::words::take_bit;
use super::*;
use crate::pasid::PasidWidth;
use crate::radix::MAY_GROW;
use crate::sync::AtomicU32;
use core::iter::once;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::vec::Vec;

const LAST: u32 = 0xf_ffff;

/// The members of a group.
#[derive(Clone, Copy)]
struct Group<'a>(&'a [&'a Tree]);

impl Members for Group<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn tree(&self, index: usize) -> Option<&Tree> {
        self.0.get(index).copied()
    }
}

fn tree() -> Tree {
    Tree::new(PasidWidth::MAX, (&[]).into())
}

fn of<'a>(tree: &'a Tree, claims: &'a Claims, side: Side) -> Contest<'a, &'a Tree> {
    Contest {
        members: tree,
        slots: tree,
        claims: Some(claims),
        side,
    }
}

fn group<'a>(
    members: &'a [&'a Tree],
    slots: &'a Tree,
    claims: Option<&'a Claims>,
) -> Contest<'a, Group<'a>> {
    Contest {
        members: Group(members),
        slots,
        claims,
        side: Side::Local,
    }
}

fn number(taken: Option<Taken<'_>>) -> Option<u32> {
    taken.map(|taken| taken.pasid.get())
}

fn at(number: u32) -> Pasid {
    Pasid::from_index(number)
}

/// As a caller goes: the usual case, by the hints, exactly.
fn take<'a, M: Members>(contest: &Contest<'a, M>, first: u32, last: u32) -> Result<u32, NoneFree> {
    match contest.search::<MAY_GROW>(first, last) {
        Some(taken) => Ok(taken.pasid.get()),
        None => {
            let exact = contest.take_exactly::<MAY_GROW>(core::iter::once((first, last)));
            exact.map(|taken| taken.pasid.get())
        }
    }
}

fn why(taken: Result<Taken<'_>, Contested>) -> Option<Contested> {
    taken.err()
}

#[test]
fn sides_step_over_each_other_and_tables_overlap() {
    let (global, one, two, claims) = (tree(), tree(), tree(), Claims::new(&[]));
    let globals = of(&global, &claims, Side::Global);
    let [ones, twos] = [&one, &two].map(|table| of(table, &claims, Side::Local));
    assert_eq!(number(globals.take_here(0, LAST)), None);
    assert_eq!(take(&globals, 0, LAST), Ok(0));
    assert_eq!(number(globals.take_here(0, LAST)), Some(1));
    assert_eq!(take(&ones, 0, LAST), Ok(2));
    assert_eq!(take(&twos, 0, LAST), Ok(2));
    assert_eq!(number(globals.take_here(0, LAST)), None);
    assert_eq!(take(&globals, 0, LAST), Ok(3));
    assert_eq!(number(globals.take_here(0, LAST)), Some(4));
    // The hint of the search is there for the usual case.
    assert_eq!(take(&ones, 0, LAST), Ok(5));
    globals.give_back(at(1));
    assert_eq!(number(ones.take_here(0, LAST)), Some(1));
    ones.give_back(at(2));
    assert_eq!(take(&globals, 0, 2), Err(NoneFree::Exhausted));
    twos.give_back(at(2));
    assert_eq!(number(globals.take_here(0, LAST)), Some(2));
}

#[test]
fn a_value_is_taken_by_number_or_the_reason_is_told() {
    let (global, table, claims) = (tree(), tree(), Claims::new(&[]));
    let globals = of(&global, &claims, Side::Global);
    let locals = of(&table, &claims, Side::Local);
    let opposed = |why| Some(Contested::Opposed(why));
    assert_eq!(why(locals.take_at(at(9))), Some(Contested::OutOfMemory));
    assert!(locals.grow(Contest::<&Tree>::part_of(at(9))).is_some());
    assert_eq!(why(locals.take_at(at(9))), None);
    assert_eq!(why(locals.take_at(at(9))), Some(Contested::InUse));
    // Refused without memory too.
    assert_eq!(why(globals.take_at(at(9))), opposed(Opposed::HeldLocally));
    assert!(globals.grow(Contest::<&Tree>::part_of(at(9))).is_some());
    assert_eq!(why(globals.take_at(at(9))), opposed(Opposed::HeldLocally));
    locals.give_back(at(9));
    assert_eq!(why(globals.take_at(at(9))), None);
    assert_eq!(why(globals.take_at(at(9))), Some(Contested::InUse));
    assert_eq!(why(locals.take_at(at(9))), opposed(Opposed::HeldGlobally));
    globals.give_back(at(9));
    // A claim without a bit: another global attempt in flight.
    assert_eq!(claims.leaf_of(9).unwrap().enter(9, Side::Global), Ok(()));
    assert_eq!(why(globals.take_at(at(9))), opposed(Opposed::HeldGlobally));
    assert_eq!(take(&globals, 9, 9), Err(NoneFree::Exhausted));
    claims.release(9, Side::Global);
    // A bit without a claim: reserved. The attempt backs out of its claim.
    assert!(take_bit(&global, Place::of(9)));
    let ground = globals.ground(Contest::<&Tree>::part_of(at(9))).unwrap();
    assert_eq!(why(globals.attempt(ground, at(9))), Some(Contested::InUse));
    assert_eq!(why(locals.take_at(at(9))), None);
}

#[test]
fn exhausted_counts_bits_and_claims_over_all_spans() {
    let (global, table, claims) = (tree(), tree(), Claims::new(&[]));
    let globals = of(&global, &claims, Side::Global);
    let locals = of(&table, &claims, Side::Local);
    for number in 250..=259 {
        let side = if number % 3 == 0 { &globals } else { &locals };
        assert_eq!(take(side, number, number), Ok(number));
    }
    let spans = [(258, 259), (250, 255), (256, 257)];
    for side in [&globals, &locals] {
        let none = side.take_exactly::<MAY_GROW>(spans.into_iter());
        assert_eq!(none.err(), Some(NoneFree::Exhausted));
    }
    globals.give_back(at(255));
    let taken = locals.take_exactly::<MAY_GROW>(spans.into_iter());
    assert_eq!(number(taken.ok()), Some(255));
}

#[test]
fn out_of_memory_is_said_where_all_that_is_free_has_none() {
    let (global, table, claims) = (tree(), tree(), Claims::new(&[]));
    let globals = of(&global, &claims, Side::Global);
    let locals = of(&table, &claims, Side::Local);
    let whole = || core::iter::once((0, 511));
    let in_place = |contest: &Contest<'_, &Tree>| {
        assert_eq!(number(contest.search::<IN_PLACE>(0, 511)), None);
        contest.take_exactly::<IN_PLACE>(whole()).err()
    };
    assert_eq!(in_place(&locals), Some(NoneFree::OutOfMemory));
    for number in 0..256 {
        assert_eq!(take(&globals, 0, 511), Ok(number));
    }
    assert_eq!(in_place(&locals), Some(NoneFree::OutOfMemory));
    assert_eq!(in_place(&globals), Some(NoneFree::OutOfMemory));
    // No slots for values of the other side.
    assert_eq!(take(&locals, 0, 511), Ok(256));
    assert!(table.node(0).unwrap().leaf(0).is_none());
    for number in 257..512 {
        assert_eq!(take(&locals, 0, 511), Ok(number));
    }
    assert_eq!(in_place(&locals), Some(NoneFree::Exhausted));
    assert_eq!(in_place(&globals), Some(NoneFree::Exhausted));
}

#[test]
fn what_is_global_below_is_stepped_over_by_the_usual_case() {
    let (global, table, claims) = (tree(), tree(), Claims::new(&[]));
    let globals = of(&global, &claims, Side::Global);
    let locals = of(&table, &claims, Side::Local);
    for number in 0..20_000 {
        assert_eq!(take(&globals, 0, LAST), Ok(number));
    }
    assert_eq!(number(locals.take_here(0, LAST)), None);
    assert_eq!(take(&locals, 0, LAST), Ok(20_000));
    assert_eq!(claims.hidden_nodes(Side::Local), 1);
    assert_eq!(number(locals.take_here(0, LAST)), Some(20_001));
    globals.give_back(at(77));
    assert_eq!(claims.hidden_nodes(Side::Local), 0);
    // The table has no slots there yet.
    assert_eq!(number(locals.take_here(0, LAST)), None);
    assert_eq!(take(&locals, 0, LAST), Ok(77));
    locals.give_back(at(77));
    assert_eq!(number(locals.take_here(0, LAST)), Some(77));
}

#[test]
fn a_group_takes_what_is_free_in_all_and_backs_out_of_the_rest() {
    let (global, one, two, own, claims) = (tree(), tree(), tree(), tree(), Claims::new(&[]));
    let globals = of(&global, &claims, Side::Global);
    let [ones, twos] = [&one, &two].map(|table| of(table, &claims, Side::Local));
    let members = [&one, &two];
    let both = group(&members, &own, Some(&claims));
    assert_eq!(take(&ones, 0, LAST), Ok(0));
    assert_eq!(take(&twos, 1, LAST), Ok(1));
    assert_eq!(take(&globals, 2, LAST), Ok(2));
    assert_eq!(take(&both, 0, LAST), Ok(3));
    for number in [0, 1, 3] {
        assert_eq!(why(both.take_at(at(number))), Some(Contested::InUse));
    }
    let held = Contested::Opposed(Opposed::HeldGlobally);
    assert_eq!(why(both.take_at(at(2))), Some(held));
    // Past the look: the bits of those before the refusal come back.
    let ground = both.ground(Contest::<&Tree>::part_of(at(1))).unwrap();
    assert_eq!(why(both.attempt(ground, at(1))), Some(Contested::InUse));
    assert_eq!(take(&ones, 1, 1), Ok(1));
    assert_eq!(why(twos.take_at(at(3))), Some(Contested::InUse));
    assert_eq!(take(&both, 0, 3), Err(NoneFree::Exhausted));
    both.give_back(at(3));
    assert_eq!(take(&twos, 0, 3), Ok(0));
    assert_eq!(take(&twos, 3, 3), Ok(3));
    assert_eq!(take(&both, 0, 3), Err(NoneFree::Exhausted));
    assert_eq!(
        own.first_held(at(0), at(LAST)).map(|(pasid, _)| pasid),
        None
    );
}

#[test]
fn a_group_of_tables_alone_has_no_claims() {
    let (one, two, own) = (tree(), tree(), tree());
    let members = [&one, &two];
    let both = group(&members, &own, None);
    assert_eq!(take(&both, 0, LAST), Ok(0));
    // A member holds the bits in its node; it needs no slots for them.
    assert!(one.node(0).is_some_and(|node| node.leaf(0).is_none()));
    let taken = one.take_anywhere::<MAY_GROW>(0, LAST, once((0, LAST)));
    assert_eq!(number(taken.ok()), Some(1));
    assert_eq!(take(&both, 0, 0), Err(NoneFree::Exhausted));
    both.give_back(at(0));
    let taken = one.take_anywhere::<MAY_GROW>(0, LAST, once((0, LAST)));
    assert_eq!(number(taken.ok()), Some(0));
    assert_eq!(take(&both, 0, LAST), Ok(2));
}

#[test]
fn what_a_group_holds_in_a_table_without_slots_outlives_a_shrink() {
    let (mut one, two, own) = (tree(), tree(), tree());
    assert_eq!(take(&group(&[&one, &two], &own, None), 7, LAST), Ok(7));
    one.shrink();
    let taken = one.take_anywhere::<MAY_GROW>(7, LAST, once((7, LAST)));
    assert_eq!(number(taken.ok()), Some(8));
    one.give_back(one.spot(at(8)).unwrap());
    group(&[&one, &two], &own, None).give_back(at(7));
    assert!(one.shrink() > 0);
    assert!(one.node(0).is_none());
}

#[test]
fn both_sides_in_one_leaf_do_not_end_the_usual_case() {
    let (global, table, claims) = (tree(), tree(), Claims::new(&[]));
    let globals = of(&global, &claims, Side::Global);
    let locals = of(&table, &claims, Side::Local);
    assert_eq!(take(&locals, 0, LAST), Ok(0));
    for number in 1..300 {
        assert_eq!(take(&globals, 0, LAST), Ok(number));
    }
    assert_eq!(take(&locals, 0, LAST), Ok(300));
    // The first leaf has no mark of either kind, and nothing is free in it.
    let leaves = hidden_leaves(claims.node(0).unwrap(), Side::Local);
    assert_eq!((leaves, claims.hidden_nodes(Side::Local)), (0, 0));
    assert_eq!(number(locals.take_here(0, LAST)), Some(301));
    assert_eq!(number(globals.take_here(0, LAST)), None);
    assert_eq!(take(&globals, 0, LAST), Ok(302));
    assert_eq!(number(globals.take_here(0, LAST)), Some(303));
}

#[test]
fn a_full_group_is_exhausted_and_marked() {
    let (one, two, own) = (tree(), tree(), tree());
    let members = [&one, &two];
    let both = group(&members, &own, None);
    for number in 0..512 {
        let taken = match number % 2 {
            0 => one.take_anywhere::<MAY_GROW>(number, number, once((number, number))),
            _ => two.take_anywhere::<MAY_GROW>(number, number, once((number, number))),
        };
        assert!(taken.is_ok());
    }
    assert_eq!(take(&both, 0, 511), Err(NoneFree::Exhausted));
    assert_eq!(take(&both, 0, LAST), Ok(512));
    one.give_back(one.spot(at(300)).unwrap());
    assert_eq!(take(&both, 0, 511), Ok(300));
}

/// Everybody takes and gives back in a few values; no value may have two holders that
/// share a table.
#[test]
fn threads_of_all_sides_never_share_a_value() {
    const ROUNDS: u32 = 3_000;
    let (global, one, two, own, claims) = (tree(), tree(), tree(), tree(), Claims::new(&[]));
    let members = [&one, &two];
    let held = Mutex::new(BTreeSet::new());
    // Tables by number; a global PASID is on both.
    let run = |tables: &[u32], take: &dyn Fn() -> Option<Pasid>, give: &dyn Fn(Pasid)| {
        let mut mine: Vec<Pasid> = Vec::new();
        let end = |pasid: Pasid| {
            let mut held = held.lock().unwrap();
            assert!(
                tables
                    .iter()
                    .all(|&table| held.remove(&(table, pasid.get())))
            );
            drop(held);
            give(pasid);
        };
        for round in 0..ROUNDS {
            if let Some(pasid) = take() {
                let mut held = held.lock().unwrap();
                assert!(
                    tables
                        .iter()
                        .all(|&table| held.insert((table, pasid.get())))
                );
                mine.push(pasid);
            }
            if round % 3 == 0 || mine.len() > 2 {
                mine.pop().into_iter().for_each(end);
            }
        }
        mine.into_iter().for_each(end);
    };
    let globals = of(&global, &claims, Side::Global);
    let [ones, twos] = [&one, &two].map(|table| of(table, &claims, Side::Local));
    let both = group(&members, &own, Some(&claims));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let any = || Some(at(take(&globals, 30, 33).ok()?));
                run(&[1, 2], &any, &|pasid| globals.give_back(pasid));
            });
            scope.spawn(|| {
                let any = || Some(at(take(&both, 30, 33).ok()?));
                run(&[1, 2], &any, &|pasid| both.give_back(pasid));
            });
        }
        for (contest, table) in [(&ones, 1), (&twos, 2)] {
            let run = &run;
            scope.spawn(move || {
                let any = || match contest.take_here(30, 33) {
                    Some(taken) => Some(taken.pasid),
                    None => Some(at(take(contest, 30, 33).ok()?)),
                };
                run(&[table], &any, &|pasid| contest.give_back(pasid));
            });
        }
    });
    // Nothing is left behind: no bit, no claim, no hint.
    for number in 30..=33 {
        assert_eq!(take(&both, 30, 33), Ok(number));
    }
    (30..=33).for_each(|number| both.give_back(at(number)));
    for number in 30..=33 {
        assert_eq!(take(&globals, 30, 33), Ok(number));
    }
    (30..=33).for_each(|number| globals.give_back(at(number)));
    let leaf = claims.leaf_of(30).unwrap();
    for side in [Side::Local, Side::Global] {
        assert_eq!((leaf.hidden(0, side), leaf.hidden(1, side)), (0, 0));
    }
}

/// One hole moves between two values. It is always somewhere, so nobody may be told that
/// there is none.
#[test]
fn a_hole_that_moves_is_found_by_the_other_side() {
    const ROUNDS: u32 = 30_000;
    let (global, one, two, claims) = (tree(), tree(), tree(), Claims::new(&[]));
    let globals = of(&global, &claims, Side::Global);
    let [ones, twos] = [&one, &two].map(|table| of(table, &claims, Side::Local));
    for (mover, seeker) in [(&globals, &ones), (&twos, &globals)] {
        for number in 31..=32 {
            assert_eq!(take(seeker, number, number), Ok(number));
            seeker.give_back(at(number));
        }
        assert_eq!(take(mover, 31, 31), Ok(31));
        let done = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut held = 31;
                for _ in 0..ROUNDS {
                    mover.give_back(at(held));
                    // Where the seeker has the other, this one is still free.
                    held = take(mover, 63 - held, 63 - held)
                        .or_else(|_| take(mover, 31, 32))
                        .unwrap();
                }
                mover.give_back(at(held));
                // Relaxed: the scope's end is what the threads meet at.
                done.store(1, Ordering::Relaxed);
            });
            // Relaxed: as above.
            while done.load(Ordering::Relaxed) == 0 {
                seeker.give_back(at(take(seeker, 31, 32).unwrap()));
            }
        });
    }
}
