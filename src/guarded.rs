// SPDX-License-Identifier: MIT OR Apache-2.0
//! Payloads that are dropped: `Arc<T>` and `Box<T>`, and the look-ups under a guard.
//!
//! A look-up is the one of plain words, and the word is followed under the guard;
//! `epoch.rs` says why what it finds is there. A set of such payloads is never a usual one
//! (see `source.rs`): the short ways of allocating and freeing know nothing of dropping.

use crate::epoch::{Guard, retire};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::handle::Handle;
use crate::listing::Iter;
use crate::owned::{Owned, Ref};
use crate::pasid::Pasid;
use crate::payload::sealed::Word;
use crate::payload::{Dispose, Payload, pointer_of, word_of};
use crate::pool::Pool;
use crate::range::PasidRange;
use crate::set::IoasidSet;
use core::fmt;
use core::marker::PhantomData;
use heap::boxed::Box;
use heap::sync::Arc;

/// A payload that is dropped: an `Arc<T>` or a `Box<T>`. With the feature `epoch`.
///
/// It is dropped once, after the last reference to the PASID, or after it was replaced, and
/// after every guard under which it may have been seen; on whichever thread comes to it,
/// so `T` is [`Send`], [`Sync`] and `'static`, and its drop must not unwind. Where the PASID is
/// pinned, it is dropped after the pin. The epochs are those of the whole process: other users of
/// crossbeam-epoch's default collector delay drops too, and run them. A payload whose PASID is never given back,
/// because a raw form was forgotten, is never dropped.
///
/// Calls that may give back a reference or a pin, or put another payload in its place, may
/// retire a payload: the second table at the head of the crate's documentation lists
/// them. For a set of such payloads, and for a table to which its PASIDs are attached, these are
/// to be made where [`Guard::new`] may be, whatever context their own documentation allows
/// for plain payloads.
///
/// ```
/// use pasid::{Error, Pool, Scope, SetConfig, Space, SpaceKind, Guard};
/// use std::sync::Arc;
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set_of::<Arc<String>>(SetConfig::new(Scope::Global))?;
/// let name = Arc::new("compositor".to_string());
/// let owned = set.alloc(set.range(), name.clone())?;
///
/// // A look-up by number, without a locked operation but for the guard.
/// let guard = Guard::new();
/// assert_eq!(set.find_guarded(owned.pasid(), &guard)?.payload, "compositor");
///
/// // What was there before comes back with a count of its own.
/// let before = owned.replace_guarded(Arc::new("shell".to_string()), &guard);
/// assert!(Arc::ptr_eq(&before, &name));
/// assert_eq!(owned.payload(&guard), "shell");
/// # Ok::<(), Error>(())
/// ```
pub trait Guarded: Payload {
    /// What a look-up gives a reference to.
    type Target: Send + Sync + 'static;

    /// What is given back of a payload that was replaced. An `Arc<T>`, with a count of
    /// its own; a `&T` into the `Box<T>`, which is dropped after the guard.
    type Replaced<'g>;

    /// # Safety
    /// `word` is of this type, and is not dropped as long as the guard is there.
    #[doc(hidden)]
    unsafe fn replaced(word: u64, guard: &Guard) -> Self::Replaced<'_>;

    /// # Safety
    /// As for `replaced`.
    #[doc(hidden)]
    unsafe fn target(word: u64, guard: &Guard) -> &Self::Target;
}

// SAFETY: the pointer of an Arc of a sized value is one address; the count goes along.
unsafe impl<T: Send + Sync + 'static> Word for Arc<T> {
    const DISPOSE: Option<Dispose> = Some(retire::<Arc<T>>);

    fn into_word(self) -> u64 {
        word_of(Arc::into_raw(self))
    }

    // SAFETY: what the caller owes is said in `Word`.
    unsafe fn from_word(word: u64) -> Arc<T> {
        // SAFETY: from `Arc::into_raw`, whose count is taken once, as the caller promises.
        unsafe { Arc::from_raw(pointer_of(word)) }
    }
}

// SAFETY: the pointer of a Box of a sized value is one address.
unsafe impl<T: Send + Sync + 'static> Word for Box<T> {
    const DISPOSE: Option<Dispose> = Some(retire::<Box<T>>);

    fn into_word(self) -> u64 {
        word_of(Box::into_raw(self))
    }

    // SAFETY: what the caller owes is said in `Word`.
    unsafe fn from_word(word: u64) -> Box<T> {
        // SAFETY: from `Box::into_raw`, and taken once, as the caller promises.
        unsafe { Box::from_raw(pointer_of::<T>(word).cast_mut()) }
    }
}

