// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pools: what PASIDs are allocated from, and the ways to hold one.

use crate::alloc::IdSpace;
use crate::error::{Error, Result};
use crate::grant::Allocate;
use crate::handle::Handle;
use crate::owned::{Held, Owned, Ref};
use crate::pasid::Pasid;
use crate::payload::Payload;
use crate::payload::sealed::Word;
use crate::radix::{IN_PLACE, MAY_GROW};
use crate::range::PasidRange;
use heap::sync::Arc;

pub(crate) mod sealed {
    use crate::grant::Allocate;

    /// A way to hold what allocates.
    pub trait Sealed {
        type Source: Allocate;

        fn source(&self) -> &Self::Source;
    }
}

impl sealed::Sealed for &IdSpace {
    type Source = IdSpace;

    #[inline(always)]
    fn source(&self) -> &IdSpace {
        self
    }
}

impl sealed::Sealed for Arc<IdSpace> {
    type Source = IdSpace;

    #[inline(always)]
    fn source(&self) -> &IdSpace {
        self
    }
}

/// What PASIDs are allocated from, and a way to hold it: `&IoasidSet` or
/// `Arc<IoasidSet>`, and `&IdSpace` or `Arc<IdSpace>`.
///
/// The calls that hand out references live here and take `self` by value, so that
/// what they return holds the pool in the same way: `set.alloc(..)` on an
/// [`IoasidSet`](crate::IoasidSet) borrows it, and `shared.clone().alloc(..)` on an
/// `Arc<IoasidSet>` keeps it. Where a borrow will do, as on a fault path,
/// `(&*shared).alloc(..)` spares the `Arc`'s count.
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
pub trait Pool: Clone + sealed::Sealed {
    /// What each PASID carries for its owner: of an [`IdSpace`] a word.
    type Payload: Payload;

    /// Allocates a free PASID of `range`, inclusive on both ends, in the order of
    /// the pool's policy. `payload` is the owner's, and comes back from look-ups; if the
    /// call fails, it is dropped.
    ///
    /// Progress: lock-free. Context: may allocate memory, 4 KiB for the first of each
    /// 256 PASIDs and 4.6 KiB for the first of each 16,384 (in a space for both kinds of
    /// sets 2 KiB and 0.5 KiB more), which stay also if the
    /// call then fails. If there is none, it takes a PASID that has memory, though
    /// another comes first by the policy.
    ///
    /// # Errors
    /// [`Error::Exhausted`] only if at some instant during the call no PASID of the
    /// request was free; [`Error::OutOfMemory`] only if then every free one lay
    /// where no memory is and none could be had; [`Error::DoesNotFit`] if the whole
    /// range lies above the width (otherwise what lies above is left out);
    /// [`Error::NoPasidSupport`] on an id space of width 0. From a set also
    /// [`Error::OutsideSet`] if it has no PASID of the range (what it has not is left
    /// out), [`Error::AwaitingFlush`] in the place of *exhausted* if some wait for a flush,
    /// [`Error::QuotaExceeded`], [`Error::Closing`].
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
    fn alloc(self, range: PasidRange, payload: Self::Payload) -> Result<Owned<Self>> {
        let word = payload.into_word();
        match self.source().allocate_here(range, 0, word).map(Held::from) {
            Some(held) => Ok(Owned::new(self, held)),
            None => alloc_anywhere::<_, MAY_GROW>(self, range, 0, word),
        }
    }

    /// Allocates like [`Pool::alloc`], and uses the memory that is there.
    ///
    /// Progress: lock-free. Context: any; never allocates memory.
    ///
    /// # Errors
    /// As [`Pool::alloc`]; [`Error::OutOfMemory`] if every free PASID of the
    /// request lies where no memory is: [`IoasidSet::preload`](crate::IoasidSet::preload)
    /// or [`IdSpace::preload`] puts it there.
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
    fn alloc_in_place(self, range: PasidRange, payload: Self::Payload) -> Result<Owned<Self>> {
        let word = payload.into_word();
        match self.source().allocate_here(range, 0, word).map(Held::from) {
            Some(held) => Ok(Owned::new(self, held)),
            None => alloc_anywhere::<_, IN_PLACE>(self, range, 0, word),
        }
    }

