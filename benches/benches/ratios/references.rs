// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking references and giving them back.

use std::hint::black_box;

use criterion::Criterion;
use pasid::{Handle, Policy, Pool};
use pasid_benches::reference::HotWord;
use pasid_benches::report::{Goal, Report};
use pasid_benches::rounds::{Round, compare, time};
use pasid_benches::spaces::{check_live, fill, in_place, range, rng};

pub(crate) fn run(criterion: &mut Criterion, report: &mut Report) {
    get(criterion, report);
    clone(criterion, report);
}

fn get(criterion: &mut Criterion, report: &mut Report) {
    let space = in_place(Policy::Lowest);
    let live = fill(&space, range(1, 1000));
    let mut handles: Vec<Handle> = live.iter().map(|owned| owned.handle()).collect();
    rng().shuffle(&mut handles);
    assert_eq!(live.len(), 1000);
    check_live(&space, &live);
    let hot = HotWord::default();
    let work = "get by handle + drop, 1,000 live";
    let (mut next, mut reference_next) = (handles.iter().cycle(), handles.iter().cycle());
    let mut get = |count| {
        for &handle in next.by_ref().take(count as usize) {
            drop(black_box(space.get(handle)));
        }
    };
    let mut reference = |count| {
        for &handle in reference_next.by_ref().take(count as usize) {
            black_box(handle);
            black_box(&hot).count_up_and_down();
        }
    };
    let pairs = compare(
        criterion,
        ("references", work),
        Round::SHORT,
        |count| time(|| get(count)),
        |count| time(|| reference(count)),
    );
    check_live(&space, &live);
    report.ratio(work, "P", Goal::Must(1.4, 1.25), &pairs);
}

fn clone(criterion: &mut Criterion, report: &mut Report) {
    let space = in_place(Policy::Lowest);
    let owned = space.alloc(space.range(), 1).expect("a free PASID");
    let reference = owned.into_ref();
    let check = || {
        let clone = reference.try_clone().expect("one more reference");
        assert_eq!((clone.handle(), clone.word()), (reference.handle(), 1));
    };
    let hot = HotWord::default();
    let work = "clone + drop of a Ref";
    check();
    let clone_and_drop = || drop(black_box(black_box(&reference).try_clone()));
    let pairs = compare(
        criterion,
        ("references", work),
        Round::SHORT,
        |count| time(|| (0..count).for_each(|_| clone_and_drop())),
        |count| time(|| (0..count).for_each(|_| black_box(&hot).count_up_and_down())),
    );
    check();
    report.ratio(work, "P", Goal::Aim(1.05), &pairs);
}
