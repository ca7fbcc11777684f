// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl probe --sysfs` on trees made up like those of Linux.
#![cfg(unix)]

mod common;

use common::{Config, Folder, pasidctl};
use serde_json::{Value, json};

/// Adds a device to a tree.
fn add(folder: &Folder, address: &str, config: &[u8]) {
    folder.write(&format!("devices/{address}/config"), config);
    folder.write(&format!("devices/{address}/vendor"), "0x1234\n");
    folder.write(&format!("devices/{address}/device"), "0x5678\n");
}

fn probe(folder: &Folder) -> Value {
    pasidctl(&["probe", "--json", "--sysfs", &folder.path("devices")]).json()
}

fn capable() -> Config {
    Config::express().pasid(0x1404, 0x0001)
}

#[test]
fn devices_are_listed_by_address_with_their_groups() {
    let folder = Folder::new();
    add(&folder, "10000:00:01.0", capable().bytes());
    add(&folder, "0000:6a:01.0", capable().bytes());
    add(
        &folder,
        "0000:00:1f.0",
        &Config::conventional().bytes()[..256],
    );
    add(&folder, "0000:00:02.0", Config::express().bytes());
    folder.link("devices/0000:6a:01.0/iommu_group", "../../groups/38");
    let devices = probe(&folder);
    assert_eq!(
        devices[0],
        json!({
            "address": "0000:6a:01.0", "vendor_id": "1234", "device_id": "5678", "width": 20,
            "device_width": 20, "iommu_width": null, "last": 1_048_575, "enabled": true,
            "group": 38, "unreadable": null,
        })
    );
    assert_eq!(devices[1]["address"], "10000:00:01.0");
    assert_eq!(devices[1]["group"], Value::Null);
    assert_eq!(devices.as_array().unwrap().len(), 2);
}

#[test]
fn the_iommu_limits_the_device() {
    const DEVICE: &str = "devices/0000:6a:01.0";
    // File, content, width of the IOMMU, width of the table.
    let cases = [
        (
            "intel-iommu/ecap",
            format!("{:x}\n", 1_u64 << 40 | 15 << 35),
            json!(16),
            16,
        ),
        (
            "intel-iommu/ecap",
            format!("{:x}\n", 1_u64 << 40 | 19 << 35),
            json!(20),
            20,
        ),
        ("intel-iommu/ecap", "f050da\n".to_owned(), json!(0), 0),
        (
            "amd-iommu/features",
            format!("{:x}\n", 15_u64 << 32 | 1 << 4),
            json!(16),
            16,
        ),
        (
            "amd-iommu/features",
            format!("{:x}:0\n", 15_u64 << 32 | 1 << 4),
            json!(16),
            16,
        ),
        ("amd-iommu/features", "10:10\n".to_owned(), Value::Null, 20),
        ("other-iommu/ecap", "0\n".to_owned(), Value::Null, 20),
    ];
    for (file, content, iommu, width) in cases {
        let folder = Folder::new();
        add(&folder, "0000:6a:01.0", capable().bytes());
        folder.link(&format!("{DEVICE}/iommu"), "../../iommus/first");
        folder.write(&format!("iommus/first/{file}"), &content);
        let devices = probe(&folder);
        assert_eq!(devices[0]["iommu_width"], iommu, "{file} {content}");
        assert_eq!(devices[0]["device_width"], 20, "{file} {content}");
        assert_eq!(devices[0]["width"], width, "{file} {content}");
    }
}

#[test]
fn a_virtual_function_has_the_capability_of_its_physical_one() {
    let folder = Folder::new();
    add(&folder, "0000:03:00.0", capable().bytes());
    add(&folder, "0000:03:00.1", Config::express().bytes());
    add(&folder, "0000:03:00.2", &Config::express().bytes()[..64]);
    for virtual_function in ["0000:03:00.1", "0000:03:00.2"] {
        folder.link(
            &format!("devices/{virtual_function}/physfn"),
            "../0000:03:00.0",
        );
    }
    folder.link("devices/0000:03:00.1/iommu_group", "../../groups/7");
    let devices = probe(&folder);
    assert_eq!(devices.as_array().unwrap().len(), 3);
    for device in devices.as_array().unwrap() {
        assert_eq!(device["width"], 20);
        assert_eq!(device["enabled"], true);
    }
    assert_eq!(devices[1]["address"], "0000:03:00.1");
    assert_eq!(devices[1]["group"], 7);
}

