//! The list of nodes: one line a machine, `MAC NAME [ADDRESS] [disk=DRIVE=DEVICE]…`.
//!
//! Blank lines and what follows a `#` are skipped. Listing a machine arms it ([`crate::arming`]), gives it its name, and
//! in `full` DHCP mode its address.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ka_proto::NodeName;

use crate::machine::MacAddr;

/// Largest file read, in bytes: more than a hundred thousand nodes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// One machine of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// The card it boots from.
    pub mac: MacAddr,
    /// Its host name.
    pub name: String,
    /// Its fixed address.
    pub address: Option<Ipv4Addr>,
    /// Which of its disks takes which of the golden node's drives: (`sda`, `nvme0n1`).
    pub disks: Vec<(String, String)>,
}

/// What is wrong with a list of nodes.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// The file cannot be read.
    #[error("reading the node list {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{path}:{line}: {text}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and how it should be.
        text: String,
    },
}

/// Reads a list of nodes.
///
/// # Errors
/// The file cannot be read, a line is malformed, or two lines claim the same MAC, name or address.
pub fn parse(path: &Path) -> Result<Vec<NodeEntry>, NodesError> {
    let failed = |source| NodesError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let read = file
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(failed(io::Error::other(
            "larger than 16 MiB: this is no node list",
        )));
    }
    parse_text(&text).map_err(|(line, text)| NodesError::Line {
        path: path.to_owned(),
        line,
        text,
    })
}

/// The node list's own words on a kernel command line: `ka.name=` and `ka.disk=`.
#[must_use]
pub fn command_line(node: &NodeEntry) -> String {
    let mut words = format!("ka.name={}", node.name);
    for (drive, device) in &node.disks {
        // Writing to a String cannot fail.
        let _ = write!(words, " ka.disk={drive}={device}");
    }
    words
}

