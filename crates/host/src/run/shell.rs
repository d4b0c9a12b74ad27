//! A shell string that the operator typed, with one end of it connected to us.

use std::io;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::ending::Purpose;
use super::{RunError, child, ending};

/// Time between two looks at a child that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A command string for `sh -c`. Its standard error is ours, so that the operator sees its messages.
#[derive(Debug, Clone)]
pub struct Shell {
    command: String,
    description: String,
}

/// The running command, leader of its own process group. Dropping it kills the group.
///
/// The thread that started it must outlive it: the kernel ties the death signal to that thread.
#[derive(Debug)]
pub struct ShellChild {
    child: Child,
    description: String,
    command: String,
    purpose: Purpose,
    status: Option<ExitStatus>,
}

impl Shell {
    /// Takes a command as typed by the operator.
    pub fn new(command: impl Into<String>) -> Self {
        let command = command.into();
        Self {
            description: format!("running the command `{command}`"),
            command,
        }
    }

    /// Replaces the description that begins every error.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Starts it as a consumer: we write to its standard input ([`ShellChild::take_stdin`]), its output is
    /// ours.
    ///
    /// # Errors
    /// [`RunError::Io`] when `sh` cannot be started.
    pub fn spawn_consumer(&self) -> Result<ShellChild, RunError> {
        self.spawn(Stdio::piped(), Stdio::inherit(), Stdio::inherit(), Purpose::Work)
    }

    /// Starts it as a producer: we read its standard output ([`ShellChild::take_stdout`]), its input is
    /// empty.
    ///
    /// # Errors
    /// [`RunError::Io`] when `sh` cannot be started.
    pub fn spawn_producer(&self) -> Result<ShellChild, RunError> {
        self.spawn(Stdio::null(), Stdio::piped(), Stdio::inherit(), Purpose::Work)
    }

    /// Starts it with empty input; we read both its outputs ([`ShellChild::take_stdout`],
    /// [`ShellChild::take_stderr`]).
    ///
    /// # Errors
    /// [`RunError::Io`] when `sh` cannot be started.
    pub fn spawn_captured(&self) -> Result<ShellChild, RunError> {
        self.spawn(Stdio::null(), Stdio::piped(), Stdio::piped(), Purpose::Operator)
    }

    fn spawn(
        &self,
        stdin: Stdio,
        stdout: Stdio,
        stderr: Stdio,
        purpose: Purpose,
    ) -> Result<ShellChild, RunError> {
        if let Some(reason) = ending::why_ended(purpose) {
            return Err(RunError::Ended {
                description: self.description.clone(),
                program: "/bin/sh".to_owned(),
                reason,
            });
        }
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(&self.command)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        child::prepare(&mut command);
        // The operator's own locale: the command may depend on it.
        match std::env::var_os("LC_ALL") {
            Some(locale) => command.env("LC_ALL", locale),
            None => command.env_remove("LC_ALL"),
        };
        let child = command.spawn().map_err(|source| RunError::Io {
            description: self.description.clone(),
            program: "/bin/sh".to_owned(),
            source,
        })?;
        ending::begun(&child, purpose);
        let (description, command) = (self.description.clone(), self.command.clone());
        Ok(ShellChild {
            child,
            description,
            command,
            purpose,
            status: None,
        })
    }
}

impl ShellChild {
    /// Returns the pipe to its standard input; `None` for a producer or when taken already. Drop it to end
    /// the input.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Returns the pipe from its standard output; `None` for a consumer or when taken already.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Returns the pipe from its standard error; `None` unless it was started captured, or when taken
    /// already.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Returns its exit code when it has ended: 128 + signal for a killed command, as in a shell.
    ///
    /// Its process group may still hold other processes; see [`ShellChild::end_group`].
    ///
    /// # Errors
    /// [`RunError::Io`].
    pub fn try_exit_code(&mut self) -> Result<Option<u8>, RunError> {
        // The child is not reaped yet: the group's number must stay ours until end_group().
        let id = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let status = waitid(Id::Pid(id), flags).map_err(|errno| self.io_error(errno.into()))?;
        Ok(match status {
            WaitStatus::Exited(_, code) => Some(u8::try_from(code).unwrap_or(u8::MAX)),
            WaitStatus::Signaled(_, signal, _) => Some(128 + u8::try_from(signal as i32).unwrap_or(0)),
            _ => None,
        })
    }

