//! DUIDs, client identifiers and leases, by which DHCP servers know a machine, and seeds. A file that a
//! system makes anew when it is missing goes; a line that sets such a value goes too.

use super::cards::address::addresses;
use super::editor::Editor;
use crate::error::PostError;
use crate::files::{Files, Kind};
use crate::plan::Plan;

const LEASE: &str = "the golden node's lease";
const DUID: &str = "the golden node's DHCP identity";
const RULES: &str = "they name the golden node's network cards";
const SEED: &str = "two machines must not begin with the same random numbers";
const CREDENTIAL_SECRET: &str = "/var/lib/systemd/credential.secret";
const ENGINE: &str = "the golden node's Docker engine is known by it";

/// Directories with files that go: how these files' names begin and end. `""` is any name.
const REMOVED: [(&str, &str, &str, &str); 29] = [
    ("/var/lib/dhcp", "", ".leases", LEASE),
    ("/var/lib/dhcp", "", ".lease", LEASE),
    ("/var/lib/dhcp3", "", ".leases", LEASE),
    ("/var/lib/dhclient", "", ".leases", LEASE),
    ("/var/lib/dhclient", "", ".lease", LEASE),
    ("/var/lib/dhcpcd", "", ".lease", LEASE),
    ("/var/lib/dhcpcd", "", ".lease6", LEASE),
    ("/var/lib/dhcpcd", "duid", "", DUID),
    ("/var/lib/dhcpcd", "secret", "", DUID),
    ("/var/lib/dhcpcd5", "", ".lease", LEASE),
    ("/var/lib/dhcpcd5", "duid", "", DUID),
    ("/var/db/dhcpcd", "", "", DUID),
    ("/var/lib/dhcpv6", "dhcp6c_duid", "", DUID),
    ("/var/db", "dhcp6c_duid", "", DUID),
    ("/var/lib/dibbler", "client-", "", DUID),
    ("/var/lib/NetworkManager", "", ".lease", LEASE),
    ("/var/lib/NetworkManager", "dhclient", "", DUID),
    ("/var/lib/NetworkManager", "secret_key", "", DUID),
    (
        "/var/lib/NetworkManager",
        "timestamps",
        "",
        "they speak of the golden node's connections",
    ),
    (
        "/var/lib/NetworkManager",
        "seen-bssids",
        "",
        "they speak of the golden node's connections",
    ),
    ("/var/lib/NetworkManager", "no-auto-default.state", "", RULES),
    ("/var/lib/systemd/network", "", "", LEASE),
    ("/var/lib/wicked", "duid", ".xml", DUID),
    ("/var/lib/wicked", "iaid", ".xml", DUID),
    ("/var/lib/wicked", "lease", ".xml", LEASE),
    ("/etc", "dhcpcd.duid", "", DUID),
    ("/etc", "dhcpcd.secret", "", DUID),
    ("/etc/docker", "key.json", "", ENGINE),
    ("/var/lib/docker", "engine-id", "", ENGINE),
];

/// Seeds of the random number generator, and secrets made from it at the first boot.
const SEEDS: [(&str, &str); 9] = [
    ("/var/lib/systemd/random-seed", SEED),
    ("/var/lib/urandom/random-seed", SEED),
    ("/var/lib/misc/random-seed", SEED),
    ("/var/lib/seedrng/seed.credit", SEED),
    ("/var/lib/random-seed", SEED),
    ("/boot/loader/random-seed", SEED),
    ("/boot/efi/loader/random-seed", SEED),
    ("/efi/loader/random-seed", SEED),
    (
        CREDENTIAL_SECRET,
        "it locks the golden node's credentials, not this machine's",
    ),
];

pub(super) fn plan(plan: &mut Plan, editor: &mut Editor<'_>) -> Result<(), PostError> {
    let files = editor.files();
    for (dir, start, end, why) in REMOVED {
        let is_one = |name: &String| match (start, end) {
            ("duid" | "secret" | "secret_key" | "timestamps" | "seen-bssids", "") => name == start,
            _ => name.starts_with(start) && name.ends_with(end),
        };
        for name in files.names(dir).into_iter().filter(is_one) {
            let path = format!("{dir}/{name}");
            if matches!(files.kind(&path), Some(Kind::File | Kind::Link)) {
                plan.remove(path, why);
            }
        }
    }
    // The rest of a generated file names unknown cards. The system makes it anew.
    for name in files.names("/etc/udev/rules.d") {
        let is_generated = name.ends_with("-persistent-net.rules") || name == "z25_persistent-net.rules";
        let path = format!("/etc/udev/rules.d/{name}");
        if is_generated && !names_one_card(editor, &path)? {
            plan.remove(path, RULES);
        }
    }
    if files.exists(CREDENTIAL_SECRET) && !files.names("/etc/credstore.encrypted").is_empty() {
        plan.warnings.push(
            "/etc/credstore.encrypted holds credentials that only the golden node can open: encrypt them anew".to_owned(),
        );
    }
    for (path, why) in SEEDS {
        if files.kind(path) == Some(Kind::File) {
            plan.remove(path, why);
        }
    }
    settings(editor)
}

