// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reservations of one value in a space of global sets, by a table, by the space, and by a
//! table that is built or goes at the same time.

use pasid::{
    Error, Pasid, PasidRange, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind, Table,
    TableConfig,
};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const VALUE: Pasid = Pasid::from_u16(5);
const ROUNDS: u32 = 600;

fn table(space: &Space, reserved: &[PasidRange]) -> Table {
    let width = PasidWidth::new(8).unwrap();
    let config = TableConfig::new(width).reserved(reserved);
    space.add_table(config).unwrap()
}

/// Runs both at once, the second a little later from round to round.
fn at_once<R>(round: u32, first: impl FnOnce() + Send, second: impl FnOnce() -> R) -> R {
    let here = AtomicUsize::new(0);
    let meet = || {
        // Relaxed: only for both to begin together.
        here.fetch_add(1, Ordering::Relaxed);
        while here.load(Ordering::Relaxed) < 2 {
            spin_loop();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            meet();
            first();
        });
        meet();
        for _ in 0..round % 64 {
            spin_loop();
        }
        second()
    })
}

/// Whether a global set can have the value.
fn is_free(space: &Space) -> bool {
    let set = space.add_set(SetConfig::new(Scope::Global)).unwrap();
    set.preload(VALUE.into()).unwrap();
    (&set).alloc_at(VALUE, 0).is_ok()
}

#[test]
fn a_table_that_is_built_while_another_lets_a_value_go_keeps_it() {
    for round in 0..ROUNDS {
        let space = Space::new(SpaceKind::Global);
        let other = table(&space, &[]);
        other.reserve(VALUE).unwrap();
        let built = at_once(
            round,
            || other.unreserve(VALUE).unwrap(),
            || table(&space, &[VALUE.into()]),
        );
        assert!(!is_free(&space), "round {round}");
        built.close();
        drop(built);
        assert!(is_free(&space), "round {round}");
    }
}

#[test]
fn a_table_that_goes_while_another_asks_takes_back_what_it_entered() {
    for round in 0..ROUNDS {
        let space = Space::new(SpaceKind::Global);
        let other = table(&space, &[]);
        space.reserve(VALUE).unwrap();
        let going = table(&space, &[VALUE.into()]);
        going.close();
        drop(going);
        at_once(
            round,
            || {
                for _ in 0..20 {
                    assert_eq!(other.reserve(VALUE), Err(Error::Reserved(VALUE)));
                }
            },
            // Any control call: the table is forgotten by it.
            || assert_eq!(space.tables().map(|tables| tables.len()), Ok(1)),
        );
        assert_eq!(space.unreserve(VALUE), Ok(()), "round {round}");
        assert!(is_free(&space), "round {round}");
    }
}

#[test]
fn what_a_table_rests_on_is_not_taken_back_while_another_asks() {
    for round in 0..ROUNDS {
        let space = Space::new(SpaceKind::Global);
        let other = table(&space, &[]);
        space.reserve(VALUE).unwrap();
        let resting = table(&space, &[VALUE.into()]);
        let taken_back = at_once(
            round,
            || {
                for _ in 0..20 {
                    assert_eq!(other.reserve(VALUE), Err(Error::Reserved(VALUE)));
                }
            },
            || space.unreserve(VALUE),
        );
        assert!(taken_back.is_err(), "round {round}");
        assert!(!is_free(&space), "round {round}");
        drop(resting);
    }
}