#[test]
fn a_virtual_function_whose_physical_one_is_missing_is_refused() {
    let folder = Folder::new();
    add(&folder, "0000:03:00.1", Config::express().bytes());
    folder.link("devices/0000:03:00.1/physfn", "../0000:03:00.0");
    let run = pasidctl(&["probe", "--sysfs", &folder.path("devices")]);
    let message = run.refused("physfn");
    assert!(message.contains("physfn") && message.contains("No such file"));
}

#[test]
fn without_root_a_device_is_unreadable_and_not_none() {
    let folder = Folder::new();
    add(&folder, "0000:00:02.0", &capable().bytes()[..64]);
    add(&folder, "0000:00:03.0", &capable().bytes()[..256]);
    // A file that not even its first bytes can be read of.
    add(&folder, "0000:00:04.0", &[]);
    for device in probe(&folder).as_array().unwrap() {
        assert_eq!(device["unreadable"], "run as root");
        assert_eq!(device["width"], Value::Null);
    }
    assert_eq!(probe(&folder).as_array().unwrap().len(), 3);
    let table = pasidctl(&["probe", "--sysfs", &folder.path("devices")]).success();
    assert_eq!(
        table.matches("unreadable: run as root").count(),
        3,
        "{table}"
    );
}

#[test]
fn a_machine_without_pci_devices_is_no_error() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("devices")).unwrap();
    assert_eq!(probe(&folder), json!([]));
}

#[test]
fn a_broken_tree_is_one_sentence_and_exit_code_2() {
    const DEVICE: &str = "0000:6a:01.0";
    let looping = Config::express().word(0x100, 0x1001_0001);
    let reserved = Config::express().pasid(0x1f00, 0);
    // What is broken, what is written, what the message has to say.
    type Break<'a> = &'a dyn Fn(&Folder);
    let cases: [(&str, Break, &str); 7] = [
        (
            "loop",
            &|folder| add(folder, DEVICE, looping.bytes()),
            "the capability list loops",
        ),
        (
            "width 31",
            &|folder| add(folder, DEVICE, reserved.bytes()),
            "31 bits",
        ),
        (
            "no config",
            &|folder| drop(folder.write(&format!("devices/{DEVICE}/vendor"), "0x1234\n")),
            "No such file",
        ),
        (
            "vendor",
            &|folder| {
                add(folder, DEVICE, capable().bytes());
                folder.write(&format!("devices/{DEVICE}/vendor"), "Example\n");
            },
            "\"Example\" is not the value",
        ),
        (
            "ecap",
            &|folder| {
                add(folder, DEVICE, capable().bytes());
                folder.write(
                    &format!("devices/{DEVICE}/iommu/intel-iommu/ecap"),
                    "none\n",
                );
            },
            "\"none\" is not the value",
        ),
        (
            "ecap of 21 bits",
            &|folder| {
                add(folder, DEVICE, capable().bytes());
                let ecap = format!("{:x}\n", 1_u64 << 40 | 20 << 35);
                folder.write(&format!("devices/{DEVICE}/iommu/intel-iommu/ecap"), ecap);
            },
            "21 bits",
        ),
        (
            "another directory",
            &|folder| drop(folder.write("devices/notes.txt", "none\n")),
            "no directory of PCI devices",
        ),
    ];
    for (name, write, expected) in cases {
        let folder = Folder::new();
        write(&folder);
        let run = pasidctl(&["probe", "--sysfs", &folder.path("devices")]);
        let message = run.refused(name);
        assert!(message.contains(expected), "{name}: {message}");
    }
    let folder = Folder::new();
    let message = pasidctl(&["probe", "--sysfs", &folder.path("devices")]).refused("missing");
    assert!(message.contains("No such file"), "{message}");
    let file = folder.write("devices", "");
    let message = pasidctl(&["probe", "--sysfs", &file]).refused("file");
    assert!(message.contains("Not a directory"), "{message}");
}
