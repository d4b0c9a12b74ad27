//! What is said on standard error outside the journal.

use std::io::{self, Write as _};

/// One line on standard error. A terminal that was closed takes none, which must not end a clone in disorder (`eprintln!`
/// would panic).
pub(crate) fn say(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}
