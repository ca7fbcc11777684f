// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared virtual addressing on two devices, from the drivers' side.
//!
//! A graphics device behind VT-d has 20 PASID bits, a network device behind an SMMUv3 has 8.
//! (No machine has both IOMMUs; here they show that only what is written into the
//! hardware differs.) The story follows their PASIDs from the capability registers to
//! the removal of a device.
//!
//! Run it with `cargo run --example sva_host`.

use pasid::limits::{PasidCapability, smmuv3_width, vtd_width};
use pasid::{
    Attach, Attachment, Error, Fault, Flush, IoasidSet, Pasid, PasidCell, PasidRange, PasidWidth,
    Policy, Reuse, Scope, SetConfig, Space, SpaceKind, Table, TableConfig,
};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

type Told<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Told {
    story(&mut io::stdout())
}

// ---- What a kernel has ---------------------------------------------------------------

/// An address space: a process's, or the kernel's as one device sees it. Its PASID lives
/// and dies with it.
struct AddressSpace {
    name: &'static str,
    page_table: u64,
    pasid: PasidCell<Arc<IoasidSet>>,
}

impl AddressSpace {
    /// One without a PASID: it gets one from `set` when it is bound first.
    fn new((name, page_table): (&'static str, u64), set: &Arc<IoasidSet>) -> AddressSpace {
        AddressSpace {
            name,
            page_table,
            pasid: PasidCell::new(set.clone()),
        }
    }
}

const KERNEL: (&str, u64) = ("kernel", 0xCAFE_0000);
const EDITOR: (&str, u64) = ("editor", 0xED17_0000);
const BROWSER: (&str, u64) = ("browser", 0xB205_0000);
const PLAYER: (&str, u64) = ("player", 0x91A7_0000);

/// Whose page table it is. A kernel would keep a pointer in the attachment's word.
fn owner_of(page_table: u64) -> &'static str {
    let all = [KERNEL, EDITOR, BROWSER, PLAYER];
    let owner = all.iter().find(|(_, root)| *root == page_table);
    owner.map_or("nobody", |(name, _)| name)
}

/// Where the IOMMU of a device looks for the page table of a PASID.
enum Hardware {
    /// In a PASID-table entry.
    VtD,
    /// In the context descriptor of a substream.
    SmmuV3,
}

/// A device, as its driver knows it.
struct Device {
    name: &'static str,
    hardware: Hardware,
    /// What the allocator knows of the device's PASID table.
    table: Arc<Table>,
    /// What the IOMMU finds in memory: the page table of each PASID.
    entries: BTreeMap<Pasid, u64>,
    /// The address space of in-kernel DMA.
    kernel: Arc<AddressSpace>,
}

/// An address space that is bound to a device. Dropping it unbinds.
type Bond = Attachment<Arc<Table>>;

/// What the table says of a page request: whose it is, or why it is nobody's.
type PageRequest = Result<Fault<Arc<Table>>, Error>;

// ---- What a driver does ----------------------------------------------------------------

impl Device {
    /// The device is found. `width` is what both it and its IOMMU have.
    fn probe(
        space: &Space,
        name: &'static str,
        hardware: Hardware,
        width: PasidWidth,
    ) -> Result<Device, Error> {
        let table = space.add_table(TableConfig::new(width))?;
        let own = Arc::new(space.add_set(SetConfig::new(Scope::Local(&table)))?);
        Ok(Device {
            name,
            hardware,
            table: Arc::new(table),
            entries: BTreeMap::new(),
            kernel: Arc::new(AddressSpace::new(KERNEL, &own)),
        })
    }

    /// The PASIDs that the device has entries for.
    fn limits(&self) -> PasidRange {
        self.table.width().range()
    }

