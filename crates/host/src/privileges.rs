//! Surrender of root's powers that KA does not need.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::HostError;

/// Capabilities for reading and serving a golden system.
const GOLDEN: CapabilitySet = CapabilitySet::DAC_READ_SEARCH // every file, whoever owns it
    .union(CapabilitySet::DAC_OVERRIDE) // log and state directories of other users
    .union(CapabilitySet::FOWNER) // O_NOATIME: reading leaves no trace (open(2))
    .union(CapabilitySet::SYS_ADMIN) // trusted.* attributes (xattr(7)), mounts
    .union(CapabilitySet::SYS_PTRACE) // reading the users of a file or device (proc(5))
    .union(CapabilitySet::SYS_RAWIO) // reading the drives' own identification
    .union(CapabilitySet::SETPCAP) // removing capabilities from children
    .union(CapabilitySet::SYS_NICE) // priority for the network's threads
    .union(CapabilitySet::KILL); // ending the operator's command, under any user id
/// More capabilities for a boot server: ports below 1024, frames to machines without an address.
const BOOTS: CapabilitySet = CapabilitySet::NET_BIND_SERVICE.union(CapabilitySet::NET_RAW);
/// More capabilities for multicast: IGMP has no ports.
const MULTICAST: CapabilitySet = CapabilitySet::NET_RAW;

/// Uses of the network for which a server needs more than an ordinary user.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetworkUse {
    /// It is a boot server.
    pub boots: bool,
    /// It hears and sends IGMP.
    pub multicast: bool,
}

impl NetworkUse {
    fn capabilities(self) -> CapabilitySet {
        let when = |is_so: bool, set| if is_so { set } else { CapabilitySet::empty() };
        when(self.boots, BOOTS).union(when(self.multicast, MULTICAST))
    }
}

/// Gives up every power of root that a server of clones does not need, and returns the number of capabilities
/// given up. The capabilities for `network` stay too. It holds for this thread and those that it
/// starts: call it before there are others. Programs that it starts as root have all of root's power again
/// (capabilities(7)), because the operator's commands may need it.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_for_golden(network: NetworkUse) -> Result<usize, HostError> {
    let failed = |errno| {
        HostError::new(
            "giving up what root may and a server need not",
            io::Error::from(errno),
        )
    };
    let wanted = GOLDEN.union(network.capabilities());
    let held = capabilities(None).map_err(failed)?;
    let kept = held.permitted.intersection(wanted);
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(failed)?;
    Ok(held.permitted.difference(kept).iter().count())
}
