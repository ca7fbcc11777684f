// SPDX-License-Identifier: MIT OR Apache-2.0
//! The PASID capability structure: found in a configuration space, or put
//! there.

use super::config::{self, ExtendedCapabilities, FIRST};
use super::registers::{PasidCapability, PasidControl};
use crate::error::{Error, Result};

/// The ID of the PASID capability among the extended capabilities.
const ID: u16 = 0x001b;
/// The version of the structure, the only one so far.
const VERSION: u8 = 1;
/// Length of the structure: header, capability and control register.
const LEN: u16 = 8;

/// The PASID capability structure at its place in a configuration space.
///
/// A virtual function has none of its own: it shares its physical function's,
/// so look in the configuration space of that one.
///
/// # Examples
/// A virtual machine monitor gives a guest's device a capability, and the guest
/// finds it:
///
/// ```
/// use pasid::PasidWidth;
/// use pasid::limits::{PasidCapability, PasidControl, PasidStructure};
///
/// let structure = PasidStructure {
///     offset: 0x100,
///     capability: PasidCapability {
///         width: PasidWidth::new(16)?,
///         execute: false,
///         privileged: true,
///     },
///     control: PasidControl::default(),
/// };
/// let mut config = [0; 4096];
/// assert_eq!(PasidStructure::find_in(&config), Ok(None));
/// structure.add_to(&mut config)?;
/// assert_eq!(PasidStructure::find_in(&config), Ok(Some(structure)));
/// # Ok::<(), pasid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PasidStructure {
    /// Where the structure starts in the configuration space, in bytes:
    /// `0x100..=0xff8`, divisible by 4.
    pub offset: u16,
    /// The capability register, at `offset + 4`.
    pub capability: PasidCapability,
    /// The control register, at `offset + 6`.
    pub control: PasidControl,
}

impl PasidStructure {
    /// Finds the structure by walking the list of extended capabilities.
    ///
    /// `config` holds a function's configuration space from offset 0, usually
    /// all 4096 bytes. `None` is the answer only where it is certain: the list
    /// was walked to its end, or the 256 bytes of a conventional PCI device
    /// show that it has no PCI Express capability and thus no extended space.
    ///
    /// The walk takes at most 960 steps, whatever the bytes are. The low two
    /// bits of a next pointer are masked off, as PCI Express asks of software.
    /// Of several structures, which the specification forbids, the first in the
    /// list counts.
    ///
    /// # Errors
    /// * [`Error::ConfigSpaceTruncated`] if the answer lies behind the end of
    ///   `config`: without privileges Linux shows 64 bytes, and other tools
    ///   may show 256. The same, with a length of 256, if the extended space
    ///   reads as all ones though the device is there, because then the
    ///   platform has no access to it.
    /// * [`Error::DeviceGone`] if the device answers with all ones.
    /// * [`Error::CapabilityListLoop`] if the list comes back to itself.
    /// * [`Error::CapabilityListBroken`] if it points below 0x100, or the
    ///   structure would reach over the end of the 4096 bytes.
    /// * [`Error::InvalidWidth`] if the structure is there with a width of 21
    ///   to 31 bits.
    ///
    /// ```
    /// use pasid::{Error, limits::PasidStructure};
    ///
    /// let mut config = [0; 4096];
    /// config[0x100..0x104].copy_from_slice(&0x2301_001e_u32.to_le_bytes());
    /// config[0x230..0x234].copy_from_slice(&0x0001_001b_u32.to_le_bytes());
    /// config[0x234..0x238].copy_from_slice(&0x0005_1404_u32.to_le_bytes());
    /// let found = PasidStructure::find_in(&config)?.map(|found| found.offset);
    /// assert_eq!(found, Some(0x230));
    /// assert_eq!(
    ///     PasidStructure::find_in(&config[..64]),
    ///     Err(Error::ConfigSpaceTruncated { len: 64 }),
    /// );
    /// # Ok::<(), Error>(())
    /// ```
    pub fn find_in(config: &[u8]) -> Result<Option<PasidStructure>> {
        if !config::has_extended_space(config)? {
            return Ok(None);
        }
        for entry in ExtendedCapabilities::new(config) {
            let entry = entry?;
            if entry.id == ID {
                return PasidStructure::read(config, entry.offset).map(Some);
            }
        }
        Ok(None)
    }

