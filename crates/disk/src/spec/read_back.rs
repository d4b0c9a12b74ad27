//! When a node reads back what it wrote.

use serde::{Deserialize, Serialize};

/// `--verify`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadBackWhen {
    /// When it costs less than a tenth of the run, which each node finds out for itself.
    #[default]
    Auto,
    /// Whatever it costs.
    Always,
    /// Not at all.
    Never,
}
