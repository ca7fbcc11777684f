// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program's own text, in which a breakpoint is to be written.
//!
//! Where that is not allowed, calls are stepped from their beginning each time, which takes
//! longer and shows the same.

use std::fs;
use std::sync::OnceLock;

static WRITABLE: OnceLock<bool> = OnceLock::new();

/// Whether the text can be written. Asked for the first time outside a signal handler.
pub fn is_writable() -> bool {
    *WRITABLE.get_or_init(make_writable)
}

fn make_writable() -> bool {
    let here = make_writable as *const () as usize;
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mapped = maps.lines().find_map(|line| {
        let (first, rest) = line.split_once('-')?;
        let first = usize::from_str_radix(first, 16).ok()?;
        let end = usize::from_str_radix(rest.split(' ').next()?, 16).ok()?;
        (first..end).contains(&here).then_some((first, end - first))
    });
    let Some((first, len)) = mapped else {
        return false;
    };
    let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: the whole mapping of the program's text; nothing is taken from it.
    unsafe { libc::mprotect(first as *mut _, len, all) == 0 }
}
