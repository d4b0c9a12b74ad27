//! The console logs of machines: one directory a test, kept when the test fails.
//!
//! `cargo test` shows a test's output when all tests of its program have ended, half an hour later.
//! [`reported`] prints the reason of a failure at once, with the directory of the logs.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context as _, Result};

use crate::binaries;

/// Runs a test's body. It reports a failure on standard error at once, past the capture of `cargo test`, with
/// the directory of the machines' console logs; a success removes them.
///
/// # Errors
/// The body's.
pub fn reported(body: impl FnOnce() -> Result<()>) -> Result<()> {
    let dir = own_dir()?;
    // An earlier run of this test may have left them.
    let _ = fs::remove_dir_all(&dir);
    let result = body();
    match &result {
        Ok(()) => drop(fs::remove_dir_all(&dir)),
        Err(error) => {
            let text = format!(
                "\nFAILED {}: {error:?}\nconsole logs: {}\n",
                test_name(),
                dir.display()
            );
            // Standard error may be closed; the test fails all the same.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
    result
}

/// Returns the path of a log of this test; its directory is made.
pub(crate) fn file(name: &str) -> Result<PathBuf> {
    let dir = own_dir()?;
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir.join(name))
}

fn own_dir() -> Result<PathBuf> {
    let name = test_name().replace("::", "-");
    Ok(binaries::own_dir()?.join("machine-logs").join(name))
}

/// Returns the test's name: the test harness names each test's thread after it.
fn test_name() -> String {
    thread::current().name().unwrap_or("machines").to_owned()
}