    /// Allocates like [`Pool::alloc`], for a caller on CPU `cpu`: where the search starts
    /// under [`Policy::Spread`](crate::Policy::Spread). The other policies have no use for it.
    ///
    /// Progress and context: as [`Pool::alloc`].
    ///
    /// # Errors
    /// As [`Pool::alloc`].
    ///
    /// ```
    /// use pasid::{IdSpace, PasidWidth, Policy, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX).with_policy(Policy::Spread);
    /// assert_eq!(space.alloc_near(3, space.range(), 0)?.pasid().get(), 3 * 256);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline(always)]
    fn alloc_near(
        self,
        cpu: u32,
        range: PasidRange,
        payload: Self::Payload,
    ) -> Result<Owned<Self>> {
        let word = payload.into_word();
        match self
            .source()
            .allocate_here(range, cpu, word)
            .map(Held::from)
        {
            Some(held) => Ok(Owned::new(self, held)),
            None => alloc_anywhere::<_, MAY_GROW>(self, range, cpu, word),
        }
    }

    /// Allocates like [`Pool::alloc_near`], and uses the memory that is there.
    ///
    /// Progress: lock-free. Context: any; never allocates memory.
    ///
    /// # Errors
    /// As [`Pool::alloc_in_place`].
    #[inline(always)]
    fn alloc_in_place_near(
        self,
        cpu: u32,
        range: PasidRange,
        payload: Self::Payload,
    ) -> Result<Owned<Self>> {
        let word = payload.into_word();
        match self
            .source()
            .allocate_here(range, cpu, word)
            .map(Held::from)
        {
            Some(held) => Ok(Owned::new(self, held)),
            None => alloc_anywhere::<_, IN_PLACE>(self, range, cpu, word),
        }
    }

    /// Allocates exactly `pasid`.
    ///
    /// Progress: wait-free; where claims take part, a quota counts, or PASIDs await a flush,
    /// lock-free. Context: any; never allocates memory.
    ///
    /// # Errors
    /// [`Error::InUse`], for good if the PASID was used up (2^31 or more
    /// allocations of it);
    /// [`Error::Reserved`], [`Error::DoesNotFit`], [`Error::NoPasidSupport`];
    /// [`Error::OutOfMemory`] if there is no memory at its place. From a set also
    /// [`Error::HeldGlobally`] or [`Error::HeldLocally`] if a set of the other kind holds it,
    /// a table reserves it, or another call is about to take it or to give it back;
    /// [`Error::AwaitingFlush`], [`Error::OutsideSet`], [`Error::QuotaExceeded`],
    /// [`Error::Closing`].
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
    fn alloc_at(self, pasid: Pasid, payload: Self::Payload) -> Result<Owned<Self>> {
        let word = payload.into_word();
        match self.source().allocate_at(pasid, word).map(Held::from) {
            Ok(held) => Ok(Owned::new(self, held)),
            Err(error) => Err(withdraw::<Self>(word, error)),
        }
    }

    /// Takes a reference to the allocation that `handle` names.
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// [`Error::Stale`] if the allocation is over or is another id space's,
    /// [`Error::BeingFreed`] if it was revoked, [`Error::TooManyReferences`]. From a set
    /// also [`Error::WrongSet`], and [`Error::Closing`] if the set is just being closed.
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
        let held = self.source().get(handle)?.into();
        Ok(Ref::new(self, held))
    }

    /// Takes a reference to whatever allocation of `pasid` is live: the number is
    /// all that hardware reports.
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::BeingFreed`], [`Error::Reserved`],
    /// [`Error::DoesNotFit`], [`Error::NoPasidSupport`], [`Error::TooManyReferences`]. From
    /// a set also [`Error::WrongSet`], and [`Error::Closing`] if the set is just being closed.
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
        let held = self.source().get_at(pasid)?.into();
        Ok(Ref::new(self, held))
    }
}

/// An allocation that is not the usual case.
///
/// Apart from the usual one up to the caller's own result: where the two meet in a place
/// in memory, the usual one waits for what it has just written there, for as long as a
/// third of the call takes.
#[cold]
#[inline(never)]
fn alloc_anywhere<P: Pool, const GROW: bool>(
    pool: P,
    range: PasidRange,
    cpu: u32,
    word: u64,
) -> Result<Owned<P>> {
    let allocated = pool
        .source()
        .allocate_anywhere::<GROW>(range, cpu, word)
        .map(Held::from);
    match allocated {
        Ok(held) => Ok(Owned::new(pool, held)),
        Err(error) => Err(withdraw::<P>(word, error)),
    }
}

/// Drops a payload for which there was no PASID.
#[inline(always)]
fn withdraw<P: Pool>(word: u64, error: Error) -> Error {
    // SAFETY: from `into_word` of this call, and an allocation that fails has not published
    // it, where it is one to be dropped (see `Allocate`).
    drop(unsafe { P::Payload::from_word(word) });
    error
}

impl Pool for &IdSpace {
    type Payload = u64;
}

impl Pool for Arc<IdSpace> {
    type Payload = u64;
}
