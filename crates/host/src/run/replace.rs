//! The replacement of this process by another program.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// Replaces this process by a program, which keeps the process id, the terminal, the open files and the
/// environment (execve(2)). Returns only if that fails.
#[must_use]
pub fn replace_process(program: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> io::Error {
    Command::new(program).args(args).exec()
}
