// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options of `pasidctl run`.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use pasid::{PasidWidth, Policy};

use super::plan::WIDE_BITS;
use super::rules::Rule;
use crate::machine::Source;

/// The options of `pasidctl run`. Without any it runs for 5 seconds on all CPUs,
/// on the machine that is built in.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) source: Source,
    /// How long the load runs, 1 to 86400 seconds
    #[arg(long, value_name = "N", default_value = "5", value_parser = seconds,
          allow_negative_numbers = true)]
    seconds: Duration,
    /// How many threads it has, 1 to 1024; as many as there are CPUs if not given
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    threads: Option<NonZeroU16>,
    /// Where the random numbers come from, 0 to 2^64-1; another seed each time if
    /// not given. The same seed gives each thread the same choices; how the
    /// threads meet differs
    #[arg(long, value_name = "S", value_parser = seed, allow_negative_numbers = true)]
    pub(super) seed: Option<u64>,
    /// The order in which drivers' sets hand PASIDs out
    #[arg(long, value_enum, default_value_t = Order::Mixed)]
    pub(super) policy: Order,
    /// The most bits that a table has, 6 to 20; the device's own if not given
    #[arg(long, value_name = "BITS", value_parser = width, allow_negative_numbers = true)]
    pub(super) width: Option<PasidWidth>,
    /// Print one JSON object, with widths in bits, and no progress
    #[arg(long)]
    pub(super) json: bool,
    /// Leave a snapshot of the space as it is when the load ends, as JSON (.json) or
    /// postcard (.postcard)
    #[arg(long, value_name = "FILE")]
    pub(super) snapshot: Option<PathBuf>,
    /// Break a rule on purpose, to see its check fail
    #[arg(long, value_name = "RULE", value_enum, ignore_case = true)]
    pub(super) plant: Option<Rule>,
}

impl Args {
    /// How long the load runs.
    pub(super) fn time(&self) -> Duration {
        self.seconds
    }

    /// How many threads it has.
    pub(super) fn threads(&self) -> u16 {
        let all = || {
            let cpus = thread::available_parallelism().map_or(1, usize::from);
            u16::try_from(cpus).map_or(THREADS_LAST, |cpus| cpus.min(THREADS_LAST))
        };
        self.threads.map_or_else(all, NonZeroU16::get)
    }
}

/// The policies of the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Each driver's set has another one
    Mixed,
    /// The lowest free PASID
    Lowest,
    /// The next free one after the last that was handed out
    Next,
    /// From the upper half of the range down
    PreserveNarrow,
    /// Each thread in a part of its own
    Spread,
}

impl Order {
    /// The name by which `--policy` knows it.
    pub fn name(self) -> &'static str {
        match self {
            Order::Mixed => "mixed",
            Order::Lowest => "lowest",
            Order::Next => "next",
            Order::PreserveNarrow => "preserve-narrow",
            Order::Spread => "spread",
        }
    }

    /// The policy of a driver's `index`th set.
    pub fn policy(self, index: usize) -> Policy {
        const ALL: [Policy; 4] = [
            Policy::Lowest,
            Policy::Next,
            Policy::PreserveNarrow,
            Policy::Spread,
        ];
        match self {
            Order::Mixed => ALL[index % ALL.len()],
            Order::Lowest => Policy::Lowest,
            Order::Next => Policy::Next,
            Order::PreserveNarrow => Policy::PreserveNarrow,
            Order::Spread => Policy::Spread,
        }
    }
}

/// A day.
const SECONDS_LAST: u64 = 86_400;

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (1..=SECONDS_LAST).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| format!("the load runs for 1 to {SECONDS_LAST} seconds"))
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("a seed is a number from 0 to {}", u64::MAX))
}

/// More would not fit a machine's memory before they fit its CPUs.
const THREADS_LAST: u16 = 1024;

fn threads(text: &str) -> Result<NonZeroU16, String> {
    text.parse()
        .ok()
        .filter(|threads: &NonZeroU16| threads.get() <= THREADS_LAST)
        .ok_or_else(|| format!("the number of threads is 1 to {THREADS_LAST}"))
}

fn width(text: &str) -> Result<PasidWidth, String> {
    text.parse()
        .ok()
        .and_then(|bits| PasidWidth::new(bits).ok())
        .filter(|&width| width.bits() >= WIDE_BITS)
        .ok_or_else(|| {
            format!(
                "the width of a table here is {WIDE_BITS} to {} bits",
                PasidWidth::MAX.bits()
            )
        })
}
