// SPDX-License-Identifier: MIT OR Apache-2.0
//! One PASID for one address space, however many devices are bound to it.
//!
//! # Protocol
//! The cell is one word, which says all:
//!
//! | word | meaning | goes on to |
//! | --- | --- | --- |
//! | 0 | nothing was bound yet | the handle of who binds first, or retired |
//! | a handle in raw form | the PASID that was bound last | the next one's, in a cell until the last unbind once that is over; or retired |
//! | 1, which no handle is | retired | nothing |
//!
//! Whoever finds a handle takes a reference by it, which the allocation's state word grants
//! or refuses. Whoever finds none allocates, and puts the handle there by compare-exchange.
//! Who loses that looks again, at the winner's, and gives its own PASID back at the end.
//!
//! # Invariants
//! * **B1** While a binding is held that was not revoked, the word is its handle, or the cell
//!   is retired. A handle is replaced only by who was told that its allocation is over, and
//!   handles never come again.
//! * **B2** In a cell that stays, the allocation's own reference is the cell's, from the exchange
//!   that puts the handle there to the one that takes it out. So it is given back once.
//! * **B3** Once the cell is retired, what it had is revoked. The exchange that retires it
//!   takes the word out, and no compare-exchange succeeds on it any more.
//!
//! # Bindings
//! A binding is a plain [`Ref`], and unbinding is dropping it. A type of its own would have
//! nothing to add but conversions, for attaching, pinning, payloads and the raw form.
//!
//! # Progress
//! Lock-free. It goes round only because another thread changed the word.

use crate::error::{Error, Result};
use crate::grant::Allocate;
use crate::handle::Handle;
use crate::owned::{Held, Owned, Ref};
use crate::payload::sealed::Word;
use crate::pool::Pool;
use crate::radix::{IN_PLACE, MAY_GROW};
use crate::range::PasidRange;
use crate::sync::{AtomicU64, Mutation, Ordering, const_unless_loom, planted, unless};
use core::fmt;

const UNBOUND: u64 = 0;
const RETIRED: u64 = 1;

const _: () = assert!(
    Handle::from_raw(UNBOUND).is_err() && Handle::from_raw(RETIRED).is_err(),
    "no handle is taken for what the word says otherwise"
);

/// When a cell's PASID comes free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Retired,
    LastUnbind,
}

/// The PASID of one address space: allocated by whoever binds first, shared by all who bind.
///
/// The cell lives in the object that stands for the address space, such as a process's
/// memory map, and costs 16 bytes there beside the way to hold the pool. Each device that
/// is bound to the address space gets the same PASID, as a [`Ref`] of its own, which it
/// [attaches](crate::Attach) and drops to unbind. Sharing a PASID that works on every
/// device takes a set of scope [`Global`](crate::Scope::Global).
///
/// [`PasidCell::new`] makes one that keeps its PASID until it is retired: the address space
/// has one number for its whole life, as CPUs that submit work by it (ENQCMD) want.
/// With [`PasidCell::until_last_unbind`] it goes with the last binding, and the next to bind
/// gets another one.
///
/// The example `sva_host` tells it whole, for two devices of different width.
///
/// The same cell, with a set of the device's table, has a driver's PASID for in-kernel DMA
/// (what Linux's drivers of such devices call the DMA PASID; that of requests without a PASID
/// is RID_PASID): the first part of the driver to want it reserves the number, the others take
/// references.
///
/// ```
/// use pasid::{Error, PasidCell, PasidWidth, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Both);
/// let users = space.add_set(SetConfig::new(Scope::Global))?;
/// let cell = PasidCell::new(&users);
///
/// // Two devices are bound to the address space, one of 20 bits and one of 8.
/// let wide = cell.bind(PasidWidth::MAX.range(), 0xFEED)?;
/// let narrow = cell.bind(PasidWidth::new(8)?.range(), 0xFEED)?;
/// assert_eq!(wide.handle(), narrow.handle());
/// assert_eq!(cell.find(), Some(wide.handle()));
///
/// // Both are unbound: the PASID stays the address space's, until that is gone.
/// drop((wide, narrow));
/// assert!(cell.find().is_some());
/// cell.retire();
/// assert_eq!(cell.bind(users.range(), 0).err(), Some(Error::CellRetired));
/// assert_eq!(users.count_live(users.range()), 0);
/// // Another, whose PASID goes with the last binding.
/// let cell = PasidCell::until_last_unbind(&users);
/// drop(cell.bind(cell.pool().range(), 0xFEED)?);
/// assert!(cell.find().is_none() && !cell.is_retired());
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "iommu_mm")]
#[doc(alias = "ioasid")]
#[doc(alias = "DMA PASID")]
#[doc(alias = "RID_PASID")]
#[doc(alias = "IOMMU_NO_PASID")]
#[doc(alias = "ENQCMD")]
pub struct PasidCell<S: Pool> {
    set: S,
    until: Until,
    word: AtomicU64,
}

