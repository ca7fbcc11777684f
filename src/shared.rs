// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tables and the sets of one space have in common.

use crate::alloc::IdSpace;
use crate::bitmap::LEAF_PASIDS;
use crate::claims::{Claims, Opposed, Side};
use crate::contest::{Contest, Contested};
use crate::counted::Counted;
use crate::error::{Error, Result};
use crate::groups::Groups;
use crate::kind::SpaceKind;
use crate::lock::ControlLock;
use crate::pasid::{Pasid, PasidWidth};
use crate::quota::Capacity;
use crate::radix::Tree;
use crate::range::PasidRange;
use crate::state::Phase;
use crate::status::Status;

/// One table's PASIDs, as its sets see them.
pub(crate) struct TableIds {
    pub(crate) ids: IdSpace,
    pub(crate) status: Status,
    /// The groups that the table is a member of.
    pub(crate) groups: Groups,
    /// The order in which a group takes the bits of its tables.
    pub(crate) number: u64,
}

/// What the tables and the sets of one space have in common.
pub(crate) struct Shared {
    pub(crate) kind: SpaceKind,
    pub(crate) globals: IdSpace,
    /// In force where there are both kinds. Where there are global sets alone, they count
    /// the tables that reserve a PASID, under the lock below.
    claims: Claims,
    pub(crate) capacity: Option<Capacity>,
    reserving: ControlLock<()>,
}

impl Shared {
    pub(crate) fn new(
        kind: SpaceKind,
        reserved: &'static [PasidRange],
        capacity: Option<u32>,
    ) -> Shared {
        Shared {
            kind,
            globals: IdSpace::with_reserved(PasidWidth::MAX, reserved),
            claims: Claims::new(reserved),
            capacity: capacity.map(Capacity::new),
            reserving: ControlLock::new(()),
        }
    }

    /// The claims, where there are both kinds of sets.
    pub(crate) fn claims(&self) -> Option<&Claims> {
        match self.kind {
            SpaceKind::Both => Some(&self.claims),
            SpaceKind::Global | SpaceKind::Tables => None,
        }
    }

    /// The claims, for a caller who knows that there are both kinds of sets.
    #[inline(always)]
    pub(crate) fn all_claims(&self) -> &Claims {
        &self.claims
    }

