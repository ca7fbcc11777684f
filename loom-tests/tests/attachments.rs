// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attachments beside page faults: a fault finds what was committed, whole, and keeps
//! the PASID until it is answered; what an attachment held is given back once.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Model, beside, pasid, range, three_beside};
use pasid::model::Mutation;
use pasid::{
    Attach, Attachment, Error, Fault, IoasidSet, Owned, PasidWidth, Pool, Scope, SetConfig, Space,
    SpaceKind, Table, TableConfig,
};
use std::sync::Arc;

mod turn;

use turn::beside_in_turn;

type Tables = Arc<Table>;
type Set = Arc<IoasidSet>;

/// A space of table sets with a table of two PASIDs, with memory for two attachments.
fn space_and_table() -> (Space, Tables) {
    let space = Space::with_reserved(SpaceKind::Tables, &[]);
    let table = add_table(&space);
    (space, table)
}

fn add_table(space: &Space) -> Tables {
    let width = PasidWidth::new(1).expect("at most 4 bits");
    let table = space.add_table(TableConfig::new(width)).expect("memory");
    table.preload(range(0, 1)).expect("memory for 2 PASIDs");
    Arc::new(table)
}

fn add_set(space: &Space, scope: Scope<'_>) -> Set {
    let set = space.add_set(SetConfig::new(scope)).expect("memory");
    set.preload(set.range()).expect("memory for 2 PASIDs");
    Arc::new(set)
}

/// A table and a set of its own, in which 0 is allocated with the word 5, and 1, which
/// stands in the same word of bits, is held for ever. The space is to be kept.
fn machine() -> (Space, Tables, Set, Owned<Set>) {
    let (space, table) = space_and_table();
    let set = add_set(&space, Scope::Local(&table));
    let neighbour = set.clone().alloc_at(pasid(1), 1).expect("it is free");
    let _ = neighbour.into_raw();
    let owned = set.clone().alloc_at(pasid(0), 5).expect("it is free");
    (space, table, set, owned)
}

fn attach(table: &Tables, owned: &Owned<Set>, word: u64) -> Attachment<Tables> {
    let attaching = table.clone().attach(owned, word).expect("it is free");
    attaching.commit().expect("nobody pauses or closes")
}

