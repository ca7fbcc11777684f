// SPDX-License-Identifier: MIT OR Apache-2.0
//! The owner's word: a look-up never returns another owner's, who reads a word
//! sees what was written before it was put there, and no word is lost.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU64, Ordering};
use loom_tests::{Model, beside, pasid, space, three_beside};
use pasid::model::Mutation;
use pasid::{Error, Found, Pool};
use std::sync::Arc;

const ANOTHERS: &str = "find returned another owner's word";

/// Fails unless `found` is nothing, or the allocation of `generation` with the word
/// 1, or the next one with the word 2.
fn assert_one_owner(found: pasid::Result<Found>, generation: u32) {
    match found {
        Ok(Found { handle, word }) => {
            let owner = u64::from(handle.generation() - generation) + 1;
            assert_eq!(word, owner, "find returned another owner's word");
        }
        Err(error) => assert_eq!(error, Error::NotFound(pasid(0))),
    }
}

/// One frees and allocates again while another looks on.
fn find_against_free_and_alloc() {
    let space = space(1, &[]);
    let owned = space.clone().alloc_at(pasid(0), 1).unwrap();
    let generation = owned.handle().generation();
    let (owner, finder) = (space.clone(), space.clone());
    let (next, found) = beside(
        move || {
            drop(owned);
            owner.alloc_at(pasid(0), 2).expect("it is free")
        },
        move || finder.find(pasid(0)),
    );
    assert_one_owner(found, generation);
    assert_one_owner(space.find(pasid(0)), generation);
    assert_eq!(next.word(), 2);
}

#[test]
fn find_never_returns_another_owners_word() {
    let model = Model::new("find | free, alloc", 129, find_against_free_and_alloc);
    model.check();
    model.canary(Mutation::WordRelaxed, ANOTHERS);
}

/// The same on three threads: one frees, one allocates, and one looks on.
fn find_against_free_against_alloc() {
    let space = space(1, &[]);
    let owned = space.clone().alloc_at(pasid(0), 1).unwrap();
    let generation = owned.handle().generation();
    let (next, finder) = (space.clone(), space.clone());
    let ((), next, found) = three_beside(
        move || drop(owned),
        move || next.alloc_at(pasid(0), 2),
        move || finder.find(pasid(0)),
    );
    assert_one_owner(found, generation);
    drop(next);
    assert_eq!(space.find(pasid(0)), Err(Error::NotFound(pasid(0))));
}

#[test]
fn find_beside_two_never_returns_another_owners_word() {
    let model = Model::new("find | free | alloc", 804, find_against_free_against_alloc);
    model.check();
    model.canary(Mutation::WordRelaxed, ANOTHERS);
}

/// A holder writes and then replaces the word, while another looks on.
fn find_against_replace() {
    let space = space(1, &[]);
    let owned = space.clone().alloc_at(pasid(0), 1).unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let note = written.clone();
    let (old, (word, seen)) = beside(
        move || {
            // Relaxed: it is the word that must carry it to the reader.
            written.store(1, Ordering::Relaxed);
            owned.replace(2)
        },
        move || {
            let word = space.find(pasid(0)).map(|found| found.word);
            // Relaxed: as above.
            (word, note.load(Ordering::Relaxed))
        },
    );
    assert_eq!(old, 1);
    assert!(
        word != Ok(2) || seen == 1,
        "a word came before what was written before it"
    );
}

#[test]
fn who_finds_a_word_sees_what_came_before_it() {
    let model = Model::new("find | replace", 122, find_against_replace);
    model.check();
    model.canary(
        Mutation::WordRelaxed,
        "a word came before what was written before it",
    );
}

/// Two holders replace the word: each word is returned once or stays.
fn replace_against_replace() {
    let space = space(1, &[]);
    let owned = Arc::new(space.clone().alloc_at(pasid(0), 1).unwrap());
    let (one, two) = (owned.clone(), owned.get().unwrap());
    let (one, two) = beside(move || one.replace(2), move || two.replace(4));
    assert_eq!(
        one | two | owned.word(),
        1 | 2 | 4,
        "a word was returned twice, and one is lost"
    );
}

#[test]
fn each_replaced_word_is_returned_once() {
    let model = Model::new("replace | replace", 12, replace_against_replace);
    model.check();
    model.canary(
        Mutation::ReplaceInTwoSteps,
        "a word was returned twice, and one is lost",
    );
}

/// A holder replaces the word and gives its reference back, while the owner frees
/// and the next one comes.
fn replace_against_put() {
    let space = space(1, &[]);
    let owned = space.clone().alloc_at(pasid(0), 1).unwrap();
    let handle = owned.handle();
    let (owner, holder) = (space.clone(), space.clone());
    let (next, replaced) = beside(
        move || {
            drop(owned);
            owner.alloc_at(pasid(0), 2)
        },
        move || {
            let reference = holder.get(handle).ok()?;
            Some(reference.replace(3))
        },
    );
    if let Ok(next) = next {
        assert_eq!(next.word(), 2, "a replaced word reached the next owner");
    }
    assert!(replaced.is_none_or(|old| old == 1));
}

#[test]
fn a_replace_does_not_reach_the_next_owner() {
    let model = Model::new("replace, put | free, alloc", 49, replace_against_put);
    model.check();
    model.canary(
        Mutation::AdvanceInTwoSteps,
        "a replaced word reached the next owner",
    );
}