/// True if all rules of a file are for one address.
fn names_one_card(editor: &mut Editor<'_>, path: &str) -> Result<bool, PostError> {
    let text = editor.text(path)?.unwrap_or_default();
    let rules = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut all = rules.flat_map(|line| addresses(line).into_iter().map(move |range| &line[range]));
    let first = all.next();
    Ok(first.is_some_and(|first| all.all(|other| other.eq_ignore_ascii_case(first))))
}

/// Changes lines that tell a DHCP server the machine's identity.
fn settings(editor: &mut Editor<'_>) -> Result<(), PostError> {
    for path in [
        "/etc/dhcp/dhclient.conf",
        "/etc/dhclient.conf",
        "/etc/dhcp3/dhclient.conf",
    ] {
        // `= hardware` and what else dhclient works out itself may stay.
        without(editor, path, |_, line| {
            let text = line.trim();
            let is_set = [
                "send dhcp-client-identifier",
                "send dhcp6.client-id",
                "supersede dhcp-client-identifier",
                "default-duid",
            ]
            .iter()
            .any(|start| text.starts_with(start));
            is_set && !text.contains("hardware") && text.ends_with(';')
        })?;
    }
    // Alone, both words mean that dhcpcd works it out itself (dhcpcd.conf(5)).
    editor.lines("/etc/dhcpcd.conf", |line| {
        let mut words = line.split_whitespace();
        let word = words.next()?;
        let value = words.next()?;
        let is_set = word == "clientid" || (word == "duid" && value.contains(':'));
        is_set.then(|| word.to_owned())
    })?;
    let files = editor.files();
    let mut networkd = vec!["/etc/systemd/networkd.conf".to_owned()];
    networkd.extend(in_dir(files, "/etc/systemd/networkd.conf.d", ".conf"));
    networkd.extend(in_dir(files, "/etc/systemd/network", ".network"));
    for name in files.names("/etc/systemd/network") {
        if name.ends_with(".network.d") {
            networkd.extend(in_dir(files, &format!("/etc/systemd/network/{name}"), ".conf"));
        }
    }
    for path in networkd {
        without(editor, &path, |section, line| {
            section.starts_with("DHCP") && key(line) == "DUIDRawData" && !line.trim().ends_with('=')
        })?;
    }
    // Words such as `mac`, `stable` and `duid` are worked out on each machine; bytes are the golden node's.
    for path in in_dir(files, "/etc/NetworkManager/system-connections", "") {
        without(editor, &path, |_, line| {
            matches!(key(line), "dhcp-client-id" | "dhcp-duid") && line.contains(':')
        })?;
    }
    for dir in ["/etc/sysconfig/network-scripts", "/etc/sysconfig/network"] {
        for path in in_dir(files, dir, "") {
            without(editor, &path, |_, line| {
                let value = line
                    .split_once('=')
                    .map_or("", |(_, value)| value.trim_matches(['"', '\'', ' ']));
                matches!(
                    key(line),
                    "DHCP_CLIENT_ID" | "DHCLIENT_CLIENT_ID" | "DHCLIENT6_CLIENT_ID" | "DHCPV6_DUID"
                ) && !value.is_empty()
            })?;
        }
    }
    let mut interfaces = in_dir(files, "/etc/network/interfaces.d", "");
    interfaces.push("/etc/network/interfaces".to_owned());
    for path in interfaces {
        without(editor, &path, |_, line| {
            matches!(
                line.split_whitespace().next(),
                Some("client" | "clientid" | "client-id")
            )
        })?;
    }
    Ok(())
}

fn in_dir(files: &dyn Files, dir: &str, ending: &str) -> Vec<String> {
    let names = files.names(dir).into_iter().filter(|name| name.ends_with(ending));
    names.map(|name| format!("{dir}/{name}")).collect()
}

fn key(line: &str) -> &str {
    line.split_once('=').map_or("", |(key, _)| key.trim())
}

/// Leaves out the lines that are meant, comments aside.
fn without(
    editor: &mut Editor<'_>,
    path: &str,
    is_meant: impl Fn(&str, &str) -> bool,
) -> Result<(), PostError> {
    let Some(old) = editor.text(path)? else {
        return Ok(());
    };
    let mut section = String::new();
    let mut changes = Vec::new();
    let mut kept = String::with_capacity(old.len());
    for line in old.split_inclusive('\n') {
        let bare = line.trim();
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        }
        if !bare.starts_with(['#', ';']) && is_meant(&section, bare) {
            changes.push(format!("{bare} left out: {DUID}"));
        } else {
            kept.push_str(line);
        }
    }
    if !changes.is_empty() {
        editor.replace(path, kept, changes);
    }
    Ok(())
}
