//! File systems, surveys and mounts on real loop devices over sparse files of our own. Needs root and the file
//! systems' tools (see the package list of the tests).

#![expect(clippy::unwrap_used, reason = "tests: a panic is the report")]

mod clone;
mod formats;
mod lab;
mod survey;
