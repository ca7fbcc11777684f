// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `probe` prints.

use comfy_table::{CellAlignment, Table, presets};
use pasid::PasidWidth;
use serde::Serialize;

use crate::machine::{Device, Machine, Pasids};

/// A device that has PASIDs, or may have.
#[derive(Serialize)]
struct Row<'a> {
    address: &'a str,
    vendor_id: Option<String>,
    device_id: Option<String>,
    /// Bits: the narrower of the next two.
    width: Option<u8>,
    device_width: Option<u8>,
    iommu_width: Option<u8>,
    /// The largest PASID; none if the width is 0.
    last: Option<u32>,
    enabled: Option<bool>,
    group: Option<u32>,
    /// Why nothing is known.
    unreadable: Option<&'static str>,
}

impl Row<'_> {
    fn new(device: &Device) -> Option<Row<'_>> {
        let hex = |id: u16| format!("{id:04x}");
        let row = Row {
            address: &device.address,
            vendor_id: device.ids.map(|(vendor, _)| hex(vendor)),
            device_id: device.ids.map(|(_, device)| hex(device)),
            width: None,
            device_width: None,
            iommu_width: None,
            last: None,
            enabled: None,
            group: device.group,
            unreadable: None,
        };
        let width = device.pasids.width();
        match device.pasids {
            Pasids::None => None,
            Pasids::Unreadable(why) => Some(Row {
                unreadable: Some(why.reason()),
                ..row
            }),
            Pasids::Capable { structure, iommu } => Some(Row {
                width: width.map(PasidWidth::bits),
                device_width: Some(structure.capability.width.bits()),
                iommu_width: iommu.map(PasidWidth::bits),
                last: width
                    .filter(|width| width.bits() != 0)
                    .map(|width| width.last().get()),
                enabled: Some(structure.control.enabled),
                ..row
            }),
        }
    }
}

fn rows(machine: &Machine) -> Vec<Row<'_>> {
    machine.devices.iter().filter_map(Row::new).collect()
}

/// The devices as a JSON array.
pub fn json(machine: &Machine) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&rows(machine))
}

const HEADER: [&str; 8] = [
    "address",
    "ids",
    "width",
    "last PASID",
    "enabled",
    "group",
    "device",
    "IOMMU",
];

/// The devices as a table for people.
pub fn table(machine: &Machine) -> String {
    let rows = rows(machine);
    if rows.is_empty() {
        return format!(
            "{}: no device has a PASID capability (devices: {})",
            machine.origin,
            machine.devices.len()
        );
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(HEADER);
    for row in rows {
        table.add_row(cells(&row));
    }
    for column in [2, 3, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn cells(row: &Row) -> [String; 8] {
    let unknown = || "-".to_owned();
    let bits = |width: Option<u8>| width.map_or_else(unknown, |bits| format!("{bits} bits"));
    let ids = match (&row.vendor_id, &row.device_id) {
        (Some(vendor), Some(device)) => format!("{vendor}:{device}"),
        _ => unknown(),
    };
    let width = match row.unreadable {
        Some(reason) => format!("unreadable: {reason}"),
        None => bits(row.width),
    };
    let enabled = match row.enabled {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => unknown(),
    };
    [
        row.address.to_owned(),
        ids,
        width,
        row.last.map_or_else(unknown, |last| last.to_string()),
        enabled,
        row.group.map_or_else(unknown, |group| group.to_string()),
        bits(row.device_width),
        bits(row.iommu_width),
    ]
}
