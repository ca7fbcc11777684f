// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attachments on one thread and on real threads.

use super::*;
use crate::sync::AtomicU64;
use std::thread;

/// What an attachment refers to, by address.
struct Thing {
    slot: Slot,
    owner: u8,
}

impl Thing {
    fn new() -> Thing {
        let slot = Slot::new(0, false);
        Thing { slot, owner: 0 }
    }

    fn held(&self) -> Held<u8> {
        let (target, owner) = (NonNull::from(&self.slot), NonNull::from(&self.owner));
        Held { target, owner }
    }

    fn reserve(&self, entry: &Entry<u8>, word: u64) -> Result<u32, Taken> {
        let Held { target, owner } = self.held();
        entry.reserve(target, owner, word)
    }

    fn attach(&self, entry: &Entry<u8>, word: u64) -> u32 {
        let generation = self.reserve(entry, word).unwrap();
        entry.commit(generation).unwrap();
        generation
    }
}

fn entry(attachments: &Attachments<u8>, number: u32) -> &Entry<u8> {
    assert!(attachments.grow_range(number, number));
    attachments.entry(number).unwrap()
}

#[test]
fn a_reservation_is_invisible_until_it_is_committed() {
    let (thing, entry) = (Thing::new(), Entry::new());
    assert!(!entry.is_in_use());
    let generation = thing.reserve(&entry, 7).unwrap();
    assert_eq!(entry.fault_get(), Err(Refusal::NotLive));
    assert_eq!(entry.find(), Err(Refusal::NotLive));
    assert_eq!(entry.detach(generation), Err(Refusal::NotLive));
    assert_eq!(Thing::new().reserve(&entry, 8), Err(Taken::Reserved));
    assert!(entry.is_in_use());
    assert_eq!(entry.commit(generation), Ok(()));
    assert_eq!(entry.find(), Ok((generation, 7)));
    assert_eq!(Thing::new().reserve(&entry, 8), Err(Taken::Live));
    assert_eq!(entry.detach(generation), Ok(Some(thing.held())));
    assert_eq!(entry.detach(generation), Err(Refusal::NotLive));
    assert!(!entry.is_in_use());
}

#[test]
fn a_reservation_that_is_backed_out_hands_back_what_it_held() {
    let (thing, entry) = (Thing::new(), Entry::new());
    let generation = thing.reserve(&entry, 7).unwrap();
    assert_eq!(entry.back_out(generation + 1), Err(Refusal::NotLive));
    assert_eq!(entry.back_out(generation), Ok(Some(thing.held())));
    assert_eq!(entry.back_out(generation), Err(Refusal::NotLive));
    let other = Thing::new();
    assert_eq!(other.attach(&entry, 8), generation + 1);
    assert_eq!(entry.commit(generation), Err(Refusal::NotLive));
    assert_eq!(entry.back_out(generation + 1), Err(Refusal::NotLive));
    assert_eq!(entry.detach(generation), Err(Refusal::NotLive));
    assert_eq!(entry.detach(generation + 1), Ok(Some(other.held())));
}

#[test]
fn the_last_fault_ends_what_was_detached() {
    let (thing, entry) = (Thing::new(), Entry::new());
    let generation = thing.attach(&entry, 7);
    assert_eq!(entry.fault_get(), Ok((generation, 7)));
    assert_eq!(entry.fault_get(), Ok((generation, 7)));
    assert_eq!(entry.target(), Some(thing.held().target));
    assert_eq!(entry.detach(generation), Ok(None));
    // Again: changes nothing, and takes no fault's reference.
    assert_eq!(entry.detach(generation), Ok(None));
    assert_eq!(entry.fault_get(), Err(Refusal::BeingFreed));
    assert_eq!(entry.find(), Err(Refusal::BeingFreed));
    assert_eq!(Thing::new().reserve(&entry, 8), Err(Taken::Draining));
    assert_eq!((entry.replace(9), entry.word()), (7, 9));
    assert_eq!(entry.fault_put(), None);
    assert_eq!(entry.held(), Some(thing.held()));
    assert_eq!(entry.fault_put(), Some(thing.held()));
    assert_eq!(thing.reserve(&entry, 8), Ok(generation + 1));
}

#[test]
fn a_fault_does_not_give_back_the_attachments_own_reference() {
    let (thing, entry) = (Thing::new(), Entry::new());
    let generation = thing.attach(&entry, 7);
    assert_eq!(entry.fault_get(), Ok((generation, 7)));
    assert_eq!(entry.fault_put(), None);
    assert_eq!(entry.find(), Ok((generation, 7)));
}

