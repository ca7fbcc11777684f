// SPDX-License-Identifier: MIT OR Apache-2.0
//! The groups that a table is a member of, as its fault path sees them.
//!
//! A table has the bits of its groups' PASIDs and not their state, which is in each group's
//! own slots. A fault that finds nothing attached asks the groups here.
//!
//! # Protocol
//! Each table has a list with an entry for each of its groups. Control calls add at the
//! front and take out, one at a time, under the list's lock. Faults walk the list without
//! it, and allocate and free nothing: they count themselves among the readers before they
//! read the first pointer, and take themselves off the count after the last.
//!
//! What is taken out still leads to the next entry, for the reader who stands on it. It is
//! laid aside, and freed by whoever holds the lock and finds no reader. Nobody waits for
//! that: what cannot go now goes with a later control call, or with the table.
//!
//! # Orderings
//! The count of readers changes by read-modify-writes alone, and the look at it exchanges 0
//! for 0. So each reader comes before the look or after it:
//!
//! * Before it, and done, or the count would not be 0: the look acquires what the reader
//!   released when it left, so its reads come before the freeing.
//! * After it: the reader acquires what the look released, so it sees all that was taken
//!   out by then, and comes to none of it.
//!
//! # Invariants
//! * **F1** An entry leads to older ones alone, since entries are added at the front. So a
//!   walk ends, also where it goes on over what was taken out.
//! * **F2** What is freed was taken out before a look that found no reader.

use crate::alloc::IdSpace;
use crate::counted::Counted;
use crate::link::boxed;
use crate::lock::ControlLock;
use crate::pasid::Pasid;
use crate::state::{Refusal, Sought};
use crate::sync::{AtomicPtr, AtomicU32, Mutation, Ordering, planted, unless};
#[cfg(loom)]
use crate::sync::{UnsafeCell, mutated};
use core::ptr;
use heap::boxed::Box;

/// A group's own PASIDs: their slots, and whether the group is closing. It lasts as long as
/// the set, and as long as a fault may look at it.
pub(crate) struct GroupIds {
    pub(crate) ids: IdSpace,
    /// Follows the set's own flag.
    closing: AtomicU32,
}

impl GroupIds {
    pub(crate) fn new(ids: IdSpace) -> Option<Counted<GroupIds>> {
        Counted::new(GroupIds {
            ids,
            closing: AtomicU32::new(0),
        })
    }

    /// Takes note that the set was closed.
    pub(crate) fn close(&self) {
        // Release: pairs with the acquire of `find`: who is told that a PASID is being freed
        // because of it sees what came before the closing.
        self.closing.store(1, Ordering::Release);
    }

    /// What the group says of `pasid`, if it has it. Beyond its width it has nothing,
    /// whatever the slots there say.
    ///
    /// Wait-free.
    fn find(&self, pasid: Pasid) -> Option<Had> {
        // Acquire: pairs with `close`. Before the slot: what is live after the closing is
        // being freed, while one that was live before it may be over by then.
        let closing = self.closing.load(Ordering::Acquire) != 0;
        match self.ids.tree.entry(pasid)?.slot.find(Sought::ANY) {
            Ok(_) if closing && !planted(Mutation::GetForgetsClosing) => Some(Had::BeingFreed),
            Ok(_) => Some(Had::Live),
            Err(Refusal::BeingFreed) => Some(Had::BeingFreed),
            Err(_) => None,
        }
    }

    /// Bytes, with what has grown here and the entries in the lists of `members` tables.
    pub(crate) fn memory_bytes(&self, members: usize) -> usize {
        let own = size_of::<GroupIds>() - size_of::<IdSpace>() + self.ids.memory_bytes();
        own + members * size_of::<Entry>()
    }
}

/// How a group has a PASID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Had {
    Live,
    BeingFreed,
}

