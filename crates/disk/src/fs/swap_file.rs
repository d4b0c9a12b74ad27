//! Swap files of the golden node. The clone gets new ones, because their contents are of no use there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ka_host::run::{RunError, Tool};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::spec::SwapFileSpec;

const MKSWAP_LIMIT: Duration = Duration::from_secs(60);
const ZERO_CHUNK_BYTES: usize = 1 << 20;

/// An error while a swap file was made.
#[derive(Debug, thiserror::Error)]
pub enum SwapFileError {
    /// A file operation failed.
    #[error("making the swap file {}: {source}", path.display())]
    Io {
        /// Path of the swap file in the mounted clone.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// mkswap failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Makes a swap file below `root`, a mounted clone, and replaces any file of that name.
///
/// # Errors
/// [`SwapFileError`].
pub fn make_swap_file(root: &Path, spec: &SwapFileSpec) -> Result<(), SwapFileError> {
    let path = root.join(spec.path.trim_start_matches('/'));
    let failed = |source| SwapFileError::Io {
        path: path.clone(),
        source,
    };
    fill(&path, spec).map_err(failed)?;
    let tool = Tool::new("mkswap").describe(format!("making the swap file {}", path.display()));
    tool.args(["-f"]).arg(&path).timeout(MKSWAP_LIMIT).run()?;
    Ok(())
}

fn fill(path: &Path, spec: &SwapFileSpec) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    // swapon refuses a copy-on-write file on btrfs, and the flag must be set while the file is empty. Other
    // file systems do not know the flag and do not need it.
    if let Ok(flags) = ioctl_getflags(file.as_fd()) {
        let _ = ioctl_setflags(file.as_fd(), flags | IFlags::NOCOW);
    }
    // swapon refuses holes. fallocate leaves none that swapon sees, but not every file system supports it.
    if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, spec.size_bytes).is_err() {
        write_zeros(&file, spec.size_bytes)?;
    }
    file.set_permissions(fs::Permissions::from_mode(spec.mode))?;
    file.sync_all()
}

fn write_zeros(mut file: &File, len_bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_CHUNK_BYTES];
    let mut left = len_bytes;
    while left > 0 {
        let chunk = usize::try_from(left).unwrap_or(usize::MAX).min(ZERO_CHUNK_BYTES);
        io::Write::write_all(&mut file, &zeros[..chunk])?;
        left -= chunk as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_file_has_its_size_mode_and_signature() {
        let dir = tempfile::tempdir().unwrap();
        let spec = SwapFileSpec {
            path: "/var/swap".to_owned(),
            size_bytes: 3 << 20,
            mode: 0o600,
        };
        make_swap_file(dir.path(), &spec).unwrap();
        let path = dir.path().join("var/swap");
        let meta = path.metadata().unwrap();
        assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (3 << 20, 0o600));
        let bytes = fs::read(&path).unwrap();
        assert_eq!(&bytes[4086..4096], b"SWAPSPACE2");
    }
}
