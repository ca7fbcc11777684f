// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the load will be: tables and ranges, derived from a machine.

use std::collections::HashSet;

use fastrand::Rng;
use pasid::{Pasid, PasidRange, PasidWidth, RequesterId};

use super::RunError;
use super::options::Order;
use crate::machine::{Device, Machine, Pasids, Unreadable};

/// Of the tables that are wide enough, fewer than this are there several times: a group
/// of two and a driver beside it need three.
const WIDE_TABLES: usize = 3;
/// Tables with fewer bits have no numbers to set aside.
pub(super) const WIDE_BITS: u8 = 6;
/// How many numbers an exact check has for itself.
pub const WINDOW: u32 = 4;
/// The most numbers that are set aside for exact checks.
const ZONE: u32 = 4096;
/// How many PASIDs the load has at a time, at most.
const SLOTS: usize = 512;
/// How many attachments there are at a time, at most, on all tables together.
const ENTRIES: usize = 1024;

/// A device of a table.
#[derive(Clone, Debug)]
pub struct PlannedDevice {
    /// Its address.
    pub name: String,
    /// Its requester ID.
    pub requester: RequesterId,
    /// How many bits it has; 0 if it has no PASID support.
    pub width: PasidWidth,
}

/// A table to add.
#[derive(Clone, Debug)]
pub struct PlannedTable {
    /// The number of the IOMMU group whose table it is.
    pub group: Option<u32>,
    /// Who shares it; those without PASID support are in its IOMMU group alone.
    pub devices: Vec<PlannedDevice>,
    /// The width that all of those with PASID support have.
    pub width: PasidWidth,
    /// What is reserved on it.
    pub reserved: Option<Pasid>,
    /// It is a copy of an earlier one, because the machine has too few.
    pub again: bool,
}

/// What the load will be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the machine comes from.
    pub origin: String,
    /// One for each device or IOMMU group.
    pub tables: Vec<PlannedTable>,
    /// The devices without PASID support, which have no table.
    pub without: Vec<String>,
    /// The tables that have the numbers that are set aside.
    pub wide: Vec<usize>,
    /// What is set aside for exact checks.
    pub zone: PasidRange,
    /// The order of handing out.
    pub policy: Order,
    /// How many PASIDs there are at a time, at most, beside those of exact checks.
    pub slots: usize,
    /// How many attachments each table has, at most.
    pub entries: usize,
}

impl Plan {
    /// Derives a plan. No table has more bits than `width`, if one is given.
    ///
    /// # Errors
    /// [`RunError::NoPasids`], [`RunError::Unreadable`], [`RunError::TooWide`] and
    /// [`RunError::TooNarrow`].
    pub fn new(
        machine: &Machine,
        width: Option<PasidWidth>,
        policy: Order,
    ) -> Result<Plan, RunError> {
        let origin = machine.origin.clone();
        let (mut tables, without) = tables(machine, width);
        let Some(widest) = machine.devices.iter().filter_map(supported).max() else {
            return Err(match unreadable(machine) {
                Some(why) => RunError::Unreadable {
                    origin,
                    reason: why.reason(),
                },
                None => RunError::NoPasids { origin },
            });
        };
        if let Some(width) = width.filter(|&width| width > widest) {
            return Err(RunError::TooWide {
                width: width.bits(),
                widest: widest.bits(),
                origin,
            });
        }
        let mut wide: Vec<usize> = (0..tables.len())
            .filter(|&place| tables[place].width.bits() >= WIDE_BITS)
            .collect();
        let narrowest = wide.iter().map(|&place| tables[place].width).min();
        let Some(narrowest) = narrowest else {
            return Err(RunError::TooNarrow {
                origin,
                least: WIDE_BITS,
            });
        };
        for copied in 0..WIDE_TABLES.saturating_sub(wide.len()) {
            let again = true;
            let original = tables[wide[copied]].clone();
            wide.push(tables.len());
            tables.push(PlannedTable { again, ..original });
        }
        for (place, table) in tables.iter_mut().enumerate() {
            // A low number, where everybody asks.
            let reserved = pasid(3 + place as u32 % 5);
            table.reserved = Some(reserved).filter(|reserved| reserved.fits(table.width));
        }
        let half = narrowest.count() / 2;
        Ok(Plan {
            origin,
            without,
            wide,
            zone: range(half, half + half.min(ZONE) - 1),
            policy,
            slots: SLOTS,
            entries: (ENTRIES / tables.len()).max(8),
            tables,
        })
    }

