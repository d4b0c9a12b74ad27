//! The Debian packages the project needs, and installing those that are missing.

use anyhow::{Result, bail};
use ka_tests::process::{Program, is_installed};
use std::time::Duration;

use crate::root;

/// The list, with what each is for.
const LIST: &str = include_str!("../packages.txt");
/// A slow mirror is no reason to wait for ever.
const APT_LIMIT: Duration = Duration::from_secs(1200);

/// Installs what is missing through apt-get, and says so.
pub(crate) fn install_missing() -> Result<()> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    if !is_installed("apt-get") {
        bail!("no apt-get here; install what Debian calls {}", names.join(" "));
    }
    println!("Installing Debian packages:");
    for (name, what_for) in &missing {
        println!("  {name:<16} {what_for}");
    }
    let install = ["apt-get", "install", "--yes", "--no-install-recommends"];
    let apt = |words: &[&str]| {
        root::command(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .limit(APT_LIMIT)
            .run()
    };
    if apt(&[&install[..], &names].concat()).is_err() {
        // Lists that are old or were never fetched.
        apt(&["apt-get", "update"])?;
        apt(&[&install[..], &names].concat())?;
    }
    Ok(())
}

fn missing() -> Result<Vec<(&'static str, &'static str)>> {
    let mut missing = Vec::new();
    for (name, what_for) in entries() {
        let status = Program::new("dpkg-query")
            .args(["-W", "-f", "${Status}", name])
            .finish();
        // Without dpkg nothing can be said: let the tests name what they lack.
        let Ok(status) = status else { return Ok(Vec::new()) };
        if !status.stdout.ends_with(" installed") {
            missing.push((name, what_for));
        }
    }
    Ok(missing)
}

fn entries() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = LIST.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(' '))
        .map(|(name, what_for)| (name, what_for.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_says_what_it_is_for() {
        let lines = LIST.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(
            entries().filter(|(_, what_for)| !what_for.is_empty()).count(),
            lines
        );
    }
}
