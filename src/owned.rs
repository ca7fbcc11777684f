// SPDX-License-Identifier: MIT OR Apache-2.0
//! Owned and Ref: who holds a PASID, as Rust values.

use crate::alloc::IdSpace;
use crate::error::{Error, Result};
use crate::grant::Grant;
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::radix::{IN_PLACE, MAY_GROW};
use crate::range::PasidRange;
use crate::slot::Slot;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;
use heap::sync::Arc;

mod sealed {
    pub trait Sealed {}
    impl Sealed for &super::IdSpace {}
    impl Sealed for heap::sync::Arc<super::IdSpace> {}
}

/// A way to hold a [`IdSpace`]: `&IdSpace`, `&'static IdSpace` or `Arc<IdSpace>`.
///
/// The calls that hand out references live here and take `self` by value, so that
/// what they return holds the space in the same way: `space.alloc(..)` on a
/// `IdSpace` borrows it, and `shared.clone().alloc(..)` on an `Arc<IdSpace>` keeps it.
/// Where a borrow will do, as on a fault path, `(&*shared).alloc(..)` spares the
/// `Arc`'s count.
///
/// ```
/// use pasid::{Owned, PasidWidth, IdSpace, Pool};
/// use std::sync::Arc;
///
/// let shared = Arc::new(IdSpace::new(PasidWidth::MAX));
/// let owned: Owned<Arc<IdSpace>> = shared.clone().alloc(shared.range(), 0)?;
/// std::thread::spawn(move || drop(owned)).join().unwrap();
/// assert!(!shared.any_live(shared.range()));
/// # Ok::<(), pasid::Error>(())
/// ```
pub trait Pool: Deref<Target = IdSpace> + Clone + sealed::Sealed {
    /// Allocates a free PASID of `range`, inclusive on both ends, in the order of
    /// the space's policy. `word` is the owner's, and comes back from look-ups.
    ///
    /// Progress: lock-free. Context: may allocate memory, 4 KiB for the first of each
    /// 256 PASIDs and 4.6 KiB for the first of each 16,384, which stay also if the
    /// call then fails. If there is none, it takes a PASID that has memory, though
    /// another comes first by the policy.
    ///
    /// # Errors
    /// [`Error::Exhausted`] only if at some instant during the call no PASID of the
    /// request was free; [`Error::OutOfMemory`] only if then every free one lay
    /// where no memory is and none could be had; [`Error::DoesNotFit`] if the whole
    /// range lies above the width (otherwise what lies above is left out);
    /// [`Error::NoPasidSupport`] on a space of width 0.
    ///
    /// ```
    /// use pasid::{Error, Pasid, PasidRange, PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let range = PasidRange::new(Pasid::new(5000)?, Pasid::new(5001)?)?;
    /// let a = space.alloc(range, 0)?;
    /// let b = space.alloc(range, 0)?;
    /// assert_eq!((a.pasid().get(), b.pasid().get()), (5000, 5001));
    /// assert_eq!(space.alloc(range, 0).err(), Some(Error::Exhausted { range }));
    /// # Ok::<(), Error>(())
    /// ```
    #[doc(alias = "ioasid_alloc")]
    #[inline(always)]
    fn alloc(self, range: PasidRange, word: u64) -> Result<Owned<Self>> {
        let held = self.alloc_raw::<MAY_GROW>(range, word)?.into();
        Ok(Owned { space: self, held })
    }

    /// Allocates like [`Pool::alloc`], and uses the memory that is there.
    ///
    /// Progress: lock-free. Context: any; never allocates memory.
    ///
    /// # Errors
    /// As [`Pool::alloc`]; [`Error::OutOfMemory`] if every free PASID of the
    /// request lies where no memory is: [`IdSpace::preload`] puts it there.
    ///
    /// ```
    /// use pasid::{Error, PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// assert_eq!(space.alloc_in_place(space.range(), 0).err(), Some(Error::OutOfMemory));
    /// space.preload(PasidWidth::new(8)?.range())?;
    /// assert_eq!(space.alloc_in_place(space.range(), 0)?.pasid().get(), 1);
    /// # Ok::<(), Error>(())
    /// ```
    #[inline(always)]
    fn alloc_in_place(self, range: PasidRange, word: u64) -> Result<Owned<Self>> {
        let held = self.alloc_raw::<IN_PLACE>(range, word)?.into();
        Ok(Owned { space: self, held })
    }

