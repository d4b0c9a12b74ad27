//! The binaries under test: their places, and their build.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, ensure};

pub use crate::target_dir::{READY_VARIABLE as DIR_VARIABLE, own as own_dir};

use crate::process::Program;

/// Name of the client that needs nothing but a kernel.
pub const STATIC_CLIENT: &str = "ka-client-static";
/// Platform of static programs. cargo is always told it: else build scripts and macros would be made static, too, which breaks
/// them.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";
/// Flags that make a program static.
const STATIC_FLAGS: &str = "-C target-feature=+crt-static";
/// The packages that have binaries.
pub const PACKAGES: [&str; 8] = [
    "ka",
    "ka-server",
    "ka-client",
    "ka-desc",
    "ka-image",
    "ka-status",
    "ka-pxe",
    "ka-initrd",
];

/// Returns the path of one of our binaries: `ka-server`, `ka-client`, `ka-desc` or `ka-status`.
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

/// Returns the directory of the binaries. Without [`DIR_VARIABLE`] they are built first, once for each
/// process: a test must never judge yesterday's binary.
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

/// Builds all binaries into the target directory that holds `profile_dir` (`…/target/debug` or
/// `…/target/release`).
///
/// # Errors
/// cargo fails; it has printed the reason.
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
        // The selection is the same as for the tests: no dependency is compiled twice for other features.
        cargo.arg("--workspace");
    }
    cargo.current_dir(workspace()).stdin(Stdio::null());
    let status = cargo.status().context("running cargo build")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(())
}

/// Returns the client as it runs in a node's RAM, where there is no library: built once for each process,
/// like [`dir`].
///
/// # Errors
/// The build fails, or there are ready binaries without it.
pub fn static_client() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let path = dir().map(|dir| dir.join(STATIC_CLIENT));
        let made = path.and_then(|path| match std::env::var_os(DIR_VARIABLE) {
            Some(_) => Ok(path),
            None => own_dir().and_then(|dir| build_static(&dir, Build::Lab)),
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

/// The way in which the static client is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// For users.
    Release,
    /// For the lab: fast enough under emulation, and built sooner.
    Lab,
}

impl Build {
    /// Returns the name of cargo's profile, which is that of its directory, too.
    fn profile(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Lab => "lab",
        }
    }
}

/// Builds the static client and puts it beside the other binaries of `profile_dir`. The build is always
/// optimized, because the client runs under emulation in the tests.
///
/// # Errors
/// cargo fails; it has printed the reason.
pub fn build_static(profile_dir: &Path, build: Build) -> Result<PathBuf> {
    let target_dir = static_dir(profile_dir)?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--locked", "--quiet", "--profile", build.profile()])
        .args(["--package", "ka-client", "--bin", "ka-client"])
        .args(["--target", STATIC_TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTFLAGS", STATIC_FLAGS)
        .current_dir(workspace())
        .stdin(Stdio::null());
    let status = cargo.status().context("running cargo build")?;
    ensure!(status.success(), "cargo build of the static client: {status}");
    put_static_client(&built_static(&target_dir, build).join("ka-client"), profile_dir)
}

/// Returns the target directory of static programs, beside `profile_dir`.
///
/// # Errors
/// `profile_dir` is no directory of a profile.
pub fn static_dir(profile_dir: &Path) -> Result<PathBuf> {
    let target = profile_dir.parent().context("a target directory has a parent")?;
    Ok(target.join("static"))
}

fn built_static(target_dir: &Path, build: Build) -> PathBuf {
    target_dir.join(STATIC_TARGET).join(build.profile())
}

fn put_static_client(built: &Path, dir: &Path) -> Result<PathBuf> {
    let path = dir.join(STATIC_CLIENT);
    // A rename is safe if another test's server is reading the old file.
    let unfinished = dir.join(format!("{STATIC_CLIENT}.{}", std::process::id()));
    std::fs::copy(built, &unfinished).with_context(|| format!("copying {}", built.display()))?;
    std::fs::rename(&unfinished, &path)?;
    Ok(path)
}

/// Returns the build of the two programs that a demo needs, into this target directory ([`static_dir`]). Its output
/// contains cargo's progress bar. Call [`finish_demo_build`] when it has ended. Both programs are static: the client
/// must be, and so the crates of both are built once.
#[must_use]
pub fn demo_build(target_dir: &Path) -> Program {
    Program::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--locked", "--profile", Build::Lab.profile()])
        .args(["--package", "ka-server", "--bin", "ka-server"])
        .args(["--package", "ka-client", "--bin", "ka-client"])
        .args(["--target", STATIC_TARGET, "--manifest-path"])
        .arg(workspace().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target_dir)
        .env("RUSTFLAGS", STATIC_FLAGS)
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "160")
}

/// Puts the static client of a [`demo_build`] where [`static_client`] finds it, and returns the directory of both programs.
///
/// # Errors
/// The build has not made them.
pub fn finish_demo_build(target_dir: &Path) -> Result<PathBuf> {
    let dir = built_static(target_dir, Build::Lab);
    put_static_client(&dir.join("ka-client"), &dir)?;
    Ok(dir)
}

/// Returns the workspace's directory, as it was when this was compiled.
#[must_use]
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Returns the directory for programs with cargo's usual profile, in the target directory of this program. xtask itself has
/// a profile of its own.
///
/// # Errors
/// The program was moved out of it.
pub fn debug_dir() -> Result<PathBuf> {
    Ok(own_dir()?.with_file_name("debug"))
}
