// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers of the PASID extended capability of PCI Express, both ways.
//!
//! Source: PCI Express Base Specification, "PASID Extended Capability
//! Structure"; Linux's `PCI_PASID_CAP` and `PCI_PASID_CTRL` in
//! `include/uapi/linux/pci_regs.h`.
//!
//! ```text
//! +0  31          20 19     16 15                  0
//!    +--------------+---------+---------------------+
//!    | next offset  | version | ID 0x001b           |
//!    +--------------+---------+---------------------+
//! +4  15   13 12       8 7        3     2       1     0
//!    +-------+----------+----------+------+---------+---+
//!    |   -   |  width   |    -     | priv | execute | - |   capability
//!    +-------+----------+----------+------+---------+---+
//! +6  15                           3     2       1       0
//!    +------------------------------+------+---------+--------+
//!    |              -               | priv | execute | enable |   control
//!    +------------------------------+------+---------+--------+
//! ```
//!
//! Later revisions give bit 3 of both to Translated Requests with PASID. It limits no
//! PASID: it is ignored here like a reserved bit, and encoded as 0, which says that a
//! device does not have it.

use super::{field, width_of};
use crate::error::Result;
use crate::pasid::PasidWidth;

const EXECUTE: u16 = 1 << 1;
const PRIVILEGED: u16 = 1 << 2;
const WIDTH_SHIFT: u32 = 8;
const WIDTH_BITS: u32 = 5;
const ENABLE: u16 = 1 << 0;

/// The PASID capability register: what a device can do.
///
/// # A width of 0
/// The specification lets a device with the capability state a width of 0: it
/// sends and receives the one PASID 0. The width is taken as it stands, and 0
/// means "no PASID support" to everything else in this crate, because no
/// address space can be given a PASID there: 0 is what DMA without a PASID is
/// filed under. A present capability is told from a missing one by
/// [`find_in`](super::PasidStructure::find_in).
///
/// # Examples
/// ```
/// use pasid::limits::PasidCapability;
///
/// let capability = PasidCapability::from_register(0x1404)?;
/// assert_eq!(capability.width.bits(), 20);
/// assert!(capability.privileged && !capability.execute);
/// assert_eq!(capability.to_register(), 0x1404);
/// # Ok::<(), pasid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PasidCapability {
    /// Bits 12:8: the number of PASID bits.
    pub width: PasidWidth,
    /// Bit 1: requests may ask for permission to execute.
    pub execute: bool,
    /// Bit 2: requests may ask for privileged mode.
    pub privileged: bool,
}

impl PasidCapability {
    /// Decodes the 16-bit register at offset 4 of the structure.
    ///
    /// Reserved bits are ignored.
    ///
    /// # Errors
    /// [`Error::InvalidWidth`](crate::Error::InvalidWidth) if the width is 21 to 31, which is reserved.
    ///
    /// ```
    /// use pasid::{Error, limits::PasidCapability};
    ///
    /// assert_eq!(PasidCapability::from_register(0x1006)?.width.bits(), 16);
    /// assert_eq!(
    ///     PasidCapability::from_register(0x1f00),
    ///     Err(Error::InvalidWidth { bits: 31 }),
    /// );
    /// # Ok::<(), Error>(())
    /// ```
    pub const fn from_register(register: u16) -> Result<PasidCapability> {
        match width_of(field(register as u64, WIDTH_SHIFT, WIDTH_BITS)) {
            Ok(width) => Ok(PasidCapability {
                width,
                execute: register & EXECUTE != 0,
                privileged: register & PRIVILEGED != 0,
            }),
            Err(error) => Err(error),
        }
    }

    /// Encodes the register, with its reserved bits 0.
    ///
    /// ```
    /// use pasid::{PasidWidth, limits::PasidCapability};
    ///
    /// let capability =
    ///     PasidCapability { width: PasidWidth::MAX, execute: true, privileged: true };
    /// assert_eq!(capability.to_register(), 0x1406);
    /// ```
    #[must_use]
    pub const fn to_register(self) -> u16 {
        (self.width.bits() as u16) << WIDTH_SHIFT
            | if self.execute { EXECUTE } else { 0 }
            | if self.privileged { PRIVILEGED } else { 0 }
    }
}

