// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work in parts, each in a process of its own: a breakpoint is in the text that all
//! threads of a process run, so two cannot be stopped in one.

use super::Steps;
use crate::again::{PART, again};
use crate::calls::CALLS;
use std::env;
use std::process::{Child, Stdio};
use std::thread;

/// The line of one call begins with it.
const RESULT: &str = "part";

/// Each job whose number leaves `index` when divided by `count`.
#[derive(Clone, Copy)]
pub struct Part {
    pub index: usize,
    pub count: usize,
}

/// The part that this process does. `None` if it does none and has others do them.
pub fn of_this_process() -> Option<Part> {
    let part = env::var(PART).ok()?;
    let (index, count) = part.split_once('/').expect("INDEX/COUNT");
    Some(Part {
        index: index.parse().expect("a number"),
        count: count.parse().expect("a number"),
    })
}

/// Tells the process that has asked for this part.
pub fn tell(results: &[Steps]) {
    // The test's name may stand at the beginning of the line.
    println!();
    for (call, steps) in results.iter().enumerate() {
        let Steps {
            fewest,
            most,
            stops,
            runs,
            scenes,
        } = steps;
        println!("{RESULT} {call} {fewest} {most} {stops} {runs} {scenes}");
    }
}

/// Has other processes do all parts, of the test with that name.
pub fn run(test: &str) -> Vec<Steps> {
    let count = thread::available_parallelism().map_or(1, |count| count.get().min(4));
    let children: Vec<Child> = (0..count)
        .map(|index| {
            let mut command = again(test);
            command.env(PART, format!("{index}/{count}"));
            command.stdout(Stdio::piped());
            command.spawn().expect("the test runs")
        })
        .collect();
    let mut results = vec![Steps::default(); CALLS.len()];
    // All end before one that failed is told of.
    let outputs = children.into_iter().map(Child::wait_with_output);
    let outputs: Vec<_> = outputs.collect();
    for output in outputs {
        let output = output.expect("the test runs");
        let text = String::from_utf8_lossy(&output.stdout);
        holds!(output.status.success(), "a part fails: {text}");
        for line in text.lines() {
            add(line, &mut results);
        }
    }
    results
}

/// Adds what a line tells, if it tells something.
fn add(line: &str, results: &mut [Steps]) {
    let mut words = line.split(' ');
    if words.next() != Some(RESULT) {
        return;
    }
    let numbers: Vec<usize> = words.filter_map(|word| word.parse().ok()).collect();
    let [call, fewest, most, stops, runs, scenes] = numbers[..] else {
        broken!("a part tells {line}");
    };
    results[call].add(Steps {
        fewest,
        most,
        stops,
        runs,
        scenes,
    });
}
