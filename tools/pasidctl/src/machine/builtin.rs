// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine for those who have none at hand.

use std::path::Path;

use super::{CONFIG_LEN, Device, Machine, MachineError, Pasids, Problem, ids_of};

/// What was seen of one device's configuration space.
struct Seen {
    address: &'static str,
    group: Option<u32>,
    /// Offsets and the bytes there; all other bytes are taken as 0.
    bytes: &'static [(usize, &'static [u8])],
}

/// An Intel Data Streaming Accelerator: 20 bits, enabled. Seen on a Sapphire Rapids
/// server, in a dump that pciutils tests itself with: its identity, its PCI Express
/// capability, and the headers of its extended capabilities with the one of interest in
/// full.
const DSA: Seen = Seen {
    address: "6a:01.0",
    group: Some(38),
    bytes: &[
        (0x000, &[0x86, 0x80, 0x25, 0x0b, 0x46, 0x01, 0x10, 0x00]),
        (0x034, &[0x40]),
        (0x040, &[0x10, 0x80, 0x92, 0x00]),
        (0x100, &[0x01, 0x00, 0x02, 0x15]),
        (0x150, &[0x18, 0x00, 0x01, 0x16]),
        (0x160, &[0x17, 0x00, 0x01, 0x17]),
        (0x170, &[0x02, 0x00, 0x01, 0x20]),
        (0x200, &[0x23, 0x00, 0x01, 0x22]),
        (0x220, &[0x0f, 0x00, 0x01, 0x23]),
        (0x230, &[0x1b, 0x00, 0x01, 0x24, 0x04, 0x14, 0x05, 0x00]),
        (0x240, &[0x13, 0x00, 0x01, 0x00]),
    ],
};

/// An endpoint with encrypted links: 16 bits, enabled. Seen in another dump of pciutils.
const ENDPOINT: Seen = Seen {
    address: "e1:00.0",
    group: None,
    bytes: &[
        (0x000, &[0xaa, 0xaa, 0xbb, 0xbb, 0x00, 0x00, 0x10, 0x00]),
        (0x034, &[0x40]),
        (0x040, &[0x01, 0x70, 0x03, 0xda]),
        (0x070, &[0x10, 0x00, 0x02, 0x00]),
        (0x100, &[0x01, 0x00, 0x82, 0x14]),
        (0x148, &[0x10, 0x00, 0x81, 0x18]),
        (0x188, &[0x0e, 0x00, 0x01, 0x1c]),
        (0x1c0, &[0x19, 0x00, 0x01, 0x3b]),
        (0x3b0, &[0x26, 0x00, 0x01, 0x40]),
        (0x400, &[0x27, 0x00, 0x01, 0x45]),
        (0x450, &[0x0d, 0x00, 0x01, 0x46]),
        (0x460, &[0x2a, 0x00, 0x01, 0x5f]),
        (0x5f0, &[0x1b, 0x00, 0x01, 0x83, 0x06, 0x10, 0x01, 0x00]),
        (0x830, &[0x30, 0x00, 0x01, 0xe0]),
        (0xe00, &[0x2e, 0x00, 0x02, 0x00]),
    ],
};

/// A Radeon RX 560: 16 bits, not enabled. Seen as the text of a public bug report, which
/// has the offsets and the registers' fields; these are the bytes that say the same.
const GRAPHICS: Seen = Seen {
    address: "06:00.0",
    group: None,
    bytes: &[
        (0x000, &[0x02, 0x10, 0xef, 0x67, 0x00, 0x00, 0x10, 0x00]),
        (0x034, &[0x58]),
        (0x058, &[0x10, 0x00, 0x12, 0x00]),
        (0x100, &[0x0b, 0x00, 0x01, 0x2b]),
        (0x2b0, &[0x0f, 0x00, 0x01, 0x2c]),
        (0x2c0, &[0x13, 0x00, 0x01, 0x2d]),
        (0x2d0, &[0x1b, 0x00, 0x01, 0x00, 0x06, 0x10, 0x00, 0x00]),
    ],
};

/// The bridge above the graphics card, without PASID support. From the same text.
const BRIDGE: Seen = Seen {
    address: "00:01.2",
    group: None,
    bytes: &[
        (0x000, &[0x22, 0x10, 0x83, 0x14, 0x00, 0x00, 0x10, 0x00]),
        (0x034, &[0x58]),
        (0x058, &[0x10, 0x00, 0x42, 0x00]),
        (0x100, &[0x0b, 0x00, 0x01, 0x44]),
        (0x440, &[0x27, 0x00, 0x01, 0x00]),
    ],
};

const ALL: [&Seen; 4] = [&DSA, &ENDPOINT, &GRAPHICS, &BRIDGE];

/// The built-in machine: devices that were seen in three machines.
///
/// # Errors
/// None that can be met: the bytes are decoded like any others.
pub fn builtin() -> Result<Machine, MachineError> {
    let devices = ALL.into_iter().map(device).collect::<Result<_, _>>()?;
    Ok(Machine {
        origin: "built in: four devices as seen in public dumps of three machines".to_owned(),
        devices,
    })
}

fn device(seen: &Seen) -> Result<Device, MachineError> {
    let mut config = [0; CONFIG_LEN];
    for (offset, bytes) in seen.bytes {
        for (place, byte) in config.iter_mut().skip(*offset).zip(*bytes) {
            *place = *byte;
        }
    }
    let address = seen.address.to_owned();
    let pasids = Pasids::of_config(&config).map_err(|error| {
        Problem::Device {
            address: address.clone(),
            error,
        }
        .at(Path::new("built in"))
    })?;
    Ok(Device {
        address,
        ids: ids_of(&config),
        group: seen.group,
        pasids,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_devices_have_the_bits_that_were_seen() {
        let machine = builtin().unwrap();
        let seen: Vec<_> = machine
            .devices
            .iter()
            .map(|device| {
                let Pasids::Capable {
                    structure,
                    iommu: None,
                } = device.pasids
                else {
                    return (device.ids, 0, None);
                };
                let bits = structure.capability.width.bits();
                (
                    device.ids,
                    structure.offset,
                    Some((bits, structure.control.enabled)),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (Some((0x8086, 0x0b25)), 0x230, Some((20, true))),
                (Some((0xaaaa, 0xbbbb)), 0x5f0, Some((16, true))),
                (Some((0x1002, 0x67ef)), 0x2d0, Some((16, false))),
                (Some((0x1022, 0x1483)), 0, None),
            ]
        );
        assert_eq!(machine.devices[3].pasids, Pasids::None);
    }
}
