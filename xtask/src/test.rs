//! `cargo xtask test`, `cargo xtask static` and `cargo xtask ci`.

use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use ka_tests::process::is_installed;
use ka_tests::{binaries, scratch};

use crate::cli::TestOptions;
use crate::{packages, root};

/// Environment variable of Rust's test harness: the number of tests at once.
const THREADS_VARIABLE: &str = "RUST_TEST_THREADS";

/// Builds the binaries, then runs every test as root. cargo itself runs as the calling user.
pub(crate) fn run(options: &TestOptions) -> Result<()> {
    let mut reasons = Vec::from_iter(packages::reason(packages::Use::All)?);
    reasons.push("the test programs, once they are built (cargo itself is not run as root): namespaces, loop disks, mounts".to_owned());
    root::announce("test", &reasons)?;
    packages::install_missing(packages::Use::All)?;
    let bin_dir = binaries::debug_dir()?;
    binaries::build(&bin_dir, false)?;
    binaries::build_static(&bin_dir, binaries::Build::Lab)?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .arg("test")
        .current_dir(binaries::workspace())
        .env(binaries::DIR_VARIABLE, &bin_dir);
    if !options
        .rest
        .iter()
        .any(|arg| arg == "-p" || arg.starts_with("--package"))
    {
        cargo.arg("--workspace");
    }
    if options.locked {
        cargo.arg("--locked");
    }
    let threads = threads();
    cargo.env(THREADS_VARIABLE, &threads);
    if root::is_root() {
        scratch::sweep();
    } else {
        let runner = sudo_runner(&bin_dir.display().to_string(), &threads)?;
        cargo.env(runner.0, runner.1);
    }
    let status = cargo.args(&options.rest).status().context("running cargo test")?;
    ensure!(status.success(), "some tests failed: see above");
    Ok(())
}

/// Number of tests at once: the caller's, else one more than there are processors. Most tests wait most of
/// the time, for timers, disks and shaped lines. Machines have a limit of their own (`qemu::seats`).
fn threads() -> String {
    std::env::var(THREADS_VARIABLE).unwrap_or_else(|_| {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        (processors + 1).to_string()
    })
}

/// Builds the static client and prints its path.
pub(crate) fn build_static() -> Result<()> {
    let path = binaries::build_static(&binaries::debug_dir()?, binaries::Build::Release)?;
    println!("{}", path.display());
    Ok(())
}

/// Runs `.ci/run`, the project's CI.
pub(crate) fn ci() -> Result<()> {
    let script = binaries::workspace().join(".ci/run");
    let status = Command::new(&script)
        .status()
        .with_context(|| format!("running {}", script.display()))?;
    ensure!(status.success(), "{}: {status}", script.display());
    Ok(())
}

/// Environment variable that makes cargo start test programs, and nothing else, through sudo
/// (`target.<triple>.runner` of cargo's configuration).
fn sudo_runner(bin_dir: &str, threads: &str) -> Result<(String, String)> {
    if !is_installed("sudo") {
        bail!(
            "the tests need root (namespaces, loop disks, mounts) and there is no sudo here: run them as root"
        );
    }
    let said = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("running rustc")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let triple = said
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc -vV names no host")?;
    let name = format!("CARGO_TARGET_{}_RUNNER", triple.to_uppercase().replace('-', "_"));
    Ok((
        name,
        format!(
            "sudo env PATH={} {}={bin_dir} {THREADS_VARIABLE}={threads}",
            std::env::var("PATH")?,
            binaries::DIR_VARIABLE
        ),
    ))
}