/// One group in the list of one of its tables.
struct Entry {
    group: Counted<GroupIds>,
    next: AtomicPtr<Entry>,
    /// The next of those laid aside.
    left_before: AtomicPtr<Entry>,
    /// By this loom sees who reads an entry that is freed.
    #[cfg(loom)]
    read: UnsafeCell<()>,
}

impl Entry {
    fn new(group: Counted<GroupIds>) -> Option<Box<Entry>> {
        let build = |place: *mut Entry| {
            let entry = Entry {
                group,
                next: AtomicPtr::new(ptr::null_mut()),
                left_before: AtomicPtr::new(ptr::null_mut()),
                #[cfg(loom)]
                read: UnsafeCell::new(()),
            };
            // SAFETY: `boxed` gives a place that is valid for writes of an Entry.
            unsafe { place.write(entry) };
        };
        // SAFETY: `build` writes a whole Entry.
        unsafe { boxed(build) }
    }
}

/// The groups of one table.
pub(crate) struct Groups {
    first: AtomicPtr<Entry>,
    /// Faults that may stand on an entry: as many as there are threads, and handlers that
    /// interrupted them, so far fewer than 2^32.
    readers: AtomicU32,
    /// What was taken out and is not freed.
    left: AtomicPtr<Entry>,
    /// Held by who changes the lists.
    changing: ControlLock<()>,
}

/// What a link leads to.
///
/// # Safety
/// The caller is a reader or holds the lock, for as long as the entry is used, and has the
/// link from the list or from an entry to which it came in the same way.
#[inline(always)]
unsafe fn follow(link: &AtomicPtr<Entry>) -> Option<&Entry> {
    // Acquire: pairs with the release of `add`: who sees the pointer sees the entry built.
    // `remove` stores older pointers with release, for the same reason.
    let entry = link.load(Ordering::Acquire);
    // SAFETY: null, or from a Box by `add`. What is in the list is not freed, and what was
    // taken out is not while a reader is who may have come to it (F2), nor while the lock
    // is held by who may.
    unsafe { entry.as_ref() }
}

/// One reader, counted until it is dropped.
struct Reading<'a>(&'a AtomicU32);

impl Drop for Reading<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            // A model that failed is unwinding, and loom's objects are gone.
            return;
        }
        // Release: pairs with the acquire of `is_unread`: what was read comes before it is
        // freed.
        let ordering = unless(Mutation::GroupsLeftRelaxed, Ordering::Release);
        self.0.fetch_sub(1, ordering);
    }
}

impl Groups {
    pub(crate) fn new() -> Groups {
        Groups {
            first: AtomicPtr::new(ptr::null_mut()),
            readers: AtomicU32::new(0),
            left: AtomicPtr::new(ptr::null_mut()),
            changing: ControlLock::new(()),
        }
    }

    // ---- For faults --------------------------------------------------------------

    /// How one of the groups has `pasid`: on one table at most one does.
    ///
    /// Wait-free: one look at each group.
    pub(crate) fn find(&self, pasid: Pasid) -> Option<Had> {
        let _reading = self.read();
        let mut link = &self.first;
        // SAFETY: counted as a reader until the end of this call, here and in what follows.
        while let Some(entry) = unsafe { follow(link) } {
            #[cfg(loom)]
            let _looking = entry.read.get();
            let had = entry.group.find(pasid);
            if had.is_some() {
                return had;
            }
            link = &entry.next;
        }
        None
    }

