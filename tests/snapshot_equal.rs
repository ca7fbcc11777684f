// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was restored behaves as the original: after many random calls a space is
//! snapshotted and restored, and then both get the same further calls and answer the same,
//! but for generations and tags.

mod common;

use common::snapshots::{keeps_rules, plain};
use common::{pasid, random, range, width};
use pasid::snapshot::{Numbers, PhaseSnapshot, Restore, Restored, SpaceSnapshot};
use pasid::{
    Attach, Attachment, Error, Fault, Flush, Handle, IoasidSet, Owned, Pasid, PasidRange, Pinned,
    Policy, Pool, Ref, Reuse, Scope, SetConfig, Space, SpaceKind, TableConfig,
};
use std::fmt::Write;
use std::sync::Arc;

type Set = Arc<IoasidSet>;
type Table = Arc<pasid::Table>;

/// Something that somebody holds of a PASID of a set.
enum Hold {
    Own(Owned<Set>),
    Ref(Ref<Set>),
    Pin(Pinned<Set>),
    Attached(usize, Attachment<Table>),
    Fault(usize, Fault<Table>),
}

impl Hold {
    fn name(&self) -> &'static str {
        match self {
            Hold::Own(_) => "owner",
            Hold::Ref(_) => "reference",
            Hold::Pin(_) => "pin",
            Hold::Attached(..) => "attachment",
            Hold::Fault(..) => "fault",
        }
    }

    fn handle(&self) -> Handle {
        match self {
            Hold::Own(owned) => owned.handle(),
            Hold::Ref(held) => held.handle(),
            Hold::Pin(pinned) => pinned.handle(),
            Hold::Attached(_, attachment) => attachment.handle(),
            Hold::Fault(_, fault) => fault.handle(),
        }
    }
}

/// A space and all that is held of it, in an order that both sides have alike.
struct Side {
    space: Space,
    tables: Vec<Table>,
    sets: Vec<Set>,
    /// The set's index, and what is held.
    held: Vec<(usize, Hold)>,
}

/// An answer without what differs between the sides.
fn said(result: Result<Pasid, Error>) -> String {
    match result {
        Ok(pasid) => format!("{pasid}"),
        Err(Error::Stale(handle)) => format!("stale {}", handle.pasid()),
        Err(Error::TooManyReferences(handle)) => format!("too many {}", handle.pasid()),
        Err(error) => format!("{error:?}"),
    }
}

/// One set for each policy, each kind of scope, with and without a quota and a flush.
fn configs(tables: &[pasid::Table]) -> Vec<SetConfig<'_>> {
    let waits = Reuse::AfterFlush;
    let new = SetConfig::new;
    vec![
        new(Scope::Global).range(range(1, 300)),
        new(Scope::Global)
            .range(range(200, 700))
            .policy(Policy::Next)
            .reuse(waits)
            .quota(120),
        new(Scope::Global)
            .range(range(1, 1500))
            .policy(Policy::PreserveNarrow)
            .token(5),
        new(Scope::Local(&tables[0]))
            .range(range(500, 1400))
            .policy(Policy::Spread)
            .quota(60),
        new(Scope::Local(&tables[1]))
            .range(range(400, 900))
            .policy(Policy::Next)
            .reuse(waits),
        new(Scope::Group(tables))
            .range(range(600, 1600))
            .policy(Policy::PreserveNarrow)
            .quota(70)
            .reuse(waits),
        new(Scope::Group(tables)).range(range(900, 1000)),
    ]
}

/// Memory is for all, so that what is refused is refused for another reason.
fn preload(tables: &[Table], sets: &[Set]) {
    for table in tables {
        table.preload(range(0, 2047)).expect("memory");
    }
    for set in sets {
        set.preload(set.range()).expect("memory");
    }
}

impl Side {
    fn new() -> Side {
        let space = Space::new(SpaceKind::Both);
        let add = |bits, reserved: &[PasidRange]| {
            let config = TableConfig::new(width(bits)).reserved(reserved);
            space.add_table(config).expect("memory")
        };
        let tables = [add(16, &[range(550, 559)]), add(11, &[])];
        space.reserve(pasid(33)).expect("free");
        let configs = configs(&tables).into_iter();
        let sets: Vec<Set> = configs
            .map(|config| Arc::new(space.add_set(config).expect("memory")))
            .collect();
        let tables = tables.map(Arc::new).to_vec();
        preload(&tables, &sets);
        Side {
            space,
            tables,
            sets,
            held: Vec::new(),
        }
    }

