//! What makes a restored tree a system of its own: each part a pure plan and an apply.
//!
//! - [`fstab`], [`references`]: mounts, command lines, boot entries name the clone's devices
//! - [`names`]: the one model of names of devices that both of them use, and the sweep at the end
//! - [`identity`]: names, ids, keys that no two machines share
//! - [`modprobe`], [`initramfs`]: the drivers of this node's hardware
//! - [`golden_boot`]: how the golden node boots, and whether a clone of it could
//! - [`rehearsal`]: the same plans tried on the golden tree, before any node writes
//! - [`bootloader`]: installed by its own tools, and checked
//! - [`hooks`]: the operator's own steps
//! - [`labels`]: SELinux labels of what is new
//!
//! Plans are made from [`facts`] and [`files`], and carried out by [`plan`] beneath the [`root`], programs in a
//! [`chroot`]. Nothing here talks to the network or formats anything.

mod boot_entries;
pub mod bootloader;
pub mod chroot;
mod configured;
mod esp;
pub mod facts;
pub mod files;
pub mod fstab;
pub mod golden_boot;
pub mod hooks;
pub mod identity;
pub mod initramfs;
pub mod labels;
pub mod machine_id;
pub mod modprobe;
pub mod names;
pub mod plan;
pub mod references;
pub mod rehearsal;
pub mod root;
mod uboot;
