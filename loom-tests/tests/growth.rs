// SPDX-License-Identifier: MIT OR Apache-2.0
//! Growth of the tree by several at once: all go on with the same nodes, leaves
//! and tag, and nothing that was put into them is lost.
#![cfg(loom)]

use loom_tests::{Model, beside, empty_space, pasid, range, three_beside};
use pasid::model::Mutation;
use pasid::{Error, Found, PasidRange, Pool};

const LOST: &str = "growth lost a PASID";

/// Two allocate from an empty space, each from its range.
fn two_grow(low: PasidRange, high: PasidRange) {
    let space = empty_space(4, &[]);
    let (one, two) = (space.clone(), space.clone());
    let (one, two) = beside(
        move || one.alloc(low, 1).expect("some are free"),
        move || two.alloc(high, 2).expect("some are free"),
    );
    assert_ne!(one.pasid(), two.pasid(), "growth lost a PASID");
    for (owned, word) in [(&one, 1), (&two, 2)] {
        let found = Found {
            handle: owned.handle(),
            word,
        };
        assert_eq!(space.find(owned.pasid()), Ok(found), "growth lost a PASID");
    }
    assert_eq!(space.count_live(space.range()), 2, "growth lost a PASID");
}

#[test]
fn two_that_grow_one_leaf_share_it() {
    let model = Model::new("growth | growth in one leaf", 441, || {
        two_grow(range(0, 3), range(0, 3));
    });
    model.check();
    model.canary(Mutation::PublishBlindly, LOST);
}

#[test]
fn two_that_grow_leaves_of_one_node_share_the_node() {
    let model = Model::new("growth | growth in one node", 70, || {
        two_grow(range(0, 3), range(4, 7));
    });
    model.check();
    model.canary(Mutation::PublishBlindly, LOST);
}

#[test]
fn two_that_grow_different_nodes_share_the_tag() {
    let model = Model::new("growth | growth in two nodes", 17, || {
        two_grow(range(0, 3), range(8, 11));
    });
    model.check();
    model.canary(Mutation::IdentifyBlindly, LOST);
}

const UNNAMED: &str = "a handle does not name its allocation";

/// While two put memory in place, another allocates in place: it is refused for
/// want of memory, or finds a whole leaf and gets a handle that names its PASID.
fn alloc_in_place_against_growth() {
    let space = empty_space(3, const { &[PasidRange::single(pasid(0))] });
    let (asker, one, two) = (space.clone(), space.clone(), space.clone());
    let (mine, grown, ()) = three_beside(
        move || {
            let owned = asker.alloc_in_place(range(0, 7), 6).ok()?;
            assert_ne!(owned.pasid(), pasid(0), "a reserved PASID is live");
            assert!(owned.get().is_ok(), "a handle does not name its allocation");
            Some(owned)
        },
        move || one.alloc(range(0, 3), 5).expect("some are free"),
        move || two.preload(range(4, 7)).map(|_| ()).expect("memory"),
    );
    for (owned, word) in [(Some(grown), 5), (mine, 6)] {
        let Some(owned) = owned else { continue };
        let named = space.clone().get(owned.handle());
        let named = named.map(|reference| reference.word());
        assert_eq!(named, Ok(word), "a handle does not name its allocation");
    }
}

#[test]
fn who_sees_a_leaf_sees_it_whole() {
    let model = Model::new(
        "alloc in place | growth | growth",
        14_242,
        alloc_in_place_against_growth,
    );
    model.check();
    model.canary(Mutation::IdentifyBlindly, UNNAMED);
}

/// Look-ups in a space that is just growing see an allocation whole or not at all.
fn find_against_growth() {
    let space = empty_space(2, &[]);
    let (growing, finder) = (space.clone(), space.clone());
    let (owned, found) = beside(
        move || growing.alloc(range(0, 3), 5).expect("some are free"),
        move || {
            let found = finder.find(pasid(0));
            let listed = finder.iter(finder.range()).next();
            (found, listed)
        },
    );
    let whole = Found {
        handle: owned.handle(),
        word: 5,
    };
    assert!(
        found.0 == Ok(whole) || found.0 == Err(Error::NotFound(pasid(0))),
        "a look-up saw a PASID before it was whole"
    );
    assert!(
        found.1.is_none_or(|found| found == whole),
        "a look-up saw a PASID before it was whole"
    );
}

#[test]
fn a_look_up_sees_a_first_allocation_whole() {
    let model = Model::new("find | growth", 132, find_against_growth);
    model.check();
    model.canary(
        Mutation::GoLiveRelaxed,
        "a look-up saw a PASID before it was whole",
    );
}
