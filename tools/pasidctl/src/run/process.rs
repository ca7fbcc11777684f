// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes of the load: who binds, and with which PASID.
//!
//! A fixed number of slots; one process after the other lives in each. Every
//! allocation carries the number of its process as the owner's word, so whoever
//! looks a PASID up can tell which process it should have met.
//!
//! A slot is two words. `life` says which process is or was last in it, and how
//! far that one is; `handle` is the raw form of its `Owned`.
//!
//! ```text
//!   Empty(n) --begin_bind--> Binding(n+1) --bound--> Bound(n+1)
//!      ^                        |                        |
//!      +-------not_bound--------+                    begin_exit
//!                                                        v
//!                          Empty(n+1) <--exited-- Leaving(n+1)
//! ```
//!
//! A process that got no PASID leaves its number to the next one: nobody has seen
//! it, and so numbers are not used up where hardly any PASID is free. The number of
//! a process that got one does not come again, so two equal readings of *bound* mean
//! that the slot did not change in between.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crossbeam_utils::CachePadded;
use pasid::{Handle, IdSpace, Owned};

const SLOT_BITS: u32 = 12;
const SERIAL_BITS: u32 = 33;

/// How many bits the number of a process has.
pub const PROCESS_BITS: u32 = SLOT_BITS + SERIAL_BITS;

/// The most slots that there can be.
pub const SLOTS_LAST: usize = 1 << SLOT_BITS;

/// The number of a process: its slot, and how many were in that slot before.
///
/// The serial wraps after 2^33 processes in one slot that got a PASID. The longest
/// run, a day, has fewer below 99,000 a second in each slot. Should it come to that,
/// the order of two processes is told across the wrap, and no reference or handle is
/// kept for nearly as long as it takes a number to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId(u64);

impl ProcessId {
    /// The process that an owner's word names. Any word names one, though there
    /// may be no such slot.
    pub fn of_word(word: u64) -> ProcessId {
        ProcessId(word & ((1 << PROCESS_BITS) - 1))
    }

    /// The owner's word of its PASID.
    pub fn word(self) -> u64 {
        self.0
    }

    /// The slot that it lives in.
    pub fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }

    fn serial(self) -> u64 {
        self.0 >> SLOT_BITS
    }

    /// The process that comes after it in its slot.
    pub fn next(self) -> ProcessId {
        ProcessId::of_word(self.0 + (1 << SLOT_BITS))
    }

    fn before(self) -> ProcessId {
        ProcessId::of_word(self.0.wrapping_sub(1 << SLOT_BITS))
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}.{}", self.slot(), self.serial())
    }
}

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is gone.
    Empty = 0,
    /// It asks for a PASID.
    Binding = 1,
    /// It has one.
    Bound = 2,
    /// It gives its PASID up.
    Leaving = 3,
}

/// One value of a slot's `life`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life(u64);

impl Life {
    fn new(id: ProcessId, state: State) -> Life {
        Life(id.0 << 2 | state as u64)
    }

    /// The process that is, or was last, in the slot.
    pub fn id(self) -> ProcessId {
        ProcessId(self.0 >> 2)
    }

    /// How far it is.
    pub fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Empty,
            1 => State::Binding,
            2 => State::Bound,
            _ => State::Leaving,
        }
    }

    /// Whether `id`, of the same slot, has begun: it is in the slot or was.
    pub fn has_begun(self, id: ProcessId) -> bool {
        let since = self.id().serial().wrapping_sub(id.serial());
        since & ((1 << SERIAL_BITS) - 1) < 1 << (SERIAL_BITS - 1)
    }

    /// Whether `id`, of the same slot, has given its PASID up.
    pub fn has_exited(self, id: ProcessId) -> bool {
        self.id() != id || self.state() == State::Empty
    }
}

#[derive(Debug, Default)]
struct Slot {
    life: AtomicU64,
    handle: AtomicU64,
}

/// All slots, and the space that their processes bind in.
#[derive(Debug)]
pub struct Processes<'s> {
    space: &'s IdSpace,
    slots: Box<[CachePadded<Slot>]>,
}

