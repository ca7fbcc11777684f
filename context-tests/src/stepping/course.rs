// SPDX-License-Identifier: MIT OR Apache-2.0
//! The course of a stepped call: after which of its instructions it is stopped.

use super::text;
use std::ptr;

/// The most instructions that a data call here may take. It is some fifty times what the
/// longest takes.
pub const LAST: usize = 300_000;
/// Off the recorded way stepping ends after so many instructions without a new address.
const KNOWN_LAST: usize = 300;

/// How a call is stepped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Without a stop, to see what it does undisturbed.
    Record,
    /// Stops after each instruction from one on, as long as it goes the recorded way; and
    /// where it leaves that, at each address where it was not stopped before.
    Each,
    /// Stops after one instruction.
    Alone,
}

/// What came of one run.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Instructions that were stepped, with those before a breakpoint.
    pub count: usize,
    /// The first instruction after which it was not stopped in this run or an earlier one.
    pub next: usize,
    pub stops: usize,
}

/// Where a stepped call is.
pub struct Course {
    mode: Mode,
    /// Instructions that it has taken.
    count: usize,
    /// The first one after which it is to be stopped.
    first: usize,
    next: usize,
    /// Whether it goes the recorded way still.
    on_record: bool,
    stops: usize,
    /// Instructions off the recorded way since the last new address.
    known_in_turn: usize,
    /// How often the breakpoint is still passed before the stop.
    passes: usize,
    /// Whether the instruction at the breakpoint is being stepped over.
    stepping_over: bool,
    /// The address of the instruction after each.
    record: Vec<usize>,
    known: Addresses,
}

/// What to do after an instruction, or at a breakpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Goes on to the next instruction.
    Step,
    /// Stops here, and goes on to the next.
    StopAndStep,
    /// Stops here, and goes on to the end.
    StopAndRun,
    /// Goes on to the end.
    Run,
    /// Steps over the breakpoint's instruction, and puts the breakpoint back.
    StepOver,
    /// Puts the breakpoint back, and goes on to it.
    PutBack,
}

/// A set of addresses, with room from the start.
struct Addresses(Vec<usize>);

impl Addresses {
    const ROOM: usize = 1 << 16;

    /// Returns whether it is new.
    fn insert(&mut self, address: usize) -> bool {
        let mut place = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        loop {
            match self.0[place] {
                0 => {
                    self.0[place] = address;
                    return true;
                }
                known if known == address => return false,
                _ => place = (place + 1) % Addresses::ROOM,
            }
        }
    }
}

impl Course {
    pub fn new() -> Course {
        Course {
            mode: Mode::Record,
            count: 0,
            first: 0,
            next: 0,
            on_record: true,
            stops: 0,
            known_in_turn: 0,
            passes: 0,
            stepping_over: false,
            record: Vec::with_capacity(LAST),
            known: Addresses(vec![0; Addresses::ROOM]),
        }
    }

    /// Returns where the breakpoint is to be, if there is to be one: without, the call is
    /// stepped from its beginning.
    pub fn begin(&mut self, mode: Mode, first: usize, may_break: bool) -> *mut u8 {
        if mode == Mode::Record {
            self.record.clear();
            self.known.0.fill(0);
        }
        self.mode = mode;
        self.count = 0;
        self.first = first;
        self.next = first;
        self.on_record = true;
        self.stops = 0;
        self.known_in_turn = 0;
        self.stepping_over = false;
        let address = match self.record.get(first) {
            Some(&address) if may_break && text::is_writable() => address,
            _ => return ptr::null_mut(),
        };
        let before = self.record[..first].iter();
        self.passes = before.filter(|&&passed| passed == address).count();
        // Where that is less work: each pass takes two steps.
        if 2 * self.passes < first {
            address as *mut u8
        } else {
            ptr::null_mut()
        }
    }

    pub fn ended(&self) -> Ended {
        Ended {
            count: self.count,
            next: self.next,
            stops: self.stops,
        }
    }

    /// After a trap while there is a breakpoint.
    pub fn pass(&mut self) -> Then {
        if self.stepping_over {
            self.stepping_over = false;
            return Then::PutBack;
        }
        if self.passes > 0 {
            self.passes -= 1;
            self.stepping_over = true;
            return Then::StepOver;
        }
        self.stops += 1;
        self.next = self.first + 1;
        self.count = self.first + 1;
        match self.mode {
            Mode::Each => Then::StopAndStep,
            Mode::Record | Mode::Alone => Then::StopAndRun,
        }
    }

    /// After an instruction, with the next one at `address`.
    pub fn step(&mut self, address: usize) -> Then {
        let index = self.count;
        self.count += 1;
        if self.mode == Mode::Record {
            self.record.push(address);
            self.known.insert(address);
            return Then::Step;
        }
        if index < self.first {
            return Then::Step;
        }
        let mut stop = false;
        if self.on_record {
            let same = self.record.get(index) == Some(&address);
            self.on_record = same;
            // The first in any case, so that there is one stop more each time.
            stop = same || index == self.first;
            if stop {
                self.next = index + 1;
            }
        }
        if !self.on_record {
            let new = self.known.insert(address);
            self.known_in_turn = if new { 0 } else { self.known_in_turn + 1 };
            stop |= new;
        }
        self.stops += usize::from(stop);
        match (stop, self.mode) {
            (true, Mode::Each) => Then::StopAndStep,
            (true, _) => Then::StopAndRun,
            (false, _) if self.known_in_turn > KNOWN_LAST => Then::Run,
            (false, _) => Then::Step,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a call with these addresses along its course; returns the stops.
    fn take(course: &mut Course, addresses: &[usize]) -> Vec<usize> {
        let mut stops = Vec::new();
        for (index, &address) in addresses.iter().enumerate() {
            let then = course.step(address);
            if matches!(then, Then::StopAndStep | Then::StopAndRun) {
                stops.push(index);
            }
            if matches!(then, Then::StopAndRun | Then::Run) {
                break;
            }
        }
        stops
    }

    #[test]
    fn it_stops_after_each_instruction_until_it_is_elsewhere() {
        let mut course = Course::new();
        let way = [10, 11, 12, 13, 14];
        assert!(course.begin(Mode::Record, 0, false).is_null());
        assert!(take(&mut course, &way).is_empty());
        assert_eq!(course.ended().count, 5);
        course.begin(Mode::Each, 0, false);
        assert_eq!(take(&mut course, &way), [0, 1, 2, 3, 4]);
        assert_eq!(course.ended().next, 5);
        // Turns back after the second, once, by a way that is not known.
        course.begin(Mode::Each, 0, false);
        let longer = [10, 11, 20, 11, 12, 13, 14];
        assert_eq!(take(&mut course, &longer), [0, 1, 2]);
        assert_eq!(course.ended().next, 2);
        course.begin(Mode::Each, 2, false);
        assert_eq!(take(&mut course, &way), [2, 3, 4]);
    }

    #[test]
    fn it_stops_once_where_it_is_to_stop_alone() {
        let mut course = Course::new();
        course.begin(Mode::Record, 0, false);
        take(&mut course, &[10, 11, 12]);
        course.begin(Mode::Alone, 1, false);
        assert_eq!(take(&mut course, &[10, 99, 12]), [1]);
        assert_eq!(course.ended().next, 2);
    }
}
