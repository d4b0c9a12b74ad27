//! The identity of the finished clone, read from the clone itself. The server compares the identities of all
//! clones.

use std::io;

use ka_postinstall::facts::Facts;
use ka_postinstall::files::Files;
use ka_postinstall::machine_id;
use ka_report::report::{MAX_IDS, NodeIdentity};
use ka_report::ssh;

/// The directory of OpenSSH's host keys (sshd_config(5), `HostKey`).
const SSH_DIR: &str = "/etc/ssh";

/// Returns the identity by `files`, the clone's own, and by the file systems that were made. A missing part
/// is left out: a system without sshd, without machine-id or without `/etc` is no worse a clone.
///
/// # Errors
/// A file is there and cannot be read; the clone would run with another machine-id than its own.
pub(super) fn of(files: &dyn Files, facts: &Facts, made: Vec<String>) -> anyhow::Result<NodeIdentity> {
    let mut keys = Vec::new();
    let names = files.names(SSH_DIR);
    for name in names.iter().filter(|name| is_host_key(name)).take(MAX_IDS) {
        let text = files.read(&format!("{SSH_DIR}/{name}"))?.unwrap_or_default();
        keys.extend(ssh::fingerprint(&String::from_utf8_lossy(&text)));
    }
    let partitions = facts.partitions.iter().filter_map(|part| part.partuuid.clone());
    Ok(NodeIdentity {
        host_name: line_of(files, "/etc/hostname")?,
        machine_id: machine_id::prevailing(files, facts)?,
        filesystem_uuids: made,
        partition_uuids: partitions.collect(),
        ssh_host_keys: keys,
    })
}

fn is_host_key(name: &str) -> bool {
    name.starts_with("ssh_host_") && name.ends_with("_key.pub")
}

/// Returns the first line that is no comment (hostname(5)).
fn line_of(files: &dyn Files, path: &str) -> io::Result<Option<String>> {
    let text = files.read(path)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(str::trim);
    Ok(lines
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_host_keys_are_told_from_the_rest() {
        assert!(is_host_key("ssh_host_ed25519_key.pub"));
        for name in ["ssh_host_ed25519_key", "ssh_host_rsa_key-cert.pub", "sshd_config"] {
            assert!(!is_host_key(name), "{name}");
        }
    }
}
