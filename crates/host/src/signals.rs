//! Termination signals that a thread can wait for.
//!
//! A handler serves better than a blocked mask: every child would inherit the mask, and an operator's command
//! could then not be terminated. `execve` resets a handler to the default (signal(7)).

use std::io::{self, PipeReader, Read};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Write end of the pipe the handler writes signal numbers to; -1 before [`Termination::catch`].
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// The signals that ask a process to end: Ctrl-C, `kill`, and a closed terminal.
const TERMINATION: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// The receiver of termination signals, which no longer end the process.
#[derive(Debug)]
pub struct Termination {
    pipe: PipeReader,
}

impl Termination {
    /// Catches SIGINT, SIGTERM and SIGHUP: from now on they do not end the process, and [`Self::wait`]
    /// returns them. They stay caught until the process ends. A SIGHUP that was ignored (nohup(1)) stays
    /// ignored.
    ///
    /// # Errors
    /// No file descriptor left, or called a second time.
    pub fn catch() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let writer = writer.into_raw_fd();
        if PIPE
            .compare_exchange(-1, writer, Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
        {
            return Err(io::Error::other("termination signals are already caught"));
        }
        let action = SigAction::new(SigHandler::Handler(forward), SaFlags::SA_RESTART, SigSet::empty());
        for signal in TERMINATION {
            // SAFETY: the handler only reads an atomic and calls write(2), which is async-signal-safe
            // (signal-safety(7)); the pipe's write end is never closed.
            let before = unsafe { sigaction(signal, &action) }?;
            if signal == Signal::SIGHUP && matches!(before.handler(), SigHandler::SigIgn) {
                // SAFETY: puts back the disposition that was there a moment ago.
                unsafe { sigaction(signal, &before) }?;
            }
        }
        Ok(Self { pipe: reader })
    }

    /// Blocks until the next signal and returns its name, `SIGTERM`. One request of a person may come as
    /// several signals.
    ///
    /// # Errors
    /// The pipe cannot be read; it has no known cause.
    pub fn wait(&mut self) -> io::Result<&'static str> {
        let mut number = [0];
        self.pipe.read_exact(&mut number)?;
        let signal = Signal::try_from(i32::from(number[0]));
        Ok(signal.map_or("a signal", Signal::as_str))
    }
}

extern "C" fn forward(signal: nix::libc::c_int) {
    let saved = Errno::last_raw();
    let fd = PIPE.load(Ordering::SeqCst);
    if fd >= 0 {
        // Signal numbers are below 65. A full pipe means that no thread reads: one more number would change
        // nothing.
        let number = [u8::try_from(signal).unwrap_or(0)];
        // SAFETY: the descriptor came from `into_raw_fd` and is never closed.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = nix::unistd::write(fd, &number);
    }
    Errno::set_raw(saved);
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::Termination;

    #[test]
    fn termination_signals_are_handed_out_by_name_and_do_not_kill() {
        let mut termination = Termination::catch().unwrap();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            raise(signal).unwrap();
            assert_eq!(termination.wait().unwrap(), signal.as_str());
        }
        assert!(
            Termination::catch().is_err(),
            "a second catcher would never hear anything"
        );
    }
}
