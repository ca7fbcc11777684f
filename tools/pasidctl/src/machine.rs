// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine, as far as PASIDs go: its devices and their widths.
//!
//! It comes from one of three sources, which all end in the same [`Machine`]:
//! the output of `lspci`, the `sysfs` of a running Linux, or the bytes of a
//! device that is built in.

mod builtin;
mod error;
mod lspci;
mod sysfs;

use std::path::{Path, PathBuf};

use pasid::limits::PasidStructure;
use pasid::{Error, PasidWidth};

pub use builtin::builtin;
pub use error::{MachineError, Problem};

/// Where Linux lists the devices of this machine.
const THIS_MACHINE: &str = "/sys/bus/pci/devices";

/// How long a configuration space is.
const CONFIG_LEN: usize = 4096;

/// The devices of a machine, in the order of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Where the devices were seen, for people to read.
    pub origin: String,
    /// All devices, also those without PASID support.
    pub devices: Vec<Device>,
}

/// A PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The address as the source has it, such as `6a:01.0` or `0000:6a:01.0`.
    pub address: String,
    /// The vendor and device ID, where the source has them.
    pub ids: Option<(u16, u16)>,
    /// The number of the IOMMU group, where the source has it.
    pub group: Option<u32>,
    /// What is known of its PASIDs.
    pub pasids: Pasids,
}

/// What is known of a device's PASIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pasids {
    /// It has no PASID capability.
    None,
    /// Whether it has one cannot be known.
    Unreadable(Unreadable),
    /// It has one.
    Capable {
        /// The device's own capability, or its physical function's.
        structure: PasidStructure,
        /// The width of the IOMMU in front of it, where the source has it.
        iommu: Option<PasidWidth>,
    },
}

impl Pasids {
    /// The width of the device's table: the narrower of its own and the
    /// IOMMU's.
    pub fn width(&self) -> Option<PasidWidth> {
        match self {
            Pasids::Capable { structure, iommu } => {
                let device = structure.capability.width;
                Some(iommu.map_or(device, |iommu| device.narrower(iommu)))
            }
            Pasids::None | Pasids::Unreadable(_) => None,
        }
    }

    /// What a configuration space says. Where it does not say enough, the
    /// result is `Unreadable`; where it is wrong, an error.
    fn of_config(config: &[u8]) -> Result<Pasids, Error> {
        match PasidStructure::find_in(config) {
            Ok(Some(structure)) => Ok(Pasids::Capable {
                structure,
                iommu: None,
            }),
            Ok(None) => Ok(Pasids::None),
            // All of it is there, so what cannot be read reads as all ones.
            Err(Error::ConfigSpaceTruncated { .. }) if config.len() == CONFIG_LEN => {
                Ok(Pasids::Unreadable(Unreadable::Blocked))
            }
            Err(Error::ConfigSpaceTruncated { .. }) => Ok(Pasids::Unreadable(Unreadable::Denied)),
            Err(Error::DeviceGone) => Ok(Pasids::Unreadable(Unreadable::Gone)),
            Err(error) => Err(error),
        }
    }
}

/// Why a device's capabilities cannot be read; first those with the easiest remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unreadable {
    /// The extended configuration space was not shown, as to all but root.
    Denied,
    /// The extended configuration space is not in the dump.
    NotDumped,
    /// The platform answers for the extended configuration space, with all ones.
    Blocked,
    /// The device answers with all ones.
    Gone,
}

impl Unreadable {
    /// The reason and what to do about it.
    pub fn reason(self) -> &'static str {
        match self {
            Unreadable::Denied => "run as root",
            Unreadable::NotDumped => "run as root, and lspci with -xxxx",
            Unreadable::Blocked => "the platform hides the extended configuration space",
            Unreadable::Gone => "the device does not answer",
        }
    }
}

/// The options that say which machine is meant.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct Source {
    /// Read a dump: `lspci -vvv -xxxx` as root, or the text of `lspci -vv`
    #[arg(long, value_name = "FILE")]
    lspci: Option<PathBuf>,
    /// Read the devices that Linux lists in a directory
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = THIS_MACHINE)]
    sysfs: Option<PathBuf>,
}

impl Source {
    /// Reads the machine that the options name, or this one if they name none.
    ///
    /// # Errors
    /// See [`MachineError`].
    pub fn read_or_this_machine(&self) -> Result<Machine, MachineError> {
        self.read_or(|| sysfs::read(Path::new(THIS_MACHINE)))
    }

    /// Reads the machine that the options name, or gives the built-in one if
    /// they name none.
    ///
    /// # Errors
    /// See [`MachineError`].
    pub fn read_or_builtin(&self) -> Result<Machine, MachineError> {
        self.read_or(builtin)
    }

    fn read_or(
        &self,
        default: impl FnOnce() -> Result<Machine, MachineError>,
    ) -> Result<Machine, MachineError> {
        match (&self.lspci, &self.sysfs) {
            (Some(file), _) => lspci::read(file),
            (None, Some(directory)) => sysfs::read(directory),
            (None, None) => default(),
        }
    }
}

/// The vendor and device ID at the start of a configuration space.
fn ids_of(config: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *config.first_chunk()?;
    Some((u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_is_the_narrower_one() {
        let Machine { devices, .. } = builtin().unwrap();
        let Pasids::Capable { structure, .. } = devices[0].pasids else {
            panic!()
        };
        for (iommu, width) in [(None, 20), (Some(16), 16), (Some(20), 20), (Some(0), 0)] {
            let iommu = iommu.map(|bits| PasidWidth::new(bits).unwrap());
            let pasids = Pasids::Capable { structure, iommu };
            assert_eq!(pasids.width().map(PasidWidth::bits), Some(width));
        }
        assert_eq!(Pasids::None.width(), None);
        assert_eq!(Pasids::Unreadable(Unreadable::Denied).width(), None);
    }

    #[test]
    fn without_options_the_default_is_taken() {
        let source = Source {
            lspci: None,
            sysfs: None,
        };
        assert_eq!(source.read_or_builtin().unwrap(), builtin().unwrap());
    }
}
