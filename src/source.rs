// SPDX-License-Identifier: MIT OR Apache-2.0
//! A set's data calls: what it allocates from, and what it counts.
//!
//! # Closing
//! The flag *closing* is authoritative: a PASID is revoked when its phase says so or its
//! set is closing. Whoever gives out a reference or an allocation looks at the flag after
//! its own step, and gives back what it took. So a set closes in one instant, and nobody
//! waits for an allocation in flight: it comes before the closing, and all that happens
//! to it afterwards sees the flag. The phases follow, for who is told of revocations.

use crate::alloc::{Found, IdSpace, refused, refused_handle};
use crate::claims::Side;
use crate::contest::Contest;
use crate::counted::Counted;
use crate::credits::QuotaRef;
use crate::error::{Error, Result};
use crate::grant::{Allocate, Grant};
use crate::groups::GroupIds;
use crate::handle::Handle;
use crate::listing::Iter;
use crate::lock::ControlLock;
use crate::observer::Observer;
use crate::order::{Order, Policy};
use crate::pasid::{Pasid, PasidWidth};
use crate::payload::Kind;
use crate::quota::{LIMIT_LAST, Quota};
use crate::radix::Tree;
use crate::range::PasidRange;
use crate::reuse::{Flusher, Reuse};
use crate::shared::{Shared, TableIds};
use crate::slot::Slot;
use crate::state::{Refusal, SetIndex, Sought};
use crate::statistics::Failures;
use crate::sync::{AtomicPtr, AtomicU32, Mutation, Ordering, fence_totally, planted};
use heap::sync::Arc;
use heap::vec::Vec;

mod allocating;
mod disposing;
mod freeing;
mod joining;
mod memory;
mod tally;
mod waiting;

/// Where a set's PASIDs count.
///
/// With a tag of its own: each call looks at it.
#[repr(u8)]
pub(crate) enum Reach {
    /// On every table.
    Global,
    /// On one table.
    Local(Counted<TableIds>),
    /// On several tables, in ascending order of their numbers. The slots are the group's
    /// own, because a PASID has one state and not one for each table.
    Group {
        members: Vec<Counted<TableIds>>,
        own: Counted<GroupIds>,
    },
}

impl Reach {
    /// Where the slots are.
    #[inline(always)]
    pub(crate) fn ids<'a>(&'a self, shared: &'a Shared) -> &'a IdSpace {
        match self {
            Reach::Global => &shared.globals,
            Reach::Local(table) => &table.ids,
            Reach::Group { own, .. } => &own.ids,
        }
    }
}

/// How a set's PASIDs are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The bit decides.
    Plain,
    /// The bit and the claim decide.
    Claimed,
    /// The bits of several tables, and the claim where there are claims.
    Group,
}

/// A call with nothing to see to but the words that decide. It is told from the others by
/// one look, and does not share its code with them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Usual {
    /// The bit alone.
    Plain,
    /// The bit and the claim of a table's set.
    Local,
    /// The claim and the bit of a global set.
    Global,
    /// Nothing but the state, and that the PASID awaits a flush.
    Waiting,
    /// Not usual.
    No,
}

/// One IOASID set.
pub struct Source {
    shared: Counted<Shared>,
    reach: Reach,
    way: Way,
    /// In which usual case an allocation is.
    allocates: Usual,
    /// In which usual case a free by the owner is.
    frees: Usual,
    /// Told apart from the other sets of the same slots by this.
    index: SetIndex,
    /// Of what payloads it is.
    pub(crate) kind: Kind,
    closing: AtomicU32,
    first: u32,
    last: u32,
    order: Order,
    /// What the set may hand out, in ascending order: its range without what is reserved.
    pieces: Vec<PasidRange>,
    pub(crate) token: Option<u64>,
    quota: Option<QuotaRef>,
    reuse: Reuse,
    flusher: Option<Arc<dyn Flusher>>,
    observer: Option<Arc<dyn Observer>>,
    pub(crate) failures: Failures,
    /// The next in the list of a table's graveyard, once no reference is left.
    pub(crate) buried_before: AtomicPtr<Source>,
    /// Being restored: nobody finds it yet.
    hidden: AtomicU32,
    /// Held while the quota and the space's capacity change together.
    resharing: ControlLock<()>,
}

