// SPDX-License-Identifier: MIT OR Apache-2.0
//! Claiming what was restored, by its old name.

use super::{Item, Placed, Restored, Stage, item_of};
use crate::attach::{Attach, Attachment, Fault};
use crate::error::{Error, Result};
use crate::grant::{Allocate, Grant};
use crate::handle::Handle;
use crate::owned::{Held, Owned, Ref};
use crate::pasid::Pasid;
use crate::pinned::Pinned;
use crate::pool::Pool;
use crate::source::Source;

impl Restored {
    /// The item of `old` in the set that `pool` is, with what names it now.
    fn claimed<S: Pool>(&mut self, pool: &S, old: Handle) -> Result<(&mut Item, Held)> {
        let source = core::ptr::from_ref(pool.source()).cast::<Source>();
        let mut sets = self.sets.iter_mut();
        let set = sets.find(|set| core::ptr::eq(&*set.source, source));
        let set = set.ok_or(Error::WrongSet(old.pasid()))?;
        let item = item_of(&mut set.items, old.pasid()).filter(|item| item.old == old);
        let item = item.ok_or(Error::Stale(old))?;
        let handle = item.new.ok_or(Error::Stale(old))?;
        let slot = pool.source().slot_of(handle)?;
        Ok((item, Held::from(Grant { handle, slot })))
    }

    /// The owner of the allocation that was named `old`.
    ///
    /// Progress: wait-free. Context: any.
    ///
    /// # Errors
    /// [`Error::WrongSet`] if `set` was not restored, [`Error::Stale`] if it had no such
    /// allocation, or the owner's reference was not held then, or was claimed.
    pub fn claim<S: Pool>(&mut self, set: S, old: Handle) -> Result<Owned<S>> {
        let (item, held) = self.claimed(&set, old)?;
        if !core::mem::take(&mut item.own) {
            return Err(Error::Stale(old));
        }
        Ok(Owned::new(set, held))
    }

    /// A reference to the allocation that was named `old`, beside the owner's. Each can be
    /// claimed once.
    ///
    /// Progress: wait-free. Context: any.
    ///
    /// # Errors
    /// As [`Restored::claim`].
    pub fn claim_ref<S: Pool>(&mut self, set: S, old: Handle) -> Result<Ref<S>> {
        let (item, held) = self.claimed(&set, old)?;
        item.references = item.references.checked_sub(1).ok_or(Error::Stale(old))?;
        Ok(Ref::new(set, held))
    }

    /// The pin of the allocation that was named `old`.
    ///
    /// Progress: wait-free. Context: any.
    ///
    /// # Errors
    /// As [`Restored::claim`].
    pub fn claim_pin<S: Pool>(&mut self, set: S, old: Handle) -> Result<Pinned<S>> {
        let (item, held) = self.claimed(&set, old)?;
        if !core::mem::take(&mut item.pinned) {
            return Err(Error::Stale(old));
        }
        Ok(Pinned::of(set, held))
    }

    fn placed(&mut self, table: &impl Attach, old: Pasid) -> Result<&mut Placed> {
        let tables = &mut self.tables;
        let found = tables
            .iter_mut()
            .find(|found| core::ptr::eq(found.table.core(), table.core()));
        let found = found.ok_or(Error::NotAttached(old))?;
        let place = found.placed.binary_search_by_key(&old, |placed| placed.old);
        let placed = place.ok().and_then(|place| found.placed.get_mut(place));
        placed.ok_or(Error::NotAttached(old))
    }

    /// The attachment of the PASID that was `old`.
    ///
    /// Progress: wait-free. Context: any.
    ///
    /// # Errors
    /// [`Error::NotAttached`] if there was none, or it was claimed.
    pub fn claim_attachment<T: Attach>(&mut self, table: T, old: Pasid) -> Result<Attachment<T>> {
        let placed = self.placed(&table, old)?;
        if placed.stage != Stage::Attached {
            return Err(Error::NotAttached(old));
        }
        placed.stage = Stage::Gone;
        // SAFETY: from an attachment to this table, and made into one once: the stage says
        // so.
        Ok(unsafe { Attachment::of(table, placed.parts) })
    }

    /// A fault in flight on the PASID that was `old`. Each can be claimed once.
    ///
    /// Progress: wait-free. Context: any.
    ///
    /// # Errors
    /// [`Error::NotAttached`] if there was none, or all were claimed.
    pub fn claim_fault<T: Attach>(&mut self, table: T, old: Pasid) -> Result<Fault<T>> {
        let placed = self.placed(&table, old)?;
        let left = placed.faults.checked_sub(1);
        placed.faults = left.ok_or(Error::NotAttached(old))?;
        // SAFETY: one of the faults that were taken on an attachment to this table, and
        // are counted down as they are claimed.
        Ok(unsafe { Fault::of(table, placed.parts) })
    }
}
