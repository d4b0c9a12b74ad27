//! The boot server: DHCP and proxyDHCP, TFTP, HTTP, the menu, and the armed machines.
//!
//! It knows nothing about cloning. The program that embeds it supplies the files and the kernel command line,
//! and reports when a machine is finished.

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
mod menus;
mod names;
pub mod nodes;
mod ports;
pub mod privileges;
pub mod programs;
mod served;
mod server;
mod services;
mod state_dir;
mod tftp;

pub use ka_dhcp::METHOD_WORD;

pub use check::Needs;
pub use config::{Arm, BootConfig};
pub use dhcp::{DhcpMode, FullConfig};
pub use error::PxeError;
pub use events::{BootEvent, Events, MAX_WAITING_EVENTS, Service};
pub use faults::Faults;
pub use machine::{Arch, Machine, Stage};
pub use menu::{Entry, Form, Menu, Origin};
pub use nodes::NodeEntry;
pub use programs::{BootFile, Programs};
pub use served::{Served, Source};
pub use server::{BootServer, preview};
