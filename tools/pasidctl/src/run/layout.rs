// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which tables and sets there are at a time. When a device is removed and added again,
//! there is another layout, which has all the others in common with the one before.

use std::sync::{Arc, Mutex};

use pasid::{
    Error, Pasid, PasidRange, PasidWidth, Policy, Result, Reuse, Scope, SetConfig, Space, Table,
    TableConfig,
};

use super::driver::{Credit, Driver, Reach, Site};
use super::phase::{Pauses, Phase};
use super::plan::{Plan, range};
use super::quarantine::{OnExhaustion, Quarantine, Tally};
use super::rules::Breach;
use super::shadow::{Row, SHARED_FROM, SetNumber};
use super::sides::{Side, Sides};

/// The quota of a driver's second set, and that of a group.
const QUOTA: u32 = 40;
/// The most groups there are, each of two tables; neighbours have one in common.
const GROUPS: usize = 8;

/// What there is for one device or IOMMU group.
pub struct Place {
    /// Its table.
    pub site: Arc<Site>,
    /// Two drivers' sets. The second has a quota, and its PASIDs await a flush.
    pub locals: [Arc<Driver>; 2],
    /// Two sets for exact checks, where the table is wide enough.
    pub drills: Option<[Arc<Driver>; 2]>,
}

/// Sets over two tables.
pub struct Group {
    /// Which tables.
    pub members: [usize; 2],
    /// The set of a driver. In every other group its PASIDs await a flush.
    pub shared: Arc<Driver>,
    /// A set for exact checks.
    pub drill: Arc<Driver>,
}

/// All tables and sets.
#[derive(Clone)]
pub struct Layout {
    /// By the plan's tables.
    pub places: Vec<Arc<Place>>,
    /// The groups.
    pub groups: Vec<Arc<Group>>,
    /// User SVA: from the lowest; and from above so that few fit narrow tables, where
    /// PASIDs await a flush, which an allocation runs if it finds nothing else.
    pub globals: [Arc<Driver>; 2],
    /// A global set for exact checks.
    pub drill: Arc<Driver>,
}

/// What layouts are built with.
pub struct Builder {
    /// The space.
    pub space: Space,
    /// Sizes and ranges.
    pub plan: Plan,
    /// What stands on each number.
    pub sides: Arc<Sides>,
    /// Who holds the global sets' PASIDs.
    pub globals: Arc<Row>,
    /// What the flushes came to, and what was seen broken.
    pub tally: Arc<Tally>,
}

/// What a set is, beside its tables.
struct Kind {
    number: u8,
    range: PasidRange,
    hole: Option<PasidRange>,
    policy: Policy,
    quota: Option<u32>,
    reuse: Reuse,
}

impl Kind {
    fn after_flush(self) -> Kind {
        Kind {
            reuse: Reuse::AfterFlush,
            ..self
        }
    }
}

impl Builder {
    /// All tables and sets, for the first time.
    ///
    /// # Errors
    /// None that a space without PASIDs has, but [`Error::OutOfMemory`].
    pub fn layout(&self) -> Result<Layout> {
        let count = self.plan.tables.len();
        let places = (0..count).map(|place| {
            let reserved = self.plan.tables[place].reserved;
            let (site, _) = self.site(place, reserved)?;
            self.place(site)
        });
        let places = places.collect::<Result<Vec<_>>>()?;
        let groups = (0..self.plan.wide.len().min(GROUPS)).map(|index| self.group(&places, index));
        let groups = groups.collect::<Result<Vec<_>>>()?;
        Ok(Layout {
            groups,
            globals: [
                self.global(self.low(240, Policy::Lowest))?,
                self.global(self.whole(241, Policy::PreserveNarrow, None).after_flush())?,
            ],
            drill: self.global(self.drilled(242))?,
            places,
        })
    }

    /// A table with its devices, and what its shadow says of its reservation.
    ///
    /// # Errors
    /// [`Error::HeldGlobally`] if the value to be reserved is held.
    pub fn site(
        &self,
        place: usize,
        reserved: Option<Pasid>,
    ) -> Result<(Arc<Site>, std::result::Result<(), Breach>)> {
        let planned = &self.plan.tables[place];
        let list: Vec<PasidRange> = reserved.map(PasidRange::single).into_iter().collect();
        // As wide as the machine's widest: the devices that join say what the table has.
        let widths = self.plan.tables.iter().map(|table| table.width);
        let widest = widths.max().unwrap_or(PasidWidth::ZERO);
        let table = self
            .space
            .add_table(TableConfig::new(widest).reserved(&list))?;
        for device in &planned.devices {
            table.join(device.requester, device.width)?;
        }
        table.preload(range(0, planned.width.last().get().min(255)))?;
        table.preload(
            self.plan
                .zone
                .intersect(planned.width.range())
                .unwrap_or(Pasid::ZERO.into()),
        )?;
        let row = Row::new();
        let verdict = reserved.map_or(Ok(()), |pasid| {
            row.reserve(pasid)?;
            self.sides.add(pasid, Side::Table).map(|_| ())
        });
        let site = Site {
            place,
            table: Arc::new(table),
            last: planned.width.last(),
            row,
            reserved,
            phase: Phase::default(),
            pauses: Pauses::default(),
            pausing: Mutex::new(()),
        };
        Ok((Arc::new(site), verdict))
    }

