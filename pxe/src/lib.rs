//! The boot server: DHCP and proxyDHCP, TFTP, HTTP, the menu, and which machine is armed. Issue 3 §1.
//!
//! Knows nothing about cloning: whoever embeds it says which files there are, what the kernel command line is, and
//! when a machine is finished.

pub mod machine;

pub use machine::{Arch, MacAddr, Machine, Stage};
