// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver that comes, has a quota, and goes.

use std::sync::Arc;

use pasid::{Error, IoasidSet, Result, Scope, SetConfig};

use super::{Held, Stage};
use crate::run::measure::Kind;
use crate::run::rules::{Rule, outcome};
use crate::run::worker::Worker;

const QUOTA: u32 = 2;

impl Worker<'_> {
    pub(super) fn coming_and_going_driver(&mut self, stage: &Stage) -> Option<()> {
        let space = &self.world.builder.space;
        let token = u64::from(stage.window.first().get());
        let scope = match self.rng.u8(..3) {
            0 => Scope::Global,
            _ => Scope::Local(&stage.sites[0].table),
        };
        let config = SetConfig::new(scope)
            .range(stage.window)
            .quota(QUOTA)
            .token(token);
        let added = self.call(|| space.add_set(config), Kind::Add, Kind::Add);
        self.certain(stage, Rule::Exact, added.is_ok(), || {
            format!("a set could not be added: {}", outcome(&added))
        })?;
        let set = Arc::new(added.ok()?);
        let found = space
            .find_set(token)
            .is_some_and(|found| found.is_same(&set));
        self.certain(stage, Rule::Lookup, found || set.is_closing(), || {
            format!("the set with the token {token} is not found")
        });
        let done = self.exhaust_quota(stage, &set);
        self.act(|| set.close(), Kind::Remove);
        let answer = self.ask_window(&set, stage);
        let refused = answer.as_ref().err() == Some(&Error::Closing);
        self.expect(Rule::Closing, refused, || {
            format!("alloc in a set that is closed: {}", outcome(&answer))
        });
        let handles = space.find_set(token).is_none();
        self.expect(Rule::Closing, handles, || {
            format!("a closed set is found by its token {token}")
        });
        done
    }

    fn ask_window(&mut self, set: &Arc<IoasidSet>, stage: &Stage) -> Result<Held> {
        let range = stage.window;
        self.ask_set(set, range, Error::Exhausted { range })
    }

    /// The set has so many PASIDs, and no more.
    fn quota_is(
        &mut self,
        stage: &Stage,
        set: &Arc<IoasidSet>,
        held: &mut Vec<Held>,
        quota: u32,
    ) -> Option<()> {
        let expected = Error::QuotaExceeded { quota };
        loop {
            let answer = self.ask_window(set, stage);
            let more = (held.len() as u32) < quota;
            let holds = match &answer {
                Ok(_) => more,
                Err(error) => !more && *error == expected,
            };
            self.certain(stage, Rule::M8, holds, || {
                let (count, answer) = (held.len(), outcome(&answer));
                format!("alloc with a quota of {quota}, of which {count} are in use: {answer}")
            })?;
            match answer {
                Ok(owned) => held.push(owned),
                Err(_) => return Some(()),
            }
        }
    }

    fn exhaust_quota(&mut self, stage: &Stage, set: &Arc<IoasidSet>) -> Option<()> {
        let mut held = Vec::new();
        self.quota_is(stage, set, &mut held, QUOTA)?;
        // What waits for its last reference counts.
        let owned = held.pop()?;
        let reference = self.referenced(stage, &owned)?;
        self.act(|| drop(owned), Kind::Free);
        let answer = self.ask_window(set, stage);
        let refused = answer.as_ref().err() == Some(&Error::QuotaExceeded { quota: QUOTA });
        self.certain(stage, Rule::M8, refused, || {
            let answer = outcome(&answer);
            format!("alloc when one of {QUOTA} PASIDs is live and one being freed: {answer}")
        })?;
        let shrunk = set.set_quota(1);
        self.meter.note(&shrunk);
        self.certain(
            stage,
            Rule::M8,
            shrunk == Err(Error::QuotaInUse { used: 2 }),
            || format!("a quota of 1 where 2 are in use: {}", outcome(&shrunk)),
        )?;
        self.act(|| drop(reference), Kind::Put);
        // One more, and none at all.
        for quota in [QUOTA + 1, QUOTA, 0] {
            while held.len() as u32 > quota {
                let owned = held.pop();
                self.act(|| drop(owned), Kind::Free);
            }
            let adjusted = set.set_quota(quota);
            self.certain(stage, Rule::M8, adjusted.is_ok(), || {
                format!("a quota of {quota}: {}", outcome(&adjusted))
            })?;
            self.quota_is(stage, set, &mut held, quota)?;
        }
        let used = set
            .statistics()
            .quota
            .map(|quota| (quota.used, quota.high_water));
        self.certain(stage, Rule::M8, used == Some((0, QUOTA + 1)), || {
            format!("all was given back, and the set says (used, at most used): {used:?}")
        })
    }
}
