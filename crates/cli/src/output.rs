//! Lines on standard error and texts on standard output, to terminals and pipes that may be closed at any
//! moment.

use std::io::{self, Write as _};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::exit;

/// Environment variable with the filter of library logs (`KA_LOG=debug`), in the syntax of
/// `tracing_subscriber::EnvFilter`.
const LOG_VARIABLE: &str = "KA_LOG";

/// Writes one line to standard error. A closed terminal takes none, which must not end a run in disorder
/// (`eprintln!` would panic).
pub fn say(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}

/// Writes a text to standard output. A closed pipe is no failure: its reader has read enough.
///
/// # Errors
/// Standard output does not take the text, such as a file on a full disk.
pub fn write(text: &[u8]) -> io::Result<()> {
    feed(io::stdout().lock(), text)
        .map(drop)
        .map_err(|error| io::Error::new(error.kind(), format!("writing to standard output: {error}")))
}

/// Writes a piece of a longer text. Returns false if the other end of a pipe was closed, because nothing
/// reads the rest.
///
/// # Errors
/// The output does not take the piece, such as a file on a full disk.
pub fn feed(mut output: impl io::Write, piece: &[u8]) -> io::Result<bool> {
    match output.write_all(piece).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a text to standard output as the last act of a program, and returns its exit code.
#[must_use]
pub fn print(text: &[u8]) -> ExitCode {
    match write(text) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(exit::NOTHING_DONE)
        }
    }
}

/// Sends logs of libraries to standard error: errors, or those that match the environment variable `KA_LOG`.
/// The lines never contain colours: they also go into log files and to serial consoles. Must be called once.
pub fn log_libraries() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("error"));
    library_log(filter, io::stderr).init();
}

fn library_log<W>(filter: EnvFilter, writer: W) -> impl SubscriberInitExt
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        // The subscriber would report an error on the very terminal that takes no output, and panic.
        .log_internal_errors(false)
        .with_ansi(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .finish()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    #[test]
    fn lines_of_libraries_have_no_colours() {
        let mut file = tempfile::tempfile().unwrap();
        let writer = std::sync::Mutex::new(file.try_clone().unwrap());
        let log = library_log(EnvFilter::new("error"), writer).set_default();
        tracing::error!(disk = "/dev/sda", "left a partition in the kernel");
        drop(log);
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert!(
            text.ends_with("left a partition in the kernel disk=\"/dev/sda\"\n"),
            "{text:?}"
        );
        assert!(!text.contains('\x1b'), "{text:?}");
    }
}
