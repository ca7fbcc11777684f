// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guards, under which look-ups give references, and retiring what they may still see.
//!
//! The epochs are those of crossbeam-epoch's default collector, and this file is the only
//! one that knows them. A [`Guard`] is a type of its own, because a guard of another
//! collector would protect nothing here.
//!
//! # Why a look-up under a guard sees nothing that was dropped
//! Whoever retires a word made it unreachable first: by the exchange that put another into
//! the slot, or by the step that ended the allocation. Then it defers the drop; the epoch
//! at which that counts is read behind a sequentially consistent fence. A reader
//! passes such a fence when it makes its guard, which pins it, and loads the state, the word, and the state again
//! behind it. One of the two fences comes first.
//!
//! * The reader's: then the one who defers reads an epoch that is not before the
//!   reader's, and the drop waits until the epoch is two further. It gets no more than one
//!   further while the reader is pinned.
//! * The other's: then the reader loads what made the word unreachable, or something later:
//!   another word; or a state that is dead, or a next owner's, and then the word that the
//!   next owner published with it, or a later one.
//!
//! That the state is the same at both loads says that the word is this allocation's
//! (`slot.rs`), and so of this set's type (D1 in `payload.rs`).

use crate::payload::Payload;
use crate::sync::{Mutation, planted};
use core::fmt;
#[cfg(not(loom))]
use crossbeam_epoch::pin as pin_here;
#[cfg(loom)]
use participants::pin_here;

#[cfg(loom)]
pub mod participants;

#[cfg(all(loom, not(crossbeam_loom)))]
compile_error!("with `--cfg loom` alone the epochs are not modelled: add `--cfg crossbeam_loom`");

/// Keeps what look-ups under it find from being dropped, as long as it lives.
///
/// Hold it shortly: what is freed or replaced meanwhile, in any set, is not dropped before
/// it goes. Memory is all that this costs; nobody waits. Guards may overlap, and each is of
/// the thread that made it.
///
/// ```
/// use pasid::{Error, Guard, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set_of::<Box<String>>(SetConfig::new(Scope::Global))?;
/// let owned = set.alloc(set.range(), Box::new("shared".to_string()))?;
///
/// let guard = Guard::new();
/// let found = set.find_guarded(owned.pasid(), &guard)?;
/// drop(owned); // the PASID is free again, and what it carried is still there
/// assert_eq!(found.payload, "shared");
/// # Ok::<(), Error>(())
/// ```
#[must_use = "what is looked up is kept as long as the guard"]
pub struct Guard(crossbeam_epoch::Guard);

impl Guard {
    /// A guard for what this thread looks up from now on.
    ///
    /// Progress: lock-free, but for the drops: now and then it drops what others have
    /// retired. Context: where memory may be allocated and freed and payloads may be
    /// dropped. It uses thread-local state, and the first of a thread registers it; so it is
    /// not for a handler that may have interrupted a call of this kind.
    pub fn new() -> Guard {
        Guard(pin_here())
    }

    /// Lets go of what was found: the same as a new guard, for a loop. Does nothing where
    /// the thread has another guard.
    ///
    /// Progress: wait-free. Context: any.
    pub fn renew(&mut self) {
        self.0.repin();
    }

    /// Hands on what this thread has retired and has kept to itself, and drops what
    /// nobody can see any more, of all threads.
    ///
    /// It is done now and then anyway; this is for who wants it sooner. What is retired is
    /// dropped when all guards that were there then are gone, and somebody has made guards
    /// and flushed a few times since.
    ///
    /// Progress and context: as [`Guard::new`].
    pub fn flush(&self) {
        self.0.flush();
    }
}

impl Default for Guard {
    fn default() -> Guard {
        Guard::new()
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// Drops the payload behind `word` once no guard is left under which it may have been seen.
///
/// # Safety
/// `word` is of a `P`. It was made unreachable before, and is retired once (D2).
pub(crate) unsafe fn retire<P: Payload>(word: u64) {
    let end = move || {
        // SAFETY: the caller's promise.
        drop(unsafe { P::from_word(word) });
    };
    if planted(Mutation::PayloadDroppedAtOnce) {
        return end();
    }
    let guard = pin_here();
    // SAFETY: nobody comes to the word any more who is not pinned now (see the head of this
    // file). A payload may be dropped by any thread at any time: it is Send and 'static.
    unsafe { guard.defer_unchecked(end) };
    #[cfg(loom)]
    if planted(Mutation::PayloadRetiredEarly) {
        // The epoch counts from here, and not from some time after the next step, and gets
        // on as far as it may without that.
        guard.flush();
        drop(guard);
        pin_here().flush();
    }
}
