// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread of the churn: random steps, each checked against the shadow.

use crate::shadow::{FLIP, Shadow, UNSET, check_word, word_of};
use pasid::{Error, Handle, IdSpace, Owned, Pasid, PasidRange, Pool, Ref};
use std::sync::atomic::{AtomicU64, Ordering};

/// What the threads of a round share.
pub struct Arena<'a> {
    pub space: &'a IdSpace,
    pub request: PasidRange,
    pub shadow: Shadow,
    /// Handles for others to try, live or over: raw, 0 for none.
    pub board: Vec<AtomicU64>,
    /// Whether threads revoke what others own.
    pub revoking: bool,
    /// `get` was refused for a handle that was live when it was put on the board.
    pub refused: AtomicU64,
    pub exhausted: AtomicU64,
}

/// One thread's holdings.
pub struct Worker<'a> {
    arena: &'a Arena<'a>,
    random: fastrand::Rng,
    owned: Vec<Owned<&'a IdSpace>>,
    refs: Vec<Ref<&'a IdSpace>>,
    /// Handles whose allocation this thread saw end.
    over: Vec<Handle>,
    held_last: usize,
}

impl<'a> Worker<'a> {
    /// A worker that holds at most `held_last` owners and as many references.
    pub fn new(arena: &'a Arena<'a>, seed: u64, held_last: usize) -> Worker<'a> {
        Worker {
            arena,
            random: fastrand::Rng::with_seed(seed),
            owned: Vec::new(),
            refs: Vec::new(),
            over: Vec::new(),
            held_last,
        }
    }

    /// Takes `steps` random steps and gives everything back.
    pub fn run(mut self, steps: u32) {
        for _ in 0..steps {
            match self.random.u8(..16) {
                0..=3 => self.alloc(),
                4..=5 => self.free(),
                6 => self.hand_over(),
                7..=9 => self.get_from_board(),
                10 => self.get_by_number(),
                11 => self.drop_reference(),
                12 => self.clone_reference(),
                13 => self.look_up(),
                14 => self.use_stale(),
                _ => self.check_own(),
            }
        }
        while !self.owned.is_empty() {
            self.free();
        }
        while !self.refs.is_empty() {
            self.drop_reference();
        }
    }

    fn number(&mut self) -> Pasid {
        let (first, last) = (self.arena.request.first(), self.arena.request.last());
        let number = self.random.u32(first.get()..=last.get());
        Pasid::new(number).expect("between two PASIDs")
    }

    fn alloc(&mut self) {
        let Arena { space, request, .. } = *self.arena;
        let number = self.number();
        let result = match self.random.u8(..8) {
            0 => space.alloc_at(number, UNSET),
            1 => space.alloc_in_place(request, UNSET),
            _ => space.alloc(request, UNSET),
        };
        match result {
            Ok(owned) => {
                let handle = owned.handle();
                assert!(request.contains(owned.pasid()));
                self.arena.shadow.allocated(handle);
                assert_eq!(
                    owned.replace(word_of(handle)),
                    UNSET,
                    "broken: not its word"
                );
                self.post(handle);
                self.owned.push(owned);
            }
            Err(Error::Exhausted { range }) => {
                assert_eq!(range, request);
                self.arena.exhausted.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => assert_eq!(error, Error::InUse(number)),
        }
        if self.owned.len() > self.held_last {
            self.free();
        }
    }

    /// Frees a random one of its own, in one of the ways there are.
    fn free(&mut self) {
        if self.owned.is_empty() {
            return;
        }
        let owned = self
            .owned
            .swap_remove(self.random.usize(..self.owned.len()));
        let handle = owned.handle();
        let keeps = self.refs.iter().any(|one| one.handle() == handle);
        self.arena.shadow.releasing(handle);
        if self.random.bool() {
            drop(owned);
        } else {
            let raw = Handle::from_raw(owned.into_raw()).expect("the raw form of a handle");
            // SAFETY: the allocation that `into_raw` gave up.
            unsafe { self.arena.space.free(raw) }.expect("the owner frees");
        }
        // It is revoked at the least, and over where nobody else holds it.
        match self.arena.space.get(handle).map(drop) {
            Err(Error::BeingFreed(_)) => {}
            Err(Error::Stale(_)) => {
                assert!(!keeps, "broken: {handle} is over while it is held");
                self.remember(handle);
            }
            other => panic!("broken: {other:?} after the free of {handle}"),
        }
    }

    fn remember(&mut self, handle: Handle) {
        if self.over.len() == 64 {
            self.over.swap_remove(self.random.usize(..64));
        }
        self.over.push(handle);
    }

    /// Makes an owner a plain reference, which may be the last one.
    fn hand_over(&mut self) {
        if !self.owned.is_empty() {
            let owned = self
                .owned
                .swap_remove(self.random.usize(..self.owned.len()));
            self.keep(owned.into_ref());
        }
    }

    fn post(&mut self, handle: Handle) {
        let place = self.random.usize(..self.arena.board.len());
        self.arena.board[place].store(handle.to_raw(), Ordering::Relaxed);
    }

    /// Tries what somebody posted, which may be over by now.
    fn get_from_board(&mut self) {
        let place = self.random.usize(..self.arena.board.len());
        let raw = self.arena.board[place].load(Ordering::Relaxed);
        let Ok(handle) = Handle::from_raw(raw) else {
            return;
        };
        if self.arena.revoking && self.random.u8(..32) == 0 {
            let revoked = self.arena.space.revoke(handle);
            assert!(matches!(revoked, Ok(()) | Err(Error::Stale(_))));
        }
        match self.arena.space.get(handle) {
            Ok(reference) => {
                assert_eq!(reference.handle(), handle);
                self.arena.shadow.acquired(handle);
                self.keep(reference);
            }
            Err(Error::Stale(_) | Error::BeingFreed(_)) => {
                self.arena.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => panic!("broken: {error:?} for {handle}"),
        }
    }

    fn get_by_number(&mut self) {
        let number = self.number();
        match self.arena.space.get_at(number) {
            Ok(reference) => {
                assert_eq!(reference.pasid(), number);
                self.arena.shadow.acquired(reference.handle());
                self.keep(reference);
            }
            Err(error) => assert!(
                error == Error::NotFound(number) || error == Error::BeingFreed(number),
                "broken: {error:?}"
            ),
        }
    }

    /// Keeps a reference that the shadow knows of.
    fn keep(&mut self, reference: Ref<&'a IdSpace>) {
        check_word(reference.handle(), reference.word());
        self.refs.push(reference);
        if self.refs.len() > self.held_last {
            self.drop_reference();
        }
    }

    fn drop_reference(&mut self) {
        if self.refs.is_empty() {
            return;
        }
        let reference = self.refs.swap_remove(self.random.usize(..self.refs.len()));
        let handle = reference.handle();
        check_word(handle, reference.word());
        self.arena.shadow.releasing(handle);
        if self.random.bool() {
            drop(reference);
        } else {
            let raw = Handle::from_raw(reference.into_raw()).expect("the raw form of a handle");
            // SAFETY: the reference that `into_raw` gave up.
            unsafe { self.arena.space.put(raw) }.expect("a holder puts");
        }
    }

    fn clone_reference(&mut self) {
        if self.refs.is_empty() {
            return;
        }
        let reference = &self.refs[self.random.usize(..self.refs.len())];
        let handle = reference.handle();
        // A holder changes the word and knows what it can have been.
        let word = reference.word();
        check_word(handle, word);
        if word != UNSET {
            check_word(handle, reference.replace(word ^ FLIP));
        }
        let clone = reference.try_clone().expect("far from the limit");
        self.arena.shadow.acquired(handle);
        self.keep(clone);
    }

    /// Look-ups copy a handle and a word that belong together.
    fn look_up(&mut self) {
        let number = self.number();
        match self.arena.space.find(number) {
            Ok(found) => check_word(found.handle, found.word),
            Err(error) => assert!(
                error == Error::NotFound(number) || error == Error::BeingFreed(number),
                "broken: {error:?}"
            ),
        }
        let from = PasidRange::new(number, self.arena.request.last()).expect("number <= last");
        let mut next = number;
        for found in self.arena.space.iter(from).take(3) {
            check_word(found.handle, found.word);
            assert!(found.handle.pasid() >= next, "broken: the list goes back");
            next = found.handle.pasid();
        }
    }

    /// What this thread saw end is over for ever.
    fn use_stale(&mut self) {
        let Some(&handle) = self.random.choice(&self.over) else {
            return;
        };
        let space = self.arena.space;
        let stale = Err(Error::Stale(handle));
        assert_eq!(space.get(handle).map(drop), stale);
        assert_eq!(space.revoke(handle), stale);
        // SAFETY: the allocation is over.
        assert_eq!(unsafe { space.put(handle) }, stale);
        // SAFETY: the allocation is over.
        assert_eq!(unsafe { space.free(handle) }, stale);
    }

    /// What this thread holds is there.
    fn check_own(&mut self) {
        if let Some(owned) = self.random.choice(&self.owned) {
            let handle = owned.handle();
            let found = self.arena.space.find(handle.pasid());
            if self.arena.revoking && found == Err(Error::BeingFreed(handle.pasid())) {
                return;
            }
            let found = found.unwrap_or_else(|error| panic!("broken: {handle} is {error:?}"));
            assert_eq!(found.handle, handle, "broken: not the owner's allocation");
            check_word(handle, found.word);
        }
        if let Some(reference) = self.random.choice(&self.refs) {
            let handle = reference.handle();
            match self.arena.space.get(handle).map(drop) {
                Ok(()) | Err(Error::BeingFreed(_)) => {}
                Err(error) => panic!("broken: {handle} is held and {error:?}"),
            }
        }
    }
}
