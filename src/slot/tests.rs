// SPDX-License-Identifier: MIT OR Apache-2.0
//! The transitions of one slot on one thread.

use super::*;

fn live(word: u64) -> Slot {
    let slot = Slot::new(0, false);
    assert_eq!(slot.publish(SetIndex::NONE, word), 0);
    slot
}

fn set(slot: &Slot, state: State) {
    // Relaxed: one thread.
    slot.state.store(state.0, Ordering::Relaxed);
}

#[test]
fn the_own_reference_goes_once() {
    let slot = live(1);
    assert_eq!(slot.get(Sought::of(0)), Ok(0));
    assert_eq!(slot.free(Sought::of(0), Reuse::Immediate), Ok(Left::Held));
    // Freed again: only revokes, and takes nobody else's reference.
    assert_eq!(slot.free(Sought::of(0), Reuse::Immediate), Ok(Left::Held));
    assert_eq!(slot.get(Sought::ANY), Err(Refusal::BeingFreed));
    assert_eq!(slot.find(Sought::ANY), Err(Refusal::BeingFreed));
    assert_eq!(slot.drop_held(Reuse::Immediate), Left::Nothing);
    assert_eq!(
        slot.free(Sought::of(0), Reuse::Immediate),
        Err(Refusal::NotLive)
    );
    assert_eq!(slot.state(), State::new(1, Phase::Dead));
}

#[test]
fn a_put_by_handle_never_takes_the_own_reference() {
    let slot = live(1);
    assert_eq!(
        slot.put(Sought::of(0), Reuse::Immediate),
        Err(Refusal::NotLive)
    );
    assert_eq!(slot.get(Sought::ANY), Ok(0));
    assert_eq!(slot.put(Sought::of(0), Reuse::Immediate), Ok(Left::Held));
    assert_eq!(
        slot.put(Sought::of(0), Reuse::Immediate),
        Err(Refusal::NotLive)
    );
    slot.disown();
    assert_eq!(slot.put(Sought::of(0), Reuse::Immediate), Ok(Left::Nothing));
    assert_eq!(
        slot.put(Sought::of(0), Reuse::Immediate),
        Err(Refusal::NotLive)
    );
}

#[test]
fn revoking_takes_no_reference_and_may_be_repeated() {
    let slot = live(1);
    assert_eq!(slot.revoke(Sought::of(0)), Ok(true));
    assert_eq!(slot.revoke(Sought::of(0)), Ok(false));
    assert_eq!(slot.state().references(), 1);
    assert_eq!(
        slot.free(Sought::of(0), Reuse::Immediate),
        Ok(Left::Nothing)
    );
    assert_eq!(slot.revoke(Sought::of(0)), Err(Refusal::NotLive));
}

#[test]
fn another_generation_changes_nothing() {
    let slot = live(1);
    let before = slot.state();
    assert_eq!(slot.get(Sought::of(1)), Err(Refusal::NotLive));
    assert_eq!(
        slot.put(Sought::of(1), Reuse::Immediate),
        Err(Refusal::NotLive)
    );
    assert_eq!(
        slot.free(Sought::of(1), Reuse::Immediate),
        Err(Refusal::NotLive)
    );
    assert_eq!(slot.revoke(Sought::of(1)), Err(Refusal::NotLive));
    assert_eq!(slot.state(), before);
}

#[test]
fn another_set_s_allocation_is_refused_while_there_is_one() {
    let [ours, others] = [3, SetIndex::LAST].map(|index| SetIndex::new(index).unwrap());
    let slot = Slot::new(0, false);
    slot.publish(ours, 1);
    let state = slot.state();
    assert_eq!((state.set(), state.references()), (ours, 1));
    let wrong = Sought::of(0).in_set(others);
    assert_eq!(slot.get(wrong), Err(Refusal::WrongSet));
    assert_eq!(slot.find(wrong), Err(Refusal::WrongSet));
    assert_eq!(slot.put(wrong, Reuse::Immediate), Err(Refusal::WrongSet));
    assert_eq!(slot.revoke(wrong), Err(Refusal::WrongSet));
    assert_eq!(slot.free(wrong, Reuse::Immediate), Err(Refusal::WrongSet));
    assert_eq!(slot.state(), state);
    assert_eq!(
        slot.get(Sought::of(1).in_set(others)),
        Err(Refusal::NotLive)
    );
    assert_eq!(slot.get(Sought::ANY.in_set(ours)), Ok(0));
    assert_eq!(slot.drop_held(Reuse::Immediate), Left::Held);
    assert_eq!(
        slot.free_owned(0, ours, Reuse::Immediate),
        Ok(Left::Nothing)
    );
    assert_eq!(slot.get(wrong), Err(Refusal::NotLive));
}

#[test]
fn references_end_at_their_last_number_and_spill_into_nothing() {
    let slot = live(1);
    let full = State(State::allocated(0, SetIndex::NONE).0 + (REFERENCES_LAST - 1) * REFERENCE);
    set(&slot, full);
    assert_eq!(slot.get(Sought::ANY), Err(Refusal::TooManyReferences));
    assert_eq!(slot.hold(), Err(Refusal::TooManyReferences));
    assert_eq!(slot.state(), full);
    assert_eq!(slot.drop_held(Reuse::Immediate), Left::Held);
    assert_eq!(slot.hold(), Ok(()));
    assert_eq!(slot.state(), full);
}

#[test]
fn a_slot_out_of_generations_is_retired_by_each_way_to_end() {
    let last = State::allocated(u32::MAX, SetIndex::NONE);
    let ends: [fn(&Slot) -> Left; 3] = [
        |slot| slot.free(Sought::of(u32::MAX), Reuse::Immediate).unwrap(),
        |slot| {
            slot.disown();
            slot.put(Sought::of(u32::MAX), Reuse::Immediate).unwrap()
        },
        |slot| {
            slot.disown();
            slot.drop_held(Reuse::Immediate)
        },
    ];
    for end in ends {
        let slot = Slot::new(0, false);
        set(&slot, last);
        assert_eq!(end(&slot), Left::Retired);
        assert_eq!(slot.state(), State::new(u32::MAX, Phase::Retired));
        assert_eq!(slot.get(Sought::ANY), Err(Refusal::NotLive));
        assert_eq!(slot.find(Sought::ANY), Err(Refusal::NotLive));
        assert_eq!(
            slot.free(Sought::of(u32::MAX), Reuse::Immediate),
            Err(Refusal::NotLive)
        );
    }
    let slot = Slot::new(u32::MAX - 1, false);
    slot.publish(SetIndex::NONE, 0);
    assert_eq!(
        slot.free(Sought::of(u32::MAX - 1), Reuse::Immediate),
        Ok(Left::Nothing)
    );
}

#[test]
fn a_reservation_is_no_allocation() {
    let slot = Slot::new(7, true);
    assert_eq!(slot.get(Sought::ANY), Err(Refusal::Reserved));
    assert_eq!(slot.find(Sought::ANY), Err(Refusal::Reserved));
    assert_eq!(
        slot.free(Sought::of(7), Reuse::Immediate),
        Err(Refusal::NotLive)
    );
    assert_eq!(slot.unreserve(), Ok(()));
    assert_eq!(slot.unreserve(), Err(Refusal::NotLive));
    assert_eq!(slot.publish(SetIndex::NONE, 1), 7);
    assert_eq!(slot.unreserve(), Err(Refusal::NotLive));
}
