// SPDX-License-Identifier: MIT OR Apache-2.0
//! One PASID space: alloc, get, put, free and find on the tree and its slots.

use crate::credits::Credits;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::link::{Link, boxed};
use crate::order::{Order, Policy};
use crate::pasid::{Pasid, PasidWidth};
use crate::quarantine::Quarantine;
use crate::radix::{Entry, Spot, Tree};
use crate::range::PasidRange;
use crate::reuse::Reuse;
use crate::search::NoneFree;
use crate::slot::Slot;
use crate::state::{Left, Refusal, Sought};
use crate::sync::const_unless_loom;
use heap::borrow::Cow;

/// A PASID space: numbers `0 ..= 2^width - 1`, each free, held, or reserved.
///
/// Every call but `new` and `shrink` takes `&self` and may run on any number of
/// threads at once. A new space owns no memory; `static` spaces work.
///
/// The calls that hand out references are methods of [`Pool`](crate::Pool), so that they
/// work alike on a `&IdSpace`, a `&'static IdSpace` and an `Arc<IdSpace>`.
///
/// # Example
/// ```
/// use pasid::{Error, PasidWidth, IdSpace, Pool};
///
/// // 20 bits: what the device and its IOMMU both support. 0 is reserved.
/// static SPACE: IdSpace = IdSpace::new(PasidWidth::MAX);
///
/// let pasid = SPACE.alloc(SPACE.range(), 0xA5)?;
/// assert_eq!(pasid.pasid().get(), 1);
///
/// let handle = pasid.handle();
/// let in_use = SPACE.get(handle)?;
/// drop(pasid); // frees: nobody gets a new reference
/// assert_eq!(SPACE.find(in_use.pasid()), Err(Error::BeingFreed(in_use.pasid())));
/// drop(in_use); // the last reference: free again
/// assert_eq!(SPACE.get(handle).err(), Some(Error::Stale(handle)));
/// # Ok::<(), Error>(())
/// ```
pub struct IdSpace {
    pub(crate) tree: Tree,
    /// PASIDs that can be asked for: 2^width, and none at width 0.
    count: u32,
    pub(crate) order: Order,
    /// The quotas of the sets that allocate here.
    pub(crate) credits: Credits,
    /// There since the first set whose PASIDs await a flush.
    pub(crate) quarantine: Link<Quarantine>,
}

/// What a look-up found: which allocation is live, and its owner's word, or what its
/// [plain](crate::Plain) payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Found<P = u64> {
    /// The live allocation.
    pub handle: Handle,
    /// Its owner's word, at that moment.
    pub word: P,
}

/// Linux gives PASID 0 to DMA without a PASID (`IOMMU_NO_PASID`).
pub(crate) const RESERVED_BY_DEFAULT: &[PasidRange] = &[PasidRange::single(Pasid::ZERO)];

impl IdSpace {
    const_unless_loom! {
        /// A space of `width` bits in which PASID 0 is reserved.
        ///
        /// A width of 0 stands for hardware without PASID support: every allocation
        /// is refused with [`Error::NoPasidSupport`].
        ///
        /// Context: any. Allocates no memory; the space itself is about 0.6 KiB.
        ///
        /// ```
        /// use pasid::{PasidWidth, IdSpace};
        ///
        /// static SPACE: IdSpace = IdSpace::new(PasidWidth::MAX);
        /// assert_eq!(SPACE.range().last().get(), 0xF_FFFF);
        /// ```
        pub fn new(width: PasidWidth) -> IdSpace {
            IdSpace::with_reserved(width, RESERVED_BY_DEFAULT)
        }
    }

    const_unless_loom! {
        /// A space of `width` bits in which the PASIDs in `reserved` are, and 0 is not
        /// unless it is among them.
        ///
        /// Which values are reserved is the platform's matter: a VT-d driver that moved
        /// RID_PASID may use 0, and on SMMUv3 substream 0 is unavailable only while
        /// `STE.S1DSS` is 0b10. Ranges may overlap and may reach beyond the width.
        /// [`IdSpace::reserve`] adds values that are known only at run time.
        ///
        /// Context: any. Allocates no memory.
        ///
        /// ```
        /// use pasid::{Error, Pasid, PasidRange, PasidWidth, IdSpace, Pool};
        ///
        /// const DMA: Pasid = Pasid::from_u16(1);
        /// const RESERVED: &[PasidRange] = &[PasidRange::single(DMA)];
        /// static SPACE: IdSpace = IdSpace::with_reserved(PasidWidth::MAX, RESERVED);
        /// assert_eq!(SPACE.alloc(SPACE.range(), 0)?.pasid().get(), 0);
        /// assert_eq!(SPACE.alloc_at(DMA, 0).err(), Some(Error::Reserved(DMA)));
        /// # Ok::<(), Error>(())
        /// ```
        pub fn with_reserved(width: PasidWidth, reserved: &'static [PasidRange]) -> IdSpace {
            IdSpace::holding(width, Cow::Borrowed(reserved))
        }
    }

