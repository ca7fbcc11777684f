// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flushing: what awaits it is taken as one batch, invalidated once, and given back.
//!
//! `quarantine.rs` has the protocol of what waits.

use crate::alloc::IdSpace;
use crate::bitmap::WORD_BITS;
use crate::counted::Counted;
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::payload::Payload;
use crate::quarantine::{Batch, FlushStatistics, Group, Groups, Quarantine};
use crate::range::PasidRange;
use crate::set::IoasidSet;
use crate::shared::{Shared, TableIds};
use crate::source::Reach;
use crate::space::Space;
use crate::state::SetIndex;
use crate::sync::{Mutation, planted};
use crate::table::{Table, TableCore};
use core::fmt;
use core::mem::ManuallyDrop;
use heap::sync::Arc;

pub(crate) mod sealed {
    use super::Domain;

    /// What has PASIDs that await a flush.
    pub trait Flushed {
        /// Where they are; nowhere in a space that never had a set.
        fn domain(&self) -> Option<Domain<'_>>;
    }

    /// A way to hold it.
    pub trait Sealed: Clone {
        type Flushed: Flushed;

        fn flushed(&self) -> &Self::Flushed;
    }
}

use sealed::Flushed;

impl<T: Flushed> sealed::Sealed for &T {
    type Flushed = T;

    fn flushed(&self) -> &T {
        self
    }
}

impl<T: Flushed> sealed::Sealed for Arc<T> {
    type Flushed = T;

    fn flushed(&self) -> &T {
        self
    }
}

/// One id space, and how its PASIDs are given back.
pub struct Domain<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) ids: &'a IdSpace,
    pub(crate) kind: Kind<'a>,
}

/// Whose PASIDs are in an id space.
pub(crate) enum Kind<'a> {
    Global,
    Table,
    Group(&'a [Counted<TableIds>]),
}

impl Domain<'_> {
    /// Gives back the PASIDs of a group of a batch.
    fn give_back(&self, group: Group) {
        // Before the PASIDs are free, and their slots another's. None is left *waiting*:
        // the bit may be taken next without the slot, for a group or for the global side.
        let mut sets = [SetIndex::NONE; WORD_BITS as usize];
        for (pasid, set) in group.pasids().zip(&mut sets) {
            if let Some(entry) = self.ids.tree.entry(pasid) {
                *set = entry.slot.end_waiting();
            }
        }
        let credits_first = planted(Mutation::CreditsGivenBackFirst);
        if !credits_first {
            self.free(group);
        }
        if self.ids.credits.is_empty() {
            return;
        }
        // Credits come last, as after a last put.
        for &set in sets.iter().take(group.count() as usize) {
            if let Some(quota) = self.ids.credits.of(set) {
                quota.give_back();
            }
        }
        if credits_first {
            self.free(group);
        }
    }

    fn free(&self, group: Group) {
        match self.kind {
            Kind::Global => self.shared.contested_globals().give_group_back(group),
            Kind::Table => self.shared.contested_table(self.ids).give_group_back(group),
            Kind::Group(members) => {
                let contest = self.shared.contested_group(members, self.ids);
                contest.give_group_back(group);
            }
        }
    }

    /// The allocation of `pasid` that ended.
    fn ended(&self, pasid: Pasid) -> Option<Handle> {
        let tree = &self.ids.tree;
        let generation = tree.entry(pasid)?.slot.state().generation();
        Some(Handle::new(pasid, tree.tag(), generation.wrapping_sub(1)))
    }

    /// Whether that allocation was attached to a table.
    fn was_on(&self, table: &TableCore, pasid: Pasid) -> bool {
        let entry = table.attachments.entry(pasid.get());
        let ended = entry.and_then(|entry| Some((entry, self.ended(pasid)?)));
        ended.is_some_and(|(entry, ended)| entry.was_last(ended))
    }

    /// The PASIDs of the group that were attached to a table.
    fn on_table(&self, table: &TableCore, group: Group) -> Group {
        let pasids = group.pasids().filter(|&pasid| self.was_on(table, pasid));
        group.only(pasids.fold(0, |bits, pasid| bits | 1 << (pasid.get() % WORD_BITS)))
    }
}

