// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables and sets that come and go, reservations, memory.

use crate::sets::drive::{Log, Outcome, Run};
use crate::sets::flush::Installed;
use crate::sets::hardware::cut;
use crate::sets::model::{NewSet, NewTable};
use crate::sets::op::{Number, Op, ScopeSpec, SetSpec, TableSpec};
use crate::sets::report::Call;
use pasid::{
    Error, IoasidSet, Pasid, PasidRange, PasidWidth, RequesterId, Scope, SetConfig, Space,
    SpaceKind, Table, TableConfig,
};
use std::sync::{Arc, LazyLock};

/// Tables and sets that are had at once.
const TABLES_LAST: usize = 5;
const SETS_LAST: usize = 9;

/// A table of another space.
static FOREIGN: LazyLock<Table> = LazyLock::new(|| {
    let space = Space::new(SpaceKind::Both);
    let table = space.add_table(TableConfig::new(PasidWidth::MAX));
    table.expect("memory for a table")
});

impl Run {
    pub(crate) fn control_call(&mut self, op: Op) -> Outcome {
        match op {
            Op::List(..) | Op::ListTable(..) | Op::ListSpace | Op::FindSet(_) => self.look(op),
            Op::Preload(set, range) => self.preload(set, cut(self.range(range))),
            Op::FreeAll(set) => {
                if let Some((index, set)) = self.set(set) {
                    set.free_all();
                    self.model.free_all(index);
                }
                Ok(())
            }
            Op::SetQuota(set, quota) => self.set_quota(set, quota),
            Op::CloseSet(set, _) => {
                if let Some((index, set)) = self.set(set) {
                    set.close();
                    self.model.close_set(index);
                    self.same("closing", set.is_closing(), true)?;
                }
                Ok(())
            }
            Op::DropSet(set, _) => {
                if let Some((index, _)) = self.set(set) {
                    self.compare_events()?;
                    self.sets[index] = None;
                    self.model.drop_set(index);
                }
                Ok(())
            }
            Op::AddSet(spec) => self.add_set(spec),
            Op::AddTable(spec) => self.add_table(spec),
            Op::Reserve(number) => {
                let pasid = self.number(number);
                let (space, model) = (self.space.reserve(pasid), self.model.reserve(pasid));
                self.reserved.extend(space.is_ok().then_some(pasid));
                self.same_result((Call::Reserve, pasid), space, model)
            }
            Op::Unreserve(number) => {
                let pasid = self.reserved_number(number);
                let (space, model) = (self.space.unreserve(pasid), self.model.unreserve(pasid));
                self.same_result((Call::Unreserve, pasid), space, model)
            }
            _ => self.table_call(op),
        }
    }

    /// For who takes a reservation away, one that was made stands for what is held.
    fn reserved_number(&self, number: Number) -> Pasid {
        match number {
            Number::Held(which) if !self.reserved.is_empty() => {
                self.reserved[usize::from(which) % self.reserved.len()]
            }
            other => self.number(other),
        }
    }