    const_unless_loom! {
        pub(crate) fn holding(width: PasidWidth, reserved: Cow<'static, [PasidRange]>) -> IdSpace {
            IdSpace {
                tree: Tree::new(width, reserved),
                count: if width.bits() == 0 { 0 } else { width.count() },
                order: Order::new(Policy::Lowest),
                credits: Credits::new(),
                quarantine: Link::vacant(),
            }
        }
    }

    /// The same space with another order of handing out.
    ///
    /// ```
    /// use pasid::{PasidWidth, Policy, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX).with_policy(Policy::Next);
    /// let first = space.alloc(space.range(), 0)?.pasid(); // freed at once
    /// let second = space.alloc(space.range(), 0)?.pasid();
    /// assert_eq!((first.get(), second.get()), (1, 2));
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[must_use]
    pub const fn with_policy(mut self, policy: Policy) -> IdSpace {
        self.order.set_policy(policy);
        self
    }

    /// The width, in bits.
    ///
    /// Progress: wait-free. Context: any.
    pub const fn width(&self) -> PasidWidth {
        self.tree.width()
    }

    /// All PASIDs of the width: `0 ..= 2^width - 1`.
    ///
    /// Progress: wait-free. Context: any.
    pub const fn range(&self) -> PasidRange {
        self.width().range()
    }

    /// The order of handing out.
    ///
    /// Progress: wait-free. Context: any.
    pub const fn policy(&self) -> Policy {
        self.order.policy()
    }

    // ---- Calls by raw handle, and look-ups: data calls ------------------------

    /// Looks up who holds `pasid` and copies the owner's word.
    ///
    /// The copy protects nothing behind it: take a reference with
    /// [`Pool::get_at`](crate::Pool::get_at) for that.
    ///
    /// Progress: wait-free, without a read-modify-write. Context: any.
    ///
    /// # Errors
    /// [`Error::NotFound`] if nothing is allocated there, [`Error::BeingFreed`] if
    /// it was revoked, [`Error::Reserved`], [`Error::DoesNotFit`],
    /// [`Error::NoPasidSupport`].
    ///
    /// ```
    /// use pasid::{Error, Pasid, PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let seven = space.alloc(Pasid::new(7)?.into(), 0xCAFE)?;
    /// assert_eq!(space.find(seven.pasid())?.word, 0xCAFE);
    /// assert_eq!(space.find(Pasid::new(8)?), Err(Error::NotFound(Pasid::new(8)?)));
    /// # Ok::<(), Error>(())
    /// ```
    #[doc(alias = "ioasid_find")]
    #[inline]
    pub fn find(&self, pasid: Pasid) -> Result<Found> {
        // What lies beyond the width is not live either; only a refusal asks why.
        match self
            .tree
            .entry(pasid)
            .map(|entry| entry.slot.find(Sought::ANY))
        {
            Some(Ok((generation, word))) => Ok(Found {
                handle: Handle::new(pasid, self.tree.tag(), generation),
                word,
            }),
            Some(Err(why)) => Err(self.not_live(pasid, Some(why))),
            None => Err(self.not_live(pasid, None)),
        }
    }

