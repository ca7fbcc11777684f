// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaching PASIDs to a table, and finding them again when a page fault comes.
//!
//! `attachments.rs` has the protocol of an entry, `status.rs` that with the table's status.

use crate::attachments::{Entry, Held as Released};
use crate::counted::Counted;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::slot::Slot;
use crate::source::{Source, does_not_fit};
use crate::status::Seen;
use crate::sync::{Mutation, fence_totally, planted};
use crate::table::{Table, TableCore};
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use heap::sync::Arc;

mod listing;
mod parts;

pub use listing::{Attached, Attachments};
pub(crate) use parts::Parts;

pub(crate) mod sealed {
    use super::{Counted, Handle, Slot, Source};

    /// A way to hold a table.
    pub trait Table: Clone {
        fn core(&self) -> &super::TableCore;
    }

    /// Whoever holds a reference to a PASID of a set.
    pub trait Holder {
        fn held(&self) -> (&Counted<Source>, Handle, &Slot);
    }
}

impl sealed::Table for &Table {
    #[inline(always)]
    fn core(&self) -> &TableCore {
        Table::core(self)
    }
}

impl sealed::Table for Arc<Table> {
    #[inline(always)]
    fn core(&self) -> &TableCore {
        Table::core(self)
    }
}

/// Whoever holds a reference to a PASID of a set: an [`Owned`](crate::Owned) or a
/// [`Ref`](crate::Ref) from an [`IoasidSet`](crate::IoasidSet).
pub trait Holder: sealed::Holder {}

/// Attaching to a table, by `&Table` or `Arc<Table>`: what comes back holds the table in the
/// same way.
///
/// ```
/// use pasid::{Attach, Error, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind, TableConfig};
///
/// let space = Space::new(SpaceKind::Both);
/// let table = space.add_table(TableConfig::new(PasidWidth::MAX))?;
/// let users = space.add_set(SetConfig::new(Scope::Global))?;
/// let process = users.alloc(users.range(), 0)?;
/// let pasid = process.pasid();
///
/// table.preload(pasid.into())?;
/// let attaching = table.attach(&process, 0xD0)?;
/// // ... the hardware entry is written ...
/// assert_eq!(table.fault_get(pasid).err(), Some(Error::NotAttached(pasid)));
/// let attachment = attaching.commit()?;
/// assert_eq!(attachment.handle(), process.handle());
///
/// // A page fault brings the number. The reference is held until the response is sent.
/// let fault = table.fault_get(pasid)?;
/// assert_eq!(fault.word(), 0xD0);
/// drop(fault);
///
/// drop(process); // revoked: the attachment still holds the number
/// assert_eq!(table.fault_get(pasid).err(), Some(Error::BeingFreed(pasid)));
/// attachment.detach();
/// assert_eq!(table.fault_get(pasid).err(), Some(Error::NotFound(pasid)));
/// # Ok::<(), Error>(())
/// ```
pub trait Attach: sealed::Table {
    /// Reserves the table's entry for the PASID that `holder` holds, with a word for the
    /// fault path. Look-ups do not find it before [`Attaching::commit`]. It holds a
    /// reference on the PASID.
    ///
    /// Progress: lock-free. Context: any; never allocates memory.
    ///
    /// # Errors
    /// [`Error::AlreadyAttached`], also while another attachment is reserved or a fault on a
    /// former one is not answered, and for good after 2^32 attachments of the number; [`Error::WrongSet`] if the PASID's set does not reach this table;
    /// [`Error::DoesNotFit`] if the table is too narrow; [`Error::BeingFreed`],
    /// [`Error::TooManyReferences`]; [`Error::Paused`], [`Error::Closing`];
    /// [`Error::OutOfMemory`] without [`Table::preload`]. Nothing is changed then.
    fn attach(self, holder: &impl Holder, word: u64) -> Result<Attaching<Self>> {
        let core = self.core();
        let (source, handle, slot) = holder.held();
        let pasid = handle.pasid();
        let status = core.table.status.see();
        admit(status, pasid)?;
        if !source.reaches(&core.shared, &core.table) {
            return Err(Error::WrongSet(pasid));
        }
        let entry = core.attachments.entry(pasid.get());
        let entry = entry.ok_or(Error::OutOfMemory)?;
        source.hold_for(handle, slot)?;
        let owner = source.clone().into_raw();
        let Ok(generation) = entry.reserve(NonNull::from(slot), owner, word) else {
            // SAFETY: from `into_raw` above, and the entry did not take it.
            let source = unsafe { Counted::from_raw(owner) };
            source.put_slot(pasid, slot);
            core.graveyard.give_back(source);
            return Err(Error::AlreadyAttached(pasid));
        };
        entry.note(handle);
        let attaching = Attaching {
            entry: NonNull::from(entry),
            generation,
            handle,
            status,
            table: self,
        };
        admit_still(attaching.table.core(), status, pasid)?;
        Ok(attaching)
    }

