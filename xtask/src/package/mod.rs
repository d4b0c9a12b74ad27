//! `cargo xtask package`: a Debian package and an RPM with everything that a user of KA installs.
//!
//! The same commit and the same programs give the same bytes: every file has the commit's time, files are listed in a
//! fixed order, and nothing of this machine's names or paths gets in.

mod documents;
mod licences;
mod needs;
mod nfpm;
mod programs;
mod sbom;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries;
use ka_tests::process::Program;

use crate::cli::PackageOptions;
use nfpm::Format;
use programs::Programs;

/// The processor that the packages are for: the static client is built for it alone.
const MACHINE: &str = "x86_64";

/// The facts that stand in each package.
#[derive(Debug)]
struct Release {
    /// The version of the workspace, `0.1.0`.
    version: String,
    /// The package's own number, from 1, for several packages of one version.
    revision: u32,
    /// The time of the commit, in seconds since 1970: the only time that gets into a package.
    epoch: u64,
    /// Compressed by gzip instead of xz.
    quick: bool,
    /// The name and address of whoever answers for the packages.
    maintainer: String,
}

/// Makes the packages and prints their paths, one a line.
///
/// # Errors
/// A program cannot be built, a licence text is missing, or nfpm refuses.
pub(crate) fn run(options: &PackageOptions) -> Result<()> {
    ensure!(
        std::env::consts::ARCH == MACHINE,
        "packages are made for {MACHINE} only, and this machine is {}",
        std::env::consts::ARCH
    );
    let out = std::path::absolute(&options.out).context("--out")?;
    let release = Release {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: options.revision,
        quick: options.quick,
        epoch: epoch()?,
        maintainer: options.maintainer.clone(),
    };
    let work = out.join("work");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let programs = match &options.programs {
        Some(dir) => Programs::taken(dir, &work)?,
        None => Programs::built(&work)?,
    };
    let linked = licences::linked_crates()?;
    for format in [Format::Deb, Format::Rpm] {
        let files = tree::files(format, &release, &programs, &linked, &work)?;
        let package = nfpm::pack(format, &release, &files, &programs, &linked, &out)?;
        println!("{}", package.display());
    }
    fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))
}

/// `SOURCE_DATE_EPOCH` where it is set (reproducible-builds.org), else the time of the commit.
fn epoch() -> Result<u64> {
    const VARIABLE: &str = "SOURCE_DATE_EPOCH";
    if let Ok(text) = std::env::var(VARIABLE) {
        return text
            .parse()
            .with_context(|| format!("{VARIABLE}={text}: give seconds since 1970"));
    }
    let said = Program::new("git")
        .args(["-c", "safe.directory=*", "-C"])
        .arg(binaries::workspace())
        .args(["log", "-1", "--format=%ct"])
        .run()
        .with_context(|| format!("reading the commit's time; outside a git tree, set {VARIABLE}"))?;
    said.trim().parse().context("git's time of the commit")
}

/// A time in the words of `date`, in UTC.
fn date(epoch: u64, format: &str) -> Result<String> {
    let said = Program::new("date")
        .args(["--utc", &format!("--date=@{epoch}"), format])
        .run()?;
    Ok(said.trim().to_owned())
}

/// Writes a file of the package, and returns its path.
fn write(work: &Path, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
    let path = work.join(name);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Compresses a file as Debian's policy wants it, without name and time, and returns the path of `NAME.gz`.
fn gzip(path: &Path) -> Result<PathBuf> {
    Program::new("gzip").args(["-9nf"]).arg(path).run()?;
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    Ok(PathBuf::from(name))
}
