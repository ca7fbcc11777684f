// SPDX-License-Identifier: MIT OR Apache-2.0
//! IOASID sets: pools of PASIDs with a scope, a range, a quota, and a policy.

use crate::attach::{Holder, sealed as attach};
use crate::counted::Counted;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::handle::Handle;
use crate::listing::Iter;
use crate::observer::Observer;
use crate::order::Policy;
use crate::owned::{Owned, Ref};
use crate::pasid::PasidWidth;
use crate::payload::Payload;
use crate::pool::{Pool, sealed};
use crate::range::PasidRange;
use crate::reuse::{Flusher, Reuse};
use crate::slot::Slot;
use crate::source::Source;
use crate::state::Sought;
use crate::statistics::{QuotaStatistics, Statistics};
use crate::table::Table;
use core::fmt;
use core::marker::PhantomData;
use heap::sync::Arc;

mod looking;

/// On which tables the PASIDs of a set count.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// On every table, also those that are added later: user SVA.
    Global,
    /// On one table.
    Local(&'a Table),
    /// On several tables of one space, each named once.
    Group(&'a [Table]),
}

/// What a set is made of.
///
/// ```
/// use pasid::{Error, PasidRange, Policy, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let config = SetConfig::new(Scope::Global)
///     .range(PasidRange::try_from(1..=0xffff)?)
///     .policy(Policy::Next)
///     .quota(2)
///     .token(0xCAFE);
/// let set = space.add_set(config)?;
/// assert_eq!(space.find_set(0xCAFE).map(|found| found.is_same(&set)), Some(true));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct SetConfig<'a> {
    pub(crate) scope: Scope<'a>,
    pub(crate) range: PasidRange,
    pub(crate) reserved: &'a [PasidRange],
    pub(crate) policy: Policy,
    /// Nobody finds the set until it is shown.
    pub(crate) hidden: bool,
    pub(crate) quota: Option<u32>,
    pub(crate) token: Option<u64>,
    pub(crate) reuse: Reuse,
    pub(crate) flusher: Option<Arc<dyn Flusher>>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl<'a> SetConfig<'a> {
    /// A set of that scope: every PASID, the lowest first, without a quota.
    #[must_use]
    pub const fn new(scope: Scope<'a>) -> SetConfig<'a> {
        SetConfig {
            scope,
            range: PasidWidth::MAX.range(),
            reserved: &[],
            policy: Policy::Lowest,
            hidden: false,
            quota: None,
            token: None,
            reuse: Reuse::Immediate,
            flusher: None,
            observer: None,
        }
    }

    /// The set hands out PASIDs of this range alone, inclusive on both ends.
    ///
    /// Progress: wait-free. Context: any.
    #[must_use]
    pub const fn range(mut self, range: PasidRange) -> SetConfig<'a> {
        self.range = range;
        self
    }

    /// The set never hands out one of these, beside what is reserved in the space and on
    /// its tables.
    #[must_use]
    pub const fn reserved(mut self, reserved: &'a [PasidRange]) -> SetConfig<'a> {
        self.reserved = reserved;
        self
    }

    /// The order of handing out.
    ///
    /// Progress: wait-free. Context: any.
    #[must_use]
    pub const fn policy(mut self, policy: Policy) -> SetConfig<'a> {
        self.policy = policy;
        self
    }

    /// The most PASIDs that the set may have at once, live, being freed, awaiting a flush,
    /// pinned, or about to be allocated; 0 means none. A set with a quota counts, which costs each allocation
    /// and each free a locked operation more. A quota above 2^21 - 1, which is more than
    /// there are PASIDs, is one of 2^21 - 1.
    #[must_use]
    pub const fn quota(mut self, quota: u32) -> SetConfig<'a> {
        self.quota = Some(quota);
        self
    }

    /// A number by which [`Space::find_set`](crate::Space::find_set) finds the set.
    ///
    /// Progress: wait-free. Context: any.
    #[must_use]
    pub const fn token(mut self, token: u64) -> SetConfig<'a> {
        self.token = Some(token);
        self
    }

    /// When the set's PASIDs may be allocated again.
    ///
    /// Progress: wait-free. Context: any.
    ///
    /// ```
    /// use pasid::{Error, Flush, Pool, Reuse, Scope, SetConfig, Space, SpaceKind};
    ///
    /// let space = Space::new(SpaceKind::Global);
    /// let config = SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush);
    /// let users = space.add_set(config)?;
    /// let first = users.alloc(users.range(), 0)?.pasid(); // freed at once
    /// assert_ne!(users.alloc(users.range(), 0)?.pasid(), first);
    /// let freed = space.flush(|batch| {
    ///     // ... the IOTLBs are invalidated, and the page requests drained ...
    ///     assert_eq!(batch.count(), 2);
    ///     Ok::<(), Error>(())
    /// })?;
    /// assert_eq!(freed, 2);
    /// assert_eq!(users.alloc(users.range(), 0)?.pasid(), first);
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub const fn reuse(mut self, reuse: Reuse) -> SetConfig<'a> {
        self.reuse = reuse;
        self
    }

    /// Who runs a flush when nothing is free but what awaits one; see [`Flusher`].
    #[must_use]
    pub fn flusher(mut self, flusher: Arc<dyn Flusher>) -> SetConfig<'a> {
        self.flusher = Some(flusher);
        self
    }

    /// Who is told of the set's transitions.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> SetConfig<'a> {
        self.observer = Some(observer);
        self
    }
}

