// SPDX-License-Identifier: MIT OR Apache-2.0
//! A PCI configuration space as bytes, and the walk of its capability lists.
//!
//! Source: PCI Express Base Specification, "PCI Express Extended Capabilities
//! in the PCI Express Extended Configuration Space"; PCI Local Bus
//! Specification, "Capabilities List".
//!
//! The bytes are read with a check each, and a list is left at the first entry
//! that was met before, so that no content leads to a panic or a long walk.

use crate::error::{Error, Result};

/// Where the extended space starts, and with it the list.
pub(super) const FIRST: u16 = 0x100;
/// The length of a configuration space with its extended part.
pub(super) const END: u16 = 0x1000;

const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u8 = 1 << 4;
const CAPABILITIES_POINTER: usize = 0x34;
/// The first byte that a capability of the conventional list may have.
const HEADER_END: u8 = 0x40;
/// The ID of the PCI Express capability in the conventional list.
const PCI_EXPRESS: u8 = 0x10;

/// An entry of the list of extended capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: u16,
    pub(super) version: u8,
    pub(super) offset: u16,
}

/// The header of an extended capability.
pub(super) const fn header(id: u16, version: u8, next: u16) -> u32 {
    id as u32 | (version as u32 & 0xf) << 16 | (next as u32 & 0xffc) << 20
}

/// The 32-bit little-endian word at `offset`.
///
/// # Errors
/// [`Error::ConfigSpaceTruncated`] if `config` ends before its last byte.
pub(super) fn read_u32(config: &[u8], offset: u16) -> Result<u32> {
    match config
        .get(usize::from(offset)..)
        .and_then(<[u8]>::first_chunk)
    {
        Some(bytes) => Ok(u32::from_le_bytes(*bytes)),
        None => Err(Error::ConfigSpaceTruncated { len: config.len() }),
    }
}

/// Writes a 32-bit little-endian word at `offset`.
///
/// # Errors
/// Those of [`read_u32`].
pub(super) fn write_u32(config: &mut [u8], offset: u16, word: u32) -> Result<()> {
    write(config, offset, &word.to_le_bytes())
}

/// Writes bytes at `offset`.
///
/// # Errors
/// Those of [`read_u32`].
pub(super) fn write<const N: usize>(config: &mut [u8], offset: u16, bytes: &[u8; N]) -> Result<()> {
    let len = config.len();
    match config
        .get_mut(usize::from(offset)..)
        .and_then(<[u8]>::first_chunk_mut)
    {
        Some(place) => {
            *place = *bytes;
            Ok(())
        }
        None => Err(Error::ConfigSpaceTruncated { len }),
    }
}

