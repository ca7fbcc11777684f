// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pasidctl run`: a machine's PASID tables under a load like that of device drivers and
//! Shared Virtual Addressing, with every rule checked while it runs.
//!
//! Drivers allocate on their tables and on groups of tables, processes on all of them;
//! PASIDs are attached, devices fault, are reset, removed and added again, on all CPUs at
//! once. What the allocator answers is compared with what the load itself knows: see
//! [`shadow`] and [`drill`].

mod answer;
mod bind;
mod control;
mod drill;
mod driver;
mod fault;
mod finish;
mod flush;
mod id;
mod layout;
mod leaving;
mod lookup;
mod measure;
mod options;
mod phase;
mod plan;
mod plant;
mod quarantine;
mod report;
mod rules;
mod scarce;
mod shadow;
mod sides;
mod story;
mod text;
mod worker;
mod world;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::CreationError;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pasid::{Pasid, Space, SpaceKind};

use crate::machine::MachineError;
use crate::snapshot::file::{self, FileError};
use crate::{complain, print};
use layout::Builder;
use measure::Meter;
use plan::Plan;
use quarantine::Tally;
use report::{Findings, Report};
use rules::{RULES, Rule};
use scarce::{Scarce, Second};
use shadow::Row;
use sides::{Side, Sides};
use story::Story;
pub use text::group;
use worker::Worker;
use world::World;

pub use options::Args;

