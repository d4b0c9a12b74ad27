//! The lab: disks, networks, programs and trees that tests make for themselves and that undo themselves.
//!
//! The tests of every crate use it, and so does `ka-tests`, which drives the real binaries in it. It depends
//! on no crate of the product: unit tests would see two versions of their own crate's types, and a fault that
//! product and lab share would never show. Its judgements ([`compare`], [`disk`]) rest on the kernel and on
//! util-linux alone.
//!
//! Everything made here carries this process's id in its name and belongs to a guard that undoes it on drop.
//! The leftovers of a killed run are undone by its [`caretaker`], or by [`scratch::sweep`] at the start of
//! the next. The lab writes only to loop devices over files of our own ([`disk::Disk`]), and kills only
//! processes that it has started ([`process`]).

pub mod caretaker;
pub mod cgroup;
pub mod compare;
pub mod dhcp;
pub mod disk;
pub mod interrupt;
pub mod mounts;
pub mod multicast;
pub mod netns;
pub mod process;
pub mod pty;
pub mod scratch;
pub mod snapshot;
pub mod target_dir;
mod tether;
pub mod tree;
