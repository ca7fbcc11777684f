// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a space does, as plainly as it can be said.

use pasid::{Error, Handle, Pasid, PasidRange, PasidWidth};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// PASIDs that get memory together.
const LEAF: u32 = 256;

/// A way to be wrong, for the tests that see whether it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    /// The policy *next* starts at the first of the range each time.
    CursorForgotten,
    /// Of 64 PASIDs one never comes free.
    FreeLost,
    /// A free ends the allocation though others hold references.
    FreeAtOnce,
    /// A free leaves an allocation with references open to new ones.
    FreeDoesNotRevoke,
    /// A revocation is forgotten.
    RevocationForgotten,
    /// A reservation is forgotten as soon as it is made.
    ReservationForgotten,
    /// The owner's word stays what it was at first.
    WordSticks,
    /// `shrink` gives no memory back.
    MemoryKept,
    /// Everything has memory.
    MemoryEverywhere,
    /// A handle is good for every allocation of its PASID.
    GenerationIgnored,
    /// The last PASID of the width is not handed out.
    OneShort,
    /// A pin keeps nothing.
    PinForgotten,
    /// A PASID stays when its pin is taken away.
    PinSticks,
    /// A PASID has several pins.
    PinnedTwice,
}

#[derive(Debug, Clone)]
enum Held {
    Reserved,
    Allocated(Allocation),
    /// Over, and pinned.
    Kept(Handle),
}

#[derive(Debug, Clone)]
struct Allocation {
    handle: Handle,
    word: u64,
    revoked: bool,
    /// The allocation's own reference is held.
    own: bool,
    /// References beside it.
    others: u32,
    pinned: bool,
}

/// A space as maps.
#[derive(Debug, Clone)]
pub struct Model {
    width: PasidWidth,
    next: bool,
    /// One after the last PASID that a search handed out.
    cursor: u32,
    /// What was reserved when the space was built.
    listed: Vec<PasidRange>,
    held: BTreeMap<u32, Held>,
    /// Leaves that have memory.
    memory: BTreeSet<u32>,
    /// Every handle that there has been.
    issued: HashSet<Handle>,
    quirk: Option<Quirk>,
}

impl Model {
    /// An empty space.
    pub fn new(
        width: PasidWidth,
        next: bool,
        listed: &[PasidRange],
        quirk: Option<Quirk>,
    ) -> Model {
        let mut model = Model {
            width,
            next,
            cursor: 0,
            listed: listed.to_vec(),
            held: BTreeMap::new(),
            memory: BTreeSet::new(),
            issued: HashSet::new(),
            quirk,
        };
        for number in listed.iter().flat_map(|range| numbers(*range)) {
            model.held.insert(number, Held::Reserved);
        }
        model
    }

    fn is(&self, quirk: Quirk) -> bool {
        self.quirk == Some(quirk)
    }

    /// Whether the space has such a PASID.
    pub fn fits(&self, pasid: Pasid) -> Result<(), Error> {
        if self.width.bits() == 0 {
            Err(Error::NoPasidSupport)
        } else if pasid > self.width.last() {
            let width = self.width;
            Err(Error::DoesNotFit { pasid, width })
        } else {
            Ok(())
        }
    }

    fn has_memory(&self, number: u32) -> bool {
        self.memory.contains(&(number / LEAF)) || self.is(Quirk::MemoryEverywhere)
    }

    fn is_free(&self, number: u32) -> bool {
        let hidden = self.is(Quirk::OneShort) && number == self.width.last().get();
        !self.held.contains_key(&number) && !hidden
    }

    // ---- Allocation ----------------------------------------------------------

    /// Which PASID an allocation from `request` takes.
    pub fn choose(&mut self, request: PasidRange, may_grow: bool) -> Result<Pasid, Error> {
        self.fits(request.first())?;
        let (first, last) = (request.first(), request.last().min(self.width.last()));
        let request = PasidRange::new(first, last)?;
        let (first, last) = (first.get(), last.get());
        let from = if self.next
            && (first..=last).contains(&self.cursor)
            && !self.is(Quirk::CursorForgotten)
        {
            self.cursor
        } else {
            first
        };
        let mut in_order = (from..=last).chain(first..from);
        let chosen = if may_grow {
            in_order.find(|&number| self.is_free(number))
        } else {
            let mut in_memory = self
                .in_memory(from, last)
                .chain(self.in_memory(first, from));
            in_memory.find(|&number| self.is_free(number))
        };
        match chosen {
            Some(number) => {
                self.cursor = number + 1;
                self.memory.insert(number / LEAF);
                Pasid::new(number)
            }
            // Nothing is free, or nothing where memory is.
            None if !may_grow && in_order.any(|number| self.is_free(number)) => {
                Err(Error::OutOfMemory)
            }
            None => Err(Error::Exhausted { range: request }),
        }
    }