    /// Binds an address space to the device: `iommu_sva_bind_device`.
    fn bind(&mut self, of: &AddressSpace, limits: PasidRange) -> Result<Bond, Error> {
        // The first device to come allocates the PASID, the others share it.
        let binding = of.pasid.bind(limits, of.page_table)?;
        let pasid = binding.pasid();
        self.table.preload(pasid.into())?;
        // First the allocator's entry, which no fault finds yet, then the hardware's, and
        // then faults may come. The attachment keeps a reference of its own.
        let attaching = self.table.clone().attach(&binding, of.page_table)?;
        self.entries.insert(pasid, of.page_table);
        let bond = attaching.commit();
        if bond.is_err() {
            // The device is being reset or removed: the hardware's entry goes again.
            self.entries.remove(&pasid);
        }
        bond
    }

    /// Unbinds: first the hardware's entry, then the allocator's.
    fn unbind(&mut self, bond: Bond) {
        self.entries.remove(&bond.pasid());
        bond.detach();
    }

    /// A page request came, with a number and nothing else: whose is it?
    ///
    /// The reference in the answer is held until the response is sent.
    fn fault(&self, pasid: Pasid) -> PageRequest {
        self.table.clone().fault_get(pasid)
    }

    /// What the hardware finds at `pasid`.
    fn entry(&self, pasid: Pasid) -> String {
        let page_table = self.entries.get(&pasid).copied().unwrap_or_default();
        let owner = owner_of(page_table);
        match self.hardware {
            Hardware::VtD => {
                format!("PASID-table entry {pasid} has first stage {page_table:#x}, the {owner}'s")
            }
            Hardware::SmmuV3 => {
                format!("context descriptor {pasid} has TTB0 {page_table:#x}, the {owner}'s")
            }
        }
    }
}

/// How a page request is answered.
fn response(request: &PageRequest) -> String {
    match request {
        Ok(fault) => format!("a page of the {}. Success", owner_of(fault.word())),
        Err(error @ Error::BeingFreed(_)) => format!("{error}. Response Failure"),
        Err(error @ Error::Closing) => format!("{error}. No response"),
        Err(error) => format!("{error}. Invalid Request"),
    }
}

// ---- The story ---------------------------------------------------------------------------

/// Tells the story.
pub fn story(out: &mut impl Write) -> Told {
    let space = Space::new(SpaceKind::Both);
    let (mut gpu, mut nic) = two_devices(out, &space)?;
    let kernels = [kernel_dma(out, &mut gpu)?, kernel_dma(out, &mut nic)?];

    // User PASIDs count on every device; wide devices leave the small ones to narrow ones;
    // and no number comes again before a flush has cleaned IOTLBs and queues.
    let config = SetConfig::new(Scope::Global)
        .policy(Policy::PreserveNarrow)
        .reuse(Reuse::AfterFlush);
    let users = Arc::new(space.add_set(config)?);
    let editor = AddressSpace::new(EDITOR, &users);
    let browser = AddressSpace::new(BROWSER, &users);

    let editor_on_gpu = one_device(out, &editor, &mut gpu, &mut nic)?;
    let browser_on = both_devices(out, &browser, &mut gpu, &mut nic)?;
    faults(
        out,
        [&editor_on_gpu, &browser_on[0]],
        &users,
        [&mut gpu, &mut nic],
    )?;
    reset(out, &users, &mut nic)?;
    exit(out, &editor, editor_on_gpu, &space, [&mut gpu, &mut nic])?;

    let [on_gpu, on_nic] = browser_on;
    let [of_gpu, of_nic] = kernels;
    removal(out, nic, [of_nic, on_nic])?;
    let fault = gpu.fault(on_gpu.pasid());
    writeln!(
        out,
        "   gpu faults on {}: {}",
        on_gpu.pasid(),
        response(&fault)
    )?;
    drop(fault);

    browser.pasid.retire();
    gpu.unbind(on_gpu);
    gpu.unbind(of_gpu);
    gpu.kernel.pasid.retire();
    let freed = space.flush(|_| Ok::<(), Error>(()))?;
    let left = users.count_live(users.range());
    writeln!(
        out,
        "\nThe browser exits too. {freed} PASID comes free, {left} are left."
    )?;
    Ok(())
}

