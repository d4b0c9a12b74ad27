//! A program that runs, and its result.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::interrupt;
use crate::pty::Pty;
use crate::tether::Tether;

/// Time between two looks at a running program.
const POLL: Duration = Duration::from_millis(10);
/// Time before the first look at a program that should end: most tools take a few milliseconds.
const FIRST_POLL: Duration = Duration::from_millis(1);
/// Time in which a program whose input has ended must end by itself.
const HELD_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of a program's output that an error repeats.
const TAIL_BYTES: usize = 2000;

/// A running program; killed with its whole process group on drop.
#[derive(Debug)]
pub struct Running {
    pub(super) name: String,
    pub(super) child: Child,
    pub(super) stdout: File,
    pub(super) stderr: File,
    pub(super) started: Instant,
    pub(super) limit: Duration,
    pub(super) ended: Option<ExitStatus>,
    /// The terminal in which it runs, if it has one.
    pub(super) screen: Option<Pty>,
    pub(super) held: bool,
    /// Must be dropped last, after the child.
    pub(super) tether: Option<Tether>,
}

/// The result of a program.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its whole standard output.
    pub stdout: String,
    /// Its whole standard error.
    pub stderr: String,
    /// Time from its start to its end.
    pub took: Duration,
}

impl Ended {
    /// Returns both outputs in one text.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Returns the way it ended, as a phrase for messages.
    #[must_use]
    pub fn how(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        }
    }

    /// Insists on an exit code.
    ///
    /// # Errors
    /// It ended otherwise; the error repeats the end of the output.
    pub fn expect(&self, code: i32) -> Result<&Self> {
        if self.code != Some(code) {
            bail!(
                "{} instead of exit code {code}:\n{}",
                self.how(),
                tail(&self.all())
            );
        }
        Ok(self)
    }

    /// Insists on a text in either output.
    ///
    /// # Errors
    /// It is not there; the error repeats the end of the output.
    pub fn says(&self, text: &str) -> Result<&Self> {
        if !self.all().contains(text) {
            bail!("{text:?} is not said in:\n{}", tail(&self.all()));
        }
        Ok(self)
    }
}

impl Running {
    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its output until now, of both kinds.
    #[must_use]
    pub fn said(&self) -> String {
        text_of(&self.stdout) + &text_of(&self.stderr)
    }

    /// True if it has ended.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub fn has_ended(&mut self) -> Result<bool> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended.is_some())
    }

    /// Gives its terminal another size. Does nothing if it has no terminal.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn resize(&self, size: (u16, u16)) -> Result<()> {
        self.screen.as_ref().map_or(Ok(()), |screen| screen.resize(size))
    }

    /// Returns true if it still runs.
    ///
    /// # Errors
    /// Its time limit has passed (it is killed when this is dropped), or the run is interrupted.
    pub fn still_runs(&mut self) -> Result<bool> {
        let runs = !self.has_ended()?;
        if runs {
            self.check_limit("its end")?;
        }
        Ok(runs)
    }

    /// Fails if it has ended with anything but exit code 0.
    ///
    /// # Errors
    /// It has; the error repeats the end of its output.
    pub fn expect_no_failure(&mut self) -> Result<()> {
        if self.has_ended()? {
            let ended = self.result();
            ended.expect(0).with_context(|| self.name.clone())?;
        }
        Ok(())
    }

    /// Waits until the program has printed a text.
    ///
    /// # Errors
    /// It ends without that text, or the time limit passes.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        self.wait_until(&format!("{text:?} was said"), |run| Ok(run.said().contains(text)))
    }

    /// Waits until a condition holds while the program runs.
    ///
    /// # Errors
    /// The program ends first, or its time limit passes, or the run is interrupted.
    pub fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        loop {
            let ended = self.has_ended()?;
            if holds(self)? {
                return Ok(());
            }
            if ended {
                bail!("{} ended before {what}:\n{}", self.name, tail(&self.said()));
            }
            self.check_limit(what)?;
            thread::sleep(POLL);
        }
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// The time limit passes (the program is killed then) or the run is interrupted.
    pub fn wait(mut self) -> Result<Ended> {
        let mut pause = FIRST_POLL;
        while self.still_runs()? {
            thread::sleep(pause);
            pause = POLL.min(pause * 2);
        }
        Ok(self.result())
    }

    /// Kills the program alone, at once, as a power cut would; its children live on until the guard is
    /// dropped.
    ///
    /// # Errors
    /// The program cannot be signalled.
    pub fn kill_alone(mut self) -> Result<Ended> {
        self.child
            .kill()
            .with_context(|| format!("killing {}", self.name))?;
        self.ended = Some(self.child.wait()?);
        let group = Pid::from_raw(i32::try_from(self.pid())?);
        // Its children are ours too, and no other process will end them.
        let _ = killpg(group, Signal::SIGKILL);
        Ok(self.result())
    }

    /// Sends a signal to the program alone.
    ///
    /// # Errors
    /// The program has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.has_ended()? {
            bail!("{} has ended: {}", self.name, tail(&self.said()));
        }
        kill(Pid::from_raw(i32::try_from(self.pid())?), signal)?;
        Ok(())
    }

    fn result(&self) -> Ended {
        let status = self.ended.unwrap_or_default();
        if let Some(screen) = &self.screen {
            screen.settle();
        }
        Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: text_of(&self.stdout),
            stderr: text_of(&self.stderr),
            took: self.started.elapsed(),
        }
    }

    fn check_limit(&mut self, what: &str) -> Result<()> {
        interrupt::check()?;
        if self.started.elapsed() > self.limit {
            let said = tail(&self.said());
            bail!(
                "{}: {what} did not come within {} s:\n{said}",
                self.name,
                self.limit.as_secs()
            );
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        if self.held {
            drop(self.child.stdin.take());
            let since = Instant::now();
            while since.elapsed() < HELD_LIMIT && !self.has_ended().unwrap_or(true) {
                thread::sleep(POLL);
            }
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.tether.take());
    }
}

fn text_of(file: &File) -> String {
    let length = file.metadata().map(|meta| meta.len()).unwrap_or(0);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    // Positioned reads do not move the writer's own place in the shared file description.
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(err) => format!("(output cannot be read: {err})"),
    }
}

pub(super) fn tail(text: &str) -> String {
    let mut start = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].trim_end().to_owned()
}
