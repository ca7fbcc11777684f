// SPDX-License-Identifier: MIT OR Apache-2.0
//! One virtual table: attaching a guest's numbers, and looking them up. The module above
//! says why a look-up is one step.

use super::entries::{Entries, Seen};
use crate::counted::Counted;
use crate::error::{Error, Result};
use crate::grant::Allocate;
use crate::handle::Handle;
use crate::owned::{Held, Ref};
use crate::pasid::{Pasid, PasidWidth};
use crate::pool::Pool;
use crate::range::PasidRange;
use crate::sync::{Mutation, planted};
use core::fmt;

/// How many virtual tables may lie over one another.
pub(crate) const LEVELS: u32 = 8;

/// What the handles of one virtual table refer to.
pub struct VirtualCore<S: Pool> {
    pub(super) entries: Entries,
    width: PasidWidth,
    /// 1 for a table over none.
    level: u32,
    below: Option<VirtualTable<S>>,
    pub(super) pool: S,
}

/// The numbers that a guest has on one of its devices, and the host PASIDs behind them.
///
/// A counted handle: a clone refers to the same table. When the last is dropped, what is
/// attached is detached. See [`AliasMap`](crate::AliasMap).
///
/// The numbers are the guest's: 0 is one like any other, since for a guest it may be the
/// RID_PASID of its device. What a guest must not use it is for its caller to refuse.
///
/// ```
/// use pasid::{AliasMap, Error, Pasid, PasidRange, PasidWidth, Pool, Scope, SetConfig, Space};
/// use pasid::SpaceKind;
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set(SetConfig::new(Scope::Global))?;
/// let [one, two, three] = [1, 2, 3].map(|number| Pasid::new(number).expect("20 bits"));
///
/// // A guest's device, and what a guest nested in it has there.
/// let (outer, inner) = (AliasMap::new(), AliasMap::new());
/// let table = outer.add_table(PasidWidth::new(10)?, &set)?;
/// let nested = inner.add_nested(PasidWidth::new(8)?, &table)?;
/// assert_eq!((table.width().bits(), table.pool().range()), (10, set.range()));
/// assert!(nested.below().is_some_and(|below| below.is_same(&table)));
///
/// // An entry holds a reference, so the PASID stays although its owner frees it.
/// table.preload(PasidRange::new(one, three)?)?;
/// nested.preload(one.into())?;
/// let process = set.alloc(set.range(), 0)?;
/// let handle = process.handle();
/// table.attach(two, handle)?;
/// nested.attach_below(one, two)?;
/// assert_eq!(table.attach(two, handle), Err(Error::AlreadyAttached(two)));
/// assert_eq!(nested.find(one)?, handle);
/// assert_eq!(nested.find_and_get(one)?.pasid(), process.pasid());
///
/// // The outer guest takes it away, and the nested guest no longer reaches it.
/// assert_eq!(table.detach(two)?, handle);
/// assert!(nested.find(one).is_err());
/// nested.detach_all();
/// drop(process);
/// assert_eq!(set.statistics().freeing, 0);
/// # Ok::<(), Error>(())
/// ```
pub struct VirtualTable<S: Pool> {
    pub(super) core: Counted<VirtualCore<S>>,
}

impl<S: Pool> Clone for VirtualTable<S> {
    fn clone(&self) -> VirtualTable<S> {
        VirtualTable {
            core: self.core.clone(),
        }
    }
}

impl<S: Pool> VirtualTable<S> {
    /// A table over `below`, or over none.
    pub(crate) fn new(
        width: PasidWidth,
        pool: S,
        below: Option<&VirtualTable<S>>,
    ) -> Result<VirtualTable<S>> {
        let level = below.map_or(1, |below| below.core.level + 1);
        if level > LEVELS {
            return Err(Error::TooManyLevels { levels: LEVELS });
        }
        let core = Counted::new(VirtualCore {
            entries: Entries::new(below.is_some()),
            width,
            level,
            below: below.cloned(),
            pool,
        });
        Ok(VirtualTable {
            core: core.ok_or(Error::OutOfMemory)?,
        })
    }

    /// Names the table among others.
    pub(crate) fn address(&self) -> *const () {
        self.core.as_ptr().as_ptr().cast_const().cast()
    }

    /// Enters a number, which takes over a reference on the allocation; unless it has an
    /// entry, or there is no memory. Then it says `false`.
    pub(crate) fn take_over(&self, guest: Pasid, below: Option<Pasid>, handle: Handle) -> bool {
        self.core.entries.enter(guest.get(), below, handle)
    }

    /// How many PASID bits the guest is shown.
    ///
    /// Progress: wait-free. Context: any.
    pub fn width(&self) -> PasidWidth {
        self.core.width
    }

    /// What the host PASIDs are from.
    ///
    /// Progress: wait-free. Context: any.
    pub fn pool(&self) -> &S {
        &self.core.pool
    }

    /// The table that entries may point into, of a nested guest's.
    ///
    /// Progress: wait-free. Context: any.
    pub fn below(&self) -> Option<&VirtualTable<S>> {
        self.core.below.as_ref()
    }

