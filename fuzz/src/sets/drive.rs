// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drives a space and its model with the same operations, and compares.

use crate::report::Difference;
use crate::sets::flush::AnyTicket;
use crate::sets::model::{Event, Model};
use crate::sets::op::{Input, Number, Op, Range, Which};
use crate::sets::quirk::Quirk;
use crate::sets::report::{Answer, Call, Report};
use pasid::{
    Attaching, Attachment, Error, Fault, Handle, IoasidSet, Observer, Owned, Pasid, PasidRange,
    Pinned, Ref, Space, Table,
};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

/// Holders that are kept: the oldest goes when one more comes.
const HELD_LAST: usize = 300;
/// Handles that are kept for later use, over or not.
const PAST_LAST: usize = 64;
/// Everything is compared after so many operations.
const WHOLE_EVERY: u64 = 32;

pub(crate) type Outcome = Result<(), Difference>;

/// Runs `input` on a space and on a model that is right, or wrong by `quirk`.
///
/// # Errors
/// The first [`Difference`].
pub fn run(input: &Input, quirk: Option<Quirk>) -> Result<Report, Difference> {
    let mut run = Run::new(input, quirk);
    for spec in input.setup.tables {
        run.add_table(spec)?;
    }
    for spec in input.setup.sets {
        run.add_set(spec)?;
    }
    for op in &input.ops {
        run.step(*op)?;
        run.compare_events()?;
        run.done += 1;
        if run.done.is_multiple_of(WHOLE_EVERY) {
            run.compare_all()?;
        }
    }
    run.finish()
}

/// What an observer writes down.
#[derive(Default)]
pub(crate) struct Log(pub(crate) Mutex<Vec<Event>>);

impl Log {
    fn note(&self, event: Event) {
        if let Ok(mut events) = self.0.lock() {
            events.push(event);
        }
    }
}

impl Observer for Log {
    fn allocated(&self, handle: Handle, word: u64) {
        self.note(Event::Allocated(handle, word));
    }

    fn revoked(&self, handle: Handle) {
        self.note(Event::Revoked(handle));
    }

    fn reclaimed(&self, handle: Handle) {
        self.note(Event::Reclaimed(handle));
    }
}

/// Something held of a set. In raw form the set is kept beside it.
pub(crate) enum Held {
    Owned(Owned<Arc<IoasidSet>>),
    Ref(Ref<Arc<IoasidSet>>),
    RawOwned(Arc<IoasidSet>, Handle),
    RawRef(Arc<IoasidSet>, Handle),
}

impl Held {
    pub(crate) fn handle(&self) -> Handle {
        match self {
            Held::Owned(owned) => owned.handle(),
            Held::Ref(reference) => reference.handle(),
            Held::RawOwned(_, handle) | Held::RawRef(_, handle) => *handle,
        }
    }
}

/// Something held of a table.
pub(crate) enum Wire {
    Attaching(Attaching<Arc<Table>>),
    Attachment(Attachment<Arc<Table>>),
    Fault(Fault<Arc<Table>>),
}

impl Wire {
    pub(crate) fn pasid(&self) -> Pasid {
        match self {
            Wire::Attaching(one) => one.pasid(),
            Wire::Attachment(one) => one.pasid(),
            Wire::Fault(one) => one.pasid(),
        }
    }
}

pub(crate) struct Run {
    pub(crate) space: Arc<Space>,
    pub(crate) model: Model,
    /// By the model's index; `None` where the handle was dropped.
    pub(crate) tables: Vec<Option<Arc<Table>>>,
    pub(crate) sets: Vec<Option<Arc<IoasidSet>>>,
    pub(crate) logs: Vec<Option<Arc<Log>>>,
    /// With the set's index.
    pub(crate) held: VecDeque<(usize, Held)>,
    /// With the model's number.
    pub(crate) tickets: Vec<(usize, AnyTicket)>,
    /// With the set's index.
    pub(crate) pins: Vec<(usize, Pinned<Arc<IoasidSet>>)>,
    /// With the table's index.
    pub(crate) wires: Vec<(usize, Wire)>,
    pub(crate) past: VecDeque<Handle>,
    /// What was reserved at some time.
    pub(crate) reserved: Vec<Pasid>,
    pub(crate) report: Report,
    done: u64,
}

impl Run {
    fn new(input: &Input, quirk: Option<Quirk>) -> Run {
        let setup = input.setup;
        let (kind, listed) = (setup.kind.get(), setup.reserved.list());
        let capacity = setup.capacity.map(|steps| u32::from(steps) * 256);
        Run {
            space: Arc::new(match capacity {
                None => Space::with_reserved(kind, listed),
                Some(capacity) => Space::with_capacity_and_reserved(kind, capacity, listed),
            }),
            model: Model::new(kind, listed, capacity, quirk),
            tables: Vec::new(),
            sets: Vec::new(),
            logs: Vec::new(),
            held: VecDeque::new(),
            tickets: Vec::new(),
            pins: Vec::new(),
            wires: Vec::new(),
            past: VecDeque::new(),
            reserved: Vec::new(),
            report: Report::new(),
            done: 0,
        }
    }