    /// How many exact checks may run at a time.
    pub fn windows(&self) -> usize {
        (self.zone.count() / WINDOW) as usize
    }

    /// The numbers of an exact check.
    pub fn window(&self, index: usize) -> PasidRange {
        let first = self.zone.first().get() + index as u32 * WINDOW;
        range(first, first + WINDOW - 1)
    }

    /// What a driver asks for: mostly few numbers, which all the others ask for too, and
    /// always some that a set of `reach` has.
    pub fn request(&self, reach: PasidRange, rng: &mut Rng) -> PasidRange {
        let last = reach.last().get();
        let low = last.min(self.zone.first().get() - 1);
        match rng.u8(..16) {
            0..7 => range(0, low.min(31)),
            7..12 => range(0, low.min(255)),
            12..14 => {
                let first = rng.u32(..=low.min(64));
                range(first, first + rng.u32(..64))
            }
            // Beyond the width of most tables.
            _ => PasidWidth::MAX.range(),
        }
    }

    /// A number near the PASIDs in use: what a look-up may ask for.
    pub fn number(&self, rng: &mut Rng) -> Pasid {
        let last = self.zone.first().get() - 1;
        match rng.u8(..8) {
            0 => pasid(rng.u32(..=Pasid::MAX.get())),
            1..4 => pasid(rng.u32(..=last.min(255))),
            _ => pasid(rng.u32(..=last.min(31))),
        }
    }

    /// A number that is worth reserving: where all ask, or where it is likely free.
    pub fn reservable(&self, rng: &mut Rng) -> Pasid {
        let last = if rng.bool() { 31 } else { 600 };
        pasid(rng.u32(8..=last.min(self.zone.first().get() - 1)))
    }
}

/// The width of a device that has PASID support.
fn supported(device: &Device) -> Option<PasidWidth> {
    let width = device.pasids.width()?;
    (width != PasidWidth::ZERO).then_some(width)
}

/// The tables of a machine, and the devices that have none.
fn tables(machine: &Machine, most: Option<PasidWidth>) -> (Vec<PlannedTable>, Vec<String>) {
    let (mut tables, mut requesters) = (Vec::<PlannedTable>::new(), HashSet::new());
    let capable = machine
        .devices
        .iter()
        .filter(|device| supported(device).is_some());
    let incapable = machine
        .devices
        .iter()
        .filter(|device| supported(device).is_none());
    let mut without = Vec::new();
    // So that a table is there when the others of its group come.
    for device in capable.chain(incapable) {
        let width = supported(device);
        let capped = width.map(|width| most.map_or(width, |most| width.narrower(most)));
        let name = device.address.clone();
        let mut requester = requester_id(&name).unwrap_or_default();
        while !requesters.insert(requester) {
            requester = requester.wrapping_add(1);
        }
        let planned = PlannedDevice {
            name: name.clone(),
            requester: RequesterId(requester),
            width: capped.unwrap_or(PasidWidth::ZERO),
        };
        let shared = tables
            .iter_mut()
            .find(|table| table.group.is_some() && table.group == device.group);
        match (shared, capped) {
            (Some(table), Some(width)) => {
                table.width = table.width.narrower(width);
                table.devices.push(planned);
            }
            (Some(table), None) => {
                table.devices.push(planned);
                without.push(name);
            }
            (None, Some(width)) => tables.push(PlannedTable {
                group: device.group,
                devices: vec![planned],
                width,
                reserved: None,
                again: false,
            }),
            (None, None) => without.push(name),
        }
    }
    (tables, without)
}