const _: () = assert!(cfg!(loom) || size_of::<PasidCell<&crate::IdSpace>>() <= 24);

impl<S: Pool> PasidCell<S> {
    const_unless_loom! {
        /// A cell without a PASID. The one that it gets stays until [`PasidCell::retire`],
        /// or until the cell is dropped.
        ///
        /// Progress: wait-free. Context: any.
        pub fn new(set: S) -> PasidCell<S> {
            PasidCell {
                set,
                until: Until::Retired,
                word: AtomicU64::new(UNBOUND),
            }
        }
    }

    const_unless_loom! {
        /// A cell without a PASID, whose PASID comes free with its last binding: with the last
        /// [`Ref`] from [`PasidCell::bind`], and whatever was attached by them.
        ///
        /// For a device that has few. Who binds later may get another number.
        ///
        /// Progress: wait-free. Context: any.
        pub fn until_last_unbind(set: S) -> PasidCell<S> {
            PasidCell {
                set,
                until: Until::LastUnbind,
                word: AtomicU64::new(UNBOUND),
            }
        }
    }

    /// Binds: takes a reference to the address space's PASID, or allocates it within `limits`,
    /// inclusive on both ends, if it has none. `limits` is what the caller's device can have: its
    /// table's [width](crate::Table::width), or less. `payload` is for who allocates; otherwise,
    /// and where the call fails, it is dropped.
    ///
    /// However many bind at once, they get one PASID. Those who lose have allocated one for a
    /// moment, of which an observer is told, and which awaits a flush where the set's do.
    ///
    /// A device narrower than those bound before it may be refused, since the number is fixed by the
    /// first. Where it is known which devices will come, bind first within the limits of the
    /// narrowest; or keep low numbers by [`Policy::PreserveNarrow`](crate::Policy::PreserveNarrow)
    /// in other sets.
    ///
    /// Progress: lock-free. Context: where [`Pool::alloc`] may be called.
    ///
    /// # Errors
    /// [`Error::OutsideLimits`] if the address space has a PASID that is not within
    /// `limits`, which it keeps; [`Error::CellRetired`]; [`Error::BeingFreed`] if somebody
    /// revoked the PASID: in a cell that stays until that is retired, otherwise until the last
    /// reference is gone; [`Error::TooManyReferences`]. If it has none, also what
    /// [`Pool::alloc`] says, if nobody has bound by then. Where another call is about to
    /// bind the last PASID or with the last credit, *exhausted* or *quota exceeded* may
    /// be said still.
    ///
    /// ```
    /// use pasid::{Error, PasidCell, PasidRange, Scope, SetConfig, Space, SpaceKind};
    ///
    /// let space = Space::new(SpaceKind::Both);
    /// let users = space.add_set(SetConfig::new(Scope::Global))?;
    /// let cell = PasidCell::new(&users);
    /// let first = cell.bind(PasidRange::try_from(256..=0xffff)?, 0)?;
    ///
    /// let (pasid, limits) = (first.pasid(), PasidRange::try_from(1..=255)?);
    /// assert_eq!(cell.bind(limits, 0).err(), Some(Error::OutsideLimits { pasid, limits }));
    /// assert_eq!(cell.find(), Some(first.handle()));
    /// # Ok::<(), Error>(())
    /// ```
    #[doc(alias = "iommu_sva_bind_device")]
    #[doc(alias = "iommu_sva_alloc_pasid")]
    #[doc(alias = "iommu_alloc_mm_data")]
    pub fn bind(&self, limits: PasidRange, payload: S::Payload) -> Result<Ref<S>> {
        self.bind_anyhow::<MAY_GROW>(limits, payload)
    }

