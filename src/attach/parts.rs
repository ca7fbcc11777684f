// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attachments without their table, for who keeps many of one.

use super::{Attach, Attaching, Attachment, Fault};
use crate::attachments::Entry;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::source::Source;
use crate::status::Seen;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

/// What an [`Attaching`] or an [`Attachment`] is without its table, for who keeps many.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    entry: NonNull<Entry<Source>>,
    generation: u32,
    handle: Handle,
    status: Seen,
}

// SAFETY: as of those that it is a part of.
unsafe impl Send for Parts {}
// SAFETY: as above.
unsafe impl Sync for Parts {}

impl Parts {
    /// Takes `count` faults on what is attached, or none.
    ///
    /// # Safety
    /// The table is there, and the attachment's own reference is held.
    pub(crate) unsafe fn take_faults(&self, count: u32) -> Result<()> {
        // SAFETY: in the table, whose memory only grows.
        let entry = unsafe { self.entry.as_ref() };
        let taken = entry.hold_more(count);
        taken.map_err(|_| Error::TooManyFaults(self.handle.pasid()))
    }

    /// Gives back all but one of `count` faults.
    ///
    /// # Safety
    /// So many are held, and the table is there.
    pub(crate) unsafe fn answer_all_but_one(&self, count: u32) {
        // SAFETY: in the table, whose memory only grows.
        let entry = unsafe { self.entry.as_ref() };
        entry.drop_more(count.saturating_sub(1));
    }
}

impl<T: Attach> Attaching<T> {
    pub(crate) fn into_parts(self) -> Parts {
        let attaching = ManuallyDrop::new(self);
        // SAFETY: `attaching` is not dropped, and its table not used again.
        drop(unsafe { core::ptr::read(&attaching.table) });
        Parts {
            entry: attaching.entry,
            generation: attaching.generation,
            handle: attaching.handle,
            status: attaching.status,
        }
    }

    /// # Safety
    /// From `into_parts` of one of the same table, and of each once.
    pub(crate) unsafe fn of(table: T, parts: Parts) -> Attaching<T> {
        Attaching {
            entry: parts.entry,
            generation: parts.generation,
            handle: parts.handle,
            status: parts.status,
            table,
        }
    }
}

impl<T: Attach> Attachment<T> {
    /// # Safety
    /// The parts of an [`Attaching`] of the same table that was committed, whose attachment
    /// was forgotten; of each once.
    pub(crate) unsafe fn of(table: T, parts: Parts) -> Attachment<T> {
        Attachment {
            entry: parts.entry,
            generation: parts.generation,
            handle: parts.handle,
            table,
        }
    }
}

impl<T: Attach> Fault<T> {
    /// # Safety
    /// A fault was taken on an attachment of the same table with these parts, and nothing
    /// else gives it back.
    pub(crate) unsafe fn of(table: T, parts: Parts) -> Fault<T> {
        // SAFETY: in the table, whose memory only grows.
        let word = unsafe { parts.entry.as_ref() }.word();
        Fault {
            entry: parts.entry,
            pasid: parts.handle.pasid(),
            word,
            table,
        }
    }
}
