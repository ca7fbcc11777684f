// SPDX-License-Identifier: MIT OR Apache-2.0
//! The benchmarks. `cargo xtask bench` runs them and prints the report; criterion's
//! own options work too: `cargo bench -p pasid-benches -- find`.

mod alloc;
mod attach;
mod find;
mod memory;
mod payloads;
mod quarantine;
mod references;
mod sets;
mod snapshots;
mod threads;

use std::path::Path;
use std::time::Duration;

use criterion::Criterion;
use pasid_benches::heap::Counting;
use pasid_benches::report::Report;

#[global_allocator]
static HEAP: Counting = Counting;

fn main() -> std::io::Result<()> {
    // Defaults only: the command line overrides them.
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500))
        .without_plots()
        .configure_from_args();
    let mut report = Report::default();
    alloc::run(&mut criterion, &mut report);
    references::run(&mut criterion, &mut report);
    find::run(&mut criterion, &mut report);
    sets::run(&mut criterion, &mut report);
    quarantine::run(&mut criterion, &mut report);
    attach::run(&mut criterion, &mut report);
    payloads::run(&mut criterion, &mut report);
    threads::run(&mut criterion, &mut report);
    memory::run(&mut report);
    snapshots::run(&mut report);
    criterion.final_summary();
    // Without this option, which `cargo bench` gives, criterion only tries each
    // benchmark once.
    if std::env::args().any(|argument| argument == "--bench") {
        // Cargo's target folder, also where it is not `target`.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
        println!("wrote {}", report.write(&target)?.display());
    }
    Ok(())
}
