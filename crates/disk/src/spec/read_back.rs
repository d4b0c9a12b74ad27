//! The condition on which a node reads back what it wrote.

use serde::{Deserialize, Serialize};

/// Value of `--verify`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadBackWhen {
    /// Only if it costs less than a tenth of the run; each node finds that out for itself.
    #[default]
    Auto,
    /// Always, whatever it costs.
    Always,
    /// Never, whatever it would cost.
    Never,
}