#[test]
fn an_entry_out_of_generations_hands_back_and_is_retired() {
    let thing = Thing::new();
    let entry = Entry {
        slot: Slot::new(u32::MAX, false),
        ..Entry::new()
    };
    assert_eq!(thing.attach(&entry, 7), u32::MAX);
    assert_eq!(entry.detach(u32::MAX), Ok(Some(thing.held())));
    assert_eq!(thing.reserve(&entry, 7), Err(Taken::Retired));
    assert!(!entry.is_in_use());
}

#[test]
fn entries_are_found_in_order_across_leaves_and_nodes() {
    const LAST: u32 = (1 << 20) - 1;
    let (thing, attachments) = (Thing::new(), Attachments::new());
    assert_eq!(attachments.memory_bytes(), 0);
    assert_eq!(attachments.first_attached(0, LAST), None);
    let numbers = [3, 255, 256, 40_000, LAST];
    for number in numbers {
        assert!(number == 255 || attachments.entry(number).is_none());
        thing.attach(entry(&attachments, number), number.into());
    }
    let reserved = thing.reserve(entry(&attachments, 300), 0);
    assert_eq!(reserved, Ok(0));
    let mut from = 0;
    let mut seen = std::vec::Vec::new();
    while let Some(found) = attachments.first_attached(from, LAST) {
        assert_eq!(found.word, u64::from(found.number));
        seen.push(found.number);
        from = found.number + 1;
    }
    assert_eq!(seen, numbers);
    assert_eq!(attachments.first_attached(257, 39_999), None);
    assert_eq!(attachments.first_in_use(257, 39_999), Some(300));
    assert_eq!(attachments.first_in_use(40_000, 40_000), Some(40_000));
    assert_eq!(attachments.first_in_use(1, 0), None);
    assert_eq!(
        attachments.first_attached(LAST, u32::MAX).unwrap().number,
        LAST
    );
    assert_eq!(attachments.first_attached(LAST + 1, u32::MAX), None);
    // Four leaves of 10 KiB in three nodes.
    let leaves = 4 * 256 * 40;
    assert!((leaves..leaves + 3 * 1024).contains(&attachments.memory_bytes()));
}

/// A target that knows how many references the attachments hold on it.
struct Counting {
    thing: Thing,
    held: AtomicU64,
}

#[test]
fn faults_beside_detach_and_attach_see_one_attachment_whole() {
    const TIMES: u64 = 20_000;
    let things: [Counting; 2] = core::array::from_fn(|_| Counting {
        thing: Thing::new(),
        held: AtomicU64::new(0),
    });
    let attachments = Attachments::new();
    let of = |target: NonNull<Slot>| {
        let found = things.iter().find(|one| one.thing.held().target == target);
        found.expect("a target that was attached")
    };
    let release = |held: Option<Held<u8>>| {
        let Some(held) = held else { return };
        let counting = of(held.target);
        assert_eq!(held, counting.thing.held());
        // AcqRel: pairs with the same of the other thread, as puts of the PASID do.
        assert_ne!(counting.held.fetch_sub(1, Ordering::AcqRel), 0);
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let entry = entry(&attachments, 9);
            for round in 0..TIMES {
                let which = (round % 2) as usize;
                // Relaxed: the commit publishes it.
                things[which].held.fetch_add(1, Ordering::Relaxed);
                let generation = loop {
                    match things[which].thing.reserve(entry, which as u64) {
                        Ok(generation) => break generation,
                        Err(taken) => assert_eq!(taken, Taken::Draining),
                    }
                    thread::yield_now();
                };
                if round % 7 == 0 {
                    release(entry.back_out(generation).unwrap());
                    continue;
                }
                entry.commit(generation).unwrap();
                release(entry.detach(generation).unwrap());
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..TIMES {
                    let Some(entry) = attachments.entry(9) else {
                        continue;
                    };
                    if let Ok((_, word)) = entry.find() {
                        assert!(word < 2);
                    }
                    let Ok((_, word)) = entry.fault_get() else {
                        continue;
                    };
                    let counting = of(entry.target().unwrap());
                    // Acquire: as a look at the PASID's state would.
                    assert_ne!(counting.held.load(Ordering::Acquire), 0);
                    assert_eq!(counting.thing.held(), things[word as usize].thing.held());
                    release(entry.fault_put());
                }
            });
        }
    });
    for counting in &things {
        // Relaxed: the threads are joined.
        assert_eq!(counting.held.load(Ordering::Relaxed), 0);
    }
}