    /// Whether both are handles of the same table.
    ///
    /// Progress: wait-free. Context: any.
    #[must_use]
    pub fn is_same(&self, other: &VirtualTable<S>) -> bool {
        self.core.ptr_eq(&other.core)
    }

    // ---- Data calls ----------------------------------------------------------------

    /// Attaches the guest's number to the host PASID that `handle` names. The entry takes
    /// a reference of its own.
    ///
    /// Progress: lock-free. Context: any; never allocates memory. Where payloads are
    /// dropped, that in which [`Pool::get`] may be called.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`] names the guest's number; [`Error::DoesNotFit`] if it is
    /// beyond the table's width; [`Error::OutOfMemory`] without [`VirtualTable::preload`].
    /// Of the host PASID: [`Error::BeingFreed`], [`Error::Stale`] if the allocation is over
    /// or another id space's, [`Error::WrongSet`], [`Error::TooManyReferences`],
    /// [`Error::Closing`]. Nothing is changed then.
    pub fn attach(&self, guest: Pasid, handle: Handle) -> Result<()> {
        self.check_place(guest)?;
        #[cfg(loom)]
        if planted(Mutation::AliasEnteredUncounted) {
            return self.attach_uncounted(guest, handle);
        }
        let reference = self.core.get(handle)?;
        self.enter(guest, None, reference)
    }

    /// Attaches the guest's number to what the table [below](crate::AliasMap::add_nested) has at
    /// `number`, as long as it has it there. The entry takes a reference of its own on the
    /// host PASID.
    ///
    /// Progress: lock-free. Context: as [`VirtualTable::attach`].
    ///
    /// # Errors
    /// As [`VirtualTable::attach`]; [`Error::NotAttached`] names `number` if there is no
    /// table below or nothing is attached there, [`Error::DoesNotFit`] also if it is beyond
    /// that table's width. Nothing is changed then.
    pub fn attach_below(&self, guest: Pasid, number: Pasid) -> Result<()> {
        self.check_place(guest)?;
        let below = self.below().ok_or(Error::NotAttached(number))?;
        let reference = below.find_and_get(number)?;
        self.enter(guest, Some(number), reference)
    }

    /// Detaches the guest's number, and gives back the entry's reference. Returns what was
    /// attached.
    ///
    /// References that look-ups took stay. Whoever looks afterwards finds nothing.
    ///
    /// Progress: lock-free. Context: any; where payloads are dropped, that in which a
    /// [`Ref`] may be.
    ///
    /// # Errors
    /// [`Error::NotAttached`] names the guest's number, [`Error::DoesNotFit`].
    pub fn detach(&self, guest: Pasid) -> Result<Handle> {
        self.check_fits(guest)?;
        let handle = self.core.take_out(guest.get());
        handle.ok_or(Error::NotAttached(guest))
    }

    /// Detaches every number that is attached when it is passed: when the guest resets its
    /// device.
    ///
    /// Progress: each step is lock-free; bounded by the memory of the table. Context: as
    /// [`VirtualTable::detach`].
    pub fn detach_all(&self) {
        self.core.detach_all();
    }

    /// The host PASID behind the guest's number, at some instant during the call. It holds
    /// nothing: [`VirtualTable::find_and_get`] does.
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// As [`VirtualTable::find_and_get`].
    pub fn find(&self, guest: Pasid) -> Result<Handle> {
        let (handle, ()) = self.looked_up(guest, |source, handle| source.look(handle))?;
        Ok(handle)
    }

    /// Finds the host PASID behind the guest's number and takes a reference to it in one
    /// step: it was attached, and live, at some instant during the call, and is nobody
    /// else's as long as the reference is held.
    ///
    /// Progress: lock-free. Context: any; where payloads are dropped, that in which
    /// [`Pool::get`] may be called.
    ///
    /// # Errors
    /// [`Error::BeingFreed`] names the host PASID, which is attached and was revoked;
    /// [`Error::NotAttached`] names the guest's number, which has no entry, or one whose
    /// entry below is gone or has become another; [`Error::DoesNotFit`] if it is beyond the
    /// table's width; [`Error::TooManyReferences`].
    #[inline]
    pub fn find_and_get(&self, guest: Pasid) -> Result<Ref<S>> {
        let (_, held) =
            self.looked_up(guest, |source, handle| source.get(handle).map(Held::from))?;
        Ok(Ref::new(self.core.pool.clone(), held))
    }

    /// Finds the host PASID, and `look`s at it.
    #[inline]
    fn looked_up<R>(
        &self,
        guest: Pasid,
        look: impl Fn(&S::Source, Handle) -> Result<R>,
    ) -> Result<(Handle, R)> {
        self.check_fits(guest)?;
        let source = self.core.pool.source();
        loop {
            let handle = self.resolve(guest)?;
            let why = match look(source, handle) {
                Ok(looked) => return Ok((handle, looked)),
                Err(why) => why,
            };
            // What is refused may be so because it was detached meanwhile.
            if self.resolve(guest) == Ok(handle) || planted(Mutation::AliasAskedOnce) {
                return Err(match why {
                    // Its set is: the entry's PASID was revoked with it.
                    Error::Closing => Error::BeingFreed(handle.pasid()),
                    why => why,
                });
            }
        }
    }

