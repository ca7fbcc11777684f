// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots with something in every field, and the rules that every snapshot of a space
//! keeps, written a second time and in another way than the crate checks them.

use super::{pasid, range, width};
use pasid::snapshot::{
    AliasMapSnapshot, AliasRun, BelowSnapshot, PhaseSnapshot, ScopeSnapshot, SetSnapshot,
    SpaceSnapshot, VirtualTableSnapshot,
};
use pasid::{
    Attach, IoasidSet, Owned, Policy, Pool, RequesterId, Reuse, Scope, SetConfig, Space, SpaceKind,
    Table, TableConfig,
};
use std::collections::{HashMap, HashSet};
use std::mem::forget;

/// A space for [`busy`], with room for it and for `more` PASIDs.
pub fn roomy(more: u32) -> Space {
    Space::with_capacity(SpaceKind::Both, 4_000 + more)
}

fn some(set: &IoasidSet, word: u64) -> Owned<&IoasidSet> {
    set.alloc(set.range(), word).expect("there are some")
}

/// Attaches for good; with that many faults in flight.
fn stay(table: &Table, owned: &Owned<&IoasidSet>, word: u64, faults: u32) {
    let attaching = table.attach(owned, word).expect("not yet attached");
    forget(attaching.commit().expect("the table is open"));
    for _ in 0..faults {
        forget(table.fault_get(owned.pasid()).expect("attached"));
    }
}

fn tables(space: &Space) -> [Table; 3] {
    let reserved = [range(9, 9), range(40, 49)];
    let configs = [
        TableConfig::new(width(20)).reserved(&reserved),
        TableConfig::new(width(18)),
        TableConfig::new(width(12)),
    ];
    let tables = configs.map(|config| space.add_table(config).expect("memory"));
    for table in &tables {
        table.preload(range(0, 1023)).expect("memory");
    }
    let devices = [(7, 16), (8, 0), (9, 18)];
    for (device, bits) in devices {
        let joined = tables[1].join(RequesterId(device), width(bits));
        joined.expect("nothing is attached yet");
    }
    tables
}

/// Global sets, of processes: attached with faults in flight, waiting for a flush, pinned.
fn users(space: &Space, tables: &[Table]) {
    let config = SetConfig::new(Scope::Global)
        .token(7)
        .reuse(Reuse::AfterFlush)
        .range(range(1, 600));
    let users = space.add_set(config.quota(600)).expect("memory");
    for word in 0..20 {
        let process = some(&users, 0xFFFF_8000_0000_0000 + word * 0x1000);
        if word % 4 == 0 {
            stay(&tables[0], &process, 0xD0 + word, (word / 4) as u32);
        }
        if word % 5 == 0 {
            forget(process.get().expect("live"));
            forget(process.get().expect("live"));
        }
        if word % 7 == 0 {
            forget(process.pin().expect("not yet pinned"));
        }
        forget(process);
    }
    for word in 0..3 {
        drop(some(&users, word));
    }
    let config = SetConfig::new(Scope::Global)
        .policy(Policy::Spread)
        .range(range(601, 1200));
    let near = space.add_set(config.quota(100)).expect("memory");
    for cpu in 0..2 {
        forget(near.alloc_near(cpu, near.range(), 5).expect("some"));
    }
}

/// Sets of one table: without owners, being freed, pinned alone.
fn drivers(space: &Space, tables: &[Table]) {
    let gaps = [range(2020, 2029), range(2040, 2040)];
    let config = SetConfig::new(Scope::Local(&tables[0]))
        .policy(Policy::Next)
        .range(range(2000, 3999))
        .reserved(&gaps)
        .quota(50);
    let driver = space.add_set(config).expect("memory");
    forget(some(&driver, 0xB0).into_ref());
    let going = some(&driver, 0xB1);
    forget(going.get().expect("live"));
    forget(going.pin().expect("no pin"));
    drop(going);
    let kept = some(&driver, 0xB2);
    forget(kept.pin().expect("no pin"));
    drop(kept);
    for word in 0..12 {
        let _owned = std::mem::ManuallyDrop::new(some(&driver, word * word));
    }
    let config = SetConfig::new(Scope::Local(&tables[2])).policy(Policy::PreserveNarrow);
    let narrow = config.range(range(2100, 2200)).quota(40);
    let narrow: IoasidSet<()> = space.add_set_of(narrow).expect("memory");
    let owned: Vec<_> = (0..9)
        .map(|_| narrow.alloc(narrow.range(), ()).expect("some"))
        .collect();
    for (place, owned) in owned.into_iter().enumerate() {
        if place % 3 > 0 {
            forget(owned);
        }
    }
}

