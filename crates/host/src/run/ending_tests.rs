//! Tests of the end of programs. Each runs in a process of its own, started by the test that judges it.

use std::path::Path;
use std::process::{Command, Stdio};

use super::super::{RunError, Shell, Tool};
use super::*;

const FILE: &str = "KA_TEST_ENDING_FILE";

fn in_a_process_of_its_own(test: &str, file: &Path) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("run::ending::tests::{test}"), "--ignored"])
        .env(FILE, file)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed");
}

fn is_gone(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z"))
}

fn waits_for(mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "it did not happen");
        thread::sleep(LOOK_INTERVAL);
    }
}

#[test]
#[ignore = "started by everything_ends_with_its_children_and_nothing_is_started_afterwards"]
fn ends_everything() {
    let file = std::env::var(FILE).unwrap();
    let script = format!("sleep 60 & echo $! >> {file}; sleep 61");
    let tool = {
        let script = script.clone();
        thread::spawn(move || Tool::new("sh").args(["-c", &script]).run())
    };
    let shell = thread::spawn(move || {
        Shell::new(script)
            .spawn_consumer()
            .and_then(|mut child| child.wait(None))
    });
    waits_for(|| fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 2));
    end_work("stopped");
    assert!(matches!(tool.join().unwrap(), Err(RunError::Ended { .. })));
    assert!(matches!(shell.join().unwrap(), Err(RunError::Ended { .. })));
    let error = Tool::new("true").describe("trying").run().unwrap_err();
    assert_eq!(error.to_string(), "trying: true was ended: stopped");
    assert!(Shell::new("true").spawn_producer().is_err());
    // An operator may still look.
    let mut looking = Shell::new("sleep 62").spawn_captured().unwrap();
    end_all("gone");
    waits_for(|| looking.try_exit_code().unwrap() == Some(137));
    assert!(Shell::new("true").spawn_captured().is_err());
}

#[test]
fn everything_ends_with_its_children_and_nothing_is_started_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    in_a_process_of_its_own("ends_everything", &file);
    for pid in fs::read_to_string(&file).unwrap().lines() {
        waits_for(|| is_gone(pid));
    }
}

#[test]
fn programs_in_another_root_are_found_by_it_and_none_by_ours() {
    for root in ["/", "/proc/self/root", "/proc/../.", "/no/such/root"] {
        assert!(Place::of(Path::new(root)).is_none(), "{root}");
    }
    let dir = tempfile::tempdir().unwrap();
    let place = Place::of(dir.path()).unwrap();
    assert!(!place.holds(std::process::id()) && !place.holds(1));
    assert_eq!(end_programs_in(dir.path()), [""; 0]);
}
