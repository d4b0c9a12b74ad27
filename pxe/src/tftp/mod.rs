//! TFTP, read only: RFC 1350, 2347 (options), 2348 (block size), 2349 (timeout, size), 7440 (windows).
//!
//! One socket for each address of the interface, and one for each transfer on the address that was asked: answers leave
//! from where the request went, whatever the routing table says. Names are looked up in the catalog; no file system.
//! [`packet`] reads and writes, [`window`] decides what goes out next, `transfer` does it, `server` has the list.

mod netascii;
pub(crate) mod packet;
mod server;
mod transfer;
pub(crate) mod window;

pub(crate) use server::{Tftp, bind};
