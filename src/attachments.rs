// SPDX-License-Identifier: MIT OR Apache-2.0
//! The attachments of one table: by number, what PASID is written into the table's
//! hardware, and for whom. A page fault is answered from here.
//!
//! # The life of an entry
//! ```text
//! dead --reserve--> reserved --commit--> attached --detach--> draining --> dead
//!                       +--back_out--> dead                 (with the last fault)
//! ```
//!
//! An entry is a [`Slot`] of its own, with the state word of `state.rs`, and two pointers.
//! Nobody has a bit for it: `reserve` decides by compare-exchange of the state. While it
//! is reserved the hardware is being written, and look-ups see nothing. `commit` makes it
//! live, with a reference of its own that `detach` gives back. Each page fault counts one
//! more until its response is sent. Whoever gives the last back ends the attachment.
//!
//! # What an attachment holds
//! From reservation to end an entry holds one reference on the PASID (its slot is the
//! *target*) and one on the *owner*. Both are brought along by who reserves. Neither
//! is followed here: the pointers are handed back as [`Held`] to exactly one caller, the
//! one who ended the attachment, and that caller gives both references back.
//!
//! # Invariants
//! * **A1** `target` and `owner` are written between the seizure of a generation and its
//!   publication, by who has seized it (S1), and by nobody else.
//! * **A2** So they stay the same as long as anyone holds a reference on the generation.
//! * **A3** Whoever may end a generation reads them before the step that may end it. That
//!   step releases and the next seizure acquires, so the reads come before the next
//!   writes. After it, the next attachment may already have written its own.
//! * **A4** A generation ends once (I6, S2), so its `Held` is handed out once.
//!
//! # Wrap
//! Each attachment of a number takes one of 2^32 generations, backed-out ones too. An
//! entry that would have to wrap is retired: its number cannot be attached to this table
//! again. Wrap time: 4.3 seconds at 10^9 a second; with a write to the hardware in each,
//! at a microsecond, 72 minutes of nothing else.

use crate::bitmap::LEAF_PASIDS;
use crate::handle::Handle;
use crate::reuse::Reuse;
use crate::slot::{Slot, Taken};
use crate::sparse::{Build, Sparse};
use crate::state::{Left, Phase, Refusal, Sought};
use crate::sync::{AtomicPtr, AtomicU64, Ordering, const_unless_loom};
#[cfg(loom)]
use crate::sync::{Mutation, planted};
use core::ptr::{self, NonNull};

#[cfg(loom)]
mod mutants;

/// What an attachment held, for whoever ended it: one reference on each.
#[must_use = "the references on the PASID and on the owner must be given back"]
#[derive(Debug)]
pub(crate) struct Held<O> {
    /// The slot of the PASID.
    pub(crate) target: NonNull<Slot>,
    pub(crate) owner: NonNull<O>,
}

impl<O> PartialEq for Held<O> {
    fn eq(&self, other: &Held<O>) -> bool {
        self.target == other.target && self.owner == other.owner
    }
}

/// The attachment of one number: 40 bytes.
pub(crate) struct Entry<O> {
    slot: Slot,
    target: AtomicPtr<Slot>,
    owner: AtomicPtr<O>,
    /// The raw handle of what was attached last.
    last: AtomicU64,
}

const _: () = assert!(cfg!(loom) || size_of::<Entry<()>>() == 40);

impl<O> Entry<O> {
    fn new() -> Entry<O> {
        Entry {
            slot: Slot::new(0, false),
            target: AtomicPtr::new(ptr::null_mut()),
            owner: AtomicPtr::new(ptr::null_mut()),
            last: AtomicU64::new(0),
        }
    }

