// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a set tells *exhausted* from *awaiting a flush*.

use super::{Reach, Source};
use crate::alloc::IdSpace;
use crate::error::{Error, Result};
use crate::grant::Grant;
use crate::pasid::Pasid;
use crate::range::PasidRange;
use crate::sync::{Mutation, planted};

impl Source {
    /// Every id space in which a PASID that the set could have may await a flush: its own;
    /// where there are both kinds of sets, the global one for the others; for a group
    /// those of its tables. (For a global set those of the tables are left out, and for all
    /// others those of groups: they may be thousands, and each is flushed for itself. What
    /// waits there is *exhausted* here, as what is held there.)
    fn id_spaces(&self) -> impl Iterator<Item = &IdSpace> {
        let members = match &self.reach {
            Reach::Global | Reach::Local(_) => &[][..],
            Reach::Group { members, .. } => members,
        };
        let globals = match (&self.reach, self.shared.claims()) {
            (Reach::Local(_) | Reach::Group { .. }, Some(_)) => Some(&self.shared.globals),
            _ => None,
        };
        let members = members.iter().map(|table| &table.ids);
        core::iter::once(self.ids()).chain(members).chain(globals)
    }

    /// Whether anything of them ever awaits a flush.
    pub(super) fn quarantines(&self) -> bool {
        let mut id_spaces = self.id_spaces();
        id_spaces.any(|ids| ids.quarantine.follow().is_some())
    }

    /// How many flushes of them completed.
    fn completed_flushes(&self) -> u64 {
        let quarantines = self.id_spaces().filter_map(|ids| ids.quarantine.follow());
        quarantines.fold(0, |sum, quarantine| {
            sum.wrapping_add(quarantine.completed())
        })
    }

    /// How many flushes of them are over, completed or not.
    fn flushes_over(&self) -> u64 {
        let quarantines = self.id_spaces().filter_map(|ids| ids.quarantine.follow());
        quarantines.fold(0, |sum, quarantine| sum.wrapping_add(quarantine.over()))
    }

    /// Whether a PASID of `range` that the set may hand out awaits a flush in one of them.
    fn awaits_flush(&self, range: PasidRange) -> bool {
        let pieces = self.pieces_of(range.first().get(), range.last().get());
        self.id_spaces().any(|ids| {
            let quarantine = ids.quarantine.follow();
            quarantine.is_some_and(|quarantine| {
                let mut pieces = pieces.clone();
                pieces.any(|(first, last)| ids.tree.any_awaits_flush(quarantine, first, last))
            })
        })
    }

    /// Takes one PASID by `take`, where PASIDs may await a flush, and says whether that is
    /// what it waits for.
    ///
    /// Lock-free, as [`Source::alloc_beside_flushes`].
    pub(super) fn take_beside_flushes<T>(
        &self,
        pasid: Pasid,
        take: impl Fn() -> Result<T>,
    ) -> Result<T> {
        loop {
            let (completed, over) = (self.completed_flushes(), self.flushes_over());
            let error = match take() {
                Err(error) if is_held(&error) => error,
                other => return other,
            };
            let awaits = self.awaits_flush(pasid.into());
            if completed != self.completed_flushes() || !awaits && over != self.flushes_over() {
                if planted(Mutation::NotTriedAgain) {
                    return Err(error);
                }
                continue;
            }
            return Err(match awaits {
                true => Error::AwaitingFlush {
                    range: pasid.into(),
                },
                false => error,
            });
        }
    }

    /// Allocates in every case, where PASIDs may await a flush.
    ///
    /// *Exhausted* is exact here too: nothing was free at the moment that the scan names,
    /// and nothing awaited a flush then. For if something had, it would still wait at the
    /// look that follows, or a flush would be over since before the scan (W3 in
    /// `quarantine.rs`), and then all is tried again.
    ///
    /// Lock-free: it goes round only when a flush completed, or was put back by another
    /// thread.
    pub(super) fn alloc_beside_flushes<const GROW: bool>(
        &self,
        range: PasidRange,
        cpu: u32,
        word: u64,
    ) -> Result<Grant<'_>> {
        let mut asked_for_credits = false;
        loop {
            let (completed, over) = (self.completed_flushes(), self.flushes_over());
            let exhausted = match self.alloc_slowly::<GROW>(range, cpu, word) {
                Err(Error::Exhausted { range }) => range,
                // Its credits may have come back since they were asked for.
                Err(Error::QuotaExceeded { .. }) if completed != self.completed_flushes() => {
                    continue;
                }
                Err(error @ Error::QuotaExceeded { .. }) if GROW && !asked_for_credits => {
                    // What waits has credits, which a flush would bring back.
                    asked_for_credits = true;
                    if self.tally().waiting > 0 && self.flushed_since(completed) {
                        continue;
                    }
                    return Err(error);
                }
                other => return other,
            };
            let awaits = self.awaits_flush(exhausted);
            if completed != self.completed_flushes() {
                continue;
            }
            if !awaits {
                if over != self.flushes_over() {
                    continue;
                }
                return Err(Error::Exhausted { range: exhausted });
            }
            if !GROW || !self.flushed_since(completed) {
                return Err(Error::AwaitingFlush { range: exhausted });
            }
        }
    }

    /// Asks for a flush, where one is installed. Returns whether one has completed since
    /// `completed` were.
    fn flushed_since(&self, completed: u64) -> bool {
        if let Some(flusher) = &self.flusher {
            flusher.flush();
        }
        self.flusher.is_some() && completed != self.completed_flushes()
    }
}

/// Whether an allocation failed because the PASID was held, for a set or for a flush.
fn is_held(error: &Error) -> bool {
    matches!(
        error,
        Error::InUse(_) | Error::HeldGlobally(_) | Error::HeldLocally(_) | Error::OutOfMemory
    )
}
