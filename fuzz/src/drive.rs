// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drives a space and its model with the same operations, and compares.

use crate::holder::Holder;
use crate::model::{Model, Quirk};
use crate::op::{Input, Number, Op, Request, Which};
use crate::report::{Answer, Call, Difference, Report};
use pasid::{Error, Handle, IdSpace, Owned, Pasid, PasidRange, PasidWidth, Pinned, Policy, Pool};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Holders that are kept: the oldest goes when one more comes.
const HELD_LAST: usize = 600;
/// Everything is compared after so many operations.
const WHOLE_EVERY: u64 = 256;

pub(crate) type Outcome = Result<(), Difference>;

/// Runs `input` on a space and on a model that is right, or wrong by `quirk`.
///
/// # Errors
/// The first [`Difference`].
pub fn run(input: &Input, quirk: Option<Quirk>) -> Result<Report, Difference> {
    let mut run = Run::new(input, quirk);
    for op in &input.ops {
        run.step(*op)?;
        run.done += 1;
        if run.done.is_multiple_of(WHOLE_EVERY) {
            run.compare_all()?;
        }
    }
    run.finish()
}

pub(crate) struct Run {
    pub(crate) space: Arc<IdSpace>,
    pub(crate) model: Model,
    pub(crate) held: VecDeque<Holder>,
    pub(crate) past: VecDeque<Handle>,
    pub(crate) pins: Vec<Pinned<Arc<IdSpace>>>,
    pub(crate) report: Report,
    done: u64,
}

/// Handles of another space.
fn foreign(which: u8) -> Handle {
    static OTHER: LazyLock<IdSpace> = LazyLock::new(|| IdSpace::new(PasidWidth::MAX));
    static HANDLES: LazyLock<Vec<Handle>> = LazyLock::new(|| {
        let numbers = [1, 2, 3, 31, 32, 255, 256, 257, 16_384, 0xf_ffff];
        let handles = numbers.into_iter().filter_map(|number| {
            let owned = OTHER.alloc(Pasid::new(number).ok()?.into(), 0).ok()?;
            Handle::from_raw(owned.into_raw()).ok()
        });
        handles.collect()
    });
    HANDLES[usize::from(which) % HANDLES.len()]
}

impl Run {
    fn new(input: &Input, quirk: Option<Quirk>) -> Run {
        let setup = input.setup;
        let width = setup.width.get();
        let default = [PasidRange::single(Pasid::ZERO)];
        let mut space = match setup.reserved.list() {
            Some(list) => IdSpace::with_reserved(width, list),
            None => IdSpace::new(width),
        };
        if setup.next {
            space = space.with_policy(Policy::Next);
        }
        let listed = setup.reserved.list().unwrap_or(&default);
        Run {
            space: Arc::new(space),
            model: Model::new(width, setup.next, listed, quirk),
            held: VecDeque::new(),
            past: VecDeque::new(),
            pins: Vec::new(),
            report: Report::new(),
            done: 0,
        }
    }

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

    pub(crate) fn number(&self, number: Number) -> Pasid {
        number.get(self.space.width(), |which| self.held_number(which))
    }

    fn request(&self, request: Request) -> PasidRange {
        request.get(self.space.width(), |which| self.held_number(which))
    }

    pub(crate) fn index(&self, which: u16) -> Option<usize> {
        usize::from(which).checked_rem(self.held.len())
    }

    fn held_number(&self, which: u16) -> Option<Pasid> {
        let index = self.index(which)?;
        Some(self.held[index].handle().pasid())
    }

    /// The handle that is meant, if there is one.
    pub(crate) fn which(&mut self, which: Which) -> Result<Option<Handle>, Difference> {
        Ok(match which {
            Which::Held(which) => self.index(which).map(|index| self.held[index].handle()),
            Which::Past(which) => {
                let index = usize::from(which).checked_rem(self.past.len());
                index.map(|index| self.past[index])
            }
            Which::Foreign(which) => Some(foreign(which)),
            Which::Forged(which, change) => {
                let like = self.index(which).map(|index| self.held[index].handle());
                let raw = change.apply(like.map_or(0, Handle::to_raw));
                let tagged = raw >> 20 & 0xfff != 0;
                let made = Handle::from_raw(raw);
                self.same(
                    (Call::HandleFromRaw, raw),
                    made.map_err(|_| ()).is_ok(),
                    tagged,
                )?;
                if !tagged {
                    *self
                        .report
                        .entry((Call::HandleFromRaw, Answer::InvalidHandle))
                        .or_default() += 1;
                }
                made.ok()
            }
        })
    }

