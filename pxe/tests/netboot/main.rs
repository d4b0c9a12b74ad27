//! The boot server, as binary and as library, in namespaces: real TFTP and HTTP clients, a lossy wire, many
//! machines.
//!
//! Needs root, as all tests in the lab do.

mod arming;
mod boot_network;
mod cli;
mod crowd;
mod floods;
mod http;
mod menu;

mod proxy;
mod tftp;
mod tftp_raw;
mod wire_forms;
