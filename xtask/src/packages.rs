//! The Debian packages that the project needs, and their installation.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ka_tests::process::{Program, is_installed};

use crate::progress::Progress;
use crate::root;

/// List of packages, each with its purpose.
const LIST: &str = include_str!("../packages.txt");
/// Time limit of apt-get, which a slow mirror may need.
const APT_LIMIT: Duration = Duration::from_secs(1200);

/// Line of the list behind which come the packages that the demo does not need.
const REST: &str = "# Tests and bench, too";
/// Time between two looks at apt-get's output.
const LOOK: Duration = Duration::from_millis(200);

/// The commands that packages are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The demo alone.
    Demo,
    /// Demo, tests and bench.
    All,
}

/// A package of the list.
struct Package {
    name: &'static str,
    what_for: &'static str,
}

/// Runs `cargo xtask setup`.
pub(crate) fn setup() -> Result<()> {
    root::announce("setup", &Vec::from_iter(reason(Use::All)?))?;
    install_missing(Use::All).map(drop)
}

/// Returns the reason to ask sudo for packages; none when all are installed.
pub(crate) fn reason(used: Use) -> Result<Option<String>> {
    let names: Vec<&str> = missing(used)?.iter().map(|package| package.name).collect();
    Ok((!names.is_empty()).then(|| format!("apt-get install: {}", names.join(" "))))
}

/// Installs missing packages through apt-get, and prints their names. Returns false if none was missing.
pub(crate) fn install_missing(used: Use) -> Result<bool> {
    let missing = missing(used)?;
    if missing.is_empty() {
        return Ok(false);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if !is_installed("apt-get") {
        bail!("no apt-get here; install what Debian calls {}", names.join(" "));
    }
    println!("Installing Debian packages:");
    for Package { name, what_for } in &missing {
        println!("  {name:<16} {what_for}");
    }
    let progress = Progress::begin("apt-get install");
    let install = ["install", "--yes", "--no-install-recommends"];
    if apt_get(&progress, &[&install[..], &names].concat()).is_err() {
        // The package lists may be old or missing.
        apt_get(&progress, &["update"])?;
        apt_get(&progress, &[&install[..], &names].concat())?;
    }
    Ok(true)
}

fn apt_get(progress: &Progress, words: &[&str]) -> Result<()> {
    let mut running = root::command(&[&["apt-get"], words].concat())
        .env("DEBIAN_FRONTEND", "noninteractive")
        .limit(APT_LIMIT)
        .spawn()?;
    while running.still_runs()? {
        let said = running.said();
        progress.say(said.lines().last().unwrap_or("apt-get"));
        thread::sleep(LOOK);
    }
    running
        .wait()?
        .expect(0)
        .with_context(|| format!("apt-get {}", words.join(" ")))?;
    Ok(())
}

fn missing(used: Use) -> Result<Vec<Package>> {
    let mut missing = Vec::new();
    for package in packages(used) {
        let status = Program::new("dpkg-query")
            .args(["-W", "-f", "${Status}", package.name])
            .finish();
        // Without dpkg the packages are unknown. The tests then name what they lack.
        let Ok(status) = status else { return Ok(Vec::new()) };
        if !status.stdout.ends_with(" installed") {
            missing.push(package);
        }
    }
    Ok(missing)
}

fn packages(used: Use) -> impl Iterator<Item = Package> {
    let lines = LIST
        .lines()
        .take_while(move |line| used == Use::All || *line != REST);
    lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, what_for)| Package {
            name,
            what_for: what_for.trim(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_says_what_it_is_for() {
        let lines = LIST.lines().filter(|line| !line.starts_with('#')).count();
        let explained = packages(Use::All).filter(|package| !package.what_for.is_empty());
        assert_eq!(explained.count(), lines);
    }

    #[test]
    fn the_demo_needs_some_of_them_and_no_shell_or_packaging_tool() {
        let demo: Vec<&str> = packages(Use::Demo).map(|package| package.name).collect();
        assert!(demo.contains(&"qemu-system-x86") && demo.contains(&"debootstrap"));
        assert!(demo.len() < packages(Use::All).count() / 2, "{demo:?}");
        assert!(!demo.contains(&"fish") && !demo.contains(&"lintian"));
    }
}
