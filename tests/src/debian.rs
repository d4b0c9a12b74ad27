//! A real golden system: Debian by debootstrap, made once and kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::Program;
use crate::scratch::Scratch;

/// The release cloned in the demo.
const SUITE: &str = "bookworm";
/// Where it comes from unless `KA_DEBIAN_MIRROR` says otherwise.
const MIRROR: &str = "http://deb.debian.org/debian";
/// Small packages that bring capabilities, set-id programs and hard links with them.
const PACKAGES: &str = "iputils-ping,perl,locales,openssh-server,xfsprogs,btrfs-progs";
/// A slow mirror is no reason to wait for ever.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(1800);

/// The archive of the system, made now when it is not there yet.
///
/// # Errors
/// debootstrap fails; the error repeats the end of what it said.
pub fn archive() -> Result<PathBuf> {
    let dir = cache_dir();
    let archive = dir.join(format!("debian-{SUITE}-1.tar"));
    if archive.is_file() {
        return Ok(archive);
    }
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let scratch = Scratch::new("debootstrap")?;
    let root = scratch.dir("root")?;
    let mirror = std::env::var("KA_DEBIAN_MIRROR").unwrap_or_else(|_| MIRROR.to_owned());
    Program::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE])
        .arg(&root)
        .arg(mirror)
        .limit(DOWNLOAD_LIMIT)
        .run()
        .context("making a golden Debian")?;
    let unfinished = archive.with_extension("part");
    Program::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "--exclude=./var/cache/apt/archives/*.deb",
            "-cf",
        ])
        .arg(&unfinished)
        .arg("-C")
        .arg(&root)
        .arg(".")
        .run()?;
    fs::rename(&unfinished, &archive)?;
    Ok(archive)
}

/// Unpacks the system onto a mounted disk.
///
/// # Errors
/// What `tar` says.
pub fn unpack(archive: &Path, root: &Path) -> Result<()> {
    Program::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "--numeric-owner",
            "-xpf",
        ])
        .arg(archive)
        .arg("-C")
        .arg(root)
        .run()
        .map(drop)
}

fn cache_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("KA_CACHE_DIR") {
        return PathBuf::from(dir);
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/var"), PathBuf::from);
    home.join(".cache/ka")
}