    #[inline(always)]
    fn read(&self) -> Reading<'_> {
        // Acquire: pairs with the release of `is_unread`: who comes after that sees what was
        // taken out before it.
        let ordering = unless(Mutation::GroupsReadRelaxed, Ordering::Acquire);
        self.readers.fetch_add(1, ordering);
        Reading(&self.readers)
    }

    // ---- For control calls -----------------------------------------------------------

    /// Adds a group. Returns whether there was memory.
    pub(crate) fn add(&self, group: &Counted<GroupIds>) -> bool {
        let Some(entry) = Entry::new(group.clone()) else {
            return false;
        };
        let entry = Box::into_raw(entry);
        // SAFETY: from `Box::into_raw`, and not freed before it is taken out again.
        let next = unsafe { &(*entry).next };
        self.changing.with(|()| {
            // Relaxed: written under the lock.
            let first = self.first.load(Ordering::Relaxed);
            // Relaxed: published by the next store.
            next.store(first, Ordering::Relaxed);
            // Release: pairs with the acquire of `follow`.
            let ordering = unless(Mutation::GroupListedRelaxed, Ordering::Release);
            self.first.store(entry, ordering);
        });
        true
    }

    /// Takes a group out, if it is there, and frees what nobody reads.
    pub(crate) fn remove(&self, group: &Counted<GroupIds>) {
        self.changing.with(|()| {
            let mut link = &self.first;
            // SAFETY: under the lock, and freed by nobody else.
            while let Some(entry) = unsafe { follow(link) } {
                if !entry.group.ptr_eq(group) {
                    link = &entry.next;
                    continue;
                }
                // Relaxed: written under the lock, here and below.
                let taken = link.load(Ordering::Relaxed);
                let next = entry.next.load(Ordering::Relaxed);
                // Release: pairs with the acquire of `follow`, as in `add`.
                link.store(next, Ordering::Release);
                let left = self.left.load(Ordering::Relaxed);
                entry.left_before.store(left, Ordering::Relaxed);
                self.left.store(taken, Ordering::Relaxed);
                return;
            }
        });
        self.forget();
    }

    /// Frees what was taken out, if nobody reads.
    pub(crate) fn forget(&self) {
        // Relaxed: who lays something aside looks afterwards. That another call has not is
        // no reason to wait for it.
        if self.left.load(Ordering::Relaxed).is_null() {
            return;
        }
        let none = ptr::null_mut();
        let left = self.changing.with(|()| {
            if !self.is_unread() {
                return none;
            }
            // Relaxed: written under the lock.
            let left = self.left.load(Ordering::Relaxed);
            // Relaxed: as above.
            self.left.store(none, Ordering::Relaxed);
            left
        });
        // SAFETY: out of both lists, and taken out before the look that found no reader.
        unsafe { free_all(left) };
    }

    /// Whether no reader can stand on what was taken out before this call.
    fn is_unread(&self) -> bool {
        // AcqRel: acquire pairs with the release of who left, and release with the acquire
        // of who comes; see the head of this file. Failure Relaxed: nothing is concluded
        // but that somebody reads.
        let unread = self
            .readers
            .compare_exchange(0, 0, Ordering::AcqRel, Ordering::Relaxed);
        unread.is_ok() || planted(Mutation::GroupFreedWhileRead)
    }
}

/// Frees a list of entries that were laid aside.
///
/// # Safety
/// Nobody else has them, and nobody reads them.
unsafe fn free_all(mut entry: *mut Entry) {
    while !entry.is_null() {
        // SAFETY: from `Box::into_raw` in `add`, and nobody else's, as the caller promises.
        let taken = unsafe { Box::from_raw(entry) };
        // Relaxed: written before, by who had the lock.
        entry = taken.left_before.load(Ordering::Relaxed);
        #[cfg(loom)]
        {
            drop(taken.read.get_mut());
            if mutated() {
                // Stays for the reader that loom is about to find.
                core::mem::forget(taken);
            }
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            // A model that failed is unwinding, and loom's objects are gone.
            return;
        }
        // Relaxed: `&mut self` came here by means that order all before it.
        let (first, left) = (
            self.first.load(Ordering::Relaxed),
            self.left.load(Ordering::Relaxed),
        );
        // A group that is there holds its tables.
        debug_assert!(first.is_null());
        // SAFETY: a reader or a control call would hold the table, which is going.
        unsafe { free_all(left) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
