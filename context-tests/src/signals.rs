// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interruption: the handler of a POSIX timer's signal makes every data call, on the space
//! whose call it interrupted.
//!
//! An interruption counts if a flag says that a data call is under way, and if the thread
//! has come further since the last one. What follows it is decided by counts alone, and it
//! goes on until each call was interrupted [`REQUIRED`] times.

use crate::calls::{CALLS, Call, ROWS};
use crate::fill::fill;
use crate::hand::{Hand, Manner, OTHER, SUBJECT};
use crate::inside::Inside;
use crate::plant;
use crate::scenes::flush;
use crate::scenes::lent;
use crate::world::{Meddling, PLACES, Place, flushes_at, forever, places};
use libc::{c_int, c_void, siginfo_t, ucontext_t};
use pace::Pace;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;
use timers::{Sends, Timers};
use watch::Watch;

mod pace;
mod timers;
mod watch;

/// Each call has to be interrupted so often.
const REQUIRED: u64 = 100_000;
/// And so often by a handler that made each other call.
const REQUIRED_BY_EACH: u64 = 1_000;
/// At each of its places a call has at least half its share of them.
const REQUIRED_AT_EACH: u64 = REQUIRED / PLACES as u64 / 2;
/// How many scenes the handler plays each time; the next ones follow the next time.
const SCENES: usize = 4;
/// How often a short call is made in a scene that is interrupted.
const REPEAT: u32 = 64;
/// Scenes between two looks at which call was interrupted the fewest times.
const BATCH: usize = 128;
/// Batches between two checks that everything can be had again.
const CHECKED: u32 = 8;
/// How often its first scene is played for each of the others.
const FIRSTS: usize = 8;
/// With so many signals and still too few interruptions something is wrong. It takes some
/// fifteen million.
const ATTEMPTS: u64 = 400_000_000;
/// Likewise with so many batches in turn in which no signal came.
const SILENT: u32 = 1_000_000;
/// Signals after which the time between two is decided anew.
const WINDOW: u64 = 4_000;

/// What was counted. All threads count here.
struct Counts {
    /// Of each call at each place.
    interrupted: Vec<[AtomicU64; PLACES]>,
    /// Of each call by each other.
    by: Vec<Vec<AtomicU64>>,
}

/// The signals of a thread.
#[derive(Debug, Default, Clone, Copy)]
struct Came {
    signals: u64,
    /// In the middle of a data call.
    inside: u64,
    /// Before the thread had come further.
    idle: u64,
}

/// A look at the signals that came, and at how long the thread had run by then.
#[derive(Debug, Default, Clone, Copy)]
struct Window {
    came: Came,
    ran: i64,
}

/// One thread that is interrupted, with spaces of its own.
struct Thread {
    places: Vec<&'static Place>,
    counts: &'static Counts,
    timers: Timers,
    /// In which call the thread is.
    inside: Inside,
    /// In which call its handler is.
    handler: Inside,
    /// In which call it is between two batches.
    between: Inside,
    place: Cell<usize>,
    /// How many calls had ended at the last interruption, and where it was.
    last: Cell<(u64, u64)>,
    /// Signals without progress since then.
    idle_in_turn: Cell<u32>,
    came: Cell<Came>,
    watch: Watch,
    /// Of the handler: how often it came, and the scene that is next.
    turns: Cell<u64>,
    next_scene: Cell<usize>,
}

fn add(to: &AtomicU64) {
    to.fetch_add(1, Relaxed);
}

impl Counts {
    fn new() -> Counts {
        Counts {
            interrupted: CALLS.iter().map(|_| Default::default()).collect(),
            by: CALLS
                .iter()
                .map(|_| CALLS.iter().map(|_| AtomicU64::new(0)).collect())
                .collect(),
        }
    }

    fn interrupted(&self, call: Call) -> u64 {
        let places = self.interrupted[call as usize].iter();
        places.map(|count| count.load(Relaxed)).sum()
    }

    /// The place where there were the fewest, and how many.
    fn fewest_at(&self, call: Call) -> (usize, u64) {
        let places = (0..PLACES).filter(|&place| call.is_at(place));
        let of = |place: usize| self.interrupted[call as usize][place].load(Relaxed);
        let counts = places.map(|place| (place, of(place)));
        counts.min_by_key(|(_, count)| *count).unwrap_or((0, 0))
    }

    /// The fewest by one other call.
    fn fewest_by(&self, call: Call) -> (Call, u64) {
        let others = CALLS.iter().zip(&self.by[call as usize]);
        let counts = others.map(|(&other, count)| (other, count.load(Relaxed)));
        counts.min_by_key(|(_, count)| *count).unwrap_or((call, 0))
    }

