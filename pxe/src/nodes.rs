//! The node list: one line for each machine, `MAC NAME [ADDRESS] [disk=DRIVE=DEVICE]…`.
//!
//! A line `[GROUP]` begins a group of machines, which stand together in the chain. Blank lines and text behind a `#`
//! are skipped. Listing a machine arms it ([`crate::arming`]) and gives it
//! its name, and in `full` DHCP mode its address.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::path::Path;

use ka_mac::MacAddr;
use ka_proto::order::group_line;
use ka_proto::{NodeName, PlaceName};

use crate::error::{NodesError, PxeError};
use crate::faults::Faults;

/// Largest file read, in bytes: more than a hundred thousand nodes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Largest number of faults of one file that are reported in full.
pub const MAX_FAULTS: usize = 20;

/// One machine of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// MAC address of the card that it boots from.
    pub mac: MacAddr,
    /// Host name.
    pub name: String,
    /// Fixed IPv4 address.
    pub address: Option<Ipv4Addr>,
    /// The operator's group of nodes on one switch, in which it stands.
    pub group: Option<PlaceName>,
    /// Pairs of a drive of the golden node and the disk that takes it: (`sda`, `nvme0n1`).
    pub disks: Vec<(String, String)>,
}

/// Reads a node list.
///
/// # Errors
/// Fails if the file cannot be read, lines are malformed, or two lines claim the same MAC, name or address.
/// All faults are reported, one line each, up to [`MAX_FAULTS`].
pub fn parse(path: &Path) -> Result<Vec<NodeEntry>, Faults> {
    let failed = |source| {
        PxeError::from(NodesError::Read {
            path: path.to_owned(),
            source,
        })
    };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let read = file
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(failed(io::Error::other("larger than 16 MiB: this is no node list")).into());
    }
    let (nodes, found) = parse_text(&text);
    let fault = |line, text| {
        PxeError::from(NodesError::Line {
            path: path.to_owned(),
            line,
            text,
        })
    };
    let more = found.len().saturating_sub(MAX_FAULTS);
    let mut found = found.into_iter();
    let mut faults: Vec<PxeError> = found
        .by_ref()
        .take(MAX_FAULTS)
        .map(|(line, text)| fault(line, text))
        .collect();
    if let Some((line, _)) = found.next() {
        faults.push(fault(line, format!("here and below are {more} more faults")));
    }
    Faults::unless(faults, nodes)
}

/// Words of the node list for the machine's kernel command line: `ka.name=` and `ka.disk=`.
#[must_use]
pub fn command_line(node: &NodeEntry) -> String {
    let mut words = format!("ka.name={}", node.name);
    for (drive, device) in &node.disks {
        // Writing to a String cannot fail.
        let _ = write!(words, " ka.disk={drive}={device}");
    }
    words
}

/// Parses the text. Returns the machines, and each fault with its line (from 1).
fn parse_text(text: &str) -> (Vec<NodeEntry>, Vec<(usize, String)>) {
    let mut nodes: Vec<NodeEntry> = Vec::new();
    let mut faults = Vec::new();
    let mut claimed = BTreeMap::new();
    let mut group: Option<PlaceName> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let mut fault = |text: String| faults.push((number, text));
        let (mac, mut node) = match group_line(line) {
            None => parse_line(line, &mut fault),
            Some(named) => {
                group = named.map_err(&mut fault).ok();
                (None, None)
            }
        };
        if let Some(node) = &mut node {
            node.group.clone_from(&group);
        }
        let name = node.as_ref().map(|node| node.name.to_lowercase());
        let address = node.as_ref().and_then(|node| node.address);
        let claims = [
            mac.map(|mac| mac.to_string()),
            name,
            address.map(|address| address.to_string()),
        ];
        for claim in claims.into_iter().flatten() {
            match claimed.entry(claim) {
                Entry::Vacant(free) => {
                    free.insert(number);
                }
                Entry::Occupied(taken) => {
                    fault(format!("{} is already on line {}", taken.key(), taken.get()))
                }
            }
        }
        nodes.extend(node);
    }
    (nodes, faults)
}

