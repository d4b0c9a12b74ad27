//! The clone's fstab (fstab(5)). Every reference to a golden device that was cloned becomes one to the
//! clone's own device, in the same manner as before (`UUID=` stays `UUID=`), but for the kernel's names.
//! Comments, spacing and foreign lines stay byte for byte.
//!
//! A line for a thing that the clone does not have becomes a comment, because systemd would wait for it and
//! then stop in emergency mode. The line stays if it names its disk in a lasting way and has `noauto` or
//! `nofail`, so that no boot waits for it.
//!
//! [`plan`] takes bytes and returns bytes. The caller writes the file, and knows how to open `/etc/fstab` of
//! a strange tree without following its links out of it.

pub(crate) mod matching;
mod rewrite;

use ka_disk::spec::GoldenDevice;
use serde::{Deserialize, Serialize};

pub(crate) use rewrite::left_out;
pub use rewrite::plan;

/// A golden device and what stands in for it in the clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMap {
    /// The golden device, by all of its names.
    pub golden: GoldenDevice,
    /// The clone's device.
    pub clone: CloneDevice,
    /// Mount points whose options the clone's differ, with the new options.
    pub options: Vec<(String, String)>,
}

/// A device of the clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneDevice {
    /// Its device node as the clone will see it: `/dev/nvme0n1p2`.
    pub path: String,
    /// UUID of the file system.
    pub uuid: Option<String>,
    /// PARTUUID of the partition.
    pub partuuid: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// GPT name of the partition.
    pub partlabel: Option<String>,
    /// Type of the file system, as fstab names it; `None` leaves the column alone (raw copies).
    pub fstype: Option<String>,
}

/// The new fstab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabPlan {
    /// Its whole text.
    pub text: Vec<u8>,
    /// The changed lines, for the report.
    pub changes: Vec<FstabChange>,
    /// Lines and options that mean nothing in the clone, with what became of them.
    pub warnings: Vec<String>,
}

/// One changed line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FstabChange {
    /// Its number, from 1.
    pub line: u32,
    /// The fields that changed, as they stood there.
    pub before: String,
    /// The same fields as they stand there now.
    pub after: String,
}

/// fstab could not be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum FstabError {
    /// The clone's device lacks every name that could stand in.
    #[error(
        "fstab line {line}: nothing in the clone can stand for {spec}: its device has no UUID, label or name"
    )]
    NoName {
        /// The line, from 1.
        line: u32,
        /// The name in that line.
        spec: String,
    },
}