impl Flushed for Table {
    fn domain(&self) -> Option<Domain<'_>> {
        let core = self.core();
        Some(Domain {
            shared: &core.shared,
            ids: &core.table.ids,
            kind: Kind::Table,
        })
    }
}

impl Flushed for Space {
    fn domain(&self) -> Option<Domain<'_>> {
        let shared = self.shared()?;
        Some(Domain {
            shared,
            ids: &shared.globals,
            kind: Kind::Global,
        })
    }
}

impl<P: Payload> Flushed for IoasidSet<P> {
    fn domain(&self) -> Option<Domain<'_>> {
        let source = self.source();
        Some(Domain {
            shared: source.shared(),
            ids: source.ids(),
            kind: match source.reach() {
                Reach::Global => Kind::Global,
                Reach::Local(_) => Kind::Table,
                Reach::Group { members, .. } => Kind::Group(members),
            },
        })
    }
}

/// Flushing quarantined PASIDs: those of sets with [`Reuse::AfterFlush`].
///
/// PASIDs wait where their set allocates: those of local sets at their table, those of
/// global sets at the space, those of a group at the group. So a `Table` flushes its local
/// sets, a `Space` its global sets, and an `IoasidSet` whatever waits where its own PASIDs
/// do: for a group, its own. That is so of what is closed, too, which
/// [`Space::closing_tables`] and [`Space::closing_sets_of`] list.
///
/// A flush *begins* when its batch has been taken. It covers the PASIDs whose last
/// reference went before that, and each PASID belongs to one flush; several flushes may
/// be under way at once. What is freed later waits for the next.
///
/// The order that VT-d asks for in an invalidation: PASID-cache invalidation (the entries
/// were cleared before the detach), IOTLB invalidation, device-TLB invalidation, drain of
/// the page requests. Then nothing can act for the old owners any more.
///
/// Like [`Pool`](crate::Pool) and [`Attach`](crate::Attach) it is there for references and
/// for `Arc`s, and a ticket holds what was flushed in the same way.
///
/// ```
/// use pasid::{Attach, Error, Flush, PasidWidth, Pool, Reuse, Scope, SetConfig, Space};
/// use pasid::{SpaceKind, TableConfig};
///
/// let space = Space::new(SpaceKind::Both);
/// let table = space.add_table(TableConfig::new(PasidWidth::MAX))?;
/// let other = space.add_table(TableConfig::new(PasidWidth::MAX))?;
/// let users = space.add_set(SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush))?;
///
/// let process = users.alloc(users.range(), 0)?;
/// let pasid = process.pasid();
/// table.preload(pasid.into())?;
/// drop(table.attach(&process, 0)?.commit()?);
/// drop(process);
/// assert_eq!(users.alloc(pasid.into(), 0).err(), Some(Error::AwaitingFlush { range: pasid.into() }));
///
/// // Asynchronously: the ticket goes along with the invalidation request.
/// let ticket = space.begin_flush();
/// assert!(ticket.ranges_on(&table).eq([pasid.into()]));
/// assert!(!ticket.concerns(&other));
/// // ... and when that has completed:
/// assert_eq!(ticket.complete(), 1);
/// assert!(users.alloc(pasid.into(), 0).is_ok());
/// # Ok::<(), Error>(())
/// ```
///
/// [`Reuse::AfterFlush`]: crate::Reuse::AfterFlush
pub trait Flush: sealed::Sealed {
    /// Takes all that waits as one batch. The flush begins when this returns.
    ///
    /// The ticket says what to invalidate, and is completed when that is done. Dropping it
    /// lets the batch wait for another flush. As long as there is a ticket its PASIDs are
    /// out of use.
    ///
    /// Progress: wait-free, bounded by the memory of the id space. Context: any; never
    /// allocates memory.
    fn begin_flush(self) -> Ticket<Self> {
        let domain = self.flushed().domain();
        let quarantine = domain.as_ref().and_then(|domain| {
            let quarantine = domain.ids.quarantine.follow()?;
            Some((quarantine, &domain.ids.tree))
        });
        let batch = match quarantine {
            None => Batch::EMPTY,
            Some((quarantine, tree)) => {
                let late = planted(Mutation::FlushCountedLate);
                if !late {
                    quarantine.begin();
                }
                let batch = tree.take_waiting();
                if late {
                    quarantine.begin();
                }
                if batch.count == 0 {
                    quarantine.end();
                }
                batch
            }
        };
        Ticket {
            in_flight: batch.count > 0,
            batch,
            holder: self,
        }
    }

