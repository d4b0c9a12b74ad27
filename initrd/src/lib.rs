//! Boot images made from the golden node itself: stage1 (kernel, `/init`, network drivers) and stage2
//! (storage drivers, file system and boot tools with their libraries). No distribution's installer is needed.
//!
//! All files are read below a root directory (the golden node's `/`, or a tree), no file there is executed,
//! and the same inputs give the same bytes. `ka-client` is `/init`, `ka-pxe` serves the images.
//! docs/initrd.md explains the content of each image.

mod choice;
mod client;
mod compress;
mod elf;
mod error;
mod firmware;
mod join;
mod kernel;
mod libraries;
pub mod list;
mod modules;
mod root;
mod stage1;
mod stage2;
mod tools;
mod tree;

pub use client::find_static_client;
pub use error::InitrdError;
pub use join::{append_join, join_member};
pub use stage1::{Stage1, Stage1Options, kernel_release, stage1};
pub use stage2::{Stage2, Stage2Options, stage2, stage2_image};