impl fmt::Debug for SetConfig<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetConfig")
            .field("scope", &self.scope)
            .field("range", &self.range)
            .field("reserved", &self.reserved)
            .field("policy", &self.policy)
            .field("quota", &self.quota)
            .field("token", &self.token)
            .field("reuse", &self.reuse)
            .field("flusher", &self.flusher.is_some())
            .field("observer", &self.observer.is_some())
            .finish()
    }
}

/// An IOASID set: a pool that PASIDs are allocated from.
///
/// A counted handle: a clone refers to the same set. The calls that hand out references
/// are methods of [`Pool`], on `&IoasidSet` and on `Arc<IoasidSet>`.
///
/// A PASID belongs to the set that it was allocated from. Other sets that share its id
/// space (the global sets, or the local sets of its table) answer [`Error::WrongSet`] for
/// it; all others know neither its number nor its handle, and answer [`Error::NotFound`]
/// and [`Error::Stale`].
///
/// Each PASID carries a payload of type `P` for its owner, a word unless the set was
/// [added](crate::Space::add_set_of) as one of others: see [`Payload`].
///
/// ```
/// use pasid::{Error, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind, TableConfig};
///
/// // Two devices with a table each, and one set for user SVA over all.
/// let space = Space::new(SpaceKind::Both);
/// let tables = [
///     space.add_table(TableConfig::new(PasidWidth::MAX))?,
///     space.add_table(TableConfig::new(PasidWidth::new(16)?))?,
/// ];
/// let one = space.add_set(SetConfig::new(Scope::Local(&tables[0])))?;
/// let other = space.add_set(SetConfig::new(Scope::Local(&tables[1])))?;
/// let users = space.add_set(SetConfig::new(Scope::Global))?;
///
/// // Drivers of different tables may have the same PASID.
/// let a = one.alloc(one.range(), 0)?;
/// let b = other.alloc(other.range(), 0)?;
/// assert_eq!(a.pasid(), b.pasid());
///
/// // A process has one that no driver has, on any table.
/// let process = users.alloc(users.range(), 0)?;
/// assert_ne!(process.pasid(), a.pasid());
/// let taken = process.pasid();
/// assert_eq!(one.alloc(taken.into(), 0).err(), Some(Error::Exhausted { range: taken.into() }));
/// // By handles alone, as a C driver has them.
/// let raw = process.into_raw();
/// // SAFETY: the owner's reference is held in raw form, and is given back once.
/// unsafe { users.free(pasid::Handle::from_raw(raw)?) }?;
/// // The driver of the other device unloads.
/// other.close();
/// assert!(other.is_closing() && other.statistics().freeing == 1);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "ioasid_set")]
pub struct IoasidSet<P: Payload = u64> {
    source: Counted<Source>,
    /// A set takes payloads in and gives them out. So a set of one type is none of
    /// another, also where all values of the one are of the other too, as with functions
    /// over lifetimes.
    payload: PhantomData<fn(P) -> P>,
}

