// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vocabulary: a PASID and a width.
//!
//! Width, last value and count are three things and never one integer:
//!
//! | term | meaning | for 20 bits |
//! | --- | --- | --- |
//! | width | number of PASID bits | 20 |
//! | last | largest value, inclusive: 2^width - 1 | 1,048,575 |
//! | count | number of values: 2^width | 1,048,576 |
//!
//! Both types are plain values. Every function here is wait-free and may
//! be called from any context.

use core::fmt;

use crate::error::{Error, Result};
use crate::range::PasidRange;

/// Most bits that a PASID has in any specification.
const BITS: u32 = 20;
const MASK: u32 = (1 << BITS) - 1;

/// A Process Address Space ID: a number of at most 20 bits that names an
/// address space in front of an IOMMU.
///
/// The limit is that of the PASID TLP prefix (PCI Express Base Specification,
/// end-to-end TLP prefixes), which SMMUv3 (SubstreamID), VT-d, AMD-Vi and
/// RISC-V share.
///
/// # Examples
/// ```
/// use pasid::{Error, Pasid};
///
/// let pasid = Pasid::new(42)?;
/// assert_eq!(pasid.get(), 42);
/// assert_eq!(pasid.to_string(), "42");
/// assert_eq!(Pasid::new(1 << 20), Err(Error::InvalidPasid { value: 1 << 20 }));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u32", into = "u32"))]
#[repr(transparent)]
#[doc(alias = "ioasid_t")]
pub struct Pasid(u32);

impl Pasid {
    /// PASID 0, which Linux gives to DMA without a PASID.
    ///
    /// ```
    /// assert_eq!(pasid::Pasid::ZERO.get(), 0);
    /// ```
    pub const ZERO: Pasid = Pasid(0);

    /// The largest PASID of the widest space: 2^20 - 1.
    ///
    /// ```
    /// assert_eq!(pasid::Pasid::MAX.get(), 0xf_ffff);
    /// ```
    pub const MAX: Pasid = Pasid(MASK);

    /// Makes a PASID of a number in `0..=2^20 - 1`.
    ///
    /// # Errors
    /// [`Error::InvalidPasid`] if `value` needs more than 20 bits.
    ///
    /// ```
    /// assert_eq!(pasid::Pasid::new(7)?.get(), 7);
    /// assert!(pasid::Pasid::new(u32::MAX).is_err());
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    pub const fn new(value: u32) -> Result<Pasid> {
        if value > MASK {
            Err(Error::InvalidPasid { value })
        } else {
            Ok(Pasid(value))
        }
    }

    /// The PASID with this number, which 16 bits cannot make too wide: for the
    /// small fixed values of reservations, in constants.
    ///
    /// ```
    /// use pasid::Pasid;
    ///
    /// const DMA: Pasid = Pasid::from_u16(1);
    /// assert_eq!(DMA.get(), 1);
    /// ```
    #[inline]
    #[must_use]
    pub const fn from_u16(value: u16) -> Pasid {
        Pasid(value as u32)
    }

    /// The number, in `0..=2^20 - 1`.
    ///
    /// ```
    /// assert_eq!(pasid::Pasid::MAX.get(), (1 << 20) - 1);
    /// ```
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        // The mask changes nothing; it tells the compiler the bound, so that
        // an index made of a PASID needs no check.
        self.0 & MASK
    }

    /// Whether a table of this width has an entry for the PASID.
    ///
    /// Nothing fits a width of 0, which means "no PASID support".
    ///
    /// ```
    /// use pasid::{Pasid, PasidWidth};
    ///
    /// let eight = PasidWidth::new(8)?;
    /// assert!(Pasid::new(255)?.fits(eight));
    /// assert!(!Pasid::new(256)?.fits(eight));
    /// assert!(!Pasid::ZERO.fits(PasidWidth::ZERO));
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn fits(self, width: PasidWidth) -> bool {
        width.bits() != 0 && self.0 <= width.last().0
    }

    /// The PASID in the low 20 bits of `index`; the others are dropped.
    #[inline]
    pub(crate) const fn from_index(index: u32) -> Pasid {
        Pasid(index & MASK)
    }
}

impl fmt::Display for Pasid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<u32> for Pasid {
    type Error = Error;

    #[inline]
    fn try_from(value: u32) -> Result<Pasid> {
        Pasid::new(value)
    }
}

impl From<Pasid> for u32 {
    #[inline]
    fn from(pasid: Pasid) -> u32 {
        pasid.get()
    }
}

/// The number of PASID bits of a table, a device, an IOMMU or a space:
/// `0..=20`.
///
/// Hardware that has no PASIDs is of width 0. That is not a space with the one
/// value 0, though [`last`](PasidWidth::last) and [`count`](PasidWidth::count)
/// say 0 and 1 as the formula does: ask [`Pasid::fits`].
///
/// # Examples
/// ```
/// use pasid::PasidWidth;
///
/// let width = PasidWidth::new(8)?;
/// assert_eq!((width.bits(), width.last().get(), width.count()), (8, 255, 256));
/// # Ok::<(), pasid::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u8", into = "u8"))]
#[repr(transparent)]
pub struct PasidWidth(u8);

impl PasidWidth {
    /// The widest there is: 20 bits.
    ///
    /// ```
    /// assert_eq!(pasid::PasidWidth::MAX.bits(), 20);
    /// ```
    pub const MAX: PasidWidth = PasidWidth(20);

    /// No PASID support.
    ///
    /// ```
    /// assert_eq!(pasid::PasidWidth::ZERO.bits(), 0);
    /// ```
    pub const ZERO: PasidWidth = PasidWidth(0);

