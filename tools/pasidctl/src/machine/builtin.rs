// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine for those who have none at hand.

use std::path::Path;

use super::{CONFIG_LEN, Device, Machine, MachineError, Pasids, Problem, ids_of};

/// What was seen of one device's configuration space.
struct Seen {
    device: &'static str,
    place: &'static str,
    address: &'static str,
    group: u32,
    /// Offsets and the bytes there; all other bytes are taken as 0.
    bytes: &'static [(usize, &'static [u8])],
}

/// A device with a PASID capability of 20 bits, enabled: its identity, its PCI
/// Express capability, and the headers of its extended capabilities with the
/// one of interest in full.
const DSA: Seen = Seen {
    device: "Intel Data Streaming Accelerator",
    place: "a Sapphire Rapids server, in a dump that pciutils tests itself with",
    address: "6a:01.0",
    group: 38,
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

/// The built-in machine: one Intel DSA.
///
/// # Errors
/// None that can be met: the bytes are decoded like any others.
pub fn builtin() -> Result<Machine, MachineError> {
    let mut config = [0; CONFIG_LEN];
    for (offset, bytes) in DSA.bytes {
        for (place, byte) in config.iter_mut().skip(*offset).zip(*bytes) {
            *place = *byte;
        }
    }
    let address = DSA.address.to_owned();
    let pasids = Pasids::of_config(&config).map_err(|error| {
        Problem::Device {
            address: address.clone(),
            error,
        }
        .at(Path::new("built in"))
    })?;
    Ok(Machine {
        origin: format!("{}, as seen in {}", DSA.device, DSA.place),
        devices: vec![Device {
            address,
            ids: ids_of(&config),
            group: Some(DSA.group),
            pasids,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_device_has_20_bits() {
        let machine = builtin().unwrap();
        let [device] = machine.devices.as_slice() else {
            panic!("{machine:?}")
        };
        assert_eq!(device.ids, Some((0x8086, 0x0b25)));
        let Pasids::Capable {
            structure,
            iommu: None,
        } = device.pasids
        else {
            panic!()
        };
        assert_eq!(structure.offset, 0x230);
        assert_eq!(structure.capability.width.bits(), 20);
        assert!(structure.control.enabled);
    }
}