    /// The numbers of a range that have memory. (A number that is both in the part
    /// before the cursor and after it comes twice, which does no harm.)
    fn in_memory(&self, first: u32, last: u32) -> impl Iterator<Item = u32> {
        let leaves: Vec<u32> = if self.is(Quirk::MemoryEverywhere) {
            (first / LEAF..=last / LEAF).collect()
        } else {
            self.memory
                .range(first / LEAF..=last / LEAF)
                .copied()
                .collect()
        };
        leaves
            .into_iter()
            .flat_map(move |leaf| (leaf * LEAF).max(first)..=(leaf * LEAF + (LEAF - 1)).min(last))
    }

    /// Whether `alloc_at` takes `pasid`.
    pub fn choose_at(&self, pasid: Pasid) -> Result<(), Error> {
        self.fits(pasid)?;
        match self.held.get(&pasid.get()) {
            Some(Held::Reserved) => Err(Error::Reserved(pasid)),
            Some(Held::Allocated(_) | Held::Kept(_)) => Err(Error::InUse(pasid)),
            None if !self.has_memory(pasid.get()) => Err(Error::OutOfMemory),
            None => Ok(()),
        }
    }

    /// Notes an allocation. `false` if the handle has been there before.
    pub fn allocated(&mut self, handle: Handle, word: u64) -> bool {
        let allocation = Allocation {
            handle,
            word,
            revoked: false,
            own: true,
            others: 0,
            pinned: false,
        };
        let number = handle.pasid().get();
        self.held.insert(number, Held::Allocated(allocation));
        self.issued.insert(handle)
    }

    // ---- References ----------------------------------------------------------

    fn at(&self, number: u32) -> Option<&Allocation> {
        match self.held.get(&number) {
            Some(Held::Allocated(allocation)) => Some(allocation),
            _ => None,
        }
    }

    fn named(&mut self, handle: Handle) -> Result<&mut Allocation, Error> {
        let any = self.is(Quirk::GenerationIgnored);
        match self.held.get_mut(&handle.pasid().get()) {
            Some(Held::Allocated(one)) if any || one.handle == handle => Ok(one),
            _ => Err(Error::Stale(handle)),
        }
    }

    /// Whether the handle's allocation is not over.
    pub fn lasts(&self, handle: Handle) -> bool {
        self.at(handle.pasid().get())
            .is_some_and(|one| one.handle == handle)
    }

    /// Whether the handle's allocation still has its own reference, and how many
    /// others.
    pub fn references(&self, handle: Handle) -> Option<(bool, u32)> {
        let one = self.at(handle.pasid().get())?;
        (one.handle == handle).then_some((one.own, one.others))
    }

    /// `get`, and a clone from an owner.
    pub fn get(&mut self, handle: Handle) -> Result<(), Error> {
        let one = self.named(handle)?;
        if one.revoked {
            return Err(Error::BeingFreed(handle.pasid()));
        }
        one.others += 1;
        Ok(())
    }

    /// A clone from a reference, which cannot be refused.
    pub fn clone_held(&mut self, handle: Handle) -> Result<(), Error> {
        self.named(handle)?.others += 1;
        Ok(())
    }

    /// `get_at`: which allocation it was.
    pub fn get_at(&mut self, pasid: Pasid) -> Result<Handle, Error> {
        let (handle, _) = self.find(pasid)?;
        self.get(handle).map(|()| handle)
    }

    /// `find`: handle and word.
    pub fn find(&self, pasid: Pasid) -> Result<(Handle, u64), Error> {
        self.fits(pasid)?;
        match self.held.get(&pasid.get()) {
            Some(Held::Allocated(one)) if one.revoked => Err(Error::BeingFreed(pasid)),
            Some(Held::Allocated(one)) => Ok((one.handle, one.word)),
            Some(Held::Reserved) => Err(Error::Reserved(pasid)),
            None | Some(Held::Kept(_)) => Err(Error::NotFound(pasid)),
        }
    }

    /// The word, whether revoked or not, for a holder.
    pub fn word(&mut self, handle: Handle) -> Result<u64, Error> {
        self.named(handle).map(|one| one.word)
    }

    /// `replace`, for a holder.
    pub fn replace(&mut self, handle: Handle, word: u64) -> Result<u64, Error> {
        let sticks = self.is(Quirk::WordSticks);
        let one = self.named(handle)?;
        let before = one.word;
        if !sticks {
            one.word = word;
        }
        Ok(before)
    }

    /// `into_ref`, for an owner.
    pub fn disown(&mut self, handle: Handle) -> Result<(), Error> {
        let one = self.named(handle)?;
        (one.own, one.others) = (false, one.others + 1);
        Ok(())
    }

    /// `revoke`.
    pub fn revoke(&mut self, handle: Handle) -> Result<(), Error> {
        let forgotten = self.is(Quirk::RevocationForgotten);
        self.named(handle)?.revoked = !forgotten;
        Ok(())
    }

    /// `put`, and the drop of a reference.
    pub fn put(&mut self, handle: Handle) -> Result<(), Error> {
        let one = self.named(handle)?;
        if one.others == 0 {
            return Err(Error::Stale(handle));
        }
        one.others -= 1;
        self.end_if_unheld(handle.pasid());
        Ok(())
    }