    // ---- Comparing -----------------------------------------------------------

    /// Compares one answer.
    pub(crate) fn same<T: PartialEq + fmt::Debug>(
        &self,
        call: impl fmt::Debug,
        space: T,
        model: T,
    ) -> Outcome {
        if space == model {
            return Ok(());
        }
        Err(Difference {
            after: self.done,
            call: format!("{call:?}"),
            space: format!("{space:?}"),
            model: format!("{model:?}"),
        })
    }

    /// Compares one result, and counts it.
    pub(crate) fn same_result<T: PartialEq + fmt::Debug>(
        &mut self,
        (call, what): (Call, impl fmt::Debug),
        space: Result<T, Error>,
        model: Result<T, Error>,
    ) -> Outcome {
        *self.report.entry((call, Answer::of(&space))).or_default() += 1;
        self.same((call, what), space, model)
    }

    // ---- What an operation means -----------------------------------------------

    pub(crate) fn pick<T: Clone>(of: &[Option<T>], which: u8) -> Option<(usize, T)> {
        let mut there = of.iter().enumerate().filter_map(|(index, one)| {
            let one = one.as_ref()?;
            Some((index, one.clone()))
        });
        let count = there.clone().count();
        there.nth(usize::from(which).checked_rem(count)?)
    }

    pub(crate) fn set(&self, which: u8) -> Option<(usize, Arc<IoasidSet>)> {
        Run::pick(&self.sets, which)
    }

    pub(crate) fn table(&self, which: u8) -> Option<(usize, Arc<Table>)> {
        Run::pick(&self.tables, which)
    }

    pub(crate) fn index(&self, which: u16) -> Option<usize> {
        usize::from(which).checked_rem(self.held.len())
    }

    fn held_number(&self, which: u16) -> Option<Pasid> {
        Some(self.held[self.index(which)?].1.handle().pasid())
    }

    pub(crate) fn number(&self, number: Number) -> Pasid {
        number.get(|which| self.held_number(which))
    }

    pub(crate) fn range(&self, range: Range) -> PasidRange {
        range.get(|which| self.held_number(which))
    }

    pub(crate) fn which(&self, which: Which) -> Option<Handle> {
        match which {
            Which::Held(which) => Some(self.held[self.index(which)?].1.handle()),
            Which::Past(which) => {
                let index = usize::from(which).checked_rem(self.past.len())?;
                Some(self.past[index])
            }
            Which::Forged(which, generation) => {
                let handle = self.held[self.index(which)?].1.handle();
                Handle::from_raw(handle.to_raw() ^ u64::from(generation) << 32).ok()
            }
        }
    }

    pub(crate) fn keep(&mut self, set: usize, holder: Held) -> Outcome {
        self.held.push_back((set, holder));
        match self.held.len() > HELD_LAST {
            true => self.drop_at(0),
            false => Ok(()),
        }
    }

    pub(crate) fn remember(&mut self, handle: Handle) {
        if self.past.len() == PAST_LAST {
            self.past.pop_front();
        }
        self.past.push_back(handle);
    }

    fn step(&mut self, op: Op) -> Outcome {
        match op {
            Op::Alloc(..)
            | Op::AllocMany(..)
            | Op::AllocInPlace(..)
            | Op::AllocNear(..)
            | Op::AllocAt(..)
            | Op::Get(..)
            | Op::GetAt(..)
            | Op::Another(_)
            | Op::Replace(..)
            | Op::IntoRef(_)
            | Op::TurnRaw(_)
            | Op::Drop(_)
            | Op::DropMany(_)
            | Op::GiveBack(..)
            | Op::Revoke(..)
            | Op::Find(_) => self.data_call(op),
            Op::Attach(..)
            | Op::AttachWhole(..)
            | Op::Commit(_)
            | Op::ReplaceAttached(..)
            | Op::Detach(_)
            | Op::Fault(..)
            | Op::FaultAttached(..)
            | Op::PreloadTable(..) => self.hardware_call(op),
            Op::BeginFlush(_)
            | Op::Complete(_)
            | Op::DropTicket(_)
            | Op::PutBackOn(..)
            | Op::LookAtTicket(..)
            | Op::Flush(..)
            | Op::Pin(_)
            | Op::Unpin(_) => self.flush_call(op),
            Op::CloseSet(_, seldom)
            | Op::DropSet(_, seldom)
            | Op::CloseTable(_, seldom)
            | Op::DropTable(_, seldom)
            | Op::Pause(_, seldom)
                if !seldom.happens() =>
            {
                Ok(())
            }
            _ => self.control_call(op),
        }
    }
}
