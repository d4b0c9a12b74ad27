//! `cargo xtask demo --disks`: a golden Debian, three nodes with different disks, one run, and an independent
//! comparison. It takes a minute and starts no machine.

mod judge;
mod stage;

use std::time::Instant;

use anyhow::{Result, bail};
use ka_tests::debian;

/// Runs the demo and fails when any clone differs.
pub(super) fn run() -> Result<()> {
    println!("A golden Debian by debootstrap (kept for the next time) …");
    let archive = debian::archive()?;
    let started = Instant::now();
    println!("… is {}", archive.display());
    let stage = stage::Stage::new(&archive)?;
    stage.describe()?;
    stage.clone_all()?;
    let judged = judge::all(&stage)?;
    println!(
        "\n{judged} of {} clones are what they should be; {:.0} s.",
        stage.nodes(),
        started.elapsed().as_secs_f64()
    );
    if judged < stage.nodes() {
        bail!("some clones differ: see above");
    }
    Ok(())
}
