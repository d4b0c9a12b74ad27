//! The preparation of the demo, and its picture: no silence, a clear end, nothing left behind. cargo and debootstrap are
//! scripts here; the run of the whole demo is that of the QEMU tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ka_tests::binaries;
use ka_tests::panes::{Pane, Panes};
use ka_tests::process::{Program, Running};
use ka_tests::scratch::{Scratch, lives};
use ka_tests::terminal::{Terminal, quoted};
use nix::sys::signal::Signal;

use crate::kit::script;

/// Longest silence.
const SILENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(120);

/// The real xtask, away from its target directory, with these scripts as cargo and debootstrap.
struct Stage {
    scratch: Scratch,
}

impl Stage {
    fn new(label: &str, cargo: &str, debootstrap: &str) -> Result<Self> {
        let scratch = Scratch::new(label)?;
        let (debug, stubs) = (scratch.dir("debug")?, scratch.dir("stubs")?);
        fs::copy(binaries::path("xtask")?, debug.join("xtask"))?;
        script(&stubs.join("cargo"), cargo)?;
        script(&stubs.join("debootstrap"), debootstrap)?;
        scratch.dir("lab")?;
        Ok(Self { scratch })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn demo(&self, words: &[&str]) -> Result<Running> {
        let search = std::env::var("PATH")?;
        Program::new("env")
            .args(["-u", binaries::DIR_VARIABLE])
            .arg(self.path("debug/xtask"))
            .args(["demo", "--no-setup"])
            .args(words)
            .env("PATH", format!("{}:{search}", self.path("stubs").display()))
            .env("CARGO", self.path("stubs/cargo"))
            .env("KA_CACHE_DIR", self.path("cache"))
            .env("KA_LAB_DIR", self.path("lab"))
            .env("STAGE", self.scratch.path())
            .limit(LIMIT)
            .spawn()
    }

    /// Insists that no directory of a lab, no unfinished archive and no program of the scripts is left.
    fn expect_nothing_left(&self) -> Result<()> {
        let left: Vec<PathBuf> = entries(&self.path("lab"))?
            .into_iter()
            .chain(entries(&self.path("cache"))?)
            .filter(|path| path.extension().is_none_or(|ending| ending != "lock"))
            .collect();
        ensure!(left.is_empty(), "left: {left:?}");
        for pid in fs::read_to_string(self.path("pids"))?.lines() {
            ensure!(!lives(pid.parse()?), "process {pid} is left");
        }
        Ok(())
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(Vec::new());
    };
    Ok(entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?)
}

/// Watches a program to its end, and returns the longest time without output.
fn longest_silence(run: &mut Running) -> Result<Duration> {
    let (mut length, mut since, mut longest) = (0, Instant::now(), Duration::ZERO);
    while run.still_runs()? {
        let now = run.said().len();
        if now != length {
            longest = longest.max(since.elapsed());
            (length, since) = (now, Instant::now());
        }
        thread::sleep(LOOK);
    }
    Ok(longest.max(since.elapsed()))
}

#[test]
fn the_demo_is_never_silent_for_three_seconds_while_it_prepares() -> Result<()> {
    let stage = Stage::new(
        "demo-silence",
        "echo $$ >> $STAGE/pids; echo '   Compiling regex' >&2; sleep 9; echo 'error: no regex today' >&2; exit 7",
        "echo $$ >> $STAGE/pids; echo 'I: Retrieving libc6'; exec sleep 60",
    )?;
    let mut demo = stage.demo(&[])?;
    let longest = longest_silence(&mut demo)?;
    let ended = demo.wait()?;
    ended.expect(1)?;
    ensure!(longest <= SILENCE, "silent for {longest:?}:\n{}", ended.all());
    for text in [
        "programs: Compiling regex; golden Debian: I: Retrieving libc6",
        "error: programs: exit code 7\n   Compiling regex\nerror: no regex today",
    ] {
        ended.says(text)?;
    }
    // cargo fails first, and takes debootstrap with it.
    stage.expect_nothing_left()
}

#[test]
fn cargo_xtask_is_never_silent_for_three_seconds_while_it_builds_itself() -> Result<()> {
    let scratch = Scratch::new("xtask-start")?;
    let cargo = scratch.path().join("cargo");
    let starter = || {
        let starter = Program::new(binaries::path("xtask-start")?);
        anyhow::Ok(
            starter
                .args(["demo", "--plain"])
                .env("CARGO", &cargo)
                .limit(LIMIT),
        )
    };
    script(
        &cargo,
        "echo \"$@\"; [ $1 = build ] && sleep 7; [ $1 = run ] && exit 5; true",
    )?;
    let mut run = starter()?.spawn()?;
    let longest = longest_silence(&mut run)?;
    let ended = run.wait()?;
    ended.expect(5)?;
    ensure!(longest <= SILENCE, "silent for {longest:?}:\n{}", ended.all());
    ensure!(
        ended.stdout
            == "build --profile xtask --package xtask\nrun --quiet --profile xtask --package xtask -- demo --plain\n",
        "{}",
        ended.all()
    );
    script(&cargo, "echo \"$@\"; exit 101")?;
    let ended = starter()?.finish()?;
    ended.expect(101)?;
    ensure!(
        ended.stdout == "build --profile xtask --package xtask\n",
        "{}",
        ended.all()
    );
    Ok(())
}

#[test]
fn a_golden_debian_that_cannot_be_made_ends_the_demo_with_its_reason() -> Result<()> {
    let stage = Stage::new(
        "demo-debian",
        "echo $$ >> $STAGE/pids; exec sleep 60",
        "echo $$ >> $STAGE/pids; echo 'E: Invalid Release file'; exit 1",
    )?;
    let ended = stage.demo(&[])?.wait()?;
    ended.expect(1)?;
    ended.says("error: golden Debian: exit code 1")?;
    ended.says("E: Invalid Release file")?;
    stage.expect_nothing_left()
}

#[test]
fn a_demo_that_is_interrupted_while_it_prepares_leaves_nothing_behind() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let stage = Stage::new(
            "demo-interrupted",
            "echo $$ >> $STAGE/pids; sleep 60 & echo $! >> $STAGE/pids; wait",
            "echo $$ >> $STAGE/pids; sleep 60 & echo $! >> $STAGE/pids; wait",
        )?;
        let mut demo = stage.demo(&["--disks"])?;
        let pids = stage.path("pids");
        demo.wait_until("both run", |_| {
            Ok(fs::read_to_string(&pids).is_ok_and(|pids| pids.lines().count() == 4))
        })?;
        demo.signal(signal)?;
        let ended = demo.wait()?;
        ended.expect(1)?;
        ended.says("error: interrupted")?;
        stage.expect_nothing_left()?;
    }
    Ok(())
}