    /// Makes a width of a number of bits in `0..=20`.
    ///
    /// # Errors
    /// [`Error::InvalidWidth`] if `bits` is above 20: it is never clamped.
    ///
    /// ```
    /// use pasid::{Error, PasidWidth};
    ///
    /// assert_eq!(PasidWidth::new(20), Ok(PasidWidth::MAX));
    /// assert_eq!(PasidWidth::new(31), Err(Error::InvalidWidth { bits: 31 }));
    /// ```
    #[inline]
    pub const fn new(bits: u8) -> Result<PasidWidth> {
        if bits as u32 > BITS {
            Err(Error::InvalidWidth { bits: bits as u32 })
        } else {
            Ok(PasidWidth(bits))
        }
    }

    /// The number of bits, in `0..=20`.
    ///
    /// ```
    /// assert_eq!(pasid::PasidWidth::MAX.bits(), 20);
    /// ```
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The largest PASID of this width, inclusive: 2^width - 1.
    ///
    /// ```
    /// assert_eq!(pasid::PasidWidth::new(16)?.last().get(), 65_535);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn last(self) -> Pasid {
        Pasid::from_index(self.count().wrapping_sub(1))
    }

    /// The number of values of this width: 2^width.
    ///
    /// ```
    /// assert_eq!(pasid::PasidWidth::MAX.count(), 1 << 20);
    /// ```
    #[inline]
    #[must_use]
    pub const fn count(self) -> u32 {
        1_u32.wrapping_shl(self.0 as u32)
    }

    /// All PASIDs of this width: `0..=last`.
    ///
    /// ```
    /// let range = pasid::PasidWidth::new(8)?.range();
    /// assert_eq!((range.first().get(), range.last().get()), (0, 255));
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn range(self) -> PasidRange {
        PasidRange::up_to(self.last())
    }

    /// The smaller of two widths, such as a device's and its IOMMU's.
    ///
    /// ```
    /// use pasid::PasidWidth;
    ///
    /// let device = PasidWidth::new(16)?;
    /// assert_eq!(device.narrower(PasidWidth::MAX), device);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn narrower(self, other: PasidWidth) -> PasidWidth {
        if self.0 <= other.0 { self } else { other }
    }
}

impl fmt::Display for PasidWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bits", self.0)
    }
}

impl TryFrom<u8> for PasidWidth {
    type Error = Error;

    #[inline]
    fn try_from(bits: u8) -> Result<PasidWidth> {
        PasidWidth::new(bits)
    }
}

impl From<PasidWidth> for u8 {
    #[inline]
    fn from(width: PasidWidth) -> u8 {
        width.bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn pasid(value: u32) -> Pasid {
        Pasid::new(value).unwrap()
    }

    #[test]
    fn pasid_takes_20_bits_and_no_more() {
        for value in [0, 1, 255, 256, 0xf_fffe, 0xf_ffff] {
            assert_eq!(Pasid::new(value).map(Pasid::get), Ok(value));
            assert_eq!(Pasid::try_from(value).map(u32::from), Ok(value));
        }
        for value in [1 << 20, (1 << 20) + 1, 1 << 31, u32::MAX] {
            assert_eq!(Pasid::new(value), Err(Error::InvalidPasid { value }));
        }
        assert_eq!(Pasid::from_index(u32::MAX), Pasid::MAX);
        assert_eq!(Pasid::from_index(1 << 20), Pasid::ZERO);
    }

    #[test]
    fn width_has_last_and_count() {
        for bits in 0..=20_u8 {
            let width = PasidWidth::new(bits).unwrap();
            let count = 2_u32.pow(bits.into());
            assert_eq!(u8::from(width), bits);
            assert_eq!(width.count(), count);
            assert_eq!(width.last(), pasid(count - 1));
            assert_eq!(width.range().count(), count);
            assert_eq!(width.last().fits(width), bits != 0);
            assert!(bits == 20 || !pasid(count).fits(width));
            assert_eq!(width.narrower(PasidWidth::MAX), width);
            assert_eq!(PasidWidth::MAX.narrower(width), width);
        }
        for bits in 21..=255_u8 {
            assert_eq!(
                PasidWidth::new(bits),
                Err(Error::InvalidWidth { bits: bits.into() })
            );
        }
    }

    #[test]
    fn nothing_fits_a_width_of_zero() {
        assert!(!Pasid::ZERO.fits(PasidWidth::ZERO));
        assert!(!pasid(1).fits(PasidWidth::ZERO));
        assert!(Pasid::MAX.fits(PasidWidth::MAX));
    }

    #[test]
    fn display_is_decimal() {
        assert_eq!(pasid(0x10).to_string(), "16");
        assert_eq!(PasidWidth::MAX.to_string(), "20 bits");
        assert_eq!(PasidWidth::MAX.range().to_string(), "0..=1048575");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn deserializing_checks_the_limits() {
        use serde::Deserialize;
        use serde::de::IntoDeserializer;
        use serde::de::value::{Error, U8Deserializer, U32Deserializer};

        for value in [0, 0xf_ffff, 1 << 20, u32::MAX] {
            let number: U32Deserializer<Error> = value.into_deserializer();
            assert_eq!(
                Pasid::deserialize(number).ok(),
                Pasid::new(value).ok(),
                "{value}"
            );
        }
        for bits in [0, 20, 21, 255] {
            let number: U8Deserializer<Error> = bits.into_deserializer();
            assert_eq!(
                PasidWidth::deserialize(number).ok(),
                PasidWidth::new(bits).ok(),
                "{bits}"
            );
        }
    }
}
