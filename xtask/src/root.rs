//! Root privileges: namespaces, loop devices and mounts need them, builds must not have them.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use ka_tests::process::{OWNER_VARIABLE, Program, is_installed};
use ka_tests::{binaries, interrupt, scratch};

use crate::packages;

/// True if this process runs as root.
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

/// Prints the reasons to ask sudo, before anything runs: `what` is the command, and each reason a phrase. Prints nothing in
/// a root shell.
///
/// # Errors
/// Fails without root and sudo.
pub(crate) fn announce(what: &str, reasons: &[String]) -> Result<()> {
    if is_root() || reasons.is_empty() {
        return Ok(());
    }
    if !is_installed("sudo") {
        bail!(
            "{what} needs root ({}) and there is no sudo here: run it as root",
            reasons.join("; ")
        );
    }
    println!("This is no root shell. cargo xtask {what} will ask sudo for:");
    for reason in reasons {
        println!("  - {reason}");
    }
    println!();
    Ok(())
}

/// Prepares this machine for the lab: packages, binaries, root, and nothing left of an earlier run. `what` is
/// the command that needs it.
///
/// # Errors
/// Fails if a build or an installation fails, or without root and sudo.
pub(crate) fn enter_lab(what: &str, no_setup: bool) -> Result<()> {
    interrupt::catch()?;
    let mut reasons = Vec::new();
    if !no_setup {
        reasons.extend(packages::reason(packages::Use::All)?);
    }
    reasons.push(format!(
        "{what} itself, once it is built: namespaces, loop disks, mounts"
    ));
    announce(what, &reasons)?;
    if !no_setup {
        packages::install_missing(packages::Use::All)?;
    }
    if std::env::var_os(binaries::DIR_VARIABLE).is_none() {
        let dir = binaries::debug_dir()?;
        binaries::build(&dir, false)?;
        binaries::build_static(&dir, binaries::Build::Lab)?;
        become_root(what, &dir)?;
    }
    scratch::sweep();
    Ok(())
}

/// Restarts this program as root, with the binaries that were just built. Returns at once if it runs as root
/// already.
///
/// # Errors
/// Fails without root and sudo.
pub(crate) fn become_root(what: &str, bin_dir: &Path) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    Err(again(what, bin_dir, None))
}

/// Lets sudo ask for the password now, in the foreground: a program that is started beside others cannot ask. Call
/// [`announce`] first.
///
/// # Errors
/// Fails if sudo refuses.
pub(crate) fn ask_now() -> Result<()> {
    if is_root() {
        return Ok(());
    }
    let status = Command::new("sudo").arg("-v").status().context("running sudo")?;
    ensure!(status.success(), "sudo: {status}");
    Ok(())
}

/// Returns the variables that a program needs when sudo has taken its environment away, as words for `env`: the user's
/// directory, and all of the lab.
pub(crate) fn environment() -> Vec<String> {
    std::env::vars()
        .filter(|(name, _)| name == "HOME" || name.starts_with("KA_") && name != OWNER_VARIABLE)
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// Starts this program again with its arguments, as root, with these binaries and one more environment variable. Returns only
/// if that fails, with the error.
pub(crate) fn again(what: &str, bin_dir: &Path, variable: Option<(&str, String)>) -> Error {
    let exe = match std::env::current_exe().context("finding this program") {
        Ok(exe) => exe,
        Err(error) => return error,
    };
    let mut command = if is_root() {
        Command::new("env")
    } else if is_installed("sudo") {
        println!("{what} needs root (namespaces, loop disks, mounts): going on through sudo");
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    } else {
        return anyhow!(
            "{what} needs root (namespaces, loop disks, mounts) and there is no sudo here: run it as root"
        );
    };
    command
        .args(environment())
        .arg(format!("{}={}", binaries::DIR_VARIABLE, bin_dir.display()))
        .args(variable.map(|(name, value)| format!("{name}={value}")))
        .arg(exe)
        .args(std::env::args_os().skip(1));
    Error::new(command.exec()).context("starting this program again")
}