    /// The call that lacks most, and a place for it.
    fn neediest(&self) -> Option<(Call, usize)> {
        let lacks = |&&call: &&Call| {
            self.interrupted(call) < REQUIRED
                || self.fewest_at(call).1 < REQUIRED_AT_EACH
                || self.fewest_by(call).1 < REQUIRED_BY_EACH
        };
        let call = CALLS
            .iter()
            .filter(lacks)
            .min_by_key(|&&call| self.interrupted(call));
        call.map(|&call| (call, self.fewest_at(call).0))
    }
}

/// All scenes of the table, one after the other.
fn scene_at(index: usize) -> fn(&Hand) {
    let mut index = index;
    for row in ROWS {
        match row.scenes.get(index) {
            Some(&scene) => return scene,
            None => index -= row.scenes.len(),
        }
    }
    broken!("there are fewer scenes")
}

fn scene_count() -> usize {
    ROWS.iter().map(|row| row.scenes.len()).sum()
}

/// Where a thread was interrupted.
fn address(context: *mut c_void) -> u64 {
    // SAFETY: the kernel's own, for the handler that asks.
    let context = unsafe { &*context.cast::<ucontext_t>() };
    #[cfg(target_arch = "x86_64")]
    return context.uc_mcontext.gregs[libc::REG_RIP as usize] as u64;
    #[cfg(target_arch = "aarch64")]
    return context.uc_mcontext.pc;
    // Elsewhere only a call that has ended is progress.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return {
        let _ = context;
        0
    };
}

extern "C" fn on_timer(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the timers alone send this signal, and they were given a thread.
    let thread: &Thread = unsafe { timers::sender(info) };
    thread.interrupted(address(context));
}

extern "C" fn on_look(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the timers alone send this signal, too.
    let thread: &Thread = unsafe { timers::sender(info) };
    thread.watch.look(&thread.handler);
}

impl Thread {
    fn new(counts: &'static Counts) -> Thread {
        let places = places();
        Thread {
            places,
            counts,
            timers: Timers::new(),
            inside: Inside::new(),
            handler: Inside::listing(),
            between: Inside::new(),
            place: Cell::new(0),
            last: Cell::new((0, 0)),
            idle_in_turn: Cell::new(0),
            came: Cell::default(),
            watch: Watch::default(),
            turns: Cell::new(0),
            next_scene: Cell::new(0),
        }
    }

    /// The handler: makes a part of all calls, if it came in the middle of one.
    fn interrupted(&'static self, address: u64) {
        let counts = self.counts;
        let mut came = self.came.get();
        came.signals += 1;
        let now = (self.inside.begun(), address);
        if self.last.replace(now) == now {
            came.idle += 1;
            self.came.set(came);
            let idle = self.idle_in_turn.get() + 1;
            self.idle_in_turn.set(idle);
            // The signals leave no time for anything else.
            if idle.is_multiple_of(64) {
                self.timers.slow_down();
            }
            return;
        }
        self.idle_in_turn.set(0);
        let call = self.inside.call();
        came.inside += u64::from(call.is_some());
        self.came.set(came);
        let Some(call) = call else {
            return;
        };
        add(&counts.interrupted[call as usize][self.place.get()]);
        let made = self.answer(call);
        for (other, by) in counts.by[call as usize].iter().enumerate() {
            if made & 1 << other != 0 {
                add(by);
            }
        }
    }

    /// Plays the next scenes in the middle of that call. Returns which calls were made.
    fn answer(&'static self, call: Call) -> u64 {
        let turn = self.turns.get();
        self.turns.set(turn + 1);
        let mut hand = Hand::new(self.places[self.place.get()], &self.handler, OTHER);
        hand.withheld = call.row().withholds.max(1);
        if turn % 8 == 5 {
            hand.manner = Manner::Harsh;
            // Where the subject has paused it, nothing could be attached.
            lent::resume(&hand);
        }
        if flushes_at(self.place.get()) {
            // What it frees waits, and is nobody's for a while.
            hand.meddle(Meddling::Filled);
        }
        self.handler.forget_made();
        for _ in 0..SCENES {
            let next = self.next_scene.get();
            hand.play(scene_at(next));
            self.next_scene.set((next + 1) % scene_count());
        }
        if turn % 32 == 3 {
            fill(&hand).check(call.row().withholds, Some(call));
        }
        if turn % 256 == 77 {
            hand.manner = Manner::Closing;
        }
        lent::meddle(&hand);
        self.handler.made()
    }