    /// The other side of what was restored: all is claimed, in the order of `of`.
    fn restored(of: &Side, space: Space, mut restored: Restored, numbers: Numbers) -> Side {
        let tables = (0..of.tables.len()).map(|index| restored.table(index).cloned());
        let tables: Vec<Table> = tables.map(|table| Arc::new(table.expect("its"))).collect();
        let sets = (0..of.sets.len()).map(|index| restored.set::<u64>(index));
        let sets: Vec<Set> = sets.map(|set| Arc::new(set.expect("words"))).collect();
        preload(&tables, &sets);
        let mut held = Vec::new();
        for (index, hold) in &of.held {
            let (old, set) = (hold.handle(), sets[*index].clone());
            let number = old.pasid();
            let table = |index: &usize| tables[*index].clone();
            let now = match hold {
                Hold::Own(_) => restored.claim(set, old).map(Hold::Own),
                Hold::Ref(_) => restored.claim_ref(set, old).map(Hold::Ref),
                Hold::Pin(_) => restored.claim_pin(set, old).map(Hold::Pin),
                Hold::Attached(index, _) => restored
                    .claim_attachment(table(index), number)
                    .map(|now| Hold::Attached(*index, now)),
                Hold::Fault(index, _) => restored
                    .claim_fault(table(index), number)
                    .map(|now| Hold::Fault(*index, now)),
            };
            let now = match now {
                Ok(now) => now,
                Err(error) => panic!("{}: {error}", hold.name()),
            };
            // A fault that was found by its number may be another set's.
            let mut sets = 0..of.sets.len();
            let here = sets.find_map(|set| restored.handle_of(set, old));
            assert_eq!(here, Some(now.handle()));
            if numbers == Numbers::Same {
                assert_eq!(now.handle().pasid(), number);
            }
            held.push((*index, now));
        }
        assert_eq!(restored.unclaimed().count(), 0, "all was held by somebody");
        assert_eq!(restored.unclaimed_attachments().count(), 0);
        Side {
            space,
            tables,
            sets,
            held,
        }
    }

    fn taken(&self) -> SpaceSnapshot {
        self.space.snapshot().expect("memory")
    }

    fn keep(&mut self, set: usize, hold: Result<Hold, Error>) -> String {
        let number = hold.map(|hold| {
            let number = hold.handle().pasid();
            self.held.push((set, hold));
            number
        });
        said(number)
    }

    /// One random call; `random` and `self` alike make the same one.
    fn step(&mut self, random: &mut fastrand::Rng) -> String {
        let index = random.usize(..self.sets.len());
        let set = self.sets[index].clone();
        let some = random.usize(..self.held.len().max(1));
        let (first, word) = (random.u32(..1_700), random.u64(..));
        let part = range(first, first + random.u32(..200));
        match random.u8(..100) {
            0..=19 => self.keep(index, set.clone().alloc(set.range(), word).map(Hold::Own)),
            20..=29 => self.keep(index, set.alloc(part, word).map(Hold::Own)),
            30..=34 => {
                let (cpu, whole) = (random.u32(..6), set.range());
                self.keep(index, set.alloc_near(cpu, whole, word).map(Hold::Own))
            }
            35..=42 => self.keep(index, set.alloc_at(pasid(first), word).map(Hold::Own)),
            43..=67 if !self.held.is_empty() => self.give_back(some),
            68..=69 => {
                let flushed = self.flush(random.u8(..3), &set);
                format!("flushed {flushed}")
            }
            70 => {
                let quota = random.u32(..140);
                let now = set.set_quota(quota);
                format!("{:?} {now:?}", set.quota().map(|quota| quota.used))
            }
            71..=73 => {
                let table = random.usize(..self.tables.len());
                let fault = self.tables[table].clone().fault_get(pasid(first));
                let fault = fault.map(|fault| Hold::Fault(table, fault));
                self.keep(index, fault)
            }
            74 => said(set.get_at(pasid(first)).map(|held| held.pasid())),
            _ if !self.held.is_empty() => self.touch(some, random),
            _ => String::new(),
        }
    }

    fn give_back(&mut self, some: usize) -> String {
        let (_, hold) = self.held.swap_remove(some);
        let number = hold.handle().pasid();
        drop(hold);
        format!("gave back {number}")
    }

    fn flush(&self, which: u8, set: &Set) -> u32 {
        let done = |_: &mut _| Ok::<(), Error>(());
        let flushed = match which {
            0 => self.space.flush(done),
            1 => (&*self.tables[1]).flush(|_| Ok::<(), Error>(())),
            _ => (&**set).flush(|_| Ok::<(), Error>(())),
        };
        flushed.expect("it cannot fail")
    }

    /// A call on something that is held.
    fn touch(&mut self, some: usize, random: &mut fastrand::Rng) -> String {
        let (index, hold) = &self.held[some];
        let (index, handle) = (*index, hold.handle());
        let set = self.sets[index].clone();
        let table = random.usize(..self.tables.len());
        let number = handle.pasid();
        match random.u8(..10) {
            0 => said(set.revoke(handle).map(|()| number)),
            1 | 2 => self.keep(index, set.get(handle).map(Hold::Ref)),
            3 => {
                let pinned = match hold {
                    Hold::Own(owned) => owned.pin(),
                    Hold::Ref(held) => held.pin(),
                    _ => return String::new(),
                };
                self.keep(index, pinned.map(Hold::Pin))
            }
            4..=6 => {
                let table_of = self.tables[table].clone();
                let attaching = match hold {
                    Hold::Own(owned) => table_of.attach(owned, random.u64(..)),
                    Hold::Ref(held) => table_of.attach(held, random.u64(..)),
                    _ => return String::new(),
                };
                let attachment = attaching.and_then(pasid::Attaching::commit);
                self.keep(index, attachment.map(|now| Hold::Attached(table, now)))
            }
            7 | 8 => {
                let fault = self.tables[table].clone().fault_get(number);
                self.keep(index, fault.map(|fault| Hold::Fault(table, fault)))
            }
            _ => match self.held.swap_remove(some) {
                (index, Hold::Own(owned)) => self.keep(index, Ok(Hold::Ref(owned.into_ref()))),
                other => {
                    self.held.push(other);
                    String::new()
                }
            },
        }
    }

