// SPDX-License-Identifier: MIT OR Apache-2.0
//! The entries of a virtual table: by the guest's number, the host's allocation, and in a
//! nested table the number below.
//!
//! ```text
//! host word    0: none   1: being entered, in nested tables   else: the raw handle
//!
//!  63                                       21       20 19                 0
//! +-------------------------------------------+--------+--------------------+
//! |                  version                  | direct |    number below    |    link word
//! +-------------------------------------------+--------+--------------------+
//! ```
//!
//! The host word says whether there is an entry. A table over no other has no link
//! words: an entry is made by one compare-exchange and ended by one. In a nested table it
//! is seized first, then linked, then published:
//! ```text
//! 0 --compare-exchange--> 1, link with the next version --store--> handle --compare-exchange--> 0
//! ```
//! A thread that is stopped in between keeps that one number from being attached; look-ups
//! find nothing there, and go on.
//!
//! # Invariants
//! * **L1** Whoever changes a host word from 0 owns the entry until it has stored the
//!   handle, and writes the link word; nobody else writes that.
//! * **L2** Whoever changes a host word from a handle to 0 has the entry's reference.
//!   Nobody else has, so it is given back once.
//! * **L3** The link's version grows with each entry. So equal link words before and after a
//!   handle was read say that both belong together, and the same link and handle at two
//!   instants that it stood throughout.
//!
//! # Wrap
//! A version has 43 bits. It matters within one look-up, during which one number would
//! have to be attached 2^43 times: 2.4 hours at 10^9 a second.

use crate::bitmap::LEAF_PASIDS;
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::range::PasidRange;
use crate::sparse::{Build, Sparse};
use crate::sync::{AtomicU64, Mutation, Ordering, planted, unless};

const NONE: u64 = 0;
/// Its tag is 0, so it is no handle.
const ENTERING: u64 = 1;

const NUMBER_BITS: u32 = 20;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
/// The entry does not point to the table below.
const DIRECT: u64 = 1 << NUMBER_BITS;
const VERSION_ONE: u64 = DIRECT << 1;

const _: () = assert!(NUMBER_MASK == Pasid::MAX.get() as u64);

/// The words of 256 numbers: 2 KiB.
struct Words {
    words: [AtomicU64; LEAF_PASIDS as usize],
}

impl Words {
    #[inline(always)]
    fn word(&self, number: u32) -> &AtomicU64 {
        // The remainder is by a power of two.
        &self.words[number as usize % LEAF_PASIDS as usize]
    }
}

impl Build for Words {
    // SAFETY: what the caller owes is said in `Build`; a whole value is written.
    unsafe fn build(place: *mut Words) {
        // SAFETY: `place` is valid for Words, so their field is in bounds.
        let words = unsafe { &raw mut (*place).words }.cast::<AtomicU64>();
        for position in 0..LEAF_PASIDS as usize {
            // SAFETY: `position` is below the length of the array.
            let word = unsafe { words.add(position) };
            // Volatile, so that the compiler does not call `memset`; see `radix.rs`.
            // SAFETY: valid for writes, as part of `place`.
            unsafe { word.write_volatile(AtomicU64::new(0)) };
        }
    }
}

type Tree = Sparse<Words, ()>;

/// An entry as it was at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    handle: Handle,
    link: u64,
}

impl Seen {
    #[inline(always)]
    pub(super) fn handle(self) -> Handle {
        self.handle
    }

    /// The number in the table below that it points to.
    #[inline(always)]
    pub(super) fn below(self) -> Option<Pasid> {
        let number = Pasid::from_index((self.link & NUMBER_MASK) as u32);
        (self.link & DIRECT == 0).then_some(number)
    }
}

/// The entries of one table, with memory where it was put.
pub(super) struct Entries {
    hosts: Tree,
    /// In nested tables. Where there are host words, there are link words.
    links: Option<Tree>,
}

impl Entries {
    pub(super) fn new(nested: bool) -> Entries {
        Entries {
            hosts: Sparse::new(()),
            links: nested.then(|| Sparse::new(())),
        }
    }

