// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handle: one allocation of one PASID, as one word.

use core::fmt;
use core::num::NonZeroU64;

use crate::error::{Error, Result};
use crate::pasid::Pasid;

/// One allocation of one PASID, as one 64-bit word.
///
/// ```text
///  63                              32 31         20 19                 0
/// +----------------------------------+-------------+--------------------+
/// |            generation            |     tag     |       PASID        |
/// +----------------------------------+-------------+--------------------+
/// ```
///
/// | bits | field | values |
/// | --- | --- | --- |
/// | 0..=19 | PASID | any |
/// | 20..=31 | tag of the space that made it | 1..=4095 |
/// | 32..=63 | generation of the PASID's slot | any; a slot that would wrap is retired |
///
/// A handle is a value and holds no reference: the PASID may be freed and
/// handed out again, and then the handle is *stale*, which every call that
/// takes one checks. The tag makes a handle of another space be noticed: for
/// certain while fewer than 4094 spaces came into use between the two, and beyond that
/// unless their generations happen to meet.
///
/// The tag is never 0, so a handle in raw form is never 0, and C may use 0 for
/// "none".
///
/// # Examples
/// ```
/// use pasid::{Error, Handle};
///
/// let handle = Handle::from_raw(5 << 32 | 1 << 20 | 7)?;
/// assert_eq!((handle.pasid().get(), handle.generation()), (7, 5));
/// assert_eq!(Handle::from_raw(0), Err(Error::InvalidHandle { raw: 0 }));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u64", into = "u64"))]
#[repr(transparent)]
pub struct Handle(NonZeroU64);

const TAG_SHIFT: u32 = 20;
const TAG_BITS: u32 = 12;
const TAG_MASK: u16 = (1 << TAG_BITS) - 1;
const GENERATION_SHIFT: u32 = TAG_SHIFT + TAG_BITS;

const _: () = assert!(Pasid::MAX.get() == (1 << TAG_SHIFT) - 1);
const _: () = assert!(GENERATION_SHIFT + u32::BITS == u64::BITS);
// An `Option<Handle>` costs nothing.
const _: () = assert!(size_of::<Option<Handle>>() == size_of::<u64>());

impl Handle {
    /// The handle with this raw form.
    ///
    /// # Errors
    /// [`Error::InvalidHandle`] if the word cannot be a handle, because its tag
    /// is 0. Whether it is still good is for the call that uses it to say.
    ///
    /// ```
    /// use pasid::Handle;
    ///
    /// assert!(Handle::from_raw(7).is_err());
    /// assert!(Handle::from_raw(u64::MAX).is_ok());
    /// ```
    #[inline]
    pub const fn from_raw(raw: u64) -> Result<Handle> {
        match NonZeroU64::new(raw) {
            Some(word) if tag_of(raw) != 0 => Ok(Handle(word)),
            _ => Err(Error::InvalidHandle { raw }),
        }
    }

    /// The raw form, which is never 0.
    ///
    /// ```
    /// use pasid::Handle;
    ///
    /// let handle = Handle::from_raw(0x5_0010_0007)?;
    /// assert_eq!(handle.to_raw(), 0x5_0010_0007);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn to_raw(self) -> u64 {
        self.0.get()
    }

    /// The PASID, which is what hardware is given.
    ///
    /// ```
    /// use pasid::Handle;
    ///
    /// assert_eq!(Handle::from_raw(0x5_0010_0007)?.pasid().get(), 7);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn pasid(self) -> Pasid {
        Pasid::from_index(self.to_raw() as u32)
    }

    /// The generation, which tells the owners of one PASID apart.
    ///
    /// ```
    /// use pasid::Handle;
    ///
    /// assert_eq!(Handle::from_raw(0x5_0010_0007)?.generation(), 5);
    /// # Ok::<(), pasid::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.to_raw() >> GENERATION_SHIFT) as u32
    }

    /// Packs a handle; `tag` is in `1..=4095`.
    #[inline]
    pub(crate) const fn new(pasid: Pasid, tag: u16, generation: u32) -> Handle {
        debug_assert!(Handle::is_tag(tag));
        let raw = pasid.get() as u64
            | ((tag & TAG_MASK) as u64) << TAG_SHIFT
            | (generation as u64) << GENERATION_SHIFT;
        match NonZeroU64::new(raw) {
            Some(word) => Handle(word),
            // Excluded by the tag; a tag of its own keeps the call total.
            None => Handle(NonZeroU64::MIN),
        }
    }

    /// Whether a space can have that tag.
    pub(crate) const fn is_tag(tag: u16) -> bool {
        tag != 0 && tag <= TAG_MASK
    }

    /// The tag of the space that made the handle.
    #[inline]
    pub(crate) const fn tag(self) -> u16 {
        tag_of(self.to_raw())
    }
}

const fn tag_of(raw: u64) -> u16 {
    (raw >> TAG_SHIFT) as u16 & TAG_MASK
}

impl fmt::Display for Handle {
    /// `PASID.generation@tag`, all decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}@{}",
            self.pasid(),
            self.generation(),
            tag_of(self.to_raw())
        )
    }
}

impl TryFrom<u64> for Handle {
    type Error = Error;

    #[inline]
    fn try_from(raw: u64) -> Result<Handle> {
        Handle::from_raw(raw)
    }
}

impl From<Handle> for u64 {
    #[inline]
    fn from(handle: Handle) -> u64 {
        handle.to_raw()
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
    fn handle_packs_all_fields() {
        for number in [0, 1, 0x5_5555, 0xf_ffff] {
            for tag in [1, 2, 0x555, 4095] {
                for generation in [0, 1, 0x8000_0000, u32::MAX] {
                    let handle = Handle::new(pasid(number), tag, generation);
                    assert_eq!(handle.pasid(), pasid(number));
                    assert_eq!(handle.tag(), tag);
                    assert_eq!(handle.generation(), generation);
                    assert_eq!(Handle::from_raw(handle.to_raw()), Ok(handle));
                    assert_eq!(u64::from(handle), handle.to_raw());
                }
            }
        }
    }

    #[test]
    fn a_word_without_a_tag_is_no_handle() {
        for raw in [
            0,
            1,
            0xf_ffff,
            1 << 32,
            u64::from(u32::MAX) << 32 | 0xf_ffff,
        ] {
            assert_eq!(Handle::from_raw(raw), Err(Error::InvalidHandle { raw }));
            assert_eq!(Handle::try_from(raw), Err(Error::InvalidHandle { raw }));
        }
        assert!(Handle::from_raw(1 << 20).is_ok());
        assert!(Handle::from_raw(1 << 31).is_ok());
    }

    #[test]
    fn display_names_all_fields() {
        assert_eq!(Handle::new(pasid(7), 3, 5).to_string(), "7.5@3");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn deserializing_checks_the_tag() {
        use serde::Deserialize;
        use serde::de::IntoDeserializer;
        use serde::de::value::{Error, U64Deserializer};

        for raw in [0, 7, 1 << 20, u64::MAX] {
            let word: U64Deserializer<Error> = raw.into_deserializer();
            assert_eq!(
                Handle::deserialize(word).ok(),
                Handle::from_raw(raw).ok(),
                "{raw:#x}"
            );
        }
    }
}