impl<T: Send + Sync + 'static> Payload for Arc<T> {}
impl<T: Send + Sync + 'static> Payload for Box<T> {}

impl<T: Send + Sync + 'static> Guarded for Arc<T> {
    type Target = T;
    type Replaced<'g> = Arc<T>;

    // SAFETY: what the caller owes is said in `Guarded`.
    unsafe fn replaced(word: u64, _: &Guard) -> Arc<T> {
        let pointer = pointer_of(word);
        // SAFETY: from `Arc::into_raw`, and the count that the word stands for is not given
        // back before the guard goes, as the caller promises.
        unsafe { Arc::increment_strong_count(pointer) };
        // SAFETY: the count that was just added.
        unsafe { Arc::from_raw(pointer) }
    }

    // SAFETY: what the caller owes is said in `Guarded`.
    unsafe fn target(word: u64, _: &Guard) -> &T {
        // SAFETY: from `Arc::into_raw`; there as long as the guard, as the caller promises.
        unsafe { &*pointer_of(word) }
    }
}

impl<T: Send + Sync + 'static> Guarded for Box<T> {
    type Target = T;
    type Replaced<'g> = &'g T;

    // SAFETY: what the caller owes is said in `Guarded`.
    unsafe fn replaced(word: u64, guard: &Guard) -> &T {
        // SAFETY: the caller's promise, word for word.
        unsafe { Self::target(word, guard) }
    }

    // SAFETY: what the caller owes is said in `Guarded`.
    unsafe fn target(word: u64, _: &Guard) -> &T {
        // SAFETY: from `Box::into_raw`; there as long as the guard, as the caller promises.
        // Nobody makes a Box of it again before that, so it may be shared.
        unsafe { &*pointer_of(word) }
    }
}

/// What a look-up under a guard found: which allocation is live, and its payload.
pub struct FoundGuarded<'g, T> {
    /// The live allocation.
    pub handle: Handle,
    /// Its payload at that moment, kept by the guard.
    pub payload: &'g T,
}

impl<T> Clone for FoundGuarded<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for FoundGuarded<'_, T> {}

impl<T: fmt::Debug> fmt::Debug for FoundGuarded<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundGuarded")
            .field("handle", &self.handle)
            .field("payload", &self.payload)
            .finish()
    }
}

impl<P: Guarded> IoasidSet<P> {
    /// Looks up who holds `pasid`, if it is this set's, and gives a reference to the
    /// payload, which is kept as long as the guard.
    ///
    /// It takes no reference to the PASID, which may come free, and may get another owner,
    /// meanwhile.
    ///
    /// Progress: wait-free, without a read-modify-write. Context: any, for who has a guard.
    ///
    /// # Errors
    /// As [`IoasidSet::find`]: [`Error::NotFound`], [`Error::BeingFreed`],
    /// [`Error::WrongSet`], [`Error::Reserved`], [`Error::DoesNotFit`], [`Error::Closing`].
    pub fn find_guarded<'g>(
        &self,
        pasid: Pasid,
        guard: &'g Guard,
    ) -> Result<FoundGuarded<'g, P::Target>> {
        let found = self.source().find(pasid)?;
        // SAFETY: a word of this set (D1), which was found under the guard.
        let payload = unsafe { P::target(found.word, guard) };
        Ok(FoundGuarded {
            handle: found.handle,
            payload,
        })
    }

    /// The live allocations of this set in `range`, in ascending order, with their
    /// payloads, as [`IoasidSet::iter`] lists those of plain ones.
    ///
    /// Progress: each step is wait-free, bounded by the memory in `range`. Context: any, for
    /// who has a guard.
    ///
    /// ```
    /// use pasid::{Error, Pool, Scope, SetConfig, Space, SpaceKind, Guard};
    ///
    /// let space = Space::new(SpaceKind::Global);
    /// let set = space.add_set_of::<Box<u32>>(SetConfig::new(Scope::Global))?;
    /// let _one = set.alloc(set.range(), Box::new(1))?;
    /// let _two = set.alloc(set.range(), Box::new(2))?;
    /// let guard = Guard::new();
    /// let listed = set.iter_guarded(set.range(), &guard);
    /// assert_eq!(listed.map(|found| *found.payload).sum::<u32>(), 3);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn iter_guarded<'s, 'g>(
        &'s self,
        range: PasidRange,
        guard: &'g Guard,
    ) -> IterGuarded<'s, 'g, P> {
        IterGuarded {
            found: self.listed(range),
            guard,
            payload: PhantomData,
        }
    }
}

