//! SIGINT, SIGTERM, SIGHUP and closed terminals at moments that a seed picks, for every program. A program
//! that ends this way leaves no mount, loop device, process, lock or half-written file, and no unfinished
//! disk that looks finished. `interrupted.rs` tests the demo and the bench.

mod operators;
mod programs;
mod servers;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ka_tests::disk::Disk;
use ka_tests::lab::Server;
use ka_tests::process::{Ended, Program, Running};
use ka_tests::scratch;
use nix::sys::signal::Signal;

use crate::kit::Kit;

/// Time limit of the end: it includes a sync of half-written data, and the wait for a peer that is gone.
const END_LIMIT: Duration = Duration::from_secs(60);
/// Seed of the moments: another number picks others. Each failure prints it.
const SEED: u64 = 0x6b61_2026;

/// Words in front of a program that give it a terminal of its own, which is closed when this is killed
/// (script(1)).
const ON_A_TERMINAL: [&str; 4] = ["sh", "-c", "exec script -qefc \"exec $*\" /dev/null", "sh"];

/// A source of moments and choices, the same from the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn signal(&mut self) -> Signal {
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP][usize::try_from(self.below(3)).unwrap_or(0)]
    }
}

/// Mounts, loop devices and processes of this machine that name a directory.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    mounts: BTreeSet<PathBuf>,
    /// Mount points that a process sees in a mount namespace of its own.
    hidden_mounts: BTreeSet<String>,
    loops: BTreeSet<String>,
    processes: BTreeSet<String>,
}

impl Traces {
    fn of(dir: &Path) -> Result<Self> {
        let loops = Program::new("losetup")
            .args(["--list", "--noheadings", "--output", "NAME,BACK-FILE"])
            .run()?;
        let named = dir.display().to_string();
        Ok(Self {
            mounts: scratch::mounts_below(dir)?.into_iter().collect(),
            hidden_mounts: mounts_anybody_sees(&named)?,
            loops: loops
                .lines()
                .filter(|line| line.contains(&named))
                // The columns are as wide as other tests' devices make them.
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect(),
            processes: processes_that_say(&named)?,
        })
    }
}

/// Returns the mount points of every process that contain `text`.
fn mounts_anybody_sees(text: &str) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        // The process may have ended meanwhile, or the entry is no process.
        let mounts = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        seen.extend(points.filter(|point| point.contains(text)).map(str::to_owned));
    }
    Ok(seen)
}

/// Returns the processes whose root directory is on this device, by their command lines: they were started in
/// a clone.
fn processes_rooted_on(device: &Path) -> Result<BTreeSet<String>> {
    let number = fs::metadata(device)?.rdev();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let is_there = fs::metadata(entry.path().join("root")).is_ok_and(|root| root.dev() == number);
        if is_there {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.insert(format!("{} {line}", entry.file_name().to_string_lossy()));
        }
    }
    Ok(found)
}

fn processes_that_say(text: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            found.insert(format!("{} {line}", entry.file_name().to_string_lossy()));
        }
    }
    Ok(found)
}

/// Returns files that were begun and never finished.
fn half_written(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut half = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !path.is_symlink() {
            half.extend(half_written(&path)?);
        } else if [".new", ".part", ".tmp", ".staged"].iter().any(|end| name.ends_with(end))
            // The state of a run that was ended would stay for ever: no server takes that run up.
            || (name.starts_with("run-") && name.ends_with(".json"))
        {
            half.push(path);
        } else if name.ends_with(".json") {
            serde_json::from_slice::<serde_json::Value>(&fs::read(&path)?)
                .with_context(|| format!("{} is half a file", path.display()))?;
        }
    }
    Ok(half)
}

/// Sends a signal after a time, and once more if the parent of the program hands it on.
fn cut_off(run: &mut Running, after: Duration, signal: Signal, is_handed_on: bool) -> Result<()> {
    thread::sleep(after);
    for _ in 0..=u8::from(is_handed_on) {
        if !run.has_ended()? {
            run.signal(signal)?;
        }
    }
    Ok(())
}

/// Returns true for a process that has ended, also if its parent has not waited for it yet.
fn is_gone(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z"))
}