/// Sets of a group: attached to one of its tables, detached while a fault is in flight, and
/// of a set that is closing.
fn pairs(space: &Space, tables: &[Table]) {
    let scope = Scope::Group(&tables[..2]);
    let config = SetConfig::new(scope).range(range(4, 3000)).quota(30);
    let pair = space.add_set(config.token(9)).expect("memory");
    tables[1].preload(pair.range()).expect("memory");
    let shared = some(&pair, 0xC0);
    let attachment = (&tables[1]).attach(&shared, 0xD1).expect("free");
    let attachment = attachment.commit().expect("open");
    forget((&tables[1]).fault_get(shared.pasid()).expect("attached"));
    attachment.detach();
    stay(&tables[0], &shared, 0xD2, 0);
    forget(shared);
    let config = SetConfig::new(Scope::Local(&tables[1])).range(range(3000, 3100));
    let closing = space.add_set(config.quota(9)).expect("memory");
    forget(some(&closing, 0xE0).get().expect("live"));
    closing.close();
}

/// Everything at once, for good: nobody gives it back.
pub fn busy() -> Space {
    let space = roomy(0);
    for number in [3, 5] {
        space.reserve(pasid(number)).expect("it is free");
    }
    let tables = tables(&space);
    users(&space, &tables);
    drivers(&space, &tables);
    pairs(&space, &tables);
    tables[1].pause();
    tables[2].close();
    space
}

/// A snapshot of [`busy`], with alias maps of a guest and of a guest in it, whose entries
/// have the references that are held beside the owners'.
pub fn busy_snapshot() -> SpaceSnapshot {
    let mut taken = busy().snapshot().expect("memory");
    assert!(taken.quiescent);
    let run = |first: u32, host, below: Option<u32>| AliasRun {
        first: pasid(first),
        count: 1,
        host,
        below: below.map(pasid),
    };
    let users = &taken.sets[0];
    // Those with two references beside the owner's, of which the outer and the inner entry
    // take one each.
    let spare = users.entries().filter(|entry| entry.word & 0xffff == 0);
    let hosts: Vec<_> = spare.map(|entry| entry.handle.pasid()).collect();
    let table = |bits, below, entries| VirtualTableSnapshot {
        width: width(bits),
        set: 0,
        below,
        entries,
    };
    let outer = table(8, None, vec![run(5, hosts[0], None)]);
    let place = BelowSnapshot { map: 0, table: 0 };
    let inner = table(6, Some(place), vec![run(1, hosts[0], Some(5))]);
    let map = |table| AliasMapSnapshot {
        tables: vec![table],
    };
    taken.aliases = vec![map(outer), map(inner)];
    taken
}

/// A snapshot without what names the id spaces and how often their PASIDs were allocated,
/// and without alias maps, which are named when a snapshot is taken.
pub fn plain(mut snapshot: SpaceSnapshot) -> SpaceSnapshot {
    snapshot.aliases.clear();
    for set in &mut snapshot.sets {
        set.tag = 0;
        set.generations.clear();
    }
    snapshot
}

/// On which tables the PASIDs of a set count.
fn reach(set: &SetSnapshot, tables: usize) -> Vec<usize> {
    match &set.scope {
        ScopeSnapshot::Global => (0..tables).collect(),
        ScopeSnapshot::Local(table) => vec![*table as usize],
        ScopeSnapshot::Group(tables) => tables.iter().map(|&table| table as usize).collect(),
    }
}

/// The rules of a space that stands still, PASID by PASID.
pub fn keeps_rules(taken: &SpaceSnapshot) {
    assert!(taken.quiescent, "nothing else runs");
    let everywhere = usize::MAX;
    let mut holders = HashMap::new();
    let mut reserved = HashSet::new();
    for range in &taken.reserved {
        reserved.extend((range.first().get()..=range.last().get()).map(|of| (everywhere, of)));
    }
    for (index, table) in taken.tables.iter().enumerate() {
        for range in &table.reserved {
            reserved.extend((range.first().get()..=range.last().get()).map(|of| (index, of)));
        }
    }
    for (index, set) in taken.sets.iter().enumerate() {
        let count = set.entries().count() as u64;
        assert_eq!(count, set.count());
        assert!(set.quota.is_none_or(|quota| count <= u64::from(quota)));
        for entry in set.entries() {
            let number = entry.handle.pasid();
            assert!(set.ranges.iter().any(|range| range.contains(number)));
            assert!(!reserved.contains(&(everywhere, number.get())));
            let global = set.scope == ScopeSnapshot::Global;
            for table in reach(set, taken.tables.len()) {
                assert!(!reserved.contains(&(table, number.get())), "{number}");
                let before = holders.insert((table, number), (index, entry));
                assert!(before.is_none(), "{number} has two owners");
            }
            if global {
                let before = holders.insert((everywhere, number), (index, entry));
                assert!(before.is_none(), "{number} has two owners");
            }
            let holds = entry.references > 0;
            let waits = matches!(
                entry.phase,
                PhaseSnapshot::Quarantined | PhaseSnapshot::Pinned
            );
            assert_eq!(holds, !waits, "{entry:?}");
            assert!(holds || !entry.own, "{entry:?}");
        }
    }
    for (index, table) in taken.tables.iter().enumerate() {
        let mut wanted = HashSet::new();
        for run in &table.attachments {
            for number in run.first.get()..run.first.get() + run.count {
                let holder = holders.get(&(index, pasid(number))).expect("it has one");
                assert_eq!(holder.0, run.set as usize);
                assert!(holder.1.references > 0 && wanted.insert(number));
                assert!(number <= table.width.last().get());
            }
        }
    }
}
