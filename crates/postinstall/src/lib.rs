//! Changes that make a restored tree a system of its own: each part is a pure plan, and [`plan`] carries it
//! out.
//!
//! - [`fstab`], [`references`]: mounts, command lines, boot entries name the clone's devices
//! - [`names`]: the one model of names of devices that both of them use, and the sweep at the end
//! - [`identity`]: names, ids, keys that no two machines share
//! - [`modprobe`], [`initramfs`]: the drivers of this node's hardware
//! - [`golden_boot`]: how the golden node boots, and whether a clone of it could
//! - [`rehearsal`]: the same plans tried on the golden tree, before any node writes
//! - [`bootloader`]: installed by its own tools, and checked
//! - [`hooks`]: the operator's own steps
//! - [`labels`]: SELinux labels of files that the clone's programs have made
//!
//! Plans are made from [`facts`] and [`files`], and carried out by [`plan`] beneath the [`root`], programs in
//! a [`chroot`]. Nothing here talks to the network or formats anything.
//!
//! A plan is made from the restored files alone, and can be shown before it is carried out:
//!
//! ```
//! use std::fs;
//!
//! use ka_postinstall::modprobe::{self, NeededModules};
//! use ka_postinstall::plan::Destination;
//! use ka_postinstall::root::Root;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clone = tempfile::tempdir()?;
//! fs::create_dir_all(clone.path().join("etc/modprobe.d"))?;
//! let root = Root::open(clone.path())?;
//! let needed = NeededModules {
//!     storage: vec!["ahci".to_owned()],
//!     network: vec![("eth0".to_owned(), "e1000".to_owned())],
//!     initramfs: vec!["libata".to_owned(), "ahci".to_owned()],
//! };
//!
//! let plan = modprobe::plan(&root, &needed)?;
//! assert!(plan.lines().iter().any(|line| line.starts_with(modprobe::MODERN)));
//! assert!(!clone.path().join("etc/modprobe.d/ka-hardware.conf").exists());
//!
//! let destination = Destination { root: &root, chroot: None };
//! let mut told = Vec::new();
//! plan.apply(&destination, &mut |line| told.push(line.to_owned()))?;
//! assert_eq!(told, plan.lines());
//! let written = fs::read_to_string(clone.path().join("etc/modprobe.d/ka-hardware.conf"))?;
//! assert!(written.contains("e1000"));
//! # Ok(())
//! # }
//! ```

mod boot_entries;
pub mod bootloader;
pub mod chroot;
mod configured;
pub mod error;
mod esp;
pub mod facts;
pub mod files;
pub mod fstab;
pub mod golden_boot;
pub mod hooks;
pub mod identity;
pub mod initramfs;
pub mod kernels;
pub mod labels;
pub mod machine_id;
pub mod modprobe;
pub mod names;
pub mod plan;
pub mod references;
pub mod rehearsal;
pub mod root;
mod selinux;
mod uboot;
