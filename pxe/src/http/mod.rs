//! HTTP for the big files: GET and HEAD, Content-Length always, single byte ranges. For iPXE, GRUB and UEFI HTTP boot.
//!
//! What is served is the catalog's; this is no web server: no directories, no writing, no TLS. `answer` turns a request
//! into a response, `body` streams a file with one piece in memory, `range` reads the header.

mod answer;
mod body;
mod places;
mod range;
mod server;

pub(crate) use server::{Http, bind};