    /// Puts memory in place. Returns whether it could.
    ///
    /// Lock-free.
    pub(super) fn grow(&self, range: PasidRange) -> bool {
        let (first, last) = (range.first().get(), range.last().get());
        let grown = |tree: &Tree, leaf| tree.grow(leaf * LEAF_PASIDS).is_some();
        (first / LEAF_PASIDS..=last / LEAF_PASIDS).all(|leaf| {
            // The links first: who finds host words finds them too.
            let linked = self.links.as_ref().is_none_or(|links| grown(links, leaf));
            linked && grown(&self.hosts, leaf)
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let links = self.links.as_ref().map_or(0, Sparse::memory_bytes);
        self.hosts.memory_bytes() + links
    }

    #[inline(always)]
    fn host(&self, number: u32) -> Option<&AtomicU64> {
        Some(self.hosts.leaf_of(number)?.word(number))
    }

    #[inline(always)]
    fn link(&self, number: u32) -> Option<&AtomicU64> {
        Some(self.links.as_ref()?.leaf_of(number)?.word(number))
    }

    /// Whether there is memory for the entry of `number`.
    ///
    /// Wait-free.
    pub(super) fn has_place(&self, number: u32) -> bool {
        self.host(number).is_some()
    }

    /// The entry of `number`, if there is one.
    ///
    /// Lock-free: it goes round only when another thread attached the number.
    #[inline]
    pub(super) fn find(&self, number: u32) -> Option<Seen> {
        let host = self.host(number)?;
        let Some(link) = self.link(number) else {
            // Acquire: pairs with the release of `enter`: who sees the handle sees its
            // allocation, and what was done before it was attached.
            let handle = Handle::from_raw(host.load(Ordering::Acquire)).ok()?;
            let link = DIRECT;
            return Some(Seen { handle, link });
        };
        loop {
            // Acquire: pairs with the release of `enter_linked`: who sees this version
            // sees that its host word was seized, so no handle from before.
            let before = link.load(Ordering::Acquire);
            // Acquire: as above; who sees the handle sees its version too.
            let handle = Handle::from_raw(host.load(Ordering::Acquire)).ok()?;
            // Relaxed: the host word acquired the link of its handle. A later one is
            // another version.
            let after = link.load(Ordering::Relaxed);
            if before == after || planted(Mutation::AliasReadOnce) {
                let link = before;
                return Some(Seen { handle, link });
            }
        }
    }

    /// Makes an entry, which takes over a reference on the allocation, unless there is one:
    /// then it says `false`.
    ///
    /// Wait-free.
    pub(super) fn enter(&self, number: u32, below: Option<Pasid>, handle: Handle) -> bool {
        let Some(host) = self.host(number) else {
            return false;
        };
        let raw = handle.to_raw();
        match self.link(number) {
            Some(link) => Entries::enter_linked(host, link, below, raw),
            None => {
                // Release: pairs with the acquire of `find` and `leave`: who sees the
                // handle sees its allocation.
                let ordering = unless(Mutation::AliasEnteredRelaxed, Ordering::Release);
                Entries::take(host, raw, ordering)
            }
        }
    }

    /// Writes `word` where nothing is, if nothing is.
    #[inline(always)]
    fn take(host: &AtomicU64, word: u64, ordering: Ordering) -> bool {
        #[cfg(loom)]
        if planted(Mutation::AliasEnteredInTwoSteps) {
            return Entries::take_in_two_steps(host, word);
        }
        // Failure Relaxed: nothing is read after it.
        let taken = host.compare_exchange(NONE, word, ordering, Ordering::Relaxed);
        taken.is_ok()
    }

    fn enter_linked(host: &AtomicU64, link: &AtomicU64, below: Option<Pasid>, raw: u64) -> bool {
        // Acquire: pairs with the release of `leave`, which followed the link of the last
        // entry.
        if !Entries::take(host, ENTERING, Ordering::Acquire) {
            return false;
        }
        let to = below.map_or(DIRECT, |number| u64::from(number.get()));
        // Relaxed: acquired above, and nobody else writes it (L1).
        let before = link.load(Ordering::Relaxed);
        let version = (before & !(VERSION_ONE - 1)).wrapping_add(VERSION_ONE);
        // Release: pairs with the acquire of `find`: who sees the version sees the seizure.
        link.store(version | to, Ordering::Release);
        // Release: pairs with the acquire of `find` and `leave`: who sees the handle sees
        // its link and its allocation.
        let ordering = unless(Mutation::AliasEnteredRelaxed, Ordering::Release);
        host.store(raw, ordering);
        true
    }

    /// Ends the entry of `number`. Whoever gets the handle has its reference (L2).
    ///
    /// Lock-free: it goes round only when another thread changed the entry.
    pub(super) fn leave(&self, number: u32) -> Option<Handle> {
        let host = self.host(number)?;
        // Relaxed: only chooses what to exchange.
        let mut raw = host.load(Ordering::Relaxed);
        loop {
            let handle = Handle::from_raw(raw).ok()?;
            #[cfg(loom)]
            if planted(Mutation::AliasLeftInTwoSteps) {
                return Entries::leave_in_two_steps(host, handle);
            }
            // AcqRel: acquire pairs with the release of `enter`, for the memory of the
            // allocation whose reference is given back next. Release pairs with the
            // acquire of who attaches next, and of who is told that nothing is attached.
            // Failure Relaxed: as above.
            match host.compare_exchange(raw, NONE, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(handle),
                Err(actual) => raw = actual,
            }
        }
    }

    /// The lowest of the numbers `first ..= last` that has an entry, when it is looked at.
    ///
    /// Lock-free: one look at each number that there is memory for.
    pub(super) fn first(&self, first: u32, last: u32) -> Option<(u32, Seen)> {
        self.hosts.first_where(first, last, |number, _| {
            self.find(number).map(|seen| (number, seen))
        })
    }
}
