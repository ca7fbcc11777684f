// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a machine could not be read.

use std::io;
use std::path::{Path, PathBuf};

/// An input that cannot be used. The message is one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct MachineError {
    path: PathBuf,
    problem: Problem,
}

/// What is wrong with a file or directory.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The operating system refuses to read it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is a directory where a dump was expected.
    #[error("this is a directory, and a file with the output of lspci was expected")]
    Directory,
    /// It has no bytes.
    #[error("the file is empty")]
    Empty,
    /// It is larger than any dump.
    #[error("the file is over {0} bytes long, and no output of lspci")]
    TooLong(u64),
    /// It is not text.
    #[error("the file is not text, and the output of lspci was expected")]
    NotText,
    /// A line has no place in a dump.
    #[error("line {line} is no output of lspci")]
    Noise {
        /// The number of the line, from 1.
        line: usize,
    },
    /// A line starts like a row of bytes and is not the next one.
    #[error("line {line} is not the next row of 16 bytes: the dump is cut off or damaged")]
    Row {
        /// The number of the line, from 1.
        line: usize,
    },
    /// A device's bytes end where no configuration space does.
    #[error("{address}: the bytes end after {len}: the dump is cut off")]
    BytesCutOff {
        /// The device's address.
        address: String,
        /// How many bytes there are.
        len: usize,
    },
    /// A device has no bytes in a dump with bytes.
    #[error("{address}: there are no bytes, as other devices have: the dump is cut off")]
    NoBytes {
        /// The device's address.
        address: String,
    },
    /// A device's text ends in the middle, or was never there.
    #[error("{address}: the text ends early: the dump is cut off, or was made without -vv")]
    TextCutOff {
        /// The device's address.
        address: String,
    },
    /// The end of the last device is missing.
    #[error("{address}: no empty line comes after it, as lspci ends a device: the dump is cut off")]
    NoEnd {
        /// The device's address.
        address: String,
    },
    /// The last line has no end.
    #[error("line {line} has no end: the dump is cut off")]
    LineCutOff {
        /// The number of the line, from 1.
        line: usize,
    },
    /// A device is there twice.
    #[error("{address}: the device is listed twice: these are several dumps, or one is damaged")]
    ListedTwice {
        /// The device's address.
        address: String,
    },
    /// A line about PASIDs is not as `lspci` writes it.
    #[error("line {line} cannot be understood: the dump is cut off or damaged")]
    Text {
        /// The number of the line, from 1.
        line: usize,
    },
    /// A device's configuration space or register is wrong.
    #[error("{address}: {error}")]
    Device {
        /// The device's address.
        address: String,
        /// What is wrong with it.
        error: pasid::Error,
    },
    /// A file of one value has another content.
    #[error("{0:?} is not the value that was expected")]
    Value(String),
    /// A directory holds other things than devices.
    #[error("this is no directory of PCI devices such as /sys/bus/pci/devices")]
    NoDevices,
}

impl Problem {
    /// Names the file or directory that has the problem.
    pub fn at(self, path: &Path) -> MachineError {
        MachineError {
            path: path.to_owned(),
            problem: self,
        }
    }
}
