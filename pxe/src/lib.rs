//! The boot server: DHCP and proxyDHCP, TFTP, HTTP, the menu, and which machine is armed.
//!
//! Knows nothing about cloning: whoever embeds it says which files there are, what the kernel command line is, and
//! when a machine is finished.

pub mod arming;
mod catalog;
mod check;
pub mod config;
pub mod dhcp;
mod error;
mod events;
mod faults;
mod http;
pub mod iface;
pub mod machine;
pub mod menu;
mod names;
pub mod nodes;
pub mod privileges;
pub mod programs;
mod server;
mod services;
mod state_dir;
mod tftp;

pub use check::Needs;
pub use config::{Arm, BootConfig, Served, Source};
pub use dhcp::{DhcpMode, FullConfig};
pub use error::PxeError;
pub use events::{BootEvent, Events, MAX_WAITING_EVENTS, Service};
pub use faults::Faults;
pub use machine::{Arch, MacAddr, Machine, Stage};
pub use menu::{Entry, Form, Menu, Origin};
pub use nodes::NodeEntry;
pub use programs::{BootFile, Programs};
pub use server::{BootServer, preview};
