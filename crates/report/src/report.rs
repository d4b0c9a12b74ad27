//! The plan of a node before the start ([`NodePlan`]) and its report at the end ([`NodeReport`]).
//!
//! Both travel as JSON in opaque payloads. The server compares [`StreamReport::digest`] with the golden
//! node's.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use ka_proto::text::printable;

use crate::event::Step;
use crate::text::{seconds, size};

/// Longest plan or report on the wire, in bytes. A few hundred warnings and partitions fit, a flood does not.
pub const MAX_REPORT_BYTES: usize = 1 << 20;

/// Most problems that a stream report names. The others are only counted.
pub const MAX_NAMED_PROBLEMS: usize = 100;

/// Most changes that a report names. The log in the clone has them all.
pub const MAX_CHANGES: usize = 500;

/// A BLAKE3 digest of 32 bytes. It is hexadecimal in JSON and for users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

/// The plan of a node, sent with `Prepared` before anything is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// The disk chosen for each golden drive. Empty in the generic mode.
    pub disks: Vec<DiskPlan>,
    /// The actions in order, one line each, as `ka-client --dry-run` prints them.
    #[serde(default)]
    pub actions: Vec<String>,
    /// Warnings for the operator before the start.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The disk of a node that takes a golden drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPlan {
    /// Golden drive name, `sda`.
    pub drive: String,
    /// The node's disk, `/dev/nvme0n1`.
    pub device: String,
    /// Size of that disk, in bytes.
    pub disk_bytes: u64,
    /// Its logical sector size, in bytes.
    pub sector_size_bytes: u32,
    /// Model and serial number, if the kernel knows them.
    #[serde(default)]
    pub identity: String,
    /// The contents before the run, `gpt, ext4 "root"`. Empty for an empty disk.
    #[serde(default)]
    pub holds: String,
}

/// The report of a node, sent once at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The disks that were written.
    pub disks: Vec<DiskPlan>,
    /// One entry for each stream received, in order.
    pub streams: Vec<StreamReport>,
    /// The steps with their durations.
    pub steps: Vec<StepReport>,
    /// Warnings for the operator. The clone is good in spite of them.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Differences from the golden node's files, one line each, at most [`MAX_CHANGES`].
    #[serde(default)]
    pub changes: Vec<String>,
    /// Peak memory of the client, in bytes (`ru_maxrss`). 0 if unknown.
    #[serde(default)]
    pub peak_memory_bytes: u64,
    /// Result of reading back the clone from its disk. `None` in the generic mode.
    #[serde(default)]
    pub read_back: Option<Box<ReadBackReport>>,
    /// Identity that tells this clone from the others. `None` in the generic mode.
    #[serde(default)]
    pub identity: Option<Box<NodeIdentity>>,
    /// True if the clone has a beacon for its first boot. Then nothing else proves that boot.
    #[serde(default)]
    pub beacon: bool,
}

/// The result of reading back the written data (`--verify`). A difference is a failure, which needs no
/// report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "read_back", rename_all = "kebab-case")]
pub enum ReadBackReport {
    /// All data is as it was written.
    Done {
        /// Number of tree entries other than directories.
        files: u64,
        /// Content read, in bytes, partitions included.
        bytes: u64,
        /// Number of entries whose metadata the file system cannot hold in full. Only kind, size and content
        /// were compared.
        content_only: u64,
        /// Duration, unmounting and mounting included, in milliseconds.
        took_ms: u64,
    },
    /// The data was not read back.
    Skipped {
        /// The reason, and what to do about it.
        reason: String,
    },
}

/// The values on the clone's disk that no two machines may share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// Name in `/etc/hostname`.
    pub host_name: Option<String>,
    /// Content of `/etc/machine-id`.
    pub machine_id: Option<String>,
    /// UUIDs of the file systems and swap areas that the node has made. Raw copies of partitions keep theirs
    /// and are left out.
    pub filesystem_uuids: Vec<String>,
    /// UUIDs of its partitions.
    pub partition_uuids: Vec<String>,
    /// Fingerprints of its SSH host keys, as `ssh-keygen -l` shows them.
    pub ssh_host_keys: Vec<String>,
}

