// SPDX-License-Identifier: MIT OR Apache-2.0
//! PASID tables: their control calls.

use crate::alloc::IdSpace;
use crate::attachments::Attachments;
use crate::counted::Counted;
use crate::error::{Error, Result};
use crate::graveyard::Graveyard;
use crate::groups::Groups;
use crate::lists;
use crate::lock::ControlLock;
use crate::pasid::{Pasid, PasidWidth};
use crate::range::PasidRange;
use crate::requester::RequesterId;
use crate::shared::{Shared, TableIds};
use crate::source::{Source, does_not_fit};
use crate::status::Status;
use crate::sync::{Mutation, planted};
use core::fmt;
use heap::borrow::Cow;
use heap::vec::Vec;

/// What a table is made of.
///
/// ```
/// use pasid::{Error, Pasid, PasidRange, PasidWidth, Space, SpaceKind, TableConfig};
///
/// // A table of 256 entries, of which the firmware keeps the last.
/// let last = Pasid::new(255)?;
/// let reserved = [PasidRange::from(last)];
/// let config = TableConfig::new(PasidWidth::new(8)?).reserved(&reserved);
/// let table = Space::new(SpaceKind::Tables).add_table(config)?;
/// assert_eq!(table.width().last(), last);
/// assert_eq!(table.reserve(last), Err(Error::Reserved(last)));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TableConfig<'a> {
    pub(crate) width: PasidWidth,
    pub(crate) reserved: &'a [PasidRange],
}

impl<'a> TableConfig<'a> {
    /// A table of that width, without reserved values of its own: the PASID bits that both
    /// the device and its IOMMU have, see [`limits`](crate::limits).
    #[must_use]
    pub const fn new(width: PasidWidth) -> TableConfig<'a> {
        TableConfig {
            width,
            reserved: &[],
        }
    }

    /// What is reserved on this table, beside what is reserved in the space: with VT-d the
    /// RID_PASID of the table. Ranges may overlap and may reach beyond the width.
    ///
    /// In a space with global sets each value costs 8 bytes, in steps of 2 KiB for 256.
    #[must_use]
    pub const fn reserved(self, reserved: &'a [PasidRange]) -> TableConfig<'a> {
        TableConfig { reserved, ..self }
    }
}

/// What the handles of one table refer to.
pub struct TableCore {
    pub(crate) shared: Counted<Shared>,
    pub(crate) table: Counted<TableIds>,
    pub(crate) attachments: Attachments<Source>,
    /// The sets that went with their last attachment here.
    pub(crate) graveyard: Graveyard,
    /// The values that the table was built with.
    reserved: Vec<PasidRange>,
    devices: ControlLock<Vec<(RequesterId, PasidWidth)>>,
    /// The local sets: those that close with the table.
    sets: ControlLock<Vec<Counted<Source>>>,
}

/// A PASID table: a device, or several that share one (an IOMMU group).
///
/// A counted handle: a clone refers to the same table, and the table's memory lasts as
/// long as any of them. What is attached to it, see [`Attach`](crate::Attach).
///
/// ```
/// use pasid::{Attach, Error, Pasid, PasidWidth, Pool, RequesterId, Scope, SetConfig, Space};
/// use pasid::{SpaceKind, TableConfig};
///
/// let space = Space::new(SpaceKind::Both);
/// let table = space.add_table(TableConfig::new(PasidWidth::MAX))?;
/// assert_eq!(table.width(), PasidWidth::MAX);
///
/// // A device with 16 bits joins: from now on the table has no more.
/// let device = RequesterId(0x3a08);
/// table.join(device, PasidWidth::new(16)?)?;
/// assert_eq!(table.width().bits(), 16);
/// table.leave(device)?;
/// assert_eq!(table.width(), PasidWidth::MAX);
/// // The firmware of the device turns out to keep a number, for now.
/// let number = Pasid::new(5)?;
/// table.reserve(number)?;
/// let set = space.add_set(SetConfig::new(Scope::Local(&table)))?;
/// assert_eq!(set.alloc_at(number, 0).err(), Some(Error::Reserved(number)));
/// table.unreserve(number)?;
/// let owned = set.alloc_at(number, 0)?;
/// // A reset: nobody attaches until the device is back. It has memory for 256 numbers.
/// table.preload(number.into())?;
/// assert!(table.pause());
/// assert_eq!(table.attach(&owned, 0).err(), Some(Error::Paused));
/// assert!(table.resume());
/// drop(table.attach(&owned, 0)?.commit()?);
/// assert!(table.is_same(&table.clone()) && table.memory_bytes() > 0);
///
/// // The device is pulled out.
/// table.close();
/// assert!(table.is_closing() && set.is_closing());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Table {
    core: Counted<TableCore>,
}

