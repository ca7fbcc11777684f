// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a rule that is broken is told, also from a signal handler: without memory, without
//! a lock, and for good.

use std::fmt::{self, Write};

/// Ends the program because a rule is broken.
macro_rules! broken {
    ($($text:tt)+) => {
        $crate::report::stop(format_args!($($text)+))
    };
}

/// Ends the program unless the rule holds.
macro_rules! holds {
    ($rule:expr, $($text:tt)+) => {
        if !$rule {
            broken!($($text)+)
        }
    };
}

/// A line on the stack; what does not fit is left out.
struct Line {
    bytes: [u8; 480],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let len = text.len().min(room.len());
        room[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

/// Says why, and ends the program without running anything else.
#[cold]
#[track_caller]
pub fn stop(why: fmt::Arguments<'_>) -> ! {
    if cfg!(test) {
        panic!("broken: {why}");
    }
    let mut line = Line {
        bytes: [0; 480],
        len: 0,
    };
    let place = std::panic::Location::caller();
    let (file, number) = (place.file(), place.line());
    let _ = writeln!(line, "\nbroken: {why} ({file}:{number})");
    // SAFETY: the bytes are those of the line, and there are so many.
    unsafe { libc::write(2, line.bytes.as_ptr().cast(), line.len) };
    // SAFETY: ends the program; nothing of it is needed any more.
    unsafe { libc::_exit(101) }
}
