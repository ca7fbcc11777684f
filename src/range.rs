// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ranges of PASIDs, inclusive on both ends.

use core::fmt;
use core::ops::RangeInclusive;

use crate::error::{Error, Result};
use crate::pasid::Pasid;

/// A range of PASIDs, inclusive on both ends and never empty.
///
/// # Examples
/// ```
/// use pasid::{Error, Pasid, PasidRange};
///
/// let range = PasidRange::try_from(1..=255)?;
/// assert_eq!((range.first().get(), range.last().get(), range.count()), (1, 255, 255));
/// assert_eq!(range.to_string(), "1..=255");
///
/// let (first, last) = (Pasid::new(2)?, Pasid::new(1)?);
/// assert_eq!(PasidRange::new(first, last), Err(Error::InvalidRange { first, last }));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Ends", into = "Ends"))]
pub struct PasidRange {
    first: Pasid,
    last: Pasid,
}

impl PasidRange {
    /// The range `first..=last`.
    ///
    /// # Errors
    /// [`Error::InvalidRange`] if `first` is above `last`.
    ///
    /// ```
    /// use pasid::{Pasid, PasidRange};
    ///
    /// assert_eq!(PasidRange::new(Pasid::ZERO, Pasid::MAX)?.count(), 1 << 20);
    /// assert!(PasidRange::new(Pasid::MAX, Pasid::ZERO).is_err());
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    pub const fn new(first: Pasid, last: Pasid) -> Result<PasidRange> {
        if first.get() > last.get() {
            Err(Error::InvalidRange { first, last })
        } else {
            Ok(PasidRange { first, last })
        }
    }

    /// The range of one PASID.
    ///
    /// ```
    /// use pasid::{Pasid, PasidRange};
    ///
    /// assert_eq!(PasidRange::single(Pasid::MAX).count(), 1);
    /// ```
    #[inline]
    #[must_use]
    pub const fn single(pasid: Pasid) -> PasidRange {
        PasidRange {
            first: pasid,
            last: pasid,
        }
    }

    /// The same range with `pasid` too, if that comes right after its last.
    pub(crate) fn extended_to(self, pasid: Pasid) -> Option<PasidRange> {
        let follows = self.last().get().checked_add(1) == Some(pasid.get());
        follows.then_some(PasidRange {
            last: pasid,
            ..self
        })
    }

    /// The range `0..=last`.
    #[inline]
    pub(crate) const fn up_to(last: Pasid) -> PasidRange {
        PasidRange {
            first: Pasid::ZERO,
            last,
        }
    }

    /// The smallest PASID of the range.
    ///
    /// ```
    /// assert_eq!(pasid::PasidRange::try_from(3..=9)?.first().get(), 3);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn first(self) -> Pasid {
        self.first
    }

    /// The largest PASID of the range, inclusive.
    ///
    /// ```
    /// assert_eq!(pasid::PasidRange::try_from(3..=9)?.last().get(), 9);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn last(self) -> Pasid {
        self.last
    }

    /// The number of PASIDs in the range, `1..=2^20`.
    ///
    /// ```
    /// assert_eq!(pasid::PasidRange::try_from(3..=9)?.count(), 7);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn count(self) -> u32 {
        self.last
            .get()
            .wrapping_sub(self.first.get())
            .wrapping_add(1)
    }

    /// Whether the PASID lies in the range, ends included.
    ///
    /// ```
    /// use pasid::{Pasid, PasidRange};
    ///
    /// let range = PasidRange::try_from(3..=9)?;
    /// assert!(range.contains(Pasid::new(9)?));
    /// assert!(!range.contains(Pasid::new(10)?));
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn contains(self, pasid: Pasid) -> bool {
        self.first.get() <= pasid.get() && pasid.get() <= self.last.get()
    }

    /// What two ranges have in common, or nothing.
    ///
    /// ```
    /// use pasid::{PasidRange, PasidWidth};
    ///
    /// let range = PasidRange::try_from(100..=1000)?;
    /// let eight = PasidWidth::new(8)?.range();
    /// assert_eq!(range.intersect(eight), Some(PasidRange::try_from(100..=255)?));
    /// assert_eq!(eight.intersect(PasidRange::try_from(256..=300)?), None);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn intersect(self, other: PasidRange) -> Option<PasidRange> {
        let first = if self.first.get() >= other.first.get() {
            self.first
        } else {
            other.first
        };
        let last = if self.last.get() <= other.last.get() {
            self.last
        } else {
            other.last
        };
        if first.get() > last.get() {
            None
        } else {
            Some(PasidRange { first, last })
        }
    }
}