fn two_devices(out: &mut impl Write, space: &Space) -> Told<(Device, Device)> {
    writeln!(out, "Two devices are found.")?;
    // What the IOMMUs say: VT-d's extended capability register, SMMUv3's IDR1. What the
    // devices say: their PASID capability registers.
    let of_gpu = PasidCapability::from_register(0x1404)?.width;
    let width = of_gpu.min(vtd_width(1 << 40 | 19 << 35)?);
    writeln!(out, "   gpu, behind VT-d: {} PASID bits", width.bits())?;
    let gpu = Device::probe(space, "gpu", Hardware::VtD, width)?;

    let of_nic = PasidCapability::from_register(0x1004)?.width;
    let width = of_nic.min(smmuv3_width(8 << 6)?);
    writeln!(out, "   nic, behind an SMMUv3: {} PASID bits", width.bits())?;
    let nic = Device::probe(space, "nic", Hardware::SmmuV3, width)?;
    writeln!(
        out,
        "\nTheir drivers take PASIDs for in-kernel DMA, each of its own table."
    )?;
    Ok((gpu, nic))
}

/// The driver binds the kernel to its device. The PASID is one of its own table, so two
/// drivers may have the same number.
fn kernel_dma(out: &mut impl Write, device: &mut Device) -> Told<Bond> {
    let (kernel, limits) = (device.kernel.clone(), device.limits());
    let bond = device.bind(&kernel, limits)?;
    writeln!(out, "   {}: {}", device.name, device.entry(bond.pasid()))?;
    // Another part of the driver asks, and gets the same.
    let shared = kernel.pasid.bind(limits, 0)?;
    assert_eq!(shared.handle(), bond.handle());
    Ok(bond)
}

/// Bound to a wide device first, a process may have a PASID that a narrow one lacks.
fn one_device(
    out: &mut impl Write,
    editor: &AddressSpace,
    gpu: &mut Device,
    nic: &mut Device,
) -> Told<Bond> {
    writeln!(
        out,
        "\nThe editor uses the gpu, and later wants the nic too."
    )?;
    let bond = gpu.bind(editor, gpu.limits())?;
    writeln!(out, "   gpu: {}", gpu.entry(bond.pasid()))?;
    if let Err(error) = nic.bind(editor, nic.limits()) {
        writeln!(out, "   nic: refused, {error}")?;
    }
    if editor.pasid.find() == Some(bond.handle()) {
        writeln!(out, "   The editor keeps the PASID that it has.")?;
    }
    Ok(bond)
}

/// Where it is known that both will come, the first binds within what both have.
fn both_devices(
    out: &mut impl Write,
    browser: &AddressSpace,
    gpu: &mut Device,
    nic: &mut Device,
) -> Told<[Bond; 2]> {
    writeln!(
        out,
        "\nThe browser is known to use both, and is bound within both."
    )?;
    let both = gpu.limits().intersect(nic.limits());
    let both = both.ok_or("tables have PASID 0 in common, at least")?;
    let on_gpu = gpu.bind(browser, both)?;
    let on_nic = nic.bind(browser, both)?;
    writeln!(out, "   gpu: {}", gpu.entry(on_gpu.pasid()))?;
    writeln!(out, "   nic: {}", nic.entry(on_nic.pasid()))?;
    if let Some(handle) = browser.pasid.find() {
        let pasid = handle.pasid();
        writeln!(
            out,
            "   One number for both, which ENQCMD can send: {pasid}"
        )?;
    }
    Ok([on_gpu, on_nic])
}