impl<P: Payload> Clone for IoasidSet<P> {
    fn clone(&self) -> IoasidSet<P> {
        IoasidSet {
            source: self.source.clone(),
            payload: PhantomData,
        }
    }
}

impl<P: Payload> IoasidSet<P> {
    /// # Safety
    /// The source is one of such payloads.
    pub(crate) unsafe fn of(source: Counted<Source>) -> IoasidSet<P> {
        IoasidSet {
            source,
            payload: PhantomData,
        }
    }

    pub(crate) fn source(&self) -> &Counted<Source> {
        &self.source
    }

    /// From the first to the last PASID that the set may hand out, inclusive.
    pub fn range(&self) -> PasidRange {
        self.source.range()
    }

    /// The order of handing out.
    pub fn policy(&self) -> Policy {
        self.source.policy()
    }

    /// When the set's PASIDs may be allocated again.
    pub fn reuse(&self) -> Reuse {
        self.source.reuse()
    }

    /// The set's token, if it was given one.
    pub fn token(&self) -> Option<u64> {
        self.source.token
    }

    /// Whether both are handles of the same set.
    ///
    /// Progress: wait-free. Context: any.
    #[must_use]
    pub fn is_same(&self, other: &IoasidSet<P>) -> bool {
        self.source.ptr_eq(&other.source)
    }

    // ---- Data calls ----------------------------------------------------------------

