// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl probe` as its user meets it: output, errors, exit code.

mod common;

use common::{Config, Folder, dump, pasidctl, rows};
use serde_json::{Value, json};

/// A device with 20 bits, enabled, as text.
const TEXT: &str = "\
6a:01.0 System peripheral: Example Corp. Accelerator [8086:0b25] (rev 01)
\tIOMMU group: 38
\tCapabilities: [230 v1] Process Address Space ID (PASID)
\t\tPASIDCap: Exec- Priv+, Max PASID Width: 14
\t\tPASIDCtl: Enable+ Exec- Priv+
\tKernel driver in use: idxd

";

/// A bridge without PASIDs.
const BRIDGE: &str = "\
00:01.2 PCI bridge: Example Corp. Port (prog-if 00 [Normal decode])
        Capabilities: [58] Express (v2) Root Port (Slot+), MSI 00
        Kernel driver in use: pcieport

";

/// A device with 16 bits, not enabled, indented with blanks.
const GRAPHICS: &str = "\
06:00.0 VGA compatible controller: Example Corp. Card (rev cf)
        Capabilities: [2d0 v1] Process Address Space ID (PASID)
                PASIDCap: Exec+ Priv+, Max PASID Width: 10
                PASIDCtl: Enable- Exec- Priv-
        Kernel modules: example

";

fn probe(folder: &Folder, content: impl AsRef<[u8]>) -> Value {
    let file = folder.write("dump", content);
    pasidctl(&["probe", "--json", "--lspci", &file]).json()
}

#[test]
fn the_width_in_the_text_is_hexadecimal() {
    let folder = Folder::new();
    let devices = probe(&folder, format!("{TEXT}{BRIDGE}{GRAPHICS}"));
    let expected = json!([
        {
            "address": "6a:01.0", "vendor_id": "8086", "device_id": "0b25", "width": 20,
            "device_width": 20, "iommu_width": null, "last": 1_048_575, "enabled": true,
            "group": 38, "unreadable": null,
        },
        {
            "address": "06:00.0", "vendor_id": null, "device_id": null, "width": 16,
            "device_width": 16, "iommu_width": null, "last": 65_535, "enabled": false,
            "group": null, "unreadable": null,
        },
    ]);
    assert_eq!(devices, expected);
}

#[test]
fn the_bytes_win_over_the_text() {
    let folder = Folder::new();
    let config = Config::express().pasid(0x1006, 0x0000);
    let devices = probe(&folder, dump(TEXT, &config));
    assert_eq!(devices[0]["width"], 16);
    assert_eq!(devices[0]["enabled"], false);
    assert_eq!(devices[0]["vendor_id"], "1234");
    assert_eq!(devices[0]["group"], 38);
    // Without the capability in the bytes there is none, whatever the text says.
    assert_eq!(probe(&folder, dump(TEXT, &Config::express())), json!([]));
}

#[test]
fn bytes_without_text_are_enough() {
    let folder = Folder::new();
    let config = Config::express().pasid(0x1404, 0x0005);
    let devices = probe(&folder, dump("10000:e1:00.0 0880: 1234:5678", &config));
    assert_eq!(devices[0]["address"], "10000:e1:00.0");
    assert_eq!(devices[0]["width"], 20);
}

#[test]
fn a_short_configuration_space_is_unreadable_and_not_none() {
    let folder = Folder::new();
    let config = Config::express().pasid(0x1404, 0x0005);
    for (len, reason) in [
        (64, "run as root"),
        (128, "run as root"),
        (256, "run as root, and lspci with -xxxx"),
    ] {
        let dump = format!(
            "00:02.0 Device 1234:5678\n{}\n",
            rows(&config.bytes()[..len])
        );
        let file = folder.write("dump", &dump);
        let table = pasidctl(&["probe", "--lspci", &file]).success();
        assert!(table.contains("unreadable: run as root"), "{len}: {table}");
        assert_eq!(probe(&folder, &dump)[0]["unreadable"], reason);
        assert_eq!(probe(&folder, &dump)[0]["width"], Value::Null);
        // The text may know more.
        let both = format!("{TEXT}{}\n", rows(&config.bytes()[..len]));
        assert_eq!(probe(&folder, both)[0]["width"], 20);
    }
    let denied = "00:02.0 Device 1234:5678\n\tCapabilities: <access denied>\n\n";
    assert_eq!(probe(&folder, denied)[0]["unreadable"], "run as root");
}

