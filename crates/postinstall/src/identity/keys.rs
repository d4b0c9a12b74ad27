//! Host keys of SSH servers: OpenSSH's in every place that its configuration names, Dropbear's and TinySSH's,
//! also those that open a machine before its root is there. Each clone gets new ones of the same types, made
//! by the clone's own tool. Without the tool the golden ones are removed all the same.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::PostError;
use crate::facts::Facts;
use crate::files::{Files, Kind, has_program, text};
use crate::plan::Plan;

/// An RSA key of 3072 bits takes seconds on an old machine, and a minute in an emulated one.
const KEY_LIMIT: Duration = Duration::from_secs(600);
/// Making or removing a directory.
const QUICK_LIMIT: Duration = Duration::from_secs(60);
const WHY: &str = "the golden node's key";
const SSH: &str = "/etc/ssh";
/// The directories of Dropbear's keys; the others are Debian's for the initramfs, the last one of old
/// releases.
const DROPBEAR: [&str; 4] = [
    "/etc/dropbear",
    "/etc/dropbear/initramfs",
    "/etc/dropbear-initramfs",
    "/etc/initramfs-tools/etc/dropbear",
];
const TINYSSH: [&str; 2] = ["/etc/tinyssh/sshkeydir", "/etc/tinyssh"];

/// The kind of a host key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KeyType {
    /// `-t` of ssh-keygen and dropbearkey.
    name: &'static str,
    /// `-b`; none where there is only one length, or the tool's own is better.
    bits: Option<&'static str>,
}

pub(super) fn plan(plan: &mut Plan, files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    openssh(plan, files, facts)?;
    dropbear(plan, files)?;
    tinyssh(plan, files);
    Ok(())
}

/// Returns the text of each public host key that OpenSSH has. The last look over the clone must not find them
/// again.
pub(super) fn public_keys(files: &dyn Files) -> Result<Vec<String>, PostError> {
    let mut keys = Vec::new();
    for path in key_files(files)? {
        let path = format!("{path}.pub");
        let text = text(files, &path)
            .map_err(PostError::reading(&path))?
            .unwrap_or_default();
        keys.extend(text.split_whitespace().nth(1).map(str::to_owned));
    }
    Ok(keys)
}

fn openssh(plan: &mut Plan, files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    let keys = key_files(files)?;
    let can_make = has_program(files, "ssh-keygen");
    if !keys.is_empty() && !can_make {
        plan.warnings
            .push("no ssh-keygen: the golden node's SSH host keys are removed and none made".to_owned());
    }
    for path in keys {
        let made = openssh_type(files, &path)?;
        for old in [path.clone(), format!("{path}.pub"), format!("{path}-cert.pub")] {
            if files.kind(&old).is_some_and(|kind| kind != Kind::Dir) {
                plan.remove(old, WHY);
            }
        }
        match made {
            // OpenSSH 9.8 cannot make DSA keys any more, and they are not safe.
            Some(KeyType { name: "dsa", .. }) => {}
            Some(made) if can_make => make_openssh(plan, &path, made, facts),
            Some(_) => {}
            None => plan.warnings.push(format!(
                "{path}: of no type that is known: removed, and no new one made"
            )),
        }
    }
    for path in certificates(files)? {
        plan.warnings.push(format!(
            "{path}: a certificate of a golden host key: removed, the clone's keys need their own"
        ));
        plan.remove(path, WHY);
    }
    Ok(())
}

fn make_openssh(plan: &mut Plan, path: &str, made: KeyType, facts: &Facts) {
    let comment = format!("root@{}", facts.node_name);
    let mut argv = vec!["ssh-keygen", "-q", "-t", made.name];
    if let Some(bits) = made.bits {
        argv.extend(["-b", bits]);
    }
    argv.extend(["-N", "", "-C", &comment, "-f", path]);
    plan.run(
        format!("making the {} host key {path}", made.name),
        KEY_LIMIT,
        &argv,
    );
}

