// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the text of a dump says about one device.

use pasid::limits::{PasidCapability, PasidControl, PasidStructure};
use pasid::{Error, PasidWidth};

use super::super::{Pasids, Problem, Unreadable};

/// Where the extended configuration space begins.
const EXTENDED: u16 = 0x100;

/// What the indented lines of one device say.
#[derive(Default)]
pub struct Text {
    /// There is at least one line.
    begun: bool,
    /// The capabilities were hidden from whoever made the dump.
    denied: bool,
    /// There is an extended capability, so whoever made the dump saw them.
    extended: bool,
    /// The list of capabilities could not be followed to its end.
    list_broken: bool,
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
        self.take(line).ok_or(Problem::Text { line: number })
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
            self.extended |= offset_of(rest).is_some_and(|offset| offset >= EXTENDED);
            self.list_broken |= rest.contains("<chain ");
            if rest.ends_with("] Process Address Space ID (PASID)") {
                // Of several the first counts, as it does among the bytes.
                self.offset = self.offset.or(Some(offset_of(rest)?));
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

    /// What a text beside bytes says: the capability, or that there is none
    /// among the extended ones that it lists. `None` if it does not say.
    pub fn known(&self, address: &str) -> Result<Option<Pasids>, Problem> {
        let none = (self.extended && !self.list_broken).then_some(Pasids::None);
        Ok(self.capability(address)?.or(none))
    }

    /// The capability, if the text has one.
    fn capability(&self, address: &str) -> Result<Option<Pasids>, Problem> {
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

    /// What the text alone says of the device; `cut` if its end is missing.
    pub fn pasids(&self, address: &str, cut: bool) -> Result<Pasids, Problem> {
        let owned = || address.to_owned();
        if !self.begun {
            return Err(Problem::TextCutOff { address: owned() });
        }
        // Behind the end of a text that was cut off there may be a capability,
        // and other devices.
        if cut {
            return Err(Problem::NoEnd { address: owned() });
        }
        if let Some(pasids) = self.capability(address)? {
            return Ok(pasids);
        }
        Ok(if self.denied {
            Pasids::Unreadable(Unreadable::Denied)
        } else {
            Pasids::None
        })
    }
}

/// The offset at the start of a capability such as `[230 v1] Name`.
fn offset_of(capability: &str) -> Option<u16> {
    let digits = capability.strip_prefix('[')?.split([' ', ']']).next()?;
    u16::from_str_radix(digits, 16).ok()
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
