// SPDX-License-Identifier: MIT OR Apache-2.0
//! Payloads: what a PASID carries for its owner, as one word.
//!
//! The type of a set's payload says what its calls need. A [`Plain`] one is copied and
//! never dropped, so nothing changes for the data calls. One that is dropped needs the
//! epochs of `epoch.rs`; see `guarded.rs`.
//!
//! # Invariants
//! * **D1** While an allocation of a set lives, its slot's word came from `into_word` of
//!   the set's payload type. A set has one type, and is handed out as a set of that type
//!   alone.
//! * **D2** A word of a payload that is dropped belongs to the slot from its publication,
//!   or from the exchange that put it there, until the exchange that takes it out, or the
//!   end of the allocation. Each of these happens once, and whoever brought it about
//!   retires the word.

use core::any::TypeId;
use core::ptr;

pub(crate) mod sealed {
    use super::Dispose;

    /// A value that is kept as a word.
    ///
    /// # Safety
    /// `from_word` must give back the value that `into_word` took. `DISPOSE` must be there
    /// if the type is dropped, and must not be where it is [`Plain`](super::Plain).
    pub unsafe trait Word: Sized {
        /// Drops a word that nobody can see any more.
        const DISPOSE: Option<Dispose>;

        /// The word that stands for the value.
        fn into_word(self) -> u64;

        /// The value that stands behind a word.
        ///
        /// # Safety
        /// `word` came from `into_word` of this type, and unless the type is
        /// [`Plain`](super::Plain) it is used once.
        unsafe fn from_word(word: u64) -> Self;
    }
}

/// Retires a word: drops what stands behind it once nobody can see it any more.
///
/// # Safety
/// The word must be of the type that this was made for, lost by its slot, and retired once.
pub(crate) type Dispose = unsafe fn(u64);

/// What a PASID carries for its owner: a word (`u64`), a `&'static T`, or nothing (`()`);
/// and, with the feature `epoch`, an `Arc<T>` or a `Box<T>`.
///
/// Each takes the one word that a slot has for it, so `T` is [`Sized`]. Whoever allocates
/// brings it; where the call fails, it is dropped.
///
/// ```
/// use pasid::{Error, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set_of::<()>(SetConfig::new(Scope::Global))?;
/// let owned = set.alloc(set.range(), ())?;
/// assert_eq!(set.find(owned.pasid())?.handle, owned.handle());
/// # Ok::<(), Error>(())
/// ```
pub trait Payload: sealed::Word + Send + Sync + 'static {}

/// A payload that is copied and never dropped: `u64`, `&'static T`, `()`.
///
/// No call of a set with such payloads needs more than one with plain words: what the
/// documentation says of progress, memory and context holds for all of them.
///
/// ```
/// use pasid::{Error, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// struct Driver {
///     name: &'static str,
/// }
/// static ACCELERATOR: Driver = Driver { name: "accelerator" };
/// static GRAPHICS: Driver = Driver { name: "graphics" };
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set_of::<&'static Driver>(SetConfig::new(Scope::Global))?;
/// let owned = set.alloc(set.range(), &ACCELERATOR)?;
/// assert_eq!(set.find(owned.pasid())?.word.name, "accelerator");
/// assert_eq!(owned.replace(&GRAPHICS).name, "accelerator");
/// assert_eq!(owned.word().name, "graphics");
/// # Ok::<(), Error>(())
/// ```
pub trait Plain: Payload + Copy {}

// SAFETY: the word itself.
unsafe impl sealed::Word for u64 {
    const DISPOSE: Option<Dispose> = None;

    #[inline(always)]
    fn into_word(self) -> u64 {
        self
    }

    // SAFETY: what the caller owes is said in `Word`.
    #[inline(always)]
    unsafe fn from_word(word: u64) -> u64 {
        word
    }
}

// SAFETY: there is one value.
unsafe impl sealed::Word for () {
    const DISPOSE: Option<Dispose> = None;

    #[inline(always)]
    fn into_word(self) -> u64 {
        0
    }

    // SAFETY: what the caller owes is said in `Word`.
    #[inline(always)]
    unsafe fn from_word(_: u64) {}
}

// SAFETY: the address of a sized value is all of the reference, and fits.
unsafe impl<T: Sync> sealed::Word for &'static T {
    const DISPOSE: Option<Dispose> = None;

    #[inline(always)]
    fn into_word(self) -> u64 {
        word_of(self)
    }

    // SAFETY: what the caller owes is said in `Word`.
    #[inline(always)]
    unsafe fn from_word(word: u64) -> &'static T {
        // SAFETY: from `into_word` of a reference that is good for ever, as the caller
        // promises; that exposed its provenance.
        unsafe { &*pointer_of(word) }
    }
}

impl Payload for u64 {}
impl Plain for u64 {}
impl Payload for () {}
impl Plain for () {}
impl<T: Sync> Payload for &'static T {}
impl<T: Sync> Plain for &'static T {}

const _: () = assert!(size_of::<usize>() <= size_of::<u64>());

/// The word of an address. Its provenance is exposed, for `pointer_of`.
#[inline(always)]
pub(crate) fn word_of<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// The pointer whose word it is.
#[inline(always)]
pub(crate) fn pointer_of<T>(word: u64) -> *const T {
    ptr::with_exposed_provenance(word as usize)
}

/// Of which type the payloads of a set are, and what their end is.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    type_id: TypeId,
    /// `None` for plain ones.
    pub(crate) dispose: Option<Dispose>,
}

impl Kind {
    pub(crate) fn of<P: Payload>() -> Kind {
        Kind {
            type_id: TypeId::of::<P>(),
            dispose: P::DISPOSE,
        }
    }

    /// Whether the payloads are of that very type.
    pub(crate) fn is<P: Payload>(&self) -> bool {
        self.type_id == TypeId::of::<P>()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::sealed::Word;
    use super::*;

    fn comes_back<P: Plain + PartialEq + core::fmt::Debug>(value: P) {
        // SAFETY: a word of the same type, which is plain.
        assert_eq!(unsafe { P::from_word(value.into_word()) }, value);
        assert!(Kind::of::<P>().dispose.is_none() && Kind::of::<P>().is::<P>());
    }

    #[test]
    fn plain_payloads_come_back_out_of_their_word() {
        static NUMBER: u32 = 7;
        static NOTHING: [u64; 0] = [];
        comes_back(0_u64);
        comes_back(u64::MAX);
        comes_back(());
        comes_back(&NUMBER);
        comes_back(&NOTHING);
        // SAFETY: a word of the same type, which is plain.
        let back = unsafe { <&'static u32>::from_word((&NUMBER).into_word()) };
        assert!(core::ptr::eq(back, &NUMBER));
    }

    #[test]
    fn types_that_differ_in_a_lifetime_alone_are_told_apart() {
        type Any = &'static (for<'a> fn(&'a u8),);
        type Static = &'static (fn(&'static u8),);
        assert!(Kind::of::<Any>().is::<Any>() && !Kind::of::<Any>().is::<Static>());
        assert!(!Kind::of::<u64>().is::<()>() && !Kind::of::<&'static u8>().is::<&'static i8>());
    }
}