#[test]
fn a_conventional_device_has_256_bytes_and_no_pasids() {
    let folder = Folder::new();
    let config = Config::conventional();
    let dump = format!(
        "00:1f.0 Device 1234:5678\n{}\n",
        rows(&config.bytes()[..256])
    );
    assert_eq!(probe(&folder, dump), json!([]));
}

#[test]
fn a_device_that_is_gone_does_not_hide_the_others() {
    let folder = Folder::new();
    let gone = format!(
        "00:02.0 Device ffff:ffff (rev ff)\n{}\n",
        rows(&[0xff; 4096])
    );
    let config = Config::express().pasid(0x1404, 0x0005);
    let devices = probe(&folder, gone + &dump(TEXT, &config));
    assert_eq!(devices[0]["unreadable"], "the device does not answer");
    assert_eq!(devices[1]["width"], 20);
}

#[test]
fn an_extended_space_of_ones_has_a_reason_of_its_own() {
    let folder = Folder::new();
    let mut config = Config::express();
    for offset in (0x100..0x1000).step_by(4) {
        config = config.word(offset, u32::MAX);
    }
    let devices = probe(&folder, dump("00:02.0 Device 1234:5678", &config));
    assert_eq!(
        devices[0]["unreadable"],
        "the platform hides the extended configuration space"
    );
    // The text may know more.
    assert_eq!(probe(&folder, dump(TEXT, &config))[0]["width"], 20);
}

#[test]
fn a_width_of_zero_has_no_last_pasid() {
    let folder = Folder::new();
    let config = Config::express().pasid(0x0004, 0x0000);
    let devices = probe(&folder, dump(TEXT, &config));
    assert_eq!(devices[0]["width"], 0);
    assert_eq!(devices[0]["last"], Value::Null);
}

#[test]
fn the_table_has_a_line_for_each_device() {
    let folder = Folder::new();
    let file = folder.write("dump", format!("{TEXT}{BRIDGE}{GRAPHICS}"));
    let table = pasidctl(&["probe", "--lspci", &file]).success();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let [header, first, second] = lines.as_slice() else {
        panic!("{table}")
    };
    assert_eq!(header[..4], ["address", "ids", "width", "last"]);
    assert_eq!(
        *first,
        [
            "6a:01.0",
            "8086:0b25",
            "20",
            "bits",
            "1048575",
            "yes",
            "38",
            "20",
            "bits",
            "-"
        ]
    );
    assert_eq!(
        *second,
        [
            "06:00.0", "-", "16", "bits", "65535", "no", "-", "16", "bits", "-"
        ]
    );

    let file = folder.write("dump", BRIDGE);
    let none = pasidctl(&["probe", "--lspci", &file]).success();
    assert!(
        none.ends_with("no device has a PASID capability (devices: 1)\n"),
        "{none}"
    );
}

#[test]
fn windows_line_ends_make_no_difference() {
    let folder = Folder::new();
    let config = Config::express().pasid(0x1404, 0x0005);
    let dump = dump(TEXT, &config).replace('\n', "\r\n");
    assert_eq!(probe(&folder, dump)[0]["width"], 20);
}

/// Checks that each content is refused with a message that says what it must.
fn check_refused(cases: &[(&str, Vec<u8>, &str)]) {
    let folder = Folder::new();
    for (name, content, expected) in cases {
        let file = folder.write("dump", content);
        for arguments in [
            &["probe", "--json", "--lspci", &file][..],
            &["probe", "--lspci", &file],
        ] {
            let message = pasidctl(arguments).refused(name);
            assert!(message.contains(expected), "{name}: {message}");
            assert!(message.contains(&file), "{name}: {message}");
        }
    }
}

