//! `cargo xtask demo`: KA at work, on one screen.
//!
//! Everything happens in namespaces, on loop devices over sparse files of our own and in emulated machines; nothing is
//! left behind but the archive of the golden Debian, for the next time.

mod disks;
mod machines;

use anyhow::Result;
use ka_tests::{binaries, interrupt, scratch};

use crate::cli::DemoOptions;
use crate::{packages, root};

/// Runs the demo and fails when any clone is not what it should be.
pub(crate) fn run(options: &DemoOptions) -> Result<()> {
    interrupt::catch()?;
    if !options.no_setup {
        packages::install_missing()?;
    }
    if std::env::var_os(binaries::DIR_VARIABLE).is_none() {
        let dir = binaries::own_dir()?;
        binaries::build(&dir, false)?;
        if !options.disks {
            binaries::build_static(&dir)?;
        }
        root::become_root("demo", &dir)?;
    }
    scratch::sweep();
    if options.disks {
        disks::run()
    } else {
        machines::run()
    }
}
