//! The node's DHCP client (RFC 2131, RFC 2132). It obtains an address on a wire where this machine has none
//! yet, and keeps it while the run lasts.
//!
//! [`Machine`] decides: messages and time go in, messages come out; no socket, no clock. [`Client`] drives it
//! over a packet socket until there is a lease, and over UDP from then on. No input from the wire causes a
//! panic. Other crates have messages, frames and ARP (`ka_dhcp`), the assignment of the address to the
//! interface (`ka_host::route`), and the server (`ka-pxe`).

mod client;
mod machine;

pub use client::{Client, DhcpError, Interface};
pub use machine::{Config, Event, Lease, Machine, Output, Via};