    /// Finds what is attached at `pasid` and takes a counted reference in the same step,
    /// to be held until the page response is sent.
    ///
    /// Attachments alone are found: a device to which a PASID was never attached does not
    /// reach its owner through it.
    ///
    /// Progress: lock-free. Where nothing is attached, and neither the table's own sets nor
    /// the global ones have the PASID, but a group may, each group of the table is asked.
    /// Context: any, where nothing with payloads that are dropped is attached to the table.
    ///
    /// # Errors
    /// [`Error::NotAttached`] if the PASID is allocated and not attached here;
    /// [`Error::BeingFreed`] if it was revoked, attached here or not (*not attached* is also
    /// said of one of the table's own or of a global set that was just being allocated when
    /// its set was closed, if it is not attached here); [`Error::NotFound`] if it is not
    /// allocated, not yet, or not any more and awaits a flush; [`Error::Reserved`],
    /// [`Error::DoesNotFit`]; [`Error::Closing`] if the table is; [`Error::TooManyFaults`].
    #[inline]
    fn fault_get(self, pasid: Pasid) -> Result<Fault<Self>> {
        let core = self.core();
        let entry = match core.attachments.entry(pasid.get()) {
            Some(entry) => entry,
            None => return Err(core.why_not_attached(pasid, None)),
        };
        let word = match entry.fault_get() {
            Ok((_, word)) => word,
            Err(why) => return Err(core.why_not_attached(pasid, Some(why))),
        };
        let fault = Fault {
            entry: NonNull::from(entry),
            pasid,
            word,
            table: self,
        };
        fault.check()?;
        Ok(fault)
    }
}

impl Attach for &Table {}
impl Attach for Arc<Table> {}

/// A reserved entry, between the check and the writing of the hardware entry.
///
/// # Invariant
/// The entry is reserved by this value alone. It stays where it is, since it lies in the
/// table that is held, and a table's memory only grows.
///
/// ```
/// # use pasid::{Attach, Error, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind, TableConfig};
/// # let space = Space::new(SpaceKind::Tables);
/// # let table = space.add_table(TableConfig::new(PasidWidth::new(8)?))?;
/// # let set = space.add_set(SetConfig::new(Scope::Local(&table)))?;
/// # table.preload(set.range())?;
/// let owned = set.alloc(set.range(), 0)?;
/// let attaching = table.attach(&owned, 0xD0)?;
/// // ... the driver fails to write the entry, and backs out ...
/// drop(attaching);
/// assert!(table.attach(&owned, 0xD1)?.commit().is_ok());
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it gives the entry back"]
pub struct Attaching<T: Attach> {
    entry: NonNull<Entry<Source>>,
    generation: u32,
    handle: Handle,
    /// The table's status when the entry was asked for.
    status: Seen,
    table: T,
}

/// An attached PASID. Dropping it detaches; write the hardware entry away first.
///
/// # Invariant
/// It has the attachment's own reference. The entry stays, as with [`Attaching`].
///
/// ```
/// # use pasid::{Attach, Error, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind, TableConfig};
/// # let space = Space::new(SpaceKind::Tables);
/// # let table = space.add_table(TableConfig::new(PasidWidth::new(8)?))?;
/// # let set = space.add_set(SetConfig::new(Scope::Local(&table)))?;
/// # table.preload(set.range())?;
/// # let owned = set.alloc(set.range(), 0)?;
/// let attachment = table.attach(&owned, 0xD0)?.commit()?;
/// assert_eq!((attachment.pasid(), attachment.handle()), (owned.pasid(), owned.handle()));
/// assert_eq!((attachment.replace(0xD1)?, attachment.word()), (0xD0, 0xD1));
/// attachment.detach();
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it detaches"]
pub struct Attachment<T: Attach> {
    entry: NonNull<Entry<Source>>,
    generation: u32,
    handle: Handle,
    table: T,
}

