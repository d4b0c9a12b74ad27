//! A started child and the two pipes from it, read without ever waiting longer than the time limit.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ExitStatus};
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ending::Purpose;
use super::{child, ending};

/// Most bytes of standard output: lsblk --json of a machine with a thousand disks is under one MiB.
pub(super) const MAX_STDOUT_BYTES: usize = 16 << 20;
/// Bytes that are kept of stderr: enough for the last few lines of any tool.
const STDERR_KEPT_BYTES: usize = 16 << 10;
/// Time in milliseconds between two looks at a child that may have ended while a grandchild still holds its
/// pipes.
const LOOK_INTERVAL_MS: u16 = 50;

/// The result of a run.
pub(super) enum Outcome {
    Ended(ExitStatus),
    TimedOut,
    TooMuchOutput,
}

/// A started child and its output so far. Dropping it kills and reaps the child.
pub(super) struct Running {
    child: Child,
    reaped: bool,
    /// Everything on its standard output so far.
    pub(super) stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Running {
    pub(super) fn new(child: Child) -> Self {
        ending::begun(&child, Purpose::Work);
        Self {
            child,
            reaped: false,
            stdout: Vec::new(),
            stderr: Vec::new(),
        }
    }

    /// Reads both pipes until the child has ended, or the deadline has come.
    pub(super) fn collect(&mut self, deadline: Instant) -> io::Result<Outcome> {
        let mut out = self.child.stdout.take();
        let mut err = self.child.stderr.take();
        for fd in [out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)]
            .into_iter()
            .flatten()
        {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        loop {
            wait_readable([out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)])?;
            // This look comes before the read, so that the read below gets everything that the child wrote
            // before its end.
            let ended = ending::try_wait(&mut self.child)?;
            self.reaped = ended.is_some();
            drain(&mut out, &mut self.stdout)?;
            drain(&mut err, &mut self.stderr)?;
            let surplus = self.stderr.len().saturating_sub(STDERR_KEPT_BYTES);
            self.stderr.drain(..surplus);
            if let Some(status) = ended {
                return Ok(Outcome::Ended(status));
            }
            if self.stdout.len() > MAX_STDOUT_BYTES {
                return Ok(Outcome::TooMuchOutput);
            }
            if Instant::now() >= deadline {
                return Ok(Outcome::TimedOut);
            }
        }
    }

    /// Returns the end of its standard error so far.
    pub(super) fn stderr(&self) -> &[u8] {
        &self.stderr
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        child::kill_group(self.child.id());
        if let Err(error) = ending::wait(&mut self.child) {
            tracing::warn!(%error, "waiting for a killed program");
        }
    }
}

/// Waits until a pipe is readable or [`LOOK_INTERVAL_MS`] has passed. With no pipe left it is a short pause.
fn wait_readable(fds: [Option<BorrowedFd<'_>>; 2]) -> io::Result<()> {
    let mut polled: Vec<PollFd<'_>> = fds
        .into_iter()
        .flatten()
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    let pause_ms = if polled.is_empty() { 1 } else { LOOK_INTERVAL_MS };
    match poll(&mut polled, PollTimeout::from(pause_ms)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads what is there without waiting; `pipe` becomes `None` at its end.
fn drain<R: Read>(pipe: &mut Option<R>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(reader) = pipe else { return Ok(()) };
    let mut buffer = [0u8; 16 << 10];
    while into.len() <= MAX_STDOUT_BYTES {
        match reader.read(&mut buffer) {
            Ok(0) => {
                *pipe = None;
                return Ok(());
            }
            Ok(count) => into.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