    /// The allocation behind the guest's number at some instant during the call. It was
    /// not over then: the entry, and each below it, held a reference.
    #[inline]
    fn resolve(&self, guest: Pasid) -> Result<Handle> {
        let core = &*self.core;
        loop {
            let seen = core.entries.find(guest.get());
            let seen = seen.ok_or(Error::NotAttached(guest))?;
            match (&core.below, seen.below()) {
                (Some(below), Some(number)) if !planted(Mutation::AliasBelowNotAsked) => {
                    if let Some(found) = self.resolve_below(guest, seen, below, number) {
                        return found;
                    }
                }
                _ => return Ok(seen.handle()),
            }
        }
    }

    /// The same by the table below. `None` if the entry is not the same any more.
    fn resolve_below(
        &self,
        guest: Pasid,
        seen: Seen,
        below: &VirtualTable<S>,
        number: Pasid,
    ) -> Option<Result<Handle>> {
        let found = below.resolve(number);
        let still = self.core.entries.find(guest.get()) == Some(seen);
        if !still && !planted(Mutation::AliasNotLookedAtAgain) {
            return None;
        }
        Some(match found {
            Ok(handle) if handle == seen.handle() => Ok(handle),
            // The number that was asked for is the one that the caller knows.
            _ => Err(Error::NotAttached(guest)),
        })
    }

    /// Enters what `reference` holds, which the entry takes over.
    fn enter(&self, guest: Pasid, below: Option<Pasid>, reference: Ref<S>) -> Result<()> {
        let entries = &self.core.entries;
        if !entries.enter(guest.get(), below, reference.handle()) {
            return Err(Error::AlreadyAttached(guest));
        }
        // The pool that goes with the reference is held by the table too.
        let _ = reference.into_raw();
        Ok(())
    }

    fn check_fits(&self, guest: Pasid) -> Result<()> {
        let width = self.core.width;
        if guest <= width.last() {
            return Ok(());
        }
        Err(Error::DoesNotFit {
            pasid: guest,
            width,
        })
    }

    /// Whether the table has a place for the guest's number.
    fn check_place(&self, guest: Pasid) -> Result<()> {
        self.check_fits(guest)?;
        match self.core.entries.has_place(guest.get()) {
            true => Ok(()),
            false => Err(Error::OutOfMemory),
        }
    }

    // ---- Memory --------------------------------------------------------------------

    /// Puts memory in place for the guest's numbers in `range`: 2 KiB for each 256, of a
    /// nested table 4 KiB. Returns the bytes added meanwhile.
    ///
    /// Attaching never allocates memory; so this comes first.
    ///
    /// Progress: lock-free. Context: may allocate memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; what was put in place stays. [`Error::DoesNotFit`] if the
    /// range reaches beyond the width.
    pub fn preload(&self, range: PasidRange) -> Result<usize> {
        self.check_fits(range.last())?;
        let before = self.memory_bytes();
        match self.core.entries.grow(range) {
            true => Ok(self.memory_bytes().saturating_sub(before)),
            false => Err(Error::OutOfMemory),
        }
    }

    /// Bytes of memory in use by the table.
    ///
    /// Progress: wait-free. Context: any.
    pub fn memory_bytes(&self) -> usize {
        size_of::<VirtualCore<S>>() + self.core.entries.memory_bytes()
    }
}

impl<S: Pool> VirtualCore<S> {
    pub(super) fn get(&self, handle: Handle) -> Result<Ref<S>> {
        self.pool.clone().get(handle)
    }

    /// Ends the entry of `number`, and gives back its reference.
    fn take_out(&self, number: u32) -> Option<Handle> {
        #[cfg(loom)]
        if planted(Mutation::AliasPutFirst) {
            return self.take_out_put_first(number);
        }
        let handle = self.entries.leave(number)?;
        self.put(handle);
        Some(handle)
    }

    /// Gives back a reference that an entry held.
    pub(super) fn put(&self, handle: Handle) {
        // SAFETY: the entry took it from `into_raw` of a Ref of this pool, and the caller
        // is the one who took it out of the entry.
        let reference = unsafe { Ref::from_raw(self.pool.clone(), handle.to_raw()) };
        // It cannot be refused: a reference was held.
        drop(reference);
    }

    fn detach_all(&self) {
        let (mut next, last) = (Some(0), self.width.last().get());
        while let Some((number, _)) = next.and_then(|first| self.entries.first(first, last)) {
            // It may be gone by now.
            let _ = self.take_out(number);
            next = (number < last).then_some(number + 1);
        }
    }
}

impl<S: Pool> Drop for VirtualCore<S> {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            // A model that failed is unwinding, and loom's objects are gone.
            return;
        }
        self.detach_all();
    }
}

impl<S: Pool> fmt::Debug for VirtualTable<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualTable")
            .field("width", &self.width())
            .field("level", &self.core.level)
            .finish_non_exhaustive()
    }
}
