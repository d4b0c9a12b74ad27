//! The node's DHCP client (RFC 2131, RFC 2132): takes an address on a wire where this machine has none yet, and keeps
//! it while the run lasts.
//!
//! [`Machine`] decides: messages and time in, messages out; no socket, no clock. [`Client`] drives it over a packet
//! socket until there is a lease, and over UDP from then on. What a reply may hold is checked in [`message`]; nothing
//! from the wire panics.
//! Not here: giving the address to the interface (`ka_host::route`), serving addresses (`ka-pxe`).

mod arp;
mod client;
mod frame;
mod machine;
pub mod message;

pub use client::{Client, DhcpError, Interface};
pub use machine::{Config, Event, Lease, Machine, Output, Via};
