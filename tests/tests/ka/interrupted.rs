//! Ctrl-C at any moment of the demo, the bench and the tests: no namespace, mount, loop device, process or
//! directory is left.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use ka_tests::binaries;
use ka_tests::process::Program;
use ka_tests::scratch;
use nix::sys::signal::Signal;

/// Time limit: the demo and the bench take less, and are cut off long before.
const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn an_interrupted_demo_leaves_nothing_behind() -> Result<()> {
    for tenths in [3, 8, 15, 25, 40] {
        cut_off(&["demo", "--disks", "--no-setup"], tenths)?;
    }
    Ok(())
}

#[test]
fn an_interrupted_bench_leaves_nothing_behind() -> Result<()> {
    for tenths in [4, 10, 30] {
        cut_off(&["bench", "--quick", "--no-setup"], tenths)?;
    }
    Ok(())
}

#[test]
fn a_test_program_that_is_killed_leaves_nothing_behind() -> Result<()> {
    // Several tests, two at a time, take longer than the seconds until the signal.
    let tests = ["clone::", "--test-threads=2"];
    for (signal, tenths) in [
        (Signal::SIGINT, 3),
        (Signal::SIGKILL, 8),
        (Signal::SIGTERM, 15),
        (Signal::SIGKILL, 40),
    ] {
        let mut run = Program::new(std::env::current_exe()?)
            .args(tests)
            .env(binaries::DIR_VARIABLE, binaries::dir()?)
            .limit(LIMIT)
            .spawn()?;
        let pid = run.pid();
        thread::sleep(Duration::from_millis(tenths * 100));
        ensure!(!run.has_ended()?, "{tests:?} have ended before the signal");
        // Only the program itself gets the signal, not its children.
        run.signal(signal)?;
        let ended = run.wait()?;
        ensure!(ended.signal == Some(signal as i32), "{}", ended.all());
        let mut left = left_of(pid)?;
        for _ in 0..600 {
            if left.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
            left = left_of(pid)?;
        }
        ensure!(
            left.is_empty(),
            "{signal} after {tenths} tenths of a second left {left:?}"
        );
    }
    Ok(())
}

/// Starts it with the binaries of this test, interrupts it after so many tenths of a second, and looks for
/// leftovers.
fn cut_off(args: &[&str], tenths: u64) -> Result<()> {
    let mut run = Program::new(binaries::path("xtask")?)
        .args(args)
        .env(binaries::DIR_VARIABLE, binaries::dir()?)
        .limit(LIMIT)
        .spawn()?;
    let pid = run.pid();
    thread::sleep(Duration::from_millis(tenths * 100));
    if !run.has_ended()? {
        run.signal(Signal::SIGINT)?;
    }
    let ended = run.wait()?;
    ensure!(
        ended.code != Some(0),
        "{args:?} ended before it was interrupted: {}",
        ended.all()
    );
    let left = left_of(pid)?;
    // The program also sweeps up after others that were killed, beside other tests that do the same.
    let own = [format!("ka-{pid}-"), format!("ka-lab-{pid}-")];
    let all = ended.all();
    let stays = |line: &&str| line.contains("stays") && own.iter().any(|name| line.contains(name.as_str()));
    ensure!(
        left.is_empty() && all.lines().find(stays).is_none(),
        "{args:?} interrupted after {tenths} tenths of a second left {left:?} and said:\n{}",
        ended.all()
    );
    Ok(())
}

/// Lists the leftovers of a process: the lab names everything after the process that made it.
fn left_of(pid: u32) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for (dir, prefix) in [
        ("/run/netns", format!("ka-{pid}-")),
        ("/var/tmp", format!("ka-lab-{pid}-")),
        ("/dev/shm", format!("ka-lab-{pid}-")),
    ] {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        let names = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        left.extend(
            names
                .filter(|name| name.starts_with(&prefix))
                .map(|name| format!("{dir}/{name}")),
        );
    }
    let ours = format!("/ka-lab-{pid}-");
    let mounts = scratch::mounts_below(Path::new("/"))?;
    left.extend(
        mounts
            .into_iter()
            .map(|point| point.display().to_string())
            .filter(|point| point.contains(&ours)),
    );
    let loops = Program::new("losetup")
        .args(["--list", "--noheadings", "--output", "NAME,BACK-FILE"])
        .run()?;
    left.extend(
        loops
            .lines()
            .filter(|line| line.contains(&ours))
            .map(str::to_owned),
    );
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&ours) {
            left.push(line);
        }
    }
    Ok(left)
}
