// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the output of `lspci`: text, rows of bytes, or both.
//!
//! ```text
//! 6a:01.0 Class 0880: Device 8086:0b25          a device starts at the margin
//!         IOMMU group: 38                       its text is indented
//!         Capabilities: [230 v1] Process Address Space ID (PASID)
//!                 PASIDCap: Exec- Priv+, Max PASID Width: 14     hexadecimal!
//!                 PASIDCtl: Enable+ Exec- Priv+
//! 00: 86 80 25 0b ...                           rows of 16 bytes follow
//! ```
//!
//! Where a device has bytes they are what counts, because they are what the
//! device said. Its text is asked only where the bytes end too early.
//!
//! A dump that was cut off must not look like a machine without PASIDs. So the
//! bytes must have a length that `lspci` writes, either all devices have bytes
//! or none has, and the text of the last device must have an end.

mod text;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::{Device, Machine, MachineError, Pasids, Problem, Unreadable, ids_of};
use text::Text;

/// The lengths of a configuration space in a dump: what is shown to all, and
/// to all of a CardBus bridge, the conventional part, and everything.
const LENGTHS: [usize; 4] = [64, 128, 256, 4096];

/// A full dump of four thousand devices is shorter.
const FILE_LEN_LIMIT: u64 = 64 << 20;

/// Reads a file with the output of `lspci`.
///
/// # Errors
/// [`MachineError`] if the file cannot be read, or is not a complete dump, or
/// a device in it is broken.
pub fn read(path: &Path) -> Result<Machine, MachineError> {
    let devices = contents(path)
        .and_then(|text| parse(&text))
        .map_err(|problem| problem.at(path))?;
    Ok(Machine {
        origin: path.display().to_string(),
        devices,
    })
}

fn contents(path: &Path) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(FILE_LEN_LIMIT + 1).read_to_end(&mut bytes))
        .map_err(|error| match error.kind() {
            ErrorKind::IsADirectory => Problem::Directory,
            _ => Problem::Io(error),
        })?;
    if read as u64 > FILE_LEN_LIMIT {
        return Err(Problem::TooLong(FILE_LEN_LIMIT));
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.contains('\0') => Err(Problem::NotText),
        Ok(text) if text.trim().is_empty() => Err(Problem::Empty),
        Ok(text) => Ok(text),
        Err(_) => Err(Problem::NotText),
    }
}

/// A device's part of a dump.
struct Block<'a> {
    address: &'a str,
    ids: Option<(u16, u16)>,
    text: Text,
    bytes: Vec<u8>,
}

fn parse(dump: &str) -> Result<Vec<Device>, Problem> {
    let blocks = blocks(dump)?;
    let with_bytes = blocks.iter().any(|block| !block.bytes.is_empty());
    let last = blocks.len().saturating_sub(1);
    blocks
        .into_iter()
        .enumerate()
        .map(|(index, block)| block.into_device(with_bytes, index == last))
        .collect()
}

fn blocks(dump: &str) -> Result<Vec<Block<'_>>, Problem> {
    let mut blocks: Vec<Block> = Vec::new();
    for (index, line) in dump.lines().enumerate() {
        let number = index + 1;
        if let Some(header) = Header::parse(line) {
            let Header { address, ids } = header;
            blocks.push(Block {
                address,
                ids,
                text: Text::default(),
                bytes: Vec::new(),
            });
            continue;
        }
        let block = blocks.last_mut();
        match (block, line.trim()) {
            // Blanks alone are what is left of a line that was cut off.
            (Some(block), "") if line.is_empty() => block.text.end(),
            (_, "") => {}
            (None, _) => return Err(Problem::Noise { line: number }),
            (Some(block), trimmed) if line.starts_with([' ', '\t']) => {
                block.text.add(trimmed, number)?;
            }
            (Some(block), trimmed) => block.add_row(trimmed, number)?,
        }
    }
    Ok(blocks)
}

/// The first line of a device.
struct Header<'a> {
    address: &'a str,
    ids: Option<(u16, u16)>,
}

