//! TFTP, read only: RFC 1350, 2347 (options), 2348 (block size), 2349 (timeout, size), 7440 (windows).
//!
//! There is one socket for each address of the interface, and one for each transfer, on the requested
//! address. Answers therefore leave from the address of the request, whatever the routing table says. Names
//! are looked up in the catalog, never in the file system. [`packet`] reads and writes packets, [`window`]
//! decides which block is next, `transfer` sends it, `server` has the list of transfers.

mod netascii;
pub(crate) mod packet;
mod server;
mod transfer;
pub(crate) mod window;

pub(crate) use server::{Tftp, bind};