    fn read(config: &[u8], offset: u16) -> Result<PasidStructure> {
        if offset > config::END - LEN {
            return Err(Error::CapabilityListBroken { offset });
        }
        let registers = config::read_u32(config, offset + 4)?;
        if registers == u32::MAX {
            return Err(Error::DeviceGone);
        }
        Ok(PasidStructure {
            offset,
            capability: PasidCapability::from_register(registers as u16)?,
            control: PasidControl::from_register((registers >> 16) as u16),
        })
    }

    /// The eight bytes of the structure: header, capability and control.
    ///
    /// `next` is the offset of the next capability in the list, or 0 at its
    /// end; its low two bits are dropped, and so is what is over 12 bits.
    ///
    /// ```
    /// use pasid::PasidWidth;
    /// use pasid::limits::{PasidCapability, PasidControl, PasidStructure};
    ///
    /// let structure = PasidStructure {
    ///     offset: 0x230,
    ///     capability: PasidCapability::from_register(0x1404)?,
    ///     control: PasidControl::from_register(0x0005),
    /// };
    /// let bytes = structure.to_bytes(0x240);
    /// assert_eq!(bytes, [0x1b, 0x00, 0x01, 0x24, 0x04, 0x14, 0x05, 0x00]);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[must_use]
    pub const fn to_bytes(&self, next: u16) -> [u8; 8] {
        let header = config::header(ID, VERSION, next).to_le_bytes();
        let capability = self.capability.to_register().to_le_bytes();
        let control = self.control.to_register().to_le_bytes();
        [
            header[0],
            header[1],
            header[2],
            header[3],
            capability[0],
            capability[1],
            control[0],
            control[1],
        ]
    }