    /// Reserves the entry for an attachment of the PASID whose slot is `target`, with
    /// `word`. It takes over a reference on `target` and one on `owner`, unless it fails.
    /// Returns the generation.
    ///
    /// Lock-free: it goes round only when another thread changed the state.
    pub(crate) fn reserve(
        &self,
        target: NonNull<Slot>,
        owner: NonNull<O>,
        word: u64,
    ) -> Result<u32, Taken> {
        let generation = self.slot.seize()?;
        // Relaxed: `commit` publishes both. The seizure acquired the end of the last
        // generation, so nobody who ended that reads these (A3).
        self.target.store(target.as_ptr(), Ordering::Relaxed);
        // Relaxed: as above.
        self.owner.store(owner.as_ptr(), Ordering::Relaxed);
        self.slot.set_word(word);
        Ok(generation)
    }

    /// Takes note of the allocation that is being attached, for who has reserved the entry.
    ///
    /// Wait-free.
    pub(crate) fn note(&self, handle: Handle) {
        // Relaxed: who asks goes by a PASID that awaits a flush, which it did only after
        // the attachment had ended and its reference had been given back with release.
        self.last.store(handle.to_raw(), Ordering::Relaxed);
    }

    /// Whether `handle`, whose PASID awaits a flush, was the last to be attached here.
    ///
    /// Wait-free.
    pub(crate) fn was_last(&self, handle: Handle) -> bool {
        // Relaxed: as in `note`; the caller acquired the end of the allocation.
        self.last.load(Ordering::Relaxed) == handle.to_raw()
    }

    /// What [`Entry::note`] noted of the attachment, for who holds a reference on it.
    ///
    /// Wait-free.
    pub(crate) fn noted(&self) -> u64 {
        // Relaxed: it was noted before the commit that the caller acquired, and the next
        // one notes when the caller's reference is gone.
        self.last.load(Ordering::Relaxed)
    }

    /// Makes the reservation `generation` an attachment that look-ups find, for who
    /// reserved it.
    ///
    /// Wait-free.
    pub(crate) fn commit(&self, generation: u32) -> Result<(), Refusal> {
        self.slot.go_live(generation)
    }

    /// Ends the reservation `generation`, for who reserved it, and hands back what it
    /// held.
    ///
    /// Wait-free.
    pub(crate) fn back_out(&self, generation: u32) -> Result<Option<Held<O>>, Refusal> {
        self.ending(|slot| slot.back_out(generation))
    }

    /// Detaches `generation`: look-ups find it no longer, and its own reference is given
    /// back. What it held comes back if that was the last; otherwise the last fault gets
    /// it. Detaching again is refused once nothing is left, and changes nothing before.
    ///
    /// Lock-free: it goes round only when another thread changed the state.
    pub(crate) fn detach(&self, generation: u32) -> Result<Option<Held<O>>, Refusal> {
        self.published(generation)?;
        self.ending(|slot| slot.free(Sought::of(generation), Reuse::Immediate))
    }

    /// Takes a counted reference on what is attached, for a page fault. Returns the
    /// generation and the word.
    ///
    /// Lock-free: it goes round only when another thread changed the state.
    #[inline]
    pub(crate) fn fault_get(&self) -> Result<(u32, u64), Refusal> {
        #[cfg(loom)]
        if planted(Mutation::FaultGetWithoutCount) {
            return self.fault_get_without_count();
        }
        let generation = self.slot.get(Sought::ANY).map_err(hidden)?;
        // The exchange acquired the commit, and the reference keeps the next one away:
        // this is a word of this attachment.
        Ok((generation, self.slot.word()))
    }

    /// Takes `count` references at once, for who holds one.
    pub(crate) fn hold_more(&self, count: u32) -> Result<(), Refusal> {
        self.slot.hold_more(count)
    }

    /// Gives back `count` references at once, for who holds more.
    pub(crate) fn drop_more(&self, count: u32) {
        self.slot.drop_more(count);
    }

    /// Gives back a fault's reference, for who holds it. What the attachment held comes
    /// back if that was the last.
    ///
    /// Wait-free.
    #[inline]
    pub(crate) fn fault_put(&self) -> Option<Held<O>> {
        self.ending(|slot| Ok(slot.drop_held(Reuse::Immediate)))
            .unwrap_or(None)
    }

