//! The size column of a desc line.

use serde::{Deserialize, Serialize};

/// How large a partition is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// A plain number: whole MiB, as in the original.
    Mib(u64),
    /// A number with a unit, in bytes; a plan rounds it up to whole MiB.
    Bytes(u64),
    /// A share of the disk's usable space.
    Percent(Percent),
    /// `fill`: all that is left.
    Fill,
}

/// A share in hundredths of a percent, so that `12.5%` is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Percent {
    /// 10 000 is the whole.
    pub hundredths: u32,
}
