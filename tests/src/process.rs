//! Running programs with a time limit, in a namespace or not, and killing them by their own id.
//!
//! Nothing here is a shell: what needs one says `sh -c` itself. Output goes to unnamed files, so that a program
//! which says much never waits for us, and can be read while the program runs.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::interrupt;
use crate::netns::Namespace;
use crate::tether::{self, Tether};

/// How long a tool may take when nothing else is said: tools of the lab work on small disks.
pub const TOOL_LIMIT: Duration = Duration::from_secs(120);
/// The id of the process that started a program stands under this name in the program's environment, and in that of
/// whatever the program starts: [`crate::scratch::sweep_after`] finds them by it.
pub(crate) const OWNER_VARIABLE: &str = "KA_LAB_OWNER";
/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How much of a program's output an error repeats, in bytes.
const TAIL_BYTES: usize = 2000;

/// A program to be run.
#[derive(Debug, Clone)]
pub struct Program {
    argv: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    input: Vec<u8>,
    limit: Duration,
    namespace: Option<Namespace>,
    cgroup: Option<PathBuf>,
    shown: bool,
    tethered: bool,
}

impl Program {
    /// A program found in `PATH` or by its path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            argv: vec![program.as_ref().to_owned()],
            envs: Vec::new(),
            input: Vec::new(),
            limit: TOOL_LIMIT,
            namespace: None,
            cgroup: None,
            shown: false,
            tethered: false,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.argv
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Has another program start this one: its command line is put in front.
    #[must_use]
    pub fn wrapped(mut self, by: &[&str]) -> Self {
        self.argv.splice(0..0, by.iter().map(OsString::from));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What the program reads on its standard input; nothing by default.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// After this time the program is killed and counts as failed.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the program in a network namespace, under the namespace's host name.
    #[must_use]
    pub fn inside(mut self, namespace: &Namespace) -> Self {
        self.namespace = Some(namespace.clone());
        self
    }

    /// Counts the program's processor time in this control group (a directory below `/sys/fs/cgroup`).
    #[must_use]
    pub fn cgroup(mut self, group: impl Into<PathBuf>) -> Self {
        self.cgroup = Some(group.into());
        self
    }

    /// Lets the operator see the program's output as it comes, instead of keeping it.
    #[must_use]
    pub fn shown(mut self) -> Self {
        self.shown = true;
        self
    }

    /// Has the kernel kill the program when this process ends, however it ends: guards are not run by a signal. What the
    /// program itself starts is not reached.
    #[must_use]
    pub fn tethered(mut self) -> Self {
        self.tethered = true;
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    /// The program is not there, or the namespace is gone.
    pub fn spawn(self) -> Result<Running> {
        let name = self.argv[0].to_string_lossy().into_owned();
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let mut stdin = tempfile::tempfile()?;
        stdin.write_all(&self.input)?;
        std::io::Seek::rewind(&mut stdin)?;
        let mut command = self.command();
        command.stdin(stdin);
        if !self.shown {
            command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        }
        let started = Instant::now();
        let spawn = move || {
            interrupt::unblock_in_this_thread();
            command.spawn()
        };
        let (child, tether) = match (self.tethered, self.namespace) {
            (true, namespace) => tether::spawn(namespace, spawn)?,
            (false, Some(namespace)) => (namespace.enter(spawn)?, None),
            (false, None) => {
                let child = thread::scope(|scope| scope.spawn(spawn).join());
                (child.map_err(|_| panicked())?, None)
            }
        };
        let child = child.with_context(|| format!("starting {name}"))?;
        Ok(Running {
            name,
            child,
            stdout,
            stderr,
            started,
            limit: self.limit,
            ended: None,
            tether,
        })
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// It cannot be started, or takes longer than its limit. A bad exit code is no error here.
    pub fn finish(self) -> Result<Ended> {
        self.spawn()?.wait()
    }

    /// Runs the program, which must succeed, and returns what it printed.
    ///
    /// # Errors
    /// As [`Program::finish`], and when it ends with anything but exit code 0: then with the end of its output.
    pub fn run(self) -> Result<String> {
        let line = self
            .argv
            .iter()
            .map(|arg| arg.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let ended = self.finish()?;
        if ended.code != Some(0) {
            bail!(
                "{line}: {}\n{}",
                ended.how(),
                tail(&format!("{}{}", ended.stdout, ended.stderr))
            );
        }
        Ok(ended.stdout)
    }

    fn command(&self) -> Command {
        let mut command = match &self.cgroup {
            // The shell moves itself and becomes the program, so that not one tick is lost.
            Some(group) => {
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
                    .arg(group.join("cgroup.procs"));
                shell.args(&self.argv);
                shell
            }
            None if self.tethered => {
                let mut setpriv = Command::new("setpriv");
                setpriv.args(["--pdeathsig", "KILL", "--"]).args(&self.argv);
                setpriv
            }
            None => {
                let mut plain = Command::new(&self.argv[0]);
                plain.args(&self.argv[1..]);
                plain
            }
        };
        command
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .env("LC_ALL", "C.UTF-8")
            .env(OWNER_VARIABLE, std::process::id().to_string());
        // A group of its own: the operator's commands a binary starts can be ended with it.
        command.process_group(0).stdin(Stdio::null());
        command
    }
}

/// A running program; killed with its whole process group on drop.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdout: File,
    stderr: File,
    started: Instant,
    limit: Duration,
    ended: Option<ExitStatus>,
    /// Goes last, after the child.
    tether: Option<Tether>,
}

/// What became of a program.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// All it printed.
    pub stdout: String,
    /// All it complained about.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
}

impl Ended {
    /// Both outputs in one text.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// One phrase for messages.
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
    /// Another one came; the error repeats the end of the output.
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
    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed until now, on both outputs.
    #[must_use]
    pub fn said(&self) -> String {
        text_of(&self.stdout) + &text_of(&self.stderr)
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub fn has_ended(&mut self) -> Result<bool> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended.is_some())
    }

    /// Waits until the program has printed a text.
    ///
    /// # Errors
    /// It ends without having said so, or the time limit passes.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        self.wait_until(&format!("{text:?} was said"), |run| Ok(run.said().contains(text)))
    }

