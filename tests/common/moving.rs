// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread that asks, and one that moves the only free PASID about.

use super::{alloc, alloc_raw, bare, free_raw};
use pasid::{Handle, IdSpace, Policy};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

/// One PASID more than the threads ever hold together: at every instant at least
/// one is free, so no call for all of them may say *exhausted*. The free one jumps
/// from the end of the range to its beginning and back, past whoever searches.
pub fn ask_while_the_free_one_moves(policy: Policy, count: u32, asks: u32) {
    let space = bare(20).with_policy(policy);
    let (start, done) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mine = hold_all_but_one(&space, count);
            start.wait();
            move_the_free_one(&space, mine, &done);
        });
        scope.spawn(|| {
            start.wait();
            let _done = Done(&done);
            for _ in 0..asks {
                drop(alloc(&space, 0, count - 1).expect("broken: one is free"));
            }
        });
    });
    assert_eq!(space.count_live(space.range()), count - 1);
}

/// Says so when a thread is done, however it ends.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The handles of all of `count` PASIDs but the last, by number.
fn hold_all_but_one(space: &IdSpace, count: u32) -> Vec<Option<Handle>> {
    let mut mine = vec![None; count as usize];
    for number in 0..count - 1 {
        mine[number as usize] = Some(alloc_raw(space, number, number).unwrap());
    }
    mine
}

/// Moves the free one about until `done`.
fn move_the_free_one(space: &IdSpace, mut mine: Vec<Option<Handle>>, done: &AtomicBool) {
    let count = mine.len() as u32;
    let last = count - 1;
    let mut random = fastrand::Rng::with_seed(count.into());
    let mut step = 0;
    while !done.load(Ordering::Relaxed) {
        step += 1;
        // One near the beginning, then one near the end.
        let near = random.u32(..count.min(40));
        let number = if step % 2 == 0 { near } else { last - near };
        let Some(handle) = mine[number as usize].take() else {
            continue;
        };
        free_raw(space, handle).unwrap();
        // What was free before lies on the other side, unless the other thread
        // has it for the moment; then anything will do, and something is there.
        let beyond = if step % 2 == 0 {
            (number < last).then(|| alloc_raw(space, number + 1, last))
        } else {
            (number > 0).then(|| alloc_raw(space, 0, number - 1))
        };
        let handle = match beyond {
            Some(Ok(handle)) => handle,
            _ => alloc_raw(space, 0, last).expect("broken: one is free"),
        };
        mine[handle.pasid().get() as usize] = Some(handle);
    }
}