/// A page fault in flight: a counted reference on an attachment, and through it on the
/// PASID. Dropping it gives the reference back.
///
/// # Invariant
/// It has a reference of its own on the attachment. The entry stays, as with
/// [`Attaching`].
///
/// ```
/// # use pasid::{Attach, Error, PasidWidth, Pool, Scope, SetConfig, Space, SpaceKind, TableConfig};
/// # let space = Space::new(SpaceKind::Tables);
/// # let table = space.add_table(TableConfig::new(PasidWidth::new(8)?))?;
/// # let set = space.add_set(SetConfig::new(Scope::Local(&table)))?;
/// # table.preload(set.range())?;
/// # let owned = set.alloc(set.range(), 0)?;
/// # let _attachment = table.attach(&owned, 0xD0)?.commit()?;
/// let fault = table.fault_get(owned.pasid())?;
/// assert_eq!((fault.handle(), fault.word()), (owned.handle(), 0xD0));
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it gives the reference back"]
pub struct Fault<T: Attach> {
    entry: NonNull<Entry<Source>>,
    pasid: Pasid,
    word: u64,
    table: T,
}

macro_rules! entry_holder {
    ($holder:ident, $pasid:expr) => {
        // SAFETY: a pointer to an entry, which is atomics, numbers, and a way to hold the
        // table, which says itself whether it may go to another thread.
        unsafe impl<T: Attach + Send> Send for $holder<T> {}
        // SAFETY: as above.
        unsafe impl<T: Attach + Sync> Sync for $holder<T> {}

        impl<T: Attach> $holder<T> {
            /// The PASID.
            #[inline]
            pub fn pasid(&self) -> Pasid {
                let pasid: fn(&Self) -> Pasid = $pasid;
                pasid(self)
            }

            #[inline(always)]
            fn entry(&self) -> &Entry<Source> {
                // SAFETY: the entry is in the table that `self.table` holds, whose memory
                // only grows (invariant).
                unsafe { self.entry.as_ref() }
            }
        }

        impl<T: Attach> fmt::Debug for $holder<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = stringify!($holder);
                f.debug_tuple(name).field(&self.pasid()).finish()
            }
        }
    };
}

entry_holder!(Attaching, |attaching| attaching.handle.pasid());
entry_holder!(Attachment, |attachment| attachment.handle.pasid());
entry_holder!(Fault, |fault| fault.pasid);

/// Whether a table of that status takes an attachment of `pasid`.
fn admit(status: Seen, pasid: Pasid) -> Result<()> {
    if status.is_closing() {
        return Err(Error::Closing);
    }
    if status.is_paused() {
        return Err(Error::Paused);
    }
    if pasid > status.last() {
        return Err(does_not_fit(pasid, status.last().get()));
    }
    Ok(())
}

/// Whether a table still takes the attachment that was begun under `begun`. Asked after a
/// step that others see.
fn admit_still(core: &TableCore, begun: Seen, pasid: Pasid) -> Result<()> {
    // Puts the reservation, or the commitment, before the look at the status. Pairs with
    // the sequentially consistent write of who pauses, closes or narrows the table, before
    // its look at the entries.
    fence_totally();
    if planted(Mutation::StatusNotLookedAtAgain) {
        return Ok(());
    }
    let status = core.table.status.see_after_reserving();
    admit(status, pasid)?;
    if status.same_pauses(begun) {
        Ok(())
    } else {
        Err(Error::Paused)
    }
}

/// Gives back what an attachment held, for who ended it.
fn release(core: &TableCore, pasid: Pasid, released: Option<Released<Source>>) {
    let Some(Released { target, owner }) = released else {
        return;
    };
    // SAFETY: the entry took it from `into_raw` in `attach`, and gave it to this call.
    let source = unsafe { Counted::from_raw(owner) };
    // SAFETY: the slot is in the memory of the source, which is held, and a reference to
    // its allocation came with the entry.
    source.put_slot(pasid, unsafe { target.as_ref() });
    core.graveyard.give_back(source);
}