    /// Revokes an allocation of this set: nobody gets a new reference, and holders keep
    /// theirs. It gives back no reference. Revoking what is revoked is no error.
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::WrongSet`].
    pub fn revoke(&self, handle: Handle) -> Result<()> {
        self.source.revoke(handle)
    }

    /// Gives back one reference that is held in raw form.
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// [`Error::Stale`] if the allocation is over or has no reference left but the
    /// owner's own; [`Error::WrongSet`]. Nothing is changed then.
    ///
    /// # Safety
    /// Either the handle's allocation is over, or the caller holds one of its references
    /// in raw form and gives it up by this call.
    pub unsafe fn put(&self, handle: Handle) -> Result<()> {
        self.source.put(handle)
    }

    /// Frees an allocation that is owned in raw form: revokes it and gives back its own
    /// reference, once.
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::WrongSet`]. Nothing is changed then.
    ///
    /// # Safety
    /// Either the handle's allocation is over or without its own reference, or the caller
    /// is its owner in raw form.
    pub unsafe fn free(&self, handle: Handle) -> Result<()> {
        self.source.free(handle)
    }

    // ---- Listing -----------------------------------------------------------------

    /// The live allocations in `range`, with the words that stand for their payloads.
    pub(crate) fn listed(&self, range: PasidRange) -> Iter<'_> {
        let sought = Sought::ANY.in_set(self.source.index());
        let range = self.range().intersect(range);
        // The PASIDs of a closing set are not live, whatever their phase.
        let range = range.filter(|_| !self.source.is_closing());
        Iter::within(self.source.ids(), range, sought)
    }

    /// How many PASIDs in `range` are live, as [`IoasidSet::iter`] lists them.
    ///
    /// Progress: wait-free, bounded by the memory in `range`. Context: any.
    pub fn count_live(&self, range: PasidRange) -> u32 {
        self.listed(range).fold(0, |count, _| count + 1)
    }

    /// What the set's quota counts, if it has one.
    ///
    /// Progress: wait-free. Context: any.
    pub fn quota(&self) -> Option<QuotaStatistics> {
        let quota = self.source.quota()?;
        Some(QuotaStatistics {
            limit: quota.limit(),
            used: quota.used(),
            high_water: quota.high_water(),
            allocations: quota.allocations(),
        })
    }

    /// What the set has, and what was refused.
    ///
    /// Progress: wait-free, bounded by the memory of the set's range. Context: any.
    pub fn statistics(&self) -> Statistics {
        let tally = self.source.tally();
        Statistics {
            live: tally.live,
            freeing: tally.freeing,
            waiting: tally.waiting,
            pinned: tally.pinned,
            quota: self.quota(),
            failures: self.source.failures.read(),
        }
    }

    // ---- Control calls -------------------------------------------------------------

    /// Revokes every PASID of the set that is live when it is passed. Those that are
    /// allocated meanwhile may stay; [`IoasidSet::close`] leaves none.
    ///
    /// Progress: lock-free. Context: any.
    pub fn free_all(&self) {
        self.source.free_all();
    }

    /// Closes the set: who allocates or attaches gets [`Error::Closing`], its PASIDs are
    /// revoked, and holders keep their references. When the last of them and the last handle are gone,
    /// the set is, and its quota is returned with the next control call of the space.
    /// Closing twice is no error.
    ///
    /// What awaits a flush then still does: until that has been flushed, the set stays, and
    /// those numbers stay out of use on all of its tables and for global sets. Where no handle was
    /// kept, [`Space::closing_sets_of`](crate::Space::closing_sets_of) gives one.
    ///
    /// Progress: lock-free. Context: any.
    #[doc(alias = "ioasid_set_free")]
    pub fn close(&self) {
        self.source.close();
    }

    /// Whether the set was closed.
    ///
    /// Progress: wait-free. Context: any.
    pub fn is_closing(&self) -> bool {
        self.source.is_closing()
    }

    /// Changes the quota, out of the space's capacity. What sets kept of it that are gone
    /// comes back with the next control call of the space.
    ///
    /// Progress: waits for other calls that change this quota. Context: where control
    /// calls may be made.
    ///
    /// # Errors
    /// [`Error::QuotaInUse`] if more than the new quota is in use,
    /// [`Error::CapacityExceeded`], [`Error::NoQuota`] if the set was built without one;
    /// [`Error::Closing`]. Nothing is changed then.
    pub fn set_quota(&self, quota: u32) -> Result<()> {
        self.source.set_quota(quota)
    }

    /// Puts memory in place for every PASID of the set in `range`, so that
    /// [`Pool::alloc_in_place`] and [`Pool::alloc_at`] find it. Returns the bytes added
    /// meanwhile: 4 KiB for each 256 PASIDs and 4.6 KiB for each 16,384, and 2 KiB and
    /// 0.5 KiB more in a space for both kinds of sets.
    ///
    /// Progress: lock-free. Context: may allocate memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; what was put in place stays. [`Error::OutsideSet`],
    /// [`Error::DoesNotFit`].
    pub fn preload(&self, range: PasidRange) -> Result<usize> {
        self.source.preload(range)
    }
}

impl<P: Payload> fmt::Debug for IoasidSet<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoasidSet")
            .field("range", &self.range())
            .field("policy", &self.policy())
            .field("token", &self.token())
            .field("closing", &self.is_closing())
            .finish_non_exhaustive()
    }
}

impl<P: Payload> sealed::Sealed for &IoasidSet<P> {
    type Source = Source;

    #[inline(always)]
    fn source(&self) -> &Source {
        &self.source
    }
}

impl<P: Payload> sealed::Sealed for Arc<IoasidSet<P>> {
    type Source = Source;

    #[inline(always)]
    fn source(&self) -> &Source {
        &self.source
    }
}

impl<P: Payload> Pool for &IoasidSet<P> {
    type Payload = P;
}

impl<P: Payload> Pool for Arc<IoasidSet<P>> {
    type Payload = P;
}

macro_rules! holder_of_set {
    ($holder:ident, $pool:ty) => {
        impl<P: Payload> attach::Holder for $holder<$pool> {
            fn held(&self) -> (&Counted<Source>, Handle, &Slot) {
                (&self.pool().source, self.handle(), self.slot())
            }
        }

        impl<P: Payload> Holder for $holder<$pool> {}
    };
}

holder_of_set!(Owned, &IoasidSet<P>);
holder_of_set!(Owned, Arc<IoasidSet<P>>);
holder_of_set!(Ref, &IoasidSet<P>);
holder_of_set!(Ref, Arc<IoasidSet<P>>);