/// The PASID control register: what the operating system has switched on.
///
/// The default, all off, is the state after a reset.
///
/// # Examples
/// ```
/// use pasid::limits::PasidControl;
///
/// let control = PasidControl::from_register(0x0005);
/// assert!(control.enabled && control.privileged && !control.execute);
/// assert_eq!(control.to_register(), 0x0005);
/// assert_eq!(PasidControl::default().to_register(), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PasidControl {
    /// Bit 0: the device may send and receive PASIDs.
    pub enabled: bool,
    /// Bit 1: it may ask for permission to execute.
    pub execute: bool,
    /// Bit 2: it may ask for privileged mode.
    pub privileged: bool,
}

impl PasidControl {
    /// Decodes the 16-bit register at offset 6 of the structure.
    ///
    /// Reserved bits are ignored, and every value decodes.
    ///
    /// ```
    /// assert!(pasid::limits::PasidControl::from_register(1).enabled);
    /// ```
    #[must_use]
    pub const fn from_register(register: u16) -> PasidControl {
        PasidControl {
            enabled: register & ENABLE != 0,
            execute: register & EXECUTE != 0,
            privileged: register & PRIVILEGED != 0,
        }
    }

    /// Encodes the register, with its reserved bits 0.
    ///
    /// ```
    /// use pasid::limits::PasidControl;
    ///
    /// let control = PasidControl { enabled: true, ..PasidControl::default() };
    /// assert_eq!(control.to_register(), 1);
    /// ```
    #[must_use]
    pub const fn to_register(self) -> u16 {
        (if self.enabled { ENABLE } else { 0 })
            | if self.execute { EXECUTE } else { 0 }
            | if self.privileged { PRIVILEGED } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    #[test]
    fn every_capability_register_round_trips_or_is_refused() {
        for register in 0..=u16::MAX {
            let width = u32::from(register >> 8 & 0x1f);
            match PasidCapability::from_register(register) {
                Ok(capability) => {
                    assert_eq!(u32::from(capability.width.bits()), width);
                    assert_eq!(
                        capability.to_register(),
                        register & 0x1f06,
                        "{register:#06x}"
                    );
                }
                Err(error) => {
                    assert!(width > 20, "{register:#06x}");
                    assert_eq!(error, Error::InvalidWidth { bits: width });
                }
            }
        }
    }

    #[test]
    fn every_control_register_round_trips() {
        for register in 0..=u16::MAX {
            let control = PasidControl::from_register(register);
            assert_eq!(control.to_register(), register & 0x0007, "{register:#06x}");
        }
    }

    #[test]
    fn fields_are_where_the_specification_has_them() {
        // Register, width, execute, privileged.
        for (register, width, execute, privileged) in [
            (0x0000, 0, false, false),
            (0x0001, 0, false, false),
            (0x0002, 0, true, false),
            (0x0004, 0, false, true),
            (0x0100, 1, false, false),
            (0x1006, 16, true, true),
            (0x1404, 20, false, true),
            (0xf4f9, 20, false, false),
        ] {
            let capability = PasidCapability::from_register(register).unwrap();
            assert_eq!(capability.width.bits(), width, "{register:#06x}");
            assert_eq!(capability.execute, execute, "{register:#06x}");
            assert_eq!(capability.privileged, privileged, "{register:#06x}");
        }
        for (register, enabled, execute, privileged) in [
            (0x0000, false, false, false),
            (0x0001, true, false, false),
            (0x0002, false, true, false),
            (0x0004, false, false, true),
            (0xfff8, false, false, false),
        ] {
            let control = PasidControl {
                enabled,
                execute,
                privileged,
            };
            assert_eq!(
                PasidControl::from_register(register),
                control,
                "{register:#06x}"
            );
        }
    }
}