/// What a set is made of.
pub(crate) struct Parts {
    pub(crate) reach: Reach,
    pub(crate) index: SetIndex,
    pub(crate) kind: Kind,
    pub(crate) pieces: Vec<PasidRange>,
    pub(crate) policy: Policy,
    pub(crate) hidden: bool,
    pub(crate) token: Option<u64>,
    pub(crate) quota: Option<QuotaRef>,
    pub(crate) reuse: Reuse,
    pub(crate) flusher: Option<Arc<dyn Flusher>>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl Source {
    /// A set that is not empty: there is at least one piece.
    pub(crate) fn new(shared: Counted<Shared>, parts: Parts) -> Source {
        let way = match (&parts.reach, shared.claims()) {
            (Reach::Group { .. }, _) => Way::Group,
            (_, Some(_)) => Way::Claimed,
            (_, None) => Way::Plain,
        };
        let told = parts.observer.is_some() || parts.kind.dispose.is_some();
        let counts = parts.quota.is_some() || told;
        let allocates = match (way, &parts.reach) {
            (Way::Plain, _) if !counts => Usual::Plain,
            (Way::Claimed, Reach::Global) if !counts => Usual::Global,
            (Way::Claimed, _) if !counts => Usual::Local,
            _ => Usual::No,
        };
        // What awaits a flush gives nothing back yet, not even a credit.
        let frees = match parts.reuse {
            Reuse::AfterFlush if !told => Usual::Waiting,
            Reuse::AfterFlush => Usual::No,
            Reuse::Immediate => allocates,
        };
        let lowest = parts.policy == Policy::Lowest && parts.pieces.len() == 1;
        let ends = (parts.pieces.first(), parts.pieces.last());
        let (first, last) = match ends {
            (Some(first), Some(last)) => (first.first().get(), last.last().get()),
            _ => (1, 0),
        };
        Source {
            shared,
            reach: parts.reach,
            way,
            allocates: if lowest { allocates } else { Usual::No },
            frees,
            index: parts.index,
            kind: parts.kind,
            closing: AtomicU32::new(0),
            hidden: AtomicU32::new(u32::from(parts.hidden)),
            first,
            last,
            order: Order::new(parts.policy),
            pieces: parts.pieces,
            token: parts.token,
            quota: parts.quota,
            reuse: parts.reuse,
            flusher: parts.flusher,
            observer: parts.observer,
            failures: Failures::new(),
            buried_before: AtomicPtr::new(core::ptr::null_mut()),
            resharing: ControlLock::new(()),
        }
    }

    pub(crate) fn shared(&self) -> &Counted<Shared> {
        &self.shared
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    pub(crate) fn index(&self) -> SetIndex {
        self.index
    }

    pub(crate) fn policy(&self) -> Policy {
        self.order.policy()
    }

    pub(crate) fn order(&self) -> &Order {
        &self.order
    }

    /// What the set may hand out, in ascending order.
    pub(crate) fn pieces(&self) -> &[PasidRange] {
        &self.pieces
    }

    pub(crate) fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// The set's quota, if it has one.
    #[inline(always)]
    pub(crate) fn quota(&self) -> Option<&Quota> {
        self.quota.as_ref().map(QuotaRef::quota)
    }

    /// Changes the quota, with the difference out of the space's capacity.
    pub(crate) fn set_quota(&self, limit: u32) -> Result<()> {
        let quota = self.quota().ok_or(Error::NoQuota)?;
        let limit = limit.min(LIMIT_LAST);
        if self.is_closing() {
            return Err(Error::Closing);
        }
        self.resharing.with(|()| {
            let (before, capacity) = (quota.limit(), self.shared.capacity.as_ref());
            if let (Some(capacity), true) = (capacity, limit > before) {
                let reserved = capacity.reserve(limit - before);
                reserved.map_err(|left| Error::CapacityExceeded { left })?;
            }
            let adjusted = quota.adjust(limit);
            adjusted.map_err(|used| Error::QuotaInUse { used })?;
            if let (Some(capacity), true) = (capacity, limit < before) {
                capacity.give_back(before - limit);
            }
            Ok(())
        })
    }

    /// Returns to the space's capacity what the set kept of it, when it goes.
    pub(crate) fn return_share(&self) {
        if let Some(capacity) = &self.shared.capacity {
            capacity.give_back(self.share());
        }
    }

    /// How many PASIDs of a space's capacity the set keeps for itself.
    pub(crate) fn share(&self) -> u32 {
        match self.quota() {
            Some(quota) => quota.limit(),
            None => self.pieces.iter().map(|piece| piece.count()).sum(),
        }
    }

    /// From the first to the last PASID that the set may hand out.
    pub(crate) fn range(&self) -> PasidRange {
        let (first, last) = (Pasid::from_index(self.first), Pasid::from_index(self.last));
        PasidRange::new(first, last).unwrap_or(PasidRange::single(first))
    }

    /// Where the slots are.
    #[inline(always)]
    pub(crate) fn ids(&self) -> &IdSpace {
        self.reach.ids(&self.shared)
    }

    /// Whether the set's PASIDs count on that table.
    pub(crate) fn reaches(&self, shared: &Counted<Shared>, table: &Counted<TableIds>) -> bool {
        match &self.reach {
            Reach::Global => self.shared.ptr_eq(shared),
            Reach::Local(own) => own.ptr_eq(table),
            Reach::Group { members, .. } => members.iter().any(|member| member.ptr_eq(table)),
        }
    }

    /// The last PASID that every table of a local or group set has an entry for.
    #[inline(always)]
    fn fits_last(&self) -> u32 {
        match &self.reach {
            Reach::Global => Pasid::MAX.get(),
            Reach::Local(table) => table.status.see().last().get(),
            Reach::Group { members, .. } => {
                let lasts = members.iter().map(|table| table.status.see().last().get());
                lasts.min().unwrap_or(0)
            }
        }
    }

    /// One table's or the global PASIDs, where claims may take part.
    #[inline(always)]
    fn claimed(&self) -> Contest<'_, &Tree> {
        let tree = &self.ids().tree;
        Contest {
            members: tree,
            slots: tree,
            claims: self.shared.claims(),
            side: match self.reach {
                Reach::Global => Side::Global,
                Reach::Local(_) | Reach::Group { .. } => Side::Local,
            },
        }
    }

    /// The same where they do, for a caller who knows the side and the tree.
    #[inline(always)]
    fn claimed_by<'a>(&'a self, side: Side, tree: &'a Tree) -> Contest<'a, &'a Tree> {
        debug_assert!(self.way == Way::Claimed);
        Contest {
            members: tree,
            slots: tree,
            claims: Some(self.shared.all_claims()),
            side,
        }
    }