impl Table {
    /// A table of `width`, which is above 0, as number `number` of its space.
    pub(crate) fn new(
        shared: &Counted<Shared>,
        config: TableConfig<'_>,
        number: u64,
    ) -> Result<Table> {
        let listed = shared.globals.tree.reserved();
        let mut reserved = lists::with_room(config.reserved.len())?;
        lists::push_all(&mut reserved, config.reserved)?;
        let mut all = lists::with_room(listed.len() + config.reserved.len())?;
        lists::push_all(&mut all, listed)?;
        lists::push_all(&mut all, config.reserved)?;
        let table = Counted::new(TableIds {
            ids: IdSpace::holding(config.width, Cow::Owned(all)),
            status: Status::new(config.width.last()),
            groups: Groups::new(),
            number,
        });
        let core = Counted::new(TableCore {
            shared: shared.clone(),
            table: table.ok_or(Error::OutOfMemory)?,
            attachments: Attachments::new(),
            graveyard: Graveyard::new(),
            reserved,
            devices: ControlLock::new(Vec::new()),
            sets: ControlLock::new(Vec::new()),
        });
        let table = Table {
            core: core.ok_or(Error::OutOfMemory)?,
        };
        shared.enter_reserved(config.reserved, config.width)?;
        Ok(table)
    }

    #[inline(always)]
    pub(crate) fn core(&self) -> &TableCore {
        &self.core
    }

    /// How many PASID bits every device of the table has.
    ///
    /// Progress: wait-free. Context: any.
    pub fn width(&self) -> PasidWidth {
        let last = self.core.table.status.see().last();
        let bits = (last.get() | 1).ilog2() + 1;
        PasidWidth::new(bits as u8).unwrap_or(PasidWidth::MAX)
    }

    /// Whether both are handles of the same table.
    ///
    /// Progress: wait-free. Context: any.
    #[must_use]
    pub fn is_same(&self, other: &Table) -> bool {
        self.core.ptr_eq(&other.core)
    }

    // ---- Devices -----------------------------------------------------------------

    /// A device joins the table. If it has fewer bits than the others, the table has
    /// fewer from now on; one of width 0 has no PASID support, and is ignored.
    ///
    /// PASIDs that were allocated and are not attached stay allocated, also those that
    /// do not fit any more.
    ///
    /// Progress: waits for other control calls. Context: may allocate memory.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`] names the lowest PASID attached here that the device has no
    /// entry for; [`Error::DeviceJoined`], [`Error::Closing`], [`Error::OutOfMemory`].
    pub fn join(&self, device: RequesterId, width: PasidWidth) -> Result<()> {
        let status = &self.core.table.status;
        self.core.devices.with(|devices| {
            if status.see().is_closing() {
                return Err(Error::Closing);
            }
            if devices.iter().any(|&(joined, _)| joined == device) {
                return Err(Error::DeviceJoined(device));
            }
            devices.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
            let before = status.see().last();
            if width != PasidWidth::ZERO && width.last() < before {
                // Before anything is changed, so that a device that is refused for what has
                // been attached all the time narrows the table for nobody.
                if !planted(Mutation::JoinNarrowsAtOnce) {
                    self.leaves_none_outside(width)?;
                }
                status.set_last(width.last());
                // Again, for what was attached meanwhile.
                self.leaves_none_outside(width).inspect_err(|_| {
                    status.set_last(before);
                })?;
            }
            // There is room since above.
            lists::push(devices, (device, width))
        })
    }