impl<'a> Header<'a> {
    fn parse(line: &'a str) -> Option<Header<'a>> {
        let (address, rest) = line.split_once(' ')?;
        is_address(address).then(|| Header {
            address,
            // The device's own are the last, after a class or a name.
            ids: rest
                .split(|c: char| " []()".contains(c))
                .filter_map(parse_ids)
                .next_back(),
        })
    }
}

/// Whether this is `[domain:]bus:device.function`.
pub fn is_address(word: &str) -> bool {
    let hex = |part: &str, digits| {
        part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let Some((bus, (device, function))) = word
        .rsplit_once(':')
        .and_then(|(bus, slot)| Some((bus, slot.split_once('.')?)))
    else {
        return false;
    };
    let bus_is_good = match bus.split_once(':') {
        // Linux numbers further domains from 10000 on.
        Some((domain, bus)) => (hex(domain, 4) || hex(domain, 5)) && hex(bus, 2),
        None => hex(bus, 2),
    };
    bus_is_good && hex(device, 2) && hex(function, 1)
}

fn parse_ids(word: &str) -> Option<(u16, u16)> {
    let (vendor, device) = word.split_once(':')?;
    if vendor.len() != 4 || device.len() != 4 {
        return None;
    }
    Some((
        u16::from_str_radix(vendor, 16).ok()?,
        u16::from_str_radix(device, 16).ok()?,
    ))
}

impl Block<'_> {
    /// Takes a row of bytes, which has to be the next one.
    fn add_row(&mut self, row: &str, line: usize) -> Result<(), Problem> {
        let Some((offset, bytes)) = row.split_once(':') else {
            return Err(Problem::Noise { line });
        };
        let Some(offset) = parse_hex(offset) else {
            return Err(Problem::Noise { line });
        };
        let bytes: Option<Vec<u8>> = bytes
            .split_whitespace()
            .map(|byte| {
                (byte.len() == 2)
                    .then(|| u8::from_str_radix(byte, 16).ok())
                    .flatten()
            })
            .collect();
        match bytes {
            Some(bytes) if bytes.len() == 16 && offset == self.bytes.len() => {
                self.bytes.extend(bytes);
                Ok(())
            }
            _ => Err(Problem::Row { line }),
        }
    }

    fn into_device(self, with_bytes: bool, last: bool) -> Result<Device, Problem> {
        let address = self.address.to_owned();
        let len = self.bytes.len();
        let pasids = if !with_bytes {
            self.text.pasids(&address, last)?
        } else if len == 0 {
            return Err(Problem::NoBytes { address });
        } else if !LENGTHS.contains(&len) {
            return Err(Problem::BytesCutOff { address, len });
        } else {
            match Pasids::of_config(&self.bytes) {
                // Bytes that say nothing leave it to the text.
                Ok(Pasids::Unreadable(why @ Unreadable::Denied)) => self
                    .text
                    .capability(&address)?
                    .unwrap_or(Pasids::Unreadable(match len {
                        256 => Unreadable::NotDumped,
                        _ => why,
                    })),
                Ok(pasids) => pasids,
                Err(error) => return Err(Problem::Device { address, error }),
            }
        };
        let ids = ids_of(&self.bytes).or(self.ids);
        Ok(Device {
            address,
            ids,
            group: self.text.group(),
            pasids,
        })
    }
}

fn parse_hex(digits: &str) -> Option<usize> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (plain && (2..=3).contains(&digits.len()))
        .then(|| usize::from_str_radix(digits, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasid::PasidWidth;
    use std::fmt::Write;

    const TEXT: &str = "\
6a:01.0 System peripheral: Example Corp. Accelerator [8086:0b25] (rev 01)
\tControl: I/O- Mem+ BusMaster+
\tIOMMU group: 38
\tCapabilities: [40] Express (v2) Root Complex Integrated Endpoint, MSI 00
\tCapabilities: [230 v1] Process Address Space ID (PASID)
\t\tPASIDCap: Exec- Priv+, Max PASID Width: 14
\t\tPASIDCtl: Enable+ Exec- Priv+
\tKernel driver in use: idxd
";

    fn rows(config: &[u8]) -> String {
        let mut rows = String::new();
        for (index, row) in config.chunks(16).enumerate() {
            write!(rows, "{:02x}:", index * 16).unwrap();
            for byte in row {
                write!(rows, " {byte:02x}").unwrap();
            }
            rows.push('\n');
        }
        rows
    }

    /// The configuration space of the device in `TEXT`.
    fn config() -> Vec<u8> {
        let mut config = vec![0; 4096];
        for (offset, word) in [
            (0x00, 0x0b25_8086_u32),
            (0x04, 0x0010_0000),
            (0x34, 0x40),
            (0x40, 0x10),
            (0x100, 0x2302_0001),
            (0x230, 0x0001_001b),
            (0x234, 0x0005_1404),
        ] {
            config[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
        }
        config
    }

    fn width(device: &Device) -> Option<u8> {
        device.pasids.width().map(PasidWidth::bits)
    }

    #[test]
    fn addresses_have_a_form() {
        for good in ["00:1f.7", "ff:00.0", "0000:6a:01.0", "10000:e1:00.0"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            ":",
            "00:",
            "00:01",
            "00:01.",
            "0:01.0",
            "00:01.00",
            "+0:01.0",
            "a:00:01.0",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn ids_are_the_last_pair_of_the_header() {
        for (header, ids) in [
            ("00:02.0 0300: 1002:67ef (rev cf)", Some((0x1002, 0x67ef))),
            (
                "00:02.0 VGA [0300]: Some [Name 12] [1002:67ef] (rev cf)",
                Some((0x1002, 0x67ef)),
            ),
            (
                "00:02.0 Class 0880: Device 8086:0b25",
                Some((0x8086, 0x0b25)),
            ),
            ("00:02.0 VGA compatible controller: Some [Name]", None),
        ] {
            assert_eq!(Header::parse(header).unwrap().ids, ids, "{header}");
        }
    }

    #[test]
    fn no_beginning_of_a_dump_is_taken_for_a_machine_without_pasids() {
        let full = format!("{TEXT}{}\n", rows(&config()));
        assert_eq!(width(&parse(&full).unwrap()[0]), Some(20));
        let (header, _) = TEXT.split_once('\n').unwrap();
        let bytes_only = format!("{header}\n{}", rows(&config()));
        for dump in [full, bytes_only] {
            // All places in the text, and all kinds of places in the rows.
            for cut in (1..500).chain((500..dump.len()).step_by(17)) {
                let Ok(devices) = parse(&dump[..cut]) else {
                    continue;
                };
                let [device] = devices.as_slice() else {
                    panic!("{cut}: {devices:?}")
                };
                match device.pasids {
                    Pasids::None => panic!("{cut}"),
                    Pasids::Unreadable(_) => {}
                    Pasids::Capable { .. } => assert_eq!(width(device), Some(20), "{cut}"),
                }
            }
        }
    }

    #[test]
    fn a_dump_that_ends_between_two_lengths_is_refused() {
        let rows = rows(&config());
        for (number, (end, _)) in rows.match_indices('\n').enumerate() {
            let len = (number + 1) * 16;
            let parsed = parse(&format!("{TEXT}{}", &rows[..=end]));
            assert_eq!(
                parsed.is_ok(),
                LENGTHS.contains(&len),
                "{len} bytes: {parsed:?}"
            );
        }
    }
}