/// Most ids of one kind that a report names. No machine has that many partitions or keys.
pub const MAX_IDS: usize = 256;

/// One received stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// The stream's name, `kainstall2`.
    pub name: String,
    /// Number of files restored. 0 for a raw partition or a command.
    pub files: u64,
    /// Content restored, in bytes. This is not the size of the stream.
    pub bytes: u64,
    /// Digest of the tree or the raw partition. `None` for a command.
    pub digest: Option<Digest>,
    /// Entries that could not be restored exactly, such as an attribute that this file system has no room
    /// for. At most [`MAX_NAMED_PROBLEMS`] are named.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Number of all problems, named or not.
    #[serde(default)]
    pub problem_count: u64,
}

/// One step and its duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step of the node.
    pub step: Step,
    /// Duration of the step, in milliseconds.
    pub took_ms: u64,
}

/// The reason why a plan or a report was refused.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The payload is longer than [`MAX_REPORT_BYTES`].
    #[error("{what} of {bytes} bytes is longer than the {MAX_REPORT_BYTES} allowed")]
    TooLong {
        /// "plan" or "report".
        what: &'static str,
        /// Length of the payload, in bytes.
        bytes: usize,
    },
    /// The payload is not the JSON of a plan or report.
    #[error("{what} is not readable: {source}")]
    Malformed {
        /// "plan" or "report".
        what: &'static str,
        /// The error of the JSON reader.
        source: serde_json::Error,
    },
}

impl NodePlan {
    /// Encodes the plan as JSON.
    pub fn encode(&self) -> Vec<u8> {
        // Strings, numbers and lists always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a plan that came from a node. Its texts are made safe for a terminal.
    ///
    /// # Errors
    /// The payload is too long or malformed.
    pub fn decode(payload: &[u8]) -> Result<Self, ReportError> {
        let mut plan: Self = decode("plan", payload)?;
        for text in plan.actions.iter_mut().chain(&mut plan.warnings) {
            *text = printable(text);
        }
        plan.disks.iter_mut().for_each(DiskPlan::make_printable);
        Ok(plan)
    }
}

impl NodeReport {
    /// Encodes the report as JSON.
    pub fn encode(&self) -> Vec<u8> {
        // Strings, numbers and lists always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a report that came from a node. Its texts are made safe for a terminal.
    ///
    /// # Errors
    /// The payload is too long or malformed.
    pub fn decode(payload: &[u8]) -> Result<Self, ReportError> {
        let mut report: Self = decode("report", payload)?;
        report.changes.truncate(MAX_CHANGES);
        for text in report.warnings.iter_mut().chain(&mut report.changes) {
            *text = printable(text);
        }
        report.disks.iter_mut().for_each(DiskPlan::make_printable);
        if let Some(ReadBackReport::Skipped { reason }) = report.read_back.as_deref_mut() {
            *reason = printable(reason);
        }
        if let Some(identity) = &mut report.identity {
            identity.make_printable();
        }
        for stream in &mut report.streams {
            stream.name = printable(&stream.name);
            stream.problems.truncate(MAX_NAMED_PROBLEMS);
            for text in &mut stream.problems {
                *text = printable(text);
            }
        }
        Ok(report)
    }

    /// Returns the report of the stream with this name.
    pub fn stream(&self, name: &str) -> Option<&StreamReport> {
        self.streams.iter().find(|stream| stream.name == name)
    }
}

impl NodeIdentity {
    fn make_printable(&mut self) {
        for list in [
            &mut self.filesystem_uuids,
            &mut self.partition_uuids,
            &mut self.ssh_host_keys,
        ] {
            list.truncate(MAX_IDS);
            list.iter_mut().for_each(|text| *text = printable(text));
        }
        for text in [&mut self.host_name, &mut self.machine_id].into_iter().flatten() {
            *text = printable(text);
        }
    }
}

impl fmt::Display for ReadBackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done {
                files,
                bytes,
                content_only,
                took_ms,
            } => {
                let took = seconds(Duration::from_millis(*took_ms));
                write!(f, "read back: {files} files, {} in {took} s", size(*bytes))?;
                match content_only {
                    0 => Ok(()),
                    some => write!(f, ", {some} of them by content only"),
                }
            }
            Self::Skipped { reason } => write!(f, "not read back: {reason}"),
        }
    }
}

