//! Being root: namespaces, loop devices and mounts need it, builds must not have it.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use ka_tests::process::{Program, is_installed};
use ka_tests::{binaries, interrupt, scratch};

use crate::packages;

/// Whether this process may do all that.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A program run as root.
pub(crate) fn command(words: &[&str]) -> Program {
    if is_root() {
        Program::new(words[0]).args(&words[1..])
    } else {
        Program::new("sudo").args(words)
    }
}

/// Makes this machine ready for machines of the lab: packages, binaries, root, and nothing left of an earlier run. `what` is
/// the command that needs it.
///
/// # Errors
/// A build or an installation fails, or neither root nor sudo.
pub(crate) fn enter_lab(what: &str, no_setup: bool, needs_static_client: bool) -> Result<()> {
    interrupt::catch()?;
    if !no_setup {
        packages::install_missing()?;
    }
    if std::env::var_os(binaries::DIR_VARIABLE).is_none() {
        let dir = binaries::own_dir()?;
        binaries::build(&dir, false)?;
        if needs_static_client {
            binaries::build_static(&dir)?;
        }
        become_root(what, &dir)?;
    }
    scratch::sweep();
    Ok(())
}

/// Goes on as root, with the binaries that were just built; returns at once when this already is root.
///
/// # Errors
/// Neither root nor sudo.
pub(crate) fn become_root(what: &str, bin_dir: &Path) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    if !is_installed("sudo") {
        bail!("{what} needs root (namespaces, loop disks, mounts) and there is no sudo here: run it as root");
    }
    println!("{what} needs root (namespaces, loop disks, mounts): going on through sudo");
    let exe = std::env::current_exe().context("finding this program")?;
    let home = std::env::var("HOME").unwrap_or_default();
    let mut sudo = Command::new("sudo");
    sudo.arg("env")
        .arg(format!("{}={}", binaries::DIR_VARIABLE, bin_dir.display()))
        .arg(format!("HOME={home}"));
    let err = sudo.arg(exe).args(std::env::args_os().skip(1)).exec();
    Err(err).context("running sudo")
}