/// Whether the function has an extended space, of which the first word can be
/// read.
///
/// # Errors
/// [`Error::DeviceGone`] if not even the vendor ID can be read,
/// [`Error::ConfigSpaceTruncated`] if there is an extended space, or may be
/// one, and it cannot be read.
pub(super) fn has_extended_space(config: &[u8]) -> Result<bool> {
    let ids = read_u32(config, 0)?;
    // 0xffff is no vendor; it is what the host gets where nobody answers.
    if ids as u16 == u16::MAX {
        return Err(Error::DeviceGone);
    }
    match read_u32(config, FIRST) {
        Ok(u32::MAX) if is_conventional(config) => Ok(false),
        Ok(u32::MAX) => Err(Error::ConfigSpaceTruncated { len: FIRST.into() }),
        Ok(_) => Ok(true),
        Err(_) if is_conventional(config) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the conventional space was read in full and shows no PCI Express
/// capability. A list that cannot be walked shows nothing.
fn is_conventional(config: &[u8]) -> bool {
    let Some(space) = config.first_chunk::<256>() else {
        return false;
    };
    let byte = |offset: u8| space.get(usize::from(offset)).copied().unwrap_or(0);
    if space[STATUS] & STATUS_CAPABILITIES == 0 {
        return true;
    }
    let mut at = space[CAPABILITIES_POINTER] & 0xfc;
    // 48 entries of 4 bytes fill the space; a longer walk is a loop.
    for _ in 0..48 {
        match at {
            0 => return true,
            1..HEADER_END => return false,
            _ if byte(at) == PCI_EXPRESS => return false,
            _ => at = byte(at | 1) & 0xfc,
        }
    }
    false
}

/// The entries of the list of extended capabilities, in the list's order.
///
/// Ends after the first error.
pub(super) struct ExtendedCapabilities<'a> {
    config: &'a [u8],
    /// The offset of the next entry; 0 at the end.
    next: u16,
    /// One bit for each place at which an entry was met.
    met: [u64; 15],
}

impl<'a> ExtendedCapabilities<'a> {
    pub(super) fn new(config: &'a [u8]) -> ExtendedCapabilities<'a> {
        ExtendedCapabilities {
            config,
            next: FIRST,
            met: [0; 15],
        }
    }

    /// Notes that there is an entry at `offset`; false if that was known.
    fn meet(&mut self, offset: u16) -> bool {
        let place = usize::from(offset.wrapping_sub(FIRST) / 4);
        let bit = 1 << (place % 64);
        match self.met.get_mut(place / 64) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    fn entry(&mut self, offset: u16) -> Result<Option<Entry>> {
        if offset < FIRST {
            return Err(Error::CapabilityListBroken { offset });
        }
        if !self.meet(offset) {
            return Err(Error::CapabilityListLoop { offset });
        }
        let header = read_u32(self.config, offset)?;
        if header == u32::MAX {
            return Err(Error::DeviceGone);
        }
        // How an empty list looks.
        if header == 0 && offset == FIRST {
            return Ok(None);
        }
        self.next = (header >> 20) as u16 & 0xffc;
        Ok(Some(Entry {
            id: header as u16,
            version: (header >> 16) as u8 & 0xf,
            offset,
        }))
    }
}

impl Iterator for ExtendedCapabilities<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        let offset = core::mem::take(&mut self.next);
        if offset == 0 {
            None
        } else {
            self.entry(offset).transpose()
        }
    }
}

const _: () = assert!((END - FIRST) as u32 / 4 == 15 * u64::BITS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PasidStructure;
    use std::vec::Vec;

    /// Words of a configuration space, by their offsets.
    type Words<'a> = &'a [(u16, u32)];

    const SERIAL_NUMBER: u16 = 0x0003;
    const PASID: u16 = 0x001b;

    /// A function with a PCI Express capability and the given words.
    fn config(words: Words) -> Vec<u8> {
        let mut config = std::vec![0; END.into()];
        for (offset, word) in [
            (0x00, 0x0b25_8086),
            (0x04, 1 << 20),
            (0x34, 0x40),
            (0x40, 0x10),
        ] {
            write_u32(&mut config, offset, word).unwrap();
        }
        for &(offset, word) in words {
            write_u32(&mut config, offset, word).unwrap();
        }
        config
    }

    fn entry(id: u16, next: u16) -> u32 {
        header(id, 1, next)
    }

    fn offset_of_pasid(config: &[u8]) -> Result<Option<u16>> {
        Ok(PasidStructure::find_in(config)?.map(|found| found.offset))
    }

    #[test]
    fn the_list_is_followed_to_the_capability() {
        let cases: [(&str, Words, Result<Option<u16>>); 12] = [
            ("empty list", &[], Ok(None)),
            (
                "first entry",
                &[(0x100, entry(PASID, 0)), (0x104, 0x1400)],
                Ok(Some(0x100)),
            ),
            (
                "third entry, behind one that lies above it",
                &[
                    (0x100, entry(SERIAL_NUMBER, 0x400)),
                    (0x400, entry(0x0f, 0x230)),
                    (0x230, entry(PASID, 0x240)),
                    (0x234, 0x0005_1404),
                ],
                Ok(Some(0x230)),
            ),
            (
                "list without it",
                &[(0x100, entry(3, 0x200)), (0x200, entry(0x0f, 0))],
                Ok(None),
            ),
            (
                "null capability first",
                &[(0x100, header(0, 0, 0x300)), (0x300, entry(PASID, 0))],
                Ok(Some(0x300)),
            ),
            (
                "reserved low bits of the pointer",
                &[(0x100, entry(3, 0x300) | 3 << 20), (0x300, entry(PASID, 0))],
                Ok(Some(0x300)),
            ),
            (
                "a loop of one",
                &[(0x100, entry(3, 0x100))],
                Err(loops(0x100)),
            ),
            (
                "a loop of two behind the first",
                &[
                    (0x100, entry(3, 0x200)),
                    (0x200, entry(0x0f, 0x300)),
                    (0x300, entry(0x0d, 0x200)),
                ],
                Err(loops(0x200)),
            ),
            (
                "pointer below 0x100",
                &[(0x100, entry(3, 0x40))],
                Err(broken(0x40)),
            ),
            (
                "structure over the end",
                &[(0x100, entry(3, 0xffc)), (0xffc, entry(PASID, 0))],
                Err(broken(0xffc)),
            ),
            (
                "gone in the list",
                &[(0x100, entry(3, 0x200)), (0x200, !0)],
                Err(Error::DeviceGone),
            ),
            (
                "gone in the structure",
                &[(0x100, entry(PASID, 0)), (0x104, !0)],
                Err(Error::DeviceGone),
            ),
        ];
        for (name, words, expected) in cases {
            assert_eq!(offset_of_pasid(&config(words)), expected, "{name}");
        }
    }

    fn loops(offset: u16) -> Error {
        Error::CapabilityListLoop { offset }
    }

    fn broken(offset: u16) -> Error {
        Error::CapabilityListBroken { offset }
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_missing() {
        let full = config(&[
            (0x100, entry(3, 0x230)),
            (0x230, entry(PASID, 0)),
            (0x234, 0x1404),
        ]);
        for len in 0..full.len() {
            let expected = if len < 0x238 {
                Err(Error::ConfigSpaceTruncated { len })
            } else {
                Ok(Some(0x230))
            };
            assert_eq!(offset_of_pasid(&full[..len]), expected, "{len} bytes");
        }
        // Nothing is proven by 64 bytes, not even with an empty list.
        let empty = config(&[]);
        assert_eq!(
            offset_of_pasid(&empty[..64]),
            Err(Error::ConfigSpaceTruncated { len: 64 })
        );
    }

    #[test]
    fn a_device_that_is_gone_reads_as_ones() {
        for len in [4, 64, 256, 4096] {
            assert_eq!(
                offset_of_pasid(&std::vec![0xff; len]),
                Err(Error::DeviceGone),
                "{len}"
            );
        }
    }

    #[test]
    fn an_extended_space_of_ones_is_out_of_reach() {
        let unreachable = config(&[(0x100, !0)]);
        assert_eq!(
            offset_of_pasid(&unreachable),
            Err(Error::ConfigSpaceTruncated { len: 256 })
        );
    }

    #[test]
    fn a_conventional_device_has_none() {
        let cases: [(&str, Words, bool); 5] = [
            ("no list", &[(0x04, 0)], true),
            (
                "a list without PCI Express",
                &[(0x40, 0x5001), (0x50, 0x05)],
                true,
            ),
            (
                "PCI Express at its end",
                &[(0x40, 0x5001), (0x50, 0x10)],
                false,
            ),
            ("a loop", &[(0x40, 0x5001), (0x50, 0x4005)], false),
            ("a pointer into the header", &[(0x40, 0x2001)], false),
        ];
        for (name, words, conventional) in cases {
            let config = config(words);
            let expected = if conventional {
                Ok(None)
            } else {
                Err(Error::ConfigSpaceTruncated { len: 256 })
            };
            assert_eq!(offset_of_pasid(&config[..256]), expected, "{name}");
        }
    }

    #[test]
    fn a_full_list_is_walked_once() {
        let mut words: Vec<(u16, u32)> = (FIRST..END)
            .step_by(4)
            .map(|offset| (offset, entry(SERIAL_NUMBER, (offset + 4) & 0xfff)))
            .collect();
        assert_eq!(words.len(), 960);
        assert_eq!(ExtendedCapabilities::new(&config(&words)).count(), 960);
        assert_eq!(offset_of_pasid(&config(&words)), Ok(None));
        if let Some(last) = words.last_mut() {
            last.1 = entry(SERIAL_NUMBER, FIRST);
        }
        assert_eq!(offset_of_pasid(&config(&words)), Err(loops(FIRST)));
    }

    /// Random bytes, and random lists of plausible headers, cut at random.
    #[test]
    fn noise_neither_panics_nor_loops() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut answers = [0_u32; 3];
        for round in 0..3_000_u32 {
            let mut config = config(&[]);
            for offset in (FIRST..END).step_by(4) {
                let noise = random();
                let word = if round % 2 == 0 {
                    noise as u32
                } else {
                    header((noise % 0x40) as u16, 1, (noise >> 8) as u16 | 0x100)
                };
                write_u32(&mut config, offset, word).unwrap();
            }
            let len = if round % 3 == 0 {
                random() as usize % 4097
            } else {
                4096
            };
            assert!(ExtendedCapabilities::new(&config[..len]).count() <= 960);
            match PasidStructure::find_in(&config[..len]) {
                Ok(Some(found)) => {
                    assert!(found.offset >= FIRST && found.offset < END);
                    answers[0] += 1;
                }
                Ok(None) => answers[1] += 1,
                Err(_) => answers[2] += 1,
            }
        }
        // The noise reaches the capability as well as the errors.
        assert!(answers[0] > 100 && answers[2] > 100, "{answers:?}");
    }
}