    /// Allocates exactly `pasid`.
    ///
    /// Progress: wait-free. Context: any; never allocates memory.
    ///
    /// # Errors
    /// [`Error::InUse`], for good if the PASID was used up (2^31 or more
    /// allocations of it);
    /// [`Error::Reserved`], [`Error::DoesNotFit`], [`Error::NoPasidSupport`];
    /// [`Error::OutOfMemory`] if there is no memory at its place ([`IdSpace::preload`]).
    ///
    /// ```
    /// use pasid::{Error, Pasid, PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let nine = Pasid::new(9)?;
    /// space.preload(nine.into())?;
    /// let owned = space.alloc_at(nine, 0)?;
    /// assert_eq!(space.alloc_at(nine, 0).err(), Some(Error::InUse(nine)));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    fn alloc_at(self, pasid: Pasid, word: u64) -> Result<Owned<Self>> {
        let held = self.alloc_at_raw(pasid, word)?.into();
        Ok(Owned { space: self, held })
    }

    /// Takes a reference to the allocation that `handle` names.
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// [`Error::Stale`] if the allocation is over or is another space's,
    /// [`Error::BeingFreed`] if it was revoked, [`Error::TooManyReferences`].
    ///
    /// ```
    /// use pasid::{PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let owned = space.alloc(space.range(), 7)?;
    /// assert_eq!(space.get(owned.handle())?.word(), 7);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[doc(alias = "ioasid_get")]
    #[inline]
    fn get(self, handle: Handle) -> Result<Ref<Self>> {
        let held = self.get_raw(handle)?.into();
        Ok(Ref { space: self, held })
    }

    /// Takes a reference to whatever allocation of `pasid` is live: the number is
    /// all that hardware reports.
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::BeingFreed`], [`Error::Reserved`],
    /// [`Error::DoesNotFit`], [`Error::NoPasidSupport`], [`Error::TooManyReferences`].
    ///
    /// ```
    /// use pasid::{PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let owned = space.alloc(space.range(), 0)?;
    /// assert_eq!(space.get_at(owned.pasid())?.handle(), owned.handle());
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    fn get_at(self, pasid: Pasid) -> Result<Ref<Self>> {
        let held = self.get_at_raw(pasid)?.into();
        Ok(Ref { space: self, held })
    }
}

impl Pool for &IdSpace {}
impl Pool for Arc<IdSpace> {}

/// A reference that is held: to which allocation, and where its slot is.
///
/// # Invariant
/// Whoever has one holds a reference to the allocation, and the space that the slot
/// is in. So the slot is there: a leaf goes only under `&mut IdSpace`, which no holder
/// of the space lets happen, and one in which a reference is held does not go.
#[derive(Clone, Copy)]
struct Held {
    handle: Handle,
    slot: NonNull<Slot>,
}

// SAFETY: a Held is a shared reference to a Slot, which is atomics, and a number.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

impl From<Grant<'_>> for Held {
    #[inline(always)]
    fn from(grant: Grant<'_>) -> Held {
        Held {
            handle: grant.handle,
            slot: NonNull::from(grant.slot),
        }
    }
}

impl Held {
    #[inline(always)]
    fn slot(&self) -> &Slot {
        // SAFETY: the slot is there as long as the reference is held (invariant), and
        // slots are only shared.
        unsafe { self.slot.as_ref() }
    }
}

/// An allocated PASID. Dropping it frees: the PASID is revoked, and comes free
/// with the last reference.
///
/// Size: the way to hold the space, and 16 bytes.
#[must_use = "dropping it frees the PASID"]
pub struct Owned<S: Pool> {
    space: S,
    held: Held,
}

/// A reference to an allocated PASID: while it lives, the PASID gets no other
/// owner. Dropping it gives the reference back.
///
/// Size: the way to hold the space, and 16 bytes.
#[must_use = "dropping it gives the reference back"]
pub struct Ref<S: Pool> {
    space: S,
    held: Held,
}

