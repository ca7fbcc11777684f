// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attachments, the fault path, and references and look-ups through a set.

use std::hint::black_box;

use criterion::Criterion;
use pasid::{Attach, Attachment, Handle, IoasidSet, Owned, Pasid, PasidWidth, Policy, Pool};
use pasid::{SpaceKind, Table};
use pasid_benches::reference::{self, HotWord};
use pasid_benches::report::{Goal, Report};
use pasid_benches::rounds::{Pair, Round, compare, time};
use pasid_benches::sets::{Machine, take};
use pasid_benches::spaces::rng;

/// How many are live, and attached.
const LIVE_COUNT: u32 = 1000;

pub(crate) fn run(criterion: &mut Criterion, report: &mut Report) {
    let machine = Machine::new(SpaceKind::Both);
    let table = &machine.tables[0];
    table.preload(table.width().range()).expect("memory");
    let local = machine.add_local(Policy::Lowest);
    let global = machine.add_global(Policy::Lowest);
    for (name, set) in [("local", &local), ("global", &global)] {
        let live = take(set, set.range(), LIVE_COUNT);
        fault(criterion, report, (name, 1), table, &live);
        fault(criterion, report, (name, LIVE_COUNT), table, &live);
        attach(criterion, report, name, table, &live);
    }
    let live = take(&local, local.range(), LIVE_COUNT);
    get(criterion, report, &local, &live);
    find(criterion, report, &local, &live);
}

/// Shows that each of these is attached, with the word that it was attached with.
fn check_attached(table: &Table, attached: &[Attachment<&Table>]) {
    for attachment in attached {
        let fault = table.fault_get(attachment.pasid()).expect("an attachment");
        assert_eq!(fault.word(), attachment.word());
    }
}

fn attach_all<'a>(table: &'a Table, live: &[Owned<&IoasidSet>]) -> Vec<Attachment<&'a Table>> {
    let attached = live.iter().map(|owned| {
        let word = u64::from(owned.pasid().get()) << 20;
        table
            .attach(owned, word)
            .and_then(|attaching| attaching.commit())
    });
    attached
        .map(|attachment| attachment.expect("attached"))
        .collect()
}

/// A page fault: the look-up by number with a counted reference, and its end.
fn fault(
    criterion: &mut Criterion,
    report: &mut Report,
    (name, count): (&str, u32),
    table: &Table,
    live: &[Owned<&IoasidSet>],
) {
    let attached = attach_all(table, &live[..count as usize]);
    let mut pasids: Vec<Pasid> = attached.iter().map(|each| each.pasid()).collect();
    rng().shuffle(&mut pasids);
    check_attached(table, &attached);
    let work = match count {
        1 => format!("fault_get + drop, {name}, one attached"),
        _ => format!("fault_get + drop, {name}, 1,000 attached"),
    };
    let pairs = beside_p(criterion, &work, &pasids, |pasid| {
        drop(black_box(table.fault_get(pasid)));
    });
    check_attached(table, &attached);
    report.ratio(&work, "P", Goal::Final(1.5), &pairs);
}

/// Does `work` on each of `items` in turn, beside P.
fn beside_p<T: Copy>(
    criterion: &mut Criterion,
    name: &str,
    items: &[T],
    work: impl Fn(T),
) -> Vec<Pair> {
    let hot = HotWord::default();
    let (mut next, mut reference_next) = (items.iter().cycle(), items.iter().cycle());
    let mut work = |count| {
        for &item in next.by_ref().take(count as usize) {
            work(item);
        }
    };
    let mut reference = |count| {
        for &item in reference_next.by_ref().take(count as usize) {
            black_box(item);
            black_box(&hot).count_up_and_down();
        }
    };
    compare(
        criterion,
        ("attach", name),
        Round::SHORT,
        |count| time(|| work(count)),
        |count| time(|| reference(count)),
    )
}

/// The whole life of an attachment.
fn attach(
    criterion: &mut Criterion,
    report: &mut Report,
    name: &str,
    table: &Table,
    live: &[Owned<&IoasidSet>],
) {
    let work = format!("attach + commit + detach, {name}");
    let owners: Vec<&Owned<&IoasidSet>> = live.iter().collect();
    drop(attach_all(table, live));
    let pairs = beside_p(criterion, &work, &owners, |owned| {
        let attachment = table
            .attach(owned, 1)
            .and_then(|attaching| attaching.commit());
        drop(black_box(attachment));
    });
    let attached = attach_all(table, live);
    check_attached(table, &attached);
    report.ratio(&work, "P", Goal::None, &pairs);
}

fn get(
    criterion: &mut Criterion,
    report: &mut Report,
    set: &IoasidSet,
    live: &[Owned<&IoasidSet>],
) {
    let mut handles: Vec<Handle> = live.iter().map(|owned| owned.handle()).collect();
    rng().shuffle(&mut handles);
    let check = || {
        for owned in live {
            assert_eq!(
                set.get(owned.handle()).map(|got| got.word()),
                Ok(owned.word())
            );
        }
    };
    check();
    let work = "set: get by handle + drop, 1,000 live";
    let pairs = beside_p(criterion, work, &handles, |handle| {
        drop(black_box(set.get(handle)));
    });
    check();
    report.ratio(work, "P", Goal::None, &pairs);
}

fn find(
    criterion: &mut Criterion,
    report: &mut Report,
    set: &IoasidSet,
    live: &[Owned<&IoasidSet>],
) {
    let mut pasids: Vec<Pasid> = live.iter().map(|owned| owned.pasid()).collect();
    rng().shuffle(&mut pasids);
    let array = vec![0_u64; PasidWidth::MAX.count() as usize];
    let (mut next, mut reference_next) = (pasids.iter().cycle(), pasids.iter().cycle());
    let mut find = |count| {
        for &pasid in next.by_ref().take(count as usize) {
            black_box(set.find(pasid).map_or(0, |found| found.word));
        }
    };
    let mut load = |count| {
        for &pasid in reference_next.by_ref().take(count as usize) {
            reference::load(&array, pasid.get() as usize);
        }
    };
    let check = || {
        for owned in live {
            assert_eq!(
                set.find(owned.pasid()).map(|found| found.word),
                Ok(owned.word())
            );
        }
    };
    check();
    let work = "set: find, throughput, 1,000 live";
    let pairs = compare(
        criterion,
        ("attach", work),
        Round::SHORT,
        |count| time(|| find(count)),
        |count| time(|| load(count)),
    );
    check();
    report.ratio(work, "I", Goal::None, &pairs);
}
