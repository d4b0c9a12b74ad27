//! Words by which a node and the boot server recognize each other. Both sides compare them letter by letter.

/// Vendor class (option 60) of a node's own DHCP client. It tells the node from firmware and from an
/// installed system.
pub const NODE_CLASS: &str = "KA-node";

/// Word on the kernel command line that makes a machine a clone. The boot menu adds it; without it a node
/// does nothing.
pub const METHOD_WORD: &str = "kamethod";
