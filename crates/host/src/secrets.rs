//! Keeping a secret that came with the command line or the environment away from other users and from children.
//!
//! `/proc/PID/cmdline` is readable for everybody, `/proc/PID/environ` for the same user, and a child inherits the
//! environment. All three show the memory where the kernel put them at execve(2), which is ours to overwrite. Until that
//! is done, milliseconds after the start, the secret can be seen: a file is the better way to give one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::HostError;

/// The environment variable that may hold a join code; no child of ours gets it.
pub const JOIN_VARIABLE: &str = "KA_JOIN";

/// What stands in place of a hidden secret.
const FILLER: u8 = b'x';
/// Most bytes of arguments or environment that are looked through: the kernel's own bound (execve(2), `MAX_ARG_STRLEN`
/// times some) is far above what anybody types.
const MAX_AREA_BYTES: u64 = 4 << 20;
/// Fields of /proc/self/stat behind the program's name (proc_pid_stat(5)): `arg_start` is the 48th, the third is the first
/// one behind the name.
const ARG_START: usize = 48 - 3;

/// Overwrites `secret` wherever it stands among this process's arguments and environment variables. Call it before any
/// other thread runs, with copies of what is still needed made before.
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

/// Leaves no memory of this process behind when it dies: a core dump would hold keys and join codes. For root also
/// against readers of `/proc/PID/mem` and debuggers of the same user (PR_SET_DUMPABLE of prctl(2)); for others only the
/// size of dumps is set to zero, because they need `/proc/self` to be their own.
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

/// Where arguments and environment are in our memory.
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

/// The strings there are nobody's borrowed memory: the standard library copies them whenever it is asked.
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