impl<'s> Processes<'s> {
    /// `count` empty slots, at most [`SLOTS_LAST`].
    pub fn new(space: &'s IdSpace, count: usize) -> Processes<'s> {
        debug_assert!(count <= SLOTS_LAST);
        let slots = (0..count).map(|slot| {
            CachePadded::new(Slot {
                life: AtomicU64::new(Life::new(ProcessId(slot as u64), State::Empty).0),
                handle: AtomicU64::new(0),
            })
        });
        Processes {
            space,
            slots: slots.collect(),
        }
    }

    /// How many slots there are.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Who is in `slot`, if there is such a slot.
    pub fn life(&self, slot: usize) -> Option<Life> {
        // Acquire: pairs with the releases of `bound`, `not_bound` and `exited`:
        // whoever sees a process bound sees the shadow's claim for it, and
        // whoever sees it gone comes after its free.
        let life = self.slots.get(slot)?.life.load(Ordering::Acquire);
        Some(Life(life))
    }

    /// Whether `id` still has its PASID, after a call that looked it up.
    pub fn is_bound(&self, id: ProcessId) -> bool {
        // Acquire: the call may have seen the end of the allocation by a relaxed
        // load. It pairs with the release of the free, or with the fence before a
        // revocation, and the look below then sees the process leaving.
        fence(Ordering::Acquire);
        self.life(id.slot()) == Some(Life::new(id, State::Bound))
    }

    /// The process in `slot` and the handle of its PASID, if it is bound.
    pub fn peek(&self, slot: usize) -> Option<(ProcessId, Handle)> {
        let life = self.life(slot)?;
        if life.state() != State::Bound {
            return None;
        }
        // Acquire: pairs with the release in `bound`. If this is a later
        // process's handle, the look at `life` below sees at least that process.
        let raw = self.slots[slot].handle.load(Ordering::Acquire);
        if self.life(slot)? != life {
            return None;
        }
        Handle::from_raw(raw).ok().map(|handle| (life.id(), handle))
    }

    /// Starts a process in `slot`, if it is empty.
    pub fn begin_bind(&self, slot: usize) -> Option<ProcessId> {
        let life = self.life(slot)?;
        let id = life.id().next();
        (life.state() == State::Empty && self.step(slot, life, Life::new(id, State::Binding)))
            .then_some(id)
    }

    /// Ends `begin_bind`: `id` has its PASID, and others may use it.
    pub fn bound(&self, id: ProcessId, owned: Owned<&'s IdSpace>) {
        let slot = &self.slots[id.slot()];
        // Release: pairs with the acquire in `peek`.
        slot.handle.store(owned.into_raw(), Ordering::Release);
        self.publish(Life::new(id, State::Bound));
    }

    /// Ends `begin_bind`: `id` got no PASID, and the next one has its number.
    pub fn not_bound(&self, id: ProcessId) {
        self.publish(Life::new(id.before(), State::Empty));
    }

    /// Takes the PASID from the process in `slot`, if it is bound.
    pub fn begin_exit(&self, slot: usize) -> Option<(ProcessId, Owned<&'s IdSpace>)> {
        let life = self.life(slot)?;
        let id = life.id();
        if life.state() != State::Bound || !self.step(slot, life, Life::new(id, State::Leaving)) {
            return None;
        }
        // Relaxed: `life` was acquired after the store of this handle.
        let raw = self.slots[slot].handle.load(Ordering::Relaxed);
        // SAFETY: `bound` made `raw` with `into_raw`, of an Owned of this space;
        // the step from Bound to Leaving is made once for each `bound`.
        let owned = unsafe { Owned::from_raw(self.space, raw) };
        owned.ok().map(|owned| (id, owned))
    }

    /// Ends `begin_exit`: the PASID of `id` has been freed.
    pub fn exited(&self, id: ProcessId) {
        self.publish(Life::new(id, State::Empty));
    }

    fn publish(&self, life: Life) {
        // Release: pairs with the acquire in `life`.
        self.slots[life.id().slot()]
            .life
            .store(life.0, Ordering::Release);
    }

    fn step(&self, slot: usize, from: Life, to: Life) -> bool {
        // AcqRel: whoever sees the new life sees what came before it; and what
        // the last process left is seen here. Failure is not looked into.
        self.slots[slot]
            .life
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasid::{PasidWidth, Pool};

    #[test]
    fn a_slot_goes_through_its_states() {
        let space = IdSpace::new(PasidWidth::MAX);
        let processes = Processes::new(&space, 4);
        assert_eq!(processes.peek(3), None);
        assert!(processes.begin_exit(3).is_none());

        let id = processes.begin_bind(3).unwrap();
        assert!(processes.begin_bind(3).is_none());
        assert_eq!(ProcessId::of_word(id.word()), id);
        let owned = space.alloc(space.range(), id.word()).unwrap();
        let handle = owned.handle();
        processes.bound(id, owned);
        assert!(processes.is_bound(id));
        assert_eq!(processes.peek(3), Some((id, handle)));

        let (left, owned) = processes.begin_exit(3).unwrap();
        assert_eq!((left, owned.handle()), (id, handle));
        assert!(!processes.is_bound(id));
        drop(owned);
        processes.exited(id);
        assert!(!space.any_live(space.range()));

        let next = processes.begin_bind(3).unwrap();
        assert_eq!(next, id.next());
        processes.not_bound(next);
        // Without a PASID it leaves its number to the next one.
        assert_eq!(processes.life(3).unwrap().id(), id);
        assert_eq!(processes.begin_bind(3), Some(next));
        let life = processes.life(3).unwrap();
        assert!(life.has_begun(next) && !life.has_begun(next.next()));
        assert!(life.has_exited(id) && !life.has_exited(next));
        assert_eq!(processes.life(4), None);
    }

    #[test]
    fn the_order_of_processes_outlasts_the_wrap() {
        let last = ProcessId::of_word(u64::MAX);
        let first = last.next();
        assert_eq!((first.serial(), first.before()), (0, last));
        let (earlier, later) = (
            Life::new(last, State::Bound),
            Life::new(first, State::Bound),
        );
        assert!(later.has_begun(last) && later.has_begun(first));
        assert!(!earlier.has_begun(first));
    }
}
