//! Mounts that undo themselves.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::interrupt;
use crate::process::Program;

/// Attempts to unmount a busy file system, a tenth of a second apart.
const TRIES: u32 = 30;

/// A mounted file system; unmounted on drop.
#[derive(Debug)]
pub struct Mounted {
    point: PathBuf,
}

impl Mounted {
    /// Mounts a device on a directory, which is made if it is not there.
    ///
    /// # Errors
    /// `mount` fails.
    pub fn new(device: &Path, point: &Path, options: &str) -> Result<Self> {
        Self::of_type("auto", device, point, options)
    }

    /// Mounts a file system of this type: one without a device, such as `tmpfs`, needs it.
    ///
    /// # Errors
    /// `mount` fails.
    pub fn of_type(kind: &str, source: &Path, point: &Path, options: &str) -> Result<Self> {
        std::fs::create_dir_all(point).with_context(|| format!("making {}", point.display()))?;
        let _whole = interrupt::shield();
        Program::new("mount")
            .args(["-t", kind, "-o", options])
            .arg(source)
            .arg(point)
            .run()?;
        Ok(Self {
            point: point.to_owned(),
        })
    }

    /// Mounts an empty file system in memory that holds at most `size` bytes.
    ///
    /// # Errors
    /// `mount` fails.
    pub fn in_memory(point: &Path, size: u64) -> Result<Self> {
        Self::of_type("tmpfs", Path::new("none"), point, &format!("size={size}"))
    }

    /// Returns the mount point.
    #[must_use]
    pub fn point(&self) -> &Path {
        &self.point
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _whole = interrupt::shield();
        for _ in 0..TRIES {
            if Program::new("umount").arg(&self.point).run().is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        eprintln!("lab: {} stays mounted", self.point.display());
    }
}