/// The exit code if a rule broke.
const BROKEN: u8 = 1;
/// How often the display is renewed.
const DISPLAY_EVERY: Duration = Duration::from_millis(100);

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine could not be read.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The machine has nothing that PASIDs are for.
    #[error("{origin}: no device has PASID support")]
    NoPasids {
        /// Where the machine comes from.
        origin: String,
    },
    /// The machine may have it, and does not show it.
    #[error(
        "{origin}: no device shows PASID support, and what there may be is unreadable: {reason}"
    )]
    Unreadable {
        /// Where the machine comes from.
        origin: String,
        /// Why, and what to do about it.
        reason: &'static str,
    },
    /// The width asked for is more than any device has.
    #[error("a width of {width} bits is more than the {widest} of the widest device ({origin})")]
    TooWide {
        /// What was asked for, in bits.
        width: u8,
        /// What there is, in bits.
        widest: u8,
        /// Where the machine comes from.
        origin: String,
    },
    /// No table has numbers to spare for exact checks.
    #[error("{origin}: no device has {least} bits or more, which the load needs")]
    TooNarrow {
        /// Where the machine comes from.
        origin: String,
        /// What is needed, in bits.
        least: u8,
    },
    /// The space could not be prepared.
    #[error("the space cannot be prepared: {0}")]
    Space(#[from] pasid::Error),
    /// A thread could not be started.
    #[error("thread {number} of {threads} cannot be started: {error}")]
    Thread {
        /// Which one, from 1.
        number: usize,
        /// How many were asked for.
        threads: usize,
        /// Why.
        error: io::Error,
    },
    /// A thread panicked.
    #[error("a thread of the load panicked")]
    Panicked,
    /// A histogram could not be made.
    #[error("the times cannot be kept: {0}")]
    Histogram(#[from] CreationError),
    /// The snapshot could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The result could not be turned into JSON.
    #[error("the result cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The result could not be printed.
    #[error("the result cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// Runs the load and prints what it found. The exit code is 1 if a rule broke.
///
/// # Errors
/// [`RunError`], and then nothing was printed that could be taken for a result.
pub fn run(args: &Args) -> Result<ExitCode, RunError> {
    if let Some(path) = &args.snapshot {
        file::check_name(path)?;
    }
    let machine = args.source.read_or_builtin()?;
    let plan = Plan::new(&machine, args.width, args.policy)?;
    let report = load(&plan, args)?;
    let text = if args.json {
        serde_json::to_string_pretty(&report)?
    } else {
        report.text()
    };
    print(&text)?;
    for complaint in report.complaints() {
        complain(&complaint);
    }
    Ok(if report.is_broken() {
        ExitCode::from(BROKEN)
    } else {
        ExitCode::SUCCESS
    })
}

/// What a thread leaves.
struct Done {
    meter: Meter,
    checked: [u64; RULES],
    highest: Option<Pasid>,
}

/// Runs the load.
fn load(plan: &Plan, args: &Args) -> Result<Report, RunError> {
    let clock_ns = measure::clock_ns();
    let seed = args.seed.unwrap_or_else(|| fastrand::u32(..).into());
    let threads = args.threads();
    let story = Story::tell(plan, seed, args.plant == Some(Rule::Drain))?;
    let scarce = Scarce::new(threads)?;
    let stranger = scarce.stranger()?;
    let second = Second {
        scarce: &scarce,
        foreign: stranger.handle(),
    };
    let threads = usize::from(threads);
    let builder = Builder {
        // PASID 0 is reserved by default.
        space: Space::new(SpaceKind::Both),
        plan: plan.clone(),
        sides: Arc::new(Sides::new()),
        globals: Arc::new(Row::new()),
        tally: Arc::new(Tally::default()),
    };
    builder.sides.add(Pasid::ZERO, Side::Space).ok();
    let world = World::new(builder, second, args.plant, threads)?;
    let workers = (0..threads).map(|index| Worker::new(&world, seed, index));
    let workers = workers.collect::<Result<Vec<_>, _>>()?;

    let started = Instant::now();
    let watch = || watch(&world, started, args);
    let done = run_threads(&world, workers, started + args.time(), watch)?;
    let seconds = started.elapsed().as_secs_f64();
    let memory_bytes = world.builder.space.memory_bytes();

    // It stands in for one that has ended.
    let mut last = Worker::new(&world, seed, 0)?;
    if let Some(path) = &args.snapshot {
        file::write(path, &leaving::snapshot(&mut last)?)?;
    }
    finish::finish(&mut last);
    let mut checked = last.checked;
    checked[Rule::Drain as usize] += story.judge(world.ledger());
    checked[Rule::Flush as usize] += world.builder.tally.checked();
    let mut meter = Meter::new()?;
    for thread in &done {
        meter.add(&thread.meter);
        for (sum, count) in checked.iter_mut().zip(thread.checked) {
            *sum += count;
        }
    }
    Ok(Report::new(&Findings {
        plan,
        threads,
        seed,
        plant: args.plant,
        seconds,
        meter: &meter,
        clock_ns,
        story: &story,
        tally: &world.builder.tally,
        highest: done.iter().filter_map(|thread| thread.highest).max(),
        memory_bytes,
        checked,
    }))
}

/// Runs every worker on a thread of its own until `deadline`, and `watch` beside
/// them.
fn run_threads<'w>(
    world: &World<'w>,
    workers: Vec<Worker<'w>>,
    deadline: Instant,
    watch: impl FnOnce(),
) -> Result<Vec<Done>, RunError> {
    let threads = workers.len();
    thread::scope(|scope| {
        let mut running = Vec::with_capacity(threads);
        let mut failure = None;
        for (index, mut worker) in workers.into_iter().enumerate() {
            let work = move || {
                worker.run(deadline);
                Done {
                    meter: worker.meter,
                    checked: worker.checked,
                    highest: worker.highest,
                }
            };
            match thread::Builder::new().spawn_scoped(scope, work) {
                Ok(thread) => running.push(thread),
                Err(error) => {
                    let number = index + 1;
                    failure = Some(RunError::Thread {
                        number,
                        threads,
                        error,
                    });
                    break;
                }
            }
        }
        match failure {
            None => watch(),
            Some(_) => world.stop(),
        }
        let done: Vec<_> = running
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        match failure {
            Some(failure) => Err(failure),
            None => done
                .into_iter()
                .map(|result| result.map_err(|_| RunError::Panicked))
                .collect(),
        }
    })
}

/// Shows how far the load is, until its time is over.
fn watch(world: &World<'_>, started: Instant, args: &Args) {
    let time = args.time();
    let bar = ProgressBar::new(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    bar.set_draw_target(if args.json {
        ProgressDrawTarget::hidden()
    } else {
        // Hidden where standard error is no terminal.
        ProgressDrawTarget::stderr()
    });
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {msg}") {
        bar.set_style(style);
    }
    loop {
        let elapsed = started.elapsed();
        let Some(left) = time.checked_sub(elapsed).filter(|left| !left.is_zero()) else {
            break;
        };
        let calls = world.progress();
        bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        bar.set_message(format!(
            "{:.1} of {:.0} s, failed checks: {}, {:.1} Mops/s, {} calls",
            elapsed.as_secs_f64(),
            time.as_secs_f64(),
            group(world.ledger().total()),
            calls as f64 / elapsed.as_secs_f64().max(1e-9) / 1e6,
            group(calls)
        ));
        thread::sleep(left.min(DISPLAY_EVERY));
    }
    bar.finish_and_clear();
}
