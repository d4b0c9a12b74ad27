//! File systems, surveys and mounts on real loop devices over sparse files of our own. They need root and the
//! file systems' tools (see the package list of the tests).

#![expect(clippy::unwrap_used, reason = "tests: a panic is the report")]

mod clone;
mod formats;
mod golden_disk;
mod survey;
