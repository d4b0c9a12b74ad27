//! The directory that cargo builds programs into.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Name of the variable with a directory of ready binaries, so that nothing is built: set by `cargo xtask`.
pub const READY_VARIABLE: &str = "KA_BIN_DIR";

/// Returns the `debug` or `release` directory that this program was built into.
///
/// # Errors
/// The program was moved out of it.
pub fn own() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("finding this program")?;
    let dir = exe.parent().context("a program lies in a directory")?;
    // The executables of tests are in target/debug/deps.
    let dir = if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    };
    Ok(dir.to_owned())
}
