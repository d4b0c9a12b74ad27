//! Privileges of root that the boot server keeps: ports below 1024, packet sockets, files that only root
//! reads. It drops all others before it opens the first socket, so that a fault in the code that answers
//! strangers gains them little.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// Capabilities that are kept: ports 67, 69 and 80; frames to machines without an address and the choice of
/// the interface; a kernel in `/boot` that only root may read.
const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// Drops all other capabilities, for this thread and all threads that it starts. Call it before there are
/// others. A process without root has none to drop and stays as it is.
///
/// # Errors
/// Fails if the kernel refuses.
pub fn give_up() -> io::Result<()> {
    set_no_new_privs(true)?;
    let held = capabilities(None)?;
    if held.permitted.contains(CapabilitySet::SETPCAP) {
        for unwanted in CapabilitySet::all().difference(KEPT).iter() {
            match remove_capability_from_bounding_set(unwanted) {
                // This kernel does not know the capability yet.
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
