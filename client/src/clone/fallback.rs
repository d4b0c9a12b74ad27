//! The fallback path of the EFI system partition (`EFI/BOOT`). It is kept in memory while a table leads there
//! and the clone is not finished. Firmware starts a program at that path on any FAT, whatever the partition's
//! type is (UEFI 2.10 section 3.5.1.1, EDK II). A machine that loses power meanwhile would boot a clone that
//! was not judged.
//!
//! The clone's own programs see the directory as ever: a small file system in memory lies over it.

use std::fs::{self, File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ka_distro::efi;
use ka_host::mount::MountGuard;

/// A loader with its drivers and icons has 10 MB there.
const OPTIONS: &str = "nosuid,nodev,mode=0755,size=128M";

/// The directory while it is hidden. Dropped without [`Self::put_back`] it is lost, as is the clone then.
#[derive(Debug)]
pub(crate) struct HiddenFallback {
    dir: PathBuf,
    memory: MountGuard,
}

impl HiddenFallback {
    /// Takes what lies at the fallback path of the partition that is mounted at `esp` off the disk and shows
    /// it from memory.
    ///
    /// # Errors
    /// Reading, removing or mounting failed.
    pub(crate) fn hide(esp: &Path) -> Result<Self> {
        let doing = || format!("hiding the fallback path in {}", esp.display());
        let efi = child(esp, "EFI").with_context(doing)?;
        let dir = child(&efi, efi::FALLBACK_DIR).with_context(doing)?;
        let kept = read(&dir).with_context(doing)?;
        for entry in fs::read_dir(&dir).with_context(doing)? {
            let path = entry.with_context(doing)?.path();
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.with_context(doing)?;
        }
        let memory = MountGuard::mount(Path::new("tmpfs"), &dir, "tmpfs", OPTIONS)?;
        write(&kept, &dir).with_context(doing)?;
        Ok(Self { dir, memory })
    }

    /// Puts the present files onto the disk. Must be called when no table leads there any more.
    ///
    /// # Errors
    /// Reading, unmounting or writing failed.
    pub(crate) fn put_back(self) -> Result<()> {
        let doing = || format!("writing {}", self.dir.display());
        let kept = read(&self.dir).with_context(doing)?;
        self.memory.unmount()?;
        if kept.is_empty() {
            return fs::remove_dir(&self.dir).with_context(doing);
        }
        write(&kept, &self.dir).with_context(doing)
    }
}

/// A file or directory of FAT: it has no more than this.
enum SavedEntry {
    File {
        name: PathBuf,
        bytes: Vec<u8>,
        times: FileTimes,
    },
    Dir {
        name: PathBuf,
        inside: Vec<Self>,
    },
}

fn read(dir: &Path) -> io::Result<Vec<SavedEntry>> {
    let entries = fs::read_dir(dir)?.map(|entry| {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        let meta = entry.metadata()?;
        if meta.is_dir() {
            let inside = read(&entry.path())?;
            return Ok(SavedEntry::Dir { name, inside });
        }
        let times = FileTimes::new()
            .set_accessed(meta.accessed()?)
            .set_modified(meta.modified()?);
        let bytes = fs::read(entry.path())?;
        Ok(SavedEntry::File { name, bytes, times })
    });
    entries.collect()
}

fn write(kept: &[SavedEntry], dir: &Path) -> io::Result<()> {
    for entry in kept {
        match entry {
            SavedEntry::Dir { name, inside } => {
                let path = dir.join(name);
                fs::create_dir(&path)?;
                write(inside, &path)?;
            }
            SavedEntry::File { name, bytes, times } => {
                let path = dir.join(name);
                fs::write(&path, bytes)?;
                File::options().write(true).open(&path)?.set_times(*times)?;
            }
        }
    }
    Ok(())
}

/// Returns the directory of this name in whatever case, made where there is none.
fn child(dir: &Path, name: &str) -> io::Result<PathBuf> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().eq_ignore_ascii_case(name) {
            return Ok(entry.path());
        }
    }
    let path = dir.join(name);
    fs::create_dir(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("efi/Boot/drivers_x64")).unwrap();
        let dir = child(&child(from.path(), "EFI").unwrap(), "BOOT").unwrap();
        assert_eq!(dir, from.path().join("efi/Boot"), "FAT has no case");
        fs::write(dir.join("BOOTX64.EFI"), "MZ").unwrap();
        fs::write(dir.join("drivers_x64/ext4.efi"), "driver").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let file = File::options().write(true).open(dir.join("BOOTX64.EFI")).unwrap();
        file.set_times(FileTimes::new().set_modified(old)).unwrap();
        write(&read(&dir).unwrap(), to.path()).unwrap();
        assert_eq!(
            fs::read(to.path().join("drivers_x64/ext4.efi")).unwrap(),
            b"driver"
        );
        let copied = fs::metadata(to.path().join("BOOTX64.EFI")).unwrap();
        assert_eq!((copied.len(), copied.modified().unwrap()), (2, old));
    }
}
