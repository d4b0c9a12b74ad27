//! `cargo xtask` for somebody who is not root: it says what it will ask sudo for before it does anything.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries;
use ka_tests::process::Program;
use ka_tests::scratch::Scratch;

use crate::kit::script;

/// Debian's `nobody`.
const NOBODY: &str = "65534";

/// The real xtask, as nobody, on a machine without a single package of the list; cargo and sudo only say that they run.
/// Returns everything that was said, in its order.
fn xtask(label: &str, words: &[&str]) -> Result<String> {
    let scratch = Scratch::new(label)?;
    let (dir, stubs) = (scratch.dir("debug")?, scratch.dir("stubs")?);
    let built = scratch.dir("static/x86_64-unknown-linux-gnu/lab")?;
    fs::write(built.join("ka-client"), "")?;
    fs::copy(binaries::path("xtask")?, dir.join("xtask"))?;
    // The static client is put beside the other programs.
    for dir in [&dir, &built] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777))?;
    }
    let log = scratch.path().join("log");
    fs::write(&log, "")?;
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666))?;
    let logged = |name: &str, what: &str| {
        script(
            &stubs.join(name),
            &format!("echo \"{what}\" >> {}", log.display()),
        )
    };
    logged("sudo", "SUDO $*")?;
    // Test programs are started by cargo through its runner.
    logged(
        "cargo",
        "CARGO\"; $CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER echo \"",
    )?;
    script(&stubs.join("dpkg-query"), "exit 1")?;
    script(&stubs.join("apt-get"), "exit 1")?;
    script(&stubs.join("rustc"), "echo 'host: x86_64-unknown-linux-gnu'")?;
    let path = std::env::var("PATH").context("PATH")?;
    Program::new("setpriv")
        .args([
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
            "env",
            "-u",
            binaries::DIR_VARIABLE,
        ])
        .arg(format!("PATH={}:{path}", stubs.display()))
        .arg(format!("CARGO={}", stubs.join("cargo").display()))
        .args(["sh", "-c", "log=$1; shift; exec \"$@\" >> \"$log\" 2>&1", "sh"])
        .args([&log, &dir.join("xtask")])
        .args(words)
        .finish()?;
    Ok(fs::read_to_string(log)?)
}

/// The announcement comes before anything runs, and names what is asked for.
fn announces(said: &str, reasons: &[&str]) -> Result<()> {
    let at = said
        .find("will ask sudo for:")
        .with_context(|| format!("not announced:\n{said}"))?;
    for step in ["SUDO ", "CARGO"] {
        ensure!(
            said.find(step).is_none_or(|step| step > at),
            "announced too late:\n{said}"
        );
    }
    ensure!(said.contains("SUDO "), "sudo was never asked:\n{said}");
    let announced = said[at..].split("\n\n").next().unwrap_or_default();
    for reason in reasons {
        ensure!(announced.contains(reason), "{reason:?} is not announced:\n{said}");
    }
    Ok(())
}

#[test]
fn setup_says_which_packages_it_will_install_as_root() -> Result<()> {
    announces(
        &xtask("sudo-setup", &["setup"])?,
        &["apt-get install", "debootstrap"],
    )
}

#[test]
fn tests_and_demo_say_what_they_need_root_for() -> Result<()> {
    announces(
        &xtask("sudo-test", &["test"])?,
        &["apt-get install", "test programs", "namespaces"],
    )?;
    let without = xtask("sudo-demo", &["demo", "--disks", "--no-setup"])?;
    announces(&without, &["demo", "namespaces", "debootstrap"])?;
    ensure!(
        !without.contains("apt-get"),
        "--no-setup installs nothing:\n{}",
        without
    );
    Ok(())
}