    /// Replaces the word, for who holds a reference. Returns the one before.
    ///
    /// Wait-free.
    pub(crate) fn replace(&self, word: u64) -> u64 {
        self.slot.replace(word)
    }

    /// The word, for who holds a reference.
    ///
    /// Wait-free.
    pub(crate) fn word(&self) -> u64 {
        self.slot.word()
    }

    /// The generation and word of what is attached, without writing anything.
    ///
    /// Wait-free.
    #[inline]
    pub(crate) fn find(&self) -> Result<(u32, u64), Refusal> {
        self.slot.find(Sought::ANY).map_err(hidden)
    }

    /// Whether the entry is reserved, attached or draining.
    ///
    /// Wait-free.
    pub(crate) fn is_in_use(&self) -> bool {
        let state = self.slot.state();
        !state.is(Phase::Dead) && !state.is(Phase::Retired)
    }

    /// The slot of the PASID, for who holds a reference on the attachment or has reserved
    /// it. That keeps the PASID, so whoever asks may follow the pointer meanwhile.
    ///
    /// Wait-free.
    #[inline]
    pub(crate) fn target(&self) -> Option<NonNull<Slot>> {
        // Relaxed: whoever holds a reference acquired the commit (A1, A2).
        NonNull::new(self.target.load(Ordering::Relaxed))
    }

    /// The owner, likewise.
    ///
    /// Wait-free.
    #[inline]
    pub(crate) fn owner(&self) -> Option<NonNull<O>> {
        // Relaxed: as in `target`.
        NonNull::new(self.owner.load(Ordering::Relaxed))
    }

    /// What the attachment holds, with the right to give it back only for who ends it.
    /// `None` before the first reservation.
    #[inline(always)]
    fn held(&self) -> Option<Held<O>> {
        Some(Held {
            target: self.target()?,
            owner: self.owner()?,
        })
    }

    /// Refuses a generation of which no reference is held. Where it does not, what was
    /// written before its commit is visible, also to a caller who brings no more than a
    /// number.
    fn published(&self, generation: u32) -> Result<(), Refusal> {
        let state = self.slot.state();
        state.of(Sought::of(generation))?;
        match state.references() {
            0 => Err(Refusal::NotLive),
            _ => Ok(()),
        }
    }

    /// Takes a step that may end the attachment, and hands back what it held if it did.
    #[inline(always)]
    fn ending(
        &self,
        step: impl FnOnce(&Slot) -> Result<Left, Refusal>,
    ) -> Result<Option<Held<O>>, Refusal> {
        // Before the step, all of which release: see A3.
        let held = self.held();
        match step(&self.slot)? {
            Left::Held => Ok(None),
            // Nobody pins an attachment, and none awaits a flush.
            Left::Nothing | Left::Retired | Left::Waiting | Left::Kept => Ok(held),
        }
    }
}

/// A reservation is not to be seen by look-ups.
const fn hidden(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Reserved => Refusal::NotLive,
        other => other,
    }
}

/// The entries of 256 numbers.
struct Leaf<O> {
    entries: [Entry<O>; LEAF_PASIDS as usize],
}

impl<O> Leaf<O> {
    #[inline(always)]
    fn entry(&self, number: u32) -> &Entry<O> {
        // The remainder is by a power of two.
        &self.entries[number as usize % LEAF_PASIDS as usize]
    }
}

impl<O> Build for Leaf<O> {
    // SAFETY: what the caller owes is said in `Build`; a whole value is written.
    unsafe fn build(place: *mut Leaf<O>) {
        // SAFETY: `place` is valid for a Leaf, so its field is in bounds.
        let entries = unsafe { &raw mut (*place).entries }.cast::<Entry<O>>();
        for position in 0..LEAF_PASIDS as usize {
            // SAFETY: `position` is below the length of the array of entries.
            let entry = unsafe { entries.add(position) };
            // Volatile, so that the compiler does not call `memset`; see `radix.rs`.
            // SAFETY: valid for writes, as part of `place`.
            unsafe { entry.write_volatile(Entry::new()) };
        }
    }
}

