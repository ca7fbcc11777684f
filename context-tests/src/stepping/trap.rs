// SPDX-License-Identifier: MIT OR Apache-2.0
//! After each instruction: the handlers of the two signals, and who is asked there.
//!
//! With the trap flag set, the processor raises a trap after every instruction, which Linux
//! makes a SIGTRAP. On the subject's thread the handler decides whether to stop there, and
//! if so it waits until the other thread has completed everything. A breakpoint raises the
//! same signal.
//!
//! # Progress without a clock
//! The other thread must complete though the subject stands still. If it takes long, it is
//! looked at: a signal sets its trap flag, too, and its instructions are counted. More than
//! [`LAST`] in one data call, or a system call there, mean that it waits. How long it took
//! only decides when to look, never what is found.

use super::baton::Baton;
use super::course::{Course, Ended, LAST, Mode, Then};
use crate::calls::Call;
use crate::hand::{OTHER, SUBJECT};
use crate::inside::Inside;
use crate::world::Turns;
use libc::{REG_EFL, REG_RIP, c_int, c_void, siginfo_t, ucontext_t};
use std::cell::Cell;
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

const TRAP_FLAG: i64 = 0x100;

/// What the handlers on a thread work for.
#[derive(Clone, Copy)]
enum Role {
    Nobody,
    Subject(&'static Stepper),
    Other(&'static Inside),
}

thread_local! {
    static ROLE: Cell<Role> = const { Cell::new(Role::Nobody) };
    /// On the other thread, while it is looked at: how many calls it had ended, and how
    /// many instructions it has taken since.
    static LOOKED_AT: Cell<(u64, usize)> = const { Cell::new((0, 0)) };
}

/// Steps the calls of one thread.
pub struct Stepper {
    pub baton: Baton,
    pub other_thread: AtomicI32,
    subject: &'static Inside,
    course: Turns<Course>,
    /// What the subject is stopped in.
    call: AtomicU32,
}

impl Stepper {
    pub fn new(subject: &'static Inside) -> Stepper {
        Stepper {
            baton: Baton::new(SUBJECT as u32),
            other_thread: AtomicI32::new(0),
            subject,
            course: Turns::new(Course::new()),
            call: AtomicU32::new(u32::MAX),
        }
    }

    /// Lets the next call of that kind be stepped in that way, from its instruction number
    /// `first` on; up to there it runs if it `may_break`.
    pub fn begin(&self, call: Call, mode: Mode, first: usize, may_break: bool) {
        let begin = |course: &mut Course| course.begin(mode, first, may_break);
        let breakpoint = self.course.with(begin);
        self.call.store(call as u32, Ordering::Relaxed);
        self.subject.step(call, breakpoint);
    }

    /// What came of it. `None` if no such call was made.
    pub fn end(&self) -> Option<Ended> {
        let ended = self.course.with(|course| course.ended());
        self.subject.was_stepped().then_some(ended)
    }

    /// What the subject is stopped in.
    pub fn call(&self) -> Option<Call> {
        Call::at(self.call.load(Ordering::Relaxed) as usize)
    }

    /// Makes this thread the subject's.
    pub fn be_subject(&'static self) {
        ROLE.set(Role::Subject(self));
    }

    /// One instruction was taken, and the next is at `address`.
    fn stepped(&self, call: Call, address: usize) -> Then {
        check_no_system_call(call, address);
        let (ended, then) = self
            .course
            .with(|course| (course.ended(), course.step(address)));
        let name = call.name();
        holds!(
            ended.count < LAST,
            "{name} does not end: {LAST} instructions"
        );
        then
    }

    /// A trap in the subject: after an instruction, or at the breakpoint.
    fn trapped(&self, context: &mut ucontext_t) {
        let Some(call) = self.subject.call() else {
            return;
        };
        let registers = &mut context.uc_mcontext.gregs;
        let (place, address) = (self.subject.breakpoint(), registers[REG_RIP as usize]);
        let then = if place == 0 {
            self.stepped(call, address as usize)
        } else {
            let then = self.course.with(Course::pass);
            if then != Then::PutBack {
                holds!(address as usize == place + 1, "a trap at {address:#x}");
                self.subject.clear_breakpoint();
                registers[REG_RIP as usize] = place as i64;
            }
            then
        };
        match then {
            Then::StopAndStep | Then::StopAndRun => {
                self.subject.forget_breakpoint();
                self.stop();
            }
            Then::PutBack => self.subject.set_breakpoint(),
            Then::Step | Then::Run | Then::StepOver => {}
        }
        let flags = &mut registers[REG_EFL as usize];
        match then {
            Then::Step | Then::StopAndStep | Then::StepOver => *flags |= TRAP_FLAG,
            Then::Run | Then::StopAndRun | Then::PutBack => *flags &= !TRAP_FLAG,
        }
    }

    /// Stands still until the other thread has completed everything.
    fn stop(&self) {
        self.baton.pass(OTHER as u32);
        while !self.baton.wait(SUBJECT as u32) {
            let thread = self.other_thread.load(Ordering::Relaxed);
            // SAFETY: asks for a number.
            let process = unsafe { libc::getpid() };
            // SAFETY: sends a signal, for which there is a handler, to a thread of this
            // process, which lives as long as the subject's.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
        }
    }
}

/// Makes this thread the one that completes calls meanwhile.
pub fn be_other(inside: &'static Inside) {
    ROLE.set(Role::Other(inside));
}

/// Fails if the instruction at the address is a system call.
fn check_no_system_call(call: Call, address: usize) {
    // SAFETY: what is about to be executed, or was just executed, can be read; no
    // function ends within two bytes of the end of a program's text.
    let bytes = unsafe { ptr::read_unaligned(address as *const [u8; 2]) };
    let name = call.name();
    holds!(
        bytes != [0x0f, 0x05] && bytes != [0xcd, 0x80],
        "{name} makes a system call, at {address:#x}"
    );
}

/// A trap on the thread that completes calls, while it is looked at.
fn looked_at(inside: &Inside, context: &mut ucontext_t) {
    let registers = &mut context.uc_mcontext.gregs;
    let (ended, count) = LOOKED_AT.get();
    let Some(call) = inside.call().filter(|_| inside.begun() == ended) else {
        // It has ended, so it does not wait.
        registers[REG_EFL as usize] &= !TRAP_FLAG;
        return;
    };
    let address = registers[REG_RIP as usize] as usize;
    check_no_system_call(call, address);
    let name = call.name();
    holds!(
        count < LAST,
        "{name} waits for who is stopped: {LAST} instructions, the next at {address:#x}"
    );
    LOOKED_AT.set((ended, count + 1));
}

extern "C" fn on_trap(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's own, for this handler alone.
    let context = unsafe { &mut *context.cast::<ucontext_t>() };
    match ROLE.get() {
        Role::Subject(stepper) => stepper.trapped(context),
        Role::Other(inside) => looked_at(inside, context),
        Role::Nobody => broken!("a trap on a thread that nobody steps"),
    }
}

extern "C" fn on_look(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: as above.
    let context = unsafe { &mut *context.cast::<ucontext_t>() };
    let Role::Other(inside) = ROLE.get() else {
        return;
    };
    let Some(call) = inside.call() else {
        return;
    };
    let registers = &mut context.uc_mcontext.gregs;
    let address = registers[REG_RIP as usize] as usize;
    // A system call that is begun anew after the signal is at the address, and one that
    // ends with it is just before.
    check_no_system_call(call, address);
    check_no_system_call(call, address - 2);
    let flags = &mut registers[REG_EFL as usize];
    if *flags & TRAP_FLAG == 0 {
        *flags |= TRAP_FLAG;
        LOOKED_AT.set((inside.begun(), 0));
    }
}

/// Has the two handlers called.
pub fn install() {
    for (signal, handler) in [
        (libc::SIGTRAP, on_trap as *const () as usize),
        (libc::SIGUSR1, on_look as *const () as usize),
    ] {
        // SAFETY: all zeros is a sigaction.
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // Neither handler runs in the middle of the other.
        // SAFETY: the set is the action's own.
        unsafe { libc::sigfillset(&raw mut action.sa_mask) };
        // SAFETY: the handler has the signature that SA_SIGINFO asks for.
        let result = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
        holds!(result == 0, "the handler of signal {signal} is refused");
    }
}