    /// Fails if a PASID beyond `width` is attached, or being attached.
    fn leaves_none_outside(&self, width: PasidWidth) -> Result<()> {
        let beyond = width.last().get() + 1;
        let attachments = &self.core.attachments;
        match attachments.first_in_use(beyond, Pasid::MAX.get()) {
            None => Ok(()),
            Some(number) => Err(Error::DoesNotFit {
                pasid: Pasid::from_index(number),
                width,
            }),
        }
    }

    /// A device leaves the table. If it was the one with the fewest bits, the table has
    /// as many again as those that stay, and at most as many as it was built with.
    ///
    /// Progress: waits for other control calls. Context: any in which these may be made.
    ///
    /// # Errors
    /// [`Error::DeviceNotJoined`].
    pub fn leave(&self, device: RequesterId) -> Result<()> {
        self.core.devices.with(|devices| {
            let joined = devices.iter().position(|&(joined, _)| joined == device);
            let left = joined.and_then(|index| lists::take(devices, index));
            left.ok_or(Error::DeviceNotJoined(device))?;
            let widths = devices.iter().map(|&(_, width)| width);
            let supporting = widths.filter(|&width| width != PasidWidth::ZERO);
            let built = self.core.table.ids.width();
            let least = supporting.fold(built, |least, width| least.min(width));
            self.core.table.status.set_last(least.last());
            Ok(())
        })
    }

    // ---- Reset and removal -------------------------------------------------------

    /// Lets nothing more be attached, until [`Table::resume`]: around a reset of the
    /// device. Attachments whose hardware entry is being written are refused when they
    /// are committed, also if the table is resumed by then. What is attached stays, and
    /// faults in flight are answered.
    ///
    /// Returns whether it was running.
    ///
    /// Progress: lock-free. Context: any.
    pub fn pause(&self) -> bool {
        self.core.table.status.pause()
    }

    /// Lets attach again. Returns whether the table was paused.
    ///
    /// Progress: lock-free. Context: any.
    pub fn resume(&self) -> bool {
        self.core.table.status.resume()
    }

    /// Closes the table: its device was removed. New calls for it get [`Error::Closing`], the
    /// sets of this table alone are closed with it, so their PASIDs are revoked, and
    /// groups of which it is part allocate no more. What others have attached here ends
    /// as they detach. Closing twice is no error.
    ///
    /// What awaits a flush here still does, and stays out of use until it has been
    /// [flushed](crate::Flush), with nothing to invalidate if the device is gone. Where no handle was
    /// kept, [`Space::closing_tables`](crate::Space::closing_tables) gives one.
    ///
    /// Progress: waits for other control calls that add or close sets of this table.
    /// Context: where control calls may be made, and memory may be freed.
    pub fn close(&self) {
        self.core.table.status.close();
        self.core.graveyard.empty();
        // One at a time, so that nothing is locked while observers are told. None is
        // added from now on.
        let open = || {
            let sets = &self.core.sets;
            sets.with(|sets| sets.iter().find(|set| !set.is_closing()).cloned())
        };
        while let Some(set) = open() {
            set.close();
        }
    }

    /// Whether the table was closed.
    ///
    /// Progress: wait-free. Context: any.
    pub fn is_closing(&self) -> bool {
        self.core.table.status.see().is_closing()
    }

    // ---- Reservations and memory ---------------------------------------------------

    /// Reserves `pasid` on this table: no set that reaches it hands it out.
    ///
    /// Progress: waits for other control calls. Context: may allocate memory.
    ///
    /// # Errors
    /// [`Error::InUse`] if a set of this table holds it, [`Error::HeldGlobally`] if a
    /// global one does; [`Error::Reserved`], [`Error::Closing`],
    /// [`Error::DoesNotFit`] if it is beyond the width that the table was built with;
    /// [`Error::OutOfMemory`]. Nothing is changed then.
    pub fn reserve(&self, pasid: Pasid) -> Result<()> {
        if self.is_closing() {
            return Err(Error::Closing);
        }
        self.core.shared.reserve_on(&self.core.table, pasid)
    }

