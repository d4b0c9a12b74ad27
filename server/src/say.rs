//! What is said outside the views.

use std::io::{self, Write as _};
use std::process::ExitCode;

/// One line on standard error. A terminal that was closed takes none, which must not end a run in disorder (`eprintln!` would
/// panic).
pub(crate) fn say(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}

/// A closed pipe is no failure: whoever reads has read enough. A full disk is one.
pub(crate) fn print(text: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(&format!("error: writing to standard output: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