/// A fault at 0, if something is attached there.
fn fault(table: &Tables) -> Option<Fault<Tables>> {
    match table.clone().fault_get(pasid(0)) {
        Ok(fault) => Some(fault),
        Err(Error::NotAttached(of) | Error::BeingFreed(of) | Error::NotFound(of))
            if of == pasid(0) =>
        {
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Fails if 0, which somebody holds, can be allocated.
fn assert_held(set: &Set) {
    let owned = set.clone().alloc_in_place(pasid(0).into(), 9);
    assert!(owned.is_err(), "a PASID was handed out that is referenced");
}

/// Fails unless 0 is free, and its neighbour still held.
fn assert_free_once(set: &Set) {
    let owned = set.clone().alloc_at(pasid(0), 9);
    assert!(owned.is_ok(), "a PASID is lost");
    let neighbour = set.clone().alloc_at(pasid(1), 9);
    assert!(neighbour.is_err(), "a PASID was given back twice");
}

const LOST: &str = "a PASID is lost";

// ---- commit --------------------------------------------------------------------

/// One attaches while a fault comes: it finds nothing, or what was committed, with all
/// that was written before.
fn commit_against_fault() {
    let (_space, table, set, owned) = machine();
    let written = Arc::new(AtomicU64::new(0));
    let (faulting, entry) = (table.clone(), written.clone());
    let (held, attachment) = beside(
        move || {
            let fault = fault(&faulting)?;
            // Relaxed: it is the attachment that must have carried it here.
            let seen = entry.load(Ordering::Relaxed);
            assert_eq!(seen, 1, "a fault found what was not committed");
            assert_eq!(fault.word(), 7);
            Some(fault)
        },
        move || {
            let attaching = table.attach(&owned, 7).expect("nothing is attached");
            drop(owned);
            // Relaxed: as above. It stands for the hardware's entry.
            written.store(1, Ordering::Relaxed);
            attaching.commit().expect("nobody pauses or closes")
        },
    );
    assert_held(&set);
    drop(attachment);
    if let Some(fault) = held {
        assert_held(&set);
        drop(fault);
    }
    assert_free_once(&set);
}

#[test]
fn a_fault_finds_what_was_committed() {
    let model = Model::new("attach, commit | fault_get", 167, commit_against_fault);
    model.check();
    model.canary(
        Mutation::CommitRelaxed,
        "a fault found what was not committed",
    );
}

/// Two attach the same PASID to one table: one does.
fn attach_against_attach() {
    let (_space, table, set, owned) = machine();
    let second = owned.get().expect("nobody frees");
    let (one, two) = (table.clone(), table.clone());
    let attached = beside(
        move || {
            one.attach(&owned, 1)
                .and_then(|attaching| attaching.commit())
        },
        move || {
            two.attach(&second, 2)
                .and_then(|attaching| attaching.commit())
        },
    );
    let (attachment, word, refused) = match attached {
        (Ok(_), Ok(_)) => panic!("two have the entry"),
        (Ok(attachment), Err(error)) => (attachment, 1, error),
        (Err(error), Ok(attachment)) => (attachment, 2, error),
        (Err(_), Err(_)) => panic!("nobody has the entry"),
    };
    // Who is second may come when the owner is gone.
    let refusals = [
        Error::AlreadyAttached(pasid(0)),
        Error::BeingFreed(pasid(0)),
    ];
    assert!(refusals.contains(&refused), "{refused}");
    assert_eq!(attachment.word(), word);
    assert_held(&set);
    drop(attachment);
    assert_free_once(&set);
}

#[test]
fn one_of_two_attaches() {
    let model = Model::new("attach | attach", 475, attach_against_attach);
    model.check();
    model.canary(Mutation::ReserveInTwoSteps, "two have the entry");
}

/// A holder attaches while the owner frees: the attachment holds the PASID, or it is
/// refused.
fn attach_against_free() {
    let (_space, table, set, owned) = machine();
    let holder = owned.get().expect("nobody frees yet");
    let attaching_to = table.clone();
    let (attached, ()) = beside(
        move || {
            let attaching = attaching_to.attach(&holder, 7)?;
            drop(holder);
            attaching.commit()
        },
        move || drop(owned),
    );
    match attached {
        Ok(attachment) => {
            assert_held(&set);
            assert!(fault(&table).is_none(), "a fault found what was freed");
            drop(attachment);
        }
        Err(error) => assert_eq!(error, Error::BeingFreed(pasid(0))),
    }
    assert_free_once(&set);
}

#[test]
fn an_attachment_holds_its_pasid_beside_a_free() {
    let model = Model::new("attach, commit | free", 35, attach_against_free);
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, "a fault found what was freed");
}

// ---- detach --------------------------------------------------------------------

/// One detaches and frees while a fault comes: a fault that found the attachment keeps
/// the PASID, and whoever is last gives it back.
fn detach_against_fault() {
    let (_space, table, set, owned) = machine();
    let attachment = attach(&table, &owned, 7);
    let asker = set.clone();
    beside(
        move || {
            if let Some(fault) = fault(&table) {
                assert_held(&asker);
                assert_eq!(fault.word(), 7);
            }
        },
        move || {
            attachment.detach();
            drop(owned);
        },
    );
    assert_free_once(&set);
}

#[test]
fn a_fault_beside_a_detach_keeps_the_pasid() {
    let model = Model::new("fault_get | detach, free", 326, detach_against_fault);
    model.check();
    model.canary(Mutation::FaultGetWithoutCount, LOST);
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
}

/// Two faults come while one detaches and frees.
fn detach_against_faults() {
    let (_space, table, set, owned) = machine();
    let attachment = attach(&table, &owned, 7);
    let (one, two) = (table.clone(), table);
    three_beside(
        move || drop(fault(&one)),
        move || drop(fault(&two)),
        move || {
            attachment.detach();
            drop(owned);
        },
    );
    assert_free_once(&set);
}

#[test]
fn two_faults_beside_a_detach_give_back_once() {
    let model = Model::new(
        "fault_get | fault_get | detach",
        59_800,
        detach_against_faults,
    );
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
    model.canary(Mutation::FaultGetWithoutCount, LOST);
}

/// One detaches while the last fault is answered: the reference is given back by one of
/// them.
fn detach_against_last_fault() {
    let (_space, table, set, owned) = machine();
    let attachment = attach(&table, &owned, 7);
    let fault = fault(&table).expect("it is attached");
    drop(owned);
    beside(move || drop(fault), move || attachment.detach());
    assert!(
        table.fault_get(pasid(0)).is_err(),
        "a fault found what was detached"
    );
    assert_free_once(&set);
}

#[test]
fn a_detach_and_the_last_fault_give_back_once() {
    let model = Model::new("last fault | detach", 35, detach_against_last_fault);
    model.check();
    model.canary(Mutation::AdvanceInTwoSteps, LOST);
}

/// One detaches and attaches again while a fault comes: the fault has the one word or the other.
fn reattach_against_fault() {
    let (_space, table, set, owned) = machine();
    let first = attach(&table, &owned, 0);
    let written = Arc::new(AtomicU64::new(0));
    let (faulting, entry) = (table.clone(), written.clone());
    let ((), attached): ((), Result<_, Error>) = beside(
        move || {
            if let Some(fault) = fault(&faulting) {
                // Relaxed: it is the attachment that must have carried it here.
                let seen = entry.load(Ordering::Relaxed);
                assert!(seen >= fault.word(), "a fault found what was not committed");
            }
        },
        move || {
            first.detach();
            let attaching = table.attach(&owned, 1)?;
            // Relaxed: as above.
            written.store(1, Ordering::Relaxed);
            let attachment = attaching.commit()?;
            drop(owned);
            Ok(attachment)
        },
    );
    match attached {
        Ok(attachment) => {
            assert_held(&set);
            drop(attachment);
        }
        // The fault was not answered yet.
        Err(error) => assert_eq!(error, Error::AlreadyAttached(pasid(0))),
    }
    assert_free_once(&set);
}

#[test]
fn a_fault_beside_another_attachment_finds_one_of_them() {
    let model = Model::new("fault_get | detach, attach", 581, reattach_against_fault);
    model.check();
    model.canary(
        Mutation::CommitRelaxed,
        "a fault found what was not committed",
    );
}

// ---- replace -------------------------------------------------------------------

/// One replaces the word while a fault comes: it has the old word or the new one, and
/// with the new one sees what was written before.
fn replace_against_fault() {
    let (_space, table, set, owned) = machine();
    let attachment = attach(&table, &owned, 0);
    let written = Arc::new(AtomicU64::new(0));
    let entry = written.clone();
    let ((), attachment) = beside(
        move || {
            let fault = fault(&table).expect("it is attached throughout");
            let word = fault.word();
            assert!(word <= 1);
            // Relaxed: it is the word that must have carried it here.
            let seen = entry.load(Ordering::Relaxed);
            assert!(seen >= word, "a fault does not see what came with the word");
        },
        move || {
            // Relaxed: as above.
            written.store(1, Ordering::Relaxed);
            assert_eq!(attachment.replace(1), Ok(0));
            attachment
        },
    );
    assert_eq!(attachment.word(), 1);
    drop((owned, attachment));
    assert_free_once(&set);
}

#[test]
fn a_fault_sees_what_came_with_a_replaced_word() {
    let model = Model::new("fault_get | replace", 40, replace_against_fault);
    model.check();
    model.canary(
        Mutation::WordRelaxed,
        "a fault does not see what came with the word",
    );
}

/// Two replace the word: each word comes back once, or stays.
fn replace_against_replace() {
    let (_space, table, _set, owned) = machine();
    let attachment = Arc::new(attach(&table, &owned, 0));
    let (one, two) = (attachment.clone(), attachment.clone());
    let (one, two) = beside(move || one.replace(1), move || two.replace(2));
    let mut words = [one, two, Ok(attachment.word())];
    words.sort_unstable_by_key(|word| word.unwrap_or(u64::MAX));
    assert_eq!(words, [Ok(0), Ok(1), Ok(2)], "a word is lost");
}

#[test]
fn two_replace_a_word_one_after_the_other() {
    let model = Model::new("replace | replace", 12, replace_against_replace);
    model.check();
    model.canary(Mutation::ReplaceInTwoSteps, "a word is lost");
}

// ---- A group's slot, and the number's next owner -----------------------------------

/// What a group has attached on one of its tables is detached and freed while a fault
/// comes, and the number goes to a set of that table, which attaches it. The fault is
/// answered at once, or never.
fn reuse_against_fault(answered: bool) {
    let (space, table) = space_and_table();
    let tables = [(*table).clone(), (*add_table(&space)).clone()];
    let group = add_set(&space, Scope::Group(&tables));
    let local = add_set(&space, Scope::Local(&table));
    let owned = group.clone().alloc_at(pasid(0), 1).expect("it is free");
    let attachment = attach(&table, &owned, 7);
    let faulting = table.clone();
    let (reused, found): (Result<_, Error>, _) = beside_in_turn(
        move || {
            attachment.detach();
            drop(owned);
            let next = local.alloc_at(pasid(0), 2)?;
            let attachment = attach(&table, &next, 8);
            Ok((next, attachment))
        },
        move || fault(&faulting).filter(|_| !answered),
    );
    if let Some(fault) = &found {
        // While a fault holds the group's PASID, the other set cannot have it.
        let word = if reused.is_ok() { 8 } else { 7 };
        assert_eq!(fault.word(), word, "a fault has another owner's word");
    }
    match reused {
        Ok((next, attachment)) => {
            let held = group.clone().alloc_at(pasid(0), 3);
            assert_eq!(held.err(), Some(Error::InUse(pasid(0))));
            drop((next, attachment));
        }
        Err(error) => assert_eq!(error, Error::InUse(pasid(0))),
    }
    if found.is_none() {
        assert!(group.alloc_at(pasid(0), 3).is_ok(), "a PASID is lost");
    }
    // Never answered: a fault that is not counted would give back what it has not.
    std::mem::forget(found);
}

#[test]
fn a_number_is_free_again_when_a_fault_is_answered() {
    let model = Model::new("detach, reuse | fault_get, put", 855, || {
        reuse_against_fault(true);
    });
    model.check();
    model.canary(Mutation::FaultGetWithoutCount, LOST);
}

#[test]
fn a_fault_never_has_the_word_of_another_owner() {
    let model = Model::new("detach, reuse | fault_get", 764, || {
        reuse_against_fault(false);
    });
    model.check();
    model.canary(
        Mutation::FaultGetWithoutCount,
        "a fault has another owner's word",
    );
}
