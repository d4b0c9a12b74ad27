//! Whole machines: firmware, network boot ROM, disk and card as QEMU emulates them, watched through the
//! serial line.
//!
//! A machine's disks are files of [`crate::disk::Disk`], its card is a port of a [`crate::netns::Network`]'s
//! switch; it sees nothing of this machine and its real network. Every wait has a limit, a machine is killed
//! by its own id, and [`seats`] limits how many run at once, so that each keeps its pace.

pub mod accel;
pub mod console;
pub mod firmware;
pub mod golden;
pub mod logs;
pub mod machine;
pub mod pace;
pub mod room;
pub mod seats;
