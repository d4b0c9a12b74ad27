//! `cargo xtask test`, `cargo xtask static` and `cargo xtask ci`.

use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use ka_tests::process::is_installed;
use ka_tests::{binaries, descendants, interrupt, scratch};

use crate::cli::TestOptions;
use crate::{packages, root};

/// Between two looks at cargo.
const LOOK: Duration = Duration::from_millis(100);

/// Builds the binaries, then runs every test as root, cargo itself as whoever calls.
pub(crate) fn run(options: &TestOptions) -> Result<()> {
    interrupt::catch()?;
    packages::install_missing()?;
    let bin_dir = binaries::own_dir()?;
    binaries::build(&bin_dir, false)?;
    binaries::build_static(&bin_dir)?;
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
    if root::is_root() {
        scratch::sweep();
    } else {
        let runner = sudo_runner(&bin_dir.display().to_string())?;
        cargo.env(runner.0, runner.1);
    }
    let status = to_the_end(cargo.args(&options.rest))?;
    ensure!(status.success(), "some tests failed: see above");
    Ok(())
}

/// Runs cargo; whoever interrupts it (Ctrl-C, `kill`, a closed terminal) interrupts everything that it and the tests have
/// started, and what their guards could not undo is undone here.
fn to_the_end(cargo: &mut Command) -> Result<ExitStatus> {
    descendants::keep()?;
    let spawn = || {
        interrupt::unblock_in_this_thread();
        cargo.spawn()
    };
    let spawned = thread::scope(|scope| scope.spawn(spawn).join());
    let mut child = spawned
        .map_err(|_| anyhow!("the thread that starts cargo has died"))?
        .context("running cargo test")?;
    loop {
        if let Some(status) = child.try_wait().context("waiting for cargo test")?
            && interrupt::check().is_ok()
        {
            return Ok(status);
        }
        if let Err(interrupted) = interrupt::check() {
            descendants::end_all()?;
            if root::is_root() {
                scratch::sweep();
            }
            return Err(interrupted);
        }
        thread::sleep(LOOK);
    }
}

/// Builds the static client and says where it is.
pub(crate) fn build_static() -> Result<()> {
    let path = binaries::build_static(&binaries::own_dir()?)?;
    println!("{}", path.display());
    Ok(())
}

/// Runs `.ci/run`.
pub(crate) fn ci() -> Result<()> {
    let script = binaries::workspace().join(".ci/run");
    let status = Command::new(&script)
        .status()
        .with_context(|| format!("running {}", script.display()))?;
    ensure!(status.success(), "{}: {status}", script.display());
    Ok(())
}

/// Lets cargo start test programs, and nothing else, through sudo (`target.<triple>.runner` of cargo's configuration).
fn sudo_runner(bin_dir: &str) -> Result<(String, String)> {
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
            "sudo env PATH={} {}={bin_dir}",
            std::env::var("PATH")?,
            binaries::DIR_VARIABLE
        ),
    ))
}
