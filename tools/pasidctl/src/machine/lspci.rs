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
//! A dump that was cut off must not look like a machine without PASIDs, or with
//! fewer devices. So its last line must have an end, the bytes must have a length
//! that `lspci` writes, either all devices have bytes or none has, and the last
//! device must have its end: the empty line that `lspci` writes after each, or all
//! 4096 bytes. A dump that is cut there is what `lspci` writes on a machine that
//! has no further devices, so nothing can tell the two apart.

mod text;

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::{CONFIG_LEN, Device, Machine, MachineError, Pasids, Problem, Unreadable, ids_of};
use text::Text;

/// The lengths of a configuration space in a dump: what is shown to all, and
/// to all of a CardBus bridge, the conventional part, and everything.
const LENGTHS: [usize; 4] = [64, 128, 256, CONFIG_LEN];

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
    /// The last line was the empty one that ends a device.
    ended: bool,
}

fn parse(dump: &str) -> Result<Vec<Device>, Problem> {
    if !dump.ends_with('\n') {
        let line = dump.lines().count();
        return Err(Problem::LineCutOff { line });
    }
    let blocks = blocks(dump)?;
    refuse_twins(&blocks)?;
    let with_bytes = blocks.iter().any(|block| !block.bytes.is_empty());
    let last = blocks.len().saturating_sub(1);
    blocks
        .into_iter()
        .enumerate()
        .map(|(index, block)| block.into_device(with_bytes, index == last))
        .collect()
}

/// Two devices with one address are no machine.
fn refuse_twins(blocks: &[Block]) -> Result<(), Problem> {
    let mut seen = HashSet::with_capacity(blocks.len());
    for Block { address, .. } in blocks {
        // `lspci` leaves out the domain if there is no other.
        let place = address.strip_prefix("0000:").unwrap_or(address);
        if !seen.insert(place.to_ascii_lowercase()) {
            let address = (*address).to_owned();
            return Err(Problem::ListedTwice { address });
        }
    }
    Ok(())
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
                ended: false,
            });
            continue;
        }
        let block = blocks.last_mut();
        match (block, line.trim()) {
            // Blanks alone are what is left of a line that was cut off.
            (Some(block), "") if line.is_empty() => block.ended = true,
            (_, "") => {}
            (None, _) => return Err(Problem::Noise { line: number }),
            (Some(block), trimmed) if line.starts_with([' ', '\t']) => {
                block.ended = false;
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
                self.ended = false;
                Ok(())
            }
            _ => Err(Problem::Row { line }),
        }
    }

    fn into_device(self, with_bytes: bool, last: bool) -> Result<Device, Problem> {
        let address = self.address.to_owned();
        let len = self.bytes.len();
        let cut = last && !self.ended && len != CONFIG_LEN;
        let pasids = if !with_bytes {
            self.text.pasids(&address, cut)?
        } else if len == 0 {
            return Err(Problem::NoBytes { address });
        } else if !LENGTHS.contains(&len) {
            return Err(Problem::BytesCutOff { address, len });
        } else if cut {
            return Err(Problem::NoEnd { address });
        } else {
            match Pasids::of_config(&self.bytes) {
                // Bytes that say nothing leave it to the text.
                Ok(Pasids::Unreadable(why @ (Unreadable::Denied | Unreadable::Blocked))) => self
                    .text
                    .known(&address)?
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

    /// Another device, of 16 bits.
    const SECOND: &str = "\
e1:00.0 Ethernet controller: Example Corp. Adapter [1234:5678]
\tCapabilities: [40] Express (v2) Endpoint, MSI 00
\tCapabilities: [2d0 v1] Process Address Space ID (PASID)
\t\tPASIDCap: Exec+ Priv+, Max PASID Width: 10
\t\tPASIDCtl: Enable- Exec- Priv-
\tKernel driver in use: example
\tKernel modules: example
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
    fn no_beginning_of_a_dump_is_taken_for_the_machine() {
        let (first, _) = TEXT.split_once('\n').unwrap();
        let (second, _) = SECOND.split_once('\n').unwrap();
        let bytes = rows(&config());
        for (first, second, bytes) in [
            (TEXT, SECOND, ""),
            (TEXT, SECOND, &bytes),
            (&format!("{first}\n"), &format!("{second}\n"), &bytes),
        ] {
            let first = format!("{first}{bytes}\n");
            let dump = format!("{first}{second}{bytes}\n");
            assert_eq!(parse(&dump).unwrap().len(), 2);
            for cut in 0..dump.len() {
                // Of rows not every place.
                if cut > 600 && cut % 7 != 0 && !dump[..cut].ends_with('\n') {
                    continue;
                }
                // A device's end: the empty line, or the last row of all bytes.
                let ends = |len: usize| cut == len || !bytes.is_empty() && cut == len - 1;
                let parsed = parse(&dump[..cut]);
                let whole = match (ends(first.len()), ends(dump.len())) {
                    (false, false) => {
                        assert!(parsed.is_err(), "{cut}: {parsed:?}");
                        continue;
                    }
                    (true, _) => 1,
                    (_, true) => 2,
                };
                let devices = parsed.unwrap();
                assert_eq!(devices.len(), whole, "{cut}");
                assert_eq!(width(&devices[0]), Some(20), "{cut}");
            }
        }
    }

    #[test]
    fn a_text_beside_256_bytes_says_whether_there_is_a_capability() {
        let (head, _) = TEXT.split_once("\tCapabilities: [230").unwrap();
        let bytes = rows(&config()[..256]);
        let not_dumped = Pasids::Unreadable(Unreadable::NotDumped);
        for (line, expected) in [
            ("", not_dumped),
            ("Capabilities: [f8] Vendor Specific", not_dumped),
            (
                "Capabilities: [100 v1] Advanced Error Reporting",
                Pasids::None,
            ),
            ("Capabilities: [100] Null", Pasids::None),
            ("Capabilities: [200] <chain broken>", not_dumped),
            ("Capabilities: <access denied>", not_dumped),
        ] {
            let devices = parse(&format!("{head}\t{line}\n{bytes}\n")).unwrap();
            assert_eq!(devices[0].pasids, expected, "{line}");
        }
    }

    #[test]
    fn an_extended_space_of_ones_is_not_for_root_to_see_either() {
        let mut config = config();
        config[0x100..].fill(0xff);
        let (header, _) = TEXT.split_once('\n').unwrap();
        let devices = parse(&format!("{header}\n{}\n", rows(&config))).unwrap();
        assert_eq!(devices[0].pasids, Pasids::Unreadable(Unreadable::Blocked));
    }

    #[test]
    fn an_address_is_there_once() {
        for address in ["6a:01.0", "6A:01.0", "0000:6a:01.0"] {
            let again = TEXT.replace("6a:01.0", address);
            let problem = parse(&format!("{TEXT}\n{again}\n")).unwrap_err();
            assert!(matches!(problem, Problem::ListedTwice { .. }), "{problem}");
        }
        let other = TEXT.replace("6a:01.0", "0001:6a:01.0");
        assert_eq!(parse(&format!("{TEXT}\n{other}\n")).unwrap().len(), 2);
    }

    #[test]
    fn a_dump_that_ends_between_two_lengths_is_refused() {
        let rows = rows(&config());
        for (number, (end, _)) in rows.match_indices('\n').enumerate() {
            let len = (number + 1) * 16;
            let parsed = parse(&format!("{TEXT}{}\n", &rows[..=end]));
            assert_eq!(
                parsed.is_ok(),
                LENGTHS.contains(&len),
                "{len} bytes: {parsed:?}"
            );
        }
    }
}
