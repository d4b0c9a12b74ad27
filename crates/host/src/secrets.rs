//! Secrets from the command line or the environment, kept away from other users and from children.
//!
//! Every user can read `/proc/PID/cmdline`, the same user `/proc/PID/environ`, and a child inherits the
//! environment. All three show memory that the kernel filled at execve(2), and this process may overwrite it.
//! The secret can be seen until then, for milliseconds after the start: a file is the better way to give one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::HostError;

/// Name of the environment variable that may hold a join code; no child of ours gets it.
pub const JOIN_VARIABLE: &str = "KA_JOIN";

/// The byte that replaces each byte of a hidden secret.
const FILLER: u8 = b'x';
/// Most bytes of arguments or environment that are looked through. The kernel's own bound (execve(2), some
/// `MAX_ARG_STRLEN`) is far above what anybody types.
const MAX_AREA_BYTES: u64 = 4 << 20;
/// Fields of /proc/self/stat behind the program's name (proc_pid_stat(5)): `arg_start` is the 48th, the third
/// is the first one behind the name.
const ARG_START: usize = 48 - 3;

/// Overwrites `secret` in this process's arguments and environment variables. Call it before any other thread
/// runs, and copy first what is still needed.
///
/// # Errors
/// `/proc` is not mounted, or the kernel does not let a process write to its own memory.
pub fn hide(secret: &str) -> Result<(), HostError> {
    let failed = |error| HostError::new("hiding the join code from the process list", error);
    if secret.is_empty() {
        return Ok(());
    }
    let areas = areas().map_err(failed)?;
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/proc/self/mem")
        .map_err(failed)?;
    areas
        .into_iter()
        .try_for_each(|area| overwrite(&memory, area, secret.as_bytes()))
        .map_err(failed)
}

/// Prevents core dumps of this process, which would hold keys and join codes. For root it also stops readers
/// of `/proc/PID/mem` and debuggers of the same user (PR_SET_DUMPABLE of prctl(2)). For others only the size
/// of dumps is set to zero, because they need `/proc/self` to be their own.
///
/// # Errors
/// When the kernel refuses.
pub fn leave_no_core() -> Result<(), HostError> {
    let failed = |errno: nix::Error| HostError::new("switching off core dumps", errno);
    if nix::unistd::geteuid().is_root() {
        return prctl::set_dumpable(false).map_err(failed);
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).map_err(failed)?;
    setrlimit(Resource::RLIMIT_CORE, 0, hard).map_err(failed)
}

/// Returns the places of arguments and environment in our memory.
fn areas() -> io::Result<[Range<u64>; 2]> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name is in brackets and may hold anything, brackets too.
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let bounds: Vec<u64> = behind_name
        .split_whitespace()
        .skip(ARG_START)
        .take(4)
        .map_while(|field| field.parse().ok())
        .collect();
    match bounds[..] {
        [arg_start, arg_end, env_start, env_end] => Ok([arg_start..arg_end, env_start..env_end]),
        _ => Err(io::Error::other(
            "/proc/self/stat does not say where arguments are",
        )),
    }
}

/// Overwrites `secret` in an area. Nothing borrows the strings there: the standard library copies them on
/// every request.
fn overwrite(memory: &File, area: Range<u64>, secret: &[u8]) -> io::Result<()> {
    let length = area.end.saturating_sub(area.start).min(MAX_AREA_BYTES);
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    memory.read_exact_at(&mut bytes, area.start)?;
    let mut from = 0;
    while let Some(found) = bytes[from..]
        .windows(secret.len())
        .position(|text| text == secret)
    {
        let at = from + found;
        memory.write_all_at(&vec![FILLER; secret.len()], area.start + at as u64)?;
        from = at + secret.len();
    }
    bytes.fill(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_holds_keys_leaves_no_core_dump() {
        leave_no_core().unwrap();
        let (soft, _) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        assert!(soft == 0 || !prctl::get_dumpable().unwrap());
    }

    #[test]
    fn arguments_and_environment_are_found_where_the_kernel_shows_them() {
        let [arguments, environment] = areas().unwrap();
        let memory = File::open("/proc/self/mem").unwrap();
        for (area, shown) in [
            (arguments, "/proc/self/cmdline"),
            (environment, "/proc/self/environ"),
        ] {
            let mut bytes = vec![0; usize::try_from(area.end - area.start).unwrap()];
            memory.read_exact_at(&mut bytes, area.start).unwrap();
            assert_eq!(bytes, fs::read(shown).unwrap(), "{shown}");
        }
    }
}
