//! cpio in the "newc" form that the kernel unpacks
//! (Documentation/driver-api/early-userspace/buffer-format.rst). The [`Writer`] gives the same bytes for the
//! same entries, and the [`Reader`] trusts no input.
//!
//! Compression is in `ka-initrd`, and the client's init unpacks onto a file system. Hard links are read as
//! separate entries ([`Header::inode`], [`Header::links`]) and never written, because an initramfs needs
//! none.

mod error;
mod header;
mod reader;
mod writer;

pub use error::CpioError;
pub use header::{Header, Kind};
pub use reader::{Entry, Limits, Reader};
pub use writer::Writer;

/// Longest name with its NUL, in bytes: the kernel's `PATH_MAX`. The kernel drops entries with a longer name.
pub const MAX_NAME_BYTES: u32 = 4096;
/// Longest target of a symbolic link, in bytes, for the same reason.
pub const MAX_LINK_BYTES: u64 = 4096;
/// Largest file of the format, in bytes: its size has eight hexadecimal digits.
pub const MAX_FILE_BYTES: u64 = u32::MAX as u64;
/// Name of the entry that ends an archive.
pub const TRAILER: &str = "TRAILER!!!";
/// Headers and data begin at multiples of this number of bytes.
pub const ALIGNMENT: usize = 4;
