//! The boot server, as binary and as library, in namespaces: real TFTP and HTTP clients, a lossy wire, a crowd of machines.
//!
//! Needs root, as everything that uses the lab.

mod arming;
mod cli;
mod crowd;
mod floods;
mod http;
mod kit;
mod menu;

mod proxy;
mod tftp;
mod tftp_raw;
mod wire_forms;
