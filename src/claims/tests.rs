// SPDX-License-Identifier: MIT OR Apache-2.0
//! Claims and hints, step by step and beside each other.

use super::*;
use crate::bitmap::LEAF_PASIDS;
use crate::pasid::Pasid;

fn grown() -> Claims {
    let claims = Claims::new(&[]);
    assert!(claims.leaf_of(7).is_none());
    assert!(claims.grow(7).is_some());
    claims
}

/// The mark of leaf 0, the mark of node 0.
fn marks(claims: &Claims, side: Side) -> (bool, bool) {
    let leaves = hidden_leaves(claims.node(0).unwrap(), side);
    (leaves & 1 != 0, claims.hidden_nodes(side) & 1 != 0)
}

fn hide_leaf(claims: &Claims, base: u32, side: Side) {
    for word in 0..LEAF_WORDS as u32 {
        claims.hide(Place::of(base + word * WORD_BITS), ALL, side);
    }
}

#[test]
fn one_side_has_a_value_and_the_other_is_told_which() {
    let claims = grown();
    let leaf = claims.leaf_of(7).unwrap();
    assert_eq!(leaf.enter(7, Side::Local), Ok(()));
    assert_eq!(leaf.enter(7, Side::Local), Ok(()));
    assert_eq!(leaf.enter(7, Side::Global), Err(Opposed::HeldLocally));
    claims.release(7, Side::Local);
    assert_eq!(leaf.enter(7, Side::Global), Err(Opposed::HeldLocally));
    claims.release(7, Side::Local);
    assert_eq!(leaf.enter(7, Side::Global), Ok(()));
    assert_eq!(leaf.enter(7, Side::Global), Err(Opposed::HeldGlobally));
    assert_eq!(leaf.enter(7, Side::Local), Err(Opposed::HeldGlobally));
    assert_eq!(leaf.barred(0, ALL, Side::Local), (1 << 7, 2));
    claims.release(7, Side::Global);
    assert_eq!(leaf.barred(0, ALL, Side::Local), (0, 3));
    assert_eq!(leaf.barred(0, ALL & !(1 << 7), Side::Local), (0, 0));
}

#[test]
fn a_count_at_its_end_is_refused_and_does_not_reach_the_flag() {
    let claims = grown();
    let leaf = claims.leaf_of(7).unwrap();
    // Relaxed: one thread.
    leaf.claim(7).store(COUNT_LAST - 1, Ordering::Relaxed);
    assert_eq!(leaf.enter(7, Side::Local), Ok(()));
    assert_eq!(leaf.enter(7, Side::Local), Err(Opposed::TooManyClaims));
    assert_eq!(leaf.barred(0, ALL, Side::Local), (1 << 7, 0));
    assert!(!leaf.look(7).stands_against(Side::Local));
    claims.release(7, Side::Local);
    assert_eq!(leaf.enter(7, Side::Local), Ok(()));
}

#[test]
fn what_bars_a_side_is_what_does_not_admit_it() {
    for low in [0, 1, COUNT_LAST - 1, COUNT_LAST, GLOBAL] {
        for side in [Side::Local, Side::Global] {
            let claim = Claim(u64::MAX << VERSION_SHIFT | low);
            assert_eq!(claim.bars(side), claim.admits(side).is_err());
        }
    }
}

#[test]
fn a_version_that_wraps_leaves_the_claim_alone() {
    let claims = grown();
    let leaf = claims.leaf_of(7).unwrap();
    for side in [Side::Local, Side::Global] {
        // Relaxed: one thread.
        leaf.claim(7)
            .store(u64::MAX << VERSION_SHIFT, Ordering::Relaxed);
        assert_eq!(leaf.enter(7, side), Ok(()));
        claims.release(7, side);
        // Relaxed: as above.
        assert_eq!(leaf.claim(7).load(Ordering::Relaxed), 0);
    }
}