    /// Writes the structure into a configuration space and links it to the end
    /// of the list of extended capabilities.
    ///
    /// For a virtual machine monitor that synthesises the capability for its
    /// guest. The first entry of the list has to be at 0x100: if the list is
    /// empty and the structure goes elsewhere, a null capability there leads to
    /// it. That no other capability's bytes lie there is for the caller to
    /// know, since a header does not state its length. The guest's writes to the
    /// control register are the monitor's to handle; bits 2:0 are the writable
    /// ones.
    ///
    /// # Errors
    /// Nothing is written on an error.
    /// * [`Error::CapabilityMisplaced`] if `offset` is not a multiple of 4 in
    ///   `0x100..=0xff8`, the eight bytes there are not all 0, or there is a
    ///   PASID capability already (then the error names the offset of that one).
    /// * The errors of [`find_in`](PasidStructure::find_in) if the space is too
    ///   short or its list cannot be walked.
    ///
    /// ```
    /// use pasid::Error;
    /// use pasid::limits::{PasidCapability, PasidControl, PasidStructure};
    ///
    /// let structure = PasidStructure {
    ///     offset: 0x230,
    ///     capability: PasidCapability::from_register(0x1404)?,
    ///     control: PasidControl::default(),
    /// };
    /// let mut config = [0; 4096];
    /// structure.add_to(&mut config)?;
    /// assert_eq!(config[0x230..0x238], structure.to_bytes(0));
    /// assert_eq!(
    ///     structure.add_to(&mut config),
    ///     Err(Error::CapabilityMisplaced { offset: 0x230 }),
    /// );
    /// # Ok::<(), Error>(())
    /// ```
    pub fn add_to(&self, config: &mut [u8]) -> Result<()> {
        let offset = self.offset;
        let misplaced = Err(Error::CapabilityMisplaced { offset });
        if !(FIRST..=config::END - LEN).contains(&offset) || offset % 4 != 0 {
            return misplaced;
        }
        if let Some(present) = PasidStructure::find_in(config)? {
            return Err(Error::CapabilityMisplaced {
                offset: present.offset,
            });
        }
        if config::read_u32(config, offset)? != 0 || config::read_u32(config, offset + 4)? != 0 {
            return misplaced;
        }
        let last = ExtendedCapabilities::new(config).last().transpose()?;
        match last {
            Some(last) => config::write_u32(
                config,
                last.offset,
                config::header(last.id, last.version, offset),
            )?,
            // Only a list that starts at 0x100 is found.
            None if offset > FIRST => {
                config::write_u32(config, FIRST, config::header(0, 0, offset))?;
            }
            None => {}
        }
        config::write(config, offset, &self.to_bytes(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pasid::PasidWidth;
    use std::vec::Vec;

    fn structure(offset: u16) -> PasidStructure {
        PasidStructure {
            offset,
            capability: PasidCapability {
                width: PasidWidth::MAX,
                execute: false,
                privileged: true,
            },
            control: PasidControl {
                enabled: true,
                execute: false,
                privileged: true,
            },
        }
    }

    #[test]
    fn a_width_of_zero_is_present_and_not_missing() {
        let mut config = [0; 4096];
        let mut none = structure(0x100);
        none.capability.width = PasidWidth::ZERO;
        none.add_to(&mut config).unwrap();
        assert_eq!(PasidStructure::find_in(&config), Ok(Some(none)));
    }

    #[test]
    fn a_placed_structure_is_found_wherever_it_is() {
        for offset in (0x100..=0xff8).step_by(4) {
            let mut config = [0; 4096];
            structure(offset).add_to(&mut config).unwrap();
            assert_eq!(
                PasidStructure::find_in(&config),
                Ok(Some(structure(offset))),
                "{offset:#x}"
            );
        }
    }

    #[test]
    fn a_placed_structure_is_the_last_of_the_list() {
        let mut config = [0; 4096];
        config::write_u32(&mut config, 0x100, config::header(0x1e, 1, 0x200)).unwrap();
        config::write_u32(&mut config, 0x200, config::header(0x0f, 2, 0)).unwrap();
        structure(0x180).add_to(&mut config).unwrap();
        let list: Vec<(u16, u8, u16)> = ExtendedCapabilities::new(&config)
            .map(|entry| entry.map(|entry| (entry.id, entry.version, entry.offset)))
            .collect::<Result<_>>()
            .unwrap();
        assert_eq!(
            list,
            [(0x1e, 1, 0x100), (0x0f, 2, 0x200), (ID, VERSION, 0x180)]
        );
        assert_eq!(config[0x180..0x188], structure(0x180).to_bytes(0));
    }

    #[test]
    fn a_refused_place_leaves_the_bytes_alone() {
        let mut empty = [0; 4096];
        for offset in [0, 0x40, 0xfc, 0x101, 0x102, 0x103, 0xffc, 0x1000, 0xffff] {
            let refused = Err(Error::CapabilityMisplaced { offset });
            assert_eq!(structure(offset).add_to(&mut empty), refused);
        }
        assert_eq!(empty, [0; 4096]);

        let mut used = [0; 4096];
        config::write_u32(&mut used, 0x100, config::header(0x1e, 1, 0)).unwrap();
        for (offset, byte) in [(0x100, 0x100), (0x200, 0x207), (0x204, 0x207)] {
            let mut config = used;
            config[byte] |= 1;
            let before = config;
            let refused = Err(Error::CapabilityMisplaced { offset });
            assert_eq!(structure(offset).add_to(&mut config), refused);
            assert_eq!(config, before);
        }
        let mut short = [0; 0x204];
        let truncated = Err(Error::ConfigSpaceTruncated { len: 0x204 });
        assert_eq!(structure(0x200).add_to(&mut short), truncated);
        assert_eq!(short, [0; 0x204]);
    }
}
