//! `cargo xtask demo`: KA at work, on one screen.
//!
//! The demo uses only namespaces, loop devices over its own sparse files, and emulated machines. It leaves
//! nothing behind except the archive of the golden Debian, for the next time.

mod disks;
mod machines;
mod prepare;
mod show;
mod timetable;

use anyhow::Result;
use ka_tests::{binaries, debian, interrupt, scratch};

use crate::cli::{DemoOptions, GoldenOptions};
use crate::{packages, root};
use timetable::Timetable;

/// Runs the demo. Fails if any clone is wrong.
pub(crate) fn run(options: &DemoOptions) -> Result<()> {
    interrupt::catch()?;
    let mut times = Timetable::take_up();
    if std::env::var_os(binaries::DIR_VARIABLE).is_none() {
        return prepare(options, times);
    }
    scratch::sweep();
    if options.disks {
        disks::run()?;
        times.add("the demo");
    } else {
        machines::run(options.plain, &mut times)?;
    }
    println!("\n{times}");
    Ok(())
}

/// Makes what the demo needs, and starts it as root.
fn prepare(options: &DemoOptions, mut times: Timetable) -> Result<()> {
    times.add("building xtask");
    let mut reasons = Vec::new();
    if !options.no_setup {
        reasons.extend(packages::reason(packages::Use::Demo)?);
    }
    reasons.push("making a golden Debian, while the programs are built: debootstrap".to_owned());
    reasons.push("the demo itself, once they are built: namespaces, loop disks, mounts".to_owned());
    root::announce("demo", &reasons)?;
    root::ask_now()?;
    if !options.no_setup && packages::install_missing(packages::Use::Demo)? {
        times.add("installing Debian packages");
    }
    let prepared = prepare::prepare(options.disks)?;
    times.add_parts("building programs, making the golden Debian", &prepared.took);
    Err(root::again("demo", &prepared.bin_dir, Some(times.handed_on())))
}

/// Makes the golden Debian's archive, and prints each step. Ends when standard input does: that is how the demo stops it.
pub(crate) fn golden(options: &GoldenOptions) -> Result<()> {
    interrupt::catch()?;
    interrupt::at_end_of_input()?;
    let print = |step: &str| println!("{step}");
    let archive = if options.disks {
        debian::archive_watched(&print)?
    } else {
        debian::bootable_watched(&print)?
    };
    println!("{}", archive.display());
    Ok(())
}
