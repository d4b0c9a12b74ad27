//! What of root's power the boot server keeps: ports below 1024, packet sockets, files that only root reads. Everything else
//! is given up before the first socket is opened, so that a fault in what answers strangers is worth little.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// Ports 67, 69 and 80; frames to machines without an address and the choice of the interface; a kernel in `/boot` that is
/// for root alone.
const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// Gives up everything else, for this thread and all that it starts. Call it before there are others. Who has nothing to
/// give up (no root) is left as it is.
///
/// # Errors
/// When the kernel refuses.
pub fn give_up() -> io::Result<()> {
    set_no_new_privs(true)?;
    let held = capabilities(None)?;
    if held.permitted.contains(CapabilitySet::SETPCAP) {
        for unwanted in CapabilitySet::all().difference(KEPT).iter() {
            match remove_capability_from_bounding_set(unwanted) {
                // A capability that this kernel does not know yet.
                Err(rustix::io::Errno::INVAL) => {}
                result => result?,
            }
        }
    }
    let kept = held.permitted.intersection(KEPT);
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}
