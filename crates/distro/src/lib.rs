//! How distributions name what boots them: one table for everybody who asks (survey, boot loader, initramfs, boot image,
//! boot menu).
//!
//! - [`efi`]: vendor directories of the EFI system partition, and the programs in them
//! - [`kernel`]: kernel and initramfs files, the order of releases, which kernel is the plain one
//! - [`config`]: where boot loaders keep their configuration
//!
//! Only names are judged here. Nothing is read: who asks brings a directory's names ([`Names`]).

pub mod config;
pub mod efi;
pub mod kernel;

/// The names in a directory, by its absolute path in the system that is looked at; none where there is no directory.
pub type Names<'a> = &'a dyn Fn(&str) -> Vec<String>;
