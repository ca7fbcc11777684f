// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requester ID: which device sends a request.

use core::fmt;

/// Which device: for PCIe the segment in the upper 16 bits, and bus, device and function
/// in the lower 16 (PCI Express Base Specification, "Requester ID").
///
/// The crate only compares it; other buses use what names a device there.
///
/// ```
/// assert_eq!(pasid::RequesterId(0x0001_3a08).to_string(), "0001:3a:01.0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RequesterId(pub u32);

impl fmt::Display for RequesterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (segment, bus) = (self.0 >> 16, self.0 >> 8 & 0xff);
        let (device, function) = (self.0 >> 3 & 0x1f, self.0 & 7);
        write!(f, "{segment:04x}:{bus:02x}:{device:02x}.{function}")
    }
}
