//! Tests with real programs.

use std::time::{Duration, Instant};

use super::Tool;
use crate::run::RunError;

fn sh(script: &str) -> Tool {
    Tool::new("sh")
        .describe("testing the runner")
        .args(["-c", script])
}

#[test]
fn returns_the_whole_standard_output() {
    let output = sh("seq 1 200000; echo late >&2").run().unwrap();
    assert_eq!(output.text().lines().count(), 200_000);
    assert_eq!(output.stderr_tail, "late");
}

#[test]
fn a_failure_quotes_the_end_of_stderr_and_the_description() {
    let error = sh("for i in 1 2 3 4 5 6; do echo line $i >&2; done; exit 7")
        .run()
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("testing the runner: sh failed with exit status 7: line 3 / line 4"),
        "{text}"
    );
    assert!(text.ends_with("line 6") && !text.contains("line 2"), "{text}");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = Tool::new("mkfs.nothing")
        .describe("formatting /dev/null")
        .run()
        .unwrap_err();
    assert!(matches!(&error, RunError::Missing { .. }));
    assert!(
        error.to_string().contains("mkfs.nothing is not installed"),
        "{error}"
    );
}

#[test]
fn the_whole_process_group_is_killed_at_the_time_limit() {
    let dir = tempfile::tempdir().unwrap();
    let pidfile = dir.path().join("pid");
    let script = format!("sleep 60 & echo $! > {}; wait", pidfile.display());
    let start = Instant::now();
    let error = sh(&script).timeout(Duration::from_millis(400)).run().unwrap_err();
    assert!(matches!(error, RunError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    let pid = std::fs::read_to_string(pidfile).unwrap().trim().to_owned();
    within_five_seconds(|| is_gone(&pid).then_some(()));
}

#[test]
fn a_daemon_that_keeps_the_pipes_open_does_not_hold_us() {
    let start = Instant::now();
    let output = sh("echo ready; sleep 3 & exit 0").run().unwrap();
    assert_eq!(output.text(), "ready\n");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn standard_input_is_empty_and_the_locale_is_c() {
    let output = sh("cat; echo $LC_ALL").run().unwrap();
    assert_eq!(output.text(), "C\n");
}

#[test]
fn other_exit_codes_can_be_accepted() {
    assert_eq!(sh("exit 2").accept(2).run().unwrap().code, 2);
    assert!(sh("exit 3").accept(2).run().is_err());
}

#[test]
fn command_lines_are_quoted_for_people() {
    let tool = Tool::new("mkfs.ext4").args(["-L", "my disk", "/dev/sda1"]);
    assert_eq!(tool.command_line(), "mkfs.ext4 -L 'my disk' /dev/sda1");
}

/// Not a test: the parent that [`children_die_with_us`] kills. Prints the child's process id.
#[test]
#[ignore = "started by children_die_with_us"]
fn parent_that_waits_for_a_child() {
    let _ = sh("echo $$ > \"$KA_TEST_PID_FILE\"; exec sleep 60").run();
}

#[test]
fn children_die_with_us() {
    let dir = tempfile::tempdir().unwrap();
    let pidfile = dir.path().join("pid");
    let mut parent = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "run::tool::tests::parent_that_waits_for_a_child",
            "--ignored",
        ])
        .env("KA_TEST_PID_FILE", &pidfile)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let child = within_five_seconds(|| {
        std::fs::read_to_string(&pidfile)
            .ok()
            .map(|text| text.trim().to_owned())
            .filter(|pid| !pid.is_empty())
    });
    parent.kill().unwrap();
    parent.wait().unwrap();
    within_five_seconds(|| is_gone(&child).then_some(()));
}

fn within_five_seconds<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not happen within five seconds");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// True if the process has ended. A killed orphan may stay as a zombie until its new parent collects it.
fn is_gone(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z"))
}

#[test]
fn a_program_in_another_root_sees_that_root_and_nothing_of_our_environment() {
    let output = sh("pwd; echo $HOME; echo [$CARGO_MANIFEST_DIR]; echo $X")
        .env("X", "given")
        .chroot("/")
        .run()
        .unwrap();
    assert_eq!(output.text(), "/\n/root\n[]\ngiven\n");
    let empty = tempfile::tempdir().unwrap();
    let error = sh("true").chroot(empty.path()).run().unwrap_err();
    assert!(matches!(&error, RunError::MissingInRoot { .. }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("testing the runner: the system below"),
        "{error}"
    );
    let error = sh("true").chroot(empty.path().join("gone")).run().unwrap_err();
    assert!(error.to_string().contains("sh"), "{error}");
}