    /// Waits until something holds while the program runs.
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
        while !self.has_ended()? {
            self.check_limit("its end")?;
            thread::sleep(POLL);
        }
        Ok(self.result())
    }

    /// Kills the program alone, at once, as a power cut would; what it started lives on until the guard is dropped.
    ///
    /// # Errors
    /// The program cannot be signalled.
    pub fn kill_alone(mut self) -> Result<Ended> {
        self.child
            .kill()
            .with_context(|| format!("killing {}", self.name))?;
        self.ended = Some(self.child.wait()?);
        let group = Pid::from_raw(i32::try_from(self.pid())?);
        // Whatever it started is ours too, and nobody else will end it.
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
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.tether.take());
    }
}

/// Whether a program of this name is in `PATH`.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn text_of(file: &File) -> String {
    let length = file.metadata().map(|meta| meta.len()).unwrap_or(0);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    // Positioned reads leave the writer's own place in the shared file description alone.
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(err) => format!("(output cannot be read: {err})"),
    }
}

fn tail(text: &str) -> String {
    let mut start = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].trim_end().to_owned()
}

pub(crate) fn panicked() -> anyhow::Error {
    anyhow::anyhow!("a thread of the lab panicked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_too_long_is_killed_and_named() {
        let err = Program::new("sleep")
            .arg("20")
            .limit(Duration::from_millis(100))
            .run()
            .unwrap_err();
        assert!(err.to_string().contains("sleep"), "{err}");
    }

    #[test]
    fn a_tethered_program_dies_when_whoever_started_it_is_gone() {
        let program = Program::new("sh").args(["-c", "echo ready; exec sleep 60"]);
        let mut run = program.tethered().spawn().unwrap();
        run.wait_for("ready").unwrap();
        run.tether = None;
        let ended = run.wait().unwrap();
        assert_eq!(ended.signal, Some(Signal::SIGKILL as i32), "{}", ended.how());
        assert!(ended.took < Duration::from_secs(30));
    }

    #[test]
    fn input_output_and_exit_code_pass_through() {
        let ended = Program::new("sh")
            .args(["-c", "cat; echo no >&2; exit 3"])
            .input("yes")
            .finish()
            .unwrap();
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
            (Some(3), "yes", "no\n")
        );
        assert!(ended.expect(0).is_err());
    }
}
