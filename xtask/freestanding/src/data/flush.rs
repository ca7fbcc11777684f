// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flushes of a set, a table and the space, and pins. What a call returns lies where the
//! caller has room for it.
//!
//! # Safety
//!
//! A place that is read holds what the call before wrote there, once.

use core::mem::MaybeUninit;
use pasid::{Flush, IdSpace, IoasidSet, Pinned, Pool, Ref, Space, Table, Ticket};

use crate::status;

type Set = &'static IoasidSet;

/// The calls of one kind of ticket, each of which is code of its own.
macro_rules! flushes {
    ($of:ty: $begin:ident $count:ident $first:ident $first_on:ident $put_back_on:ident
        $complete:ident $put_back:ident $completed:ident) => {
        /// Takes what waits.
        #[unsafe(no_mangle)]
        pub extern "C" fn $begin(of: $of, to: &mut MaybeUninit<Ticket<$of>>) {
            to.write(of.begin_flush());
        }

        /// How many PASIDs there are.
        #[unsafe(no_mangle)]
        pub extern "C" fn $count(ticket: &Ticket<$of>) -> u32 {
            ticket.count()
        }

        /// The first range after `after`.
        #[unsafe(no_mangle)]
        pub extern "C" fn $first(ticket: &Ticket<$of>, after: u32, last: &mut u32) -> u32 {
            let mut ranges = ticket.ranges();
            ranges
                .find(|range| range.first().get() > after)
                .map_or(0, |range| {
                    *last = range.last().get();
                    range.first().get()
                })
        }

        /// The same of what was attached to a table, and whether there is any.
        #[unsafe(no_mangle)]
        pub extern "C" fn $first_on(ticket: &Ticket<$of>, table: &Table, last: &mut u32) -> bool {
            if let Some(range) = ticket.ranges_on(table).next() {
                *last = range.last().get();
            }
            ticket.concerns(table)
        }

        /// Keeps what was attached to a table.
        #[unsafe(no_mangle)]
        pub extern "C" fn $put_back_on(ticket: &mut Ticket<$of>, table: &Table) -> u32 {
            ticket.put_back_on(table)
        }

        /// Returns the batch.
        ///
        /// # Safety
        ///
        /// As the module says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $complete(from: &MaybeUninit<Ticket<$of>>) -> u32 {
            // SAFETY: the caller's promise, word for word.
            unsafe { from.assume_init_read() }.complete()
        }

        /// Puts the batch back.
        ///
        /// # Safety
        ///
        /// As the module says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $put_back(from: &MaybeUninit<Ticket<$of>>) {
            // SAFETY: the caller's promise, word for word.
            drop(unsafe { from.assume_init_read() });
        }

        /// How many flushes completed.
        #[unsafe(no_mangle)]
        pub extern "C" fn $completed(of: $of) -> u64 {
            of.flushes().completed
        }
    };
}

flushes!(&'static IoasidSet: pasid_data_set_flush_begin pasid_data_set_flush_count
    pasid_data_set_flush_range pasid_data_set_flush_range_on pasid_data_set_flush_put_back_on
    pasid_data_set_flush_complete pasid_data_set_flush_drop pasid_data_set_flushes);
flushes!(&'static Table: pasid_data_table_flush_begin pasid_data_table_flush_count
    pasid_data_table_flush_range pasid_data_table_flush_range_on
    pasid_data_table_flush_put_back_on pasid_data_table_flush_complete
    pasid_data_table_flush_drop pasid_data_table_flushes);
flushes!(&'static Space: pasid_data_space_flush_begin pasid_data_space_flush_count
    pasid_data_space_flush_range pasid_data_space_flush_range_on
    pasid_data_space_flush_put_back_on pasid_data_space_flush_complete
    pasid_data_space_flush_drop pasid_data_space_flushes);

/// Flushes at once, with an invalidation that is the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn pasid_data_set_flush(
    set: Set,
    invalidate: extern "C" fn(&mut Ticket<Set>) -> i32,
    returned: &mut u32,
) -> i32 {
    let flushed = set.flush(|ticket| match invalidate(ticket) {
        0 => Ok(()),
        error => Err(error),
    });
    match flushed {
        Ok(count) => {
            *returned = count;
            0
        }
        Err(error) => error,
    }
}

/// Pins the PASID of a handle.
///
/// # Safety
///
/// The caller holds the reference that the handle stands for, and keeps it.
unsafe fn pin<P: Pool>(pool: P, handle: u64, to: &mut MaybeUninit<Pinned<P>>) -> i32 {
    // SAFETY: the caller's promise, and the reference is forgotten again below.
    let reference = unsafe { Ref::from_raw(pool, handle) };
    let pinned = reference.and_then(|reference| {
        let pinned = reference.pin();
        reference.into_raw();
        pinned
    });
    let written = pinned.map(|pin| {
        to.write(pin);
    });
    status(written, None)
}

/// Pins the PASID of which the caller holds a reference.
///
/// # Safety
///
/// The caller holds the reference that the handle stands for, and keeps it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_set_pin(
    set: Set,
    handle: u64,
    to: &mut MaybeUninit<Pinned<Set>>,
) -> i32 {
    // SAFETY: the caller's promise, word for word.
    unsafe { pin(set, handle, to) }
}

/// The same of an id space.
///
/// # Safety
///
/// The caller holds the reference that the handle stands for, and keeps it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_pin(
    space: &'static IdSpace,
    handle: u64,
    to: &mut MaybeUninit<Pinned<&'static IdSpace>>,
) -> i32 {
    // SAFETY: the caller's promise, word for word.
    unsafe { pin(space, handle, to) }
}

/// Takes a pin away.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_unpin(from: &MaybeUninit<Pinned<&'static IdSpace>>) {
    // SAFETY: the caller's promise, word for word.
    drop(unsafe { from.assume_init_read() });
}

/// Takes the pin of a set's PASID away.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pasid_data_set_unpin(from: &MaybeUninit<Pinned<Set>>) {
    // SAFETY: the caller's promise, word for word.
    drop(unsafe { from.assume_init_read() });
}
