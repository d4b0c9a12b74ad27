//! The machine under KA: running programs, mounts, ioctls, interfaces, reboot.
//!
//! This is the only crate of the project that contains `unsafe` code or starts other programs; everything
//! above it works with safe types. It knows nothing about cloning, desc files or the network protocol.
//!
//! - [`run`]: one runner for external programs ([`run::Tool`]) and for the operator's commands
//!   ([`run::Shell`])
//! - [`mount`], [`mountinfo`]: mounting with guards that unmount, and reading the list of mounts
//! - [`block`], [`blkpg`]: block device ioctls
//! - [`busy`]: trying again while one of those is in use
//! - [`inode_flags`], [`subvolume`], [`fiemap`]: project ids, btrfs subvolumes, places of files
//! - [`netif`], [`link`], [`route`], [`packet`]: interfaces, their addresses and routes, packets without an
//!   address
//! - [`system`], [`modules`], [`kmsg`]: host name, limits, reboot; kernel modules; messages of the kernel
//! - [`privileges`]: giving up root's powers that KA does not need
//! - [`secrets`]: keeping a join code away from the process list, from children and from core dumps
//! - [`process_one`]: the duties of a machine's first process
//! - [`signals`], [`namespace`]: catching termination, mounts that end with the process

#![expect(
    unsafe_code,
    reason = "ioctls, pre_exec and prctl have no safe form; every use has its SAFETY line"
)]

pub mod blkpg;
pub mod block;
pub mod btrfs_tree;
pub mod busy;
pub mod fiemap;
pub mod inode_flags;
pub mod kernel;
pub mod kmsg;
pub mod link;
pub mod modules;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod netif;
pub mod packet;
pub mod privileges;
pub mod process_one;
pub mod route;
pub mod run;
pub mod secrets;
pub mod signals;
pub mod subvolume;
pub mod system;

mod error;

pub use error::HostError;
