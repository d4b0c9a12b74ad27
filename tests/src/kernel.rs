//! Whole kernels with all their drivers, and small golden roots with a few: the sources of boot images.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::debian;
use crate::process::Program;
use crate::scratch::Scratch;

/// Debian's generic kernel: this package depends on the newest.
const PACKAGE: &str = "linux-image-amd64";
/// Time limit of a download from a slow mirror.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(1200);

/// Returns a root with nothing but Debian's generic kernel: image, configuration and every module, as its
/// package has them. It is made once and kept; no test may write into it.
///
/// # Errors
/// It cannot be fetched or unpacked.
pub fn generic() -> Result<PathBuf> {
    let dir = debian::cache_dir().join("linux-generic-1");
    fs::create_dir_all(debian::cache_dir())?;
    // One test makes it, the others wait: tests of one process and of several.
    let lock = fs::File::create(dir.with_extension("lock"))?;
    flock(&lock, FlockOperation::LockExclusive).context("waiting for the kernel to be fetched")?;
    if !dir.is_dir() {
        fetch(&dir)?;
    }
    Ok(dir)
}

fn fetch(dir: &Path) -> Result<()> {
    let scratch = Scratch::new("kernel")?;
    let depends = Program::new("apt-cache").args(["depends", PACKAGE]).run()?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .with_context(|| format!("apt knows no {PACKAGE}; run apt-get update"))?;
    Program::new("sh")
        .args(["-c", "cd \"$0\" && apt-get download \"linux-image-$1\""])
        .arg(scratch.path())
        .arg(package)
        .limit(DOWNLOAD_LIMIT)
        .run()
        .context("fetching Debian's generic kernel")?;
    let file = fs::read_dir(scratch.path())?
        .next()
        .context("apt-get fetched nothing")??;
    // It is built beside its place, so that it can be renamed into it.
    let unfinished = dir.with_extension("part");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    Program::new("dpkg-deb")
        .arg("-x")
        .arg(file.path())
        .arg(&unfinished)
        .run()?;
    depmod(&unfinished)?;
    fs::rename(&unfinished, dir)?;
    Ok(())
}

/// Writes `modules.dep` and its kin for the one kernel of a root.
///
/// # Errors
/// There is not exactly one kernel, or depmod fails.
pub fn depmod(root: &Path) -> Result<()> {
    Program::new("depmod")
        .arg("-b")
        .arg(root)
        .arg(release(root)?)
        .run()
        .map(drop)
}

/// Returns the release of the one kernel of a root.
///
/// # Errors
/// There is not exactly one kernel.
pub fn release(root: &Path) -> Result<String> {
    let mut names = fs::read_dir(root.join("lib/modules"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        names.len() == 1,
        "{} should hold one kernel's modules",
        root.display()
    );
    Ok(names.remove(0))
}

/// Makes a root with Debian's generic kernel and only some of its modules (paths below `kernel`, without
/// `.ko`).
///
/// # Errors
/// There is no such module.
pub fn small(root: &Path, modules: &[&str]) -> Result<()> {
    let generic = generic()?;
    let release = release(&generic)?;
    let (from, to) = (generic.join("lib/modules"), root.join("lib/modules"));
    let copy = |path: String| -> Result<()> {
        let to = to.join(&release).join(&path);
        fs::create_dir_all(to.parent().context("a file lies in a directory")?)?;
        fs::copy(from.join(&release).join(&path), to).with_context(|| format!("copying {path}"))?;
        Ok(())
    };
    fs::create_dir_all(root.join("boot"))?;
    for name in ["vmlinuz", "config"] {
        let name = format!("{name}-{release}");
        fs::copy(generic.join("boot").join(&name), root.join("boot").join(&name))?;
    }
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        copy(name.to_owned())?;
    }
    for module in modules {
        copy(format!("kernel/{module}.ko"))?;
    }
    depmod(root)
}
