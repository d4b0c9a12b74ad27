//! The real binaries in the lab: golden systems, runs in namespaces, and whole machines in QEMU.
//!
//! The integration tests beside it use it, and `cargo xtask demo` and `cargo xtask bench`. Disks, networks and
//! programs come from `ka-lab`; its modules are repeated here, so that a test names one crate. Nothing here
//! knows the product's code: a fault that reader and writer share would otherwise never show.

pub use ka_lab::{
    caretaker, cgroup, compare, disk, interrupt, mounts, multicast, netns, process, scratch, snapshot,
    target_dir, tree,
};

pub mod binaries;
pub mod debian;
pub mod golden;
pub mod kernel;
pub mod lab;
pub mod matrix;
pub mod packages;
pub mod panes;
pub mod qemu;
pub mod terminal;