/// Returns the private host keys: those with the usual names, and those that sshd_config(5) names.
fn key_files(files: &dyn Files) -> Result<BTreeSet<String>, PostError> {
    let usual = files.names(SSH).into_iter();
    let usual = usual.filter(|name| name.starts_with("ssh_host_") && name.ends_with("_key"));
    let mut keys: BTreeSet<String> = usual.map(|name| format!("{SSH}/{name}")).collect();
    keys.extend(configured(files, "hostkey")?.into_iter().map(|path| {
        // A public key stands for the private one beside it, or in an agent.
        path.strip_suffix(".pub").map_or(path.clone(), ToOwned::to_owned)
    }));
    keys.retain(|path| matches!(files.kind(path), Some(Kind::File | Kind::Link)));
    Ok(keys)
}

/// Certificates that stand where a configuration says, not beside their key.
fn certificates(files: &dyn Files) -> Result<Vec<String>, PostError> {
    let keys = key_files(files)?;
    let beside = |path: &String| {
        path.strip_suffix("-cert.pub")
            .is_some_and(|key| keys.contains(key))
    };
    let mut named = configured(files, "hostcertificate")?;
    named.retain(|path| files.kind(path) == Some(Kind::File) && !beside(path));
    Ok(named)
}

/// Returns the absolute paths that a keyword of sshd_config names, in the file and those beside it.
fn configured(files: &dyn Files, keyword: &str) -> Result<Vec<String>, PostError> {
    let parts = files.names("/etc/ssh/sshd_config.d").into_iter();
    let parts = parts.filter(|name| name.ends_with(".conf"));
    let mut configs = vec!["/etc/ssh/sshd_config".to_owned()];
    configs.extend(parts.map(|name| format!("/etc/ssh/sshd_config.d/{name}")));
    let mut paths = Vec::new();
    for config in configs {
        let text = text(files, &config)
            .map_err(PostError::reading(&config))?
            .unwrap_or_default();
        for line in text.lines() {
            let mut words = line
                .split(|c: char| c.is_whitespace() || c == '=')
                .filter(|word| !word.is_empty());
            if words
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case(keyword))
                && let Some(path) = words.next().map(|path| path.trim_matches('"'))
                && path.starts_with('/')
            {
                paths.push(path.to_owned());
            }
        }
    }
    Ok(paths)
}

/// Returns the kind by the key itself: its public half, else the private file, else its name.
fn openssh_type(files: &dyn Files, path: &str) -> Result<Option<KeyType>, PostError> {
    let public = format!("{path}.pub");
    let public = text(files, &public)
        .map_err(PostError::reading(&public))?
        .unwrap_or_default();
    if let Some(found) = public.split_whitespace().next().and_then(type_of) {
        return Ok(Some(found));
    }
    let private = text(files, path)
        .map_err(PostError::reading(path))?
        .unwrap_or_default();
    let in_private = type_of_private(&private);
    let name = path.rsplit('/').next().unwrap_or_default();
    let in_name = name
        .strip_prefix("ssh_host_")
        .and_then(|name| name.strip_suffix("_key"));
    Ok(in_private.or_else(|| in_name.and_then(by_name)))
}

/// The names of RFC 4253, 5656, 8709.
fn type_of(name: &str) -> Option<KeyType> {
    let bits = |name, bits| Some(KeyType { name, bits });
    match name {
        "ssh-rsa" => bits("rsa", None),
        "ssh-ed25519" => bits("ed25519", None),
        "ecdsa-sha2-nistp256" => bits("ecdsa", Some("256")),
        "ecdsa-sha2-nistp384" => bits("ecdsa", Some("384")),
        "ecdsa-sha2-nistp521" => bits("ecdsa", Some("521")),
        "ssh-dss" => bits("dsa", None),
        _ => None,
    }
}

fn by_name(name: &str) -> Option<KeyType> {
    let name = ["rsa", "ed25519", "ecdsa", "dsa"]
        .into_iter()
        .find(|known| *known == name)?;
    Some(KeyType { name, bits: None })
}

