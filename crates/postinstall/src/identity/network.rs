//! Network configuration that is bound to the golden node's cards by their hardware addresses. On another machine it
//! would be without effect, or, where it *sets* an address, put the same one twice on a network.

use crate::facts::Facts;
use crate::files::{Files, text};
use crate::plan::{Plan, PostError};

/// Directories of files with lines that bind to a card; the endings of their names, and the keys of the lines.
const BOUND: [(&str, &str, &[&str]); 6] = [
    (
        "/etc/NetworkManager/system-connections",
        "",
        &["mac-address", "cloned-mac-address"],
    ),
    ("/etc/sysconfig/network-scripts", "", &["HWADDR", "MACADDR"]),
    ("/etc/sysconfig/network", "", &["HWADDR", "MACADDR", "LLADDR"]),
    ("/etc/network", "interfaces", &["hwaddress"]),
    ("/etc/network/interfaces.d", "", &["hwaddress"]),
    ("/etc/systemd/network", ".network", &["MACAddress"]),
];
const LINKS: &str = "/etc/systemd/network";

pub(super) fn plan(plan: &mut Plan, files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    for (dir, ending, keys) in BOUND {
        for name in files.names(dir).into_iter().filter(|name| name.ends_with(ending)) {
            unbind(plan, files, &format!("{dir}/{name}"), keys)?;
        }
    }
    links(plan, files, facts)?;
    netplan(plan, files)
}

/// Takes out the lines that hold a hardware address.
fn unbind(plan: &mut Plan, files: &dyn Files, path: &str, keys: &[&str]) -> Result<(), PostError> {
    let Some(old) = text(files, path).map_err(PostError::reading(path))? else {
        return Ok(());
    };
    let binds = |line: &str| {
        let line = line.trim_start();
        let key = keys.iter().find_map(|key| line.strip_prefix(key));
        key.is_some_and(|rest| rest.starts_with(['=', ' ', '\t']) && has_address(rest))
    };
    let bound: Vec<&str> = old.lines().filter(|line| binds(line)).collect();
    if bound.is_empty() {
        return Ok(());
    }
    let changes = bound
        .iter()
        .map(|line| format!("{} left out: it names the golden node's card", line.trim()))
        .collect();
    let kept: String = old.split_inclusive('\n').filter(|line| !binds(line)).collect();
    plan.write_mode(path, kept, 0o600, changes);
    Ok(())
}

/// systemd's link files give a card its name. The one card of a golden node becomes the one we were booted from; with
/// several nobody can tell which is which.
fn links(plan: &mut Plan, files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    let mut bound = Vec::new();
    for name in files
        .names(LINKS)
        .into_iter()
        .filter(|name| name.ends_with(".link"))
    {
        let path = format!("{LINKS}/{name}");
        let text = text(files, &path)
            .map_err(PostError::reading(&path))?
            .unwrap_or_default();
        if text.lines().any(is_match_by_address) {
            bound.push((path, text));
        }
    }
    match (bound.as_slice(), &facts.mac) {
        ([(path, text)], Some(mac)) => {
            let lines: Vec<String> = text
                .lines()
                .map(|line| match line.split_once('=') {
                    Some((key, _)) if is_match_by_address(line) => format!("{key}={mac}"),
                    _ => line.to_owned(),
                })
                .collect();
            plan.write(
                path,
                format!("{}\n", lines.join("\n")),
                vec![format!("MACAddress={mac}")],
            );
        }
        (bound, _) => {
            for (path, _) in bound {
                plan.remove(path, "it names one of the golden node's cards by its address");
            }
        }
    }
    Ok(())
}

fn is_match_by_address(line: &str) -> bool {
    let key = line.split_once('=').map(|(key, _)| key.trim());
    matches!(key, Some("MACAddress" | "PermanentMACAddress")) && has_address(line)
}

/// netplan's YAML is left to people: what is bound there is said.
fn netplan(plan: &mut Plan, files: &dyn Files) -> Result<(), PostError> {
    for name in files.names("/etc/netplan") {
        let path = format!("/etc/netplan/{name}");
        let text = text(files, &path)
            .map_err(PostError::reading(&path))?
            .unwrap_or_default();
        if text
            .lines()
            .any(|line| line.trim_start().starts_with("macaddress:") && has_address(line))
        {
            plan.warnings.push(format!(
                "{path} names a card of the golden node by its address (macaddress:)"
            ));
        }
    }
    Ok(())
}

/// Six pairs of hexadecimal digits with colons or hyphens between them.
fn has_address(text: &str) -> bool {
    let is_address = |word: &str| {
        let pairs: Vec<&str> = word.split([':', '-']).collect();
        pairs.len() == 6
            && pairs
                .iter()
                .all(|pair| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    text.split(|c: char| !(c.is_ascii_hexdigit() || matches!(c, ':' | '-')))
        .any(is_address)
}

#[cfg(test)]
mod tests {
    use super::has_address;

    #[test]
    fn addresses_are_told_from_words() {
        assert!(has_address("=52:54:00:12:34:56"));
        assert!(has_address(" ether 52-54-00-ab-cd-ef;"));
        assert!(!has_address("=stable"));
        assert!(!has_address("=preserve 1:2:3:4:5:6"));
    }
}
