// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the steps of an alias must not be.
//!
//! Only the models have these: a canary plants one, and its model must notice.

use super::entries::Entries;
use super::table::{VirtualCore, VirtualTable};
use crate::error::{Error, Result};
use crate::grant::Allocate;
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::pool::Pool;
use crate::sync::{AtomicU64, Ordering};

impl<S: Pool> VirtualTable<S> {
    /// Looks whether the PASID is live, enters it, and counts itself only then.
    pub(super) fn attach_uncounted(&self, guest: Pasid, handle: Handle) -> Result<()> {
        let core = &*self.core;
        core.pool.source().look(handle)?;
        if !core.entries.enter(guest.get(), None, handle) {
            return Err(Error::AlreadyAttached(guest));
        }
        if let Ok(reference) = core.get(handle) {
            let _ = reference.into_raw();
        }
        Ok(())
    }
}

impl<S: Pool> VirtualCore<S> {
    /// Gives the reference back while the entry still stands.
    pub(super) fn take_out_put_first(&self, number: u32) -> Option<Handle> {
        let handle = self.entries.find(number)?.handle();
        self.put(handle);
        self.entries.leave(number)
    }
}

impl Entries {
    /// The newest value: the models take others in between, and not an old value for one.
    /// It is no addition of 0, since that would write.
    fn newest(host: &AtomicU64) -> u64 {
        let never = u64::MAX;
        // Acquire, also where it fails, which it always does.
        host.compare_exchange(never, never, Ordering::AcqRel, Ordering::Acquire)
            .unwrap_or_else(|newest| newest)
    }

    /// Finds nothing in one step and writes in another.
    pub(super) fn take_in_two_steps(host: &AtomicU64, word: u64) -> bool {
        if Entries::newest(host) != 0 {
            return false;
        }
        // Release: as in `enter`; the two steps are the mistake.
        host.store(word, Ordering::Release);
        true
    }

    /// Finds the entry in one step and ends it in another.
    pub(super) fn leave_in_two_steps(host: &AtomicU64, handle: Handle) -> Option<Handle> {
        if Entries::newest(host) != handle.to_raw() {
            return None;
        }
        // Release: as in `leave`; the two steps are the mistake.
        host.store(0, Ordering::Release);
        Some(handle)
    }
}