impl<T: Attach> Attaching<T> {
    /// Makes the attachment visible, after the hardware entry was written.
    ///
    /// Progress: lock-free. Context: any.
    ///
    /// # Errors
    /// [`Error::Paused`] if the table was paused since [`Attach::attach`],
    /// [`Error::Closing`], [`Error::DoesNotFit`] if a narrower device is just joining. The entry is given back then, and what was written to hardware
    /// is for the caller to undo.
    pub fn commit(self) -> Result<Attachment<T>> {
        admit_still(self.table.core(), self.status, self.pasid())?;
        let attaching = ManuallyDrop::new(self);
        // It cannot be refused: the entry is reserved by this value (invariant).
        let _ = attaching.entry().commit(attaching.generation);
        let attachment = Attachment {
            entry: attaching.entry,
            generation: attaching.generation,
            handle: attaching.handle,
            // SAFETY: `attaching` is not dropped, and its table not used again.
            table: unsafe { core::ptr::read(&attaching.table) },
        };
        // A pause that began in between still refuses it, so that after a pause nothing
        // is attached but what was before it.
        admit_still(
            attachment.table.core(),
            attaching.status,
            attachment.pasid(),
        )?;
        Ok(attachment)
    }
}

impl<T: Attach> Drop for Attaching<T> {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        if let Ok(released) = self.entry().back_out(self.generation) {
            release(self.table.core(), self.pasid(), released);
        }
    }
}

impl<T: Attach> Attachment<T> {
    /// Names the PASID's allocation.
    ///
    /// Progress: wait-free. Context: any.
    #[inline]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// The attachment's word.
    ///
    /// Progress: wait-free. Context: any.
    pub fn word(&self) -> u64 {
        self.entry().word()
    }

    /// Puts `word` in the place of the attachment's word in one step, after the hardware
    /// entry was rewritten, and returns the old one. A fault finds the one or the other.
    ///
    /// Progress: wait-free. Context: any.
    ///
    /// # Errors
    /// [`Error::Paused`], [`Error::Closing`], [`Error::DoesNotFit`] if a narrower device is
    /// just joining, and [`Error::BeingFreed`] if the PASID was revoked; the old word stays
    /// then. What begins after the look at these does not
    /// undo it.
    pub fn replace(&self, word: u64) -> Result<u64> {
        admit(self.table.core().table.status.see(), self.pasid())?;
        check_live(self.entry(), self.pasid())?;
        Ok(self.entry().replace(word))
    }

    /// Ends the attachment: the same as dropping it. Faults in flight keep the PASID
    /// until they are answered.
    ///
    /// Progress: lock-free. Context: any.
    pub fn detach(self) {
        drop(self);
    }
}

impl<T: Attach> Drop for Attachment<T> {
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        if let Ok(released) = self.entry().detach(self.generation) {
            release(self.table.core(), self.pasid(), released);
        }
    }
}

/// Whether the PASID of an entry still gives out references, for who holds one on the
/// entry. Once it does not, it never does again.
#[inline(always)]
fn check_live(entry: &Entry<Source>, pasid: Pasid) -> Result<()> {
    let (Some(target), Some(owner)) = (entry.target(), entry.owner()) else {
        return Err(Error::NotAttached(pasid));
    };
    // SAFETY: the attachment holds a reference on the allocation, so its slot is there.
    let state = unsafe { target.as_ref() }.state();
    // SAFETY: the attachment holds a reference on the set.
    let closing = unsafe { owner.as_ref() }.is_closing();
    if closing || state.live().is_err() {
        return Err(Error::BeingFreed(pasid));
    }
    Ok(())
}

impl<T: Attach> Fault<T> {
    #[inline(always)]
    fn check(&self) -> Result<()> {
        if self.table.core().table.status.see().is_closing() {
            return Err(Error::Closing);
        }
        check_live(self.entry(), self.pasid)
    }

    /// Names the allocation that is attached. It is not over while the fault is in flight.
    ///
    /// Progress: wait-free. Context: any.
    #[inline]
    pub fn handle(&self) -> Handle {
        let noted = Handle::from_raw(self.entry().noted());
        // SAFETY: whoever attaches notes a handle's raw form before the commit, and the
        // fault's reference keeps others from noting (invariant).
        unsafe { noted.unwrap_unchecked() }
    }

    /// The attachment's word when the fault was looked up.
    ///
    /// Progress: wait-free. Context: any.
    #[inline]
    pub fn word(&self) -> u64 {
        self.word
    }
}

impl<T: Attach> Drop for Fault<T> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        let released = self.entry().fault_put();
        if released.is_some() {
            release(self.table.core(), self.pasid(), released);
        }
    }
}