/// Insists that processes have ended; the kernel takes a moment for each.
fn expect_gone(pids: &[u32]) -> Result<()> {
    let begun = Instant::now();
    while let Some(pid) = pids.iter().find(|pid| !is_gone(**pid)) {
        ensure!(
            begun.elapsed() < Duration::from_secs(5),
            "process {pid} still runs"
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn ended_in_order(run: Running) -> Result<Ended> {
    let begun = Instant::now();
    let ended = run.wait()?;
    // A program that does not catch signals yet has made nothing so far.
    let has_begun = ended
        .all()
        .lines()
        .any(|line| !line.starts_with("Making the boot images"));
    ensure!(
        ended.signal.is_none() || !has_begun,
        "{}: {}",
        ended.how(),
        ended.all()
    );
    ensure!(
        !ended.all().contains("panicked"),
        "a thread panicked:\n{}",
        ended.all()
    );
    ensure!(
        begun.elapsed() < END_LIMIT,
        "it took {} s to end:\n{}",
        begun.elapsed().as_secs(),
        ended.all()
    );
    Ok(ended)
}

/// Three rooms at once are each cut off at four moments: the server, a node, or both.
#[test]
fn a_clone_that_is_cut_off_at_any_moment_leaves_nothing_on_either_side() -> Result<()> {
    let lanes: Vec<_> = (0..3)
        .map(|lane| {
            thread::spawn(move || {
                cut_off_clones(lane).with_context(|| format!("seed {SEED:#x}, lane {lane}"))
            })
        })
        .collect();
    for lane in lanes {
        lane.join().map_err(|_| anyhow::anyhow!("a lane panicked"))??;
    }
    Ok(())
}

fn cut_off_clones(lane: u64) -> Result<()> {
    let mut dice = Dice(SEED ^ lane);
    let kit = Kit::slow(&format!("cutoff{lane}"), 1)?;
    for round in 0..4 {
        let disk = kit.same_disk(&format!("n{round}"))?;
        let before = Traces::of(kit.lab.scratch().path())?;
        let after = Duration::from_millis(dice.below(7000));
        let (signal, victim, twice) = (dice.signal(), dice.below(3), dice.below(2) == 1);
        let told = || format!("{signal} to victim {victim} after {after:?}, twice: {twice}");
        let mut server = kit.server(&["-n", "1", "--rounds", "1"])?;
        let mut node = kit.node(1, &server, &disk, &["--retries", "1"])?;
        if victim == 0 {
            cut_off(&mut server.run, after, signal, twice)?;
        } else {
            cut_off(&mut node, after, signal, twice)?;
        }
        if victim == 2 && !server.run.has_ended()? {
            server.run.signal(signal)?;
        }
        nothing_is_left(&kit, &disk, (server, node), &before).with_context(told)?;
    }
    Ok(())
}

fn nothing_is_left(
    kit: &Kit,
    disk: &Disk,
    (mut server, node): (Server, Running),
    before: &Traces,
) -> Result<()> {
    let node = ended_in_order(node).context("the node")?;
    // A server that has lost its only node waits for another; here none comes.
    if !server.run.has_ended()? {
        thread::sleep(Duration::from_secs(1));
        if !server.run.has_ended()? {
            server.run.signal(Signal::SIGTERM)?;
        }
    }
    let server = ended_in_order(server.run).context("the server")?;
    let said = || {
        format!(
            "the server said:\n{}\nthe node said:\n{}",
            server.all(),
            node.all()
        )
    };
    kit.lab.expect_unmounted(1).with_context(said)?;
    let after = Traces::of(kit.lab.scratch().path())?;
    ensure!(after == *before, "left: {after:#?}, was: {before:#?}\n{}", said());
    let half = half_written(&kit.lab.server_state())?;
    ensure!(half.is_empty(), "{half:?} is left\n{}", said());
    ensure!(
        node.code == Some(0) || !disk.looks_finished()?,
        "a disk that is not done looks finished\n{}",
        said()
    );
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(disk.checked()?)
        .map(drop)
        .with_context(said)
}

/// A closed terminal takes away the place of the program's output, beside sending SIGHUP.
#[test]
fn a_closed_terminal_ends_server_and_node_in_order() -> Result<()> {
    let kit = Kit::slow("closedterm", 1)?;
    let mut dice = Dice(SEED);
    for of_server in [true, false] {
        let disk = kit.same_disk(if of_server { "s" } else { "n" })?;
        let before = Traces::of(kit.lab.scratch().path())?;
        let join = kit.lab.scratch().path().join(format!("join-{of_server}"));
        let server = kit
            .lab
            .server_program()?
            .args(["--root", &kit.golden.root().display().to_string()])
            .args(["-r", "none", "-n", "1", "--rounds", "1", "--join-file"])
            .arg(&join);
        let mut server = match of_server {
            true => server.wrapped(&ON_A_TERMINAL).spawn()?,
            false => server.spawn()?,
        };
        server.wait_until("it could be joined", |_| Ok(join.is_file()))?;
        let node = kit.lab.stranger_program(1)?.arg("--join-file").arg(&join).args([
            "--disk",
            &kit.choice(&disk)?,
            "--retries",
            "1",
        ]);
        let mut node = match of_server {
            true => node.spawn()?,
            false => node.wrapped(&ON_A_TERMINAL).spawn()?,
        };
        thread::sleep(Duration::from_millis(500 + dice.below(4000)));
        let terminal = if of_server { &mut server } else { &mut node };
        terminal.signal(Signal::SIGKILL)?;
        let named = kit.lab.scratch().path().display().to_string();
        let begun = Instant::now();
        let mut asked = false;
        loop {
            let left = processes_that_say(&named)?;
            if left == before.processes {
                break;
            }
            ensure!(
                begun.elapsed() < END_LIMIT,
                "after {END_LIMIT:?} there are still {left:?}"
            );
            // A server that has lost its only node waits for another; here none comes.
            if !of_server && !asked && begun.elapsed() > Duration::from_secs(5) && !server.has_ended()? {
                server.signal(Signal::SIGTERM)?;
                asked = true;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let (server, node) = (server.wait()?, node.wait()?);
        let said = format!(
            "the server said:\n{}\nthe node said:\n{}",
            server.all(),
            node.all()
        );
        ensure!(!said.contains("panicked"), "{said}");
        kit.lab.expect_unmounted(1).with_context(|| said.clone())?;
        let after = Traces::of(kit.lab.scratch().path())?;
        ensure!(after == before, "left: {after:#?}, was: {before:#?}\n{said}");
        let half = half_written(&kit.lab.server_state())?;
        ensure!(half.is_empty(), "{half:?} is left\n{said}");
        let is_done = said.contains("done") && !of_server && node.code == Some(0);
        ensure!(
            is_done || !disk.looks_finished()? || said.contains("1 node done"),
            "it looks finished\n{said}"
        );
    }
    Ok(())
}
