//! Termination signals as something a thread can wait for.
//!
//! A handler and not a blocked mask: a mask would be inherited by every child, and an operator's command
//! could then not be terminated; a handler is reset to the default by `execve` (signal(7)).

use std::io::{self, PipeReader, Read};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Write end of the pipe the handler writes signal numbers to; -1 before [`Termination::catch`].
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// The signals that ask a process to end: Ctrl-C, `kill`, and a closed terminal.
const TERMINATION: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// One press of Ctrl-C or one closed terminal may arrive several times: from the terminal, and from whoever started us and
/// hands it on (sudo, timeout, a shell that ends). So much later it was pressed again.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// Receives termination signals instead of dying from them.
#[derive(Debug)]
pub struct Termination {
    pipe: PipeReader,
    last: Option<Instant>,
}

impl Termination {
    /// From now on SIGINT, SIGTERM and SIGHUP no longer end the process but are handed out by [`Self::wait`].
    /// They stay caught until the process ends. A SIGHUP that was ignored (nohup(1)) stays ignored.
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
        Ok(Self {
            pipe: reader,
            last: None,
        })
    }

    /// Blocks until the next request to end and returns its signal's name, `SIGTERM`. Signals that come together are one
    /// request. A SIGHUP is never a second one: a terminal that is closed says so more than once, and nobody is impatient.
    ///
    /// # Errors
    /// The pipe cannot be read; it has no known cause.
    pub fn wait(&mut self) -> io::Result<&'static str> {
        loop {
            let mut number = [0];
            self.pipe.read_exact(&mut number)?;
            let signal = Signal::try_from(i32::from(number[0])).ok();
            if is_new_request(signal, self.last.map(|last| last.elapsed())) {
                self.last = Some(Instant::now());
                return Ok(signal.map_or("a signal", Signal::as_str));
            }
        }
    }
}

/// Returns true for a signal that asks for more than the last request, so long ago, did.
fn is_new_request(signal: Option<Signal>, since_last: Option<Duration>) -> bool {
    since_last.is_none_or(|since| since >= SAME_REQUEST && signal != Some(Signal::SIGHUP))
}

extern "C" fn forward(signal: nix::libc::c_int) {
    let saved = Errno::last_raw();
    let fd = PIPE.load(Ordering::SeqCst);
    if fd >= 0 {
        // Signal numbers are below 65. A full pipe means that nobody reads: then one more number changes nothing.
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

    use std::thread::sleep;
    use std::time::Duration;

    use super::{SAME_REQUEST, Termination, is_new_request};

    #[test]
    fn a_termination_signal_is_handed_out_by_name_and_does_not_kill() {
        let mut termination = Termination::catch().unwrap();
        raise(Signal::SIGTERM).unwrap();
        assert_eq!(termination.wait().unwrap(), "SIGTERM");
        // The same press of Ctrl-C, handed on by whoever started us; later a terminal that ends, and one more press.
        raise(Signal::SIGTERM).unwrap();
        raise(Signal::SIGINT).unwrap();
        let later = std::thread::spawn(|| {
            sleep(SAME_REQUEST * 2);
            raise(Signal::SIGHUP).unwrap();
            raise(Signal::SIGINT).unwrap();
        });
        assert_eq!(termination.wait().unwrap(), "SIGINT");
        assert!(later.join().is_ok());
        assert!(
            Termination::catch().is_err(),
            "a second catcher would never hear anything"
        );
    }

    #[test]
    fn signals_that_come_together_are_one_request_and_a_closed_terminal_is_never_a_second_one() {
        let later = Some(Duration::from_secs(60));
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].map(Some) {
            assert!(is_new_request(signal, None), "{signal:?}");
            assert!(!is_new_request(signal, Some(Duration::ZERO)), "{signal:?}");
            assert_eq!(
                is_new_request(signal, later),
                signal != Some(Signal::SIGHUP),
                "{signal:?}"
            );
        }
    }
}
