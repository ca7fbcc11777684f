// SPDX-License-Identifier: MIT OR Apache-2.0
//! Restoring the extremes: sets that have never had a PASID, as many references as can be,
//! and as many PASIDs.

mod common;

use common::sets::both;
use common::snapshots::plain;
use common::{pasid, width};
use pasid::snapshot::{Numbers, Offence, PhaseSnapshot, Restore, SpaceSnapshot};
use pasid::{Pool, Scope, SetConfig, Space, SpaceKind, TableConfig};

#[test]
fn a_space_that_never_had_a_pasid_comes_back() {
    let space = both();
    let table = space
        .add_table(TableConfig::new(width(20)))
        .expect("memory");
    let other = space.add_table(TableConfig::new(width(8))).expect("memory");
    let scopes = [
        Scope::Global,
        Scope::Local(&table),
        Scope::Group(&[table.clone(), other.clone()]),
    ];
    let sets = scopes.map(|scope| space.add_set(SetConfig::new(scope)).expect("memory"));
    let taken = space.snapshot().expect("memory");
    assert!(taken.quiescent);
    assert!(taken.sets.iter().all(|set| set.tag == 0));
    for numbers in [Numbers::Same, Numbers::New] {
        let host = Space::new(SpaceKind::Both);
        let restored = Restore::new(&taken).numbers(numbers).into_space(&host);
        let restored = restored.expect("it breaks no rule");
        assert_eq!(host.snapshot().expect("memory"), taken);
        for index in 0..3 {
            let set = restored.set::<u64>(index).expect("words");
            assert!(set.alloc(set.range(), 0).is_ok());
        }
    }
    for set in &sets {
        let alone = set.snapshot().and_then(|set| set.alone()).expect("memory");
        assert!(Restore::new(&alone).check().is_ok());
    }
}

/// A space with one set, whose PASIDs 1 to `count` have so many references.
fn lent_out(count: u32, own: bool, phase: PhaseSnapshot, references: u32) -> SpaceSnapshot {
    let space = Space::new(SpaceKind::Global);
    let set = space
        .add_set(SetConfig::new(Scope::Global).quota(1 << 20))
        .expect("memory");
    let _one = set.alloc(set.range(), 0).expect("room");
    let mut taken = space.snapshot().expect("memory");
    let of = &mut taken.sets[0];
    of.pasids[0].count = count;
    of.generations[0].count = count;
    of.words[0].count = count;
    (of.pasids[0].own, of.pasids[0].phase) = (own, phase);
    of.pasids[0].references = references;
    taken
}

#[test]
fn as_many_references_as_can_be_are_restored_and_given_back() {
    const MOST: u32 = 1 << 17;
    for (own, phase) in [true, false]
        .into_iter()
        .flat_map(|own| [(own, PhaseSnapshot::Live), (own, PhaseSnapshot::Freeing)])
    {
        for references in [1, 2, MOST - 1, MOST] {
            let taken = lent_out(1, own, phase, references);
            let space = Space::new(SpaceKind::Global);
            let mut restored = Restore::new(&taken).into_space(&space).expect("it holds");
            let again = space.snapshot().expect("memory");
            assert_eq!(
                plain(again),
                plain(taken.clone()),
                "{own} {phase:?} {references}"
            );
            let old = taken.sets[0].entries().next().expect("one").handle;
            let set = restored.set::<u64>(0).expect("words");
            let beside = references - u32::from(own);
            let claimed = restored.claim_ref(&set, old).map(|held| held.handle());
            assert_eq!(claimed.is_ok(), beside > 0);
            drop(restored);
            let of = set.statistics();
            assert_eq!(
                (of.live, of.freeing, of.quota.map(|quota| quota.used)),
                (0, 0, Some(0))
            );
            assert_eq!(
                (&set).alloc(set.range(), 0).map(|owned| owned.pasid()),
                Ok(pasid(1))
            );
        }
        let taken = lent_out(1, own, phase, MOST + 1);
        let refused = Restore::new(&taken).check().expect_err("too many");
        assert_eq!(refused.offence, Offence::References);
    }
}

#[test]
fn references_are_restored_at_once_however_many() {
    let taken = lent_out(0xf_ffff, false, PhaseSnapshot::Live, 1 << 17);
    let space = Space::new(SpaceKind::Global);
    let restored = Restore::new(&taken).into_space(&space).expect("it holds");
    let set = restored.set::<u64>(0).expect("words");
    assert_eq!(set.statistics().live, 0xf_ffff);
    drop(restored);
    assert_eq!(set.statistics().live, 0);
}