/// Page faults bring a number. A device reaches what is attached to it, and nothing else.
fn faults(
    out: &mut impl Write,
    [editor_on_gpu, browser_on]: [&Bond; 2],
    users: &Arc<IoasidSet>,
    [gpu, nic]: [&mut Device; 2],
) -> Told {
    writeln!(out, "\nPage requests come.")?;
    let mut fault = |device: &Device, pasid: Pasid| {
        let said = response(&device.fault(pasid));
        writeln!(out, "   {} faults on {pasid}: {said}", device.name)
    };
    fault(gpu, editor_on_gpu.pasid())?;
    fault(gpu, browser_on.pasid())?;
    fault(nic, browser_on.pasid())?;
    // A PASID that the nic has bits for, but which is bound to the gpu alone.
    let player = AddressSpace::new(PLAYER, users);
    let plays = gpu.bind(&player, nic.limits())?;
    fault(nic, plays.pasid())?;
    // And numbers that the nic makes up.
    fault(nic, editor_on_gpu.pasid())?;
    fault(nic, Pasid::from_u16(77))?;
    gpu.unbind(plays);
    Ok(())
}

/// The nic is reset: what it had in its memory is gone, what was bound is bound.
fn reset(out: &mut impl Write, users: &Arc<IoasidSet>, nic: &mut Device) -> Told {
    writeln!(out, "\nThe nic hangs and is reset.")?;
    let player = AddressSpace::new(PLAYER, users);
    nic.table.pause();
    nic.entries.clear();
    if let Err(error) = nic.bind(&player, nic.limits()) {
        writeln!(out, "   nic: the {} is not bound now, {error}", player.name)?;
    }
    let table = nic.table.clone();
    for attached in table.attachments(nic.limits()) {
        nic.entries.insert(attached.pasid, attached.word);
        writeln!(out, "   nic: {}, as before", nic.entry(attached.pasid))?;
    }
    nic.table.resume();
    let bond = nic.bind(&player, nic.limits())?;
    writeln!(out, "   nic: {}, now that it runs", nic.entry(bond.pasid()))?;
    nic.unbind(bond);
    Ok(())
}

/// A process exits while a page request of it is being served.
fn exit(
    out: &mut impl Write,
    editor: &AddressSpace,
    bond: Bond,
    space: &Space,
    [gpu, nic]: [&mut Device; 2],
) -> Told {
    writeln!(out, "\nThe editor exits while the gpu waits for a page.")?;
    let pasid = bond.pasid();
    let served = gpu.fault(pasid);
    editor.pasid.retire();
    let late = gpu.fault(pasid);
    writeln!(out, "   gpu faults on {pasid} again: {}", response(&late))?;
    gpu.unbind(bond);
    writeln!(out, "   What it waited for: {}", response(&served))?;
    drop((served, late));

    // The number is in nobody's hands any more, but perhaps in caches. One flush is for all
    // that were freed, and knows what was attached where.
    let freed = space.flush(|batch| {
        let mut said = Vec::new();
        for device in [&*gpu, &*nic] {
            for range in batch.ranges_on(&device.table) {
                said.push(format!("   {}: invalidate {range}\n", device.name));
            }
        }
        out.write_all(said.concat().as_bytes())
    })?;
    writeln!(
        out,
        "   {freed} PASIDs come free, with those that the player had."
    )?;
    Ok(())
}

/// The nic is pulled out. There is no hardware to write any more.
fn removal(out: &mut impl Write, nic: Device, bonds: [Bond; 2]) -> Told {
    writeln!(out, "\nThe nic is pulled out of its slot.")?;
    nic.table.close();
    let [kernel, browser] = bonds;
    let fault = nic.fault(browser.pasid());
    writeln!(
        out,
        "   nic faulted on {}: {}",
        browser.pasid(),
        response(&fault)
    )?;
    if let Err(error) = nic.kernel.pasid.bind(nic.limits(), 0) {
        writeln!(out, "   nic: no more in-kernel DMA, {error}")?;
    }
    drop((fault, kernel, browser));
    let left = nic.table.attachments(nic.limits()).count();
    writeln!(out, "   nic: {left} PASIDs are attached")?;
    Ok(())
}