/// Parses the machine of a line, as far as possible. Reports each wrong word to `fault`.
fn parse_line(line: &str, fault: &mut impl FnMut(String)) -> (Option<MacAddr>, Option<NodeEntry>) {
    if line
        .split_once(',')
        .is_some_and(|(first, _)| first.trim().parse::<MacAddr>().is_ok())
    {
        fault(
            "fields are separated by blanks, not commas: MAC NAME [ADDRESS] [disk=DRIVE=DEVICE]".to_owned(),
        );
        return (None, None);
    }
    let mut words = line.split_whitespace();
    let mac = words.next().unwrap_or_default().parse::<MacAddr>();
    let mac = match mac {
        Ok(mac) if mac.is_unicast() => Some(mac),
        Ok(mac) => {
            fault(format!("{mac} is no network card's address"));
            None
        }
        Err(error) => {
            fault(error.to_string());
            // The rest may be anything. Most likely this is no line of a node list at all.
            return (None, None);
        }
    };
    let Some(name) = words.next() else {
        fault("the name is missing: MAC NAME [ADDRESS] [disk=DRIVE=DEVICE]".to_owned());
        return (mac, None);
    };
    // The name goes into a kernel command line and a DHCP option unquoted, and the node joins under it.
    if let Err(error) = NodeName::new(name) {
        fault(error.to_string());
    }
    let (mut address, mut disks) = (None, Vec::new());
    for word in words {
        if let Some(pair) = word.strip_prefix("disk=") {
            match parse_disk(word, pair).and_then(|disk| check_against(&disks, &disk).map(|()| disk)) {
                Ok(disk) => disks.push(disk),
                Err(text) => fault(text),
            }
        } else if let Ok(given) = word.parse::<Ipv4Addr>() {
            if address.replace(given).is_some() {
                fault(format!("`{word}` is a second address"));
            }
        } else {
            fault(format!(
                "`{word}` is neither an IPv4 address nor disk=DRIVE=DEVICE"
            ));
        }
    }
    let node = mac.map(|mac| NodeEntry {
        mac,
        name: name.to_owned(),
        address,
        group: None,
        disks,
    });
    (mac, node)
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

/// Checks that a drive has one disk and a disk has one drive. The node would refuse anything else, but only
/// after it has booted.
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
        let (nodes, faults) = parse_text(LIST);
        assert_eq!(faults, []);
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
    fn machines_below_a_group_line_are_of_that_group() {
        let text = "52:54:00:00:00:01 n1\n[rack 1]  # left\n52:54:00:00:00:02 n2\n\n[rack 2]\n52:54:00:00:00:03 n3\n";
        let (nodes, faults) = parse_text(text);
        assert_eq!(faults, []);
        let groups = nodes
            .iter()
            .map(|node| node.group.as_ref().map(PlaceName::as_str));
        assert_eq!(groups.collect::<Vec<_>>(), [None, Some("rack 1"), Some("rack 2")]);
        let (_, faults) = parse_text("[a]\n[b\n52:54:00:00:00:01 n1\n[ ]\n");
        let lines: Vec<usize> = faults.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 4], "{faults:?}");
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number() {
        for (line, part) in [
            ("52:54:00:00:00", "no MAC address"),
            ("ff:ff:ff:ff:ff:ff all", "no network card's address"),
            ("52:54:00:00:00:09", "name is missing"),
            ("52:54:00:00:00:09 a_b", "no host name"),
            ("52:54:00:00:00:09,n1,10.1.0.1", "separated by blanks, not commas"),
            (
                "52:54:00:00:00:09, n1, 10.1.0.1",
                "separated by blanks, not commas",
            ),
            ("5254.0000.0001 again", "52:54:00:00:00:01 is already on line 2"),
            ("525400000003 again", "52:54:00:00:00:03 is already on line 5"),
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
            let (_, faults) = parse_text(&format!("{LIST}{line}\n"));
            let [(number, text)] = &faults[..] else {
                panic!("{line}: {faults:?}")
            };
            assert_eq!(*number, 6, "{line}");
            assert!(text.contains(part), "{line}: {text}");
        }
    }

    #[test]
    fn every_wrong_word_of_every_line_is_told_with_its_line() {
        let text = "52:54:00:00:00:01 a_b 10.0.0 disk=sda\nnonsense\n\n52:54:00:00:00:01 ok\n52:54:00:00:00:02 OK 10.0.0.1\n\
                    52:54:00:00:00:03 n3 10.0.0.1 10.0.0.2\n";
        let (_, faults) = parse_text(text);
        let told: Vec<(usize, &str)> = faults.iter().map(|(line, text)| (*line, text.as_str())).collect();
        for (line, part) in [
            (1, "a_b"),
            (1, "`10.0.0` is neither"),
            (1, "`disk=sda` is not"),
            (2, "no MAC address"),
            (4, "52:54:00:00:00:01 is already on line 1"),
            (5, "ok is already on line 4"),
            (6, "`10.0.0.2` is a second address"),
        ] {
            assert!(
                told.iter().any(|(at, text)| *at == line && text.contains(part)),
                "{line} {part}: {told:#?}"
            );
        }
        assert_eq!(told.len(), 7, "{told:#?}");
    }

    #[test]
    fn a_file_that_is_no_list_at_all_is_not_told_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nodes");
        std::fs::write(&path, "nonsense\n".repeat(1000)).unwrap();
        let said = parse(&path).unwrap_err().to_string();
        assert_eq!(said.lines().count(), MAX_FAULTS + 1, "{said}");
        let last = said.lines().last().unwrap();
        assert!(
            last.ends_with(":21: here and below are 980 more faults"),
            "{last}"
        );
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