impl DiskPlan {
    fn make_printable(&mut self) {
        for text in [
            &mut self.drive,
            &mut self.device,
            &mut self.identity,
            &mut self.holds,
        ] {
            *text = printable(text);
        }
    }
}

impl Digest {
    /// Returns the first eight hexadecimal digits, which are enough to compare two lines by eye.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The error of a text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct DigestError;

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(DigestError);
        }
        let mut digest = [0; 32];
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| DigestError)?;
        }
        Ok(Self(digest))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

fn decode<T: for<'de> Deserialize<'de>>(what: &'static str, payload: &[u8]) -> Result<T, ReportError> {
    if payload.len() > MAX_REPORT_BYTES {
        return Err(ReportError::TooLong {
            what,
            bytes: payload.len(),
        });
    }
    serde_json::from_slice(payload).map_err(|source| ReportError::Malformed { what, source })
}

#[cfg(test)]
mod tests {
    use super::{
        Digest, DiskPlan, MAX_IDS, MAX_REPORT_BYTES, NodeIdentity, NodePlan, NodeReport, ReadBackReport,
        StepReport, StreamReport,
    };
    use crate::event::Step;

    fn report() -> NodeReport {
        NodeReport {
            beacon: true,
            disks: vec![DiskPlan {
                drive: "sda".into(),
                device: "/dev/loop3".into(),
                disk_bytes: 4 << 30,
                sector_size_bytes: 4096,
                identity: String::new(),
                holds: "ext4 \u{1b}[2J".into(),
            }],
            streams: vec![StreamReport {
                name: "kainstall2".into(),
                files: 3,
                bytes: 9,
                digest: Some(Digest([0xab; 32])),
                problems: vec!["/a\u{7}: no room for user.x".into()],
                problem_count: 1,
            }],
            steps: vec![StepReport {
                step: Step::Format,
                took_ms: 12,
            }],
            warnings: vec![],
            changes: vec!["/etc/hostname: golden becomes \u{1b}n7".into()],
            peak_memory_bytes: 1 << 20,
            read_back: Some(Box::new(ReadBackReport::Skipped {
                reason: "a\u{1b}b".into(),
            })),
            identity: Some(Box::new(NodeIdentity {
                host_name: Some("n\u{7}7".into()),
                ssh_host_keys: vec!["SHA256:x".into(); MAX_IDS + 1],
                ..NodeIdentity::default()
            })),
        }
    }

    #[test]
    fn a_report_comes_back_with_its_texts_made_safe() {
        let back = NodeReport::decode(&report().encode()).unwrap();
        assert_eq!(back.streams[0].problems[0], "/a?: no room for user.x");
        assert_eq!(back.changes, ["/etc/hostname: golden becomes ?n7"]);
        assert_eq!(
            back.stream("kainstall2").and_then(|stream| stream.digest),
            Some(Digest([0xab; 32]))
        );
        assert_eq!(back.disks[0].holds, "ext4 ?[2J");
        assert_eq!(back.disks[0].device, report().disks[0].device);
        assert_eq!(back.read_back.unwrap().to_string(), "not read back: a?b");
        let identity = back.identity.unwrap();
        assert_eq!(identity.host_name.as_deref(), Some("n?7"));
        assert_eq!(identity.ssh_host_keys.len(), MAX_IDS);
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits_and_nothing_else() {
        let text = "ab".repeat(32);
        assert_eq!(text.parse(), Ok(Digest([0xab; 32])));
        for wrong in [&text[1..], "", &"zz".repeat(32), &format!("+{}", &text[1..])] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn truncated_and_oversized_payloads_are_refused() {
        let good = report().encode();
        for len in 0..good.len() {
            assert!(NodeReport::decode(&good[..len]).is_err(), "{len} bytes");
        }
        assert!(NodePlan::decode(&vec![b' '; MAX_REPORT_BYTES + 1]).is_err());
    }
}
