//! The common setup of every child: a process group, the death signal, the C locale, and no join code. Also
//! the kill of a process group.

use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, getppid};

/// Sets what all children have in common.
///
/// The kernel sends the death signal when the *thread* that started the child ends (prctl(2)), so a thread
/// that starts a child must outlive it.
pub(super) fn prepare(command: &mut Command) {
    command.process_group(0);
    command
        .env("LC_ALL", "C")
        .env("PATH", super::path::search_path())
        .env_remove("LANGUAGE")
        .env_remove(crate::secrets::JOIN_VARIABLE);
    let parent = nix::unistd::getpid();
    let die_with_parent = move || -> io::Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died between fork and prctl; then no signal would ever come.
        if getppid() != parent {
            return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and makes only two system calls, prctl and getppid,
    // which are async-signal-safe; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(die_with_parent) };
}

/// Environment of a program in another root, instead of ours.
const ROOT_ENVIRONMENT: [(&str, &str); 6] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("LC_ALL", "C"),
    ("HOME", "/root"),
    ("SHELL", "/bin/sh"),
    ("TERM", "dumb"),
    ("DEBIAN_FRONTEND", "noninteractive"),
];

/// Lets the child begin in `root`, with an environment that has nothing from ours.
pub(super) fn enter_root(command: &mut Command, root: CString) {
    command.env_clear().envs(ROOT_ENVIRONMENT);
    let enter = move || -> io::Result<()> {
        nix::unistd::chroot(root.as_c_str())?;
        Ok(nix::unistd::chdir(c"/")?)
    };
    // SAFETY: the closure runs between fork and exec and makes only two system calls, chroot and chdir, with
    // strings that are C strings already: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(enter) };
}

/// Kills the process group that the child leads. The child must not have been waited for yet, so that no
/// other process can have its process id.
pub(super) fn kill_group(child_id: u32) {
    let Ok(pid) = i32::try_from(child_id) else { return };
    // ESRCH means that the whole group is gone already, which is the goal.
    if let Err(errno) = signal::killpg(Pid::from_raw(pid), Signal::SIGKILL)
        && errno != nix::errno::Errno::ESRCH
    {
        tracing::warn!(pid, %errno, "killing a process group");
    }
}
