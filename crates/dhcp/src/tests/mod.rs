//! Messages compared with crafted ones, recorded ones, and random bytes.

mod client;
mod random;
mod server;
