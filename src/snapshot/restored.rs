// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was restored, until it is claimed.

use super::columns::PasidEntry;
use super::error::{Place, RestoreError};
use super::restoring::Numbers;
use super::{AliasMapSnapshot, AttachmentRun, PhaseSnapshot, SpaceSnapshot};
use crate::attach::{Attaching, Attachment, Fault, Parts};
use crate::counted::Counted;
use crate::grant::Allocate;
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::payload::Payload;
use crate::set::IoasidSet;
use crate::slot::Slot;
use crate::source::Source;
use crate::space::{Space, typed};
use crate::table::Table;
use core::fmt;
use heap::vec::Vec;

mod claiming;

/// A snapshot that was restored: its tables and sets, and every reference, attachment,
/// fault and pin that nobody has claimed yet.
///
/// Who held something names it as before, by the old handle or number, and gets what holds
/// it now. Dropping this gives back what was not claimed, as if its holders had.
///
/// ```
/// use pasid::snapshot::{Numbers, Restore};
/// use pasid::{Attach, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind, TableConfig};
///
/// let space = Space::new(SpaceKind::Tables);
/// let table = space.add_table(TableConfig::new(PasidWidth::new(8)?))?;
/// let set = space.add_set(SetConfig::new(Scope::Local(&table)))?;
/// table.preload(set.range())?;
/// let owned = set.alloc(set.range(), 0xED)?;
/// let (reference, pin) = (owned.get()?, owned.pin()?);
/// let attachment = table.attach(&owned, 7)?.commit()?;
/// let fault = table.fault_get(owned.pasid())?;
/// let forgotten = set.alloc(set.range(), 0)?;
/// let taken = space.snapshot()?;
///
/// let host = Space::new(SpaceKind::Tables);
/// let mut restored = Restore::new(&taken).numbers(Numbers::New).into_space(&host)?;
/// let set = restored.set::<u64>(0).expect("a set of words");
/// let table = restored.table(0).expect("its table").clone();
/// let owned_here = restored.claim(&set, owned.handle())?;
/// let here = owned_here.handle();
/// assert_eq!(restored.handle_of(0, owned.handle()), Some(here));
/// assert_eq!(restored.claim_ref(&set, reference.handle())?.handle(), here);
/// assert_eq!(restored.claim_pin(&set, pin.handle())?.handle(), here);
/// assert_eq!(restored.claim_attachment(&table, attachment.pasid())?.handle(), here);
/// assert_eq!(restored.claim_fault(&table, fault.pasid())?.handle(), here);
///
/// // What nobody claims.
/// assert_eq!(restored.unclaimed_attachments().count(), 0);
/// assert_eq!(restored.unclaimed_faults().count(), 0);
/// let left = restored.unclaimed().next().expect("one");
/// assert_eq!((left.old, left.own, left.pinned), (forgotten.handle(), true, false));
/// assert_eq!((left.references, left.aliases), (0, 0));
/// restored.drop_unclaimed();
/// assert_eq!(set.find(left.new.pasid()).is_ok(), false);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[must_use = "what is not claimed is given back when it is dropped"]
pub struct Restored {
    pub(super) tables: Vec<RestoredTable>,
    pub(super) sets: Vec<RestoredSet>,
    /// The alias maps, until they are claimed.
    pub(super) aliases: Vec<AliasMapSnapshot>,
    /// What was reserved in the space for it.
    pub(super) reserved: Vec<Pasid>,
}

/// A table, and what was attached.
pub(super) struct RestoredTable {
    pub(super) table: Table,
    pub(super) added: bool,
    /// In ascending order of the old numbers.
    pub(super) placed: Vec<Placed>,
}

/// A set, and its PASIDs in ascending order of the old numbers.
pub(super) struct RestoredSet {
    pub(super) source: Counted<Source>,
    pub(super) items: Vec<Item>,
}

