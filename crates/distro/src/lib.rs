//! Names that distributions give to boot programs and their files. There is one table for all users of it
//! (survey, boot loader, initramfs, boot image, boot menu).
//!
//! - [`efi`]: vendor directories of the EFI system partition, and the programs in them
//! - [`kernel`]: kernel and initramfs files, the order of releases, the plain kernel
//! - [`config`]: places of boot loaders' configuration
//!
//! The crate only judges names and reads nothing: the caller lists the directories ([`Names`]).

pub mod config;
pub mod efi;
pub mod kernel;

/// Function that lists the names in a directory, by its absolute path in the examined system. Returns an
/// empty list if there is no such directory.
pub type Names<'a> = &'a dyn Fn(&str) -> Vec<String>;
