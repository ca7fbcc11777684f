// SPDX-License-Identifier: MIT OR Apache-2.0
//! The columns of a set: written run by run, and read PASID by PASID.

use super::{GenerationRun, PasidRun, PhaseSnapshot, SetSnapshot, WordRun};
use crate::error::Result;
use crate::handle::Handle;
use crate::lists;
use crate::pasid::Pasid;
use heap::vec::Vec;

/// One PASID of a set, with what all columns say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasidEntry {
    /// The allocation: PASID and generation, in the id space of the set.
    pub handle: Handle,
    /// Where it is in its life.
    pub phase: PhaseSnapshot,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Whether the owner's own reference is held.
    pub own: bool,
    /// References held.
    pub references: u32,
    /// The owner's word; 0 once the last reference is gone.
    pub word: u64,
}

impl SetSnapshot {
    /// The PASIDs of the set in ascending order. Where the columns disagree, a number is no
    /// PASID, or the tag is none, it ends early; restoring says where.
    ///
    /// Progress: each step is wait-free. Context: any.
    pub fn entries(&self) -> PasidEntries<'_> {
        PasidEntries {
            tag: self.tag,
            pasids: Runs::new(&self.pasids),
            generations: Runs::new(&self.generations),
            words: Runs::new(&self.words),
        }
    }

    /// How many PASIDs the set has.
    ///
    /// Progress: wait-free. Context: any.
    pub fn count(&self) -> u64 {
        self.pasids.iter().map(|run| u64::from(run.count)).sum()
    }

    /// Adds a PASID above all others.
    pub(super) fn push(&mut self, entry: PasidEntry) -> Result<()> {
        let pasid = entry.handle.pasid();
        match self.pasids.last_mut() {
            Some(last) if last.goes_on_with(pasid, &entry) => last.count += 1,
            _ => lists::push(
                &mut self.pasids,
                PasidRun {
                    first: pasid,
                    count: 1,
                    phase: entry.phase,
                    pinned: entry.pinned,
                    own: entry.own,
                    references: entry.references,
                },
            )?,
        }
        let generation = entry.handle.generation();
        match self.generations.last_mut() {
            Some(last) if last.generation == generation => last.count += 1,
            _ => lists::push(
                &mut self.generations,
                GenerationRun {
                    count: 1,
                    generation,
                },
            )?,
        }
        push_word(&mut self.words, entry.word)
    }
}

impl PasidRun {
    fn goes_on_with(&self, pasid: Pasid, entry: &PasidEntry) -> bool {
        let next = u64::from(self.first.get()) + u64::from(self.count);
        let alike = (self.phase, self.pinned, self.own, self.references)
            == (entry.phase, entry.pinned, entry.own, entry.references);
        alike && next == u64::from(pasid.get())
    }
}

/// Adds a word to a column of them.
pub(super) fn push_word(words: &mut Vec<WordRun>, word: u64) -> Result<()> {
    if let Some(last) = words.last_mut() {
        if last.count == 1 {
            last.step = word.wrapping_sub(last.word);
        }
        if last.at(last.count) == word {
            last.count += 1;
            return Ok(());
        }
    }
    let run = WordRun {
        count: 1,
        word,
        step: 0,
    };
    lists::push(words, run)
}

impl WordRun {
    /// The word at a place of the run.
    pub(super) fn at(&self, place: u32) -> u64 {
        let added = self.step.wrapping_mul(u64::from(place));
        self.word.wrapping_add(added)
    }
}

/// The PASIDs of a set; see [`SetSnapshot::entries`].
///
/// ```
/// use pasid::snapshot::PhaseSnapshot;
/// use pasid::{Error, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let space = Space::new(SpaceKind::Global);
/// let set = space.add_set(SetConfig::new(Scope::Global))?;
/// let (one, two) = (set.alloc(set.range(), 5)?, set.alloc(set.range(), 6)?);
/// let held = two.get()?;
/// drop(two);
///
/// let taken = set.snapshot()?;
/// assert_eq!(taken.count(), 2);
/// let all: Vec<_> = taken.entries().collect();
/// assert_eq!((all[0].handle, all[0].word, all[0].own), (one.handle(), 5, true));
/// assert_eq!((all[1].handle, all[1].phase), (held.handle(), PhaseSnapshot::Freeing));
/// assert_eq!((all[1].own, all[1].pinned, all[1].references), (false, false, 1));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct PasidEntries<'a> {
    tag: u16,
    pasids: Runs<'a, PasidRun>,
    generations: Runs<'a, GenerationRun>,
    words: Runs<'a, WordRun>,
}

