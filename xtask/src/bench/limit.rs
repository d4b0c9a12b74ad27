//! The chain that only checks and forwards, as a program: an example of `ka-transport`, built like KA itself.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries;

/// Name of the example.
const NAME: &str = "limit";

/// Returns the program beside the binaries of `release`. With ready binaries it may be missing: then its rows are left
/// out.
pub(crate) fn program(release: &Path) -> PathBuf {
    release.join("examples").join(NAME)
}

/// Builds it into the target directory that holds `release`.
pub(crate) fn build(release: &Path) -> Result<()> {
    let target = release.parent().context("a target directory has a parent")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args([
            "build",
            "--locked",
            "--quiet",
            "--release",
            "--package",
            "ka-transport",
            "--example",
            NAME,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(binaries::workspace())
        .status()
        .context("running cargo build")?;
    ensure!(status.success(), "cargo build --example {NAME}: {status}");
    Ok(())
}
