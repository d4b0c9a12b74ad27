//! The lab: networks of namespaces, loop disks and golden systems in which the real binaries are driven.
//!
//! Used by the integration tests beside it, by `cargo xtask demo` and by `cargo xtask bench`. It knows nothing of the
//! product's code, and its judgements (`compare`, `disk`) rest on the kernel and on util-linux alone: a fault shared
//! by reader and writer would otherwise never show.
//!
//! Whatever is made here carries this process's id in its name and belongs to a guard that undoes it on drop.
//! What a killed run left behind is undone by its [`caretaker`], or by [`scratch::sweep`] at the start of the next. Only loop devices over
//! files of our own are ever written ([`disk::Disk`]), only processes started here are ever killed ([`process`]).

pub mod binaries;
pub mod caretaker;
pub mod cgroup;
pub mod compare;
pub mod debian;
pub mod disk;
pub mod golden;
pub mod interrupt;
pub mod kernel;
pub mod lab;
pub mod matrix;
pub mod mounts;
pub mod netns;
pub mod process;
pub mod qemu;
pub mod scratch;
pub mod snapshot;
mod tether;
pub mod tree;