    fn table_call(&mut self, op: Op) -> Outcome {
        let which = match op {
            Op::Join(table, ..)
            | Op::Leave(table, _)
            | Op::Pause(table, _)
            | Op::Resume(table)
            | Op::CloseTable(table, _)
            | Op::DropTable(table, _)
            | Op::ReserveOn(table, _)
            | Op::UnreserveOn(table, _) => table,
            _ => return Ok(()),
        };
        let Some((index, table)) = self.table(which) else {
            return Ok(());
        };
        match op {
            Op::Join(_, device, width) => {
                let (device, width) = (RequesterId(u16::from(device % 4).into()), width.get());
                let real = table.join(device, width);
                let model = self.model.join(index, device, width);
                self.same_result((Call::Join, (index, device, width)), real, model)?;
            }
            Op::Leave(_, device) => {
                let device = RequesterId(u16::from(device % 4).into());
                let (real, model) = (table.leave(device), self.model.leave(index, device));
                self.same_result((Call::Leave, (index, device)), real, model)?;
            }
            Op::Pause(..) => {
                let (real, model) = (table.pause(), self.model.pause(index));
                self.same("pause", real, model)?;
            }
            Op::Resume(_) => {
                let (real, model) = (table.resume(), self.model.resume(index));
                self.same("resume", real, model)?;
            }
            Op::CloseTable(..) => {
                table.close();
                self.model.close_table(index);
            }
            Op::DropTable(..) => {
                self.tables[index] = None;
                self.model.drop_table(index);
                return Ok(());
            }
            Op::ReserveOn(_, number) => {
                let pasid = self.number(number);
                let (real, model) = (table.reserve(pasid), self.model.reserve_on(index, pasid));
                self.reserved.extend(real.is_ok().then_some(pasid));
                self.same_result((Call::ReserveOn, (index, pasid)), real, model)?;
            }
            Op::UnreserveOn(_, number) => {
                let pasid = self.reserved_number(number);
                let real = table.unreserve(pasid);
                let model = self.model.unreserve_on(index, pasid);
                self.same_result((Call::UnreserveOn, (index, pasid)), real, model)?;
            }
            _ => {}
        }
        let shown = (table.width(), table.is_closing());
        self.same(("table", index), shown, self.model.table(index))
    }

    pub(crate) fn add_table(&mut self, spec: TableSpec) -> Outcome {
        if self.tables.iter().flatten().count() >= TABLES_LAST {
            return Ok(());
        }
        let (width, reserved) = (spec.width.get(), spec.reserved.list());
        let real = self
            .space
            .add_table(TableConfig::new(width).reserved(reserved));
        let model = self.model.add_table(NewTable {
            width,
            reserved: reserved.to_vec(),
        });
        let got = real.as_ref().map(|_| self.tables.len());
        let got = got.map_err(|error| *error);
        self.same_result((Call::AddTable, spec), got, model)?;
        if let Ok(table) = real {
            self.tables.push(Some(Arc::new(table)));
        }
        Ok(())
    }

    /// The tables of a scope, and whether it is a group.
    fn scope(&self, scope: ScopeSpec) -> Option<(Option<Vec<Option<usize>>>, bool)> {
        let of = |which: u8| Some(Some(self.table(which)?.0));
        // Mostly one that there can be in such a space.
        let scope = match (self.space.kind(), scope) {
            (SpaceKind::Tables, ScopeSpec::Global(which)) if which >= 32 => ScopeSpec::Local(which),
            (
                SpaceKind::Global,
                ScopeSpec::Local(which)
                | ScopeSpec::LocalToo(which)
                | ScopeSpec::Pair(which, _)
                | ScopeSpec::Three(which, ..),
            ) if which >= 32 => ScopeSpec::Global(which),
            (_, ScopeSpec::Odd(which, seldom)) if !seldom.happens() => ScopeSpec::Pair(0, which),
            (_, other) => other,
        };
        Some(match scope {
            ScopeSpec::Global(_) => (None, false),
            ScopeSpec::Local(one) | ScopeSpec::LocalToo(one) => (Some(vec![of(one)?]), false),
            ScopeSpec::Pair(a, b) => (Some(vec![of(a)?, of(b)?]), true),
            ScopeSpec::Three(a, b, c) => (Some(vec![of(a)?, of(b)?, of(c)?]), true),
            ScopeSpec::Odd(which, _) => match which % 4 {
                0 => (Some(Vec::new()), true),
                1 => (Some(vec![None]), false),
                2 => (Some(vec![of(which / 4)?, None]), true),
                _ => (Some(vec![of(which / 4)?]), true),
            },
        })
    }

