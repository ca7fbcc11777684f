// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of the program share: running it, a folder for its input,
//! and configuration spaces made up for it.

#![allow(dead_code, reason = "each test program uses a part")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use pasid::limits::{PasidCapability, PasidControl, PasidStructure};

/// What a run of the program left.
pub struct Run(Output);

/// Runs the program.
pub fn pasidctl(arguments: &[&str]) -> Run {
    let program = env!("CARGO_BIN_EXE_pasidctl");
    Run(Command::new(program).args(arguments).output().unwrap())
}

impl Run {
    /// What it printed.
    pub fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    /// What it complained of.
    pub fn stderr(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// Checks the exit code.
    pub fn exit_code(&self, code: i32) {
        assert_eq!(self.0.status.code(), Some(code), "{}", self.stderr());
    }

    /// What it printed; it must have succeeded in silence.
    pub fn success(&self) -> String {
        self.exit_code(0);
        assert_eq!(self.stderr(), "");
        self.stdout()
    }

    /// The JSON that it printed.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.success()).unwrap()
    }

    /// The message of a run that must have refused its input: one line, exit
    /// code 2, and nothing that could be taken for a result.
    pub fn refused(&self, name: &str) -> String {
        let message = self.stderr();
        assert_eq!(self.0.status.code(), Some(2), "{name}: {message}");
        assert_eq!(self.stdout(), "", "{name}");
        assert!(message.starts_with("pasidctl: "), "{name}: {message}");
        assert_eq!(message.lines().count(), 1, "{name}: {message}");
        message
    }
}

/// A folder that goes away with its value.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes an empty folder.
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("pasidctl-{}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// The path of something in the folder.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file, with the folders above it, and gives its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Makes a symbolic link with a target relative to it.
    #[cfg(unix)]
    pub fn link(&self, name: &str, target: &str) {
        let path = self.path(name);
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A configuration space made up for a test.
#[derive(Clone)]
pub struct Config(Vec<u8>);

impl Config {
    /// A device of PCI Express, 1234:5678, without extended capabilities.
    pub fn express() -> Config {
        Config::conventional()
            .word(0x04, 0x0010_0000)
            .word(0x34, 0x40)
            .word(0x40, 0x10)
    }

    /// A device of conventional PCI, 1234:5678.
    pub fn conventional() -> Config {
        Config(vec![0; 4096]).word(0x00, 0x5678_1234)
    }

    /// The same with a 32-bit word.
    pub fn word(mut self, offset: usize, word: u32) -> Config {
        self.0[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
        self
    }

    /// The same with a PASID capability at 0x230, behind an empty one, and any
    /// values in its registers.
    pub fn pasid(mut self, capability: u16, control: u16) -> Config {
        let structure = PasidStructure {
            offset: 0x230,
            capability: PasidCapability::from_register(0).unwrap(),
            control: PasidControl::default(),
        };
        structure.add_to(&mut self.0).unwrap();
        self.word(0x234, u32::from(control) << 16 | u32::from(capability))
    }

    /// All 4096 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The rows of bytes as `lspci` writes them.
pub fn rows(config: &[u8]) -> String {
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

/// A dump of a device with its text and all its bytes.
pub fn dump(text: &str, config: &Config) -> String {
    format!("{}\n{}\n", text.trim_end(), rows(config.bytes()))
}
