//! Names of sessions, nodes and disks from files of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Default directory in which programs keep their data (`--state-dir`).
const STATE_DIR: &str = "/var/lib/ka";
/// Directory of disks and partitions by their kernel names, sysfs(5).
const BLOCK_DEVICES: &str = "/sys/class/block";
/// File with names of machines, hosts(5).
const HOSTS: &str = "/etc/hosts";
/// Prefix of the files in the state directory with the join code of each session. The session's name follows.
const JOIN_FILES: &str = "join-";
/// Prefix of the files in the state directory with the nodes of a session's node list, one name a line.
const NODE_FILES: &str = "nodes-";
/// Devices that are not disks to clone. They hold no partitions, or are made of other devices.
const NO_DISKS: [&str; 8] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"];

/// Kinds of values that files of this machine list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sessions that a server on this machine has or had.
    Sessions,
    /// Names of nodes.
    Nodes,
    /// Disks by their kernel names.
    Drives,
    /// Partitions by their kernel names.
    Partitions,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Sessions, Self::Nodes, Self::Drives, Self::Partitions];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Nodes => "nodes",
            Self::Drives => "drives",
            Self::Partitions => "partitions",
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the names of such values in the help.
    pub(super) const fn values(self) -> &'static [&'static str] {
        match self {
            Self::Sessions => &["SESSION"],
            Self::Nodes => &["NODE"],
            Self::Drives => &["DRIVE", "DRIVES", "DISK"],
            Self::Partitions => &["PART"],
        }
    }

    pub(super) fn of_value(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.values().contains(&name))
    }

    /// Returns the candidates, sorted. `typed` is the command line so far.
    pub(super) fn candidates(self, typed: &[String]) -> Vec<String> {
        let state_dir = state_dir(typed);
        let found = match self {
            Self::Sessions => files_of(&state_dir, JOIN_FILES)
                .map(|(session, _)| decoded(&session))
                .collect(),
            Self::Nodes => nodes(&state_dir, Path::new(HOSTS)),
            Self::Drives => block_devices(Path::new(BLOCK_DEVICES), false),
            Self::Partitions => block_devices(Path::new(BLOCK_DEVICES), true),
        };
        // A shell splits its candidates at blanks, and may expand the rest.
        let is_word = |word: &String| {
            !word.is_empty()
                && word
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.:@+".contains(c))
        };
        found.into_iter().filter(is_word).collect()
    }
}

/// Returns the value of `--state-dir` on the command line.
fn state_dir(typed: &[String]) -> PathBuf {
    let option = "--state-dir";
    let mut words = typed.iter();
    while let Some(word) = words.next() {
        let value = match word.strip_prefix(option) {
            // bash passes `--state-dir=DIR` on as three words.
            Some("") => words.find(|word| *word != "=").map(String::as_str),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        if let Some(value) = value {
            return value.into();
        }
    }
    STATE_DIR.into()
}

/// Returns the files of a directory whose names have this prefix, each with the rest of its name.
fn files_of(dir: &Path, prefix: &'static str) -> impl Iterator<Item = (String, PathBuf)> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(move |file| {
        let name = file.file_name().into_string().ok()?;
        Some((name.strip_prefix(prefix)?.to_owned(), file.path()))
    })
}

/// Decodes a session's name. In file names every byte but letters, digits, `-` and `_` is `%` and two
/// hexadecimal digits.
fn decoded(name: &str) -> String {
    let mut parts = name.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[2..]);
            }
            None => return name.to_owned(),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn nodes(state_dir: &Path, hosts: &Path) -> BTreeSet<String> {
    let lists = files_of(state_dir, NODE_FILES).filter_map(|(_, path)| fs::read_to_string(path).ok());
    let listed: Vec<String> = lists.collect();
    let listed = listed.iter().flat_map(|list| list.lines()).map(str::to_owned);
    let hosts = fs::read_to_string(hosts).unwrap_or_default();
    let lines = hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let named = lines.flat_map(|line| line.split_whitespace().skip(1));
    let named = named.filter(|name| !name.starts_with("localhost") && !name.starts_with("ip6-"));
    listed.chain(named.map(str::to_owned)).collect()
}

fn block_devices(dir: &Path, partitions: bool) -> BTreeSet<String> {
    let is_wanted = |name: &str, path: &Path| {
        path.join("partition").exists() == partitions && !NO_DISKS.iter().any(|other| name.starts_with(other))
    };
    let devices = files_of(dir, "").filter(|(name, path)| is_wanted(name, path));
    devices.map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Kind, block_devices, decoded, nodes, state_dir};

    fn typed(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn sessions_are_those_of_the_state_directory_that_was_typed() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "join-kainstall",
            "join-room7",
            "join-a%2Eb",
            "join-room%2012",
            "other",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        for line in [
            format!("ka-server --state-dir {} -s", dir.path().display()),
            format!("ka-server --state-dir={} -s", dir.path().display()),
            format!("ka-server --state-dir = {} -s", dir.path().display()),
        ] {
            let found = Kind::Sessions.candidates(&typed(&line));
            assert_eq!(found, ["a.b", "kainstall", "room7"], "{line}");
        }
        assert_eq!(state_dir(&typed("ka-server -s")).to_str(), Some("/var/lib/ka"));
        let nowhere = typed("ka-server --state-dir /no/such -s");
        assert!(Kind::Sessions.candidates(&nowhere).is_empty());
    }

    #[test]
    fn names_of_files_are_read_back() {
        for (file, name) in [("room%2012", "room 12"), ("100%", "100%"), ("a%zz", "a%zz")] {
            assert_eq!(decoded(file), name);
        }
    }

    #[test]
    fn nodes_are_those_of_node_lists_and_of_the_hosts_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("nodes-kainstall"), "n1\nn2\n").unwrap();
        let hosts = dir.path().join("hosts");
        fs::write(
            &hosts,
            "127.0.0.1 localhost\n::1 ip6-loopback\n10.0.0.3 n3 n3.lab # of the lab\n# 10.0.0.4 n4\n",
        )
        .unwrap();
        let found: Vec<String> = nodes(dir.path(), &hosts).into_iter().collect();
        assert_eq!(found, ["n1", "n2", "n3", "n3.lab"]);
    }

    #[test]
    fn drives_and_partitions_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["sda", "sda1", "nvme0n1", "loop3", "dm-0", "sr0"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("sda1/partition"), "1\n").unwrap();
        let found = |partitions| {
            block_devices(dir.path(), partitions)
                .into_iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(found(false), ["nvme0n1", "sda"]);
        assert_eq!(found(true), ["sda1"]);
    }
}
