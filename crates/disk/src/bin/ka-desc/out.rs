//! What the program prints.

use std::io::{self, Write};
use std::process::ExitCode;

/// Prints all of it.
pub(crate) fn print(text: &[u8]) -> ExitCode {
    taken(io::stdout().write_all(text).and_then(|()| io::stdout().flush()))
}

/// A closed pipe is no failure: whoever reads has read enough. A full disk is one.
pub(crate) fn taken(printed: io::Result<()>) -> ExitCode {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            writeln!(io::stderr(), "error: writing to standard output: {error}").ok();
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
