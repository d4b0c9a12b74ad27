//! Trees on real file systems (loop devices, as root), judged by other means than the code under test: a walk
//! with `std`, and `rsync`, `getfacl`, `getcap`, `lsattr`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod btrfs;
mod changing;
mod copies;
mod deep;
mod everything;
mod facts;
mod limits;
mod partition;
mod read_back;
