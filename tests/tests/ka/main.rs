//! The real binaries, driven in namespaces on loop disks. One target, so that it links once.
//!
//! Needs root and the packages of `xtask/packages.txt`: `cargo xtask test` sees to both. Every program started has a
//! time limit, everything made carries this process's id and is undone by a guard.

mod address;
mod approve;
mod architecture;
mod attackers;
mod boot;
mod boot_faults;
mod boot_images;
mod clone;
mod cut_off;
mod disks;
mod failures;
mod faults;
mod floods;
mod generic;
mod golden_boot;
mod healing;
mod hostile;
mod insiders;
mod interrupted;
mod keys;
mod kills;
mod kit;
mod lab;
mod licences;
mod loaders;
mod old_kernel;
mod options;
mod own_identity;
mod pipes;
mod postinstall;
mod references;
mod rounds;
mod secrets;
mod slow;
mod spool;
mod status;
mod strangers;
mod subvolumes;
mod survey;
mod tls;
mod units;
mod unproved;
mod verify;
mod versions;
mod via;