    /// All that a set tells of itself, but for what failed before the snapshot.
    fn counts(&self) -> String {
        self.sets.iter().fold(String::new(), |mut all, set| {
            let of = set.statistics();
            let quota = of.quota.map(|quota| (quota.limit, quota.used));
            let counts = (of.live, of.freeing, of.waiting, of.pinned, quota);
            write!(all, "{counts:?} ").expect("memory");
            all
        })
    }
}

/// A side after that many calls.
fn busy(random: &mut fastrand::Rng, calls: u32) -> Side {
    let mut side = Side::new();
    for _ in 0..calls {
        side.step(random);
    }
    side
}

/// What the seeds together had at the time of the snapshot.
fn note(taken: &SpaceSnapshot, seen: &mut [usize; 6]) {
    let phases = taken.sets.iter().flat_map(|set| &set.pasids);
    phases.for_each(|run| seen[run.phase as usize] += 1);
    for run in taken.tables.iter().flat_map(|table| &table.attachments) {
        seen[4] += usize::from(run.faults > 0);
        seen[5] += usize::from(run.detached);
    }
}

#[test]
fn ten_thousand_further_calls_are_answered_alike() {
    let mut seen = [0; 6];
    for seed in 0..6 {
        let mut random = random(seed);
        let mut one = busy(&mut random, 3_000);
        let taken = one.taken();
        note(&taken, &mut seen);
        keeps_rules(&taken);
        let space = Space::new(SpaceKind::Both);
        let restored = Restore::new(&taken).into_space(&space).expect("it holds");
        let mut other = Side::restored(&one, space, restored, Numbers::Same);
        assert_eq!(plain(other.taken()), plain(taken));
        let mut again = random.clone();
        let mut granted = 0;
        for call in 0..10_000 {
            let answer = one.step(&mut random);
            assert_eq!(answer, other.step(&mut again), "call {call}");
            granted += u32::from(answer.starts_with(|first: char| first.is_ascii_digit()));
            if call % 1_000 == 0 {
                assert_eq!(one.counts(), other.counts(), "call {call}");
            }
        }
        assert_eq!(plain(other.taken()), plain(one.taken()));
        assert!(granted > 2_000, "{granted}");
    }
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

#[test]
fn new_numbers_beside_others_keep_the_rules() {
    for seed in 10..14 {
        let mut random = random(seed);
        let one = busy(&mut random, 1_000);
        let taken = one.taken();
        // The host has others in the way: half the numbers of one of the sets.
        let host = Space::new(SpaceKind::Both);
        let others = host.add_set(SetConfig::new(Scope::Global)).expect("memory");
        let mut theirs: Vec<Owned<&IoasidSet>> = Vec::new();
        for entry in taken.sets[0].entries().step_by(2) {
            let number = entry.handle.pasid();
            theirs.extend((&others).alloc(number.into(), 0));
        }
        let before = host.snapshot().expect("memory");
        let same = Restore::new(&taken).into_space(&host);
        assert!(same.is_err());
        assert_eq!(host.snapshot().expect("memory"), before);
        let new = Restore::new(&taken).numbers(Numbers::New);
        let restored = new.into_space(&host).expect("there is room");
        let after = host.snapshot().expect("memory");
        keeps_rules(&after);
        let counts = |taken: &SpaceSnapshot| {
            let sets = taken.sets.iter().filter(|set| !set.words.is_empty());
            let left = |set: &pasid::snapshot::SetSnapshot| {
                let kept = |phase| phase != PhaseSnapshot::Quarantined;
                set.entries().filter(|entry| kept(entry.phase)).count()
            };
            sets.map(left).sum::<usize>()
        };
        assert_eq!(counts(&after), counts(&taken) + theirs.len());
        let other = Side::restored(&one, host, restored, Numbers::New);
        for ((_, old), (_, new)) in one.held.iter().zip(&other.held) {
            if let (Hold::Own(old), Hold::Own(new)) = (old, new) {
                assert_eq!(old.word(), new.word());
            }
        }
        // When all is given back, the others are alone.
        let Side {
            space, sets, held, ..
        } = other;
        drop(held);
        for set in &sets {
            (&**set)
                .flush(|_| Ok::<(), Error>(()))
                .expect("it cannot fail");
            let of = set.statistics();
            assert_eq!((of.live, of.freeing, of.waiting, of.pinned), (0, 0, 0, 0));
        }
        keeps_rules(&space.snapshot().expect("memory"));
    }
}
