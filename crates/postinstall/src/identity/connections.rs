//! Network configuration beside MAC addresses: ids of connections, which become new ones, and fixed
//! addresses, which only the operator can change.

use std::collections::BTreeMap;
use std::net::IpAddr;

use uuid::Uuid;

use super::editor::Editor;
use crate::error::PostError;
use crate::files::Files;
use crate::plan::Plan;

/// The files in which connections have ids.
const CONNECTIONS: [&str; 2] = [
    "/etc/NetworkManager/system-connections",
    "/etc/sysconfig/network-scripts",
];

/// Files with fixed addresses, and the keys of these lines.
const FIXED: [(&str, &str, &[&str]); 11] = [
    ("/etc/network", "interfaces", &["address"]),
    ("/etc/network/interfaces.d", "", &["address"]),
    (
        "/etc/NetworkManager/system-connections",
        "",
        &["address1", "address2", "addresses1", "address"],
    ),
    (
        "/etc/sysconfig/network-scripts",
        "",
        &["IPADDR", "IPADDR0", "IPADDR1", "IPV6ADDR"],
    ),
    ("/etc/sysconfig/network", "", &["IPADDR", "IPADDR_0", "IPADDR_1"]),
    ("/etc/systemd/network", ".network", &["Address"]),
    ("/etc/netplan", ".yaml", &["addresses", "-"]),
    ("/etc/netplan", ".yml", &["addresses", "-"]),
    (
        "/etc",
        "dhcpcd.conf",
        &["static ip_address", "static ip6_address", "inform"],
    ),
    ("/etc/conf.d", "net", &["config_"]),
    ("/etc/netctl", "", &["Address"]),
];

pub(super) fn plan(
    plan: &mut Plan,
    editor: &mut Editor<'_>,
    fresh: &mut dyn FnMut() -> Uuid,
) -> Result<(), PostError> {
    new_ids(editor, fresh)?;
    fixed_addresses(plan, editor)
}

/// NetworkManager works a connection's DHCP and IPv6 identities out from its id. Other connections name it
/// (`master=`): all that stand for one stay one.
fn new_ids(editor: &mut Editor<'_>, fresh: &mut dyn FnMut() -> Uuid) -> Result<(), PostError> {
    let files = editor.files();
    let paths: Vec<String> = CONNECTIONS
        .iter()
        .flat_map(|dir| {
            files
                .names(dir)
                .into_iter()
                .map(move |name| format!("{dir}/{name}"))
        })
        .collect();
    let mut ids = BTreeMap::new();
    for path in &paths {
        for line in editor.text(path)?.unwrap_or_default().lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim().trim_matches(['"', '\'']);
            if matches!(key.trim(), "uuid" | "UUID") && Uuid::parse_str(value).is_ok() {
                ids.entry(value.to_owned()).or_insert_with(|| fresh().to_string());
            }
        }
    }
    for path in &paths {
        editor.lines(path, |line| {
            let mut new = line.to_owned();
            for (old, id) in &ids {
                new = new.replace(old, id);
            }
            Some(new)
        })?;
    }
    Ok(())
}

/// A fixed address is what a clone cannot have for itself: named, not changed.
fn fixed_addresses(plan: &mut Plan, editor: &mut Editor<'_>) -> Result<(), PostError> {
    for (dir, name, keys) in FIXED {
        for path in named(editor.files(), dir, name) {
            let text = editor.text(&path)?.unwrap_or_default();
            for (number, line) in (1..).zip(text.lines()) {
                let bare = line.trim();
                // netplan writes name servers and routes in the same way; an own address has its prefix.
                let is_yaml = dir == "/etc/netplan";
                let is_route =
                    is_yaml && (bare.contains("to:") || bare.contains("via:") || !bare.contains('/'));
                if keys.iter().any(|key| bare.starts_with(key))
                    && !is_route
                    && let Some(address) = fixed(bare)
                {
                    plan.warnings.push(format!(
                        "{path}:{number}: {address} is the golden node's own fixed address, and every clone's with it: give it out by DHCP, or \
                         set it in a hook"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Returns the files of a directory: one of this name, those with this ending, or all.
fn named(files: &dyn Files, dir: &str, name: &str) -> Vec<String> {
    let is_one =
        |found: &String| name.is_empty() || found == name || (name.starts_with('.') && found.ends_with(name));
    let names = files.names(dir).into_iter().filter(is_one);
    names.map(|found| format!("{dir}/{found}")).collect()
}

/// Returns the first address in a line that a machine can have on a network.
fn fixed(line: &str) -> Option<IpAddr> {
    let words = line.split(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | ':')));
    let mut addresses = words
        .filter(|word| word.len() > 3)
        .filter_map(|word| word.parse::<IpAddr>().ok());
    addresses.find(|address| {
        let is_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
        };
        !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_local)
    })
}
