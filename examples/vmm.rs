// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VMM with two guests on one device, one of which moves to another host.
//!
//! The device is shared the way of Scalable I/O Virtualization: each guest has a part of it,
//! and all parts have one PASID table in front of the IOMMU. So the host hands out the
//! PASIDs, and each guest has numbers of its own for them, which the VMM translates when
//! the guest's driver submits work and when a page fault comes back.
//!
//! Run it with `cargo run --example vmm`.

use pasid::snapshot::{Numbers, Restore, Restored, SpaceSnapshot};
use pasid::{
    AliasMap, Attach, Attachment, Error, Flush, Handle, IoasidSet, Owned, Pasid, PasidRange,
    PasidWidth, Pool, Reuse, Scope, SetConfig, Space, SpaceKind, Table, TableConfig, VirtualTable,
};
use std::error::Error as AnyError;
use std::io::{self, Write};
use std::sync::Arc;

type Told<T = ()> = Result<T, Box<dyn AnyError>>;
type Set = Arc<IoasidSet>;

fn main() -> Told {
    story(&mut io::stdout())
}

/// Tells the story, and fails where it does not go as it says.
pub fn story(out: &mut impl Write) -> Told {
    writeln!(out, "ONE DEVICE, TWO GUESTS")?;
    let host = Host::new()?;
    let mut alma = host.start("alma", 1, 4)?;
    let mut bert = host.start("bert", 2, 2)?;
    writeln!(
        out,
        "  The host has a device of 20 PASID bits, and lends it to two guests."
    )?;
    writeln!(
        out,
        "  alma may have 4 PASIDs and bert 2. Both are shown a device of 8 bits."
    )?;

    same_numbers(&host, &mut alma, &mut bert, out)?;
    a_fault(&host, &alma, &bert, out)?;
    an_exit(&host, &mut alma, out)?;
    let snapshot = stop(&host, &alma, out)?;
    let other = Host::new()?;
    let moved = arrive(&other, &alma, &snapshot, out)?;
    leave(&host, alma, &bert, out)?;
    go_on(&other, moved, out)
}

// ---- The machine -------------------------------------------------------------------------

/// A machine with one device that guests share.
struct Host {
    space: Space,
    device: Table,
}

/// A guest, as its VMM knows it.
struct Guest {
    name: &'static str,
    id: u64,
    set: Set,
    aliases: AliasMap<Set>,
    /// The device as the guest sees it.
    device: VirtualTable<Set>,
    processes: Vec<Process>,
}

/// One of a guest's address spaces, to which its part of the device was given.
struct Process {
    number: Pasid,
    owned: Owned<Set>,
    attachment: Attachment<Arc<Table>>,
}

/// What a fault has to say: which guest, and the number that the guest knows.
fn word(guest: u64, number: Pasid) -> u64 {
    guest << 32 | u64::from(number.get())
}

fn guest_and_number(word: u64) -> (u64, u64) {
    (word >> 32, word & 0xffff_ffff)
}

fn name(id: u64) -> &'static str {
    match id {
        1 => "alma",
        2 => "bert",
        _ => "cleo",
    }
}

const fn number(number: u16) -> Pasid {
    Pasid::from_u16(number)
}

impl Host {
    fn new() -> Told<Host> {
        let space = Space::new(SpaceKind::Tables);
        let device = space.add_table(TableConfig::new(PasidWidth::MAX))?;
        device.preload(PasidRange::new(number(0), number(255))?)?;
        Ok(Host { space, device })
    }

    /// Starts a guest: a set with a quota for it, and a map of its numbers.
    fn start(&self, name: &'static str, id: u64, quota: u32) -> Told<Guest> {
        let config = SetConfig::new(Scope::Local(&self.device))
            .quota(quota)
            .token(id)
            // The device may have faults queued for a PASID that is freed.
            .reuse(Reuse::AfterFlush);
        let set = Arc::new(self.space.add_set(config)?);
        let aliases = AliasMap::new();
        let device = aliases.add_table(PasidWidth::new(8)?, set.clone())?;
        device.preload(PasidRange::new(number(0), number(255))?)?;
        Ok(Guest {
            name,
            id,
            set,
            aliases,
            device,
            processes: Vec::new(),
        })
    }
}