    /// The sets of a table.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn place(&self, site: Arc<Site>) -> Result<Arc<Place>> {
        let place = site.place;
        let local = |kind| self.set(Scope::Local(&site.table), vec![site.clone()], kind);
        let drills = if self.plan.wide.contains(&place) {
            Some([local(self.drilled(3))?, local(self.drilled(4))?])
        } else {
            None
        };
        let (first, second) = (self.policy(2 * place), self.policy(2 * place + 1));
        Ok(Arc::new(Place {
            locals: [
                local(self.low(1, first))?,
                local(self.whole(2, second, Some(QUOTA)).after_flush())?,
            ],
            drills,
            site,
        }))
    }

    /// The sets of a group: a table and the next one.
    ///
    /// # Errors
    /// [`Error::Closing`] if a table is, [`Error::OutOfMemory`].
    pub fn group(&self, places: &[Arc<Place>], index: usize) -> Result<Arc<Group>> {
        let wide = &self.plan.wide;
        let members = [wide[index], wide[(index + 1) % wide.len()]];
        let sites = members.map(|place| places[place].site.clone());
        let tables: Vec<Table> = sites.iter().map(|site| (*site.table).clone()).collect();
        let number = SHARED_FROM + 2 * index as u8;
        let group = |kind| self.set(Scope::Group(&tables), sites.to_vec(), kind);
        Ok(Arc::new(Group {
            members,
            shared: group(match self.whole(number, self.policy(index), Some(QUOTA)) {
                shared if index.is_multiple_of(2) => shared.after_flush(),
                shared => shared,
            })?,
            drill: group(self.drilled(number + 1))?,
        }))
    }

    fn global(&self, kind: Kind) -> Result<Arc<Driver>> {
        self.set(Scope::Global, Vec::new(), kind)
    }

    /// Below what is set aside.
    fn low(&self, number: u8, policy: Policy) -> Kind {
        Kind {
            number,
            range: range(0, self.plan.zone.first().get() - 1),
            hole: None,
            policy,
            quota: None,
            reuse: Reuse::Immediate,
        }
    }

    /// All but what is set aside.
    fn whole(&self, number: u8, policy: Policy, quota: Option<u32>) -> Kind {
        Kind {
            number,
            range: PasidWidth::MAX.range(),
            hole: Some(self.plan.zone),
            policy,
            quota,
            reuse: Reuse::Immediate,
        }
    }

    /// What is set aside.
    fn drilled(&self, number: u8) -> Kind {
        Kind {
            number,
            range: self.plan.zone,
            hole: None,
            policy: self.policy(number.into()),
            quota: None,
            reuse: Reuse::Immediate,
        }
    }

    fn policy(&self, index: usize) -> Policy {
        self.plan.policy.policy(index)
    }

    fn set(&self, scope: Scope<'_>, sites: Vec<Arc<Site>>, kind: Kind) -> Result<Arc<Driver>> {
        let hole: Vec<PasidRange> = kind.hole.into_iter().collect();
        let mut config = SetConfig::new(scope)
            .range(kind.range)
            .reserved(&hole)
            .policy(kind.policy)
            .reuse(kind.reuse);
        let waits = kind.reuse == Reuse::AfterFlush;
        let flusher = (waits && sites.is_empty()).then(Arc::<OnExhaustion>::default);
        if let Some(flusher) = &flusher {
            config = config.flusher(flusher.clone());
        }
        if let Some(quota) = kind.quota {
            config = config.quota(quota);
        }
        let set = self.space.add_set(config)?;
        let last = sites
            .iter()
            .map(|site| site.last)
            .min()
            .unwrap_or(Pasid::MAX);
        let fits = range(0, last.get());
        if kind.range == self.plan.zone {
            // No exact check allocates or attaches memory.
            set.preload(kind.range)?;
        }
        let driver = Arc::new(Driver {
            number: SetNumber(kind.number),
            set: Arc::new(set),
            reach: if sites.is_empty() {
                Reach::Global(self.globals.clone())
            } else {
                Reach::Tables(sites)
            },
            sides: self.sides.clone(),
            range: kind
                .range
                .intersect(fits)
                .ok_or(Error::OutsideSet { range: fits })?,
            hole: kind.hole,
            quota: kind.quota.map(Credit::new),
            quarantine: waits.then(|| Quarantine::new(&self.tally)),
            phase: Phase::default(),
        });
        if let Some(flusher) = flusher {
            flusher.serve(&driver);
        }
        Ok(driver)
    }
}
