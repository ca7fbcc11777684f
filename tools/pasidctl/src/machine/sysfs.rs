// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the PCI devices of a running Linux.
//!
//! | file | what it says |
//! | --- | --- |
//! | `config` | the configuration space: 64 bytes for all, 4096 for root |
//! | `vendor`, `device` | the IDs |
//! | `iommu_group` | a link to the IOMMU group |
//! | `physfn` | a link to the physical function, in a virtual one |
//! | `iommu/intel-iommu/ecap` | the extended capability register of VT-d |
//! | `iommu/amd-iommu/features` | the extended feature register of AMD-Vi |
//!
//! Other IOMMUs do not show their width here. Source: Linux,
//! `Documentation/ABI/testing/sysfs-bus-pci`, `sysfs-class-iommu-intel-iommu`
//! and `sysfs-class-iommu-amd-iommu`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use pasid::PasidWidth;
use pasid::limits::{amd_width, vtd_width};

use super::lspci::is_address;
use super::{CONFIG_LEN, Device, Machine, MachineError, Pasids, Problem, Unreadable, ids_of};

/// Reads a directory like `/sys/bus/pci/devices`.
///
/// # Errors
/// [`MachineError`] if the directory or one of its devices cannot be read, or
/// is broken. What only root may see is not an error.
pub fn read(directory: &Path) -> Result<Machine, MachineError> {
    let devices = addresses(directory)
        .map_err(|problem| problem.at(directory))?
        .into_iter()
        .map(|address| device(directory, address))
        .collect::<Result<_, _>>()?;
    Ok(Machine {
        origin: directory.display().to_string(),
        devices,
    })
}

/// The names of the devices, in the order of their addresses.
fn addresses(directory: &Path) -> Result<Vec<String>, Problem> {
    let mut found = Vec::new();
    let mut others = false;
    for entry in fs::read_dir(directory)? {
        match entry?.file_name().into_string() {
            Ok(name) if is_address(&name) => found.push(name),
            _ => others = true,
        }
    }
    if found.is_empty() && others {
        return Err(Problem::NoDevices);
    }
    found.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    Ok(found)
}

fn device(directory: &Path, address: String) -> Result<Device, MachineError> {
    let path = directory.join(&address);
    let config = config_of(&path)?;
    let physical = path.join("physfn");
    // A virtual function has no PASID capability: it shares its physical one's.
    // A link that leads nowhere is there too: what it shares is unknown.
    let deciding = match physical.symlink_metadata() {
        Ok(_) => config_of(&physical)?,
        Err(error) if is_missing(&error) => config.clone(),
        Err(error) => return Err(Problem::Io(error).at(&physical)),
    };
    let mut pasids = match deciding {
        None => Pasids::Unreadable(Unreadable::Denied),
        Some(config) => Pasids::of_config(&config).map_err(|error| {
            Problem::Device {
                address: address.clone(),
                error,
            }
            .at(directory)
        })?,
    };
    if let Pasids::Capable { iommu, .. } = &mut pasids {
        *iommu = iommu_width(&path)?;
    }
    let ids = match (
        hex_file(&path.join("vendor"))?,
        hex_file(&path.join("device"))?,
    ) {
        (Some(vendor), Some(device)) => Some((vendor as u16, device as u16)),
        _ => config.as_deref().and_then(ids_of),
    };
    let group = fs::read_link(path.join("iommu_group"))
        .ok()
        .and_then(|link| link.file_name()?.to_str()?.parse().ok());
    Ok(Device {
        address,
        ids,
        group,
        pasids,
    })
}

/// A device's configuration space, as far as it is shown; `None` if it is not.
fn config_of(device: &Path) -> Result<Option<Vec<u8>>, MachineError> {
    let path = device.join("config");
    let mut config = Vec::new();
    match File::open(&path).and_then(|file| file.take(CONFIG_LEN as u64).read_to_end(&mut config)) {
        Ok(_) => Ok(Some(config)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(Problem::Io(error).at(&path)),
    }
}

/// The width of the IOMMU in front of a device, where it is shown.
fn iommu_width(device: &Path) -> Result<Option<PasidWidth>, MachineError> {
    let intel = device.join("iommu/intel-iommu/ecap");
    if let Some(ecap) = hex_file(&intel)? {
        return width(vtd_width(ecap), &intel);
    }
    let amd = device.join("iommu/amd-iommu/features");
    match text_file(&amd)?.as_deref().map(extended_features) {
        None => Ok(None),
        Some(Ok(None)) => Ok(None),
        Some(Ok(Some(features))) => width(amd_width(features), &amd),
        Some(Err(problem)) => Err(problem.at(&amd)),
    }
}

fn width(
    width: pasid::Result<PasidWidth>,
    path: &Path,
) -> Result<Option<PasidWidth>, MachineError> {
    width.map(Some).map_err(|error| {
        Problem::Device {
            address: "the IOMMU".to_owned(),
            error,
        }
        .at(path)
    })
}

/// The extended feature register among the values of AMD's file.
///
/// Before Linux 5.14 it is alone. Since then there is a second register, which
/// was first written before it and then, since 6.7, after it. It can be told by
/// its upper half, which is reserved in the second one and holds flags of every
/// IOMMU with PASIDs in the first; without that difference it is unknown.
fn extended_features(text: &str) -> Result<Option<u64>, Problem> {
    match text.split_once(':') {
        None => parse_hex(text).map(Some),
        Some((a, b)) => Ok(match (parse_hex(a)?, parse_hex(b)?) {
            (a, b) if a >> 32 != 0 && b >> 32 == 0 => Some(a),
            (a, b) if a >> 32 == 0 && b >> 32 != 0 => Some(b),
            _ => None,
        }),
    }
}

fn hex_file(path: &Path) -> Result<Option<u64>, MachineError> {
    text_file(path)?
        .map(|text| parse_hex(&text).map_err(|problem| problem.at(path)))
        .transpose()
}

/// The text of a file of one line; `None` if there is no such file.
fn text_file(path: &Path) -> Result<Option<String>, MachineError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(Problem::Io(error).at(path)),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn parse_hex(text: &str) -> Result<u64, Problem> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).map_err(|_| Problem::Value(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amd_features_are_found_in_every_order() {
        let register = 0x0000_000f_7377_8dfa_u64;
        for (text, expected) in [
            ("f73778dfa", Some(0xf_7377_8dfa)),
            ("f73778dfa:10", Some(register)),
            ("0:f73778dfa", Some(register)),
            ("0:73778dfa", None),
            ("f73778dfa:f73778dfa", None),
        ] {
            assert_eq!(extended_features(text).unwrap(), expected, "{text}");
        }
        for text in ["", "x", "1:", ":1", "1:2:3"] {
            assert!(extended_features(text).is_err(), "{text}");
        }
    }
}