/// One PASID: what it was, and what is held of it and not claimed.
pub(super) struct Item {
    pub(super) old: Handle,
    /// The last number that fits all tables to which it is attached.
    pub(super) last: Pasid,
    /// Once it is allocated.
    pub(super) new: Option<Handle>,
    pub(super) word: u64,
    pub(super) phase: PhaseSnapshot,
    pub(super) pinned: bool,
    pub(super) own: bool,
    /// Beside the owner's, and without those of aliases and attachments.
    pub(super) references: u32,
    /// Those of aliases.
    pub(super) aliases: u32,
}

/// One attachment.
pub(super) struct Placed {
    old: Pasid,
    parts: Parts,
    stage: Stage,
    detached: bool,
    faults: u32,
}

/// How far an attachment is, and whose.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reserved,
    Attached,
    /// Detached, or claimed.
    Gone,
}

/// Something restored that nobody has claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unclaimed {
    /// The old handle.
    pub old: Handle,
    /// The handle now.
    pub new: Handle,
    /// Whether the owner's reference is among it.
    pub own: bool,
    /// References beside the owner's.
    pub references: u32,
    /// References of aliases.
    pub aliases: u32,
    /// Whether the pin is among it.
    pub pinned: bool,
}

impl Item {
    pub(super) fn of(entry: &PasidEntry) -> Item {
        Item {
            old: entry.handle,
            last: Pasid::MAX,
            new: None,
            word: entry.word,
            phase: entry.phase,
            pinned: entry.pinned,
            own: entry.own,
            references: entry.references.saturating_sub(u32::from(entry.own)),
            aliases: 0,
        }
    }
}

impl Item {
    /// References beside the owner's, without those of attachments.
    fn counted(&self) -> u32 {
        self.references.saturating_add(self.aliases)
    }

    /// How many of them there are while the owner's is held in any case, which is one of
    /// them in the end where there is no owner.
    pub(super) fn beside_owner(&self) -> u32 {
        match self.own {
            true => self.counted(),
            false => self.counted().saturating_sub(1),
        }
    }

    /// Its slot, once it is allocated.
    fn slot<'a>(&self, source: &'a Source) -> Option<(Handle, &'a Slot)> {
        let handle = self.new?;
        // It cannot be missing while it is held.
        Some((handle, source.slot_of(handle).ok()?))
    }
}

/// The item of a PASID by its old number.
pub(super) fn item_of(items: &mut [Item], pasid: Pasid) -> Option<&mut Item> {
    let place = items.binary_search_by_key(&pasid, |item| item.old.pasid());
    items.get_mut(place.ok()?)
}

impl Placed {
    pub(super) fn reserved(old: Pasid, run: &AttachmentRun, parts: Parts) -> Placed {
        Placed {
            old,
            parts,
            stage: Stage::Reserved,
            detached: run.detached,
            faults: run.faults,
        }
    }
}

impl Placed {
    /// Gives back the faults in flight that nobody has claimed.
    fn answer(&self, table: &Table) {
        if self.faults > 0 {
            // SAFETY: so many are held, on an attachment to this table.
            unsafe { self.parts.answer_all_but_one(self.faults) };
            // SAFETY: the one that is left.
            drop(unsafe { Fault::of(table, self.parts) });
        }
    }
}

impl RestoredSet {
    pub(super) fn item_at(&self, pasid: Pasid) -> Option<&Item> {
        let items = &self.items;
        let place = items.binary_search_by_key(&pasid, |item| item.old.pasid());
        items.get(place.ok()?)
    }

    /// Brings the PASIDs from *owned*, with references beside, to what they were.
    fn finish(&mut self) {
        let source = self.source.clone();
        for item in &mut self.items {
            let Some((handle, slot)) = item.slot(&source) else {
                continue;
            };
            if item.pinned && !slot.pin() {
                // Somebody who found it by its number was first.
                item.pinned = false;
            }
            let freeing = item.phase != PhaseSnapshot::Live;
            if item.own || item.counted() == 0 {
                match (freeing, item.own) {
                    (false, true) => {}
                    (false, false) => {
                        slot.disown();
                        source.put_held(handle, slot);
                    }
                    // It is not refused: the owner's reference is held.
                    (true, true) => drop(source.revoke(handle)),
                    (true, false) => source.free_held(handle, slot),
                }
                continue;
            }
            // The owner's reference is one of the others from now on.
            if freeing {
                // As above.
                let _ = source.revoke(handle);
            }
            slot.disown();
        }
    }

