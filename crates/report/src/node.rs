//! The operator's view of a node.

use std::fmt;

use serde::Serialize;

/// A node as the operator knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeRef {
    /// Number that the server gave it in this run.
    pub id: u32,
    /// Host name of the node.
    pub name: String,
    /// Address of its data port's interface, as text.
    pub addr: String,
    /// Place in the chain: 1 is next to the server, 0 means that the chain is not ordered yet.
    pub position: u32,
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.position == 0 {
            write!(f, "{} ({})", self.name, self.addr)
        } else {
            write!(f, "node {} {} ({})", self.position, self.name, self.addr)
        }
    }
}
