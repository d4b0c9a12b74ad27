//! What makes a restored tree a system of its own: each part a pure plan and an apply.
//!
//! - [`fstab`]: the clone's mounts name the clone's devices
//!
//! Kernel command lines, boot loaders, initramfs and identity come with the boot issue. Nothing here talks to
//! the network or formats anything.

pub mod fstab;
