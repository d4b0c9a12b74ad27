//! Giving up what root may and we need not.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::HostError;

/// What reading a golden system and serving it takes of root's power.
const GOLDEN: CapabilitySet = CapabilitySet::DAC_READ_SEARCH // every file, whoever owns it
    .union(CapabilitySet::DAC_OVERRIDE) // log and state directories of others
    .union(CapabilitySet::FOWNER) // O_NOATIME: reading leaves no trace (open(2))
    .union(CapabilitySet::SYS_ADMIN) // trusted.* attributes (xattr(7)), mounts
    .union(CapabilitySet::SYS_PTRACE) // who uses a file or device (proc(5))
    .union(CapabilitySet::SYS_RAWIO) // what drives say of themselves
    .union(CapabilitySet::SETPCAP) // taken away from children on their way
    .union(CapabilitySet::SYS_NICE) // the network's threads go first
    .union(CapabilitySet::KILL); // the operator's command, whoever it has become
/// What a boot server takes besides: ports below 1024, frames to machines without an address.
const NETWORK: CapabilitySet = CapabilitySet::NET_BIND_SERVICE.union(CapabilitySet::NET_RAW);

/// Keeps of root's power what a server of clones needs, with a boot server's where `boots`; gives the number of
/// capabilities given up. For this thread and those that it starts: call it before there are others. Programs that it starts
/// as root have all of root's power again (capabilities(7)): the operator's commands need what they need.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_for_golden(boots: bool) -> Result<usize, HostError> {
    let failed = |errno| {
        HostError::new(
            "giving up what root may and a server need not",
            io::Error::from(errno),
        )
    };
    let wanted = if boots { GOLDEN.union(NETWORK) } else { GOLDEN };
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