    /// Makes calls until each was interrupted often enough.
    fn run(&'static self) {
        let (mut pace, mut window) = (Pace::new(), Window::default());
        self.timers.start(self, pace.gap());
        let (mut batches, mut silent, mut signals) = (0_u32, 0, 0);
        while let Some((call, place)) = self.counts.neediest() {
            self.place.set(place);
            let place = self.places[place];
            let mut hand = Hand::new(place, &self.inside, SUBJECT);
            hand.repeat = REPEAT;
            let (first, others) = call.row().scenes.split_at(1);
            // The first is the one in which most of the time is spent in the call.
            let firsts = first.iter().cycle().take(FIRSTS);
            for &scene in firsts.chain(others).cycle().take(BATCH) {
                hand.play(scene);
                if place.closed.load(Relaxed) {
                    self.mend(place);
                }
            }
            self.mend(place);
            batches += 1;
            let came = self.came.get().signals;
            silent = if came == signals { silent + 1 } else { 0 };
            signals = came;
            holds!(
                silent < SILENT && signals < ATTEMPTS,
                "{signals} signals, and {} was interrupted {} times of {REQUIRED}",
                call.name(),
                self.counts.interrupted(call)
            );
            if batches.is_multiple_of(CHECKED) {
                self.check_nothing_is_kept(place);
            }
            self.pace(&mut pace, &mut window);
        }
        self.timers.stop();
    }

    /// Opens what was closed. What waits in a group waits for itself, so it is flushed
    /// while there is a handle. The calls made here are not to be interrupted.
    fn mend(&'static self, place: &'static Place) {
        let mut hand = Hand::new(place, &self.between, OTHER);
        hand.withheld = 0;
        flush::all(&hand);
        place.mend();
    }

    /// Between two batches: all was given back. No more than in `mend` is
    /// interrupted.
    fn check_nothing_is_kept(&'static self, place: &'static Place) {
        let mut hand = Hand::new(place, &self.between, OTHER);
        hand.withheld = 0;
        flush::all(&hand);
        let empty = place.space.shadow.is_empty() && place.ids.shadow.is_empty();
        holds!(empty, "a scene keeps something of {}", place.name);
        fill(&hand).check(0, None);
    }

    /// Decides after each window how often the signals are to come.
    fn pace(&self, pace: &mut Pace, window: &mut Window) {
        let came = self.came.get();
        if came.signals < window.came.signals + WINDOW {
            return;
        }
        let before = std::mem::replace(
            window,
            Window {
                came,
                ran: timers::ran(),
            },
        );
        let new = (came.signals - came.idle) - (before.came.signals - before.came.idle);
        if self.timers.gap() > pace.gap() {
            // The handler has slowed them down.
            pace.starves();
        } else {
            pace.met(new as f64 / (window.ran - before.ran) as f64);
        }
        self.timers.arm(pace.gap());
    }
}

/// Interrupts every data call, in the middle of which the handler makes them all, until each
/// was interrupted 100,000 times. Prints what it did.
pub fn interrupt_every_call() {
    plant::read();
    timers::install(Sends::Interruption, on_timer);
    timers::install(Sends::Look, on_look);
    let counts = forever(Counts::new());
    let count = thread::available_parallelism().map_or(1, |count| count.get().min(4));
    let start = Instant::now();
    let threads: Vec<_> = (0..count)
        .map(|_| {
            thread::spawn(|| {
                let thread = forever(Thread::new(counts));
                thread.run();
                (thread.came.get(), thread.timers.gap())
            })
        })
        .collect();
    let ended = threads.into_iter().map(|thread| thread.join());
    let ended: Vec<_> = ended.map(|ended| ended.expect("no panic")).collect();
    counts.print();
    let seconds = start.elapsed().as_secs_f64();
    let of = |of: fn(&Came) -> u64| ended.iter().map(|(came, _)| of(came)).sum::<u64>();
    let gaps: Vec<_> = ended.iter().map(|(_, gap)| gap / 1000).collect();
    println!(
        "{count} threads, {} signals in {seconds:.0} s: {} inside a call, {} outside, \
         {} without progress; {gaps:?} microseconds apart at the end",
        of(|came| came.signals),
        of(|came| came.inside),
        of(|came| came.signals - came.inside - came.idle),
        of(|came| came.idle),
    );
}

impl Counts {
    fn print(&self) {
        println!(
            "{:<26}{:>13} {:>13}   least by",
            "call", "interrupted", "at one place"
        );
        for &call in CALLS {
            let name = call.name();
            let (all, (other, by)) = (self.interrupted(call), self.fewest_by(call));
            let (_, place) = self.fewest_at(call);
            println!("{name:<26}{all:>13} {place:>13}   {by} by {}", other.name());
            holds!(
                all >= REQUIRED && by >= REQUIRED_BY_EACH,
                "{name} too rarely"
            );
        }
    }
}
