//! Where the binaries under test are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, ensure};

/// Names a directory with ready binaries, so that nothing is built: set by `cargo xtask`.
pub const DIR_VARIABLE: &str = "KA_BIN_DIR";
/// The packages that have binaries.
pub const PACKAGES: [&str; 4] = ["ka-server", "ka-client", "ka-disk", "ka-status"];

/// The path of one of our binaries: `ka-server`, `ka-client`, `ka-desc` or `ka-status`.
///
/// # Errors
/// It is not there and cannot be built.
pub fn path(name: &str) -> Result<PathBuf> {
    let path = dir()?.join(name);
    ensure!(
        path.is_file(),
        "{} is not built; run `cargo build --workspace` first",
        path.display()
    );
    Ok(path)
}

/// The directory of the binaries. Without [`DIR_VARIABLE`] they are built first, once for each process: a test must
/// never judge yesterday's binary.
///
/// # Errors
/// The build fails.
pub fn dir() -> Result<PathBuf> {
    static DIR: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = DIR.get_or_init(|| match std::env::var_os(DIR_VARIABLE) {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => own_dir()
            .and_then(|dir| build(&dir, false).map(|()| dir))
            .map_err(|err| format!("{err:#}")),
    });
    found.clone().map_err(|text| anyhow!(text))
}

/// Builds all binaries into the target directory that holds `profile_dir` (`…/target/debug` or `…/target/release`).
///
/// # Errors
/// cargo fails; it has said why.
pub fn build(profile_dir: &Path, release: bool) -> Result<()> {
    let target = profile_dir.parent().context("a target directory has a parent")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--locked", "--bins", "--quiet"])
        .arg("--target-dir")
        .arg(target);
    if release {
        cargo.arg("--release");
        for package in PACKAGES {
            cargo.args(["--package", package]);
        }
    } else {
        // The same selection as that of the tests: no dependency is compiled twice for other features.
        cargo.arg("--workspace");
    }
    cargo.current_dir(workspace()).stdin(Stdio::null());
    let status = cargo.status().context("running cargo build")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(())
}

/// The workspace's directory, as it was when this was compiled.
#[must_use]
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The `debug` or `release` directory this very program was built into.
///
/// # Errors
/// The program was moved out of it.
pub fn own_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("finding this program")?;
    let dir = exe.parent().context("a program lies in a directory")?;
    // Tests lie in target/debug/deps.
    let dir = if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    };
    Ok(dir.to_owned())
}
