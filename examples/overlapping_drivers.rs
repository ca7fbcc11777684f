// SPDX-License-Identifier: MIT OR Apache-2.0
//! Three drivers that number their PASIDs as they like, beside user SVA.
//!
//! A PASID means something only together with the device that sent it: each device has its
//! PASID table in front of its IOMMU. So drivers of different devices may use the same
//! number. A process that is shared with devices must have the same number on all of
//! them, so it needs one that no driver uses, on any device. Here they ask for
//! overlapping numbers on purpose, and the allocator keeps apart what must be apart.
//!
//! Run it with `cargo run --example overlapping_drivers`.

use pasid::{
    Attach, Attachment, Error, IoasidSet, Owned, Pasid, PasidRange, PasidWidth, Pool, RequesterId,
    Scope, SetConfig, Space, SpaceKind, Table, TableConfig,
};
use std::collections::BTreeSet;
use std::error::Error as AnyError;
use std::fmt::Display;
use std::io::{self, Write};

type Told<T = ()> = Result<T, Box<dyn AnyError>>;

fn main() -> Told {
    story(&mut io::stdout())
}

/// Tells the story, and fails where it does not go as it says.
pub fn story(out: &mut impl Write) -> Told {
    let space = Space::new(SpaceKind::Both);
    let machine = build(&space, out)?;
    drivers_may_have_the_same_number(&machine, out)?;
    a_process_has_one_that_no_driver_has(&machine, out)?;
    some_are_reserved(&machine, out)?;
    a_quota_is_kept(&machine, out)?;
    a_fault_finds_the_right_one(&machine, out)?;
    everybody_at_once(&machine, out)
}

// ---- The machine -----------------------------------------------------------------------

/// The tables in front of the IOMMUs, and the sets that the drivers were given.
struct Machine {
    accelerator: Table,
    graphics: Table,
    /// The two ports of a network device: a table each.
    ports: [Table; 2],

    queues: IoasidSet,
    contexts: IoasidSet,
    /// The same number must mean the same on both ports: a group.
    flows: IoasidSet,
    users: IoasidSet,
}

/// The value that the IOMMU of graphics uses itself: its RID_PASID, for DMA without a PASID.
const RID_PASID: u16 = 1;

fn range(first: u16, last: u16) -> PasidRange {
    let last = Pasid::from_u16(last);
    PasidRange::new(Pasid::from_u16(first), last).unwrap_or(PasidRange::single(last))
}

fn build(space: &Space, out: &mut impl Write) -> Told<Machine> {
    writeln!(out, "THE MACHINE")?;
    let table = |name: &str, id: u32, bits: u8, reserved: &[PasidRange], out: &mut dyn Write| {
        let width = PasidWidth::new(bits)?;
        let table = space.add_table(TableConfig::new(width).reserved(reserved))?;
        table.join(RequesterId(id), width)?;
        table.preload(range(0, 255))?;
        writeln!(out, "  {} {name}, {bits} PASID bits", RequesterId(id))?;
        Told::Ok(table)
    };
    let accelerator = table("accelerator", 0x3a00, 20, &[], out)?;
    let rid_pasid = [Pasid::from_u16(RID_PASID).into()];
    let graphics = table("graphics", 0x3b00, 16, &rid_pasid, out)?;
    let ports = [
        table("network, port 0", 0x5e00, 10, &[], out)?,
        table("network, port 1", 0x5e01, 8, &[], out)?,
    ];
    writeln!(
        out,
        "  PASID 0 is reserved everywhere, and {RID_PASID} on graphics: its RID_PASID."
    )?;

    writeln!(out, "\nTHE SETS: four, whose ranges overlap")?;
    let set = |name: &str, config: SetConfig<'_>, out: &mut dyn Write| {
        let set = space.add_set(config)?;
        writeln!(out, "  {name:27}  {}", set.range())?;
        Told::Ok(set)
    };
    let queues = SetConfig::new(Scope::Local(&accelerator)).range(range(0, 127));
    let contexts = SetConfig::new(Scope::Local(&graphics)).range(range(0, 255));
    let flows = SetConfig::new(Scope::Group(&ports)).range(range(0, 199));
    let users = SetConfig::new(Scope::Global).quota(3);
    let machine = Machine {
        queues: set("queues of the accelerator", queues, out)?,
        contexts: set("contexts of graphics", contexts, out)?,
        flows: set("flows of both network ports", flows, out)?,
        users: set("user processes, everywhere", users, out)?,
        accelerator,
        graphics,
        ports,
    };
    writeln!(out, "  User processes have a quota of 3 PASIDs.")?;
    Ok(machine)
}

/// One line of what somebody asked for and got.
fn tell<T>(
    out: &mut impl Write,
    what: impl Display,
    result: Result<T, Error>,
    show: impl Fn(&T) -> String,
) -> io::Result<Option<T>> {
    match result {
        Ok(value) => {
            writeln!(out, "  {what}: {}", show(&value))?;
            Ok(Some(value))
        }
        Err(error) => {
            writeln!(out, "  {what}: refused, {error} (errno {})", error.errno())?;
            Ok(None)
        }
    }
}