    /// Gives back what is not claimed.
    fn give_back(&mut self) {
        let source = self.source.clone();
        for item in &mut self.items {
            let Some((handle, slot)) = item.slot(&source) else {
                continue;
            };
            let counted = item.counted();
            (item.references, item.aliases) = (0, 0);
            if counted > 0 {
                slot.drop_more(counted - 1);
                source.put_held(handle, slot);
            }
            if core::mem::take(&mut item.own) {
                source.free_held(handle, slot);
            }
            if core::mem::take(&mut item.pinned) {
                source.unpin(handle, slot);
            }
        }
    }
}

impl Restored {
    pub(super) fn new() -> Restored {
        Restored {
            tables: Vec::new(),
            sets: Vec::new(),
            aliases: Vec::new(),
            reserved: Vec::new(),
        }
    }

    // ---- Building ------------------------------------------------------------------

    /// Makes the attachments visible.
    pub(super) fn commit(&mut self) -> core::result::Result<(), RestoreError> {
        for (index, table) in (0..).zip(&mut self.tables) {
            for placed in &mut table.placed {
                let pasid = placed.old;
                let out = RestoreError::refused(Place::Attachment {
                    table: index,
                    pasid,
                });
                // SAFETY: from `into_parts` of an attachment to this table, and taken
                // together once: the stage says so.
                let attaching = unsafe { Attaching::of(&table.table, placed.parts) };
                placed.stage = Stage::Gone;
                let attachment = attaching.commit().map_err(&out)?;
                // It lives on in its parts.
                core::mem::forget(attachment);
                placed.stage = Stage::Attached;
                // SAFETY: the attachment of this table was just forgotten, not detached.
                let taken = unsafe { placed.parts.take_faults(placed.faults) };
                if taken.is_err() {
                    placed.faults = 0;
                }
                taken.map_err(&out)?;
            }
        }
        Ok(())
    }

    /// Undoes all: nothing is left, and nothing waits for a flush.
    pub(super) fn undo(&mut self, space: &Space) {
        for table in &mut self.tables {
            for placed in table.placed.drain(..) {
                if placed.stage == Stage::Attached {
                    placed.answer(&table.table);
                }
                match placed.stage {
                    // SAFETY: as in `commit`.
                    Stage::Reserved => drop(unsafe { Attaching::of(&table.table, placed.parts) }),
                    // SAFETY: as in `commit`.
                    Stage::Attached => drop(unsafe { Attachment::of(&table.table, placed.parts) }),
                    Stage::Gone => {}
                }
            }
        }
        for set in self.sets.drain(..) {
            for item in &set.items {
                if let Some((handle, slot)) = item.slot(&set.source) {
                    // Not the last: the owner's is held.
                    slot.drop_more(item.beside_owner());
                    set.source.undo(handle, slot);
                }
            }
            set.source.close();
        }
        for table in self.tables.drain(..).filter(|table| table.added) {
            table.table.close();
        }
        for pasid in self.reserved.drain(..) {
            // It was reserved by this call.
            let _ = space.unreserve(pasid);
        }
    }

    /// Goes on from where nothing can be refused any more.
    pub(super) fn finish(&mut self, snapshot: &SpaceSnapshot, numbers: Numbers) {
        for table in &mut self.tables {
            for placed in &mut table.placed {
                if placed.detached {
                    placed.stage = Stage::Gone;
                    // SAFETY: as in `commit`.
                    drop(unsafe { Attachment::of(&table.table, placed.parts) });
                }
            }
        }
        for (set, taken) in self.sets.iter_mut().zip(&snapshot.sets) {
            set.finish();
            if numbers == Numbers::Same {
                set.source.order().go_on_from(&taken.cursors);
            }
            if taken.closing {
                set.source.close();
            }
            set.source.show();
        }
        for (table, taken) in self.tables.iter().zip(&snapshot.tables) {
            if table.added && taken.paused {
                table.table.pause();
            }
            if table.added && taken.closing {
                table.table.close();
            }
        }
    }