/// What a look at one entry saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) number: u32,
    pub(crate) generation: u32,
    pub(crate) word: u64,
}

/// An entry that is not dead, as a look at it saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing<O> {
    pub(crate) number: u32,
    /// Whether it is attached, and not draining.
    pub(crate) own: bool,
    /// With the attachment's own; 0 while it is reserved.
    pub(crate) references: u64,
    pub(crate) word: u64,
    /// Whose it is. Nobody may follow that.
    pub(crate) owner: Option<NonNull<O>>,
}

/// The attachments of one table, grown where numbers are attached: 10 KiB for 256 numbers.
///
/// When it is dropped, what its entries still hold is not given back: by then whoever
/// attached must have detached.
pub(crate) struct Attachments<O> {
    entries: Sparse<Leaf<O>, ()>,
}

impl<O> Attachments<O> {
    const_unless_loom! {
        /// Without attachments and without memory.
        pub(crate) fn new() -> Attachments<O> {
            Attachments {
                entries: Sparse::new(()),
            }
        }
    }

    /// Puts memory in place for the PASIDs `first ..= last`. Returns whether it could.
    ///
    /// Lock-free.
    pub(crate) fn grow_range(&self, first: u32, last: u32) -> bool {
        (first / LEAF_PASIDS..=last / LEAF_PASIDS)
            .all(|leaf| self.entries.grow(leaf * LEAF_PASIDS).is_some())
    }

    /// The entry of `number`, a PASID, if there is memory for it. Where there is none,
    /// nothing was ever attached.
    ///
    /// Wait-free.
    #[inline]
    pub(crate) fn entry(&self, number: u32) -> Option<&Entry<O>> {
        Some(self.entries.leaf_of(number)?.entry(number))
    }

    /// The lowest of the PASIDs `first ..= last` that is attached, at the moment when it
    /// is looked at.
    ///
    /// Wait-free: one look at each entry that there is memory for.
    pub(crate) fn first_attached(&self, first: u32, last: u32) -> Option<Seen> {
        self.first_where(first, last, |number, entry| {
            let (generation, word) = entry.find().ok()?;
            Some(Seen {
                number,
                generation,
                word,
            })
        })
    }

    /// The lowest of the PASIDs `first ..= last` whose entry is reserved, attached or
    /// draining: what a table that gets narrower must not leave outside.
    ///
    /// Wait-free, as [`first_attached`](Attachments::first_attached).
    pub(crate) fn first_in_use(&self, first: u32, last: u32) -> Option<u32> {
        self.first_where(first, last, |number, entry| {
            entry.is_in_use().then_some(number)
        })
    }

    /// The lowest of the PASIDs `first ..= last` whose entry is not dead, for a snapshot. Its
    /// word and owner are good if a second look sees the same.
    ///
    /// Wait-free, as [`first_attached`](Attachments::first_attached).
    pub(crate) fn first_standing(&self, first: u32, last: u32) -> Option<Standing<O>> {
        self.first_where(first, last, |number, entry| {
            let state = entry.slot.state();
            entry.is_in_use().then(|| Standing {
                number,
                own: state.own(),
                references: state.references(),
                word: entry.word(),
                owner: entry.owner(),
            })
        })
    }

    fn first_where<R>(
        &self,
        first: u32,
        last: u32,
        look: impl Fn(u32, &Entry<O>) -> Option<R>,
    ) -> Option<R> {
        let look = |number, leaf: &Leaf<O>| look(number, leaf.entry(number));
        self.entries.first_where(first, last, look)
    }

    /// Bytes of memory beside the table itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.entries.memory_bytes()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
