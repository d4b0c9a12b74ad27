//! `cargo xtask demo`: KA at work, on one screen.
//!
//! Everything happens in namespaces, on loop devices over sparse files of our own and in emulated machines; nothing is
//! left behind but the archive of the golden Debian, for the next time.

mod disks;
mod machines;

use anyhow::Result;

use crate::cli::DemoOptions;
use crate::root;

/// Runs the demo and fails when any clone is not what it should be.
pub(crate) fn run(options: &DemoOptions) -> Result<()> {
    root::enter_lab("demo", options.no_setup, !options.disks)?;
    if options.disks {
        disks::run()
    } else {
        machines::run()
    }
}