#[test]
fn what_is_no_dump_is_refused() {
    check_refused(&[
        ("empty", Vec::new(), "the file is empty"),
        ("blank", b"\n  \n".to_vec(), "the file is empty"),
        ("binary", vec![0; 4096], "not text"),
        ("noise", (0..=255).cycle().take(5000).collect(), "not text"),
        (
            "prose",
            b"This is not a dump.\n".to_vec(),
            "line 1 is no output of lspci",
        ),
        (
            "prose later",
            format!("{TEXT}So much for that.\n").into(),
            "line 8 is no output",
        ),
    ]);
    let folder = Folder::new();
    let missing = folder.path("nowhere");
    let message = pasidctl(&["probe", "--lspci", &missing]).refused("missing");
    assert!(message.contains("No such file"), "{message}");
    let message = pasidctl(&["probe", "--lspci", &folder.path("")]).refused("directory");
    assert!(message.contains("directory"), "{message}");
}

#[test]
fn a_device_that_is_wrong_is_refused() {
    let looping = Config::express()
        .word(0x100, 0x2001_0001)
        .word(0x200, 0x1001_0001);
    let below = Config::express().word(0x100, 0x0401_0001);
    check_refused(&[
        (
            "width 31 in bytes",
            dump(TEXT, &Config::express().pasid(0x1f04, 1)).into(),
            "31 bits",
        ),
        (
            "width 31 in text",
            TEXT.replace(": 14", ": 1f").into(),
            "31 bits",
        ),
        (
            "width 21",
            dump(TEXT, &Config::express().pasid(0x1500, 1)).into(),
            "21 bits",
        ),
        (
            "loop",
            dump(TEXT, &looping).into(),
            "the capability list loops",
        ),
        (
            "pointer below 0x100",
            dump(TEXT, &below).into(),
            "the capability list is broken",
        ),
    ]);
}

#[test]
fn a_dump_that_is_cut_off_or_damaged_is_refused() {
    let good = Config::express().pasid(0x1404, 0x0005);
    check_refused(&[
        (
            "cut in a row",
            cut(&dump(TEXT, &good), 2000).into(),
            "cut off",
        ),
        (
            "cut between rows",
            format!("{TEXT}{}", rows(&good.bytes()[..1024])).into(),
            "the bytes end after 1024",
        ),
        (
            "cut before the bytes",
            format!("{}{BRIDGE}", dump(TEXT, &good)).into(),
            "no bytes",
        ),
        (
            "cut in the text",
            cut(TEXT, 100).into(),
            "line 3 has no end",
        ),
        (
            "cut in the width",
            cut(TEXT, TEXT.find("14\n").unwrap() + 1).into(),
            "line 4 has no end",
        ),
        (
            "cut after a line of the text",
            cut(TEXT, TEXT.len() - 1).into(),
            "no empty line",
        ),
        (
            "cut after 64 bytes",
            format!("{TEXT}{}", rows(&good.bytes()[..64])).into(),
            "no empty line",
        ),
        (
            "width cut off",
            TEXT.replace(": 14", ": 1").into(),
            "line 4 cannot be understood",
        ),
        (
            "listed twice",
            format!("{TEXT}{TEXT}").into(),
            "listed twice",
        ),
        (
            "a row missing",
            dump(TEXT, &good).replacen("\n10: ", "\n20: ", 1).into(),
            "line 8",
        ),
        (
            "no text",
            b"00:02.0 Device 1234:5678\n".to_vec(),
            "made without -vv",
        ),
    ]);
}

fn cut(text: &str, len: usize) -> &str {
    &text[..len]
}

#[test]
fn two_sources_are_refused() {
    pasidctl(&["probe", "--lspci", "a", "--sysfs", "b"]).exit_code(2);
}