    /// Takes a reservation of [`Table::reserve`] away.
    ///
    /// Progress: waits for other control calls.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is not reserved, or was when the table was built;
    /// [`Error::DoesNotFit`] if it is beyond the width that the table was built with.
    pub fn unreserve(&self, pasid: Pasid) -> Result<()> {
        self.core.shared.unreserve_on(&self.core.table, pasid)
    }

    /// Puts memory in place for attachments of every PASID in `range`, 10 KiB for each
    /// 256. Returns the bytes added meanwhile.
    ///
    /// Attaching never allocates memory; so this comes first.
    ///
    /// Progress: lock-free. Context: may allocate memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; what was put in place stays. [`Error::DoesNotFit`] if the
    /// range reaches beyond the width.
    pub fn preload(&self, range: PasidRange) -> Result<usize> {
        let last = self.core.table.status.see().last();
        if range.last() > last {
            return Err(does_not_fit(range.last(), last.get()));
        }
        let attachments = &self.core.attachments;
        let before = attachments.memory_bytes();
        if attachments.grow_range(range.first().get(), range.last().get()) {
            Ok(attachments.memory_bytes().saturating_sub(before))
        } else {
            Err(Error::OutOfMemory)
        }
    }

    /// Bytes of memory in use by the table and what was attached to it.
    ///
    /// Progress: wait-free. Context: any.
    pub fn memory_bytes(&self) -> usize {
        let fixed = size_of::<TableCore>() + size_of::<TableIds>();
        fixed + self.core.table.ids.grown_bytes() + self.core.attachments.memory_bytes()
    }

    // ---- For the space -----------------------------------------------------------

    /// Takes note of a local set, so that it closes with the table.
    pub(crate) fn list_set(&self, set: &Counted<Source>) -> Result<()> {
        self.core.sets.with(|sets| {
            // Looked at under the lock that closing takes after it has said so.
            if self.is_closing() {
                return Err(Error::Closing);
            }
            lists::push(sets, set.clone())
        })
    }

    /// What the table was built with as reserved.
    pub(crate) fn reserved(&self) -> &[PasidRange] {
        &self.core.reserved
    }

    /// Shows the devices that have joined, one by one.
    pub(crate) fn devices(
        &self,
        mut show: impl FnMut(RequesterId, PasidWidth) -> Result<()>,
    ) -> Result<()> {
        let devices = &self.core.devices;
        devices.with(|devices| devices.iter().try_for_each(|&(of, width)| show(of, width)))
    }

    pub(crate) fn has_ids(&self, ids: &Counted<TableIds>) -> bool {
        self.core.table.ptr_eq(ids)
    }

    /// Whether the table was built with `pasid` reserved.
    pub(crate) fn lists(&self, pasid: Pasid) -> bool {
        let fits = pasid <= self.core.table.ids.range().last();
        fits && self.core.reserved.iter().any(|range| range.contains(pasid))
    }

    pub(crate) fn unlist_set(&self, set: &Counted<Source>) {
        let sets = &self.core.sets;
        sets.with(|sets| sets.retain(|listed| !listed.ptr_eq(set)));
    }

    /// Frees what is left of groups that are gone, if no fault looks at it.
    pub(crate) fn forget_groups(&self) {
        self.core.table.groups.forget();
    }

    /// Whether the table is closed and nothing refers to it but the registry: no handle,
    /// no attachment, and no set.
    pub(crate) fn is_gone(&self) -> bool {
        let unused = self.core.count() == 1 && self.core.table.count() == 1;
        self.is_closing() && unused
    }

    /// Takes back what the table kept reserved, when it goes.
    pub(crate) fn take_reservations_back(&self) {
        let (shared, table) = (&self.core.shared, &self.core.table);
        for pasid in table.ids.added_reservations() {
            // It is reserved, and nobody else takes it away now.
            let _ = shared.unreserve_on(table, pasid);
        }
        shared.leave_reserved(&self.core.reserved, table.ids.width());
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("number", &self.core.table.number)
            .field("width", &self.width())
            .field("closing", &self.is_closing())
            .finish_non_exhaustive()
    }
}
