//! Loop devices over files (loop(4)): the disks of tests and of `cargo xtask demo`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use crate::{HostError, blkpg};

/// Another process may take the free number between the two calls: try that often.
const ATTACH_TRIES: u32 = 64;
const DETACH_TRIES: u32 = 20;
/// Without this flag the kernel refuses BLKPG on a loop device (`GENHD_FL_NO_PART`).
const LO_FLAGS_PARTSCAN: u32 = 8;
const LO_FLAGS_READ_ONLY: u32 = 1;

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of `linux/loop.h`, Linux 5.8.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

mod ioctl {
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, super::LoopConfig);
    nix::ioctl_none_bad!(loop_clr_fd, 0x4C01);
}

/// How a file is attached.
#[derive(Debug, Clone, Copy)]
pub struct LoopOptions {
    /// Logical sector size in bytes: 512 to 4096.
    pub sector_size: u32,
    /// Writes are refused.
    pub read_only: bool,
}

impl Default for LoopOptions {
    fn default() -> Self {
        Self {
            sector_size: 512,
            read_only: false,
        }
    }
}

/// An attached loop device; detached when dropped.
#[derive(Debug)]
#[must_use = "dropping it detaches the device"]
pub struct LoopDevice {
    path: PathBuf,
    device: File,
    attached: bool,
    /// For [`LoopDevice::scratch`]: the file under it, which has no name any more.
    _backing: File,
}

impl LoopDevice {
    /// Attaches `file` to a free loop device.
    ///
    /// # Errors
    /// [`HostError`] naming the file.
    pub fn attach(file: &Path, options: LoopOptions) -> Result<Self, HostError> {
        let what = || format!("attaching {} to a loop device", file.display());
        let backing = OpenOptions::new()
            .read(true)
            .write(!options.read_only)
            .open(file)
            .map_err(|source| HostError::new(what(), source))?;
        Self::attach_open(backing, options).map_err(|source| HostError::new(what(), source))
    }

    /// A sparse disk of its own in `$TMPDIR`, without a name, for tests.
    ///
    /// # Errors
    /// [`HostError`] when there is no room or no loop device.
    pub fn scratch(len_bytes: u64, sector_size: u32) -> Result<Self, HostError> {
        let what = || format!("making a scratch disk of {len_bytes} bytes");
        let make = || -> io::Result<Self> {
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::CLOEXEC;
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            let backing = File::from(rustix::fs::open(std::env::temp_dir(), flags, mode)?);
            backing.set_len(len_bytes)?;
            Self::attach_open(
                backing,
                LoopOptions {
                    sector_size,
                    read_only: false,
                },
            )
        };
        make().map_err(|source| HostError::new(what(), source))
    }

    /// Its device node: `/dev/loop3`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel's name: `loop3`.
    #[must_use]
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Detaches now and says whether that worked.
    ///
    /// # Errors
    /// [`HostError`], `EBUSY` when it still is in use.
    pub fn detach(mut self) -> Result<(), HostError> {
        self.release()
    }

    fn attach_open(backing: File, options: LoopOptions) -> io::Result<Self> {
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/loop-control")?;
        for _ in 0..ATTACH_TRIES {
            // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns a number.
            let number = unsafe { ioctl::loop_ctl_get_free(control.as_raw_fd()) }?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = OpenOptions::new()
                .read(true)
                .write(!options.read_only)
                .open(&path)?;
            match configure(&device, &backing, options) {
                Ok(()) => {
                    return Ok(Self {
                        path,
                        device,
                        attached: true,
                        _backing: backing,
                    });
                }
                Err(Errno::EBUSY) => thread::sleep(Duration::from_millis(5)),
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EBUSY.into())
    }

    fn release(&mut self) -> Result<(), HostError> {
        if !self.attached {
            return Ok(());
        }
        // Partitions added by BLKPG outlive the loop device's file if they are not taken away first.
        if let Err(error) = blkpg::del_all(&self.device, &self.path) {
            tracing::warn!(%error, "detaching a loop device");
        }
        for tries_left in (0..DETACH_TRIES).rev() {
            // SAFETY: LOOP_CLR_FD takes no argument.
            match unsafe { ioctl::loop_clr_fd(self.device.as_raw_fd()) } {
                Ok(_) | Err(Errno::ENXIO) => break,
                Err(Errno::EBUSY) if tries_left > 0 => thread::sleep(Duration::from_millis(50)),
                Err(errno) => {
                    return Err(HostError::new(
                        format!("detaching {}", self.path.display()),
                        errno,
                    ));
                }
            }
        }
        self.attached = false;
        Ok(())
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            tracing::error!(%error, "left attached");
        }
    }
}

fn configure(device: &File, backing: &File, options: LoopOptions) -> nix::Result<()> {
    let read_only = if options.read_only { LO_FLAGS_READ_ONLY } else { 0 };
    let config = LoopConfig {
        fd: u32::try_from(backing.as_raw_fd()).map_err(|_| Errno::EBADF)?,
        block_size: options.sector_size,
        info: LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_PARTSCAN | read_only,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config` from live memory; the layout is the kernel's.
    unsafe { ioctl::loop_configure(device.as_raw_fd(), &raw const config) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block;

    #[test]
    fn a_scratch_disk_takes_partitions_and_leaves_nothing_behind() {
        let device = LoopDevice::scratch(16 << 20, 4096).unwrap();
        let path = device.path().to_owned();
        let disk = block::open_exclusive(&path).unwrap();
        blkpg::add(&disk, 1, 1 << 20, 4 << 20).unwrap();
        let node = blkpg::node_of(&path, 1).unwrap();
        drop(disk);
        device.detach().unwrap();
        assert!(!node.exists());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = LoopDevice::attach(Path::new("/no/such/disk"), LoopOptions::default()).unwrap_err();
        assert!(error.to_string().contains("/no/such/disk"), "{error}");
    }
}
