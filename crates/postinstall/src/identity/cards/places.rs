//! The places of each system's network configuration, and of the addresses in it that bind or set.

use std::ops::Range;

use super::address::addresses;
use super::{Place, Role, netplan};
use crate::files::Files;
use crate::names::text::is_comment;
use crate::references;

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// systemd.network(5), systemd.link(5), systemd.netdev(5).
    Systemd,
    /// Keyfiles of NetworkManager, nm-settings-keyfile(5).
    KeyFile,
    /// The configuration of NetworkManager, NetworkManager.conf(5).
    NetworkManager,
    /// ifcfg of Red Hat and SUSE.
    Ifcfg,
    /// The configuration of ifupdown, interfaces(5).
    Interfaces,
    /// netplan(5), and cloud-init's network configuration.
    Yaml,
    /// Rules of udev, udev(7).
    Udev,
    /// A card's name and its address on a line: iftab(5), mactab of nameif(8).
    Table,
    /// netifrc's `/etc/conf.d/net`.
    Netifrc,
    /// Kernel command lines: dracut.cmdline(7).
    CommandLine,
}

/// Directory, beginning and end of a file's name, and how it is read.
const FILES: [(&str, &str, &str, Format); 20] = [
    ("/etc/systemd/network", "", ".network", Format::Systemd),
    ("/etc/systemd/network", "", ".link", Format::Systemd),
    ("/etc/systemd/network", "", ".netdev", Format::Systemd),
    ("/etc/NetworkManager/system-connections", "", "", Format::KeyFile),
    (
        "/etc/NetworkManager",
        "NetworkManager.conf",
        "",
        Format::NetworkManager,
    ),
    ("/etc/NetworkManager/conf.d", "", ".conf", Format::NetworkManager),
    ("/etc/sysconfig/network-scripts", "ifcfg-", "", Format::Ifcfg),
    ("/etc/sysconfig/network", "ifcfg-", "", Format::Ifcfg),
    ("/etc/network", "interfaces", "", Format::Interfaces),
    ("/etc/network/interfaces.d", "", "", Format::Interfaces),
    ("/etc/netplan", "", ".yaml", Format::Yaml),
    ("/etc/netplan", "", ".yml", Format::Yaml),
    ("/etc/cloud", "cloud.cfg", "", Format::Yaml),
    ("/etc/cloud/cloud.cfg.d", "", ".cfg", Format::Yaml),
    ("/etc/udev/rules.d", "", ".rules", Format::Udev),
    ("/etc", "iftab", "", Format::Table),
    ("/etc", "mactab", "", Format::Table),
    ("/etc/conf.d", "net", "", Format::Netifrc),
    ("/etc/conf.d", "netifrc", "", Format::Netifrc),
    ("/etc/wicked/ifconfig", "", ".conf", Format::Ifcfg),
];

/// Returns the files that are there.
pub(super) fn files(files: &dyn Files) -> Vec<(String, Format)> {
    let mut all = Vec::new();
    for (dir, start, end, format) in FILES {
        for name in files.names(dir) {
            let is_it = name.starts_with(start) && name.ends_with(end);
            // A whole name where nothing says how it ends.
            let is_whole = start.is_empty() || start.ends_with('-') || !end.is_empty() || name == start;
            if is_it && is_whole && !is_left_over(&name) {
                all.push((format!("{dir}/{name}"), format));
            }
        }
    }
    // Drop-ins: NAME.network.d/*.conf.
    for name in files.names("/etc/systemd/network") {
        let dir = format!("/etc/systemd/network/{name}");
        if name.ends_with(".d") {
            let names = files
                .names(&dir)
                .into_iter()
                .filter(|name| name.ends_with(".conf"));
            all.extend(names.map(|name| (format!("{dir}/{name}"), Format::Systemd)));
        }
    }
    let lines = references::paths(files).into_iter();
    all.extend(lines.map(|path| (path, Format::CommandLine)));
    all
}

/// Copies that editors and package managers leave: nothing reads them.
fn is_left_over(name: &str) -> bool {
    let ends = [
        "~", ".bak", ".orig", ".old", ".rpmsave", ".rpmnew", ".rpmorig", ".swp",
    ];
    ends.iter().any(|end| name.ends_with(end)) || name.contains(".dpkg-")
}

/// Returns the places of a text, in its order.
pub(super) fn find(text: &str, format: Format) -> Vec<Place> {
    match format {
        Format::Systemd => systemd(text),
        Format::KeyFile => key_file(text),
        Format::NetworkManager => by_line(text, |_, line| network_manager(line)),
        Format::Ifcfg => ifcfg(text),
        Format::Interfaces => by_line(text, |_, line| interfaces(line)),
        Format::Yaml => netplan::find(text),
        Format::Udev => by_line(text, |_, line| udev(line)),
        Format::Table => by_line(text, |_, _| Some(Role::Binds)),
        Format::Netifrc => by_line(text, |_, line| {
            line.trim_start().starts_with("mac_").then_some(Role::Sets)
        }),
        Format::CommandLine => command_line(text),
    }
}