impl Iterator for PasidEntries<'_> {
    type Item = PasidEntry;

    fn next(&mut self) -> Option<PasidEntry> {
        let (run, place) = self.pasids.next()?;
        let (generation, _) = self.generations.next()?;
        let (word, word_place) = self.words.next()?;
        let pasid = Pasid::new(run.first.get().checked_add(place)?).ok()?;
        if !Handle::is_tag(self.tag) {
            return None;
        }
        Some(PasidEntry {
            handle: Handle::new(pasid, self.tag, generation.generation),
            phase: run.phase,
            pinned: run.pinned,
            own: run.own,
            references: run.references,
            word: word.at(word_place),
        })
    }
}

/// A run of a column.
pub(super) trait Run {
    fn count(&self) -> u32;
}

impl Run for PasidRun {
    fn count(&self) -> u32 {
        self.count
    }
}

impl Run for GenerationRun {
    fn count(&self) -> u32 {
        self.count
    }
}

impl Run for WordRun {
    fn count(&self) -> u32 {
        self.count
    }
}

/// A column place by place: the run, and the place within it.
#[derive(Debug)]
pub(super) struct Runs<'a, R> {
    runs: core::slice::Iter<'a, R>,
    current: Option<&'a R>,
    place: u32,
}

impl<R> Clone for Runs<'_, R> {
    fn clone(&self) -> Self {
        Runs {
            runs: self.runs.clone(),
            ..*self
        }
    }
}

impl<'a, R: Run> Runs<'a, R> {
    pub(super) fn new(runs: &'a [R]) -> Runs<'a, R> {
        Runs {
            runs: runs.iter(),
            current: None,
            place: 0,
        }
    }
}

impl<'a, R: Run> Iterator for Runs<'a, R> {
    type Item = (&'a R, u32);

    fn next(&mut self) -> Option<(&'a R, u32)> {
        loop {
            if let Some(run) = self.current {
                if self.place < run.count() {
                    self.place += 1;
                    return Some((run, self.place - 1));
                }
            }
            self.current = Some(self.runs.next()?);
            self.place = 0;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::{PayloadSnapshot, ScopeSnapshot, VERSION};
    use super::*;
    use crate::order::Policy;
    use crate::reuse::Reuse;

    fn empty() -> SetSnapshot {
        SetSnapshot {
            version: VERSION,
            quiescent: true,
            scope: ScopeSnapshot::Global,
            ranges: Vec::new(),
            policy: Policy::Lowest,
            cursors: Vec::new(),
            quota: None,
            token: None,
            reuse: Reuse::Immediate,
            closing: false,
            payload: PayloadSnapshot::Word,
            tag: 7,
            pasids: Vec::new(),
            generations: Vec::new(),
            words: Vec::new(),
        }
    }

    fn entry(number: u32, generation: u32, references: u32, word: u64) -> PasidEntry {
        let pasid = Pasid::new(number).expect("a PASID");
        PasidEntry {
            handle: Handle::new(pasid, 7, generation),
            phase: PhaseSnapshot::Live,
            pinned: false,
            own: true,
            references,
            word,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut set = empty();
        let mut entries = Vec::new();
        let mut number = 0;
        for _ in 0..5_000 {
            number += random.u32(1..3);
            let word = if random.bool() { 3 } else { random.u64(..) };
            entries.push(entry(number, random.u32(1..3), random.u32(1..3), word));
        }
        for &entry in &entries {
            set.push(entry).expect("memory for a test");
        }
        assert!(set.entries().eq(entries.iter().copied()));
        assert_eq!(set.count(), 5_000);
    }

    #[test]
    fn words_in_even_steps_are_one_run() {
        let mut words = Vec::new();
        for word in [5, 5, 5, 100, 90, 80, 70, u64::MAX, 0, 1] {
            push_word(&mut words, word).expect("memory for a test");
        }
        let run = |count, word, step: i64| WordRun {
            count,
            word,
            step: step as u64,
        };
        assert_eq!(words, [run(3, 5, 0), run(4, 100, -10), run(3, u64::MAX, 1)]);
    }

    #[test]
    fn dense_pasids_with_words_of_their_own_are_few_runs() {
        let mut set = empty();
        for number in 1..=0xf_ffff_u32 {
            let word = 0xffff_8000_0000_0000 + u64::from(number) * 0x1000;
            set.push(entry(number, 1, 1, word))
                .expect("memory for a test");
        }
        let runs = (set.pasids.len(), set.generations.len(), set.words.len());
        assert_eq!(runs, (1, 1, 1));
    }

    #[test]
    fn columns_that_disagree_end_early() {
        let mut set = empty();
        for number in 1..=4 {
            set.push(entry(number, 1, 1, 0)).expect("memory for a test");
        }
        set.generations[0].count = 2;
        assert_eq!(set.entries().count(), 2);
        set.generations[0].count = u32::MAX;
        set.words[0].count = u32::MAX;
        set.pasids[0].count = u32::MAX;
        set.pasids[0].first = Pasid::MAX;
        assert_eq!(set.entries().count(), 1);
    }
}
