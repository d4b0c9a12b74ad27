//! cpio in the "newc" form that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst):
//! a [`Writer`] whose same entries give the same bytes, and a [`Reader`] that trusts nothing it reads.
//!
//! Not here: compression (`ka-initrd`), unpacking onto a file system (the client's init). Hard links are read as the
//! entries they are ([`Header::inode`], [`Header::links`]) and never written: an initramfs needs none.

mod error;
mod header;
mod reader;
mod writer;

pub use error::CpioError;
pub use header::{Header, Kind};
pub use reader::{Entry, Limits, Reader};
pub use writer::Writer;

/// Longest name with its NUL: the kernel's `PATH_MAX`; what is longer, the kernel itself drops.
pub const MAX_NAME_BYTES: u32 = 4096;
/// Longest target of a symbolic link, for the same reason.
pub const MAX_LINK_BYTES: u64 = 4096;
/// The largest file the format can hold: eight hexadecimal digits.
pub const MAX_FILE_BYTES: u64 = u32::MAX as u64;
/// Name of the entry that ends an archive.
pub const TRAILER: &str = "TRAILER!!!";
/// Headers and data begin at multiples of this.
pub const ALIGNMENT: usize = 4;
