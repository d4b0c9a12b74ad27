//! `cargo xtask demo`: a golden Debian, three nodes with other disks, one run, and a comparison that trusts nobody.
//!
//! Everything happens in namespaces and on loop devices over sparse files of our own; nothing is left behind but the
//! archive of the golden Debian, for the next time.

mod judge;
mod stage;

use std::time::Instant;

use anyhow::{Result, bail};
use ka_tests::{binaries, debian, interrupt, scratch};

use crate::cli::DemoOptions;
use crate::{packages, root};

/// Runs the demo and fails when any clone differs.
pub(crate) fn run(options: &DemoOptions) -> Result<()> {
    interrupt::catch()?;
    if !options.no_setup {
        packages::install_missing()?;
    }
    if std::env::var_os(binaries::DIR_VARIABLE).is_none() {
        let dir = binaries::own_dir()?;
        binaries::build(&dir, false)?;
        root::become_root("demo", &dir)?;
    }
    scratch::sweep();
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