#[test]
fn the_picture_is_a_large_pane_above_two_small_ones_and_follows_the_terminal() -> Result<()> {
    let scratch = Scratch::new("demo-panes")?;
    let pane = |name: &str| Pane {
        title: format!("screen of {name}"),
        file: scratch.path().join(name),
    };
    let (server, n1, n2) = (pane("server"), pane("n1"), pane("n2"));
    let panes = Panes::new(scratch.path(), (100, 30), &server, &[n1.clone(), n2.clone()])?;
    let socket = quoted(&scratch.path().join("panes").display().to_string());
    let attach = format!("env -u TMUX tmux -u -S {socket} attach-session");
    let terminal = Terminal::start(&scratch, (100, 30), &attach, &[])?;
    for (pane, text) in [(&server, "sending files"), (&n1, "one boots"), (&n2, "two boots")] {
        fs::write(&pane.file, format!("{text}\n"))?;
    }
    terminal.wait_for("the machines' screens", |line| {
        line.starts_with("one boots") && line.ends_with("two boots")
    })?;
    terminal.wait_for("the server's view", |line| line == "sending files")?;
    let lines = terminal.lines()?;
    let row = |text: &str| lines.iter().position(|line| line.contains(text));
    ensure!(row("screen of server") == Some(0), "{lines:#?}");
    ensure!(row("screen of n1") == row("screen of n2"), "{lines:#?}");
    let divided = row("screen of n1").unwrap_or_default();
    ensure!((16..22).contains(&divided), "{lines:#?}");
    ensure!(
        panes.large_size()? == (100, u16::try_from(divided)? - 1),
        "{lines:#?}"
    );
    ensure!(panes.drawn()? == "sending files");
    terminal.resize((120, 40))?;
    terminal.wait_for("a wider screen", |line| {
        line.starts_with("──") && line.chars().count() == 120
    })?;
    ensure!(panes.large_size()?.0 == 120);
    Ok(())
}