/// The live allocations of a range with their payloads; see [`IoasidSet::iter_guarded`].
///
/// ```
/// use pasid::{Error, Guard, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set_of::<Box<&str>>(SetConfig::new(Scope::Global))?;
/// let owned = set.alloc(set.range(), Box::new("compositor"))?;
/// let guard = Guard::new();
/// let all: Vec<_> = set.iter_guarded(set.range(), &guard).collect();
/// assert_eq!((all.len(), all[0].handle, *all[0].payload), (1, owned.handle(), "compositor"));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct IterGuarded<'s, 'g, P: Guarded> {
    found: Iter<'s, u64>,
    guard: &'g Guard,
    payload: PhantomData<fn() -> P>,
}

impl<'g, P: Guarded> Iterator for IterGuarded<'_, 'g, P> {
    type Item = FoundGuarded<'g, P::Target>;

    fn next(&mut self) -> Option<FoundGuarded<'g, P::Target>> {
        let found = self.found.next()?;
        // SAFETY: a word of a set of these payloads (D1), which was found under the guard.
        let payload = unsafe { P::target(found.word, self.guard) };
        Some(FoundGuarded {
            handle: found.handle,
            payload,
        })
    }
}

impl<P: Guarded> core::iter::FusedIterator for IterGuarded<'_, '_, P> {}

macro_rules! holder_of_guarded {
    ($holder:ident) => {
        impl<S: Pool<Payload: Guarded>> $holder<S> {
            /// The payload, kept as long as the guard. The reference to the PASID alone
            /// does not keep it, since another holder may replace it.
            ///
            /// Progress: wait-free. Context: any, for who has a guard.
            pub fn payload<'g>(&self, guard: &'g Guard) -> &'g <S::Payload as Guarded>::Target {
                // SAFETY: a word of this pool (D1), loaded under the guard while a
                // reference is held.
                unsafe { S::Payload::target(self.slot().word(), guard) }
            }

            /// Puts `payload` in the place of the payload in one step, and returns the old
            /// one. A look-up finds the one or the other. The old one is dropped once
            /// nobody can see it any more; an `Arc` comes back with a count of its own.
            ///
            /// Progress and context: as [`Guard::new`].
            pub fn replace_guarded<'g>(
                &self,
                payload: S::Payload,
                guard: &'g Guard,
            ) -> <S::Payload as Guarded>::Replaced<'g> {
                let word = self.slot().replace(payload.into_word());
                // SAFETY: a word of this pool (D1), which this call took out of the slot
                // under the guard (D2), and has not retired.
                let old = unsafe { S::Payload::replaced(word, guard) };
                // SAFETY: as above; it is retired here, once.
                unsafe { retire::<S::Payload>(word) };
                old
            }
        }
    };
}

holder_of_guarded!(Owned);
holder_of_guarded!(Ref);

/// Types that differ in a lifetime alone are told apart, though all values of the one are
/// values of the other:
///
/// ```
/// type Any = Box<for<'a> fn(&'a u8)>;
/// type Static = Box<fn(&'static u8)>;
/// fn as_value(value: Any) -> Static {
///     value
/// }
/// fn as_set(set: pasid::IoasidSet<Any>) -> pasid::IoasidSet<Any> {
///     set
/// }
/// ```
///
/// A set of the one takes none of the other in, and gives none out.
///
/// ```compile_fail
/// type Any = Box<for<'a> fn(&'a u8)>;
/// type Static = Box<fn(&'static u8)>;
/// fn as_set(set: pasid::IoasidSet<Any>) -> pasid::IoasidSet<Static> {
///     set
/// }
/// ```
///
/// ```compile_fail
/// type Any = Box<for<'a> fn(&'a u8)>;
/// type Static = Box<fn(&'static u8)>;
/// fn as_set(set: pasid::IoasidSet<Static>) -> pasid::IoasidSet<Any> {
///     set
/// }
/// ```
///
/// ```compile_fail
/// type Any = Box<for<'a> fn(&'a u8)>;
/// type Static = Box<fn(&'static u8)>;
/// fn as_listing<'a>(all: pasid::IterGuarded<'a, 'a, Static>) -> pasid::IterGuarded<'a, 'a, Any> {
///     all
/// }
/// ```
#[cfg(doctest)]
pub struct Variance;
