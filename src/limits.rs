// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a table's width comes from: the hardware fields that state it.
//!
//! A table is as wide as the narrower of its device and the IOMMU in front of
//! it ([`PasidWidth::narrower`]). Each says so in a register or a property:
//!
//! | source | field | here |
//! | --- | --- | --- |
//! | PCIe device | PASID capability, register at +4, bits 12:8 | [`PasidCapability`], [`PasidStructure::find_in`] |
//! | the same, control | register at +6, bits 2:0 | [`PasidControl`] |
//! | VT-d | extended capability register, bits 40 and 39:35 | [`vtd_width`] |
//! | SMMUv3 | `IDR1`, bits 10:6 | [`smmuv3_width`] |
//! | AMD-Vi | extended feature register, bits 4 and 36:32 | [`amd_width`] |
//! | RISC-V IOMMU | `capabilities`, bits 40:38 | [`riscv_width`] |
//! | iommufd | `out_max_pasid_log2` | [`iommufd_width`] |
//! | firmware | property `pasid-num-bits` | [`firmware_width`] |
//!
//! A width above 20 bits is reserved in all of them, and an error here: a
//! clamp would turn a misread register into a plausible limit. Reserved bits
//! next to the fields are ignored, as PCI Express asks of software.
//!
//! Every function is wait-free, allocates nothing and may be called from any
//! context.
//!
//! # Examples
//! The width of a table is that of a device of 20 bits behind a VT-d IOMMU
//! whose extended capability register says 16:
//!
//! ```
//! use pasid::limits::{PasidCapability, vtd_width};
//!
//! let device = PasidCapability::from_register(0x1404)?.width;
//! let iommu = vtd_width(1 << 40 | 15 << 35)?;
//! assert_eq!(device.narrower(iommu).bits(), 16);
//! # Ok::<(), pasid::Error>(())
//! ```

mod config;
mod registers;
mod structure;

pub use registers::{PasidCapability, PasidControl};
pub use structure::PasidStructure;

use crate::error::{Error, Result};
use crate::pasid::PasidWidth;

/// The `count` bits of `register` that start at bit `first`.
const fn field(register: u64, first: u32, count: u32) -> u32 {
    (register >> first) as u32 & ((1 << count) - 1)
}

/// The width of so many bits, or the error for a reserved number of them.
const fn width_of(bits: u32) -> Result<PasidWidth> {
    // No truncation: a number above 255 is refused as what it is.
    if bits > PasidWidth::MAX.bits() as u32 {
        Err(Error::InvalidWidth { bits })
    } else {
        PasidWidth::new(bits as u8)
    }
}

/// The width of a VT-d IOMMU, from its extended capability register.
///
/// Bit 40 (PASID) says whether there are PASIDs at all; without it the result
/// is 0 bits. Then bits 39:35 (PSS) hold the number of bits less one.
///
/// Source: Intel Virtualization Technology for Directed I/O, Architecture
/// Specification, "Extended Capability Register"; Linux's `ecap_pasid` and
/// `ecap_pss`. In Linux the register is `/sys/class/iommu/dmar*/intel-iommu/ecap`.
///
/// # Errors
/// [`Error::InvalidWidth`] if the field states more than 20 bits.
///
/// ```
/// use pasid::limits::vtd_width;
///
/// assert_eq!(vtd_width(1 << 40 | 19 << 35)?.bits(), 20);
/// assert_eq!(vtd_width(19 << 35)?.bits(), 0);
/// # Ok::<(), pasid::Error>(())
/// ```
#[doc(alias = "ecap_pss")]
pub const fn vtd_width(ecap: u64) -> Result<PasidWidth> {
    if field(ecap, 40, 1) == 0 {
        return Ok(PasidWidth::ZERO);
    }
    width_of(field(ecap, 35, 5) + 1)
}

/// The width of an SMMUv3, from its register `IDR1`.
///
/// Bits 10:6 (`SSIDSIZE`) hold the number of SubstreamID bits, which is what
/// Arm calls a PASID; 0 means that there are none.
///
/// Source: Arm System Memory Management Unit Architecture Specification,
/// version 3 (IHI 0070), `SMMU_IDR1`; Linux's `IDR1_SSIDSIZE`.
///
/// # Errors
/// [`Error::InvalidWidth`] if the field states more than 20 bits.
///
/// ```
/// use pasid::limits::smmuv3_width;
///
/// assert_eq!(smmuv3_width(16 << 6)?.bits(), 16);
/// assert!(smmuv3_width(21 << 6).is_err());
/// # Ok::<(), pasid::Error>(())
/// ```
#[doc(alias = "SSIDSIZE")]
pub const fn smmuv3_width(idr1: u32) -> Result<PasidWidth> {
    width_of(field(idr1 as u64, 6, 5))
}

/// The width of an AMD IOMMU, from its extended feature register.
///
/// Bit 4 (`GTSup`, guest translation) says whether there are PASIDs at all;
/// without it the result is 0 bits. Then bits 36:32 (`PASmax`) hold the number
/// of bits less one.
///
/// Source: AMD I/O Virtualization Technology (IOMMU) Specification (48882),
/// "IOMMU Extended Feature Register"; Linux's `FEATURE_GT` and
/// `FEATURE_PASMAX`. In Linux the register is
/// `/sys/class/iommu/ivhd*/amd-iommu/features`.
///
/// # Errors
/// [`Error::InvalidWidth`] if the field states more than 20 bits.
///
/// ```
/// use pasid::limits::amd_width;
///
/// assert_eq!(amd_width(15 << 32 | 1 << 4)?.bits(), 16);
/// assert_eq!(amd_width(15 << 32)?.bits(), 0);
/// # Ok::<(), pasid::Error>(())
/// ```
#[doc(alias = "PASmax")]
pub const fn amd_width(extended_features: u64) -> Result<PasidWidth> {
    if field(extended_features, 4, 1) == 0 {
        return Ok(PasidWidth::ZERO);
    }
    width_of(field(extended_features, 32, 5) + 1)
}

