//! The disks that a run is about to erase, summed up for an operator who can still stop it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::report::NodePlan;
use crate::text::{count, size};

/// Most disks with contents that are named. The others are only counted.
const NAMED: usize = 8;

/// All disks of all nodes that `go` erases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasing {
    /// Number of disks.
    pub disks: usize,
    /// Total size, in bytes.
    pub bytes: u64,
    /// The disks that are not empty now.
    pub not_empty: Vec<NotEmpty>,
}

/// A disk that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotEmpty {
    /// Name of the node.
    pub node: String,
    /// Its disk, `/dev/sda`.
    pub device: String,
    /// The contents, `gpt, ntfs "Windows"`.
    pub holds: String,
}

impl Erasing {
    /// Adds the disks of one more node.
    pub fn add(&mut self, node: &str, plan: &NodePlan) {
        for disk in &plan.disks {
            self.disks += 1;
            self.bytes = self.bytes.saturating_add(disk.disk_bytes);
            if !disk.holds.is_empty() {
                self.not_empty.push(NotEmpty {
                    node: node.to_owned(),
                    device: disk.device.clone(),
                    holds: disk.holds.clone(),
                });
            }
        }
    }
}

impl fmt::Display for Erasing {
    /// Writes `3 disks, 6.0 GiB will be erased; 1 is not empty: n17 /dev/sda: gpt, ntfs "Windows"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} will be erased",
            count(self.disks, "disk"),
            size(self.bytes)
        )?;
        let held = self.not_empty.len();
        if held == 0 {
            return f.write_str("; none holds anything");
        }
        write!(f, "; {held} {} not empty: ", if held == 1 { "is" } else { "are" })?;
        let named = self.not_empty.iter().take(NAMED);
        let named: Vec<String> = named
            .map(|disk| format!("{} {}: {}", disk.node, disk.device, disk.holds))
            .collect();
        f.write_str(&named.join("; "))?;
        match held.saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::DiskPlan;

    fn plan(holds: &str) -> NodePlan {
        NodePlan {
            disks: vec![DiskPlan {
                drive: "sda".to_owned(),
                device: "/dev/sda".to_owned(),
                disk_bytes: 2 << 30,
                sector_size_bytes: 512,
                identity: String::new(),
                holds: holds.to_owned(),
            }],
            ..NodePlan::default()
        }
    }

    #[test]
    fn disks_are_counted_and_those_with_contents_named() {
        let mut erasing = Erasing::default();
        erasing.add("n1", &plan(""));
        assert_eq!(
            erasing.to_string(),
            "1 disk, 2.0 GiB will be erased; none holds anything"
        );
        erasing.add("n17", &plan("gpt, ntfs \"Windows\""));
        assert_eq!(
            erasing.to_string(),
            "2 disks, 4.0 GiB will be erased; 1 is not empty: n17 /dev/sda: gpt, ntfs \"Windows\""
        );
    }

    #[test]
    fn a_long_list_is_cut() {
        let mut erasing = Erasing::default();
        for number in 0..20 {
            erasing.add(&format!("n{number}"), &plan("mbr"));
        }
        let text = erasing.to_string();
        assert!(
            text.contains("20 are not empty") && text.ends_with("; and 12 more"),
            "{text}"
        );
    }
}
