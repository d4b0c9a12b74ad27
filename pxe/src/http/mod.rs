//! HTTP for large files: GET and HEAD, always with Content-Length, single byte ranges. For iPXE, GRUB and
//! UEFI HTTP boot.
//!
//! The catalog decides which files exist. This is no web server: no directories, no writing, no TLS. `answer`
//! turns a request into a response, `body` streams a file with one piece in memory, `range` reads the header.

mod answer;
mod body;
mod places;
mod range;
mod server;

pub(crate) use server::{Http, bind};