/// PEM says the type on its first line; OpenSSH's own format (PROTOCOL.key) has the public key in it,
/// readable, which begins with the type's name.
fn type_of_private(private: &str) -> Option<KeyType> {
    for (label, name) in [("RSA", "rsa"), ("EC", "ecdsa"), ("DSA", "dsa")] {
        if private.contains(&format!("-----BEGIN {label} PRIVATE KEY-----")) {
            return by_name(name);
        }
    }
    let body: String = private
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let head = base64(body.as_bytes(), 256);
    if !head.starts_with(b"openssh-key-v1\0") {
        return None;
    }
    in_bytes(&head)
}

/// Returns the first name of a type with its length in front (RFC 4251, `string`).
fn in_bytes(bytes: &[u8]) -> Option<KeyType> {
    const NAMES: [&str; 6] = [
        "ssh-rsa",
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-dss",
    ];
    let at = |name: &&str| {
        let len = u8::try_from(name.len()).unwrap_or(0);
        let wanted = [&[0, 0, 0, len], name.as_bytes()].concat();
        bytes.windows(wanted.len()).position(|window| window == wanted)
    };
    let (_, name) = NAMES.iter().filter_map(|name| Some((at(name)?, name))).min()?;
    type_of(name)
}

/// Returns the first `most` bytes of a text in base64 (RFC 4648).
fn base64(text: &[u8], most: usize) -> Vec<u8> {
    let (mut bits, mut held, mut bytes) = (0u32, 0u32, Vec::new());
    for byte in text.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held).unwrap_or_default());
            bits &= (1 << held) - 1;
        }
        if bytes.len() >= most {
            break;
        }
    }
    bytes
}

/// A key file of Dropbear's begins with the name of its type.
fn dropbear(plan: &mut Plan, files: &dyn Files) -> Result<(), PostError> {
    let can_make = has_program(files, "dropbearkey");
    for dir in DROPBEAR {
        for name in files.names(dir) {
            let path = format!("{dir}/{name}");
            let is_key = name.starts_with("dropbear_") && name.ends_with("_host_key");
            if !is_key || files.kind(&path) == Some(Kind::Dir) {
                continue;
            }
            let head = files.read_part(&path, 0, 64).map_err(PostError::reading(&path))?;
            let named = name.trim_start_matches("dropbear_").trim_end_matches("_host_key");
            let made = in_bytes(&head.unwrap_or_default()).or_else(|| by_name(named));
            plan.remove(path.clone(), WHY);
            match made.filter(|made| can_make && made.name != "dsa") {
                Some(made) => {
                    let mut argv = vec!["dropbearkey", "-t", made.name];
                    if let Some(bits) = made.bits {
                        argv.extend(["-s", bits]);
                    }
                    argv.extend(["-f", &path]);
                    plan.run(format!("making the host key {path}"), KEY_LIMIT, &argv);
                }
                None => plan.warnings.push(format!(
                    "{path}: the golden node's Dropbear key is removed and none made"
                )),
            }
        }
    }
    Ok(())
}

