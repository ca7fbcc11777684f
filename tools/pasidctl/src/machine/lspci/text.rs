// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the text of a dump says about one device.

use pasid::limits::{PasidCapability, PasidControl, PasidStructure};
use pasid::{Error, PasidWidth};

use super::super::{Pasids, Problem, Unreadable};

/// What the indented lines of one device say.
#[derive(Default)]
pub struct Text {
    /// There is at least one line.
    begun: bool,
    /// The last line was one that ends a device.
    ended: bool,
    /// The capabilities were hidden from whoever made the dump.
    denied: bool,
    group: Option<u32>,
    /// The offset of the PASID capability.
    offset: Option<u16>,
    capability: Option<Result<PasidCapability, Error>>,
    control: Option<PasidControl>,
}

impl Text {
    /// Takes an indented line, without its indentation.
    pub fn add(&mut self, line: &str, number: usize) -> Result<(), Problem> {
        self.begun = true;
        // `lspci` ends with these, where the device has a driver.
        self.ended = ["Kernel driver in use: ", "Kernel modules: "]
            .iter()
            .any(|start| line.starts_with(start));
        self.take(line).ok_or(Problem::Text { line: number })
    }

    /// Takes an empty line, which ends a device.
    pub fn end(&mut self) {
        self.ended = true;
    }

    pub fn group(&self) -> Option<u32> {
        self.group
    }

    /// Takes what a line says; `None` if it is about PASIDs and unintelligible.
    fn take(&mut self, line: &str) -> Option<()> {
        if let Some(rest) = line.strip_prefix("IOMMU group: ") {
            self.group = Some(rest.parse().ok()?);
        } else if let Some(rest) = line.strip_prefix("Capabilities: ") {
            self.denied |= rest.starts_with("<access denied>");
            if let Some(place) = rest.strip_suffix("] Process Address Space ID (PASID)") {
                let offset = place.strip_prefix('[')?.split(' ').next()?;
                // Of several the first counts, as it does among the bytes.
                self.offset = self.offset.or(Some(u16::from_str_radix(offset, 16).ok()?));
            }
        } else if let Some(rest) = line.strip_prefix("PASIDCap: ") {
            let (flags, width) = rest.split_once(", Max PASID Width: ")?;
            let [execute, privileged] = flags_of(flags, ["Exec", "Priv"])?;
            // Two digits, so that what is cut off is not taken for less.
            let bits = (width.len() == 2).then(|| u8::from_str_radix(width, 16).ok())??;
            let capability = PasidWidth::new(bits).map(|width| PasidCapability {
                width,
                execute,
                privileged,
            });
            self.capability.get_or_insert(capability);
        } else if let Some(rest) = line.strip_prefix("PASIDCtl: ") {
            let [enabled, execute, privileged] = flags_of(rest, ["Enable", "Exec", "Priv"])?;
            self.control.get_or_insert(PasidControl {
                enabled,
                execute,
                privileged,
            });
        }
        Some(())
    }

    /// The capability, if the text has one.
    pub fn capability(&self, address: &str) -> Result<Option<Pasids>, Problem> {
        let address = || address.to_owned();
        match (self.offset, self.capability, self.control) {
            (None, None, None) => Ok(None),
            (_, Some(Err(error)), _) => Err(Problem::Device {
                address: address(),
                error,
            }),
            (Some(offset), Some(Ok(capability)), Some(control)) => {
                let structure = PasidStructure {
                    offset,
                    capability,
                    control,
                };
                Ok(Some(Pasids::Capable {
                    structure,
                    iommu: None,
                }))
            }
            _ => Err(Problem::TextCutOff { address: address() }),
        }
    }

    /// What the text alone says of the device.
    pub fn pasids(&self, address: &str, last: bool) -> Result<Pasids, Problem> {
        if let Some(pasids) = self.capability(address)? {
            return Ok(pasids);
        }
        // Behind the end of a text that was cut off there may be one.
        if !self.begun || (last && !self.ended) {
            return Err(Problem::TextCutOff {
                address: address.to_owned(),
            });
        }
        Ok(if self.denied {
            Pasids::Unreadable(Unreadable::Denied)
        } else {
            Pasids::None
        })
    }
}

/// The flags of a line such as `Exec+ Priv-`, which has to have just these.
fn flags_of<const N: usize>(line: &str, names: [&str; N]) -> Option<[bool; N]> {
    let mut words = line.split(' ');
    let mut flags = [false; N];
    for (flag, name) in flags.iter_mut().zip(names) {
        *flag = match words.next()?.strip_prefix(name)? {
            "+" => true,
            "-" => false,
            _ => return None,
        };
    }
    words.next().is_none().then_some(flags)
}