/// Asks a set for one number, and tells what came of it. The number is free again at the
/// end of the line.
fn ask(out: &mut impl Write, who: &str, set: &IoasidSet, number: u16) -> Told {
    let number = Pasid::from_u16(number);
    set.preload(number.into())?;
    let owned = set.alloc_at(number, 0);
    tell(out, format!("{who} asks for {number}"), owned, |_| {
        "yes".into()
    })?;
    Ok(())
}

// ---- The chapters ----------------------------------------------------------------------

fn seven(set: &IoasidSet) -> Told<Owned<&IoasidSet>> {
    let seven = Pasid::from_u16(7);
    set.preload(seven.into())?;
    Ok(set.alloc_at(seven, 0)?)
}

fn drivers_may_have_the_same_number(machine: &Machine, out: &mut impl Write) -> Told {
    writeln!(
        out,
        "\n1. DRIVERS OF DIFFERENT DEVICES MAY HAVE THE SAME NUMBER"
    )?;
    let queue = seven(&machine.queues)?;
    let context = seven(&machine.contexts)?;
    let flow = seven(&machine.flows)?;
    writeln!(
        out,
        "  The accelerator has {}, graphics has {}, and the network has {}, on both ports.",
        queue.pasid(),
        context.pasid(),
        flow.pasid()
    )?;
    writeln!(out, "  On one table it is somebody's, once:")?;
    ask(out, "the accelerator", &machine.queues, 7)?;
    writeln!(
        out,
        "  And a process cannot have it, since it may meet any device:"
    )?;
    ask(out, "a process", &machine.users, 7)?;
    drop((queue, context));
    writeln!(
        out,
        "  The accelerator and graphics free theirs; the network still has its 7:"
    )?;
    ask(out, "a process", &machine.users, 7)?;
    drop(flow);
    writeln!(out, "  The network frees it too:")?;
    ask(out, "a process", &machine.users, 7)
}

fn a_process_has_one_that_no_driver_has(machine: &Machine, out: &mut impl Write) -> Told {
    writeln!(out, "\n2. A PROCESS HAS A NUMBER THAT NO DRIVER HAS")?;
    let (queues, users) = (&machine.queues, &machine.users);
    let held: Vec<_> = (0..3)
        .map(|_| queues.alloc(queues.range(), 0))
        .collect::<Result<_, _>>()?;
    let numbers: Vec<_> = held.iter().map(|owned| owned.pasid().to_string()).collect();
    writeln!(
        out,
        "  The accelerator takes the lowest three: {}.",
        numbers.join(", ")
    )?;
    let process = users.alloc(users.range(), 0)?;
    let number = process.pasid();
    writeln!(
        out,
        "  A process takes the lowest that nobody has: {number}."
    )?;
    writeln!(out, "  No driver gets it now, whatever its device:")?;
    ask(out, "graphics", &machine.contexts, 4)?;
    ask(out, "the network", &machine.flows, 4)?;
    let next = queues.alloc(queues.range(), 0)?;
    writeln!(
        out,
        "  The accelerator's next is {}: it goes round the process.",
        next.pasid()
    )?;
    Ok(())
}

fn some_are_reserved(machine: &Machine, out: &mut impl Write) -> Told {
    writeln!(out, "\n3. SOME ARE RESERVED, WHERE THEY ARE")?;
    ask(out, "graphics", &machine.contexts, RID_PASID)?;
    ask(out, "the accelerator", &machine.queues, RID_PASID)?;
    ask(out, "a process", &machine.users, RID_PASID)?;
    ask(out, "the accelerator", &machine.queues, 0)?;
    writeln!(
        out,
        "  Graphics gives another to its firmware, while it runs."
    )?;
    let firmware = Pasid::from_u16(9);
    machine.graphics.reserve(firmware)?;
    ask(out, "graphics", &machine.contexts, 9)?;
    ask(out, "a process", &machine.users, 9)?;
    machine.graphics.unreserve(firmware)?;
    Ok(())
}

fn a_quota_is_kept(machine: &Machine, out: &mut impl Write) -> Told {
    writeln!(out, "\n4. A QUOTA KEEPS PROCESSES FROM TAKING ALL")?;
    let users = &machine.users;
    let mut processes = Vec::new();
    for name in ["editor", "browser", "player", "game"] {
        let owned = users.alloc(users.range(), 0);
        let show = |owned: &Owned<_>| format!("PASID {}", owned.pasid());
        processes.extend(tell(out, name, owned, show)?);
    }
    writeln!(out, "  The quota is raised to 4.")?;
    users.set_quota(4)?;
    let owned = users.alloc(users.range(), 0);
    let show = |owned: &Owned<_>| format!("PASID {}", owned.pasid());
    processes.extend(tell(out, "game", owned, show)?);
    let lowered = users.set_quota(2);
    tell(out, "lowered to 2", lowered, |()| "yes".into())?;
    drop(processes);
    users.set_quota(64)?;
    Ok(())
}

