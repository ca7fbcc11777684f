// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the load will be: sizes and ranges, derived from a machine.

use fastrand::Rng;
use pasid::{Pasid, PasidRange, PasidWidth};

use super::RunError;
use super::options::Order;
use super::process::SLOTS_LAST;
use crate::machine::{Machine, Pasids, Unreadable};

/// Fewer devices than this are modelled several times.
const HOLDERS_FIRST: usize = 4;
/// Entries of all devices together; a reference sits in each, once they are full.
const ENTRIES: usize = 4096;
/// The least that a device has, however many there are.
const ENTRIES_FIRST: usize = 4;
/// The small range, as a driver may have with few PASIDs: 0..=31.
const SMALL_LAST: u16 = 31;
/// One process slot in so many asks for the small range.
const SMALL_EVERY: usize = 64;
/// The values that the load reserves beside 0: one amid the small range, and the last.
const RESERVED_IN_SMALL: Pasid = Pasid::from_u16(16);

/// A device of the machine, as the load needs it.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Its address.
    pub name: String,
    /// The width of its table, never above that of the space.
    pub width: PasidWidth,
}

/// What the load will be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the machine comes from.
    pub origin: String,
    /// The PASID-capable devices, as often as each is modelled.
    pub holders: Vec<Holder>,
    /// How many different ones there are.
    pub devices: usize,
    /// The width of the space.
    pub width: PasidWidth,
    /// The order of handing out.
    pub policy: Order,
    /// What is reserved from beginning to end, in ascending order: 0, which every
    /// space reserves by default, and what the load reserves itself.
    pub reserved: Vec<Pasid>,
    /// How many processes there can be at a time.
    pub processes: usize,
    /// How many entries each device has.
    pub entries: usize,
}

impl Plan {
    /// Derives a plan. The width is the widest device's, or `width` if one is
    /// given: PASIDs are shared by all devices, and whether one fits a narrower
    /// device is that device's matter.
    ///
    /// # Errors
    /// [`RunError::NoPasids`], [`RunError::Unreadable`] and [`RunError::TooWide`].
    pub fn new(
        machine: &Machine,
        width: Option<PasidWidth>,
        policy: Order,
    ) -> Result<Plan, RunError> {
        let capable: Vec<Holder> = machine
            .devices
            .iter()
            .filter_map(|device| {
                let width = device.pasids.width()?;
                let name = device.address.clone();
                (width != PasidWidth::ZERO).then_some(Holder { name, width })
            })
            .collect();
        let origin = machine.origin.clone();
        let Some(widest) = capable.iter().map(|holder| holder.width).max() else {
            return Err(match unreadable(machine) {
                Some(why) => RunError::Unreadable {
                    origin,
                    reason: why.reason(),
                },
                None => RunError::NoPasids { origin },
            });
        };
        let width = width.unwrap_or(widest);
        if width > widest {
            return Err(RunError::TooWide {
                width: width.bits(),
                widest: widest.bits(),
                origin,
            });
        }
        let modelled = capable.len().max(HOLDERS_FIRST);
        let holders: Vec<Holder> = capable
            .iter()
            .cycle()
            .take(modelled)
            .map(|holder| Holder {
                name: holder.name.clone(),
                width: holder.width.narrower(width),
            })
            .collect();
        let mut reserved = vec![Pasid::ZERO];
        if width.last().get() > u32::from(SMALL_LAST) {
            reserved.extend([RESERVED_IN_SMALL, width.last()]);
        }
        // A narrow space is asked for twice what it has, so that it runs out.
        let processes = (2 * width.count() as usize).clamp(8, SLOTS_LAST);
        Ok(Plan {
            origin,
            devices: capable.len(),
            entries: (processes.min(ENTRIES) / modelled).max(ENTRIES_FIRST),
            holders,
            width,
            policy,
            reserved,
            processes,
        })
    }

    /// What a process in `slot` asks for: few PASIDs, or any that its device
    /// has and that are not among those few, or once in a while some others.
    pub fn request(&self, slot: usize, rng: &mut Rng) -> PasidRange {
        let device_last = self.holders[slot % self.holders.len()].width.last();
        let small_last = Pasid::from_u16(SMALL_LAST);
        if device_last <= small_last {
            return range(0, device_last.get());
        }
        if slot.is_multiple_of(SMALL_EVERY) {
            return range(0, small_last.get());
        }
        if rng.u8(..16) == 0 {
            // Where the others are too, so that it meets them. It may reach
            // beyond the device and beyond the width.
            let near = (self.processes as u32).min(device_last.get());
            let first = rng.u32(..=near);
            return range(first, first + rng.u32(..256));
        }
        range(small_last.get() + 1, device_last.get())
    }

    /// A number near the PASIDs in use: what a look-up may ask for.
    pub fn number(&self, rng: &mut Rng) -> Pasid {
        let near = (2 * self.processes as u32).min(self.width.last().get());
        pasid(rng.u32(..=near))
    }

    /// A number that is worth reserving: in the small range, or near those in use.
    pub fn reservable(&self, rng: &mut Rng) -> Pasid {
        if rng.bool() {
            return self.number(rng);
        }
        pasid(rng.u32(..=u32::from(SMALL_LAST).min(self.width.last().get())))
    }
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

fn range(first: u32, last: u32) -> PasidRange {
    let (first, last) = (pasid(first), pasid(last));
    PasidRange::new(first, last).unwrap_or(PasidRange::single(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::builtin;

    fn plan(bits: u8) -> Plan {
        let width = PasidWidth::new(bits).unwrap();
        Plan::new(&builtin().unwrap(), Some(width), Order::Lowest).unwrap()
    }

    #[test]
    fn every_width_has_a_plan_that_stays_within_it() {
        for bits in 1..=20 {
            let plan = plan(bits);
            assert_eq!(plan.width.bits(), bits);
            assert!(plan.reserved.len() < plan.width.count() as usize);
            assert!(plan.holders.len() >= HOLDERS_FIRST);
            let mut rng = Rng::with_seed(1);
            for slot in 0..plan.processes {
                assert!(plan.request(slot, &mut rng).first() <= plan.width.last());
                assert!(plan.number(&mut rng).fits(plan.width));
                assert!(plan.reservable(&mut rng).fits(plan.width));
            }
        }
    }

    #[test]
    fn the_width_is_the_widest_devices_unless_given() {
        let machine = builtin().unwrap();
        let plan = Plan::new(&machine, None, Order::Next).unwrap();
        assert_eq!(plan.width, PasidWidth::MAX);
        let none = Machine {
            origin: "nothing".to_owned(),
            devices: Vec::new(),
        };
        assert!(matches!(
            Plan::new(&none, None, Order::Next),
            Err(RunError::NoPasids { .. })
        ));
    }
}
