//! Programs that run with a time limit, in a namespace or not, and are killed by their own id.
//!
//! Nothing here is a shell: a caller that needs one runs `sh -c` itself. Output goes to unnamed files, so
//! that a program with much output never waits for us, and can be read while the program runs.

mod running;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::interrupt;
use crate::netns::Namespace;
use crate::pty::Pty;
use crate::tether;

use running::tail;
pub use running::{Ended, Running};

/// Default time limit of a tool: tools of the lab work on small disks.
pub const TOOL_LIMIT: Duration = Duration::from_secs(120);
/// Name of the variable with the id of the process that started a program. Everything that the program starts
/// inherits it: [`crate::scratch::sweep_after`] finds them by it.
pub const OWNER_VARIABLE: &str = "KA_LAB_OWNER";

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
    merged: bool,
    terminal: Option<((u16, u16), PathBuf)>,
    held: bool,
}

impl Program {
    /// Names a program, to be found in `PATH` or by its path.
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
            merged: false,
            terminal: None,
            held: false,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.argv
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Lets another program start this one: its command line is put in front.
    #[must_use]
    pub fn wrapped(mut self, by: &[&str]) -> Self {
        self.argv.splice(0..0, by.iter().map(OsString::from));
        self
    }

    /// Keeps both outputs in one file, in their order: as standard output.
    #[must_use]
    pub fn merged(mut self) -> Self {
        self.merged = true;
        self
    }

    /// Gives the program a terminal of this size instead of empty input and unnamed files. `file` gets what it draws, with the
    /// control sequences.
    #[must_use]
    pub fn in_terminal(mut self, size: (u16, u16), file: impl Into<PathBuf>) -> Self {
        self.terminal = Some((size, file.into()));
        self
    }

    /// Lets the program read from a pipe that ends when [`Running`] is dropped, and gives it some time to end by itself then.
    /// This reaches a program that sudo started, which this process may not kill.
    #[must_use]
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the program's standard input; empty by default.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Sets the time after which the program is killed and counts as failed.
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

    /// Has the kernel kill the program when this process ends in any way, because a signal runs no guards.
    /// Children of the program are not reached.
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
        let (mut stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let mut command = self.command();
        let mut screen = None;
        if let Some((size, file)) = &self.terminal {
            let (pty, program_side) = Pty::new(*size, file)?;
            command
                .stdin(program_side.try_clone()?)
                .stdout(program_side.try_clone()?)
                .stderr(program_side);
            stdout = pty.drawn()?;
            screen = Some(pty);
        } else {
            command.stdin(self.stdin()?);
            if !self.shown {
                let errors = if self.merged { &stdout } else { &stderr };
                command.stdout(stdout.try_clone()?).stderr(errors.try_clone()?);
            }
        }
        let started = Instant::now();
        let spawn = move || {
            interrupt::unblock_in_this_thread();
            // The command holds the program's side of a terminal, and must not outlive this.
            let mut command = command;
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
            screen,
            held: self.held,
            tether,
        })
    }

    fn stdin(&self) -> Result<Stdio> {
        if self.held {
            return Ok(Stdio::piped());
        }
        let mut stdin = tempfile::tempfile()?;
        stdin.write_all(&self.input)?;
        std::io::Seek::rewind(&mut stdin)?;
        Ok(stdin.into())
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// It cannot be started, or takes longer than its limit. A bad exit code is no error here.
    pub fn finish(self) -> Result<Ended> {
        self.spawn()?.wait()
    }

    /// Runs the program, which must succeed, and returns its output.
    ///
    /// # Errors
    /// As [`Program::finish`], and when it ends with anything but exit code 0: then with the end of its
    /// output.
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
        let mut argv = self.argv.clone();
        if self.terminal.is_some() {
            // The terminal becomes the controlling one, so that a new size is signalled.
            argv.splice(0..0, ["setsid", "--ctty"].map(OsString::from));
        }
        let mut command = match &self.cgroup {
            // The shell moves itself and becomes the program, so that not one tick is lost.
            Some(group) => {
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
                    .arg(group.join("cgroup.procs"));
                shell.args(&argv);
                shell
            }
            None if self.tethered => {
                let mut setpriv = Command::new("setpriv");
                setpriv.args(["--pdeathsig", "KILL", "--"]).args(&argv);
                setpriv
            }
            None => {
                let mut plain = Command::new(&argv[0]);
                plain.args(&argv[1..]);
                plain
            }
        };
        command
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .env("LC_ALL", "C.UTF-8")
            .env(OWNER_VARIABLE, std::process::id().to_string());
        // The program gets a group of its own: the operator's commands that a binary starts can be ended with
        // it. With a terminal it gets that as the leader of a session.
        if self.terminal.is_none() {
            command.process_group(0);
        }
        command
    }
}

/// True if a program of this name is in `PATH`.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Returns the error for a thread of ours that panicked.
#[must_use]
pub fn panicked() -> anyhow::Error {
    anyhow::anyhow!("a thread of the lab panicked")
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

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

    #[test]
    fn a_program_in_a_terminal_sees_its_size_and_each_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("screen");
        let script =
            "trap 'stty size; exit 3' WINCH; tty >/dev/null && stty size; while :; do sleep 0.1; done";
        let program = Program::new("bash")
            .args(["-c", script])
            .in_terminal((100, 30), &file);
        let mut run = program.tethered().spawn().unwrap();
        run.wait_for("30 100").unwrap();
        run.resize((120, 40)).unwrap();
        let ended = run.wait().unwrap();
        ended.expect(3).unwrap().says("40 120").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), ended.stdout);
    }

    #[test]
    fn both_outputs_keep_their_order_in_one_file() {
        let script = "echo one; echo two >&2; echo three";
        let program = Program::new("sh").args(["-c", script]);
        assert_eq!(program.merged().run().unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_held_program_may_end_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ended");
        let script = format!("echo ready; cat; echo done > {}", file.display());
        let mut run = Program::new("sh").args(["-c", &script]).held().spawn().unwrap();
        run.wait_for("ready").unwrap();
        drop(run);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "done\n");
    }
}
