// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device with a queue of page faults, on real threads: what reuse before drain does, and
//! that quarantine keeps it from happening.
//!
//! Owners come and go: each has a PASID, attaches it, lets the device fault on it, and
//! frees it while its faults are still queued. The device knows nothing but numbers; the
//! test writes beside each fault for whom it was. A handler delivers the faults by number,
//! as a driver does, and so sees whom it reaches.

mod common;

use common::{range, sets::table};
use pasid::{
    Attach, Attachment, Error, Flush, IoasidSet, Owned, Pasid, Policy, Pool, Reuse, Scope,
    SetConfig, Space, SpaceKind, Table,
};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Threads that own PASIDs one after the other.
const OWNERS: u64 = 2;
/// Owners that one thread is at once.
const OWNERS_AT_ONCE: usize = 6;
/// PASIDs that there are.
const LAST: u32 = 64;
/// Faults that are queued before the handler takes one.
const DEPTH: usize = 8;

/// A page fault in the queue, with the owner that the device does not know.
struct Queued {
    pasid: Pasid,
    owner: u64,
}

/// The device's queue, and what became of its faults.
#[derive(Default)]
struct Device {
    queue: Mutex<VecDeque<Queued>>,
    queued: AtomicU64,
    handled: AtomicU64,
    delivered: AtomicU64,
    refused: AtomicU64,
    wrong: AtomicU64,
    /// Answered with an error that there is no reason for.
    unexpected: AtomicU64,
}

impl Device {
    /// The device faults on a PASID that is written into its table.
    fn fault(&self, pasid: Pasid, owner: u64) {
        let mut queue = self.queue.lock().unwrap();
        self.queued.fetch_add(1, Ordering::SeqCst);
        queue.push_back(Queued { pasid, owner });
    }

    /// Takes the oldest fault if at least `depth` are queued, and delivers it. Returns
    /// whether there was one.
    fn handle(&self, table: &Table, set: &IoasidSet, depth: usize) -> bool {
        let oldest = {
            let mut queue = self.queue.lock().unwrap();
            if queue.len() < depth.max(1) {
                return false;
            }
            queue.pop_front()
        };
        let Some(Queued { pasid, owner }) = oldest else {
            return false;
        };
        // Both are ways of drivers: by the device's attachment, and by the number alone.
        let found = match owner >> 8 & 1 {
            0 => table.fault_get(pasid).map(|fault| fault.word()),
            _ => set.get_at(pasid).map(|reference| reference.word()),
        };
        let met = match found {
            Ok(found) if found == owner => &self.delivered,
            Ok(_) => &self.wrong,
            Err(Error::NotFound(_) | Error::NotAttached(_) | Error::BeingFreed(_)) => &self.refused,
            Err(_) => &self.unexpected,
        };
        met.fetch_add(1, Ordering::Relaxed);
        self.handled.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// What the drain of the page requests does: all that are queued now are handled when
    /// it returns.
    fn drain(&self, table: &Table, set: &IoasidSet) {
        let queued = self.queued.load(Ordering::SeqCst);
        while self.handled.load(Ordering::SeqCst) < queued {
            if !self.handle(table, set, 1) {
                std::thread::yield_now();
            }
        }
    }
}

/// An owner, until it is dropped: then it detaches, and frees.
type Owner<'a> = (Attachment<&'a Table>, Owned<&'a IoasidSet>);

/// The next owner, on whose PASID the device faults. `None` if a flush is awaited first.
fn own<'a>(
    device: &Device,
    table: &'a Table,
    set: &'a IoasidSet,
    owner: u64,
) -> Option<Option<Owner<'a>>> {
    let owned = match set.alloc(set.range(), owner) {
        Ok(owned) => owned,
        Err(Error::AwaitingFlush { .. }) => return None,
        Err(error) => panic!("{error:?} for an owner"),
    };
    let attachment = table
        .attach(&owned, owner)
        .and_then(|attaching| attaching.commit());
    match attachment {
        Ok(attachment) => {
            device.fault(owned.pasid(), owner);
            Some(Some((attachment, owned)))
        }
        // Only where a fault of the owner before is still being answered.
        Err(Error::AlreadyAttached(_)) => Some(None),
        Err(error) => panic!("{error:?} for an attachment"),
    }
}

/// Counts a thread when it ends, in whatever way.
struct Ends<'a>(&'a AtomicU64);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Lets `rounds` owners come and go with that reuse. Returns the device, with its counts.
fn run(scope: impl Fn(&Table) -> Scope<'_>, reuse: Reuse, rounds: u64) -> Device {
    let space = Space::new(SpaceKind::Both);
    let one = table(&space, 20);
    one.preload(range(0, LAST)).unwrap();
    let config = SetConfig::new(scope(&one)).range(range(1, LAST));
    let set = space
        .add_set(config.policy(Policy::Lowest).reuse(reuse))
        .unwrap();
    let (device, done) = (Device::default(), AtomicU64::new(0));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while done.load(Ordering::Relaxed) < OWNERS {
                if !device.handle(&one, &set, DEPTH) {
                    std::thread::yield_now();
                }
            }
        });
        for thread in 0..OWNERS {
            let (device, one, set, done) = (&device, &one, &set, &done);
            threads.spawn(move || {
                let _ends = Ends(done);
                let (mut round, mut owners) = (0, VecDeque::new());
                while round < rounds / OWNERS {
                    if let Some(owner) = own(device, one, set, round << 8 | thread) {
                        round += 1;
                        owners.extend(owner);
                        if owners.len() > OWNERS_AT_ONCE {
                            owners.pop_front();
                        }
                        continue;
                    }
                    // The entries were cleared before the detach. Then the IOTLB and the
                    // device's TLB would be invalidated, and last the requests drained.
                    let flushed = set.flush(|_| {
                        device.drain(one, set);
                        Ok::<(), ()>(())
                    });
                    assert!(flushed.is_ok());
                    if flushed == Ok(0) {
                        // The other owner's flush has all.
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    device.drain(&one, &set);
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "{reuse:?}: {} faults, {} delivered, {} refused, {} to the wrong owner; {:?}",
        of(&device.queued),
        of(&device.delivered),
        of(&device.refused),
        of(&device.wrong),
        set.flushes(),
    );
    assert_eq!(of(&device.unexpected), 0);
    let answered = of(&device.delivered) + of(&device.refused) + of(&device.wrong);
    assert_eq!(answered, of(&device.queued));
    device
}

#[test]
fn with_immediate_reuse_faults_reach_the_wrong_owner() {
    let device = run(|_| Scope::Global, Reuse::Immediate, 20_000);
    assert!(device.wrong.into_inner() > 0, "nothing went wrong");
}

#[test]
fn after_a_flush_that_drains_the_queue_none_does_in_a_million_rounds() {
    let wrong = |device: Device| {
        // Faults found somebody, and owners were gone when theirs were handled.
        assert!(device.delivered.into_inner() > 0 && device.refused.into_inner() > 0);
        device.wrong.into_inner()
    };
    let global = run(|_| Scope::Global, Reuse::AfterFlush, 500_000);
    assert_eq!(wrong(global), 0);
    let local = run(|table| Scope::Local(table), Reuse::AfterFlush, 500_000);
    assert_eq!(wrong(local), 0);
}