/// TinySSH has a directory of keys, which its tool makes; its units do so at the boot where it is missing.
fn tinyssh(plan: &mut Plan, files: &dyn Files) {
    for dir in TINYSSH {
        let names = files.names(dir);
        let keys: Vec<&String> = names
            .iter()
            .filter(|name| name.ends_with(".pk") || name.ends_with(".sk"))
            .collect();
        if keys.is_empty() {
            continue;
        }
        for name in &keys {
            plan.remove(format!("{dir}/{name}"), WHY);
        }
        if keys.len() == names.len() && has_program(files, "tinysshd-makekey") {
            plan.run("making room for TinySSH's keys", QUICK_LIMIT, &["rmdir", dir]);
            plan.run(
                "making TinySSH's keys",
                KEY_LIMIT,
                &["tinysshd-makekey", "-q", dir],
            );
        } else {
            plan.warnings.push(format!(
                "{dir}: the golden node's TinySSH keys are removed and none made"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::facts;
    use crate::files::fixture::Texts;
    use crate::plan::fixture::commands;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== root@golden\n";

    fn planned(files: &Texts) -> Plan {
        let mut planned = Plan::default();
        plan(&mut planned, files, &facts()).unwrap();
        planned
    }

    #[test]
    fn a_keys_type_is_its_own_not_its_names() {
        let files = Texts::new(&[
            ("/usr/bin/ssh-keygen", ""),
            ("/etc/ssh/ssh_host_ed25519_old_key", "x"),
            ("/etc/ssh/ssh_host_ed25519_old_key.pub", ED25519),
            ("/etc/ssh/ssh_host_ecdsa_key", "x"),
            (
                "/etc/ssh/ssh_host_ecdsa_key.pub",
                "ecdsa-sha2-nistp384 AAAA root@golden",
            ),
            ("/etc/ssh/ssh_host_strange_key", "x"),
            (
                "/etc/ssh/ssh_host_old_key",
                "-----BEGIN RSA PRIVATE KEY-----\nMII\n",
            ),
            (
                "/etc/ssh/ssh_host_bare_key",
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACB\n",
            ),
        ]);
        let plan = planned(&files);
        let commands = commands(&plan).join("\n");
        for wanted in [
            "-t ed25519 -N  -C root@n7 -f /etc/ssh/ssh_host_ed25519_old_key",
            "-t ecdsa -b 384 -N  -C root@n7 -f /etc/ssh/ssh_host_ecdsa_key",
            "-t rsa -N  -C root@n7 -f /etc/ssh/ssh_host_old_key",
            "-t ed25519 -N  -C root@n7 -f /etc/ssh/ssh_host_bare_key",
        ] {
            assert!(commands.contains(wanted), "{wanted}:\n{commands}");
        }
        let text = plan.to_string();
        assert!(text.contains("/etc/ssh/ssh_host_strange_key removed"), "{text}");
        assert!(
            text.contains("warning: /etc/ssh/ssh_host_strange_key: of no type"),
            "{text}"
        );
        assert!(!commands.contains("strange"), "{commands}");
    }

    #[test]
    fn keys_elsewhere_and_those_of_other_servers_are_renewed_or_removed_and_named() {
        let mut files = Texts::new(&[
            ("/usr/bin/ssh-keygen", ""),
            (
                "/etc/ssh/sshd_config",
                "# HostKey /etc/none\nPort 22\nhostkey \"/srv/keys/host\"\n",
            ),
            (
                "/etc/ssh/sshd_config.d/10-ca.conf",
                "HostCertificate=/srv/keys/golden.crt\n",
            ),
            ("/srv/keys/host", "x"),
            ("/srv/keys/host.pub", ED25519),
            ("/srv/keys/golden.crt", "cert"),
            ("/etc/dropbear/initramfs/dropbear_ed25519_host_key", "x"),
            ("/etc/tinyssh/sshkeydir/ed25519.pk", "x"),
            ("/etc/tinyssh/sshkeydir/.ed25519.sk", "x"),
        ]);
        files.0.insert(
            "/etc/dropbear/dropbear_rsa_host_key".to_owned(),
            b"\0\0\0\x13ecdsa-sha2-nistp521xx".to_vec(),
        );
        let without = planned(&files).to_string();
        for wanted in [
            "-t ed25519 -N  -C root@n7 -f /srv/keys/host",
            "/srv/keys/golden.crt removed",
            "/etc/dropbear/dropbear_rsa_host_key removed",
            "warning: /etc/dropbear/initramfs/dropbear_ed25519_host_key:",
            "/etc/tinyssh/sshkeydir/.ed25519.sk removed",
            "warning: /etc/tinyssh/sshkeydir:",
        ] {
            assert!(without.contains(wanted), "{wanted}:\n{without}");
        }
        let files = files
            .with("/usr/bin/dropbearkey", "")
            .with("/usr/sbin/tinysshd-makekey", "");
        let commands = commands(&planned(&files)).join("\n");
        for wanted in [
            "dropbearkey -t ecdsa -s 521 -f /etc/dropbear/dropbear_rsa_host_key",
            "dropbearkey -t ed25519 -f /etc/dropbear/initramfs/dropbear_ed25519_host_key",
            "rmdir /etc/tinyssh/sshkeydir\ntinysshd-makekey -q /etc/tinyssh/sshkeydir",
        ] {
            assert!(commands.contains(wanted), "{wanted}:\n{commands}");
        }
    }
}
