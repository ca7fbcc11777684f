// SPDX-License-Identifier: MIT OR Apache-2.0
//! Owned and Ref: who holds a PASID, as Rust values.

use crate::error::{Error, Result};
use crate::grant::{Allocate, Grant};
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::payload::Plain;
use crate::payload::sealed::Word;
use crate::pinned::Pinned;
use crate::pool::Pool;
use crate::slot::Slot;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

/// A reference that is held: to which allocation, and where its slot is.
///
/// # Invariant
/// Whoever has one holds a reference to the allocation, or its pin, and the pool that the
/// slot is in. So the slot is there: a leaf goes only under `&mut IdSpace`, which no holder
/// of the space lets happen, and one in which a reference is held does not go.
#[derive(Clone, Copy)]
pub(crate) struct Held {
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
    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    #[inline(always)]
    pub(crate) fn slot(&self) -> &Slot {
        // SAFETY: the slot is there as long as the reference is held (invariant), and
        // slots are only shared.
        unsafe { self.slot.as_ref() }
    }
}

/// An allocated PASID. Dropping it frees: the PASID is revoked, and comes free
/// with the last reference.
///
/// Size: the way to hold the space, and 16 bytes.
///
/// ```
/// use pasid::{Error, Owned, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set(SetConfig::new(Scope::Global))?;
/// let owned = set.alloc(set.range(), 1)?;
/// assert_eq!((owned.pasid(), owned.replace(2), owned.word()), (owned.handle().pasid(), 1, 2));
///
/// // Through C, as one number.
/// let raw = owned.into_raw();
/// // SAFETY: from `into_raw` on a reference to the same set, and made into one once.
/// let owned: Owned<&_> = unsafe { Owned::from_raw(&set, raw) }?;
///
/// // Freed, and its number comes free with the last reference.
/// let (number, reference) = (owned.pasid(), owned.get()?);
/// drop(owned);
/// assert_eq!(set.alloc(number.into(), 0).err(), Some(Error::Exhausted { range: number.into() }));
/// drop(reference);
/// assert!(set.alloc(number.into(), 0).is_ok());
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it frees the PASID"]
pub struct Owned<S: Pool> {
    pool: S,
    held: Held,
}

/// A reference to an allocated PASID: while it lives, the PASID gets no other
/// owner. Dropping it gives the reference back.
///
/// Size: the way to hold the space, and 16 bytes.
///
/// ```
/// use pasid::{Error, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set(SetConfig::new(Scope::Global))?;
/// let reference = set.alloc(set.range(), 7)?.into_ref();
/// let another = reference.try_clone()?;
/// drop(reference);
/// assert_eq!((another.word(), set.find(another.pasid())?.handle), (7, another.handle()));
/// drop(another);
/// assert_eq!(set.count_live(set.range()), 0);
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it gives the reference back"]
pub struct Ref<S: Pool> {
    pool: S,
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

            /// Pins the PASID: it gets no other owner as long as the pin lives, also after
            /// the last reference is gone and a flush has completed.
            ///
            /// Progress: lock-free. Context: any.
            ///
            /// # Errors
            /// [`Error::AlreadyPinned`]: a PASID has one pin at a time.
            #[inline]
            pub fn pin(&self) -> Result<Pinned<S>> {
                Pinned::new(self.pool.clone(), self.held)
            }

            pub(crate) fn new(pool: S, held: Held) -> Self {
                Self { pool, held }
            }

            pub(crate) fn pool(&self) -> &S {
                &self.pool
            }

            pub(crate) fn slot(&self) -> &Slot {
                self.held.slot()
            }

            /// The raw form, without giving the reference back: see `from_raw`. The hold
            /// on the pool goes: whoever keeps the raw form keeps the pool too.
            #[inline]
            pub fn into_raw(self) -> u64 {
                let (pool, held) = self.into_parts();
                drop(pool);
                held.handle.to_raw()
            }

            /// The value that [`into_raw`](Self::into_raw) took apart.
            ///
            /// Progress: wait-free. Context: any.
            ///
            /// # Errors
            /// [`Error::InvalidHandle`] if `raw` cannot be a handle, [`Error::Stale`] if
            /// it cannot be one of this pool.
            ///
            /// # Safety
            /// `raw` came from `into_raw` of this same type with this same pool, and
            /// nothing was made of it or given back through it since.
            #[inline]
            pub unsafe fn from_raw(pool: S, raw: u64) -> Result<Self> {
                let handle = Handle::from_raw(raw)?;
                let slot = NonNull::from(pool.source().slot_of(handle)?);
                Ok(Self {
                    pool,
                    held: Held { handle, slot },
                })
            }

            /// Takes the holder apart without dropping it.
            fn into_parts(self) -> (S, Held) {
                let holder = ManuallyDrop::new(self);
                // SAFETY: `holder` is not dropped and not used again, so the pool is
                // moved out once.
                (unsafe { core::ptr::read(&holder.pool) }, holder.held)
            }
        }

        impl<S: Pool<Payload: Plain>> $holder<S> {
            /// The owner's word, or what its plain payload is.
            ///
            /// Progress: wait-free. Context: any.
            #[inline]
            pub fn word(&self) -> S::Payload {
                // SAFETY: a word of this pool (D1), whose payload is plain.
                unsafe { S::Payload::from_word(self.held.slot().word()) }
            }

            /// Puts `word` in the place of the owner's word, and returns the old one.
            /// Who reads the new word sees what was written before it was put there.
            ///
            /// Progress: wait-free. Context: any.
            #[inline]
            pub fn replace(&self, word: S::Payload) -> S::Payload {
                let old = self.held.slot().replace(word.into_word());
                // SAFETY: as in `word`.
                unsafe { S::Payload::from_word(old) }
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
        self.pool.clone().get(self.handle())
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
        let (pool, held) = self.into_parts();
        held.slot().disown();
        Ref { pool, held }
    }
}

impl<S: Pool> Ref<S> {
    /// One more reference. Unlike [`Pool::get`] it is given also when the PASID
    /// was revoked, since its holder has one already.
    ///
    /// Progress: wait-free. Context: any.
    ///
    /// # Errors
    /// [`Error::TooManyReferences`] at 2^17 references.
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
                pool: self.pool.clone(),
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
        self.pool
            .source()
            .free_held(self.held.handle, self.held.slot());
    }
}

impl<S: Pool> Drop for Ref<S> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        self.pool
            .source()
            .put_held(self.held.handle, self.held.slot());
    }
}