fn parse_text(text: &str) -> Result<Vec<NodeEntry>, (usize, String)> {
    let mut nodes: Vec<NodeEntry> = Vec::new();
    let mut claimed = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let node = parse_line(line).map_err(|text| (number, text))?;
        let address = node.address.map(|address| address.to_string());
        let claims = [
            Some(node.mac.to_string()),
            Some(node.name.to_lowercase()),
            address,
        ];
        for claim in claims.into_iter().flatten() {
            if let Some(first) = claimed.insert(claim.clone(), number) {
                return Err((number, format!("{claim} is already on line {first}")));
            }
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn parse_line(line: &str) -> Result<NodeEntry, String> {
    let mut words = line.split_whitespace();
    let mac: MacAddr = words
        .next()
        .unwrap_or_default()
        .parse()
        .map_err(|err: crate::machine::BadMac| err.to_string())?;
    if !mac.is_unicast() {
        return Err(format!("{mac} is no network card's address"));
    }
    let name = words
        .next()
        .ok_or("the name is missing: MAC NAME [ADDRESS] [disk=DRIVE=DEVICE]")?;
    // It goes into a kernel command line and a DHCP option unquoted, and the node joins under it.
    NodeName::new(name).map_err(|error| error.to_string())?;
    let mut node = NodeEntry {
        mac,
        name: name.to_owned(),
        address: None,
        disks: Vec::new(),
    };
    for word in words {
        if let Some(pair) = word.strip_prefix("disk=") {
            let disk = parse_disk(word, pair)?;
            check_against(&node.disks, &disk)?;
            node.disks.push(disk);
        } else if let Ok(address) = word.parse::<Ipv4Addr>() {
            if node.address.replace(address).is_some() {
                return Err(format!("`{word}` is a second address"));
            }
        } else {
            return Err(format!(
                "`{word}` is neither an IPv4 address nor disk=DRIVE=DEVICE"
            ));
        }
    }
    Ok(node)
}

fn parse_disk(word: &str, pair: &str) -> Result<(String, String), String> {
    let plain = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/_-.:+,@".contains(&b))
    };
    match pair.split_once('=') {
        Some((drive, device)) if plain(drive) && plain(device) => Ok((drive.to_owned(), device.to_owned())),
        _ => Err(format!(
            "`{word}` is not disk=DRIVE=DEVICE, as disk=sda=/dev/nvme0n1"
        )),
    }
}

/// One disk for a drive, and one drive for a disk: the node would refuse anything else when it is already there.
fn check_against(before: &[(String, String)], (drive, device): &(String, String)) -> Result<(), String> {
    for (other_drive, other) in before {
        if other_drive == drive && other != device {
            return Err(format!(
                "`disk={drive}=` names two disks: {other} and {device}; give one"
            ));
        }
        if other_drive != drive && other == device {
            return Err(format!(
                "`disk=` gives {device} to two drives, {other_drive} and {drive}: each needs a disk of its own"
            ));
        }
    }
    Ok(())
}
#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
# machine room 2
52:54:00:00:00:01 node1
52-54-00-00-00-02 node2 10.0.0.12   # by the door

52:54:00:00:00:03 node3.lab 10.0.0.13 disk=sda=/dev/nvme0n1 disk=sdb=/dev/sda
";

    #[test]
    fn a_list_is_read_line_by_line() {
        let nodes = parse_text(LIST).unwrap();
        assert_eq!(nodes.len(), 3);
        assert_eq!(nodes[0].name, "node1");
        assert_eq!(nodes[0].address, None);
        assert_eq!(nodes[1].mac.to_string(), "52:54:00:00:00:02");
        assert_eq!(nodes[1].address, Some(Ipv4Addr::new(10, 0, 0, 12)));
        assert_eq!(
            command_line(&nodes[2]),
            "ka.name=node3.lab ka.disk=sda=/dev/nvme0n1 ka.disk=sdb=/dev/sda"
        );
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number() {
        for (line, part) in [
            ("52:54:00:00:00", "no MAC address"),
            ("ff:ff:ff:ff:ff:ff all", "no network card's address"),
            ("52:54:00:00:00:09", "name is missing"),
            ("52:54:00:00:00:09 a_b", "no host name"),
            ("52:54:00:00:00:09 -a", "no host name"),
            ("52:54:00:00:00:09 10.0.0.9", "no host name"),
            ("52:54:00:00:00:09 a$(id)", "no host name"),
            ("52:54:00:00:00:09 a 10.0.0", "neither an IPv4 address"),
            ("52:54:00:00:00:09 a 10.0.0.1 10.0.0.2", "second address"),
            ("52:54:00:00:00:09 a disk=sda", "disk=DRIVE=DEVICE"),
            ("52:54:00:00:00:09 a disk=sda=$(x)", "disk=DRIVE=DEVICE"),
            (
                "52:54:00:00:00:09 a disk=sda=/dev/x disk=sda=/dev/y",
                "names two disks: /dev/x and /dev/y",
            ),
            (
                "52:54:00:00:00:09 a disk=sda=/dev/x disk=sdb=/dev/x",
                "to two drives, sda and sdb",
            ),
            (
                "52:54:00:00:00:01 other",
                "52:54:00:00:00:01 is already on line 2",
            ),
            ("52:54:00:00:00:09 NODE1", "node1 is already on line 2"),
            ("52:54:00:00:00:09 a 10.0.0.13", "10.0.0.13 is already on line 5"),
        ] {
            let (number, text) = parse_text(&format!("{LIST}{line}\n")).unwrap_err();
            assert_eq!(number, 6, "{line}");
            assert!(text.contains(part), "{line}: {text}");
        }
    }

    #[test]
    fn a_fault_in_a_file_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nodes");
        std::fs::write(&path, "nonsense\n").unwrap();
        let said = parse(&path).unwrap_err().to_string();
        assert!(
            said.starts_with(&format!("{}:1: `nonsense`", path.display())),
            "{said}"
        );
        assert!(parse(&dir.path().join("none")).is_err());
    }
}
