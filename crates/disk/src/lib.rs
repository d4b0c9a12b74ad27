//! desc → layout plan → MBR/GPT → mkfs → mount tree.
//!
//! [`desc`] is the operator's file, [`table`] what stands on a disk, [`layout`] the plan that leads
//! from one to the other.

pub mod contents;
pub mod desc;
pub mod fs;
pub mod fstab;
pub mod golden;
pub mod inventory;
pub mod layout;
pub mod mounts;
pub mod spec;
pub mod table;