    /// `free`, and the drop of an owner.
    pub fn free(&mut self, handle: Handle) -> Result<(), Error> {
        let (revokes, at_once) = (
            !self.is(Quirk::FreeDoesNotRevoke),
            self.is(Quirk::FreeAtOnce),
        );
        let one = self.named(handle)?;
        one.revoked |= revokes;
        one.own = false;
        if at_once {
            one.others = 0;
        }
        self.end_if_unheld(handle.pasid());
        Ok(())
    }

    fn end_if_unheld(&mut self, pasid: Pasid) {
        let number = pasid.get();
        let lost = self.is(Quirk::FreeLost) && number % 64 == 21;
        let one = self.at(number).filter(|one| !one.own && one.others == 0);
        let ended = one.map(|one| (one.handle, one.pinned));
        match ended.filter(|_| !lost) {
            Some((handle, true)) if !self.is(Quirk::PinForgotten) => {
                self.held.insert(number, Held::Kept(handle));
            }
            Some(_) => {
                self.held.remove(&number);
            }
            None => {}
        }
    }

    /// `pin`, for a holder.
    pub fn pin(&mut self, handle: Handle) -> Result<(), Error> {
        let twice = self.is(Quirk::PinnedTwice);
        let one = self.named(handle)?;
        if one.pinned && !twice {
            return Err(Error::AlreadyPinned(handle.pasid()));
        }
        one.pinned = true;
        Ok(())
    }

    /// The pin on that allocation is taken away.
    pub fn unpin(&mut self, handle: Handle) {
        let (number, sticks) = (handle.pasid().get(), self.is(Quirk::PinSticks));
        if let Ok(one) = self.named(handle) {
            one.pinned = false;
        } else if matches!(self.held.get(&number), Some(Held::Kept(kept)) if *kept == handle)
            && !sticks
        {
            self.held.remove(&number);
        }
    }

    /// What is live in `range`: handles and words, ascending.
    pub fn live(&self, range: PasidRange) -> Vec<(Handle, u64)> {
        let range = range.first().get()..=range.last().get();
        let live = self.held.range(range).filter_map(|(_, held)| match held {
            Held::Allocated(one) if !one.revoked => Some((one.handle, one.word)),
            _ => None,
        });
        live.collect()
    }

    /// How many PASIDs of the width are free.
    pub fn count_free(&self) -> u32 {
        let held = self.held.range(..=self.width.last().get()).count();
        match self.width.bits() {
            0 => 0,
            _ => self.width.count() - held as u32,
        }
    }

    // ---- Control -------------------------------------------------------------

    /// `reserve`.
    pub fn reserve(&mut self, pasid: Pasid) -> Result<(), Error> {
        self.fits(pasid)?;
        let number = pasid.get();
        self.memory.insert(number / LEAF);
        self.choose_at(pasid)?;
        if !self.is(Quirk::ReservationForgotten) {
            self.held.insert(number, Held::Reserved);
        }
        Ok(())
    }

    /// `unreserve`.
    pub fn unreserve(&mut self, pasid: Pasid) -> Result<(), Error> {
        self.fits(pasid)?;
        self.memory.insert(pasid.get() / LEAF);
        match self.held.get(&pasid.get()) {
            Some(Held::Reserved) => {
                self.held.remove(&pasid.get());
                Ok(())
            }
            _ => Err(Error::NotFound(pasid)),
        }
    }

    /// `preload`: how many leaves came into being.
    pub fn preload(&mut self, range: PasidRange) -> Result<usize, Error> {
        self.fits(range.last())?;
        let before = self.memory.len();
        self.memory
            .extend(range.first().get() / LEAF..=range.last().get() / LEAF);
        Ok(self.memory.len() - before)
    }

    /// `shrink`: how many leaves are gone.
    pub fn shrink(&mut self) -> usize {
        if self.is(Quirk::MemoryKept) {
            return 0;
        }
        let before = self.memory.len();
        let as_new = |leaf: u32| {
            let (first, last) = (leaf * LEAF, leaf * LEAF + (LEAF - 1));
            let listed: BTreeSet<u32> = self
                .listed
                .iter()
                .flat_map(|range| numbers(*range))
                .filter(|number| (first..=last).contains(number))
                .collect();
            let mut held = self.held.range(first..=last);
            held.clone().count() == listed.len()
                && held
                    .all(|(number, one)| matches!(one, Held::Reserved) && listed.contains(number))
        };
        let kept = self.memory.iter().copied().filter(|&leaf| !as_new(leaf));
        self.memory = kept.collect();
        before - self.memory.len()
    }

    /// How many leaves have memory.
    pub fn leaves(&self) -> usize {
        self.memory.len()
    }
}

fn numbers(range: PasidRange) -> std::ops::RangeInclusive<u32> {
    range.first().get()..=range.last().get()
}
