//! The served interface: its existence and its IPv4 addresses.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::error::PxeError;

/// The IPv4 addresses of an interface, in the kernel's order. Machines are told the first one.
///
/// # Errors
/// Fails if the interface does not exist, is down, or has no IPv4 address.
pub fn addresses(iface: &str) -> Result<Vec<Ipv4Addr>, PxeError> {
    let listed = getifaddrs().map_err(|err| PxeError::System {
        doing: "listing network interfaces".to_owned(),
        source: err.into(),
    })?;
    let mut known = BTreeSet::new();
    let mut addresses = Vec::new();
    let mut is_up = false;
    for entry in listed {
        let address = entry
            .address
            .as_ref()
            .and_then(|address| address.as_sockaddr_in());
        if let Some(address) = address.filter(|_| entry.interface_name == iface) {
            addresses.push(address.ip());
        }
        is_up |= entry.interface_name == iface && entry.flags.contains(InterfaceFlags::IFF_UP);
        known.insert(entry.interface_name);
    }
    if !known.contains(iface) {
        return Err(PxeError::UnknownInterface {
            iface: iface.to_owned(),
            known: known.into_iter().collect::<Vec<_>>().join(", "),
        });
    }
    if !is_up {
        return Err(PxeError::InterfaceDown {
            iface: iface.to_owned(),
        });
    }
    if addresses.is_empty() {
        return Err(PxeError::NoAddress {
            iface: iface.to_owned(),
        });
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_interface_is_refused_with_those_there_are() {
        let said = addresses("nosuch0").unwrap_err().to_string();
        assert!(
            said.starts_with("no network interface `nosuch0`; there are "),
            "{said}"
        );
        assert!(said.contains("lo"), "{said}");
    }
}
