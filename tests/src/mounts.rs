//! Mounts that undo themselves.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::interrupt;
use crate::process::Program;

/// How often an unmount that finds its file system busy is tried, a tenth of a second apart.
const TRIES: u32 = 30;

/// A mounted file system; unmounted on drop.
#[derive(Debug)]
pub struct Mounted {
    point: PathBuf,
}

impl Mounted {
    /// Mounts a device on a directory, which is made when it is not there.
    ///
    /// # Errors
    /// What `mount` says.
    pub fn new(device: &Path, point: &Path, options: &str) -> Result<Self> {
        std::fs::create_dir_all(point).with_context(|| format!("making {}", point.display()))?;
        let _whole = interrupt::shield();
        Program::new("mount")
            .args(["-o", options])
            .arg(device)
            .arg(point)
            .run()?;
        Ok(Self {
            point: point.to_owned(),
        })
    }

    /// An empty file system in memory that takes so many bytes and no more.
    ///
    /// # Errors
    /// What `mount` says.
    pub fn in_memory(point: &Path, size: u64) -> Result<Self> {
        std::fs::create_dir_all(point).with_context(|| format!("making {}", point.display()))?;
        let _whole = interrupt::shield();
        Program::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(point)
            .run()?;
        Ok(Self {
            point: point.to_owned(),
        })
    }

    /// Where it is mounted.
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