/// Writes a PASID into a table's hardware, with what the device's faults are answered by.
fn attach<'a>(
    table: &'a Table,
    owned: &Owned<&IoasidSet>,
    word: u64,
) -> Told<Attachment<&'a Table>> {
    let attaching = table.attach(owned, word)?;
    // Here a driver writes the entry of the hardware's table.
    Ok(attaching.commit()?)
}

fn fault(out: &mut impl Write, device: &str, table: &Table, number: Pasid) -> Told {
    let who = |word| match word {
        0xACC => "a queue of the accelerator",
        0x6FC => "a context of graphics",
        0xF10 => "a flow of the network",
        _ => "the editor",
    };
    let fault = table.fault_get(number);
    let what = format!("{device} reports a fault for {number}");
    tell(out, what, fault, |fault| {
        format!("it is {}", who(fault.word()))
    })?;
    Ok(())
}

fn a_fault_finds_the_right_one(machine: &Machine, out: &mut impl Write) -> Told {
    writeln!(
        out,
        "\n5. A FAULT BRINGS A NUMBER, AND THE TABLE SAYS WHOSE IT IS"
    )?;
    let Machine {
        accelerator,
        graphics,
        ports: [port0, port1],
        ..
    } = machine;
    let queue = seven(&machine.queues)?;
    let context = seven(&machine.contexts)?;
    let flow = seven(&machine.flows)?;
    let on_accelerator = attach(accelerator, &queue, 0xACC)?;
    let _on_graphics = attach(graphics, &context, 0x6FC)?;
    let _on_ports = [attach(port0, &flow, 0xF10)?, attach(port1, &flow, 0xF10)?];
    let editor = machine.users.alloc(machine.users.range(), 0)?;
    let number = editor.pasid();
    let _editors = [
        attach(accelerator, &editor, 0xED1)?,
        attach(graphics, &editor, 0xED1)?,
    ];
    for (device, table) in [
        ("accelerator", accelerator),
        ("graphics", graphics),
        ("port 1", port1),
    ] {
        fault(out, device, table, queue.pasid())?;
    }
    fault(out, "accelerator", accelerator, number)?;
    fault(out, "graphics", graphics, number)?;
    writeln!(out, "  Nobody attached the editor to the network:")?;
    fault(out, "port 0", port0, number)?;
    writeln!(out, "  A driver cannot attach another device's PASID:")?;
    let wrong = graphics.attach(&queue, 0).map(drop);
    tell(out, "graphics attaches the accelerator's 7", wrong, |()| {
        "yes".into()
    })?;
    writeln!(
        out,
        "  The accelerator frees its 7 before the hardware has let go of it:"
    )?;
    let seven = queue.pasid();
    drop(queue);
    fault(out, "accelerator", accelerator, seven)?;
    ask(out, "the accelerator", &machine.queues, 7)?;
    on_accelerator.detach();
    writeln!(
        out,
        "  The entry is detached, and the number is free; graphics kept its own:"
    )?;
    ask(out, "the accelerator", &machine.queues, 7)?;
    fault(out, "graphics", graphics, seven)
}

fn take(set: &IoasidSet, count: usize) -> Result<Vec<Owned<&IoasidSet>>, Error> {
    (0..count).map(|_| set.alloc(set.range(), 0)).collect()
}

fn everybody_at_once(machine: &Machine, out: &mut impl Write) -> Told {
    writeln!(out, "\n6. ALL FOUR AT ONCE, ON THREADS OF THEIR OWN")?;
    const EACH: usize = 40;
    let sets = [
        &machine.queues,
        &machine.contexts,
        &machine.flows,
        &machine.users,
    ];
    let taken = std::thread::scope(|scope| {
        let threads = sets.map(|set| scope.spawn(move || take(set, EACH)));
        threads.map(|thread| thread.join())
    });
    // They are held until the numbers are compared.
    let mut owned: Vec<Vec<Owned<&IoasidSet>>> = Vec::new();
    for taken in taken {
        owned.push(taken.map_err(|_| "a thread panicked")??);
    }
    let numbers: Vec<BTreeSet<Pasid>> = owned
        .iter()
        .map(|owned| owned.iter().map(Owned::pasid).collect())
        .collect();
    let twice = numbers
        .iter()
        .filter(|numbers| numbers.len() < EACH)
        .count();
    writeln!(
        out,
        "  Each took {EACH}. Sets that got a number twice: {twice}."
    )?;
    let (users, drivers) = numbers.split_last().ok_or("four sets")?;
    let met = drivers
        .iter()
        .map(|numbers| numbers.intersection(users).count());
    writeln!(
        out,
        "  Numbers of processes that a driver has too, on any device: {}.",
        met.sum::<usize>()
    )?;
    let all_have = |number: &&Pasid| drivers.iter().all(|numbers| numbers.contains(number));
    let shared = drivers.iter().flatten().find(all_have).is_some();
    let shared = if shared { "some" } else { "none" };
    writeln!(
        out,
        "  Numbers that all three drivers have, each for its own device: {shared}."
    )?;
    drop(owned);
    writeln!(out, "  The drivers are unloaded, and the processes exit.")?;
    for set in sets {
        set.close();
        let left = set.statistics();
        assert_eq!((left.live, left.freeing), (0, 0), "something is left");
    }
    Ok(())
}