    // ---- Finding -------------------------------------------------------------------

    /// The table at an index of [`SpaceSnapshot::tables`].
    ///
    /// Progress: wait-free. Context: any.
    pub fn table(&self, index: usize) -> Option<&Table> {
        self.tables.get(index).map(|table| &table.table)
    }

    /// The set at an index of [`SpaceSnapshot::sets`], if its payloads are of that type.
    ///
    /// Progress: wait-free. Context: any.
    pub fn set<P: Payload>(&self, index: usize) -> Option<IoasidSet<P>> {
        typed(self.sets.get(index)?.source.clone())
    }

    /// The handle now of the allocation that was named `old` in the set at an index. `None` if
    /// it had no such allocation, or that was in quarantine and all numbers are new.
    ///
    /// Progress: wait-free. Context: any.
    pub fn handle_of(&self, set: usize, old: Handle) -> Option<Handle> {
        let item = self.sets.get(set)?.item_at(old.pasid());
        item.filter(|item| item.old == old)?.new
    }

    /// What nobody has claimed of the PASIDs, in the order of the snapshot.
    ///
    /// Progress: each step is wait-free. Context: any.
    pub fn unclaimed(&self) -> impl Iterator<Item = Unclaimed> + '_ {
        let items = self.sets.iter().flat_map(|set| &set.items);
        items.filter_map(|item| {
            let references = item.references > 0 || item.aliases > 0;
            let left = item.own || references || item.pinned;
            let new = item.new.filter(|_| left)?;
            Some(Unclaimed {
                old: item.old,
                new,
                own: item.own,
                references: item.references,
                aliases: item.aliases,
                pinned: item.pinned,
            })
        })
    }

    /// Faults in flight that nobody has claimed: the table's index, the old number, and how
    /// many.
    ///
    /// Progress: each step is wait-free. Context: any.
    pub fn unclaimed_faults(&self) -> impl Iterator<Item = (usize, Pasid, u32)> + '_ {
        let tables = self.tables.iter().enumerate();
        tables.flat_map(|(index, table)| {
            let left = table.placed.iter().filter(|placed| placed.faults > 0);
            left.map(move |placed| (index, placed.old, placed.faults))
        })
    }

    /// Attachments that nobody has claimed: the table's index, and the old number.
    ///
    /// Progress: each step is wait-free. Context: any.
    pub fn unclaimed_attachments(&self) -> impl Iterator<Item = (usize, Pasid)> + '_ {
        let tables = self.tables.iter().enumerate();
        tables.flat_map(|(index, table)| {
            let left = |placed: &&Placed| placed.stage == Stage::Attached;
            let placed = table.placed.iter().filter(left);
            placed.map(move |placed| (index, placed.old))
        })
    }

    /// Gives back what nobody has claimed: the same as dropping this.
    ///
    /// Progress: lock-free. Context: where memory may be freed, and control calls made.
    pub fn drop_unclaimed(self) {}
}

impl Drop for Restored {
    fn drop(&mut self) {
        for table in &mut self.tables {
            for placed in table.placed.drain(..) {
                placed.answer(&table.table);
                if placed.stage == Stage::Attached {
                    // SAFETY: as in `claim_attachment`.
                    drop(unsafe { Attachment::of(&table.table, placed.parts) });
                }
            }
        }
        self.sets.iter_mut().for_each(RestoredSet::give_back);
    }
}

impl fmt::Debug for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restored")
            .field("tables", &self.tables.len())
            .field("sets", &self.sets.len())
            .field("unclaimed", &self.unclaimed().count())
            .finish()
    }
}
