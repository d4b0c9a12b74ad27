//! The duties of a machine's first process. It starts the program that does the work, and waits for
//! everything that ends: its own children and every orphan. It gives the operator a shell on a console, and
//! ends the machine.
//!
//! It waits for *any* child, so it must not run [`crate::run`]'s programs itself: the worker does that.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::HostError;
use crate::run::search_path;

/// Time between two looks for ended children: soon enough for an operator, and cheap.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Time that programs have to end by themselves before they are killed.
const GOODBYE: Duration = Duration::from_secs(2);

/// The end of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The child ended with this exit code.
    Exited(i32),
    /// This signal killed the child.
    Killed(&'static str),
}

/// True if this process is the first one of the machine (or of its container).
#[must_use]
pub fn is_first() -> bool {
    std::process::id() == 1
}

/// Starts this very program again under the name `name`, with nothing on its standard input. Returns its
/// process id.
///
/// # Errors
/// [`HostError`] when it cannot be started.
pub fn start_worker(name: &str) -> Result<u32, HostError> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).stdin(Stdio::null()).process_group(0);
    let child = command
        .spawn()
        .map_err(|source| HostError::new(format!("starting {name}"), source))?;
    Ok(child.id())
}

/// Starts `shell` on the terminal `tty`, as the leader of a session whose terminal it is, so that Ctrl-C
/// works. Returns its process id.
///
/// # Errors
/// [`HostError`] naming shell and terminal.
pub fn start_shell(shell: &Path, tty: &Path) -> Result<u32, HostError> {
    let doing = || format!("starting {} on {}", shell.display(), tty.display());
    let open = || OpenOptions::new().read(true).write(true).open(tty);
    let (stdin, stdout, stderr) = (|| Ok::<_, io::Error>((open()?, open()?, open()?)))()
        .map_err(|source| HostError::new(doing(), source))?;
    let mut command = Command::new(shell);
    command
        .arg0("-sh")
        .env("PATH", search_path())
        .env("HOME", "/root")
        .env("TERM", "linux")
        .env("PS1", "ka-node# ")
        .current_dir("/")
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr);
    let take_terminal = || -> io::Result<()> {
        nix::unistd::setsid()?;
        // SAFETY: TIOCSCTTY takes a number and no pointer (ioctl_tty(2)); 0 steals no terminal from another
        // session.
        if unsafe { nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and makes only two system calls, setsid and ioctl, which
    // are async-signal-safe; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(take_terminal) };
    let child = command
        .spawn()
        .map_err(|source| HostError::new(doing(), source))?;
    Ok(child.id())
}

/// Waits, at most `limit`, for any child or orphan to end. `None` when none did.
#[must_use]
pub fn next_ended(limit: Duration) -> Option<(u32, End)> {
    let deadline = Instant::now() + limit;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => return Some((number(pid), End::Exited(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Some((number(pid), End::Killed(signal.as_str())));
            }
            // No child has ended, or there is no child at all (ECHILD).
            _ if Instant::now() >= deadline => return None,
            _ => std::thread::sleep(LOOK_INTERVAL),
        }
    }
}

/// The state of the machine after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// The machine starts again.
    Restart,
    /// The machine stays off.
    PowerOff,
}

/// Ends the machine: asks every process to end, kills those that did not, writes everything to the disks.
/// Only the first process may do this. It returns only after an error.
///
/// # Errors
/// Not the first process, or reboot(2) refused.
pub fn end_machine(how: Machine) -> HostError {
    if !is_first() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        return HostError::new("ending the machine without being its first process", source);
    }
    let everybody = Pid::from_raw(-1);
    // ESRCH: there is no other process.
    kill(everybody, Signal::SIGTERM).ok();
    let deadline = Instant::now() + GOODBYE;
    while Instant::now() < deadline && next_ended(LOOK_INTERVAL).is_some() {}
    kill(everybody, Signal::SIGKILL).ok();
    while next_ended(LOOK_INTERVAL).is_some() {}
    crate::system::sync();
    let mode = match how {
        Machine::Restart => nix::sys::reboot::RebootMode::RB_AUTOBOOT,
        Machine::PowerOff => nix::sys::reboot::RebootMode::RB_POWER_OFF,
    };
    let Err(errno) = nix::sys::reboot::reboot(mode);
    HostError::new("restarting the machine", errno)
}

fn number(pid: Pid) -> u32 {
    u32::try_from(pid.as_raw()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_the_first_process_ends_the_machine() {
        assert!(!is_first());
        let error = end_machine(Machine::Restart);
        assert!(error.to_string().contains("first process"), "{error}");
    }

    #[test]
    fn a_shell_needs_its_terminal() {
        let error = start_shell(Path::new("/bin/sh"), Path::new("/dev/ka-no-such-tty")).unwrap_err();
        assert!(error.to_string().contains("/dev/ka-no-such-tty"), "{error}");
    }
}