/// The width of a RISC-V IOMMU, from its register `capabilities`.
///
/// Bits 38, 39 and 40 (`PD8`, `PD17`, `PD20`) each say that a process directory
/// of one, two or three levels is supported, for 8, 17 or 20 bits. The result
/// is the widest of them, and 0 bits if there is none.
///
/// Source: RISC-V IOMMU Architecture Specification, "IOMMU capabilities";
/// Linux's `RISCV_IOMMU_CAPABILITIES_PD8`, `_PD17` and `_PD20`.
///
/// ```
/// use pasid::limits::riscv_width;
///
/// assert_eq!(riscv_width(1 << 38 | 1 << 39).bits(), 17);
/// assert_eq!(riscv_width(0).bits(), 0);
/// ```
#[must_use]
#[doc(alias("PD8", "PD17", "PD20"))]
pub const fn riscv_width(capabilities: u64) -> PasidWidth {
    let bits = if field(capabilities, 40, 1) != 0 {
        20
    } else if field(capabilities, 39, 1) != 0 {
        17
    } else if field(capabilities, 38, 1) != 0 {
        8
    } else {
        0
    };
    match PasidWidth::new(bits) {
        Ok(width) => width,
        // Not reached: none of the numbers above is over 20.
        Err(_) => PasidWidth::ZERO,
    }
}

/// The width that a virtual machine monitor is told, from iommufd's hardware
/// information.
///
/// The field is the number of bits; 0 means that there are none.
///
/// Source: Linux, `struct iommu_hw_info` in `include/uapi/linux/iommufd.h`,
/// since 6.15.
///
/// # Errors
/// [`Error::InvalidWidth`] if the field is above 20.
///
/// ```
/// assert_eq!(pasid::limits::iommufd_width(20)?.bits(), 20);
/// # Ok::<(), pasid::Error>(())
/// ```
pub const fn iommufd_width(out_max_pasid_log2: u8) -> Result<PasidWidth> {
    width_of(out_max_pasid_log2 as u32)
}

/// The width of a device that is not on PCI, from its firmware property.
///
/// The value of `pasid-num-bits` is the number of bits.
///
/// Source: Linux, `Documentation/devicetree/bindings/iommu/iommu.txt`.
///
/// # Errors
/// [`Error::InvalidWidth`] if the value is above 20.
///
/// ```
/// use pasid::{Error, limits::firmware_width};
///
/// assert_eq!(firmware_width(16)?.bits(), 16);
/// assert_eq!(firmware_width(276), Err(Error::InvalidWidth { bits: 276 }));
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "pasid-num-bits")]
pub const fn firmware_width(pasid_num_bits: u32) -> Result<PasidWidth> {
    width_of(pasid_num_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: [u64; 2] = [0, u64::MAX];

    fn bits(width: Result<PasidWidth>) -> core::result::Result<u8, u32> {
        match width {
            Ok(width) => Ok(width.bits()),
            Err(Error::InvalidWidth { bits }) => Err(bits),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn expected(bits: u32) -> core::result::Result<u8, u32> {
        if bits <= 20 {
            Ok(bits as u8)
        } else {
            Err(bits)
        }
    }

    /// `value` in the bits of `mask`, `others` in all the other bits.
    fn register(mask: u64, value: u64, others: u64) -> u64 {
        (others & !mask) | value
    }

    #[test]
    fn vtd_states_its_bits_less_one() {
        let mask = 0x3f << 35;
        for others in OTHERS {
            for pss in 0..32 {
                let on = register(mask, 1 << 40 | pss << 35, others);
                assert_eq!(bits(vtd_width(on)), expected(pss as u32 + 1), "{on:#x}");
                let off = register(mask, pss << 35, others);
                assert_eq!(bits(vtd_width(off)), Ok(0), "{off:#x}");
            }
        }
    }

    #[test]
    fn smmuv3_states_its_bits() {
        let mask = 0x1f << 6;
        for others in OTHERS {
            for size in 0..32 {
                let idr1 = register(mask, size << 6, others) as u32;
                assert_eq!(bits(smmuv3_width(idr1)), expected(size as u32), "{idr1:#x}");
            }
        }
    }

    #[test]
    fn amd_states_its_bits_less_one() {
        let mask = 0x1f << 32 | 1 << 4;
        for others in OTHERS {
            for pasmax in 0..32 {
                let on = register(mask, pasmax << 32 | 1 << 4, others);
                assert_eq!(bits(amd_width(on)), expected(pasmax as u32 + 1), "{on:#x}");
                let off = register(mask, pasmax << 32, others);
                assert_eq!(bits(amd_width(off)), Ok(0), "{off:#x}");
            }
        }
    }

    #[test]
    fn riscv_is_as_wide_as_its_deepest_directory() {
        for others in OTHERS {
            for (levels, width) in [0, 8, 17, 17, 20, 20, 20, 20].into_iter().enumerate() {
                let capabilities = register(0x7 << 38, (levels as u64) << 38, others);
                assert_eq!(riscv_width(capabilities).bits(), width, "{capabilities:#x}");
            }
        }
    }

    #[test]
    fn iommufd_and_firmware_state_their_bits() {
        for log2 in 0..=u8::MAX {
            assert_eq!(bits(iommufd_width(log2)), expected(log2.into()));
            assert_eq!(bits(firmware_width(log2.into())), expected(log2.into()));
        }
        for value in [256, 256 + 20, 1 << 31, u32::MAX] {
            assert_eq!(bits(firmware_width(value)), Err(value));
        }
    }
}