impl Guest {
    /// The guest's driver binds a process to its device, under a number that it chose.
    fn bind(&mut self, host: &Host, number: Pasid) -> Result<Pasid, Error> {
        let word = word(self.id, number);
        let owned = self.set.clone().alloc(self.set.range(), word)?;
        self.device.attach(number, owned.handle())?;
        let table = Arc::new(host.device.clone());
        let attaching = table.attach(&owned, word)?;
        // ... the host writes its PASID table's entry ...
        let attachment = attaching.commit()?;
        let pasid = owned.pasid();
        self.processes.push(Process {
            number,
            owned,
            attachment,
        });
        Ok(pasid)
    }

    fn handles(&self) -> impl Iterator<Item = (Pasid, Handle)> + '_ {
        let processes = self.processes.iter();
        processes.map(|process| (process.number, process.owned.handle()))
    }
}

// ---- On the first host ----------------------------------------------------------------------

fn same_numbers(host: &Host, alma: &mut Guest, bert: &mut Guest, out: &mut impl Write) -> Told {
    writeln!(out, "\nTHE SAME NUMBERS")?;
    for guest in [alma, bert] {
        for own in [1, 2, 3] {
            match guest.bind(host, number(own)) {
                Ok(pasid) => writeln!(out, "  {}'s {own} is the host's {pasid}", guest.name)?,
                Err(error) => writeln!(out, "  {}'s {own}: {error}", guest.name)?,
            }
        }
    }
    writeln!(out, "  Neither guest can tell, nor reach the other's.")?;
    Ok(())
}

fn a_fault(host: &Host, alma: &Guest, bert: &Guest, out: &mut impl Write) -> Told {
    writeln!(out, "\nA PAGE FAULT")?;
    // The device reports the host's PASID, and nothing else.
    let pasid = bert.device.find(number(2))?.pasid();
    let fault = host.device.fault_get(pasid)?;
    let (id, own) = guest_and_number(fault.word());
    writeln!(
        out,
        "  The device faults on PASID {pasid}. The table says: {}, number {own}.",
        name(id)
    )?;
    writeln!(
        out,
        "  The VMM hands the fault to {}, and the PASID stays while it waits.",
        name(id)
    )?;
    // The guest's answer names its own number; the VMM finds the host's.
    let answered = bert.device.find_and_get(number(2))?;
    writeln!(
        out,
        "  {} answers for its {own}, which is the host's {}.",
        name(id),
        answered.pasid()
    )?;
    let wrong = alma.device.find(number(9));
    writeln!(
        out,
        "  alma's driver names 9, which it never bound: {}",
        said(wrong)
    )?;
    Ok(())
}

fn an_exit(host: &Host, alma: &mut Guest, out: &mut impl Write) -> Told {
    writeln!(out, "\nA PROCESS EXITS")?;
    let process = alma.processes.remove(2);
    let (own, pasid) = (process.number, process.owned.pasid());
    // A fault of it is still in the queue.
    let fault = host.device.fault_get(pasid)?;
    drop(process.owned);
    writeln!(
        out,
        "  alma ends its {own}. Its driver still names it: {}",
        said(alma.device.find(own))
    )?;
    process.attachment.detach();
    alma.device.detach(own)?;
    drop(fault);
    let waiting = alma.set.statistics().waiting;
    writeln!(
        out,
        "  The entry is cleared and the last fault answered; {waiting} PASID awaits a flush."
    )?;
    let flushed = host.device.flush(|batch| {
        // ... the IOTLBs are invalidated, and the page requests drained ...
        writeln!(
            out,
            "  The IOMMU is told to forget {} PASID.",
            batch.count()
        )
    })?;
    writeln!(out, "  {flushed} PASID is free again.")?;
    Ok(())
}

// ---- Moving ----------------------------------------------------------------------------------

fn stop(host: &Host, alma: &Guest, out: &mut impl Write) -> Told<SpaceSnapshot> {
    writeln!(out, "\nALMA MOVES")?;
    let all = host.space.snapshot_with(&[&alma.aliases])?;
    let part = all.only(|_, set| set.token == Some(alma.id))?;
    let count: u64 = part.sets.iter().map(|set| set.count()).sum();
    writeln!(
        out,
        "  alma is stopped. Of the host's {} sets one goes along, with {count} PASIDs,",
        all.sets.len()
    )?;
    let quiet = if part.quiescent {
        "nothing"
    } else {
        "something"
    };
    writeln!(out, "  {quiet} changed while it was written down.")?;
    Ok(part)
}