    /// Binds like [`PasidCell::bind`], and uses the memory that is there.
    ///
    /// Progress: lock-free. Context: any; never allocates memory.
    ///
    /// # Errors
    /// As [`PasidCell::bind`]; of what allocating says, that of
    /// [`Pool::alloc_in_place`].
    ///
    /// ```
    /// use pasid::{Error, PasidCell, Scope, SetConfig, Space, SpaceKind};
    ///
    /// let space = Space::new(SpaceKind::Global);
    /// let users = space.add_set(SetConfig::new(Scope::Global))?;
    /// let cell = PasidCell::until_last_unbind(&users);
    /// assert_eq!(cell.bind_in_place(users.range(), 0).err(), Some(Error::OutOfMemory));
    /// users.preload(users.range().first().into())?;
    /// let binding = cell.bind_in_place(users.range(), 0)?;
    /// let first = binding.handle();
    ///
    /// drop(binding); // the last one
    /// assert_eq!(cell.find(), None);
    /// let again = cell.bind_in_place(users.range(), 0)?;
    /// assert_ne!(again.handle(), first);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn bind_in_place(&self, limits: PasidRange, payload: S::Payload) -> Result<Ref<S>> {
        self.bind_anyhow::<IN_PLACE>(limits, payload)
    }

    /// The PASID that the address space has, if it has one that is live. It protects nothing.
    ///
    /// Progress: wait-free. Context: any.
    #[doc(alias = "mm_valid_pasid")]
    #[doc(alias = "mm_get_enqcmd_pasid")]
    pub fn find(&self) -> Option<Handle> {
        let handle = Handle::from_raw(self.look()).ok()?;
        self.set.source().is_live(handle).then_some(handle)
    }

    /// Ends the cell, with the address space: its PASID is revoked, and comes free when
    /// the last binding goes; nobody binds any more. Retiring twice is no error, and
    /// dropping the cell retires it.
    ///
    /// Progress: lock-free. Context: any.
    #[doc(alias = "mm_pasid_drop")]
    pub fn retire(&self) {
        let word = self.take_out();
        let Ok(handle) = Handle::from_raw(word) else {
            return;
        };
        let source = self.set.source();
        match self.until {
            Until::Retired => {
                // It cannot be missing while the cell's own reference is there (B2).
                if let Ok(slot) = source.slot_of(handle) {
                    source.free_held(handle, slot);
                }
            }
            // Stale if the last binding went before, and then there is nothing to end.
            Until::LastUnbind => drop(source.revoke(handle)),
        }
    }

    /// Whether the cell was retired.
    ///
    /// Progress: wait-free. Context: any.
    pub fn is_retired(&self) -> bool {
        self.look() == RETIRED
    }

    /// What the cell's PASID is allocated from.
    ///
    /// Progress: wait-free. Context: any.
    pub fn pool(&self) -> &S {
        &self.set
    }

    // ---- The word ------------------------------------------------------------------

    fn look(&self) -> u64 {
        // Acquire: pairs with the release of `put_there`: who sees a handle sees its
        // allocation live, or over; and with that of `take_out`: who sees the cell retired
        // sees what came before that.
        self.word
            .load(unless(Mutation::BindRelaxed, Ordering::Acquire))
    }

    /// Puts `handle` in the place of what was `seen`, or says what is there.
    fn put_there(&self, seen: u64, handle: Handle) -> Result<(), u64> {
        if planted(Mutation::BindInTwoSteps) {
            let now = self.look();
            if now == seen {
                // Relaxed: only in a canary.
                self.word.store(handle.to_raw(), Ordering::Relaxed);
                return Ok(());
            }
            return Err(now);
        }
        // Release: pairs with the acquire of `look` and `take_out`, which makes the
        // allocation visible, and the memory that it is in. Failure Acquire: as in `look`,
        // since what it brings is looked at next.
        let success = unless(Mutation::BindRelaxed, Ordering::Release);
        let failure = unless(Mutation::BindRelaxed, Ordering::Acquire);
        self.word
            .compare_exchange(seen, handle.to_raw(), success, failure)
            .map(|_| ())
    }

    /// Retires the cell, and returns what was there.
    fn take_out(&self) -> u64 {
        if planted(Mutation::RetireInTwoSteps) {
            let word = self.look();
            // Relaxed: only in a canary.
            self.word.store(RETIRED, Ordering::Relaxed);
            return word;
        }
        // AcqRel: acquire pairs with the release of `put_there`, so that what is there can
        // be ended; release, with the acquire of `look`.
        self.word
            .swap(RETIRED, unless(Mutation::BindRelaxed, Ordering::AcqRel))
    }

    // ---- Binding -------------------------------------------------------------------

    fn bind_anyhow<const GROW: bool>(
        &self,
        limits: PasidRange,
        payload: S::Payload,
    ) -> Result<Ref<S>> {
        let mut brought = Brought::Payload(payload);
        let mut seen = self.look();
        loop {
            let why = match self.bound(seen, limits) {
                Ok(Some(binding)) => {
                    if planted(Mutation::BindLoserKeeps) {
                        core::mem::forget(brought);
                    }
                    return Ok(binding);
                }
                Ok(None) => match brought.allocated::<GROW>(&self.set, limits) {
                    Ok(owned) => match self.fill(seen, owned) {
                        Ok(binding) => return Ok(binding),
                        Err((owned, why)) => {
                            brought = Brought::Owned(owned);
                            why
                        }
                    },
                    Err((payload, error)) => {
                        brought = Brought::Payload(payload);
                        error
                    }
                },
                Err(error) => error,
            };
            // Whatever failed, another call may have bound meanwhile: this one's own PASID
            // may be what there was no other of.
            let now = self.look();
            if now == seen || planted(Mutation::BindLooksOnce) {
                return Err(why);
            }
            seen = now;
        }
    }

    /// A binding to what the word says, if it says something that is not over.
    fn bound(&self, word: u64, limits: PasidRange) -> Result<Option<Ref<S>>> {
        if word == RETIRED {
            return Err(Error::CellRetired);
        }
        let Ok(handle) = Handle::from_raw(word) else {
            return Ok(None);
        };
        match self.set.clone().get(handle) {
            Ok(binding) if limits.contains(binding.pasid()) => Ok(Some(binding)),
            Ok(binding) => Err(Error::OutsideLimits {
                pasid: binding.pasid(),
                limits,
            }),
            // The last binding is gone. In a cell that stays: it was just retired.
            Err(Error::Stale(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts what is `owned` in the place of what was `seen`, and binds to it. Gives it
    /// back if something else is there, and an error that counts only otherwise.
    fn fill(&self, seen: u64, owned: Owned<S>) -> Result<Ref<S>, (Owned<S>, Error)> {
        let lost = |owned| Err((owned, Error::CellRetired));
        match self.until {
            Until::Retired => {
                // Before the exchange: after it the cell may be retired, and the own
                // reference gone.
                let binding = match owned.get() {
                    Ok(binding) => binding,
                    Err(error) => return Err((owned, error)),
                };
                if self.put_there(seen, owned.handle()).is_err() {
                    return lost(owned);
                }
                // The own reference is the cell's now (B2).
                owned.into_raw();
                Ok(binding)
            }
            Until::LastUnbind => match self.put_there(seen, owned.handle()) {
                Ok(()) => Ok(owned.into_ref()),
                Err(_) => lost(owned),
            },
        }
    }
}

/// What a call that binds has brought, for the case that it needs it. Dropped at its end.
enum Brought<S: Pool> {
    Payload(S::Payload),
    Owned(Owned<S>),
}

impl<S: Pool> Brought<S> {
    /// The PASID, allocated if that was not done yet. Where it fails the payload comes back.
    fn allocated<const GROW: bool>(
        self,
        set: &S,
        limits: PasidRange,
    ) -> Result<Owned<S>, (S::Payload, Error)> {
        let payload = match self {
            Brought::Owned(owned) => return Ok(owned),
            Brought::Payload(payload) => payload,
        };
        let word = payload.into_word();
        let granted = set.source().allocate_anywhere::<GROW>(limits, 0, word);
        match granted.map(Held::from) {
            Ok(held) => Ok(Owned::new(set.clone(), held)),
            // SAFETY: from `into_word` just before, and an allocation that fails has not
            // published it, where it is one to be dropped (see `Allocate`).
            Err(error) => Err((unsafe { S::Payload::from_word(word) }, error)),
        }
    }
}

impl<S: Pool> Drop for PasidCell<S> {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        self.retire();
    }
}

impl<S: Pool> fmt::Debug for PasidCell<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasidCell")
            .field("bound", &self.find())
            .field("until", &self.until)
            .field("retired", &self.is_retired())
            .finish_non_exhaustive()
    }
}
