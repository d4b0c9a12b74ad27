//! What this process has started, and what that has started: ended together when somebody interrupts a run of tests, whose
//! own guards a signal does not run.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::{getpid, set_child_subreaper};

/// How long programs may take to end by themselves.
const END_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(50);

/// From now on whoever loses its parent becomes a child of this process (`PR_SET_CHILD_SUBREAPER`, prctl(2)): nothing that was
/// started from here gets out of sight.
///
/// # Errors
/// The kernel refuses.
pub fn keep() -> Result<()> {
    set_child_subreaper(Some(getpid())).context("keeping the children of children")
}

/// Asks all of them to end, and kills what does not.
///
/// # Errors
/// `/proc` cannot be read.
pub fn end_all() -> Result<()> {
    let begun = Instant::now();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        loop {
            let left = all()?;
            if left.is_empty() {
                return Ok(());
            }
            for pid in left {
                kill(pid, signal).ok();
            }
            thread::sleep(LOOK);
            reap();
            let limit = if signal == Signal::SIGTERM {
                END_LIMIT
            } else {
                END_LIMIT * 2
            };
            if begun.elapsed() > limit {
                break;
            }
        }
    }
    Ok(())
}

fn reap() {
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {}
}

/// Every descendant that lives.
fn all() -> Result<Vec<Pid>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("reading /proc")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        parents.extend(parent_in(&stat).map(|parent| (pid, parent)));
    }
    let own = i32::try_from(std::process::id()).context("a process id")?;
    let is_ours = |pid: i32| {
        let mut at = pid;
        // No chain of parents is longer than there are processes.
        for _ in 0..parents.len() {
            match parents.get(&at) {
                Some(parent) if *parent == own => return true,
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    Ok(parents
        .keys()
        .copied()
        .filter(|pid| is_ours(*pid))
        .map(Pid::from_raw)
        .collect())
}

/// proc(5): `PID (NAME) STATE PPID …`; the name may hold anything. A zombie is dead.
fn parent_in(stat: &str) -> Option<i32> {
    let (_, behind) = stat.rsplit_once(") ")?;
    let mut words = behind.split(' ');
    let state = words.next()?;
    let parent = words.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name_and_the_dead_have_none() {
        assert_eq!(parent_in("12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("12 (sh) Z 7 12 12 0"), None);
        assert_eq!(parent_in("12 (sh"), None);
    }

    #[test]
    fn a_child_of_ours_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(all().unwrap().contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!all().unwrap().contains(&pid));
    }
}