    fn step(&mut self, op: Op) -> Outcome {
        match op {
            Op::Alloc(request, word) => self.alloc(request, word, true),
            Op::AllocInPlace(request, word) => self.alloc(request, word, false),
            Op::AllocMany(request, count) => {
                (0..=count / 4).try_for_each(|word| self.alloc(request, word.into(), true))
            }
            Op::AllocAt(number, word) => self.alloc_at(number, word),
            Op::Get(which) => self.get(which),
            Op::GetAt(number) => self.get_at(number),
            Op::Another(which) => self.another(which),
            Op::Replace(which, word) => self.replace(which, word),
            Op::IntoRef(which) => self.make_ref(which),
            Op::TurnRaw(which) => self.turn_raw(which),
            Op::Drop(which) => match self.index(which) {
                Some(index) => self.drop_at(index),
                None => Ok(()),
            },
            Op::DropMany(count) => (0..=count).try_for_each(|_| self.drop_at(0)),
            Op::Put(which) => self.put(which),
            Op::Free(which) => self.free(which),
            Op::Revoke(which) => self.revoke(which),
            Op::Find(number) => self.find(self.number(number)),
            Op::List(request) => self.list(self.request(request)),
            Op::Reserve(number) => {
                let pasid = self.number(number);
                let (space, model) = (self.space.reserve(pasid), self.model.reserve(pasid));
                self.same_result((Call::Reserve, pasid), space, model)?;
                self.find(pasid)
            }
            Op::Unreserve(number) => {
                let pasid = self.number(number);
                let (space, model) = (self.space.unreserve(pasid), self.model.unreserve(pasid));
                self.same_result((Call::Unreserve, pasid), space, model)?;
                self.find(pasid)
            }
            Op::Preload(request) => self.preload(self.request(request)),
            Op::Shrink => self.shrink(),
            Op::Pin(which) => self.pin(which),
            Op::Unpin(which) => match usize::from(which).checked_rem(self.pins.len()) {
                Some(index) => self.unpin_at(index),
                None => Ok(()),
            },
        }
    }

    // ---- Allocation ----------------------------------------------------------

    /// Keeps what was allocated, and compares its handle and word.
    fn keep_owned(&mut self, owned: Owned<Arc<IdSpace>>, word: u64) -> Outcome {
        let handle = owned.handle();
        self.same(("word of", handle), owned.word(), word)?;
        let new = self.model.allocated(handle, word);
        self.same(("the handle is new", handle), true, new)?;
        self.keep(Holder::Owned(owned))?;
        self.find(handle.pasid())
    }

    pub(crate) fn keep(&mut self, holder: Holder) -> Outcome {
        self.held.push_back(holder);
        if self.held.len() > HELD_LAST {
            self.drop_at(0)?;
        }
        Ok(())
    }

    fn alloc(&mut self, request: Request, word: u64, may_grow: bool) -> Outcome {
        let request = self.request(request);
        let space = self.space.clone();
        let (call, real) = if may_grow {
            (Call::Alloc, space.alloc(request, word))
        } else {
            (Call::AllocInPlace, space.alloc_in_place(request, word))
        };
        let chosen = self.model.choose(request, may_grow);
        let got = real.as_ref().map(Owned::pasid).map_err(|error| *error);
        self.same_result((call, request), got, chosen)?;
        match real {
            Ok(owned) => self.keep_owned(owned, word),
            Err(_) => Ok(()),
        }
    }

    fn alloc_at(&mut self, number: Number, word: u64) -> Outcome {
        let pasid = self.number(number);
        let real = self.space.clone().alloc_at(pasid, word);
        let chosen = self.model.choose_at(pasid).map(|()| pasid);
        let got = real.as_ref().map(Owned::pasid).map_err(|error| *error);
        self.same_result((Call::AllocAt, pasid), got, chosen)?;
        match real {
            Ok(owned) => self.keep_owned(owned, word),
            Err(_) => self.find(pasid),
        }
    }
}