/// One place for each line that `role` knows: it gets the section and the line. Comments are none.
fn by_line<'t>(text: &'t str, mut role: impl FnMut(&'t str, &'t str) -> Option<Role>) -> Vec<Place> {
    let mut places = Vec::new();
    let mut section = "";
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        if !bare.starts_with(['#', ';'])
            && let Some(value) = value(line)
            && let Some(role) = role(section, line)
        {
            places.push(Place {
                value: start + value.start..start + value.end,
                role,
                cut: start..start + line.len(),
            });
        }
        start += line.len();
    }
    places
}

/// From the first address of a line to the last one.
fn value(line: &str) -> Option<Range<usize>> {
    let all = addresses(line);
    Some(all.first()?.start..all.last()?.end)
}

/// Returns the key in front of `=`.
fn key(line: &str) -> &str {
    line.split_once('=').map_or("", |(key, _)| key.trim())
}

fn systemd(text: &str) -> Vec<Place> {
    const OTHER_KEYS: [&str; 8] = [
        "Name",
        "OriginalName",
        "Path",
        "Driver",
        "Type",
        "Kind",
        "Property",
        "SSID",
    ];
    let mut section = "";
    let mut matched_as_well = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        matched_as_well |= section == "[Match]" && OTHER_KEYS.contains(&key(line)) && !line.ends_with('=');
    }
    by_line(text, |section, line| match (section, key(line)) {
        ("Match", "MACAddress" | "PermanentMACAddress") if matched_as_well => Some(Role::BindsAsWell),
        ("Match", "MACAddress" | "PermanentMACAddress") => Some(Role::Binds),
        ("Link" | "NetDev", "MACAddress") => Some(Role::Sets),
        // Reservations, neighbours and bridge tables speak of other machines.
        _ => None,
    })
}

fn key_file(text: &str) -> Vec<Place> {
    let named = text.lines().any(|line| key(line) == "interface-name");
    by_line(text, |section, line| match (section, key(line)) {
        // The radio is not the card that the clone was booted from.
        ("wifi" | "802-11-wireless" | "infiniband", "mac-address") => Some(Role::Sets),
        ("bridge", "mac-address") | (_, "cloned-mac-address") => Some(Role::Sets),
        (_, "mac-address") if named => Some(Role::BindsAsWell),
        (_, "mac-address") => Some(Role::Binds),
        _ => None,
    })
}

fn network_manager(line: &str) -> Option<Role> {
    let key = key(line);
    if key.ends_with("cloned-mac-address") {
        return Some(Role::Sets);
    }
    matches!(key, "no-auto-default" | "unmanaged-devices" | "match-device").then_some(Role::Binds)
}

fn ifcfg(text: &str) -> Vec<Place> {
    let has = |names: &[&str]| text.lines().any(|line| names.contains(&key(line)));
    let radio = has(&["ESSID", "WIRELESS_ESSID", "WIRELESS_MODE"]);
    let named = has(&["DEVICE", "NAME"]);
    by_line(text, |_, line| match key(line) {
        "MACADDR" | "LLADDR" => Some(Role::Sets),
        "HWADDR" if radio => Some(Role::Sets),
        "HWADDR" if named => Some(Role::BindsAsWell),
        "HWADDR" => Some(Role::Binds),
        _ => None,
    })
}

fn interfaces(line: &str) -> Option<Role> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let has = |word| line.split_whitespace().any(|found| found == word);
    match first {
        "hwaddress" | "bridge_hw" | "bridge-hw" => Some(Role::Sets),
        "up" | "pre-up" | "post-up" if (has("link") && has("address")) || has("hw") => Some(Role::Sets),
        // `map ADDRESS NAME` of a mapping script, and ifupdown's patterns (`auto /mac/ADDRESS`).
        "map" => Some(Role::Binds),
        _ if line.contains("/mac/") => Some(Role::Binds),
        _ => None,
    }
}

fn udev(line: &str) -> Option<Role> {
    let lower = line.to_ascii_lowercase();
    let names_address = [
        "attr{address}",
        "attrs{address}",
        "sysfs{address}",
        "id_net_name_mac",
    ];
    names_address
        .iter()
        .any(|key| lower.contains(key))
        .then_some(Role::Binds)
}

/// `ifname=NAME:ADDRESS` and `BOOTIF=`.
fn command_line(text: &str) -> Vec<Place> {
    let mut places = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if !is_comment(line) {
            for range in addresses(line) {
                let word = line[..range.start]
                    .rsplit(|c: char| c.is_whitespace() || matches!(c, '"' | '\''))
                    .next()
                    .unwrap_or_default();
                if word.starts_with("ifname=") || word.starts_with("BOOTIF=") || word.starts_with("rd.bootif")
                {
                    let value = start + range.start..start + range.end;
                    places.push(Place {
                        cut: value.clone(),
                        value,
                        role: Role::Binds,
                    });
                }
            }
        }
        start += line.len();
    }
    places
}