    /// The global PASIDs, where table sets take part in who holds one.
    pub(crate) fn contested_globals(&self) -> Contest<'_, &Tree> {
        Contest {
            members: &self.globals.tree,
            slots: &self.globals.tree,
            claims: self.claims(),
            side: Side::Global,
        }
    }

    /// A table's PASIDs, where global sets take part in who holds one.
    pub(crate) fn contested_table<'a>(&'a self, ids: &'a IdSpace) -> Contest<'a, &'a Tree> {
        Contest {
            members: &ids.tree,
            slots: &ids.tree,
            claims: self.claims(),
            side: Side::Local,
        }
    }

    /// A group's PASIDs, with its own tree.
    pub(crate) fn contested_group<'a>(
        &'a self,
        members: &'a [Counted<TableIds>],
        own: &'a IdSpace,
    ) -> Contest<'a, &'a [Counted<TableIds>]> {
        Contest {
            members,
            slots: &own.tree,
            claims: self.claims(),
            side: Side::Local,
        }
    }

    /// Reserves `pasid` on every table.
    pub(crate) fn reserve(&self, pasid: Pasid) -> Result<()> {
        if self.kind == SpaceKind::Tables {
            return Err(Error::WrongKind { kind: self.kind });
        }
        self.globals.check_fits(pasid)?;
        let reserved = self.reserve_in(self.contested_globals(), &self.globals, pasid);
        reserved.map_err(|error| match error {
            Error::InUse(_) if !self.is_used_up(pasid) => Error::HeldGlobally(pasid),
            other => other,
        })
    }

    /// Whether the global PASID `pasid` is out of generations.
    fn is_used_up(&self, pasid: Pasid) -> bool {
        let entry = self.globals.tree.entry(pasid);
        entry.is_some_and(|entry| entry.slot.state().is(Phase::Retired))
    }

    /// Takes the reservation of `pasid` on every table away.
    pub(crate) fn unreserve(&self, pasid: Pasid, listed: impl FnOnce() -> bool) -> Result<()> {
        if self.kind == SpaceKind::Tables {
            return Err(Error::WrongKind { kind: self.kind });
        }
        self.reserving.with(|()| {
            if self.added_reservation(pasid) && listed() {
                return Err(Error::HeldLocally(pasid));
            }
            // In a space of global sets alone a table's reservation is one here too.
            if self.kind == SpaceKind::Global && self.claims.standing(pasid.get()) > 0 {
                return Err(Error::NotFound(pasid));
            }
            self.unreserve_in(self.contested_globals(), &self.globals, pasid)
        })
    }

    fn reserve_in(&self, contest: Contest<'_, &Tree>, ids: &IdSpace, pasid: Pasid) -> Result<()> {
        if !contest.preload(pasid.get(), pasid.get()) {
            return Err(Error::OutOfMemory);
        }
        match contest.take_at(pasid) {
            Ok(taken) => {
                taken.slot.reserve();
                Ok(())
            }
            Err(why) => Err(self.contested(pasid, why, is_reserved(ids, pasid))),
        }
    }

    fn unreserve_in(&self, contest: Contest<'_, &Tree>, ids: &IdSpace, pasid: Pasid) -> Result<()> {
        ids.check_fits(pasid)?;
        // A value that a tree was built with has no claim, and stays.
        if ids.tree.listed_as_reserved(pasid) {
            return Err(Error::NotFound(pasid));
        }
        let slot = ids.entry_at(pasid)?.slot;
        slot.unreserve().map_err(|_| Error::NotFound(pasid))?;
        contest.give_back(pasid);
        Ok(())
    }

    /// Reserves `pasid` on one table.
    pub(crate) fn reserve_on(&self, table: &TableIds, pasid: Pasid) -> Result<()> {
        table.ids.check_fits(pasid)?;
        self.keep_global_sets_off(pasid)?;
        // In a space for both the claim is part of taking it.
        let reserved = self.reserve_in(self.contested_table(&table.ids), &table.ids, pasid);
        if reserved.is_err() {
            self.let_global_sets_on(pasid);
        }
        reserved
    }

    /// Takes the reservation of `pasid` on one table away.
    pub(crate) fn unreserve_on(&self, table: &TableIds, pasid: Pasid) -> Result<()> {
        self.unreserve_in(self.contested_table(&table.ids), &table.ids, pasid)?;
        self.let_global_sets_on(pasid);
        Ok(())
    }

    /// Enters the PASIDs that a table is built with, so that no global set has one of
    /// them. Changes nothing if one is held globally, and names it.
    pub(crate) fn enter_reserved(&self, ranges: &[PasidRange], width: PasidWidth) -> Result<()> {
        self.reserving.with(|()| {
            for (entered, pasid) in self.to_enter(ranges, width).enumerate() {
                let result = match self.claims() {
                    None => self.keep_off(pasid),
                    Some(claims) => self.enter(claims, pasid),
                };
                if let Err(error) = result {
                    self.leave_first(entered, ranges, width);
                    return Err(error);
                }
            }
            Ok(())
        })
    }

    /// Takes back what [`Shared::enter_reserved`] entered, when the table goes.
    pub(crate) fn leave_reserved(&self, ranges: &[PasidRange], width: PasidWidth) {
        self.reserving
            .with(|()| self.leave_first(usize::MAX, ranges, width));
    }

    fn leave_first(&self, count: usize, ranges: &[PasidRange], width: PasidWidth) {
        for pasid in self.to_enter(ranges, width).take(count) {
            match self.claims() {
                None => self.let_on(pasid),
                Some(claims) => claims.release(pasid.get(), Side::Local),
            }
        }
    }

    /// The PASIDs of `ranges` that the space itself does not reserve, as often as they are
    /// named. Those that
    /// it reserved at run time stay reserved as long as a table is built on that, so they
    /// are the same ones when the table goes.
    fn to_enter<'a>(
        &'a self,
        ranges: &'a [PasidRange],
        width: PasidWidth,
    ) -> impl Iterator<Item = Pasid> + 'a {
        ranges.iter().flat_map(move |range| {
            let part = range.intersect(width.range());
            let numbers = part.into_iter();
            let numbers = numbers.flat_map(|part| part.first().get()..=part.last().get());
            numbers.map(Pasid::from_index).filter(move |&pasid| {
                !self.globals.tree.listed_as_reserved(pasid) && !self.is_reserved_by_space(pasid)
            })
        })
    }

    /// Whether the space reserves `pasid`, and was not built with that.
    pub(crate) fn added_reservation(&self, pasid: Pasid) -> bool {
        !self.globals.tree.listed_as_reserved(pasid) && self.is_reserved_by_space(pasid)
    }

    /// Whether the space itself reserved `pasid` at run time.
    pub(crate) fn is_reserved_by_space(&self, pasid: Pasid) -> bool {
        let reserved = is_reserved(&self.globals, pasid);
        // In a space of global sets alone it may be that tables reserve it.
        reserved && self.claims.standing(pasid.get()) == 0
    }

    /// In a space of global sets alone: one more table reserves `pasid`.
    ///
    /// What the space reserved itself is told from what tables reserve by two words, the
    /// slot and the claim; so whoever changes one of them or goes by both holds the lock.
    fn keep_global_sets_off(&self, pasid: Pasid) -> Result<()> {
        self.reserving.with(|()| self.keep_off(pasid))
    }

    fn keep_off(&self, pasid: Pasid) -> Result<()> {
        if self.kind != SpaceKind::Global || self.globals.tree.listed_as_reserved(pasid) {
            return Ok(());
        }
        let others = self.claims.standing(pasid.get());
        self.enter(&self.claims, pasid)?;
        if others > 0 {
            return Ok(());
        }
        let reserved = match self.globals.reserve(pasid) {
            // Nobody has it, and nobody will.
            Err(Error::InUse(_)) if self.is_used_up(pasid) => Ok(()),
            Err(Error::InUse(_)) => Err(Error::HeldGlobally(pasid)),
            other => other,
        };
        reserved.inspect_err(|_| self.claims.release(pasid.get(), Side::Local))
    }

    /// In a space of global sets alone: one table less reserves `pasid`.
    fn let_global_sets_on(&self, pasid: Pasid) {
        self.reserving.with(|()| self.let_on(pasid));
    }

    fn let_on(&self, pasid: Pasid) {
        if self.kind != SpaceKind::Global || self.globals.tree.listed_as_reserved(pasid) {
            return;
        }
        self.claims.release(pasid.get(), Side::Local);
        if self.claims.standing(pasid.get()) == 0 {
            // It was reserved when the first table did, and nobody else takes it away.
            let _ = self.globals.unreserve(pasid);
        }
    }

    /// A claim for one more table, with its memory.
    fn enter(&self, claims: &Claims, pasid: Pasid) -> Result<()> {
        let leaf = claims.grow(pasid.get()).ok_or(Error::OutOfMemory)?;
        leaf.enter(pasid.get() % LEAF_PASIDS, Side::Local)
            .map_err(|why| self.opposed(pasid, why))
    }

    /// The error of a claim that was refused.
    fn opposed(&self, pasid: Pasid, why: Opposed) -> Error {
        match why {
            Opposed::HeldGlobally if is_reserved(&self.globals, pasid) => Error::Reserved(pasid),
            Opposed::HeldGlobally => Error::HeldGlobally(pasid),
            Opposed::HeldLocally | Opposed::TooManyClaims => Error::HeldLocally(pasid),
        }
    }

    /// The error of a call for one PASID that was not free; `reserved` says whether it is
    /// reserved where the bits are.
    pub(crate) fn contested(&self, pasid: Pasid, why: Contested, reserved: bool) -> Error {
        match why {
            Contested::InUse | Contested::OutOfMemory if reserved => Error::Reserved(pasid),
            Contested::InUse => Error::InUse(pasid),
            Contested::OutOfMemory => Error::OutOfMemory,
            Contested::Opposed(why) => self.opposed(pasid, why),
        }
    }

    /// Bytes of what has grown here.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Shared>() + self.globals.grown_bytes() + self.claims.memory_bytes()
    }
}

/// Whether `pasid` is reserved in an id space.
pub(crate) fn is_reserved(ids: &IdSpace, pasid: Pasid) -> bool {
    match ids.tree.entry(pasid) {
        Some(entry) => entry.slot.state().is_reserved(),
        None => ids.tree.listed_as_reserved(pasid),
    }
}

/// A group's tables, in ascending order of their numbers.
impl crate::contest::Members for &[Counted<TableIds>] {
    fn count(&self) -> usize {
        self.len()
    }

    fn tree(&self, index: usize) -> Option<&Tree> {
        self.get(index).map(|table| &table.ids.tree)
    }
}