#[test]
fn what_one_side_holds_is_hidden_from_the_other_until_the_last_release() {
    let claims = grown();
    let leaf = claims.leaf_of(7).unwrap();
    for (side, twice) in [(Side::Local, true), (Side::Global, false)] {
        for position in [0, 3, 31, 32] {
            assert_eq!(leaf.enter(position, side), Ok(()));
        }
        if twice {
            assert_eq!(leaf.enter(3, side), Ok(()));
        }
        let wanted = !(1 << 31);
        assert_eq!(claims.hide(Place::of(0), wanted, side.other()), 0b1001);
        assert_eq!(claims.hide(Place::of(0), ALL, side), 0);
        assert_eq!(leaf.hidden(0, side.other()), 0b1001);
        assert_eq!((leaf.hidden(0, side), leaf.hidden(1, side.other())), (0, 0));
        claims.release(3, side);
        if twice {
            assert_eq!(leaf.hidden(0, side.other()), 0b1001);
            claims.release(3, side);
        }
        assert_eq!(leaf.hidden(0, side.other()), 1);
        for position in [0, 31, 32] {
            claims.release(position, side);
        }
        assert_eq!(leaf.hidden(0, side.other()), 0);
    }
}

#[test]
fn marks_stand_over_what_is_hidden_as_a_whole_and_go_with_the_first_release() {
    let claims = Claims::new(&[]);
    let node_values = LEAF_PASIDS * crate::radix::LEAVES;
    for number in 0..node_values {
        let leaf = claims.grow(number).unwrap();
        assert_eq!(leaf.enter(number % LEAF_PASIDS, Side::Global), Ok(()));
    }
    for base in (0..node_values).step_by(LEAF_PASIDS as usize) {
        assert_eq!(marks(&claims, Side::Local), (base != 0, false));
        hide_leaf(&claims, base, Side::Local);
    }
    assert_eq!(marks(&claims, Side::Local), (true, true));
    assert_eq!(marks(&claims, Side::Global), (false, false));
    claims.release(5, Side::Global);
    assert_eq!(marks(&claims, Side::Local), (false, false));
    assert_eq!(
        claims.leaf_of(5).unwrap().hidden(0, Side::Local),
        ALL & !(1 << 5)
    );
    hide_leaf(&claims, 0, Side::Local);
    assert_eq!(marks(&claims, Side::Local), (false, false));
    let leaf = claims.leaf_of(5).unwrap();
    assert_eq!(leaf.enter(5, Side::Global), Ok(()));
    hide_leaf(&claims, 0, Side::Local);
    assert_eq!(marks(&claims, Side::Local), (true, true));
}

#[test]
fn what_no_side_ever_has_keeps_no_leaf_from_its_mark() {
    const RESERVED: &[PasidRange] = &[PasidRange::single(Pasid::ZERO)];
    for side in [Side::Local, Side::Global] {
        let claims = Claims::new(RESERVED);
        let leaf = claims.grow(5).unwrap();
        assert_eq!(leaf.hidden(0, side), 1);
        for position in 1..LEAF_PASIDS {
            assert_eq!(leaf.enter(position, side.other()), Ok(()));
        }
        hide_leaf(&claims, 0, side);
        assert_eq!(marks(&claims, side), (true, false));
        claims.release(5, side.other());
        assert_eq!(marks(&claims, side), (false, false));
        assert_eq!(leaf.hidden(0, side), ALL & !(1 << 5));
    }
}

#[test]
fn opposing_threads_never_hold_a_value_together() {
    const ROUNDS: u32 = 20_000;
    let claims = grown();
    let holders = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for side in [Side::Local, Side::Local, Side::Global, Side::Global] {
            let (claims, holders) = (&claims, &holders);
            scope.spawn(move || {
                let leaf = claims.leaf_of(7).unwrap();
                for round in 0..ROUNDS {
                    let position = round % 2;
                    if leaf.enter(position, side).is_ok() {
                        let one = side.one() << (32 * position % 64);
                        let mine = |word: u64| word >> (32 * position) & 0xffff_ffff;
                        // Relaxed: the counts are compared by their own atomicity.
                        let old = mine(holders.fetch_add(one, Ordering::Relaxed));
                        assert!(side == Side::Local && old & GLOBAL == 0 || old == 0);
                        // Relaxed: as above.
                        holders.fetch_sub(one, Ordering::Relaxed);
                        claims.release(position, side);
                    } else {
                        claims.hide(Place::of(position), 0b11, side);
                    }
                }
            });
        }
    });
    let leaf = claims.leaf_of(7).unwrap();
    for side in [Side::Local, Side::Global] {
        assert_eq!(leaf.barred(0, ALL, side).0, 0);
        assert_eq!(leaf.hidden(0, side), 0);
    }
}