    /// Takes all that waits as one batch, calls `invalidate` once for it, and makes its
    /// PASIDs allocatable. Returns how many. Where nothing waits, nothing is called.
    ///
    /// If `invalidate` fails, the batch waits for another flush. If it fails on some
    /// tables alone, [`Ticket::put_back_on`] keeps the PASIDs concerned.
    ///
    /// Progress: that of `invalidate`. Context: that of `invalidate`; it is called
    /// without any lock, and should not unwind.
    ///
    /// # Errors
    /// Those of `invalidate`.
    fn flush<E>(
        self,
        invalidate: impl FnOnce(&mut Ticket<Self>) -> core::result::Result<(), E>,
    ) -> core::result::Result<u32, E> {
        let mut ticket = self.begin_flush();
        if ticket.is_empty() {
            return Ok(0);
        }
        invalidate(&mut ticket)?;
        Ok(ticket.complete())
    }

    /// What the flushes came to so far. PASIDs per flush are `returned / completed`.
    ///
    /// Progress: wait-free. Context: any.
    fn flushes(self) -> FlushStatistics {
        let domain = self.flushed().domain();
        let quarantine = domain
            .as_ref()
            .and_then(|domain| domain.ids.quarantine.follow());
        quarantine.map_or(FlushStatistics::NONE, Quarantine::read)
    }
}

impl<T: sealed::Sealed> Flush for T {}

/// A flush that has begun, and its batch of PASIDs.
///
/// # Invariant
/// The batch belongs to this value alone, and is in flight if it says so.
///
/// ```
/// use pasid::{Error, Flush, Pool, Reuse, Scope, SetConfig, Space, SpaceKind};
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set(SetConfig::new(Scope::Global).reuse(Reuse::AfterFlush))?;
/// drop(set.alloc(set.range(), 0)?);
/// drop(space.begin_flush()); // The invalidation failed.
/// let ticket = space.begin_flush();
/// assert!(ticket.count() == 1 && ticket.ranges().map(|range| range.count()).sum::<u32>() == 1);
/// assert_eq!(ticket.complete(), 1);
/// assert!(space.begin_flush().is_empty());
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it lets the batch wait for another flush"]
pub struct Ticket<F: Flush> {
    holder: F,
    batch: Batch,
    in_flight: bool,
}

impl<F: Flush> Ticket<F> {
    /// How many PASIDs the batch has.
    ///
    /// Progress: wait-free. Context: any.
    pub fn count(&self) -> u32 {
        self.batch.count
    }

    /// Whether there is nothing to invalidate.
    ///
    /// Progress: wait-free. Context: any.
    pub fn is_empty(&self) -> bool {
        self.batch.count == 0
    }