/// What both kinds of holder can do.
macro_rules! holder {
    ($holder:ident) => {
        impl<S: Pool> $holder<S> {
            /// The PASID: what hardware is given.
            #[inline]
            pub fn pasid(&self) -> Pasid {
                self.held.handle.pasid()
            }

            /// Names this allocation, and protects nothing.
            #[inline]
            pub fn handle(&self) -> Handle {
                self.held.handle
            }

            /// The owner's word.
            ///
            /// Progress: wait-free. Context: any.
            #[inline]
            pub fn word(&self) -> u64 {
                self.held.slot().word()
            }

            /// Puts `word` in the place of the owner's word, and returns the old one.
            /// Who reads the new word sees what was written before it was put there.
            ///
            /// Progress: wait-free. Context: any.
            #[inline]
            pub fn replace(&self, word: u64) -> u64 {
                self.held.slot().replace(word)
            }

            /// The raw form, without giving the reference back: see `from_raw`. The hold
            /// on the space goes: whoever keeps the raw form keeps the space too.
            #[inline]
            pub fn into_raw(self) -> u64 {
                let (space, held) = self.into_parts();
                drop(space);
                held.handle.to_raw()
            }

            /// The value that [`into_raw`](Self::into_raw) took apart.
            ///
            /// Progress: wait-free. Context: any.
            ///
            /// # Errors
            /// [`Error::InvalidHandle`] if `raw` cannot be a handle, [`Error::Stale`] if
            /// it cannot be one of this space.
            ///
            /// # Safety
            /// `raw` came from `into_raw` of this same type with this same space, and
            /// nothing was made of it or given back through it since.
            #[inline]
            pub unsafe fn from_raw(space: S, raw: u64) -> Result<Self> {
                let handle = Handle::from_raw(raw)?;
                let slot = NonNull::from(space.slot_of(handle)?);
                Ok(Self {
                    space,
                    held: Held { handle, slot },
                })
            }

            /// Takes the holder apart without dropping it.
            fn into_parts(self) -> (S, Held) {
                let holder = ManuallyDrop::new(self);
                // SAFETY: `holder` is not dropped and not used again, so the space is
                // moved out once.
                (unsafe { core::ptr::read(&holder.space) }, holder.held)
            }
        }

        impl<S: Pool> fmt::Debug for $holder<S> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = stringify!($holder);
                f.debug_tuple(name).field(&self.handle()).finish()
            }
        }
    };
}

holder!(Owned);
holder!(Ref);

impl<S: Pool> Owned<S> {
    /// A reference beside the owner's.
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// [`Error::BeingFreed`] if somebody revoked the PASID,
    /// [`Error::TooManyReferences`].
    ///
    /// ```
    /// use pasid::{PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let owned = space.alloc(space.range(), 0)?;
    /// let reference = owned.get()?;
    /// assert_eq!(reference.handle(), owned.handle());
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    pub fn get(&self) -> Result<Ref<S>> {
        self.space.clone().get(self.handle())
    }

    /// Makes the owner's reference one like any other: nobody revokes when it is
    /// dropped, and the PASID comes free with the last reference.
    ///
    /// Progress: wait-free. Context: any.
    ///
    /// ```
    /// use pasid::{PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let first = space.alloc(space.range(), 0)?.into_ref();
    /// let second = first.try_clone()?;
    /// drop(first);
    /// assert!(space.get(second.handle()).is_ok());
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    pub fn into_ref(self) -> Ref<S> {
        let (space, held) = self.into_parts();
        held.slot().disown();
        Ref { space, held }
    }
}

impl<S: Pool> Ref<S> {
    /// One more reference. Unlike [`Pool::get`] it is given also when the PASID
    /// was revoked, since its holder has one already.
    ///
    /// Progress: wait-free. Context: any.
    ///
    /// # Errors
    /// [`Error::TooManyReferences`] at 2^27 references.
    ///
    /// ```
    /// use pasid::{PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let owned = space.alloc(space.range(), 0)?;
    /// let one = owned.get()?;
    /// drop(owned);
    /// let two = one.try_clone()?;
    /// assert_eq!(one.pasid(), two.pasid());
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    pub fn try_clone(&self) -> Result<Ref<S>> {
        match self.held.slot().hold() {
            Ok(()) => Ok(Ref {
                space: self.space.clone(),
                held: self.held,
            }),
            Err(_) => Err(Error::TooManyReferences(self.handle())),
        }
    }
}

impl<S: Pool> Drop for Owned<S> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        let Held { handle, .. } = self.held;
        // The spot cannot be missing, nor the allocation over, while it is owned.
        if let Some(spot) = self.space.tree.spot(handle.pasid()) {
            if let Ok(left) = self.held.slot().free_owned(handle.generation()) {
                self.space.reclaim(spot, left);
            }
        }
    }
}

impl<S: Pool> Drop for Ref<S> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        let left = self.held.slot().drop_held();
        // The spot cannot be missing where a reference was held.
        if let Some(spot) = self.space.tree.spot(self.pasid()) {
            self.space.reclaim(spot, left);
        }
    }
}