/// The requester ID in an address such as `0000:6a:01.0`.
fn requester_id(address: &str) -> Option<u32> {
    let (rest, function) = address.rsplit_once('.')?;
    let mut parts = rest.rsplit(':').map(|part| u32::from_str_radix(part, 16));
    let (device, bus) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let domain = parts.next().unwrap_or(Ok(0)).ok()?;
    let function = u32::from_str_radix(function, 16).ok()?;
    Some((domain & 0xffff) << 16 | (bus & 0xff) << 8 | (device & 0x1f) << 3 | function & 7)
}

/// Why there may be PASID-capable devices that are not seen; of several reasons
/// the one that something can be done about.
fn unreadable(machine: &Machine) -> Option<Unreadable> {
    let devices = machine.devices.iter();
    devices
        .filter_map(|device| match device.pasids {
            Pasids::Unreadable(why) => Some(why),
            Pasids::None | Pasids::Capable { .. } => None,
        })
        .min()
}

/// `value`, or the highest PASID if it is above.
fn pasid(value: u32) -> Pasid {
    Pasid::new(value).unwrap_or(Pasid::MAX)
}

/// From one number to the other, inclusive.
pub fn range(first: u32, last: u32) -> PasidRange {
    let (first, last) = (pasid(first), pasid(last));
    PasidRange::new(first, last).unwrap_or(PasidRange::single(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::builtin;

    fn plan(bits: u8) -> Result<Plan, RunError> {
        let width = PasidWidth::new(bits).unwrap();
        Plan::new(&builtin().unwrap(), Some(width), Order::Mixed)
    }

    #[test]
    fn every_width_has_a_plan_that_stays_within_it() {
        for bits in WIDE_BITS..=20 {
            let plan = plan(bits).unwrap();
            let widths = plan.tables.iter().map(|table| table.width.bits());
            assert_eq!(widths.max(), Some(bits));
            assert!(plan.wide.len() >= WIDE_TABLES && plan.windows() >= 8);
            for &place in &plan.wide {
                assert!(plan.zone.last().fits(plan.tables[place].width));
            }
            let last = plan.window(plan.windows() - 1).last();
            assert_eq!(last, plan.zone.last());
            let (mut rng, reach) = (Rng::with_seed(1), range(0, 63));
            for _ in 0..1000 {
                assert!(plan.request(reach, &mut rng).first() <= reach.last());
                assert!(!plan.zone.contains(plan.reservable(&mut rng)));
            }
        }
        assert!(matches!(plan(5), Err(RunError::TooNarrow { .. })));
    }

    #[test]
    fn each_device_or_group_has_a_table() {
        let mut machine = builtin().unwrap();
        let plan = Plan::new(&machine, None, Order::Mixed).unwrap();
        let bits = |plan: &Plan| {
            let tables = plan.tables.iter();
            tables.map(|table| table.width.bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(&plan), [20, 16, 16]);
        assert_eq!(plan.without, ["00:01.2"]);
        assert_eq!(plan.tables[0].devices[0].requester.0, 0x6a08);
        // In one group they share a table; there are too few then.
        for device in &mut machine.devices {
            device.group = Some(7);
        }
        let plan = Plan::new(&machine, None, Order::Mixed).unwrap();
        assert_eq!(bits(&plan), [16, 16, 16]);
        assert_eq!(plan.tables[0].devices.len(), 4);
        assert!(!plan.tables[0].again && plan.tables[2].again);
        machine.devices.truncate(0);
        assert!(matches!(
            Plan::new(&machine, None, Order::Mixed),
            Err(RunError::NoPasids { .. })
        ));
    }

    #[test]
    fn an_address_is_a_requester_id() {
        assert_eq!(requester_id("0001:3a:01.0"), Some(0x0001_3a08));
        assert_eq!(requester_id("10000:e1:00.7"), Some(0xe107));
        assert_eq!(requester_id("nothing"), None);
    }
}