    /// The same where they do not.
    #[inline(always)]
    fn plain(&self) -> Contest<'_, &Tree> {
        let tree = &self.ids().tree;
        Contest {
            members: tree,
            slots: tree,
            claims: None,
            side: Side::Local,
        }
    }

    fn grouped<'a>(
        &'a self,
        members: &'a [Counted<TableIds>],
        own: &'a GroupIds,
    ) -> Contest<'a, &'a [Counted<TableIds>]> {
        self.shared.contested_group(members, &own.ids)
    }

    // ---- Closing ---------------------------------------------------------------

    #[inline(always)]
    pub(crate) fn is_closing(&self) -> bool {
        // Acquire: pairs with `close`: who is told so sees what came before the closing.
        self.closing.load(Ordering::Acquire) != 0
    }

    /// Whether others may find the set.
    pub(crate) fn is_hidden(&self) -> bool {
        // Acquire: pairs with `show`: who finds the set finds it whole.
        self.hidden.load(Ordering::Acquire) != 0
    }

    /// Lets others find the set.
    pub(crate) fn show(&self) {
        // Release: pairs with `is_hidden`.
        self.hidden.store(0, Ordering::Release);
    }

    /// Closes the set and revokes its PASIDs.
    pub(crate) fn close(&self) {
        // Release: pairs with `is_closing`.
        self.closing.store(1, Ordering::Release);
        if let Reach::Group { own, .. } = &self.reach {
            own.close();
        }
        // Puts the flag before the look at the PASIDs; pairs with the fence of `publish`.
        // So whoever is not refused is found, and told revoked now.
        fence_totally();
        self.free_all();
    }

    /// Revokes every PASID that is live when it is passed.
    pub(crate) fn free_all(&self) {
        let mut held = Iter::new(self.ids(), self.range(), Sought::ANY);
        while let Some((pasid, slot)) = held.next_held() {
            let generation = slot.state().generation();
            // Refused where the PASID is another set's, or not allocated.
            let _ = self.revoke_slot(self.handle(pasid, generation), slot);
        }
    }

    /// Whether nothing is allocated any more: the set is closing, or a group's table is.
    #[inline(always)]
    fn is_shut(&self) -> bool {
        self.is_closing()
            || match &self.reach {
                Reach::Global | Reach::Local(_) => false,
                Reach::Group { members, .. } => {
                    members.iter().any(|table| table.status.see().is_closing())
                }
            }
    }

    // ---- Telling ---------------------------------------------------------------

    #[inline(always)]
    pub(crate) fn handle(&self, pasid: Pasid, generation: u32) -> Handle {
        Handle::new(pasid, self.ids().tree.tag(), generation)
    }

    #[inline(always)]
    fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    #[inline(always)]
    fn tell_revoked(&self, handle: Handle) {
        if let Some(observer) = &self.observer {
            observer.revoked(handle);
        }
    }

    #[inline(always)]
    fn tell_reclaimed(&self, handle: Handle) {
        if let Some(observer) = &self.observer {
            observer.reclaimed(handle);
        }
    }

    // ---- Looking up --------------------------------------------------------------

    #[inline(always)]
    pub(crate) fn find(&self, pasid: Pasid) -> Result<Found> {
        let Some(entry) = self.ids().tree.entry(pasid) else {
            return Err(self.not_live(pasid, None));
        };
        match entry.slot.find(Sought::ANY.in_set(self.index)) {
            Ok(_) if self.is_closing() => Err(Error::Closing),
            Ok((generation, word)) => Ok(Found {
                handle: self.handle(pasid, generation),
                word,
            }),
            Err(why) => Err(self.not_live(pasid, Some(why))),
        }
    }

    /// Why `pasid` was not found, where its slot said `why`.
    #[cold]
    fn not_live(&self, pasid: Pasid, why: Option<Refusal>) -> Error {
        match (self.ids().check_fits(pasid), why) {
            (Err(error), _) => error,
            (Ok(()), None | Some(Refusal::NotLive))
                if self.is_reserved(pasid) || self.shared.is_reserved_by_space(pasid) =>
            {
                Error::Reserved(pasid)
            }
            (Ok(()), why) => refused(pasid, why.unwrap_or(Refusal::NotLive)),
        }
    }

    #[inline(always)]
    fn sought(&self, handle: Handle) -> Sought {
        Sought::of(handle.generation()).in_set(self.index)
    }

    /// Takes a reference to an allocation, for an attachment.
    pub(crate) fn hold_for(&self, handle: Handle, slot: &Slot) -> Result<()> {
        slot.get(self.sought(handle))
            .map_err(|why| refused_handle(handle, why))?;
        self.granted(handle, slot).map(|_| ())
    }

    /// What a reference that was just taken is worth.
    #[inline(always)]
    fn granted<'a>(&self, handle: Handle, slot: &'a Slot) -> Result<Grant<'a>> {
        if self.is_closing() && !planted(Mutation::GetForgetsClosing) {
            self.put_held(handle, slot);
            return Err(Error::Closing);
        }
        Ok(Grant { handle, slot })
    }
}

/// The error for a PASID beyond the last one that fits.
pub(crate) fn does_not_fit(pasid: Pasid, last: u32) -> Error {
    let bits = (last | 1).ilog2() + 1;
    let width = PasidWidth::new(bits as u8).unwrap_or(PasidWidth::MAX);
    Error::DoesNotFit { pasid, width }
}