    pub(crate) fn add_set(&mut self, spec: SetSpec) -> Outcome {
        let Some((tables, group)) = self.scope(spec.scope) else {
            return Ok(());
        };
        if self.sets.iter().flatten().count() >= SETS_LAST {
            return Ok(());
        }
        let whole = PasidRange::new(Pasid::ZERO, Pasid::MAX).unwrap_or(Pasid::ZERO.into());
        let range = spec.range.map_or(whole, |range| self.range(range));
        let token = spec.token.map(|token| u64::from(token % 4));
        let quota = spec.quota.map(u32::from);
        let foreign = || (*FOREIGN).clone();
        let scoped: Vec<Table> = tables
            .iter()
            .flatten()
            .map(|table| {
                let own = table.and_then(|table| self.tables[table].as_deref().cloned());
                own.unwrap_or_else(foreign)
            })
            .collect();
        let scope = match (&tables, group) {
            (None, _) => Scope::Global,
            (_, true) => Scope::Group(&scoped),
            (_, false) => Scope::Local(&scoped[0]),
        };
        let mut config = SetConfig::new(scope)
            .range(range)
            .reserved(spec.reserved.list())
            .policy(spec.order.get());
        let log = spec.observed.then(|| Arc::new(Log::default()));
        if let Some(quota) = quota {
            config = config.quota(quota);
        }
        if let Some(token) = token {
            config = config.token(token);
        }
        if let Some(log) = &log {
            config = config.observer(log.clone());
        }
        config = config.reuse(spec.reuse.get());
        let flusher = spec.reuse.flusher().map(Installed::new);
        if let Some(flusher) = &flusher {
            config = config.flusher(flusher.clone());
        }
        let real = self.space.add_set(config);
        let model = self.model.add_set(NewSet {
            tables,
            group,
            range,
            reserved: spec.reserved.list().to_vec(),
            policy: spec.order.get(),
            quota,
            token,
            reuse: spec.reuse.get(),
            flusher: spec.reuse.flusher(),
        });
        let got = real.as_ref().map(|_| self.sets.len());
        let got = got.map_err(|error| *error);
        self.same_result((Call::AddSet, spec), got, model)?;
        match real {
            Ok(set) => self.keep_set(Arc::new(set), spec, flusher, log),
            Err(_) => Ok(()),
        }
    }

    /// Takes note of a set, and compares what it says of itself.
    fn keep_set(
        &mut self,
        set: Arc<IoasidSet>,
        spec: SetSpec,
        flusher: Option<Arc<Installed>>,
        log: Option<Arc<Log>>,
    ) -> Outcome {
        let (index, token) = (
            self.sets.len(),
            spec.token.map(|token| u64::from(token % 4)),
        );
        let (first, last) = (set.range().first().get(), set.range().last().get());
        self.same(("range", index), (first, last), self.model.set_range(index))?;
        let shown = (set.policy(), set.token(), set.reuse());
        let asked = (spec.order.get(), token, spec.reuse.get());
        self.same(("policy, token, reuse", index), shown, asked)?;
        if let Some(flusher) = flusher {
            flusher.install(&set);
        }
        self.sets.push(Some(set));
        self.logs.push(log);
        Ok(())
    }

    fn set_quota(&mut self, set: u8, quota: u8) -> Outcome {
        let Some((index, set)) = self.set(set) else {
            return Ok(());
        };
        // The largest stands for more than any space has.
        let quota = if quota == u8::MAX {
            u32::MAX
        } else {
            quota.into()
        };
        let (real, model) = (set.set_quota(quota), self.model.set_quota(index, quota));
        self.same_result((Call::SetQuota, (index, quota)), real, model)
    }

    fn preload(&mut self, set: u8, range: PasidRange) -> Outcome {
        let Some((index, set)) = self.set(set) else {
            return Ok(());
        };
        let before = self.space.memory_bytes();
        self.model.forget_gone();
        let real: Result<usize, Error> = set.preload(range);
        let added = self.space.memory_bytes() - before;
        self.same(("bytes of preload", range), real.unwrap_or(added), added)?;
        let model = self.model.preload(index, range);
        let real = real.map(|bytes| bytes > 0);
        self.same_result((Call::Preload, (index, range)), real, model)
    }
}