    fn domain(&self) -> Option<Domain<'_>> {
        self.holder.flushed().domain()
    }

    /// The PASIDs of the batch, in ascending order and in as few ranges as there can be.
    ///
    /// Progress: wait-free. Context: any.
    pub fn ranges(&self) -> FlushRanges<'_> {
        FlushRanges::new(self.domain(), self.batch, None)
    }

    /// Those of them that were attached to `table` before they were freed: what is to be
    /// invalidated there.
    ///
    /// Progress: wait-free. Context: any.
    pub fn ranges_on<'a>(&'a self, table: &'a Table) -> FlushRanges<'a> {
        FlushRanges::new(self.domain(), self.batch, Some(table.core()))
    }

    /// Whether any of them was attached to `table`.
    ///
    /// Progress: wait-free. Context: any.
    pub fn concerns(&self, table: &Table) -> bool {
        self.ranges_on(table).next().is_some()
    }

    /// The invalidation failed on `table`: what was attached there leaves the batch, and
    /// waits for another flush. Returns how many.
    ///
    /// Progress: wait-free. Context: any.
    pub fn put_back_on(&mut self, table: &Table) -> u32 {
        let before = self.batch.count;
        self.batch = match self.holder.flushed().domain() {
            None => Batch::EMPTY,
            Some(domain) => domain
                .ids
                .tree
                .split(self.batch, |group| domain.on_table(table.core(), group)),
        };
        before - self.batch.count
    }

    /// The invalidation has completed: makes the batch allocatable, and returns how many
    /// PASIDs that are.
    ///
    /// Progress: wait-free. Context: any; never allocates memory. A thread that is stopped
    /// here withholds what is left of the batch. Where the ticket has the last `Arc`, what that
    /// holds is dropped here.
    pub fn complete(self) -> u32 {
        let ticket = ManuallyDrop::new(self);
        let mut returned = 0;
        if let (Some(domain), true) = (ticket.domain(), ticket.in_flight) {
            let quarantine = domain.ids.quarantine.follow();
            quarantine.inspect(|quarantine| quarantine.begin_completing());
            let tree = &domain.ids.tree;
            let late = planted(Mutation::FlushTakesLate).then(|| tree.take_waiting());
            for batch in [ticket.batch].into_iter().chain(late) {
                for group in tree.groups(batch) {
                    returned += group.count();
                    domain.give_back(group);
                }
            }
            quarantine.inspect(|quarantine| quarantine.complete(returned));
        }
        // SAFETY: `ticket` is not dropped and not used again.
        drop(unsafe { core::ptr::read(&ticket.holder) });
        returned
    }
}

impl<F: Flush> Drop for Ticket<F> {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        if let (Some(domain), true) = (self.domain(), self.in_flight) {
            for group in domain.ids.tree.groups(self.batch) {
                domain.ids.tree.wait_again(group);
            }
            if let Some(quarantine) = domain.ids.quarantine.follow() {
                quarantine.put_back();
            }
        }
    }
}

impl<F: Flush> fmt::Debug for Ticket<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

/// The ranges of a batch; see [`Ticket::ranges`].
#[must_use = "an iterator does nothing until it is asked"]
pub struct FlushRanges<'a> {
    domain: Option<Domain<'a>>,
    table: Option<&'a TableCore>,
    groups: Option<Groups<'a>>,
    /// What is left of the group at hand.
    group: Option<Group>,
    /// The range that is being extended.
    range: Option<PasidRange>,
}

impl<'a> FlushRanges<'a> {
    fn new(
        domain: Option<Domain<'a>>,
        batch: Batch,
        table: Option<&'a TableCore>,
    ) -> FlushRanges<'a> {
        let groups = domain.as_ref().map(|domain| domain.ids.tree.groups(batch));
        FlushRanges {
            domain,
            table,
            groups,
            group: None,
            range: None,
        }
    }

    fn next_pasid(&mut self) -> Option<Pasid> {
        loop {
            if let Some(pasid) = self.group.as_mut().and_then(Group::take_lowest) {
                return Some(pasid);
            }
            let group = self.groups.as_mut()?.next()?;
            self.group = match (self.table, &self.domain) {
                (Some(table), Some(domain)) => Some(domain.on_table(table, group)),
                _ => Some(group),
            };
        }
    }
}

impl Iterator for FlushRanges<'_> {
    type Item = PasidRange;

    fn next(&mut self) -> Option<PasidRange> {
        while let Some(pasid) = self.next_pasid() {
            let longer = self.range.and_then(|range| range.extended_to(pasid));
            let before = self
                .range
                .replace(longer.unwrap_or(PasidRange::single(pasid)));
            if longer.is_none() && before.is_some() {
                return before;
            }
        }
        self.range.take()
    }
}

impl core::iter::FusedIterator for FlushRanges<'_> {}

impl fmt::Debug for FlushRanges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlushRanges").finish_non_exhaustive()
    }
}
