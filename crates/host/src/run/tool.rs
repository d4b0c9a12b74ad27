//! A program with an argument list, run to its end within a time limit.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::ending::Purpose;
use super::running::{MAX_STDOUT_BYTES, Outcome, Running};
use super::{RunError, child, ending, find};

/// Default time limit: enough for mkfs on the largest disks, and a node that hangs is reported within the
/// hour.
const DEFAULT_LIMIT: Duration = Duration::from_secs(600);
/// Lines of a program's complaints that an error quotes.
const TAIL_LINES: usize = 4;

/// An external program about to be run: never a shell string, stdin is `/dev/null`, locale is C.
#[derive(Debug, Clone)]
pub struct Tool {
    program: OsString,
    description: Option<String>,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    accepted_codes: Vec<i32>,
    limit: Duration,
    root: Option<PathBuf>,
}

/// The result of a program that succeeded.
#[derive(Debug, Clone)]
pub struct ToolOutput {
    /// Everything on its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error: tools warn there even when they succeed.
    pub stderr_tail: String,
    /// Exit code: 0, or one of [`Tool::accept`].
    pub code: i32,
}

impl ToolOutput {
    /// Returns the standard output as text; invalid UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Tool {
    /// Takes a program by name (see [`find`]) or path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            description: None,
            args: Vec::new(),
            envs: Vec::new(),
            accepted_codes: vec![0],
            limit: DEFAULT_LIMIT,
            root: None,
        }
    }

    /// Sets the description of its task, as gerund and object: `formatting /dev/sda1 as ext4`. Begins every
    /// error.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the child's environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Accepts an exit code besides 0 that is no failure (blkid: 2 is "nothing found").
    #[must_use]
    pub fn accept(mut self, code: i32) -> Self {
        self.accepted_codes.push(code);
        self
    }

    /// Sets the time limit; the default is 600 seconds.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it in another root (chroot(2)). The program is searched there, in the usual directories. Of our
    /// own environment it gets only the variables of [`Self::env`].
    #[must_use]
    pub fn chroot(mut self, root: impl AsRef<Path>) -> Self {
        self.root = Some(root.as_ref().to_owned());
        self
    }

    /// Returns the command as a person would type it, for logs and `--dry-run`.
    #[must_use]
    pub fn command_line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words
            .map(|word| quoted(&word.to_string_lossy()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// [`RunError`]: not installed, cannot be started, ended with a code that was not accepted, did not end
    /// within the limit (its process group is killed), or wrote too much.
    pub fn run(&self) -> Result<ToolOutput, RunError> {
        tracing::debug!(command = %self.command_line(), root = ?self.root, "running");
        if let Some(reason) = ending::why_ended(Purpose::Work) {
            return Err(self.ended(reason));
        }
        let mut command = self.command()?;
        let mut running = Running::new(command.spawn().map_err(|source| self.not_started(source))?);
        let outcome = running
            .collect(Instant::now() + self.limit)
            .map_err(|source| self.io_error(source))?;
        let stderr_tail = last_lines(running.stderr());
        match outcome {
            Outcome::Ended(status) => self.judge(status, mem::take(&mut running.stdout), stderr_tail),
            Outcome::TooMuchOutput => Err(RunError::TooMuchOutput {
                description: self.description(),
                program: self.program_name(),
                limit_bytes: MAX_STDOUT_BYTES,
            }),
            Outcome::TimedOut => Err(RunError::TimedOut {
                description: self.description(),
                program: self.program_name(),
                limit: self.limit,
                stderr_tail,
            }),
        }
    }

    fn command(&self) -> Result<Command, RunError> {
        let mut command = match &self.root {
            // execvp(3) finds it after the change of root.
            Some(_) => Command::new(&self.program),
            None => Command::new(find(&self.program).ok_or_else(|| self.missing())?),
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        child::prepare(&mut command);
        if let Some(root) = &self.root {
            ending::uses_root(root);
            let root = CString::new(root.as_os_str().as_bytes())
                .map_err(|_| self.io_error(io::ErrorKind::InvalidFilename.into()))?;
            child::enter_root(&mut command, root);
        }
        command
            .args(&self.args)
            .envs(self.envs.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Makes the error of a failed start. In another root, only exec itself reveals that there is no such
    /// program.
    fn not_started(&self, source: io::Error) -> RunError {
        match (&self.root, source.kind()) {
            (Some(root), io::ErrorKind::NotFound) => RunError::MissingInRoot {
                description: self.description(),
                program: self.program_name(),
                root: root.clone(),
            },
            _ => self.io_error(source),
        }
    }

    fn ended(&self, reason: String) -> RunError {
        RunError::Ended {
            description: self.description(),
            program: self.program_name(),
            reason,
        }
    }

    fn missing(&self) -> RunError {
        RunError::Missing {
            description: self.description(),
            program: self.program_name(),
        }
    }

    fn judge(
        &self,
        status: ExitStatus,
        stdout: Vec<u8>,
        stderr_tail: String,
    ) -> Result<ToolOutput, RunError> {
        match status.code() {
            Some(code) if self.accepted_codes.contains(&code) => Ok(ToolOutput {
                stdout,
                stderr_tail,
                code,
            }),
            code => match ending::why_ended(Purpose::Work).filter(|_| code.is_none()) {
                Some(reason) => Err(self.ended(reason)),
                None => Err(RunError::Failed {
                    description: self.description(),
                    program: self.program_name(),
                    status,
                    stderr_tail: if stderr_tail.trim().is_empty() {
                        last_lines(&stdout)
                    } else {
                        stderr_tail
                    },
                }),
            },
        }
    }

    fn io_error(&self, source: io::Error) -> RunError {
        RunError::Io {
            description: self.description(),
            program: self.program_name(),
            source,
        }
    }

    fn program_name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    fn description(&self) -> String {
        self.description
            .clone()
            .unwrap_or_else(|| format!("running {}", self.command_line()))
    }
}

fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
#[path = "tool_tests.rs"]
mod tests;
