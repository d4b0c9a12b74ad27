//! The terminal's side of every program: lines on standard error, texts on standard output and the log of libraries, to
//! terminals and pipes that may be closed at any moment.

use std::io::{self, Write as _};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// Environment variable with the filter of what libraries log (`KA_LOG=debug`), in the syntax of
/// `tracing_subscriber::EnvFilter`.
const LOG_VARIABLE: &str = "KA_LOG";

/// Writes one line to standard error. A terminal that was closed takes none, which must not end a run in disorder
/// (`eprintln!` would panic).
pub fn say(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}

/// Writes a text to standard output. A closed pipe is no failure: its reader has read enough.
///
/// # Errors
/// Standard output does not take the text, such as a file on a full disk.
pub fn write(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    taken(out.write_all(text).and_then(|()| out.flush()))
}

/// Judges a write to standard output that somebody else has done, as [`write()`] judges its own.
///
/// # Errors
/// As [`write()`].
pub fn taken(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(io::Error::new(
            error.kind(),
            format!("writing to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Writes a text to standard output as the last thing that a program does, and gives its exit code.
#[must_use]
pub fn print(text: &[u8]) -> ExitCode {
    exit_code(write(text))
}

/// Gives the exit code of a program whose last act was to write, and says why it failed.
#[must_use]
pub fn exit_code(written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Sends what libraries log to standard error: errors, or what the environment variable `KA_LOG` asks for. To be called
/// once.
pub fn log_libraries() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt()
        // It would say so on the very terminal that takes nothing, and panic.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
}
