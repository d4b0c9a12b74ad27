//! Disks of golden node and clone: desc file, layout plan, MBR and GPT, mkfs, mounted tree.
//!
//! [`desc`] is the operator's file, [`table`] the partition table on a disk, [`layout`] the plan that leads
//! from one to the other. [`spec`] is all that a node must know of the golden node; its maker is [`golden`].

pub mod contents;
pub mod desc;
pub mod fs;
pub mod fs_type;
pub mod fstab;
pub mod golden;
pub mod inventory;
pub mod layout;
pub mod mounts;
pub mod spec;
pub mod table;
