//! Nodes that may have cost others a round. In the next round they come last in the chain, with no node below
//! them.
//!
//! Data comes through every node of a chain. A node that alters it, or stops passing it on, can cost the
//! nodes below it a round. The server cannot tell which of two neighbours lied. The last place costs neither
//! anything: the last node gets all data as the others do, and harms no other.

use std::net::IpAddr;

/// Most addresses remembered.
const MAX_ACCUSED: usize = 4096;

/// The addresses of accused nodes.
#[derive(Debug, Default)]
pub(super) struct Accused(Vec<IpAddr>);

impl Accused {
    pub(super) fn add(&mut self, addr: IpAddr) {
        if !self.contains(addr) && self.0.len() < MAX_ACCUSED {
            self.0.push(addr);
        }
    }

    pub(super) fn contains(&self, addr: IpAddr) -> bool {
        self.0.contains(&addr)
    }
}