    /// Revokes an allocation: nobody gets a new reference, and holders keep theirs.
    ///
    /// For somebody other than the owner. It gives back no reference; the PASID
    /// comes free when the owner and all holders have given theirs back. Revoking
    /// what is revoked is no error.
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// [`Error::Stale`] if the allocation is over or is another space's.
    ///
    /// ```
    /// use pasid::{Error, PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let owned = space.alloc(space.range(), 0)?;
    /// space.revoke(owned.handle())?;
    /// assert_eq!(space.get(owned.handle()).err(), Some(Error::BeingFreed(owned.pasid())));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn revoke(&self, handle: Handle) -> Result<()> {
        let sought = Sought::of(handle.generation());
        let revoked = self.entry_of(handle)?.slot.revoke(sought);
        revoked
            .map_err(|why| refused_handle(handle, why))
            .map(|_| ())
    }

    /// Gives back one reference that is held in raw form (see [`Ref::into_raw`](crate::Ref::into_raw)).
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// [`Error::Stale`] if the handle's allocation is over, is another space's, or
    /// has no reference left but the owner's own. Nothing is changed then.
    ///
    /// # Safety
    /// Either the handle's allocation is over, or the caller holds one of its
    /// references in raw form and gives it up by this call. A reference that a
    /// [`Ref`](crate::Ref) or an [`Owned`](crate::Owned) holds must not be given back here: what it protects
    /// would end under it.
    ///
    /// ```
    /// use pasid::{Handle, PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let owned = space.alloc(space.range(), 0)?;
    /// let raw = owned.get()?.into_raw();
    /// // SAFETY: the reference that `into_raw` gave up.
    /// unsafe { space.put(Handle::from_raw(raw)?) }?;
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[doc(alias = "ioasid_put")]
    pub unsafe fn put(&self, handle: Handle) -> Result<()> {
        let entry = self.entry_of(handle)?;
        let left = entry
            .slot
            .put(Sought::of(handle.generation()), Reuse::Immediate);
        self.reclaim(entry.spot, left.map_err(|why| refused_handle(handle, why))?);
        Ok(())
    }

    /// Frees an allocation that is owned in raw form (see [`Owned::into_raw`](crate::Owned::into_raw)):
    /// revokes it and gives back its own reference, once. Freeing it again while
    /// others still hold references only revokes.
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// [`Error::Stale`] if the allocation is over or is another space's.
    ///
    /// # Safety
    /// Either the handle's allocation is over or without its own reference, or the
    /// caller is its owner in raw form. An allocation that an [`Owned`](crate::Owned) holds must
    /// not be freed here.
    ///
    /// ```
    /// use pasid::{Error, Handle, PasidWidth, IdSpace, Pool};
    ///
    /// let space = IdSpace::new(PasidWidth::MAX);
    /// let handle = Handle::from_raw(space.alloc(space.range(), 0)?.into_raw())?;
    /// // SAFETY: the allocation that `into_raw` gave up.
    /// unsafe { space.free(handle) }?;
    /// // SAFETY: the allocation is over.
    /// assert_eq!(unsafe { space.free(handle) }, Err(Error::Stale(handle)));
    /// # Ok::<(), Error>(())
    /// ```
    #[doc(alias = "ioasid_free")]
    pub unsafe fn free(&self, handle: Handle) -> Result<()> {
        let entry = self.entry_of(handle)?;
        let left = entry
            .slot
            .free(Sought::of(handle.generation()), Reuse::Immediate);
        self.reclaim(entry.spot, left.map_err(|why| refused_handle(handle, why))?);
        Ok(())
    }

    // ---- For sets --------------------------------------------------------------------

    /// Puts memory in place for what flushes count.
    pub(crate) fn keep_quarantine(&self) -> Result<()> {
        if self.quarantine.follow().is_none() {
            // SAFETY: the place given is valid for writes of a Quarantine.
            let build = |place: *mut Quarantine| unsafe { place.write(Quarantine::new()) };
            // SAFETY: `build` writes a whole Quarantine.
            let quarantine = unsafe { boxed(build) }.ok_or(Error::OutOfMemory)?;
            self.quarantine.publish(quarantine);
        }
        Ok(())
    }

    /// Whether a flush is in flight that took PASIDs from here.
    pub(crate) fn is_being_flushed(&self) -> bool {
        let quarantine = self.quarantine.follow();
        quarantine.is_some_and(Quarantine::is_in_flight)
    }

    // ---- What the handles stand on -------------------------------------------------

    /// Gives the PASID back if nobody is left.
    #[inline(always)]
    pub(crate) fn reclaim(&self, spot: Spot<'_>, left: Left) {
        match left {
            Left::Nothing => self.tree.give_back(spot),
            Left::Held | Left::Retired | Left::Waiting | Left::Kept => {}
        }
    }

    /// Takes the bit of `pasid`, which fits. Wait-free.
    #[inline]
    pub(crate) fn take_at(&self, pasid: Pasid) -> Result<&Slot> {
        let Some(Entry { spot, slot }) = self.tree.entry(pasid) else {
            return Err(self.without_memory(pasid, Error::OutOfMemory));
        };
        if spot.node.bits(spot.place.leaf).take(spot.place.position) {
            Ok(slot)
        } else if slot.state().is_reserved() {
            Err(Error::Reserved(pasid))
        } else {
            Err(Error::InUse(pasid))
        }
    }

    /// The first and the last of the PASIDs in `range` that the width has.
    #[inline(always)]
    pub(crate) fn request(&self, range: PasidRange) -> Result<(u32, u32)> {
        let (first, last) = (range.first().get(), range.last().get());
        if first < self.count {
            Ok((first, last.min(self.count - 1)))
        } else {
            Err(self.beyond(range.first()))
        }
    }

    #[inline(always)]
    pub(crate) fn check_fits(&self, pasid: Pasid) -> Result<()> {
        if pasid.get() < self.count {
            Ok(())
        } else {
            Err(self.beyond(pasid))
        }
    }

    /// Why there is no such PASID here.
    #[cold]
    fn beyond(&self, pasid: Pasid) -> Error {
        match self.width() {
            PasidWidth::ZERO => Error::NoPasidSupport,
            width => Error::DoesNotFit { pasid, width },
        }
    }

    /// What a search that found nothing says.
    #[cold]
    pub(crate) fn none_free(first: u32, last: u32, why: NoneFree) -> Error {
        let range = PasidRange::new(Pasid::from_index(first), Pasid::from_index(last));
        match (why, range) {
            (NoneFree::Exhausted, Ok(range)) => Error::Exhausted { range },
            (NoneFree::Exhausted, Err(error)) => error,
            (NoneFree::OutOfMemory, _) => Error::OutOfMemory,
        }
    }

    /// What missing memory says of `pasid`.
    #[cold]
    fn without_memory(&self, pasid: Pasid, otherwise: Error) -> Error {
        if self.tree.listed_as_reserved(pasid) {
            Error::Reserved(pasid)
        } else {
            otherwise
        }
    }

    /// Why nothing is live at `pasid`: what its slot said, if it has one.
    #[cold]
    fn not_live(&self, pasid: Pasid, why: Option<Refusal>) -> Error {
        match (self.check_fits(pasid), why) {
            (Err(error), _) => error,
            (_, Some(why)) => refused(pasid, why),
            (_, None) => self.without_memory(pasid, Error::NotFound(pasid)),
        }
    }

    /// The entry of a number that came from outside.
    #[inline(always)]
    pub(crate) fn entry_at(&self, pasid: Pasid) -> Result<Entry<'_>> {
        self.check_fits(pasid)?;
        let entry = self.tree.entry(pasid);
        entry.ok_or_else(|| self.without_memory(pasid, Error::NotFound(pasid)))
    }

    /// The entry of a handle that came from outside, if it is of this space.
    #[inline(always)]
    pub(crate) fn entry_of(&self, handle: Handle) -> Result<Entry<'_>> {
        match self.tree.entry(handle.pasid()) {
            Some(entry) if self.tree.tag() == handle.tag() => Ok(entry),
            _ => Err(Error::Stale(handle)),
        }
    }
}

/// The error of a call by number.
pub(crate) fn refused(pasid: Pasid, why: Refusal) -> Error {
    match why {
        Refusal::BeingFreed => Error::BeingFreed(pasid),
        Refusal::Reserved => Error::Reserved(pasid),
        Refusal::WrongSet => Error::WrongSet(pasid),
        Refusal::NotLive | Refusal::TooManyReferences => Error::NotFound(pasid),
    }
}

/// The error of a call by handle.
pub(crate) fn refused_handle(handle: Handle, why: Refusal) -> Error {
    match why {
        Refusal::BeingFreed => Error::BeingFreed(handle.pasid()),
        Refusal::NotLive | Refusal::Reserved => Error::Stale(handle),
        Refusal::WrongSet => Error::WrongSet(handle.pasid()),
        Refusal::TooManyReferences => Error::TooManyReferences(handle),
    }
}

impl core::fmt::Debug for IdSpace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("IdSpace")
            .field("width", &self.width())
            .field("policy", &self.policy())
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}