/// What arrived: the guest, and what its VMM has to claim.
struct Arrived {
    restored: Restored,
    guest: Guest,
    /// Who was there before, and runs on.
    neighbour: Guest,
}

fn arrive(
    host: &Host,
    alma: &Guest,
    snapshot: &SpaceSnapshot,
    out: &mut impl Write,
) -> Told<Arrived> {
    let mut cleo = host.start("cleo", 3, 10)?;
    let theirs = cleo.bind(host, number(7))?;
    writeln!(
        out,
        "  The other host is busy: cleo has PASID {theirs} on a device like the first."
    )?;
    let before = host.space.snapshot()?;

    let tables = [(0, &host.device)];
    let restore = Restore::new(snapshot).on_tables(&tables);
    match restore.into_space(&host.space) {
        Ok(_) => return Err("a PASID was given out twice".into()),
        Err(error) => writeln!(out, "  With the same numbers it is refused: {error}")?,
    }
    let same = host.space.snapshot()? == before;
    writeln!(
        out,
        "  The host is {} it was.",
        if same { "as" } else { "not as" }
    )?;

    let mut restored = restore.numbers(Numbers::New).into_space(&host.space)?;
    let set = Arc::new(restored.set::<u64>(0).ok_or("alma's set has words")?);
    let mut maps = restored.alias_maps(|_| Ok(set.clone()))?;
    let aliases = maps.pop().ok_or("alma's map")?;
    let device = aliases.tables()?.pop().ok_or("alma's device")?;
    let mut guest = Guest {
        name: alma.name,
        id: alma.id,
        set,
        aliases,
        device,
        processes: Vec::new(),
    };
    writeln!(
        out,
        "  With new ones it arrives. Its VMM claims what it had, by the old handles:"
    )?;
    for (number, old) in alma.handles() {
        let owned = restored.claim(guest.set.clone(), old)?;
        let table = Arc::new(host.device.clone());
        let attachment = restored.claim_attachment(table, old.pasid())?;
        let (was, is) = (old.pasid(), owned.pasid());
        writeln!(out, "    alma's {number} was the host's {was}, and is {is}")?;
        guest.processes.push(Process {
            number,
            owned,
            attachment,
        });
    }
    Ok(Arrived {
        restored,
        guest,
        neighbour: cleo,
    })
}

fn leave(host: &Host, alma: Guest, bert: &Guest, out: &mut impl Write) -> Told {
    writeln!(out, "\nTHE FIRST HOST")?;
    // Its references go first: the set is gone with the last.
    alma.set.close();
    drop(alma);
    let flushed = host.device.flush(|_| Ok::<(), Error>(()))?;
    writeln!(
        out,
        "  alma's set is closed, and a flush gives back its {flushed} PASIDs."
    )?;
    let left: Vec<String> = host
        .space
        .sets()?
        .iter()
        .filter_map(|set| set.token().map(|token| name(token).to_owned()))
        .collect();
    writeln!(
        out,
        "  Guests here: {}, with {} PASIDs.",
        left.join(", "),
        bert.processes.len()
    )?;
    Ok(())
}

fn go_on(host: &Host, arrived: Arrived, out: &mut impl Write) -> Told {
    writeln!(out, "\nTHE OTHER HOST")?;
    let Arrived {
        restored,
        mut guest,
        neighbour,
    } = arrived;
    let unclaimed = restored.unclaimed().count();
    writeln!(out, "  Nothing of alma's is unclaimed: {}.", unclaimed == 0)?;
    restored.drop_unclaimed();
    let pasid = guest.device.find(number(1))?.pasid();
    let fault = host.device.fault_get(pasid)?;
    let (id, own) = guest_and_number(fault.word());
    writeln!(
        out,
        "  The device faults on PASID {pasid}. The table says: {}, number {own}.",
        name(id)
    )?;
    for own in [3, 4, 5] {
        match guest.bind(host, number(own)) {
            Ok(pasid) => writeln!(out, "  alma binds {own}: the host's {pasid}")?,
            Err(error) => writeln!(out, "  alma binds {own}: {error}")?,
        }
    }
    let theirs = neighbour.processes.len();
    writeln!(
        out,
        "  Her quota came along. cleo still has its {theirs} PASID."
    )?;
    Ok(())
}

fn said(found: Result<Handle, Error>) -> String {
    match found {
        Ok(handle) => format!("the host's {}", handle.pasid()),
        Err(error) => error.to_string(),
    }
}
