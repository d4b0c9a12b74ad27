//! The programs and the golden Debian of the demo, made side by side.

use std::mem;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ka_tests::binaries;
use ka_tests::process::{Ended, Running};

use crate::progress::Progress;
use crate::{GOLDEN, root};

/// Time limit: it allows for a machine much slower than ours and for a slow mirror.
const LIMIT: Duration = Duration::from_secs(3600);
/// Time between two looks at what is being made.
const LOOK: Duration = Duration::from_millis(200);
/// Lines of a failed program that the error repeats.
const TAIL_LINES: usize = 30;

/// A piece of work, done by a program of its own.
struct Piece {
    name: &'static str,
    /// Finds the current step in the program's output.
    step: fn(&str) -> Option<String>,
    state: State,
}

enum State {
    Running(Running),
    Ended(Duration),
}

/// The result of all pieces.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Directory of the programs.
    pub(super) bin_dir: PathBuf,
    /// Name and duration of each piece.
    pub(super) took: Vec<(&'static str, Duration)>,
}

/// Builds `ka-server` and `ka-client`, and makes the archive of the golden Debian if it is not there yet: the small one
/// of `demo --disks`, or the one that boots. Both are made at once, because one waits for processors, and the other for
/// the network and the disk.
///
/// # Errors
/// One of them fails; the error repeats the end of its output.
pub(super) fn prepare(disks: bool) -> Result<Prepared> {
    println!(
        "Building two programs, and making a golden Debian with debootstrap (it is kept for the next time)."
    );
    let target = binaries::static_dir(&binaries::own_dir()?)?;
    let mut pieces = [
        Piece {
            name: "programs",
            step: cargo_progress,
            state: State::Running(binaries::demo_build(&target).limit(LIMIT).spawn()?),
        },
        Piece {
            name: "golden Debian",
            step: last_line,
            state: State::Running(golden(disks)?),
        },
    ];
    let progress = Progress::begin("starting");
    let started = Instant::now();
    loop {
        for piece in &mut pieces {
            piece.look(started)?;
        }
        let running: Vec<String> = pieces.iter().filter_map(Piece::describe).collect();
        if running.is_empty() {
            break;
        }
        progress.say(&running.join("; "));
        thread::sleep(LOOK);
    }
    drop(progress);
    Ok(Prepared {
        bin_dir: binaries::finish_demo_build(&target)?,
        took: pieces.iter().filter_map(Piece::took).collect(),
    })
}

fn golden(disks: bool) -> Result<Running> {
    let this = std::env::current_exe().context("finding this program")?;
    let this = this.display().to_string();
    let environment = root::environment();
    let mut words = vec!["env"];
    words.extend(environment.iter().map(String::as_str));
    words.extend([this.as_str(), GOLDEN]);
    if disks {
        words.push("--disks");
    }
    // As a child of sudo it is out of this process's reach.
    root::command(&words).limit(LIMIT).held().spawn()
}

impl Piece {
    fn look(&mut self, started: Instant) -> Result<()> {
        let State::Running(running) = &mut self.state else {
            return Ok(());
        };
        if running.still_runs()? {
            return Ok(());
        }
        if let State::Running(running) = mem::replace(&mut self.state, State::Ended(started.elapsed())) {
            expect_success(self.name, &running.wait()?)?;
        }
        Ok(())
    }

    /// Returns its name and its current step; none when it is done.
    fn describe(&self) -> Option<String> {
        match &self.state {
            State::Running(running) => {
                let step = (self.step)(&running.said()).unwrap_or_else(|| "starting".to_owned());
                Some(format!("{}: {step}", self.name))
            }
            State::Ended(_) => None,
        }
    }

    fn took(&self) -> Option<(&'static str, Duration)> {
        match self.state {
            State::Ended(took) => Some((self.name, took)),
            State::Running(_) => None,
        }
    }
}

fn expect_success(name: &str, ended: &Ended) -> Result<()> {
    if ended.code == Some(0) {
        return Ok(());
    }
    let said = ended.all();
    let lines: Vec<&str> = said
        .split(['\n', '\r'])
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !is_bar(line))
        .collect();
    let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    bail!("{name}: {}\n{}", ended.how(), tail.join("\n"))
}

/// Returns the state of a build from cargo's progress bar, such as `143/260 regex, rustls`; before there is one, cargo's last
/// line, which may be about a download.
fn cargo_progress(said: &str) -> Option<String> {
    let bar = said.rsplit(['\r', '\n']).find(|part| is_bar(part));
    let Some(bar) = bar else { return last_line(said) };
    let (_, counts) = bar.split_once("] ")?;
    Some(counts.replacen(": ", " ", 1).trim().to_owned())
}

/// Returns true for cargo's progress bar.
fn is_bar(line: &str) -> bool {
    line.trim_start().starts_with("Building [")
}

fn last_line(said: &str) -> Option<String> {
    let line = said.rsplit(['\r', '\n']).find(|line| !line.trim().is_empty())?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{cargo_progress, last_line};

    #[test]
    fn the_newest_bar_of_cargo_counts() {
        let said = "   Compiling regex v1\n\r    Building [=>   ] 3/260: syn\r    Building [==>  ] 143/260: regex, rustls  \r";
        assert_eq!(cargo_progress(said).unwrap(), "143/260 regex, rustls");
    }

    #[test]
    fn a_build_without_a_bar_shows_its_last_line() {
        assert_eq!(
            cargo_progress("    Updating index\n Downloading crates ...\n").unwrap(),
            "Downloading crates ..."
        );
    }

    #[test]
    fn the_last_line_that_says_something_counts() {
        assert_eq!(last_line("one\n two \n\n").unwrap(), "two");
        assert_eq!(last_line("10 %\r20 %\r").unwrap(), "20 %");
        assert_eq!(last_line(""), None);
    }
}
