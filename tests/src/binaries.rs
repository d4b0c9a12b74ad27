//! Where the binaries under test are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, ensure};

/// Names a directory with ready binaries, so that nothing is built: set by `cargo xtask`.
pub const DIR_VARIABLE: &str = "KA_BIN_DIR";
/// The client that needs nothing but a kernel.
pub const STATIC_CLIENT: &str = "ka-client-static";
/// The packages that have binaries.
pub const PACKAGES: [&str; 6] = [
    "ka-server",
    "ka-client",
    "ka-disk",
    "ka-status",
    "ka-pxe",
    "ka-initrd",
];

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

/// The client as it runs in a node's RAM, where there is no library: built once for each process, as [`dir`] says.
///
/// # Errors
/// The build fails, or there are ready binaries without it.
pub fn static_client() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let path = dir().map(|dir| dir.join(STATIC_CLIENT));
        let made = path.and_then(|path| match std::env::var_os(DIR_VARIABLE) {
            Some(_) => Ok(path),
            None => own_dir().and_then(|dir| build_static(&dir)),
        });
        made.map_err(|err| format!("{err:#}"))
    });
    let path = built.clone().map_err(|text| anyhow!(text))?;
    ensure!(
        path.is_file(),
        "{} is not built; run `cargo xtask static` first",
        path.display()
    );
    Ok(path)
}

/// Builds the static client and puts it beside the other binaries of `profile_dir`. Always optimized: it works under
/// emulation in the tests.
///
/// # Errors
/// cargo fails; it has said why.
pub fn build_static(profile_dir: &Path) -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let target_dir = profile_dir
        .parent()
        .context("a target directory has a parent")?
        .join("static");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--locked",
            "--quiet",
            "--release",
            "--package",
            "ka-client",
            "--bin",
            "ka-client",
        ])
        // Always with --target: without it build scripts and macros would be made static, too, which breaks them.
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .current_dir(workspace())
        .stdin(Stdio::null());
    let status = cargo.status().context("running cargo build")?;
    ensure!(status.success(), "cargo build of the static client: {status}");
    let built = target_dir.join(TARGET).join("release/ka-client");
    let path = profile_dir.join(STATIC_CLIENT);
    // Renamed, because another test's server may be reading the old one.
    let unfinished = profile_dir.join(format!("{STATIC_CLIENT}.{}", std::process::id()));
    std::fs::copy(&built, &unfinished).with_context(|| format!("copying {}", built.display()))?;
    std::fs::rename(&unfinished, &path)?;
    Ok(path)
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