    /// Kills the rest of its process group, and reaps the command.
    pub fn end_group(&mut self) {
        self.kill();
    }

    /// Returns its process id, which is its process group too.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, at most `limit` when one is given; then its process group is killed.
    ///
    /// # Errors
    /// [`RunError::Failed`] with its status when it was not success, [`RunError::TimedOut`],
    /// [`RunError::Io`].
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<(), RunError> {
        drop(self.child.stdin.take());
        let status = match limit {
            None => Some(ending::wait(&mut self.child).map_err(|source| self.io_error(source))?),
            Some(limit) => self.wait_until(Instant::now() + limit)?,
        };
        let Some(status) = status else {
            self.kill();
            return Err(RunError::TimedOut {
                description: self.description.clone(),
                program: self.command.clone(),
                limit: limit.unwrap_or_default(),
                stderr_tail: String::new(),
            });
        };
        self.status = Some(status);
        if status.success() {
            return Ok(());
        }
        if status.code().is_none()
            && let Some(reason) = ending::why_ended(self.purpose)
        {
            return Err(RunError::Ended {
                description: self.description.clone(),
                program: "the command".to_owned(),
                reason,
            });
        }
        Err(RunError::Failed {
            description: self.description.clone(),
            program: "the command".to_owned(),
            status,
            stderr_tail: String::new(),
        })
    }

    /// Kills its process group and waits for it.
    pub fn kill(&mut self) {
        if self.status.is_some() {
            return;
        }
        child::kill_group(self.child.id());
        match ending::wait(&mut self.child) {
            Ok(status) => self.status = Some(status),
            Err(error) => tracing::warn!(%error, command = %self.command, "waiting for a killed command"),
        }
    }

    fn wait_until(&mut self, deadline: Instant) -> Result<Option<ExitStatus>, RunError> {
        loop {
            let status = ending::try_wait(&mut self.child).map_err(|source| self.io_error(source))?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    fn io_error(&self, source: io::Error) -> RunError {
        RunError::Io {
            description: self.description.clone(),
            program: "/bin/sh".to_owned(),
            source,
        }
    }
}

impl Drop for ShellChild {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use super::Shell;
    use crate::run::RunError;

    #[test]
    fn a_producer_is_read_to_its_end_and_its_status_is_seen() {
        let mut child = Shell::new("printf 'a b' | tr ' ' '_'; exit 4")
            .spawn_producer()
            .unwrap();
        let mut text = String::new();
        child.take_stdout().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "a_b");
        let error = child.wait(Some(Duration::from_secs(5))).unwrap_err();
        assert!(error.to_string().contains("exit status 4"), "{error}");
    }

    #[test]
    fn a_consumer_gets_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out");
        let mut child = Shell::new(format!("cat > {}", file.display()))
            .spawn_consumer()
            .unwrap();
        child.take_stdin().unwrap().write_all(&[7; 300_000]).unwrap();
        child.wait(None).unwrap();
        assert_eq!(std::fs::read(file).unwrap(), vec![7; 300_000]);
    }

    #[test]
    fn both_outputs_and_the_code_are_seen_and_the_group_ends() {
        let mut child = Shell::new("echo out; echo err >&2; sleep 60 & exit 7")
            .spawn_captured()
            .unwrap();
        let (mut out, mut err) = (child.take_stdout().unwrap(), child.take_stderr().unwrap());
        let until = std::time::Instant::now() + Duration::from_secs(10);
        let code = loop {
            match child.try_exit_code().unwrap() {
                None if std::time::Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                code => break code,
            }
        };
        assert_eq!(code, Some(7));
        child.end_group();
        let (mut text, mut complaint) = (String::new(), String::new());
        // These reads end only because the sleeper in the background, which holds both pipes, was killed.
        out.read_to_string(&mut text).unwrap();
        err.read_to_string(&mut complaint).unwrap();
        assert_eq!((text.as_str(), complaint.as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_at_the_limit() {
        let mut child = Shell::new("sleep 60").spawn_producer().unwrap();
        let error = child.wait(Some(Duration::from_millis(100))).unwrap_err();
        assert!(matches!(error, RunError::TimedOut { .. }), "{error}");
    }
}
