//! The end of started programs together with this process: programs that run, their children, and those that
//! they left behind in another root.
//!
//! No signal to a process group reaches a child in a session of its own, and no death signal reaches one that
//! has lost its parent. In another root both are found by that root (proc(5), `/proc/PID/root`). Left alone
//! they would keep its file systems mounted, even after our own mount namespace has lost its last thread.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::child;

/// Longest time that a program that was left behind may take to end by itself (SIGTERM).
const GRACE: Duration = Duration::from_secs(1);
/// Longest time that the kernel may need to take down a killed program, which may wait for a disk.
const KILL_LIMIT: Duration = Duration::from_secs(3);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// All running programs, by group and by root.
static RUNNING: Mutex<Live> = Mutex::new(Live {
    groups: BTreeMap::new(),
    roots: BTreeSet::new(),
    work_ended: None,
    all_ended: None,
});

#[derive(Debug)]
struct Live {
    /// Process groups, by the process ids of the children that lead them; none of these was waited for.
    groups: BTreeMap<u32, Purpose>,
    /// Other roots that programs were started in.
    roots: BTreeSet<PathBuf>,
    /// The reason why the work was ended, once it was.
    work_ended: Option<String>,
    /// The reason why everything was ended, once it was.
    all_ended: Option<String>,
}

/// The purpose of a running program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The task of this process.
    Work,
    /// A program that an operator has asked for.
    Operator,
}

impl Live {
    fn why_ended(&self, purpose: Purpose) -> Option<&String> {
        let work = self.work_ended.as_ref().filter(|_| purpose == Purpose::Work);
        work.or(self.all_ended.as_ref())
    }

    fn kill(&self) {
        for (group, purpose) in &self.groups {
            if self.why_ended(*purpose).is_some() {
                child::kill_group(*group);
            }
        }
    }
}

/// Ends every program that runs, with its process group, and the processes left in the roots that programs
/// were started in. From now on none is started.
///
/// A wait for one of them ends with [`super::RunError::Ended`] and the reason. It is for a process that shall
/// end itself.
pub fn end_all(reason: &str) {
    end(|live| live.all_ended.get_or_insert_with(|| reason.to_owned()));
}

/// Ends every program as [`end_all`] does, except those that an operator captures
/// ([`super::Shell::spawn_captured`]): the work is over, but the operator may go on looking.
pub fn end_work(reason: &str) {
    end(|live| live.work_ended.get_or_insert_with(|| reason.to_owned()));
}

fn end(note: impl FnOnce(&mut Live) -> &mut String) {
    let roots = {
        let mut live = lock();
        note(&mut live);
        live.kill();
        live.roots.clone()
    };
    for root in roots {
        end_programs_in(&root);
    }
}

/// Returns the reason why no program of this purpose runs any more, if none does.
pub(super) fn why_ended(purpose: Purpose) -> Option<String> {
    lock().why_ended(purpose).cloned()
}

/// Registers a child that was just started; it is ended at once if all of its purpose were ended.
pub(super) fn begun(child: &Child, purpose: Purpose) {
    let mut live = lock();
    live.groups.insert(child.id(), purpose);
    if live.why_ended(purpose).is_some() {
        child::kill_group(child.id());
    }
}

/// Registers a root that a program is started in.
pub(super) fn uses_root(root: &Path) {
    lock().roots.insert(root.to_owned());
}

/// Tests if a child has ended. From then on another process may get its number, so it is forgotten in the
/// same moment.
pub(super) fn try_wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let mut live = lock();
    let status = child.try_wait()?;
    if status.is_some() {
        live.groups.remove(&child.id());
    }
    Ok(status)
}

/// Waits until a child has ended, without a time limit.
pub(super) fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    // The child is not reaped yet: its number stays its own.
    let pid = Pid::from_raw(child.id().cast_signed());
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
    let mut live = lock();
    live.groups.remove(&child.id());
    child.wait()
}

/// Ends every program whose root directory is `root` or lies in it: first SIGTERM, then SIGKILL. Returns
/// their names.
///
/// None is ended if `root` is our own root.
pub fn end_programs_in(root: &Path) -> Vec<String> {
    let mut ended = BTreeSet::new();
    let begun = Instant::now();
    loop {
        let found = programs_in(root);
        if found.is_empty() || begun.elapsed() > GRACE + KILL_LIMIT {
            return ended.into_iter().map(|(_, name)| name).collect();
        }
        let signal = if begun.elapsed() < GRACE {
            Signal::SIGTERM
        } else {
            Signal::SIGKILL
        };
        for (pid, name) in found {
            // A process that has ended meanwhile needs no signal.
            let _ = kill(pid, signal);
            ended.insert((pid, name));
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

fn programs_in(root: &Path) -> Vec<(Pid, String)> {
    let Some(place) = Place::of(root) else {
        return Vec::new();
    };
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let inside = pids.filter(|pid| *pid != own && place.holds(*pid));
    inside
        .filter_map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Some((Pid::from_raw(i32::try_from(pid).ok()?), name.trim().to_owned()))
        })
        .collect()
}

/// A root directory other than ours.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Device and inode number: the same in every mount namespace.
    directory: (u64, u64),
    /// Our mount namespace, in which a path means the same as for us.
    namespace: OsString,
}

impl Place {
    fn of(root: &Path) -> Option<Self> {
        let path = root.canonicalize().ok()?;
        let directory = directory(&path)?;
        if directory == self::directory(Path::new("/"))? || path == Path::new("/") {
            return None;
        }
        let namespace = namespace("thread-self")?;
        Some(Self {
            path,
            directory,
            namespace,
        })
    }

    /// True for a process whose root is this one, or lies in it.
    fn holds(&self, pid: u32) -> bool {
        let link = PathBuf::from(format!("/proc/{pid}/root"));
        // A process that is ending has no root any more.
        if directory(&link) == Some(self.directory) {
            return true;
        }
        fs::read_link(&link).is_ok_and(|root| root.starts_with(&self.path))
            && namespace(&pid.to_string()).as_ref() == Some(&self.namespace)
    }
}

fn directory(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn namespace(process: &str) -> Option<OsString> {
    Some(
        fs::read_link(format!("/proc/{process}/ns/mnt"))
            .ok()?
            .into_os_string(),
    )
}

fn lock() -> MutexGuard<'static, Live> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "ending_tests.rs"]
mod tests;
