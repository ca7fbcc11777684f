// SPDX-License-Identifier: MIT OR Apache-2.0
//! Suspension: a data call is stopped after every instruction, and meanwhile another thread
//! completes all calls, and takes all PASIDs there are.

use crate::calls::{CALLS, Call, Of, Scene};
use crate::fill::{complete, fill};
use crate::hand::{Hand, Manner, OTHER, SUBJECT};
use crate::inside::Inside;
use crate::plant;
use crate::scenes::flush;
use crate::world::{PLACES, Place, forever, places};
use course::Mode;
use parts::Part;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use trap::Stepper;

mod baton;
mod course;
mod parts;
mod text;
mod trap;

/// The turn of who is not to go on.
const OVER: u32 = 2;
/// A call of more instructions is stopped after several of them each time, see
/// [`Mode::Each`], where the other thread's doings would be over after the first stop.
const ALONE_LAST: usize = 1000;

/// What the other thread is to do.
#[derive(Clone, Copy)]
struct Order {
    place: usize,
    manner: Manner,
}

/// What stepping a call came to.
#[derive(Debug, Default, Clone, Copy)]
struct Steps {
    /// Undisturbed, the shortest and the longest.
    fewest: usize,
    most: usize,
    stops: usize,
    runs: usize,
    scenes: usize,
}

impl Steps {
    fn add(&mut self, more: Steps) {
        self.fewest = match (self.scenes, more.scenes) {
            (0, _) => more.fewest,
            (_, 0) => self.fewest,
            _ => self.fewest.min(more.fewest),
        };
        self.most = self.most.max(more.most);
        self.stops += more.stops;
        self.runs += more.runs;
        self.scenes += more.scenes;
    }
}

/// One thread that is stopped, and the other one.
struct Pair {
    places: Vec<&'static Place>,
    stepper: &'static Stepper,
    subject: &'static Inside,
    order: Mutex<Order>,
}

/// One thing to do: a call in a scene at a place, and what the other thread does to it.
#[derive(Clone, Copy)]
struct Job {
    call: Call,
    scene: Scene,
    order: Order,
}

impl Pair {
    fn new() -> Pair {
        let subject = forever(Inside::new());
        Pair {
            places: places(),
            stepper: forever(Stepper::new(subject)),
            subject,
            order: Mutex::new(Order {
                place: 0,
                manner: Manner::Gentle,
            }),
        }
    }

    /// The other thread: whenever it is its turn, it completes everything.
    fn go_on(&self) {
        let inside = forever(Inside::new());
        trap::be_other(inside);
        // SAFETY: asks for a number.
        let thread = unsafe { libc::gettid() };
        self.stepper.other_thread.store(thread, Ordering::Relaxed);
        let baton = &self.stepper.baton;
        loop {
            while !baton.wait(OTHER as u32) {
                if baton.turn() == OVER {
                    return;
                }
            }
            let order = *self.order.lock().expect("nobody panics");
            let mut hand = Hand::new(self.places[order.place], inside, OTHER);
            hand.manner = order.manner;
            let Some(call) = self.stepper.call() else {
                broken!("stopped in no call");
            };
            hand.withheld = call.row().withholds.max(1);
            complete(&hand, call);
            baton.pass(SUBJECT as u32);
        }
    }

    /// Steps one call in one scene until it was stopped after each instruction. `None` if
    /// the scene does not make the call at this place.
    fn step(&self, job: Job) -> Option<Steps> {
        let place = self.places[job.order.place];
        *self.order.lock().expect("nobody panics") = job.order;
        let hand = Hand::new(place, self.subject, SUBJECT);
        let run = |mode, first, may_break| {
            self.stepper.begin(job.call, mode, first, may_break);
            hand.play(job.scene);
            let ended = self.stepper.end();
            self.settle(place);
            ended
        };
        let length = run(Mode::Record, 0, false)?.count;
        let alone = job.order.manner != Manner::Gentle && length <= ALONE_LAST;
        let mode = if alone { Mode::Alone } else { Mode::Each };
        let mut steps = Steps {
            fewest: length,
            most: length,
            scenes: 1,
            ..Steps::default()
        };
        let mut first = 0;
        loop {
            // Another way than the recorded one may pass the breakpoint by.
            let ended = run(mode, first, true).filter(|ended| ended.stops > 0);
            let Some(ended) = ended.or_else(|| run(mode, first, false)) else {
                broken!("{} was made once and not again", job.call.name());
            };
            steps.runs += 1;
            steps.stops += ended.stops;
            if ended.stops == 0 {
                return Some(steps);
            }
            first = ended.next;
        }
    }

    /// After a scene: everything was given back and can be had again.
    fn settle(&self, place: &'static Place) {
        let mut hand = Hand::new(place, self.subject, OTHER);
        hand.withheld = 0;
        flush::all(&hand);
        holds!(
            place.space.shadow.is_empty() && place.ids.shadow.is_empty(),
            "a scene keeps something of {}",
            place.name
        );
        place.mend();
        fill(&hand).check(0, None);
        place.begin_anew();
    }
}

/// Everything that is to be done.
fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for place in 0..PLACES {
        for &call in CALLS {
            if !call.is_at(place) {
                continue;
            }
            for &scene in call.row().scenes {
                for manner in [Manner::Gentle, Manner::Harsh, Manner::Closing] {
                    if call.row().of == Of::Ids && manner == Manner::Closing {
                        continue;
                    }
                    jobs.push(Job {
                        call,
                        scene,
                        order: Order { place, manner },
                    });
                }
            }
        }
    }
    jobs
}

/// Stops every data call after each of its instructions and lets another thread complete
/// all calls meanwhile: nobody waits, and at most one PASID is withheld. Prints what it did.
/// `test` is the name of the test that this is: parts of it run in processes of their own.
pub fn step_every_call(test: &str) {
    match parts::of_this_process() {
        Some(part) => parts::tell(&step_part(part)),
        None => print(&parts::run(test)),
    }
}

fn step_part(part: Part) -> Vec<Steps> {
    plant::read();
    trap::install();
    let mut results = vec![Steps::default(); CALLS.len()];
    let pair = Pair::new();
    thread::scope(|scope| {
        scope.spawn(|| pair.go_on());
        pair.stepper.be_subject();
        while pair.stepper.other_thread.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        for job in jobs().into_iter().skip(part.index).step_by(part.count) {
            if let Some(steps) = pair.step(job) {
                results[job.call as usize].add(steps);
            }
        }
        pair.stepper.baton.pass(OVER);
    });
    results
}

fn print(results: &[Steps]) {
    println!(
        "{:<26}{:>7} {:>13} {:>9} {:>9}",
        "call", "scenes", "instructions", "stops", "runs"
    );
    let mut all = Steps::default();
    for (call, steps) in CALLS.iter().zip(results) {
        let name = call.name();
        holds!(steps.stops > 0, "{name} was never stopped");
        println!(
            "{name:<26}{:>7} {:>6} {:>6} {:>9} {:>9}",
            steps.scenes, steps.fewest, steps.most, steps.stops, steps.runs
        );
        all.add(*steps);
    }
    println!(
        "{:<26}{:>7} {:>13} {:>9} {:>9}",
        "all", all.scenes, "", all.stops, all.runs
    );
}