impl fmt::Display for PasidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}

impl From<Pasid> for PasidRange {
    #[inline]
    fn from(pasid: Pasid) -> PasidRange {
        PasidRange::single(pasid)
    }
}

impl TryFrom<RangeInclusive<u32>> for PasidRange {
    type Error = Error;

    /// # Errors
    /// [`Error::InvalidPasid`] if an end needs more than 20 bits,
    /// [`Error::InvalidRange`] if the range is empty.
    fn try_from(range: RangeInclusive<u32>) -> Result<PasidRange> {
        let first = Pasid::new(*range.start())?;
        let last = Pasid::new(*range.end())?;
        // A range that was iterated to its end is empty with first == last.
        if range.is_empty() {
            return Err(Error::InvalidRange { first, last });
        }
        Ok(PasidRange { first, last })
    }
}

/// What a range looks like when serialized.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename = "PasidRange", deny_unknown_fields)]
struct Ends {
    first: Pasid,
    last: Pasid,
}

#[cfg(feature = "serde")]
impl From<PasidRange> for Ends {
    fn from(range: PasidRange) -> Ends {
        Ends {
            first: range.first,
            last: range.last,
        }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Ends> for PasidRange {
    type Error = Error;

    fn try_from(ends: Ends) -> Result<PasidRange> {
        PasidRange::new(ends.first, ends.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pasid(value: u32) -> Pasid {
        Pasid::new(value).unwrap()
    }

    #[test]
    fn range_is_never_empty() {
        assert_eq!(
            PasidRange::new(pasid(4), pasid(4)).map(PasidRange::count),
            Ok(1)
        );
        let (first, last) = (pasid(5), pasid(4));
        assert_eq!(
            PasidRange::new(first, last),
            Err(Error::InvalidRange { first, last })
        );
        #[expect(clippy::reversed_empty_ranges, reason = "the error is what is tested")]
        let reversed = PasidRange::try_from(5..=4);
        assert_eq!(reversed, Err(Error::InvalidRange { first, last }));
        assert_eq!(
            PasidRange::try_from(0..=1 << 20),
            Err(Error::InvalidPasid { value: 1 << 20 })
        );
        let mut used_up = 3..=3;
        assert_eq!(used_up.next(), Some(3));
        assert!(PasidRange::try_from(used_up).is_err());
        assert_eq!(PasidRange::from(pasid(9)), PasidRange::single(pasid(9)));
    }

    #[test]
    fn ranges_contain_and_intersect_inclusively() {
        let range = |first, last| PasidRange::new(pasid(first), pasid(last)).unwrap();
        let middle = range(10, 20);
        for (value, inside) in [(9, false), (10, true), (15, true), (20, true), (21, false)] {
            assert_eq!(middle.contains(pasid(value)), inside, "{value}");
        }
        for (other, common) in [
            (range(0, 9), None),
            (range(0, 10), Some(range(10, 10))),
            (range(12, 13), Some(range(12, 13))),
            (range(0, 0xf_ffff), Some(middle)),
            (range(20, 30), Some(range(20, 20))),
            (range(21, 30), None),
        ] {
            assert_eq!(middle.intersect(other), common, "{other}");
            assert_eq!(other.intersect(middle), common, "{other}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn deserializing_checks_the_ends() {
        use serde::Deserialize;
        use serde::de::value::{Error, MapDeserializer};

        for (first, last) in [(0, 0), (3, 9), (0, 0xf_ffff), (9, 3), (0, 1 << 20)] {
            let ends = [("first", first), ("last", last)].into_iter();
            let map: MapDeserializer<_, Error> = MapDeserializer::new(ends);
            let range = PasidRange::deserialize(map).ok();
            assert_eq!(
                range,
                PasidRange::try_from(first..=last).ok(),
                "{first} {last}"
            );
        }
    }
}
